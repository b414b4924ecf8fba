//! The WAL: when it is checkpointed, and one checkpoint.
//!
//! | a write takes the WAL | what happens |
//! | --- | --- |
//! | past no multiple of [`STEP`] frames, or [`STEP_ALONE`] | nothing |
//! | past one, up to [`LONG_FRAMES`] | a passive checkpoint after the write lock is released |
//! | past one, beyond | a passive checkpoint before, so that the next writer finds all frames copied and starts the WAL from its beginning |
//!
//! So one of all the processes that write runs each checkpoint, although none knows of the
//! others, and also if each writes only once.
//!
//! A process that keeps the lock for its next write looks at the WAL index instead, which says how
//! many frames are not copied yet:
//!
//! | the WAL has | what happens after a write |
//! | --- | --- |
//! | [`STEP_ALONE`] frames or more, [`WORTH_COPYING`] of them not copied | a thread runs a passive checkpoint, while this process writes on |
//! | [`STEP_ALONE`] or more, and at most [`FEW`] not copied | a passive checkpoint under the lock copies the rest, so that the WAL starts from its beginning |
//! | [`LONG_FRAMES`] or more | the same, however many are not copied |
//! | [`TOO_LONG_FRAMES`] or more | the same, and it waits for a checkpoint of another connection |
//! | [`LONG_FRAMES`] or more, and a reader keeps the rest from being copied | the same once for each [`PINNED_STEP`] frames |
//!
//! If the SQLite of this program has the WAL-reset bug, every checkpoint runs before the lock is
//! released, so that no writer that takes the lock is at work meanwhile.
//!
//! A passive checkpoint waits for no other connection and blocks none. If one fails, the next
//! does its work: the write is committed in any case.

use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_core::Deadline;
use penholder_vfs::{Version, WalFrames};
use rusqlite::Connection;

use crate::location::Location;
use crate::telemetry;

/// A checkpoint is due each time the WAL grows past a multiple of this many frames (about 2 MB),
/// while other processes wait for the write lock: they write while this process runs it.
const STEP: u32 = 500;
/// The same while no other process waits. Then the checkpoint delays only this process, and
/// running it more often would save no one a wait.
const STEP_ALONE: u32 = 1000;
/// Frames above which writers wait for the checkpoint: about 16 MB.
const LONG_FRAMES: u32 = 4000;
/// Frames above which a checkpoint under the lock waits for one that is running.
const TOO_LONG_FRAMES: u32 = 6000;
/// If a reader keeps the rest of such a WAL from being copied, the next attempt under the lock
/// comes after so many more frames.
const PINNED_STEP: u32 = 250;
/// So many frames are worth a checkpoint of their own.
const WORTH_COPYING: u32 = 500;
/// So few frames are copied under the lock: it takes about a millisecond.
const FEW: u32 = 400;
/// The length of a WAL file, in bytes, that SQLite checkpoints in some milliseconds.
const FAST_CHECKPOINT_BYTES: u64 = 5_000_000;
/// How long one write that holds the lock waits for another connection's checkpoint.
const OTHER_CHECKPOINT_MAX: Duration = Duration::from_millis(100);

/// When a checkpoint is due.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Due {
    NotYet,
    /// By a thread, while this process writes on.
    InBackground,
    /// After the write lock is released, while others may write.
    AfterRelease,
    /// While the write lock is held and no other process writes.
    UnderLock,
}

impl Due {
    /// Returns what is due after the writes of two connections.
    pub(crate) fn or(self, other: Self) -> Self {
        self.max(other)
    }

