//! Running one statement to its end.

use rusqlite::Connection;

use super::ffi::column_names;
use crate::data::{RowSet, Value, is_blank};

/// Runs one statement to its end and keeps its rows.
///
/// # Errors
///
/// Those of SQLite, and a number of parameters other than the statement has.
pub(crate) fn query(
    connection: &Connection,
    sql: &str,
    params: &[Value],
) -> rusqlite::Result<RowSet> {
    query_up_to(usize::MAX, connection, sql, params)
}

/// Runs one statement for its first `max` rows.
///
/// # Errors
///
/// As [`query`].
pub(crate) fn query_up_to(
    max: usize,
    connection: &Connection,
    sql: &str,
    params: &[Value],
) -> rusqlite::Result<RowSet> {
    if is_blank(sql) {
        // SQLite has no statement for it.
        return Ok(RowSet::default());
    }
    let mut prepared = connection.prepare_cached(sql)?;
    let (wanted, given) = (prepared.parameter_count(), params.len());
    if wanted != given {
        return Err(rusqlite::Error::InvalidParameterCount(given, wanted));
    }
    for (number, value) in params.iter().enumerate() {
        prepared.raw_bind_parameter(number + 1, value)?;
    }
    RowSet::up_to(max, &mut prepared, |one| column_names(connection, one))
}

/// Runs a statement without parameters and rows, such as `COMMIT`.
///
/// # Errors
///
/// Those of SQLite.
pub(crate) fn step(connection: &Connection, sql: &str) -> rusqlite::Result<()> {
    let mut statement = connection.prepare_cached(sql)?;
    statement.raw_execute().map(|_| ())
}
