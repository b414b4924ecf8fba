//! Updates of the one row that all processes update.

use std::error::Error;

use penholder::params;
use rusqlite::Connection;
use serde_json::json;

use crate::peer::client::{Client, Outcome};
use crate::share::{self, Share};
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

const UPDATE: &str = "UPDATE hot SET updates = updates + 1, worker = ?1 WHERE id = 1";

pub(crate) struct Hot;

impl Scenario for Hot {
    fn summary(&self) -> &'static str {
        "one update of the same row per transaction"
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(
            "CREATE TABLE hot(id INTEGER PRIMARY KEY, updates INTEGER, worker INTEGER);
             INSERT INTO hot VALUES (1, 0, NULL)",
        )
    }

    fn requests(&self, number: u32) -> Box<dyn Requests> {
        Box::new(Updates { number })
    }

    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool> {
        let sums = "SELECT count(*), sum(updates) FROM hot";
        let found: (u64, u64) = connection.query_row(sums, (), |row| row.try_into())?;
        Ok(found == (1, share::total_acknowledged(shares)))
    }

    fn parts(&self) -> serde_json::Value {
        json!({ "update": UPDATE })
    }
}

struct Updates {
    number: u32,
}

impl Requests for Updates {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        client.execute(UPDATE, params![self.number])
    }
}
