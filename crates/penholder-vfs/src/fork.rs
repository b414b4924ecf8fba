//! What a fork does to the files that are open: leases end in the parent, and the child forgets
//! the files.
//!
//! A child must not use its parent's connections, as with SQLite itself. But it inherits what
//! SQLite remembers of them, with a count of the locks on each WAL index that the process has
//! open (`unixShmNode`): a lock that was parked at the fork would keep the child's own
//! connections out for ever. The lock that keeps the list of files is locked across the fork, so
//! that the child finds it free.

use std::cell::RefCell;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};

use crate::background::{self, Pause};
use crate::open_files::{self, Files};
use crate::process_lock::{self, ProcessLocks};
use crate::sys;

/// What the forking thread holds across the fork.
struct Held {
    _background: Option<Pause>,
    files: Files,
    locks: ProcessLocks,
}

thread_local! {
    static ACROSS_FORK: RefCell<Option<Held>> = const { RefCell::new(None) };
}

/// Whether the handlers are installed, or a thread is about to: no `OnceLock`, because a child
/// that is forked meanwhile would wait for a thread that it does not have.
static WATCHED: AtomicBool = AtomicBool::new(false);

/// Installs the handlers, once for the process and its children; `false` if the system refuses.
pub(crate) fn watch() -> bool {
    if WATCHED.swap(true, SeqCst) {
        return true;
    }
    let is_watched = sys::watch_forks(before, in_parent, in_child);
    if !is_watched {
        WATCHED.store(false, SeqCst);
    }
    is_watched
}

extern "C" fn before() {
    // A thread that is exiting has no thread-locals any more: then the list is not locked.
    let _ = ACROSS_FORK.try_with(|held| {
        // Before the list is locked, which a thread of penholder may need to come out of SQLite.
        let background = background::pause();
        let files = open_files::lock();
        open_files::end_leases(&files);
        let locks = process_lock::lock_all();
        *held.borrow_mut() = Some(Held {
            _background: background,
            files,
            locks,
        });
    });
}

extern "C" fn in_parent() {
    let _ = ACROSS_FORK.try_with(|held| held.borrow_mut().take());
}

extern "C" fn in_child() {
    let _ = ACROSS_FORK.try_with(|held| {
        if let Some(mut held) = held.borrow_mut().take() {
            open_files::forget(&mut held.files);
            process_lock::forget(&mut held.locks);
        }
    });
}
