//! A database file that is loaded into a cluster, as it is at one moment.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hiqlite::rusqlite::backup::Backup;
use hiqlite::rusqlite::{self, Connection, Error, ErrorCode, OpenFlags};
use penholder::sql_tokens::Tokens;
use penholder_core::shown_path;
use tempfile::NamedTempFile;

use crate::failure::Failure;
use crate::source_table::SourceTable;

/// How long SQLite waits for a lock: only at the beginning, as readers do not wait in WAL mode.
const BUSY: Duration = Duration::from_secs(5);

/// A database file, in a transaction that reads: all that is read of it is of one moment.
#[derive(Debug)]
pub(crate) struct Source {
    connection: Connection,
    path: PathBuf,
    /// The copy that is read instead of the file.
    _copy: Option<NamedTempFile>,
}

/// A table that cannot be read, for example because its module is not known.
#[derive(Debug)]
pub(crate) struct Unreadable {
    pub(crate) name: String,
    pub(crate) error: Error,
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

impl SchemaObject {
    pub(crate) fn is_unique_index(&self) -> bool {
        let second = Tokens::significant(&self.sql).nth(1);
        self.kind == "index" && second.is_some_and(|second| second.is("UNIQUE"))
    }
}

impl Source {
    /// Copies a file that programs may use meanwhile, and opens the copy. So a long load does not keep their
    /// writes waiting, nor the WAL long.
    pub(crate) fn copy_of(path: &Path) -> Result<Self, Failure> {
        let original = open(path).map_err(|error| not_readable(path, &error))?;
        let copy = NamedTempFile::new().map_err(|error| {
            let next = "make room, or set TMPDIR to another directory";
            Failure::new(format!(
                "a temporary file for a copy of {}: {error}: {next}",
                shown_path(path)
            ))
        })?;
        copy_pages(&original, copy.path()).map_err(|error| not_readable(path, &error))?;
        let connection = open(copy.path()).map_err(|error| not_readable(path, &error))?;
        Self::begin(connection, path, Some(copy))
    }

    /// Opens a file that nobody else uses.
    pub(crate) fn open(path: &Path) -> Result<Self, Failure> {
        let connection = open(path).map_err(|error| not_readable(path, &error))?;
        Self::begin(connection, path, None)
    }

    fn begin(
        connection: Connection,
        path: &Path,
        copy: Option<NamedTempFile>,
    ) -> Result<Self, Failure> {
        let begin = "PRAGMA query_only = ON; BEGIN; SELECT count(*) FROM sqlite_schema";
        connection
            .execute_batch(begin)
            .map_err(|error| not_readable(path, &error))?;
        Ok(Self {
            connection,
            path: path.to_owned(),
            _copy: copy,
        })
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
    /// which virtual tables keep their data. A table that cannot be read is why it cannot.
    pub(crate) fn tables(&self) -> rusqlite::Result<Vec<Result<SourceTable, Unreadable>>> {
        let sql = "SELECT s.name, s.sql, l.type = 'virtual', l.wr FROM sqlite_schema AS s \
                   LEFT JOIN pragma_table_list AS l ON l.schema = 'main' AND l.name = s.name \
                   WHERE s.type = 'table' AND coalesce(l.type, '') <> 'shadow' AND s.sql IS NOT NULL \
                   AND s.name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY s.rowid";
        let mut statement = self.connection.prepare(sql)?;
        let found = statement.query_map([], |row| {
            Ok((
                row.get(0)?,
                row.get(1)?,
                row.get::<_, Option<_>>(2)?.unwrap_or(false),
                row.get::<_, Option<_>>(3)?.unwrap_or(false),
            ))
        })?;
        let mut tables = Vec::new();
        for row in found {
            let (name, sql, is_virtual, has_no_rowid): (String, String, bool, bool) = row?;
            let connection = &self.connection;
            let table = SourceTable::of(connection, name.clone(), sql, is_virtual, has_no_rowid);
            tables.push(table.map_err(|error| Unreadable { name, error }));
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
        let sql =
            "SELECT name, seq FROM sqlite_sequence WHERE typeof(seq) = 'integer' ORDER BY name";
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

fn not_readable(path: &Path, error: &Error) -> Failure {
    let next = match error.sqlite_error_code() {
        Some(ErrorCode::CannotOpen) if path.exists() => {
            "you have to have the right to read it and its -wal, and to write next to it; otherwise copy both to \
             another directory"
        }
        Some(ErrorCode::CannotOpen) => "give an existing database",
        Some(ErrorCode::ReadOnly) => "copy it with its -wal to a directory in which you may write",
        Some(ErrorCode::NotADatabase) => "give a SQLite database",
        Some(ErrorCode::DatabaseBusy) => "try again, or run `penholder doctor` on it",
        _ => "run `penholder doctor` on it",
    };
    Failure::new(format!("read {}: {error}: {next}", shown_path(path)))
}

/// Opens a file for reading. Without the right to write, which is tried first because it leaves the file as it is,
/// SQLite may not be able to read its WAL.
fn open(path: &Path) -> rusqlite::Result<Connection> {
    let open = |access: OpenFlags| {
        let flags = access | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
        Ok::<_, Error>(connection)
    };
    match open(OpenFlags::SQLITE_OPEN_READ_ONLY) {
        Err(error) if may_be_for_want_of_writing(&error) => open(OpenFlags::SQLITE_OPEN_READ_WRITE),
        opened => opened,
    }
}

fn may_be_for_want_of_writing(error: &Error) -> bool {
    let code = error.sqlite_error_code();
    matches!(code, Some(ErrorCode::CannotOpen | ErrorCode::ReadOnly))
}

/// Copies a database as it is at one moment into a file.
fn copy_pages(original: &Connection, target: &Path) -> rusqlite::Result<()> {
    original.execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")?;
    let mut connection = Connection::open(target)?;
    connection.execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")?;
    Backup::new(original, &mut connection)?.step(-1)?;
    connection.close().map_err(|(_, error)| error)
}
