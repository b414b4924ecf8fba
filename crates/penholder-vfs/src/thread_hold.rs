//! The write lock, taken by a thread for all that it does: its own writes join.

use std::sync::Arc;
use std::time::Duration;

use penholder_core::{Deadline, EndedLease, LeaseParty, LockError, Locker, fork_generation};

use crate::process_lock::{Asker, Claim, ConnectionId, Entry, ProcessLock};

/// How long one sleep lasts at most, until the lock is asked for again.
const LOOK: Duration = Duration::from_millis(100);

/// The write lock, held by a thread. Connections of this process that were opened through the VFS
/// of penholder write under it, if that thread uses them; those of other threads wait.
///
/// A thread that has it may take it again: it is released when the last one is dropped or
/// released. Any thread may do that.
#[derive(Debug)]
pub struct ThreadHold {
    generation: u64,
    id: ConnectionId,
    lock: Arc<ProcessLock>,
    is_held: bool,
}

/// Nothing is kept along with it.
#[derive(Debug)]
struct NoParty;

impl LeaseParty for NoParty {
    fn release(&self) {}

    fn ended(&self, _lease: &EndedLease) -> Option<Duration> {
        None
    }
}

impl ThreadHold {
    /// Takes the lock, waiting up to `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Locker::acquire`]; never that the thread has it already.
    pub fn acquire(locker: &Locker, timeout: Duration) -> Result<Self, LockError> {
        let deadline = Deadline::after(timeout);
        let lock = ProcessLock::of(locker.lock_file());
        let asker = Asker {
            id: ConnectionId::new(),
            claim: Claim::Thread,
            locker: Arc::new(locker.clone()),
            party: Arc::new(NoParty),
        };
        loop {
            match lock.enter(&asker, true, |_| false) {
                Entry::Inside => {
                    return Ok(Self {
                        generation: fork_generation(),
                        id: asker.id,
                        lock,
                        is_held: true,
                    });
                }
                Entry::Failed(error) => return Err(error),
                Entry::Busy => {}
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                lock.forget(asker.id);
                return Err(locker.timeout_error(&deadline, 0));
            }
            lock.sleep(&asker, remaining.min(LOOK), || true);
        }
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// Those of the release: the lock is free all the same. A forked child does not hold what its
    /// parent holds: there it does nothing.
    pub fn release(mut self) -> Result<(), LockError> {
        self.end()
    }

    fn end(&mut self) -> Result<(), LockError> {
        let is_held = std::mem::take(&mut self.is_held);
        if !is_held || self.generation != fork_generation() {
            return Ok(());
        }
        self.lock.leave(self.id, |_| {})
    }
}

impl Drop for ThreadHold {
    fn drop(&mut self) {
        // A caller that wants to know of a failure calls `release`.
        let _ = self.end();
    }
}
