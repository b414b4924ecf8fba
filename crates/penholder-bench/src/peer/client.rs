//! What every peer offers to a workload: its way to read and to write.

use std::error::Error;

use rusqlite::types::ToSql;
use rusqlite::{Connection, params_from_iter};

/// Statements that run on a connection.
pub(crate) type Work<'a> = &'a (dyn Fn(&Connection) -> rusqlite::Result<()> + Sync);

/// The values of a statement.
pub(crate) type Values<'a> = &'a [&'a (dyn ToSql + Send + Sync)];

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// The write was acknowledged: it must be in the database.
    Written,
    /// The rows were read; nothing was to be written.
    Read,
    /// The request waited too long for another process. Nothing was written.
    Failed,
}

/// A connection of one thread, or its access to what all threads share.
pub(crate) trait Client {
    /// Reads without a transaction of its own, as far as the peer can.
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>>;

    /// Writes several statements in one transaction.
    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>>;

    /// Writes a single statement, in the way in which the peer does that.
    fn execute(&mut self, sql: &str, values: Values<'_>) -> Result<Outcome, Box<dyn Error>> {
        self.write(&|connection| execute(connection, sql, values))
    }
}

/// Runs a statement, which is prepared once.
pub(crate) fn execute(
    connection: &Connection,
    sql: &str,
    values: Values<'_>,
) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.execute(params_from_iter(values))?;
    Ok(())
}
