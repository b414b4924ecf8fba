//! The savepoint around one member of a transaction that several writes share.
//!
//! Also a single statement needs one: SQLite does not always take back what a failed
//! statement did. It leaves rows behind that came before one of a wrong type for a `STRICT`
//! table, before one that is too long, or before one that a virtual table fails to read; and
//! everything, if the progress handler interrupts after the last step.

use rusqlite::Connection;

use super::query::step;

pub(crate) fn begin(connection: &Connection) -> rusqlite::Result<()> {
    step(connection, "SAVEPOINT penholder_member")
}

pub(crate) fn release(connection: &Connection) -> rusqlite::Result<()> {
    step(connection, "RELEASE penholder_member")
}

pub(crate) fn roll_back(connection: &Connection) -> rusqlite::Result<()> {
    step(connection, "ROLLBACK TO penholder_member")?;
    release(connection)
}