    /// Returns what is due after a write under a lease, by the WAL index. `pinned`: how many frames
    /// the WAL had when a reader kept the rest from being copied under the lock; zero if none did.
    pub(crate) fn by_index(frames: WalFrames, pinned: u32) -> Self {
        let WalFrames { all, uncopied } = frames;
        let is_pinned =
            pinned >= LONG_FRAMES && (pinned..pinned.saturating_add(PINNED_STEP)).contains(&all);
        if all < STEP_ALONE || uncopied == 0 || is_pinned {
            Self::NotYet
        } else if uncopied <= FEW || all >= LONG_FRAMES || !may_checkpoint_without_lock() {
            Self::UnderLock
        } else if uncopied >= WORTH_COPYING {
            Self::InBackground
        } else {
            Self::NotYet
        }
    }

    /// Returns what is due after a write of `written` pages that left `frames` frames in the
    /// WAL. `awaited`: others wait for the lock.
    pub(crate) fn after(frames: u32, written: u32, awaited: bool) -> Self {
        let step = if awaited { STEP } else { STEP_ALONE };
        let before = frames.saturating_sub(written);
        if written == 0 || frames / step == before / step {
            Self::NotYet
        } else if frames <= LONG_FRAMES && may_checkpoint_without_lock() {
            Self::AfterRelease
        } else {
            Self::UnderLock
        }
    }
}

/// Returns whether the SQLite of this program has the WAL-reset bug.
pub(crate) fn has_wal_reset_bug() -> bool {
    Version::of_number(rusqlite::version_number()).has_wal_reset_bug()
}

/// Returns whether a checkpoint may run while another process writes.
pub(crate) fn may_checkpoint_without_lock() -> bool {
    !has_wal_reset_bug()
}

/// What a checkpoint does about readers and writers (`wal_checkpoint` in `pragma.html`).
#[derive(Debug, Clone, Copy)]
pub(crate) enum Mode {
    /// Copies what it can without waiting.
    Passive,
    /// Waits for readers and writers, and then empties the WAL.
    Truncate,
}

/// What a checkpoint did, in frames.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Progress {
    /// Another connection was in the way.
    pub(crate) busy: bool,
    /// How many frames the WAL has.
    pub(crate) wal_frames: u64,
    /// How many of them are in the database file.
    pub(crate) checkpointed: u64,
}

impl Progress {
    /// Returns whether the WAL is long, and a reader keeps it so.
    pub(crate) fn is_pinned(self) -> bool {
        !self.busy
            && self.wal_frames > u64::from(LONG_FRAMES)
            && self.checkpointed < self.wal_frames
    }

    /// Returns whether nothing is left to copy.
    pub(crate) fn is_complete(self) -> bool {
        !self.busy && self.checkpointed >= self.wal_frames
    }
}

/// Runs one checkpoint.
pub(crate) fn checkpoint(connection: &Connection, mode: Mode) -> rusqlite::Result<Progress> {
    let mut statement = connection.prepare_cached(match mode {
        Mode::Passive => "PRAGMA wal_checkpoint(PASSIVE)",
        Mode::Truncate => "PRAGMA wal_checkpoint(TRUNCATE)",
    })?;
    statement.query_row([], |row| {
        // -1 if there is no WAL.
        let frames = |n: i64| u64::try_from(n).unwrap_or(0);
        Ok(Progress {
            busy: row.get::<_, i64>(0)? != 0,
            wal_frames: frames(row.get(1)?),
            checkpointed: frames(row.get(2)?),
        })
    })
}

/// Returns whether a WAL of `frames` frames is too short for a checkpoint to be due.
/// Cheap: it is asked at every write before anything else.
pub(crate) fn is_below_first_step(frames: u32) -> bool {
    frames < STEP
}

/// Returns whether a checkpoint under the lock waits for one that is running.
pub(crate) fn is_too_long(frames: u32) -> bool {
    frames >= TOO_LONG_FRAMES
}

/// Returns whether the WAL file is so long that a checkpoint may take a while. Looks at the
/// file's length only, and does not open it.
pub(crate) fn may_checkpoint_slowly(wal: &Path) -> bool {
    wal.metadata()
        .is_ok_and(|wal| wal.len() > FAST_CHECKPOINT_BYTES)
}

