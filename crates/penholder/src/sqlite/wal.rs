//! Keeping the log (`-wal`) short, in the background of the writes of a process.
//!
//! | a write takes the log | what happens after it |
//! | --- | --- |
//! | past no multiple of [`GATHERED`] frames, or [`GATHERED_ALONE`] | nothing |
//! | past one, up to [`LONG`] | a passive checkpoint after the write lock is released |
//! | past one, beyond | a passive checkpoint before, so that the next writer finds all moved and starts the log anew |
//!
//! So of all the processes that write, one does it each time, though none knows of
//! the others, and also if each writes only once.
//!
//! A passive checkpoint waits for nobody and keeps nobody out. Whatever goes wrong
//! in one is left to the next: the write stands all the same.

use std::path::Path;
use std::sync::{Mutex, PoisonError, TryLockError};
use std::thread;
use std::time::Duration;

use penholder_lock::Deadline;
use rusqlite::Connection;

use crate::error::Result;
use crate::location::Location;
use crate::options::Options;
use crate::sqlite::connection;
use crate::telemetry;

/// Frames after which they are moved while others wait for the lock, and write on
/// meanwhile: about 2 MB.
const GATHERED: u32 = 500;
/// The same while nobody waits, and nobody is spared waiting for the disk.
const GATHERED_ALONE: u32 = 1000;
/// Frames after which writers wait until they are moved: about 16 MB.
const LONG: u32 = 4000;
/// The length of a log file, in bytes, that SQLite moves in some milliseconds.
const SHORT: u64 = 5_000_000;
/// How long one write, its lock in hand, waits for a checkpoint of somebody else.
const PATIENCE: Duration = Duration::from_millis(100);

/// When the log is to be moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    NotYet,
    /// While others may write.
    Outside,
    /// While nobody else does.
    UnderLock,
}

impl Due {
    /// What two connections make due.
    pub(crate) fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// After a write of so many pages, which left so many frames in the log;
    /// `awaited`: others wait for the lock.
    pub(crate) fn after(frames: u32, written: u32, awaited: bool) -> Self {
        let step = if awaited { GATHERED } else { GATHERED_ALONE };
        let before = frames.saturating_sub(written);
        if written == 0 || frames / step == before / step {
            Self::NotYet
        } else if frames <= LONG {
            Self::Outside
        } else {
            Self::UnderLock
        }
    }
}

/// What became of a checkpoint, in frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Moved {
    /// Somebody was in the way.
    pub(crate) busy: bool,
    pub(crate) log: u64,
    pub(crate) moved: u64,
}

impl Moved {
    /// The log is long, and whoever reads from it keeps it so.
    pub(crate) fn is_pinned(self) -> bool {
        !self.busy && self.log > u64::from(LONG) && self.moved < self.log
    }

    fn is_all(self) -> bool {
        !self.busy && self.moved >= self.log
    }
}

/// Runs a checkpoint of this mode.
pub(crate) fn checkpoint(connection: &Connection, mode: &str) -> rusqlite::Result<Moved> {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([], |row| {
        // -1 where there is no log.
        let frames = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Moved {
            busy: row.get::<_, i64>(0)? != 0,
            log: frames(row.get(1)?),
            moved: frames(row.get(2)?),
        })
    })
}

/// Whether a log of so many frames is too short to be moved in any case; asked at
/// every write, before anything else is.
pub(crate) fn is_short(frames: u32) -> bool {
    frames < GATHERED
}

/// Whether the log file is so long that to move all of it takes a while. Looks, but
/// opens nothing.
pub(crate) fn is_long(log: &Path) -> bool {
    log.metadata().is_ok_and(|log| log.len() > SHORT)
}

/// Moves what can be moved; says whether nothing is left.
pub(crate) fn moves_all(connection: &Connection) -> bool {
    let done = connection
        .busy_timeout(Duration::ZERO)
        .and_then(|()| checkpoint(connection, "PASSIVE"));
    done.is_ok_and(Moved::is_all)
}

/// Moves what can be moved while the caller, who has the write lock, keeps others
/// from writing. Another's checkpoint may be under way since the log was shorter:
/// until it is done nobody can move the rest, and if all wrote on meanwhile the log
/// would grow without bounds on a slow disk.
pub(crate) fn move_under_lock(connection: &Connection, location: &Location) {
    let patience = Deadline::after(PATIENCE);
    loop {
        let Ok(done) = checkpoint(connection, "PASSIVE") else {
            return;
        };
        if !done.busy || patience.is_over() {
            tell_if_pinned(done, location);
            return;
        }
        thread::sleep(Duration::from_millis(1));
    }
}

fn tell_if_pinned(done: Moved, location: &Location) {
    if done.is_pinned() {
        telemetry::log_is_pinned(location, done.log, done.moved);
    }
}

/// The connection for checkpoints beside the writers of this process: the writing
/// one is the next writer's as soon as the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Mover {
    connection: Mutex<Option<Connection>>,
}

impl Mover {
    /// Moves what can be moved, unless another thread is at it.
    pub(crate) fn run(&self, location: &Location, options: &Options) {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // One that fails is closed; the next time there is a new one.
        let open = connection
            .take()
            .map_or_else(|| open(location, options), Ok);
        *connection = open.ok().filter(|connection| {
            let done = checkpoint(connection, "PASSIVE");
            done.inspect(|done| tell_if_pinned(*done, location)).is_ok()
        });
    }

    /// The connection, no longer ours.
    pub(crate) fn take(&mut self) -> Option<Connection> {
        let connection = self.connection.get_mut();
        connection.unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn open(location: &Location, options: &Options) -> Result<Connection> {
    let options = options.clone().create(false);
    connection::open_writer(location, &options, &Deadline::after(Duration::ZERO))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_log_is_moved_when_enough_has_gathered() {
        for (frames, written, due) in [
            (0, 0, Due::NotYet),
            (499, 3, Due::NotYet),
            (500, 1, Due::Outside),
            (501, 1, Due::NotYet),
            (999, 400, Due::NotYet),
            (3001, 2, Due::Outside),
            (4000, 1, Due::Outside),
            (4500, 1, Due::UnderLock),
            // A reader keeps it long: not at every write.
            (50_250, 3, Due::NotYet),
            // One large write, which started the log anew.
            (9000, 9000, Due::UnderLock),
            (10, 12, Due::NotYet),
            // Nothing was written.
            (500, 0, Due::NotYet),
        ] {
            assert_eq!(Due::after(frames, written, true), due, "{frames} {written}");
        }
        assert_eq!(Due::after(500, 1, false), Due::NotYet);
        assert_eq!(Due::after(1000, 1, false), Due::Outside);
    }
}
