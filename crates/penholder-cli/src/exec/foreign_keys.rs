//! Foreign keys of a script that switches them off: they are checked before the commit.

use std::collections::HashMap;
use std::fmt;

use penholder::rusqlite::types::{FromSql, FromSqlResult, ToSqlOutput, ValueRef};
use penholder::rusqlite::{self, Connection, ToSql};
use penholder_core::one_line;

use crate::failure::{FAILED, Failure, say};

/// How many violations a message names.
const NAMED: usize = 5;

/// The name of a table, which need not be UTF-8.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct TableName(Vec<u8>);

impl FromSql for TableName {
    fn column_result(value: ValueRef<'_>) -> FromSqlResult<Self> {
        value.as_bytes().map(|bytes| Self(bytes.to_vec()))
    }
}

impl ToSql for TableName {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(ValueRef::Text(&self.0)))
    }
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        one_line(String::from_utf8_lossy(&self.0)).fmt(f)
    }
}

/// A row whose parent is missing: the table, the row, and the table of the parent.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
struct Violation {
    table: TableName,
    /// `None` in a table without rowids.
    row: Option<i64>,
    parent: TableName,
    key: i64,
}

/// What the end of a script is checked for.
#[derive(Debug, Default)]
pub(super) struct ForeignKeyCheck {
    /// How often each violation was there before the script.
    before: HashMap<Violation, usize>,
}

impl ForeignKeyCheck {
    /// Begins a check, if foreign keys are off on the connection: notes which are violated
    /// already.
    pub(super) fn begin(connection: &Connection) -> rusqlite::Result<Option<Self>> {
        let is_on: bool = connection.pragma_query_value(None, "foreign_keys", |row| row.get(0))?;
        if is_on {
            return Ok(None);
        }
        let mut before = HashMap::new();
        for violation in violations(connection, |_, _| {})? {
            *before.entry(violation).or_default() += 1;
        }
        Ok(Some(Self { before }))
    }

    /// Refuses violations that were not there before, as far as that is known. `shell` is the
    /// command for SQLite's shell.
    pub(super) fn end(mut self, connection: &Connection, shell: &str) -> Result<(), Failure> {
        let found = violations(connection, |table, error| {
            say(format!(
                "the foreign keys of table \"{table}\" cannot be checked: {}",
                one_line(error)
            ));
        })?;
        let mut is_new = |violation: &Violation| match self.before.get_mut(violation) {
            Some(count) if *count > 0 => {
                *count -= 1;
                false
            }
            _ => true,
        };
        let new: Vec<_> = found.into_iter().filter(|one| is_new(one)).collect();
        if new.is_empty() {
            return Ok(());
        }
        Err(Failure::new(message(&new, shell), FAILED))
    }
}

/// All rows whose parent is missing. `unchecked` is told of tables that SQLite cannot check.
fn violations(
    connection: &Connection,
    unchecked: impl Fn(&TableName, rusqlite::Error),
) -> rusqlite::Result<Vec<Violation>> {
    let mut found = Vec::new();
    for table in tables(connection)? {
        if let Err(error) = add_violations(connection, &table, &mut found) {
            unchecked(&table, error);
        }
    }
    Ok(found)
}

/// The tables of the database, also those that the script has just described to SQLite.
fn tables(connection: &Connection) -> rusqlite::Result<Vec<TableName>> {
    let mut ask = connection.prepare(
        "SELECT DISTINCT t.name FROM sqlite_schema AS t, pragma_foreign_key_list(t.name) \
         WHERE t.type = 'table'",
    )?;
    let names = ask.query_map([], |row| row.get(0))?;
    names.collect()
}

fn add_violations(
    connection: &Connection,
    table: &TableName,
    found: &mut Vec<Violation>,
) -> rusqlite::Result<()> {
    let mut ask = connection.prepare("SELECT * FROM pragma_foreign_key_check(?1)")?;
    let violations = ask.query_map([table], |row| {
        Ok(Violation {
            table: row.get(0)?,
            row: row.get(1)?,
            parent: row.get(2)?,
            key: row.get(3)?,
        })
    })?;
    for violation in violations {
        found.push(violation?);
    }
    Ok(())
}

fn message(new: &[Violation], shell: &str) -> String {
    let named = new.iter().take(NAMED).map(|one| {
        let row = one
            .row
            .map_or_else(|| "a row".to_owned(), |row| format!("row {row}"));
        format!(
            "{row} of \"{}\" has no row in \"{}\"",
            one.table, one.parent
        )
    });
    let named: Vec<_> = named.collect();
    let more = match new.len().saturating_sub(NAMED) {
        0 => String::new(),
        more => format!("; and {more} more"),
    };
    format!(
        "foreign keys are violated at the end of the script: {}{more}: nothing was written: add the \
         missing rows or leave these out; to have them as they are, use the shell of SQLite, which \
         does not check: {shell}",
        named.join("; ")
    )
}