/// Runs a passive checkpoint without waiting; returns whether nothing is left to copy.
pub(crate) fn checkpoint_all(connection: &Connection) -> bool {
    let done = connection
        .busy_timeout(Duration::ZERO)
        .and_then(|()| checkpoint(connection, Mode::Passive));
    done.is_ok_and(Progress::is_complete)
}

/// Runs a passive checkpoint while the caller holds the write lock, so that no other process
/// writes meanwhile.
///
/// Another connection's checkpoint may have begun when the WAL was shorter. Until it ends,
/// the rest cannot be copied; if all wrote on meanwhile, the WAL would grow without bounds on
/// a slow disk.
///
/// So it waits for that one, if the WAL has become too long. Returns what was done; `None` if the
/// checkpoint failed.
pub(crate) fn checkpoint_under_lock(
    connection: &Connection,
    location: &Location,
    frames: u32,
) -> Option<Progress> {
    let longest = Deadline::after(if is_too_long(frames) {
        OTHER_CHECKPOINT_MAX
    } else {
        Duration::ZERO
    });
    loop {
        penholder_core::failpoint!("checkpointing_under_lock");
        let done = checkpoint(connection, Mode::Passive).ok()?;
        penholder_core::failpoint!("checkpointed_under_lock");
        if !done.busy || longest.is_over() {
            warn_if_pinned(done, location);
            return Some(done);
        }
        thread::sleep(Duration::from_millis(1));
    }
}

/// Emits an event if a reader keeps the WAL long.
pub(super) fn warn_if_pinned(done: Progress, location: &Location) {
    if done.is_pinned() {
        telemetry::wal_is_pinned(location, done.wal_frames, done.checkpointed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Returns when it is due with the SQLite of this program.
    fn here(due: Due) -> Due {
        match due {
            Due::AfterRelease if has_wal_reset_bug() => Due::UnderLock,
            due => due,
        }
    }

    #[test]
    fn a_checkpoint_is_due_at_each_step() {
        for (frames, written, due) in [
            (0, 0, Due::NotYet),
            (499, 3, Due::NotYet),
            (500, 1, Due::AfterRelease),
            (501, 1, Due::NotYet),
            (999, 400, Due::NotYet),
            (3001, 2, Due::AfterRelease),
            (4000, 1, Due::AfterRelease),
            (4500, 1, Due::UnderLock),
            // A reader keeps it long: not at every write.
            (50_250, 3, Due::NotYet),
            // One large write, which started the WAL from its beginning.
            (9000, 9000, Due::UnderLock),
            (10, 12, Due::NotYet),
            // Nothing was written.
            (500, 0, Due::NotYet),
        ] {
            assert_eq!(
                Due::after(frames, written, true),
                here(due),
                "{frames} {written}"
            );
        }
        assert_eq!(Due::after(500, 1, false), Due::NotYet);
        assert_eq!(Due::after(1000, 1, false), here(Due::AfterRelease));
    }

    #[test]
    fn under_a_lease_a_reader_that_pins_a_long_wal_is_not_met_at_each_write() {
        let by_index = |all, uncopied, pinned| Due::by_index(WalFrames { all, uncopied }, pinned);
        let under_lock = Due::UnderLock;
        for (all, uncopied, pinned, due) in [
            (999, 900, 0, Due::NotYet),
            (1000, 400, 0, under_lock),
            (5000, 4000, 0, under_lock),
            (5000, 4000, 5000, Due::NotYet),
            (5249, 4249, 5000, Due::NotYet),
            (5250, 4250, 5000, under_lock),
            // The WAL has begun from its start since.
            (4100, 300, 5000, under_lock),
            // Short, so it may soon be copied.
            (1100, 50, 1080, under_lock),
        ] {
            assert_eq!(by_index(all, uncopied, pinned), due, "{all} {pinned}");
        }
    }
}
