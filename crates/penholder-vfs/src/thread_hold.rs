//! The write lock, taken by a thread for all that it does: its own writes join.

use std::mem;
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

/// A thread that waits for the write lock, in pieces.
///
/// | state | leaves by |
/// | --- | --- |
/// | has asked, or not yet | [`wait`](Self::wait) → has the lock, gave up at the deadline, or has asked again; its place in the order stays for 10 ms |
/// | dropped | – : it gives up its place |
#[derive(Debug)]
pub struct ThreadWait {
    generation: u64,
    deadline: Deadline,
    lock: Arc<ProcessLock>,
    asker: Asker,
}

impl ThreadWait {
    /// Begins to wait, up to `timeout` from now on.
    #[must_use]
    pub fn begin(locker: &Locker, timeout: Duration) -> Self {
        Self {
            generation: fork_generation(),
            deadline: Deadline::after(timeout),
            lock: ProcessLock::of(locker.lock_file()),
            asker: Asker {
                id: ConnectionId::new(),
                claim: Claim::Thread,
                locker: Arc::new(locker.clone()),
                party: Arc::new(NoParty),
            },
        }
    }

    /// Waits for up to `pause`, but at least looks once; `None` if the calling thread has not got
    /// the lock by then.
    ///
    /// # Errors
    ///
    /// Those of [`Locker::acquire`]; never that the thread has it already.
    pub fn wait(&mut self, pause: Duration) -> Result<Option<ThreadHold>, LockError> {
        self.begin_in_child();
        let pause = Deadline::after(pause);
        loop {
            match self.lock.enter(&self.asker, true, |_, _| false) {
                Entry::Inside => return Ok(Some(self.hold())),
                Entry::Failed(error) => return Err(error),
                Entry::Busy => {}
            }
            if self.deadline.is_over() {
                self.lock.forget(self.asker.id);
                return Err(self.asker.locker.timeout_error(&self.deadline, 0));
            }
            let longest = self.deadline.remaining().min(pause.remaining());
            if longest.is_zero() {
                return Ok(None);
            }
            self.lock.sleep(&self.asker, longest.min(LOOK), || true);
        }
    }

    /// A forked child has no place yet, and what its parent shares is not its own.
    fn begin_in_child(&mut self) {
        if self.generation != fork_generation() {
            self.generation = fork_generation();
            let lock = ProcessLock::of(self.asker.locker.lock_file());
            // The parent's, not even to be dropped here.
            mem::forget(mem::replace(&mut self.lock, lock));
            self.asker.id = ConnectionId::new();
        }
    }

    fn hold(&mut self) -> ThreadHold {
        let id = mem::replace(&mut self.asker.id, ConnectionId::new());
        ThreadHold {
            generation: self.generation,
            id,
            lock: Arc::clone(&self.lock),
            is_held: true,
        }
    }
}

impl Drop for ThreadWait {
    fn drop(&mut self) {
        // In a forked child the place is the parent's.
        if self.generation == fork_generation() {
            self.lock.forget(self.asker.id);
        }
    }
}

impl ThreadHold {
    /// Takes the lock, waiting up to `timeout`.
    ///
    /// # Errors
    ///
    /// Those of [`Locker::acquire`]; never that the thread has it already.
    pub fn acquire(locker: &Locker, timeout: Duration) -> Result<Self, LockError> {
        let mut waiting = ThreadWait::begin(locker, timeout);
        loop {
            if let Some(hold) = waiting.wait(Duration::MAX)? {
                return Ok(hold);
            }
        }
    }

    /// Whether this process has it, and not the one that it was forked from.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.generation == fork_generation()
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
        let is_held = mem::take(&mut self.is_held);
        if !is_held || !self.is_ours() {
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
