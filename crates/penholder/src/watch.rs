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
use rusqlite::hooks::Action;

const OUTSIDE: u8 = 0;
const OPEN: u8 = 1;
const ENDED: u8 = 2;

/// Shared with the hooks of one connection. Only the thread that uses the
/// connection touches it; the atomics are for Rust's sake.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    state: AtomicU8,
    /// Whether a row was inserted that has this id: into any table, also by triggers.
    inserted: AtomicBool,
    watched_id: AtomicI64,
}

impl Watch {
    /// Sets the hooks of the connection.
    pub(crate) fn install(connection: &mut Connection) -> rusqlite::Result<Arc<Self>> {
        let watch = Arc::new(Self::default());
        let hook = Arc::clone(&watch);
        connection.commit_hook(Some(move || hook.state.load(Relaxed) != OUTSIDE))?;
        let hook = Arc::clone(&watch);
        connection.rollback_hook(Some(move || {
            let _ = hook.state.compare_exchange(OPEN, ENDED, Relaxed, Relaxed);
        }))?;
        let hook = Arc::clone(&watch);
        connection.update_hook(Some(move |action, _: &str, _: &str, id| {
            if action == Action::SQLITE_INSERT && id == hook.watched_id.load(Relaxed) {
                hook.inserted.store(true, Relaxed);
            }
        }))?;
        Ok(watch)
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
