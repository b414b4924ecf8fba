//! The table that has one row for each write, and the row.

use std::collections::HashMap;

use rusqlite::Connection;

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, worker, text)";
pub(crate) const INSERT: &str = "INSERT INTO t(worker, text) VALUES (?1, ?2)";
pub(crate) const TEXT: &str = "a row of forty bytes, as they really are";

/// Counts the rows of each worker in a table.
pub(crate) fn rows_by_worker(
    connection: &Connection,
    table: &str,
) -> rusqlite::Result<HashMap<u32, u64>> {
    let mut statement = connection.prepare(&format!(
        "SELECT worker, count(*) FROM {table} WHERE worker IS NOT NULL GROUP BY worker"
    ))?;
    let rows = statement.query_map((), |row| row.try_into())?;
    rows.collect()
}
