//! One process's way of writing one row, one transaction a row.

use std::cell::Cell;
use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use penholder::GroupCommit;
use penholder::lock::Policy;
use rusqlite::{Connection, ErrorCode};
use rustix::fs::{FlockOperation, flock};

use crate::lock_file;
use crate::peer::naive::Naive;
use crate::peer::{Peer, Sync};

pub(crate) const TABLE: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, worker, text)";
pub(crate) const INSERT: &str = "INSERT INTO t(worker, text) VALUES (?1, ?2)";
pub(crate) const TEXT: &str = "a row of forty bytes, as they really are";

/// What became of a write.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// Acknowledged: the row must be there.
    Written,
    /// Somebody else was in the way for too long; nothing was written.
    Failed,
}

/// Who writes, where and how.
#[derive(Debug, Clone)]
pub(crate) struct Setting {
    pub(crate) peer: Peer,
    pub(crate) sync: Sync,
    pub(crate) database: PathBuf,
    /// The number that its rows bear.
    pub(crate) number: u32,
    /// How long a write waits before it fails.
    pub(crate) patience: Duration,
}

pub(crate) type Write = Box<dyn FnMut() -> Result<Outcome, Box<dyn Error>>>;

/// Opens the database as this peer does; what it returns writes one row a call.
pub(crate) fn open(setting: &Setting) -> Result<Write, Box<dyn Error>> {
    let number = setting.number;
    match setting.peer {
        Peer::Penholder | Peer::PenholderAlone | Peer::PenholderFifo | Peer::PenholderThreads => {
            let write = penholder(setting)?;
            Ok(Box::new(move || write().map_err(Into::into)))
        }
        Peer::Naive => {
            let mut naive = Naive::open(connect(setting)?, setting);
            Ok(Box::new(move || naive.write()))
        }
        Peer::FlockBlocking => {
            let lock = lock_file::open(&lock_file::path(&setting.database))?;
            let connection = connect(setting)?;
            Ok(Box::new(move || {
                flock(&lock, FlockOperation::LockExclusive)?;
                let outcome = settle(&connection, prepared(&connection, number));
                flock(&lock, FlockOperation::Unlock)?;
                outcome
            }))
        }
        Peer::SqliteBusyPrepared => bare(setting, prepared),
        Peer::SqliteAutocommit => bare(setting, insert),
        Peer::SqliteBusy1ms => {
            let mut connection = connect(setting)?;
            PATIENCE.set(setting.patience);
            connection.busy_handler(Some(retry_each_millisecond))?;
            Ok(Box::new(move || {
                settle(&connection, parsed(&connection, number))
            }))
        }
        Peer::SqliteBusy => bare(setting, parsed),
        Peer::PythonSqlite3 => Err("Python writes for itself".into()),
    }
}

/// A write that threads share.
pub(crate) type SharedWrite =
    Box<dyn Fn() -> penholder::Result<Outcome> + Send + std::marker::Sync>;

pub(crate) fn penholder(setting: &Setting) -> Result<SharedWrite, Box<dyn Error>> {
    let options = penholder::Options::new()
        .timeout(setting.patience)
        .synchronous(setting.sync.into());
    let options = match setting.peer {
        Peer::PenholderFifo => options.policy(Policy::Fifo),
        Peer::PenholderAlone => options.group_commit(GroupCommit::Off),
        _ => options,
    };
    let db = options.open(&setting.database)?;
    let number = setting.number;
    Ok(Box::new(move || {
        match db.execute(INSERT, (i64::from(number), TEXT)) {
            Ok(_) => Ok(Outcome::Written),
            Err(error) if error.is_timeout() || error.is_busy() => Ok(Outcome::Failed),
            Err(error) => Err(error),
        }
    }))
}

fn bare(
    setting: &Setting,
    transaction: fn(&Connection, u32) -> rusqlite::Result<()>,
) -> Result<Write, Box<dyn Error>> {
    let connection = connect(setting)?;
    let number = setting.number;
    Ok(Box::new(move || {
        settle(&connection, transaction(&connection, number))
    }))
}

/// A connection with the settings that all peers have in common; everything
/// else is as the library has it.
fn connect(setting: &Setting) -> Result<Connection, Box<dyn Error>> {
    let connection = Connection::open(&setting.database)?;
    // Opening is not what is measured: it may take its time.
    connection.busy_timeout(setting.patience.max(Duration::from_secs(5)))?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", setting.sync.name())?;
    connection.busy_timeout(setting.patience)?;
    Ok(connection)
}

/// A new database with the table.
pub(crate) fn create(database: &Path) -> Result<(), Box<dyn Error>> {
    let connection = Connection::open(database)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    Ok(connection.execute_batch(TABLE)?)
}

pub(crate) fn parsed(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.execute_batch("BEGIN IMMEDIATE")?;
    insert(connection, number)?;
    connection.execute_batch("COMMIT")
}

fn prepared(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
    insert(connection, number)?;
    connection.prepare_cached("COMMIT")?.execute(())?;
    Ok(())
}

fn insert(connection: &Connection, number: u32) -> rusqlite::Result<()> {
    connection.prepare_cached(INSERT)?.execute((number, TEXT))?;
    Ok(())
}

/// Tells SQLite's "busy" from what must not happen, and leaves no transaction
/// open.
pub(crate) fn settle(
    connection: &Connection,
    result: rusqlite::Result<()>,
) -> Result<Outcome, Box<dyn Error>> {
    let Err(error) = result else {
        return Ok(Outcome::Written);
    };
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK")?;
    }
    match error.sqlite_error_code() {
        Some(ErrorCode::DatabaseBusy) => Ok(Outcome::Failed),
        _ => Err(error.into()),
    }
}

thread_local! {
    /// SQLite's handler gets no value of ours.
    static PATIENCE: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn retry_each_millisecond(attempt: i32) -> bool {
    if attempt == 0 {
        SINCE.set(Some(Instant::now()));
    }
    let waited = SINCE.get().map_or(Duration::ZERO, |since| since.elapsed());
    if waited >= PATIENCE.get() {
        return false;
    }
    std::thread::sleep(Duration::from_millis(1));
    true
}
