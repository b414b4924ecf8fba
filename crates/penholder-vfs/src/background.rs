//! Work of penholder's own threads inside SQLite, which a fork waits for.

use std::cell::Cell;
use std::sync::{PoisonError, RwLock, RwLockWriteGuard};

/// Held for reading by threads of penholder that are inside SQLite, and for writing by a fork: a child
/// that is forked meanwhile would inherit mutexes of SQLite that no thread of it unlocks. A program
/// with one thread of its own does not know of these threads, and may use SQLite in its child.
static GATE: RwLock<()> = RwLock::new(());

thread_local! {
    /// Whether this thread is inside [`in_background`].
    static IS_IN_BACKGROUND: Cell<bool> = const { Cell::new(false) };
}

/// As long as it exists, no thread is inside [`in_background`].
pub(crate) type Pause = RwLockWriteGuard<'static, ()>;

/// Runs work on a thread of penholder that calls SQLite. A fork waits until it is done.
pub fn in_background<T>(work: impl FnOnce() -> T) -> T {
    let _gate = GATE.read().unwrap_or_else(PoisonError::into_inner);
    IS_IN_BACKGROUND.set(true);
    let done = work();
    IS_IN_BACKGROUND.set(false);
    done
}

/// Waits until no other thread is inside [`in_background`]; `None` if this one is.
pub(crate) fn pause() -> Option<Pause> {
    // A thread that is exiting has no thread-locals any more.
    let is_in_background = IS_IN_BACKGROUND.try_with(Cell::get).unwrap_or(false);
    (!is_in_background).then(|| GATE.write().unwrap_or_else(PoisonError::into_inner))
}
