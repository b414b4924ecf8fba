//! The write lock, held by a thread.

use std::marker::PhantomData;
use std::panic::Location;
use std::process::Command;

use penholder_core::{Guard, LockError};

/// The lock, held. Dropping it releases; the kernel releases it when the process dies, however
/// it dies.
///
/// It stays with the thread that took it (it is not `Send`), because that is how a nested
/// acquisition is recognised. In a forked child dropping it does nothing, and the parent still
/// holds the lock.
///
/// ```compile_fail
/// # use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
/// let guard = WriteLocker::new(".").unwrap().acquire(DEFAULT_TIMEOUT).unwrap();
/// std::thread::spawn(move || drop(guard)); // does not compile
/// ```
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct WriteGuard {
    guard: Guard,
    stays_with_its_thread: PhantomData<*const ()>,
}

impl WriteGuard {
    pub(crate) fn new(guard: Guard) -> Self {
        Self {
            guard,
            stays_with_its_thread: PhantomData,
        }
    }

    /// Releases the lock, and reports whether that succeeded. Dropping the guard releases it
    /// without a report.
    ///
    /// # Errors
    ///
    /// The record could not be blanked (the lock is free all the same), the kernel refused to
    /// unlock, or this is a forked child ([`is_forked`](LockError::is_forked)), whose parent
    /// still holds the lock.
    pub fn release(self) -> Result<(), LockError> {
        self.guard.release()
    }

    /// Releases the lock to the first waiter, even within the time slice of this process: for
    /// a caller that does not want the lock again at once.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    pub fn hand_over(self) -> Result<(), LockError> {
        self.guard.release_fair()
    }

    /// Notes the statement that runs, for waiting processes: shown by
    /// [`Status`](crate::Status) and in the error of a timeout until the next one is noted or
    /// the lock is released. The first 120 bytes are kept. It costs some nanoseconds, and does
    /// nothing without a queue file or under an ancestor's hold.
    pub fn note_statement(&self, statement: &str) {
        self.guard.note_statement(statement);
    }

    /// Notes a place in the program, shown to waiting processes instead of a statement, for
    /// work that is no statement.
    pub fn note_place(&self, place: &Location<'_>) {
        self.guard.note_place(place);
    }

    /// Notes where the program asked for what is done: kept until the release, and recorded
    /// with the event if the hold was long.
    pub fn note_call_site(&mut self, site: &'static Location<'static>) {
        self.guard.note_call_site(site);
    }

    /// Returns the pid of the process that had died with the lock, if this hold began by
    /// recovering it.
    #[must_use]
    pub fn recovered_from(&self) -> Option<u32> {
        self.guard.recovered_from()
    }

    /// Whether another process waits in the queue.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        self.guard.is_awaited()
    }

    /// Lets a child process work under this hold: penholder used inside it joins instead of
    /// waiting for this process. Several such children exclude one another.
    ///
    /// It sets an environment variable that names this process, and that is believed only
    /// while this process lives and holds the lock. Keep the guard until the child has ended.
    pub fn lend_to(&self, child: &mut Command) {
        self.guard.lend_to(child);
    }
}
