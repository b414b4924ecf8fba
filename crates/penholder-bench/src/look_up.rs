//! Readers: each reads one row of 1,000 by its key.

use std::error::Error;
use std::path::Path;

use rusqlite::Connection;

use crate::peer::client::{Client, Outcome};
use crate::workload::requests::Requests;

const ROWS: i64 = 1_000;
const READ: &str = "SELECT value FROM looked_up WHERE id = ?1";

/// Adds the rows to a database.
pub(crate) fn create(database: &Path) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    Ok(connection.execute_batch(&format!(
        "CREATE TABLE looked_up(id INTEGER PRIMARY KEY, value BLOB);
         WITH RECURSIVE number(n) AS
             (SELECT 1 UNION ALL SELECT n + 1 FROM number WHERE n < {ROWS})
         INSERT INTO looked_up SELECT n, randomblob(100) FROM number"
    ))?)
}

/// Reads a random row.
pub(crate) fn read(connection: &Connection) -> rusqlite::Result<()> {
    let mut read = connection.prepare_cached(READ)?;
    read.query_row((fastrand::i64(1..=ROWS),), |row| {
        row.get_ref(0)?;
        Ok(())
    })
}

pub(crate) struct LookUps;

impl Requests for LookUps {
    fn send(&mut self, client: &mut dyn Client) -> Result<Outcome, Box<dyn Error>> {
        client.read(&read)
    }
}
