//! Updates of random rows in a table of 100 MB.

use std::error::Error;

use penholder::params;
use rusqlite::Connection;
use serde_json::json;

use crate::peer::client::{Client, Outcome};
use crate::share::{self, Share};
use crate::workload::requests::Requests;
use crate::workload::scenario::Scenario;

const ROWS: i64 = 250_000;
/// Bytes in each value.
const LENGTH: usize = 380;
const UPDATE: &str = "UPDATE large SET value = ?1, updates = updates + 1 WHERE id = ?2";

pub(crate) struct Random;

impl Scenario for Random {
    fn summary(&self) -> &'static str {
        "one update of a random row per transaction, in a table of 100 MB"
    }

    fn create(&self, connection: &Connection) -> rusqlite::Result<()> {
        connection.execute_batch(&format!(
            "CREATE TABLE large(id INTEGER PRIMARY KEY, value BLOB, updates INTEGER);
             WITH RECURSIVE number(n) AS
                 (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {ROWS})
             INSERT INTO large SELECT n, randomblob({LENGTH}), 0 FROM number"
        ))
    }

    fn requests(&self, _number: u32) -> Box<dyn Requests> {
        Box::new(Updates { value: [0; LENGTH] })
    }

    /// Each update counts in its row, whichever was the last. The value of a row that
    /// was updated is one byte, repeated.
    fn is_complete(&self, connection: &Connection, shares: &[Share]) -> rusqlite::Result<bool> {
        let sums =
            "SELECT count(*), sum(updates), min(length(value)), max(length(value)) FROM large";
        let found: (i64, u64, usize, usize) =
            connection.query_row(sums, (), |row| row.try_into())?;
        let is_uniform = |value: &[u8]| value.windows(2).all(|two| two[0] == two[1]);
        let mut updated = connection.prepare("SELECT value FROM large WHERE updates > 0")?;
        let mut updated = updated.query(())?;
        while let Some(row) = updated.next()? {
            if !row.get_ref(0)?.as_blob().is_ok_and(is_uniform) {
                return Ok(false);
            }
        }
        let total = share::total_acknowledged(shares);
        Ok(found == (ROWS, total, LENGTH, LENGTH))
    }

    fn parts(&self) -> serde_json::Value {
        json!({ "update": UPDATE, "rows": ROWS, "length": LENGTH })
    }
}

struct Updates {
    value: [u8; LENGTH],
}

impl Requests for Updates {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        self.value.fill(fastrand::u8(..));
        let row = fastrand::i64(1..=ROWS);
        client.execute(UPDATE, params![self.value.as_slice(), row])
    }
}
