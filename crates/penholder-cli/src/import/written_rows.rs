//! The rows of a transaction, to find the one in the file that refers to no row.

use std::collections::HashMap;

use penholder::rusqlite::{self, Connection, OptionalExtension, ffi};

use super::table::Table;

/// The keys of rows, and where these begin in the file.
#[derive(Debug, Default)]
pub(crate) struct WrittenRows(Vec<(i64, u64)>);

/// A row that a foreign key refuses.
#[derive(Debug)]
pub(crate) struct Refused {
    /// Where it begins in the file.
    pub(crate) start: u64,
    pub(crate) error: rusqlite::Error,
    /// Whether its reference is an empty text.
    pub(crate) has_empty_text: bool,
}

/// A row whose parent is missing.
struct Orphan {
    rowid: i64,
    /// Where it begins in the file.
    start: u64,
    parent: String,
    key: i64,
}

impl WrittenRows {
    pub(crate) fn add(&mut self, rowid: i64, start: u64) {
        self.0.push((rowid, start));
    }

    /// The first of them in the file that a foreign key refuses. `None` if none is found, as in
    /// a table without rowids.
    pub(crate) fn without_parent(
        &self,
        connection: &Connection,
        table: &Table,
    ) -> rusqlite::Result<Option<Refused>> {
        let Some(orphan) = self.first_orphan(connection, table)? else {
            return Ok(None);
        };
        let (column, value) = child(connection, table, &orphan)?;
        let why = format!(
            "FOREIGN KEY constraint failed: {column:?} is {value}, and {:?} has no such row",
            orphan.parent
        );
        let code = ffi::Error::new(ffi::SQLITE_CONSTRAINT_FOREIGNKEY);
        Ok(Some(Refused {
            start: orphan.start,
            error: rusqlite::Error::SqliteFailure(code, Some(why)),
            has_empty_text: value == "''",
        }))
    }

    fn first_orphan(
        &self,
        connection: &Connection,
        table: &Table,
    ) -> rusqlite::Result<Option<Orphan>> {
        let starts: HashMap<i64, u64> = self.0.iter().copied().collect();
        let mut ask = connection.prepare(
            "SELECT rowid, parent, fkid FROM pragma_foreign_key_check(?1) WHERE rowid IS NOT NULL",
        )?;
        let found = ask.query_map([table.sql_name()], |row| {
            let rowid = row.get(0)?;
            Ok(Orphan {
                rowid,
                // Others were there before.
                start: starts.get(&rowid).copied().unwrap_or(u64::MAX),
                parent: row.get(1)?,
                key: row.get(2)?,
            })
        })?;
        let mut first: Option<Orphan> = None;
        for orphan in found {
            let orphan = orphan?;
            if orphan.start < first.as_ref().map_or(u64::MAX, |first| first.start) {
                first = Some(orphan);
            }
        }
        Ok(first)
    }
}

/// The column that refers to the parent, and its value as SQL.
fn child(
    connection: &Connection,
    table: &Table,
    orphan: &Orphan,
) -> rusqlite::Result<(String, String)> {
    let ask = "SELECT \"from\" FROM pragma_foreign_key_list(?1) WHERE id = ?2 AND seq = 0";
    let column: Option<String> = connection
        .query_row(ask, (table.sql_name(), orphan.key), |row| row.get(0))
        .optional()?;
    let column = column.unwrap_or_default();
    let value = table.select_quoted(&column);
    let value = connection
        .query_row(&value, [orphan.rowid], |row| row.get(0))
        .optional()?;
    Ok((column, value.unwrap_or_default()))
}
