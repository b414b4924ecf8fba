//! One row in one transaction over rusqlite, for the peers that use SQLite directly.

use std::error::Error;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode};

use crate::peer::setting::Setting;
use crate::table::{INSERT, TEXT};

/// How a write ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write was acknowledged: the row must exist.
    Written,
    /// The write waited too long for another writer. No row was written.
    Failed,
}

/// Opens a connection with the settings that all peers share. Every other
/// setting keeps the library's default.
pub(crate) fn connect(setting: &Setting) -> Result<Connection, Box<dyn Error>> {
    let connection = Connection::open(&setting.database)?;
    // A short timeout must not make opening fail: opening is not measured.
    connection.busy_timeout(setting.timeout.max(Duration::from_secs(5)))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", setting.sync.to_string())?;
    connection.busy_timeout(setting.timeout)?;
    Ok(connection)
}

/// Inserts a row in an explicit transaction. `BEGIN IMMEDIATE` and `COMMIT` are
/// parsed each time.
pub(crate) fn parsed(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    insert(connection, number)?;
    connection.execute_batch("COMMIT")
}

/// Inserts a row in an explicit transaction with prepared statements only.
pub(crate) fn prepared(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
    insert(connection, number)?;
    connection.prepare_cached("COMMIT")?.execute(())?;
    Ok(())
}

/// Inserts a row with a prepared statement.
pub(crate) fn insert(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.prepare_cached(INSERT)?.execute((number, TEXT))?;
    Ok(())
}

/// Separates `SQLITE_BUSY` from errors that end the benchmark, and leaves no
/// transaction open.
pub(crate) fn settle(
    connection: &Connection,
    result: rusqlite::Result<()>,
) -> Result<Outcome, Box<dyn Error>> {
    let Err(error) = result else {
        return Ok(Outcome::Written);
    };
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => Ok(Outcome::Failed),
        _ => Err(error.into()),
    }
}
