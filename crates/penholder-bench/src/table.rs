//! The table that every peer writes to, and the row that it inserts.

use std::collections::HashMap;
use std::error::Error;
use std::path::Path;

use rusqlite::Connection;

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, worker, text)";
pub(crate) const INSERT: &str = "INSERT INTO t(worker, text) VALUES (?1, ?2)";
pub(crate) const TEXT: &str = "a row of forty bytes, as they really are";

/// Creates a database in WAL mode with the table.
pub(crate) fn create(database: &Path) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(connection.execute_batch(TABLE)?)
}

/// Counts the rows of each worker.
pub(crate) fn rows_by_worker(database: &Path) -> Result<HashMap<usize, u64>, Box<dyn Error>> {
    let connection = Connection::open(database)?;
    let mut statement = connection.prepare("SELECT worker, count(*) FROM t GROUP BY worker")?;
    let rows = statement.query_map((), |row| {
        let (worker, writes): (i64, i64) = row.try_into()?;
        Ok((worker, writes))
    })?;
    let mut found = HashMap::new();
    for row in rows {
        let (worker, writes) = row?;
        found.insert(usize::try_from(worker)?, u64::try_from(writes)?);
    }
    Ok(found)
}
