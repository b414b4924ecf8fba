//! How each peer writes one row in one transaction.

use std::cell::Cell;
use std::error::Error;
use std::time::{Duration, Instant};

use penholder::GroupCommit;
use penholder::lock::QueuePolicy;
use rusqlite::Connection;
use rustix::fs::{FlockOperation, flock};

use crate::lock_file;
use crate::peer::Peer;
use crate::peer::naive::Naive;
use crate::peer::setting::Setting;
use crate::peer::transaction::{self, Outcome};
use crate::table::{INSERT, TEXT};

/// Writes one row a call.
pub(crate) type Write = Box<dyn FnMut() -> Result<Outcome, Box<dyn Error>>>;

/// Writes one row a call, from any thread.
pub(crate) type SharedWrite = Box<dyn Fn() -> penholder::Result<Outcome> + Send + Sync>;

/// Opens the database as the peer does.
pub(crate) fn open(setting: &Setting) -> Result<Write, Box<dyn Error>> {
    match setting.peer {
        Peer::Penholder | Peer::PenholderAlone | Peer::PenholderFifo | Peer::PenholderThreads => {
            let write = penholder(setting)?;
            Ok(Box::new(move || write().map_err(Into::into)))
        }
        Peer::Naive => {
            let mut naive = Naive::open(setting)?;
            Ok(Box::new(move || naive.write()))
        }
        Peer::FlockBlocking => flock_blocking(setting),
        Peer::SqliteBusy => sqlite(setting, transaction::parsed),
        Peer::SqliteBusyPrepared => sqlite(setting, transaction::prepared),
        Peer::SqliteAutocommit => sqlite(setting, transaction::insert),
        Peer::SqliteBusy1ms => sqlite_busy_1ms(setting),
        Peer::PythonSqlite3 => Err("the Python peer runs in a process of its own".into()),
    }
}

/// Opens the database with penholder.
pub(crate) fn penholder(setting: &Setting) -> Result<SharedWrite, Box<dyn Error>> {
    let options = penholder::OpenOptions::new()
        .timeout(setting.timeout)
        .synchronous(setting.sync.into());
    let options = match setting.peer {
        Peer::PenholderFifo => options.policy(QueuePolicy::Fifo),
        Peer::PenholderAlone => options.group_commit(GroupCommit::Off),
        _ => options,
    };
    let db = options.open(&setting.database)?;
    let number = setting.number;
    Ok(Box::new(move || {
        match db.execute(INSERT, (i64::from(number), TEXT)) {
            Ok(_) => Ok(Outcome::Written),
            Err(error) if error.is_timeout() || error.is_sqlite_busy() => Ok(Outcome::Failed),
            Err(error) => Err(error),
        }
    }))
}

fn flock_blocking(setting: &Setting) -> Result<Write, Box<dyn Error>> {
    let lock = lock_file::open(&lock_file::path(&setting.database))?;
    let connection = transaction::connect(setting)?;
    let number = setting.number;
    Ok(Box::new(move || {
        flock(&lock, FlockOperation::LockExclusive)?;
        let written = transaction::prepared(&connection, number);
        let outcome = transaction::settle(&connection, written);
        flock(&lock, FlockOperation::Unlock)?;
        outcome
    }))
}

fn sqlite(
    setting: &Setting,
    write: fn(&Connection, u32) -> rusqlite::Result<()>,
) -> Result<Write, Box<dyn Error>> {
    let connection = transaction::connect(setting)?;
    let number = setting.number;
    Ok(Box::new(move || {
        transaction::settle(&connection, write(&connection, number))
    }))
}

fn sqlite_busy_1ms(setting: &Setting) -> Result<Write, Box<dyn Error>> {
    let mut connection = transaction::connect(setting)?;
    let number = setting.number;
    TIMEOUT.set(setting.timeout);
    connection.busy_handler(Some(retry_each_millisecond))?;
    Ok(Box::new(move || {
        transaction::settle(&connection, transaction::parsed(&connection, number))
    }))
}

thread_local! {
    // rusqlite's busy handler is a plain function and cannot capture these values.
    static TIMEOUT: Cell<Duration> = const { Cell::new(Duration::ZERO) };
    static SINCE: Cell<Option<Instant>> = const { Cell::new(None) };
}

fn retry_each_millisecond(attempt: i32) -> bool {
    if attempt == 0 {
        SINCE.set(Some(Instant::now()));
    }
    let waited = SINCE.get().map_or(Duration::ZERO, |since| since.elapsed());
    if waited >= TIMEOUT.get() {
        return false;
    }
    std::thread::sleep(Duration::from_millis(1));
    true
}
