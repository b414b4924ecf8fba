//! Transactions that change about 20 pages: the values are random, so each of the
//! five rows changes another page of each of three indexes.

use std::error::Error;

use rusqlite::Connection;
use serde_json::json;

use crate::peer::client::{Client, Outcome};
use crate::share::{self, Share};
use crate::table;
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

/// Rows that are there before the first transaction; their `worker` is NULL.
const BEGINNING: u64 = 60_000;
/// Rows in each transaction.
const ROWS: usize = 5;
const INSERT: &str = "INSERT INTO indexed(worker, a, b, c) VALUES (?1, ?2, ?3, ?4)";

pub(crate) struct Pages;

impl Scenario for Pages {
    fn summary(&self) -> &'static str {
        "five rows per transaction into a table with three random indexes"
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "CREATE TABLE indexed(id INTEGER PRIMARY KEY, worker, a, b, c);
             CREATE INDEX indexed_a ON indexed(a);
             CREATE INDEX indexed_b ON indexed(b);
             CREATE INDEX indexed_c ON indexed(c);
             WITH RECURSIVE number(n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {BEGINNING})
             INSERT INTO indexed(a, b, c)
                 SELECT abs(random()), abs(random()), hex(randomblob(8)) FROM number"
        ))
    }

    fn requests(&self, number: u32) -> Box<dyn Requests> {
        Box::new(Rows { number })
    }

    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool> {
        let before = "SELECT count(*) FROM indexed WHERE worker IS NULL";
        let before: u64 = connection.query_row(before, (), |row| row.get(0))?;
        let mut expected = share::acknowledged(shares);
        expected
            .values_mut()
            .for_each(|writes| *writes *= ROWS as u64);
        Ok(before == BEGINNING && table::rows_by_worker(connection, "indexed")? == expected)
    }

    fn parts(&self) -> serde_json::Value {
        json!({ "insert": INSERT, "rows": ROWS })
    }
}

struct Rows {
    number: u32,
}

impl Requests for Rows {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        let values: [_; ROWS] = std::array::from_fn(|_| random());
        client.write(&|connection| {
            let mut insert = connection.prepare_cached(INSERT)?;
            for (a, b, c) in &values {
                insert.execute((self.number, a, b, c))?;
            }
            Ok(())
        })
    }
}

fn random() -> (i64, i64, String) {
    let text = format!("{:016X}", fastrand::u64(..));
    (fastrand::i64(0..), fastrand::i64(0..), text)
}
