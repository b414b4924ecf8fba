//! SQLite without penholder, used with care: WAL, `BEGIN IMMEDIATE`, a busy timeout and
//! prepared statements.

use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder::rusqlite::{self, Connection, OpenFlags, Params};
use penholder_core::shown_path;

use super::table;
use crate::args::{Stress, Sync};
use crate::failure::Failure;
use crate::interruption::Interruption;

/// Opening is not measured, so a short timeout must not make it fail.
const OPENING: Duration = Duration::from_secs(10);

/// The database that SQLite alone writes to, next to the one of penholder and so on the
/// same disk.
pub(super) struct Plain {
    // Dropped in this order: closed, then removed.
    pub(super) connection: Connection,
    files: Files,
}

impl Plain {
    /// Creates the database and the table.
    pub(super) fn create(args: &Stress, interruption: &Interruption) -> Result<Self, Failure> {
        let files = Files::create(with_suffix(&args.target.db, "-plain"), interruption)?;
        let connection = connect(&files.database, args.sync, args.timeout)?;
        connection.execute_batch(table::CREATE)?;
        Ok(Self { connection, files })
    }

    pub(super) fn path(&self) -> &Path {
        &self.files.database
    }
}

/// The database and SQLite's files next to it. They are removed when this is dropped, and
/// before a signal ends this process.
struct Files {
    database: PathBuf,
}

impl Files {
    fn create(database: PathBuf, interruption: &Interruption) -> Result<Self, Failure> {
        File::create_new(&database).map_err(|error| not_created(&database, &error))?;
        let files = Self { database };
        let copy = files.database.clone();
        interruption
            .before_end(move || remove(&copy))
            .map_err(|error| not_created(&files.database, &error))?;
        Ok(files)
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        remove(&self.database);
    }
}

fn remove(database: &Path) {
    for suffix in ["", "-wal", "-shm"] {
        let _ = fs::remove_file(with_suffix(database, suffix));
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn not_created(path: &Path, error: &io::Error) -> Failure {
    let next_step = match error.kind() {
        io::ErrorKind::AlreadyExists => {
            "plain SQLite would write to this file, and then it would be removed: remove it \
             yourself, or choose another database"
        }
        _ => "leave out --beside, or choose another database",
    };
    let path = shown_path(path);
    Failure::of_system(format!("stress: {path}"), error, next_step)
}

/// Opens the database. Every setting that is not named here keeps SQLite's default.
pub(super) fn connect(path: &Path, sync: Sync, timeout: Duration) -> rusqlite::Result<Connection> {
    // Not created: it may have been removed because `stress` ended.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(OPENING)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", sync.name())?;
    // SQLite counts milliseconds in 31 bits.
    connection.busy_timeout(timeout.min(Duration::from_millis(i32::MAX.unsigned_abs().into())))?;
    Ok(connection)
}

/// Runs one statement in a transaction of its own, and leaves none open.
pub(super) fn execute(
    connection: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<()> {
    let result = in_transaction(connection, sql, params);
    if result.is_err() && !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    result
}

fn in_transaction(connection: &Connection, sql: &str, params: impl Params) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
    connection.prepare_cached(sql)?.execute(params)?;
    connection.prepare_cached("COMMIT")?.execute(())?;
    Ok(())
}
