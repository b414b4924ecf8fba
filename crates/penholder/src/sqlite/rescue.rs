//! Saving what is only in files that have lost their names, and making the paths safe again.
//!
//! A WAL is part of its database: until it is checkpointed it has the last commits. If its name
//! is deleted, or another database is moved over the one that it belongs to, the connections of
//! this process still have the former files open, and the write lock keeps others from writing.
//!
//! | database | `-wal` | `-shm` | what is done |
//! | --- | --- | --- | --- |
//! | same | missing | same or missing | the WAL is copied into the database, and a `-shm` that is left is deleted: no other process can have opened the database since, because that creates a WAL |
//! | same | another, empty | any | the same, and the empty WAL is deleted too: a process that has opened it has written nothing, and opens the database again |
//! | same | same | missing or another | the same, and the WAL is deleted too: two indexes must not describe one WAL, or a process with the former one would later cut off what was written with the new one |
//! | another | same | same | the WAL is copied into the former database, and `-wal` and `-shm` are deleted, unless another process has the new database open already: SQLite would apply the WAL to it |
//! | otherwise | | | nothing can be saved, or there is nothing to save |
//!
//! All of it happens under the write lock. A reader with an old snapshot can keep the WAL from
//! being copied completely; it is waited for until the deadline, and by the next call again. Until
//! then the connection is kept, because only its files have the last commits.

use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_core::{Deadline, Process};
use penholder_lock::Openers;
use rusqlite::Connection;

use super::connection;
use super::lock_bytes;
use super::open_files::{Found, OpenFiles};
use super::wal::{self, Mode};

/// How long the search for processes that have the new database open may take.
const SEARCH_MAX: Duration = Duration::from_secs(1);
/// How long a process may take to find that it may not open the database yet.
const OPENING_MAX: Duration = Duration::from_millis(200);
/// The pause between two attempts.
const PAUSE: Duration = Duration::from_millis(2);

/// How a rescue ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rescue {
    /// All that can be saved is saved.
    Finished,
    /// A reader was in the way until the deadline.
    Unfinished,
}

/// Saves what can be saved, over a connection that has the former files open. The caller holds
/// the write lock.
pub(crate) fn rescue(files: &OpenFiles, connection: &Connection, deadline: &Deadline) -> Rescue {
    use Found::{Missing, Other, Same};
    let Ok(found) = files.found() else {
        return Rescue::Finished;
    };
    let found = (found.database, found.wal, found.shm);
    let can_be_saved = match found {
        (Same, Missing, Same | Missing) => true,
        (Same, Other, _) => is_empty(files.wal()),
        (Same, Same, Missing | Other) => true,
        (Other, Same, Same) => !stays_open_elsewhere(files.database(), deadline),
        _ => false,
    };
    if !can_be_saved {
        return Rescue::Finished;
    }
    match copy_wal(connection, deadline) {
        Ok(true) => {}
        Ok(false) => return Rescue::Unfinished,
        // The next attempt would fail too.
        Err(_) => return Rescue::Finished,
    }
    // An error leaves a file that `OpenFiles::leftover` finds.
    match found {
        (Same, Missing, Same) => drop(fs::remove_file(files.shm())),
        (Same, Same | Other, Missing) => drop(fs::remove_file(files.wal())),
        // In this order: without its index, an empty WAL is harmless.
        (Same, Same | Other, _) | (Other, Same, Same) => {
            drop(fs::remove_file(files.shm()).and_then(|()| fs::remove_file(files.wal())));
        }
        _ => {}
    }
    Rescue::Finished
}

/// Copies all of the WAL into the database that it belongs to, and resets it. Returns `false` if
/// a reader was in the way until the deadline.
fn copy_wal(connection: &Connection, deadline: &Deadline) -> rusqlite::Result<bool> {
    connection::set_busy_timeout(connection, Duration::ZERO)?;
    loop {
        if wal::checkpoint(connection, Mode::Truncate)?.is_complete() {
            return Ok(true);
        }
        if deadline.is_over() {
            return Ok(false);
        }
        thread::sleep(PAUSE);
    }
}

fn is_empty(file: &Path) -> bool {
    file.metadata().is_ok_and(|file| file.len() == 0)
}

/// Returns whether another process has the database open that is there now, and not only until it
/// has found that it may not open it yet.
fn stays_open_elsewhere(database: &Path, deadline: &Deadline) -> bool {
    let longest = Deadline::after(OPENING_MAX);
    while is_open_elsewhere(database) {
        if longest.is_over() || deadline.is_over() {
            return true;
        }
        thread::sleep(PAUSE);
    }
    false
}

/// Returns whether another process has the database open that is there now: by the kernel's tables
/// of locks, which show those of other users too, or by its descriptors, if they may be read.
fn is_open_elsewhere(database: &Path) -> bool {
    let own = std::process::id();
    let found = Process::ids_with_shared_posix_locks([(database, &lock_bytes::SHARED)]);
    let [with_lock] = found.unwrap_or_default();
    let is_open = || {
        let openers = Openers::of(&[database.to_owned()], SEARCH_MAX);
        openers
            .found
            .iter()
            .any(|opener| opener.process.pid != own && opener.open.iter().any(|open| !open.deleted))
    };
    with_lock.iter().any(|&pid| pid != own) || is_open()
}
