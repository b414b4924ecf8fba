//! A database file that is loaded into a cluster, as it is at one moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hiqlite::rusqlite::{self, Connection, Error, ErrorCode, OpenFlags};
use penholder_core::shown_path;

use crate::failure::Failure;
use crate::source_table::SourceTable;

/// How long SQLite waits for a lock: only at the beginning, as readers do not wait in WAL mode.
const BUSY: Duration = Duration::from_secs(5);

/// A database file, in a transaction that reads: all that is read of it is of one moment.
#[derive(Debug)]
pub(crate) struct Source {
    connection: Connection,
    path: PathBuf,
}

/// What belongs to the schema, and is no table.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct SchemaObject {
    /// `index`, `view` or `trigger`.
    pub(crate) kind: String,
    pub(crate) name: String,
    /// The table that it belongs to; a view has its own name here.
    pub(crate) table: String,
    pub(crate) sql: String,
}

impl Source {
    /// Opens a file, and begins the transaction.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let failed = |error: Error| {
            let next = match error.sqlite_error_code() {
                Some(ErrorCode::CannotOpen) => "give an existing database",
                Some(ErrorCode::NotADatabase) => "give a SQLite database",
                Some(ErrorCode::DatabaseBusy) => "try again, or run `penholder doctor` on it",
                _ => "run `penholder doctor` on it",
            };
            Failure::new(format!("read {}: {error}: {next}", shown_path(path)))
        };
        let connection = open(path).map_err(failed)?;
        let source = Self {
            connection,
            path: path.to_owned(),
        };
        // The transaction begins with the first read.
        let begun = source
            .connection
            .execute_batch("PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema");
        begun.map_err(failed)?;
        Ok(source)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    pub(crate) fn connection(&self) -> &Connection {
        &self.connection
    }

    /// Returns what went wrong with the file.
    pub(crate) fn failed(&self, error: &Error) -> Failure {
        Failure::new(format!(
            "read {}: {error}: run `penholder doctor` on it",
            shown_path(&self.path)
        ))
    }

    /// Returns its tables in the order in which they were created; also virtual ones, but not those in
    /// which virtual tables keep their data.
    pub(crate) fn tables(&self) -> rusqlite::Result<Vec<SourceTable>> {
        let sql = "SELECT s.name, s.sql, l.type = 'virtual', l.wr FROM sqlite_schema AS s \
                   JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = s.name \
                   WHERE s.type = 'table' AND l.type IN ('table', 'virtual') AND s.sql IS NOT NULL \
                   AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY s.rowid";
        let mut statement = self.connection.prepare(sql)?;
        let found = statement.query_map([], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?;
        let mut tables = Vec::new();
        for row in found {
            let (name, sql, is_virtual, has_no_rowid): (String, String, bool, bool) = row?;
            tables.push(SourceTable::of(
                &self.connection,
                name,
                sql,
                is_virtual,
                has_no_rowid,
            )?);
        }
        Ok(tables)
    }

    /// Returns its indexes, views and triggers in the order in which they were created, except the
    /// indexes that belong to constraints.
    pub(crate) fn objects(&self) -> rusqlite::Result<Vec<SchemaObject>> {
        let sql = "SELECT type, name, tbl_name, sql FROM sqlite_schema \
                   WHERE type IN ('index', 'view', 'trigger') AND sql IS NOT NULL ORDER BY rowid";
        let mut statement = self.connection.prepare(sql)?;
        let found = statement.query_map([], |row| {
            Ok(SchemaObject {
                kind: row.get(0)?,
                name: row.get(1)?,
                table: row.get(2)?,
                sql: row.get(3)?,
            })
        })?;
        found.collect()
    }

    /// Returns the last number of each table with AUTOINCREMENT.
    pub(crate) fn last_numbers(&self) -> rusqlite::Result<Vec<(String, i64)>> {
        let has = "SELECT count(*) FROM sqlite_schema WHERE name = 'sqlite_sequence'";
        if self
            .connection
            .query_row(has, [], |row| row.get::<_, i64>(0))?
            == 0
        {
            return Ok(Vec::new());
        }
        let sql = "SELECT name, seq FROM sqlite_sequence ORDER BY name";
        let mut statement = self.connection.prepare(sql)?;
        let found = statement.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        found.collect()
    }

    /// Returns a number that is a pragma without an argument.
    pub(crate) fn pragma(&self, name: &str) -> rusqlite::Result<i64> {
        self.connection
            .pragma_query_value(None, name, |row| row.get(0))
    }
}

/// Opens a file for reading. Only with the right to write can SQLite read a WAL that nobody has open.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let open = |access: OpenFlags| {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok::<_, Error>(connection)
    };
    match open(OpenFlags::SQLITE_OPEN_READ_WRITE) {
        Err(error) if error.sqlite_error_code() == Some(ErrorCode::CannotOpen) => {
            open(OpenFlags::SQLITE_OPEN_READ_ONLY)
        }
        opened => opened,
    }
}
