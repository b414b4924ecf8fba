//! One row in each transaction.

use std::error::Error;

use penholder::params;
use rusqlite::Connection;
use serde_json::json;

use crate::peer::client::{Client, Outcome};
use crate::share::{self, Share};
use crate::table::{self, INSERT, TABLE, TEXT};
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

pub(crate) struct Insert;

impl Scenario for Insert {
    fn summary(&self) -> &'static str {
        "one row per transaction"
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(TABLE)
    }

    fn requests(&self, number: u32) -> Box<dyn Requests> {
        Box::new(Rows { number })
    }

    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool> {
        Ok(table::rows_by_worker(connection, "t")? == share::acknowledged(shares))
    }

    fn parts(&self) -> serde_json::Value {
        json!({ "insert": INSERT, "text": TEXT })
    }
}

struct Rows {
    number: u32,
}

impl Requests for Rows {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        client.execute(INSERT, params![self.number, TEXT])
    }
}
