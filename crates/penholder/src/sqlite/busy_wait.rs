//! Waiting for SQLite's own locks while the write lock is held.

use std::cell::Cell;
use std::path::Path;
use std::time::{Duration, Instant};

use penholder_core::{Deadline, Guard, SqliteAccess, SqliteHolder};

/// How long SQLite waits for its own locks before the kernel is asked who has them: longer than a
/// short write of another program.
pub(crate) const FIRST_LOOK: Duration = Duration::from_millis(100);
/// The same from then on.
const NEXT_LOOK: Duration = Duration::from_secs(1);

/// A holder of the write lock that may wait for SQLite's own.
#[derive(Debug, Clone, Copy)]
pub(crate) struct BusyWait<'a> {
    pub(crate) guard: &'a Guard,
    pub(crate) database: &'a Path,
    pub(crate) lock_file: &'a Path,
    /// What it wants to do.
    pub(crate) access: SqliteAccess,
    /// The time at which it begins, within some milliseconds.
    pub(crate) now: Instant,
}

impl BusyWait<'_> {
    /// Runs what takes SQLite's locks until it succeeds or the deadline passes. While another
    /// process has them, the kernel is asked which one, so that those that wait for this process
    /// learn what it waits for. `set` sets how long SQLite waits, which may be shorter than the
    /// deadline afterwards.
    pub(crate) fn run<T, E>(
        &self,
        deadline: &Deadline,
        set: impl Fn(Duration) -> rusqlite::Result<()>,
        attempt: impl Fn() -> Result<T, E>,
        is_busy: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let first = deadline.remaining_at(self.now);
        let (mut left, mut pause, mut has_outsider) = (first, FIRST_LOOK, false);
        loop {
            // If it cannot be set, SQLite waits as long as it did before.
            let is_shortened = set(left.min(pause)).is_ok() && left > pause;
            let done = attempt();
            let is_busy = matches!(&done, Err(error) if is_busy(error));
            if is_busy && let Some(found) = self.find_outsider() {
                has_outsider = true;
                self.guard.note_outsider(&found);
            }
            let before = left;
            if is_busy || has_outsider {
                left = deadline.remaining();
            }
            // What SQLite refuses without a wait, it would refuse again.
            if is_busy && is_shortened && before.saturating_sub(left) >= pause / 2 {
                pause = NEXT_LOOK;
                continue;
            }
            if has_outsider {
                self.guard
                    .end_outsider(first.saturating_sub(left), done.is_ok());
            }
            return done;
        }
    }

    /// As [`run`](Self::run), for what makes or sets up its connection itself: the deadline that
    /// it gets is that of one attempt.
    pub(crate) fn run_until<T, E>(
        &self,
        deadline: &Deadline,
        attempt: impl Fn(&Deadline) -> Result<T, E>,
        is_busy: impl Fn(&E) -> bool,
    ) -> Result<T, E> {
        let pause = Cell::new(Duration::ZERO);
        let set = |time| {
            pause.set(time);
            Ok(())
        };
        let attempt = || attempt(&Deadline::after(pause.get()));
        self.run(deadline, set, attempt, is_busy)
    }

    /// Finds the process that has SQLite's locks.
    pub(crate) fn find_holder(&self) -> Option<SqliteHolder> {
        SqliteHolder::find(self.database, Some(self.lock_file), self.access)
    }

    fn find_outsider(&self) -> Option<SqliteHolder> {
        self.find_holder().filter(|found| found.is_outsider)
    }
}
