//! SQLite's hooks on a writing connection: what they report while it works.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | `Outside` | no transaction of [`write`](crate::Database::write) | `begin` → `Open` |
//! | `Open` | the closure runs | `end` → `Outside`; a rollback → `Ended` |
//! | `Ended` | the transaction ended while the closure still ran | `end` → `Outside` |
//!
//! In `Open` and `Ended` the commit hook vetoes every commit, and SQLite turns it into a
//! rollback: nothing that the closure does is committed before the closure returns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, AtomicU64, Ordering::Relaxed};
use std::time::{Duration, Instant};

use rusqlite::Connection;
use rusqlite::hooks::{Action, Authorization};

use super::ffi;

const OUTSIDE: u8 = 0;
const OPEN: u8 = 1;
const ENDED: u8 = 2;

/// Which hooks were called since [`Hooks::forget_calls`]. The application may have replaced
/// those that were not.
#[derive(Debug, Default)]
struct Calls {
    commit: AtomicBool,
    update: AtomicBool,
    rollback: AtomicBool,
    progress: AtomicBool,
    authorizer: AtomicBool,
}

/// How many steps of SQLite's virtual machine lie between two calls of the progress handler:
/// fewer than computing the fingerprint of a connection takes.
const STEPS_BETWEEN_CHECKS: i32 = 1000;

/// What the hooks of one connection share with its owner. Only the thread that uses the
/// connection touches it; it has atomics because the hooks must be `Send`.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    state: AtomicU8,
    /// Whether a row with `watched_id` was inserted, into any table, also by a trigger.
    inserted: AtomicBool,
    watched_id: AtomicI64,
    calls: Calls,
    commit_timer: CommitTimer,
}

/// Times the commit of a statement that is its own transaction, without the statement.
#[derive(Debug)]
struct CommitTimer {
    origin: Instant,
    is_armed: AtomicBool,
    /// When the commit began, in nanoseconds since `origin`; zero before.
    begun: AtomicU64,
}

impl Default for CommitTimer {
    fn default() -> Self {
        Self {
            origin: Instant::now(),
            is_armed: AtomicBool::new(false),
            begun: AtomicU64::new(0),
        }
    }
}

impl CommitTimer {
    fn now(&self) -> u64 {
        u64::try_from(self.origin.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }
}

impl Hooks {
    /// Sets the hooks of the connection.
    ///
    /// # Errors
    ///
    /// Those of SQLite.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<Self>> {
        let hooks = Arc::new(Self::default());
        let hook = Arc::clone(&hooks);
        connection.commit_hook(Some(move || {
            hook.calls.commit.store(true, Relaxed);
            if hook.commit_timer.is_armed.swap(false, Relaxed) {
                let now = hook.commit_timer.now();
                hook.commit_timer.begun.store(now, Relaxed);
            }
            hook.state.load(Relaxed) != OUTSIDE
        }))?;
        let hook = Arc::clone(&hooks);
        connection.rollback_hook(Some(move || {
            hook.calls.rollback.store(true, Relaxed);
            let _ = hook.state.compare_exchange(OPEN, ENDED, Relaxed, Relaxed);
        }))?;
        let hook = Arc::clone(&hooks);
        ffi::set_update_hook(connection, move |action, id| {
            hook.calls.update.store(true, Relaxed);
            if action == Action::SQLITE_INSERT && id == hook.watched_id.load(Relaxed) {
                hook.inserted.store(true, Relaxed);
            }
        })?;
        let hook = Arc::clone(&hooks);
        connection.progress_handler(
            STEPS_BETWEEN_CHECKS,
            Some(move || {
                hook.calls.progress.store(true, Relaxed);
                false
            }),
        )?;
        let hook = Arc::clone(&hooks);
        ffi::set_authorizer(connection, move |_| {
            hook.calls.authorizer.store(true, Relaxed);
            Authorization::Allow
        })?;
        Ok(hooks)
    }

    /// Forgets which hooks were called: [`saw_write`](Self::saw_write) and
    /// [`saw_all`](Self::saw_all) are about what follows.
    pub(crate) fn forget_calls(&self) {
        let Calls {
            commit,
            update,
            rollback,
            progress,
            authorizer,
        } = &self.calls;
        for one in [commit, update, rollback, progress, authorizer] {
            one.store(false, Relaxed);
        }
    }

    /// Returns whether the hooks that a write calls were called.
    pub(crate) fn saw_write(&self) -> bool {
        self.calls.commit.load(Relaxed) && self.calls.update.load(Relaxed)
    }

    /// Returns whether all hooks were called.
    pub(crate) fn saw_all(&self) -> bool {
        let Calls {
            rollback,
            progress,
            authorizer,
            ..
        } = &self.calls;
        let others = [rollback, progress, authorizer];
        self.saw_write() && others.iter().all(|one| one.load(Relaxed))
    }

    /// Notes that a transaction has begun and a closure is about to run.
    pub(crate) fn begin(&self) {
        debug_assert_eq!(
            self.state.load(Relaxed),
            OUTSIDE,
            "transactions do not nest"
        );
        self.state.store(OPEN, Relaxed);
    }

    /// Notes that the closure has returned; returns whether the transaction is still the one
    /// that began.
    pub(crate) fn end(&self) -> bool {
        self.state.swap(OUTSIDE, Relaxed) == OPEN
    }

    /// Returns whether the transaction that began is still open.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Relaxed) == OPEN
    }

    /// Makes the next commit note when it begins.
    pub(crate) fn time_commit(&self) {
        self.commit_timer.begun.store(0, Relaxed);
        self.commit_timer.is_armed.store(true, Relaxed);
    }

    /// Returns how long ago the commit began that was timed; `None` if there was none since.
    pub(crate) fn commit_time(&self) -> Option<Duration> {
        self.commit_timer.is_armed.store(false, Relaxed);
        let begun = self.commit_timer.begun.swap(0, Relaxed);
        (begun > 0).then(|| Duration::from_nanos(self.commit_timer.now().saturating_sub(begun)))
    }

    /// Notes that a statement is about to run, and watches for a row with this id.
    pub(crate) fn watch_for_insert(&self, id: i64) {
        self.inserted.store(false, Relaxed);
        self.watched_id.store(id, Relaxed);
    }

    /// Returns whether a row with that id was inserted since.
    pub(crate) fn has_inserted(&self) -> bool {
        self.inserted.load(Relaxed)
    }
}
