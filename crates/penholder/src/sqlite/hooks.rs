//! What SQLite tells of a writing connection while it works, through its hooks.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | `Outside` | no transaction of [`write`](crate::Database::write) | `begin` → `Open` |
//! | `Open` | the closure runs | `end` → `Outside`; a rollback → `Ended` |
//! | `Ended` | the transaction was ended under the closure's feet | `end` → `Outside` |
//!
//! In `Open` and `Ended` every commit is vetoed (SQLite turns it into a
//! rollback): nothing that the closure does stands before it has returned.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU8, Ordering::Relaxed};

use rusqlite::Connection;
use rusqlite::hooks::{Action, AuthContext, Authorization};

const OUTSIDE: u8 = 0;
const OPEN: u8 = 1;
const ENDED: u8 = 2;

/// Which hooks were called since this was last asked: those that were not may have
/// been replaced by the application's own.
#[derive(Debug, Default)]
struct Seen {
    commit: AtomicBool,
    update: AtomicBool,
    rollback: AtomicBool,
    progress: AtomicBool,
    authorizer: AtomicBool,
}

/// So many steps of SQLite's virtual machine apart is it seen to progress: fewer than
/// it takes to find out what kind a connection is.
const STEPS: i32 = 1000;

/// Shared with the hooks of one connection. Only the thread that uses the
/// connection touches it; the atomics are for Rust's sake.
#[derive(Debug, Default)]
pub(crate) struct Hooks {
    state: AtomicU8,
    /// Whether a row was inserted that has this id: into any table, also by triggers.
    inserted: AtomicBool,
    watched_id: AtomicI64,
    seen: Seen,
}

impl Hooks {
    /// Sets the hooks of the connection.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<Self>> {
        let watch = Arc::new(Self::default());
        let hook = Arc::clone(&watch);
        connection.commit_hook(Some(move || {
            hook.seen.commit.store(true, Relaxed);
            hook.state.load(Relaxed) != OUTSIDE
        }))?;
        let hook = Arc::clone(&watch);
        connection.rollback_hook(Some(move || {
            hook.seen.rollback.store(true, Relaxed);
            let _ = hook.state.compare_exchange(OPEN, ENDED, Relaxed, Relaxed);
        }))?;
        let hook = Arc::clone(&watch);
        connection.update_hook(Some(move |action, _: &str, _: &str, id| {
            hook.seen.update.store(true, Relaxed);
            if action == Action::SQLITE_INSERT && id == hook.watched_id.load(Relaxed) {
                hook.inserted.store(true, Relaxed);
            }
        }))?;
        let hook = Arc::clone(&watch);
        connection.progress_handler(
            STEPS,
            Some(move || {
                hook.seen.progress.store(true, Relaxed);
                false
            }),
        )?;
        let hook = Arc::clone(&watch);
        connection.authorizer(Some(move |_: AuthContext<'_>| {
            hook.seen.authorizer.store(true, Relaxed);
            Authorization::Allow
        }))?;
        Ok(watch)
    }

    /// From now on [`saw_write`](Self::saw_write) and [`saw_all`](Self::saw_all) look.
    pub(crate) fn forget_calls(&self) {
        let Seen {
            commit,
            update,
            rollback,
            progress,
            authorizer,
        } = &self.seen;
        for one in [commit, update, rollback, progress, authorizer] {
            one.store(false, Relaxed);
        }
    }

    /// Whether those hooks were called that a write calls.
    pub(crate) fn saw_write(&self) -> bool {
        self.seen.commit.load(Relaxed) && self.seen.update.load(Relaxed)
    }

    /// Whether all hooks were called.
    pub(crate) fn saw_all(&self) -> bool {
        let Seen {
            rollback,
            progress,
            authorizer,
            ..
        } = &self.seen;
        let others = [rollback, progress, authorizer];
        self.saw_write() && others.iter().all(|one| one.load(Relaxed))
    }

    /// A transaction has begun, and a closure is about to run.
    pub(crate) fn begin(&self) {
        debug_assert_eq!(
            self.state.load(Relaxed),
            OUTSIDE,
            "transactions do not nest"
        );
        self.state.store(OPEN, Relaxed);
    }

    /// The closure has returned; says whether the transaction is still the one
    /// that began.
    pub(crate) fn end(&self) -> bool {
        self.state.swap(OUTSIDE, Relaxed) == OPEN
    }

    /// Whether the transaction that began is still there.
    pub(crate) fn is_open(&self) -> bool {
        self.state.load(Relaxed) == OPEN
    }

    /// A statement is about to run: looks out for a row of this id.
    pub(crate) fn look_for(&self, id: i64) {
        self.inserted.store(false, Relaxed);
        self.watched_id.store(id, Relaxed);
    }

    /// Whether a row of that id was inserted since.
    pub(crate) fn has_inserted(&self) -> bool {
        self.inserted.load(Relaxed)
    }
}
