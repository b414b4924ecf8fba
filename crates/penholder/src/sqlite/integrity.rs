//! What SQLite finds wrong in the whole content of a database.

use rusqlite::{Connection, Row};

use crate::error::{NO_COLLATION, NO_FUNCTION, UNKNOWN_FUNCTION};

/// Returns at most `max` faults; none if SQLite finds nothing wrong.
///
/// # Errors
///
/// The content cannot be checked, for instance because a function is missing that an index uses.
pub(crate) fn faults(connection: &Connection, max: u32) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({max})"))?;
    let rows = statement.query_map([], |row| text(row, 0))?;
    let faults = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(if faults == ["ok"] { Vec::new() } else { faults })
}

/// Returns a text that may have a name in it, of a table for example, and so need not be UTF-8.
///
/// # Errors
///
/// It is no text.
pub(crate) fn text(row: &Row<'_>, column: usize) -> rusqlite::Result<String> {
    let bytes = row.get_ref(column)?.as_bytes()?;
    Ok(String::from_utf8_lossy(bytes).into_owned())
}

/// Returns whether something failed because this process does not define a function, a collation or
/// a module that the database uses. That says nothing about its content.
pub(crate) fn is_definition_missing(error: &rusqlite::Error) -> bool {
    const MISSING: [&str; 5] = [
        NO_COLLATION,
        NO_FUNCTION,
        UNKNOWN_FUNCTION,
        "no such module: ",
        "no such tokenizer: ",
    ];
    let text = error.to_string();
    MISSING.iter().any(|missing| text.contains(missing))
}
