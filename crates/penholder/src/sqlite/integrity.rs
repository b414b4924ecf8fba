//! What SQLite finds wrong in the whole content of a database.

use rusqlite::Connection;

/// Returns at most `max` faults; none if SQLite finds nothing wrong.
///
/// # Errors
///
/// The content cannot be checked, for instance because a function is missing that an index uses.
pub(crate) fn faults(connection: &Connection, max: u32) -> rusqlite::Result<Vec<String>> {
    let mut statement = connection.prepare(&format!("PRAGMA integrity_check({max})"))?;
    let rows = statement.query_map([], |row| row.get::<_, String>(0))?;
    let faults = rows.collect::<rusqlite::Result<Vec<_>>>()?;
    Ok(if faults == ["ok"] { Vec::new() } else { faults })
}
