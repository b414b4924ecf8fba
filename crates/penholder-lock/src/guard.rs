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
    pub fn release_fair(self) -> Result<(), LockError> {
        self.guard.release_fair()
    }

    /// Notes the statement that runs, for waiting processes: shown by
    /// [`Status`](crate::Status) and in the error of a timeout until the next one is noted or
    /// the lock is released. The first 120 bytes are kept. It costs some nanoseconds, and does
    /// nothing without a queue file or under an ancestor's hold.
    pub fn note_statement(&self, statement: &str) {
        self.guard.note_statement(statement);
    }

    /// Sets where the program asked for what is done under this hold. Waiting processes are
    /// shown it until a statement is noted, and it is recorded with the event if the hold was
    /// long.
    ///
    /// ```
    /// # use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
    /// # fn main() -> Result<(), penholder_lock::LockError> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let locker = WriteLocker::new(directory.path())?;
    /// let mut guard = locker.acquire(DEFAULT_TIMEOUT)?;
    /// guard.set_call_site(std::panic::Location::caller());
    /// let holder = locker.status()?.holder.unwrap();
    /// assert!(holder.statement.unwrap().contains(".rs:"));
    /// # Ok(())
    /// # }
    /// ```
    pub fn set_call_site(&mut self, site: &'static Location<'static>) {
        self.guard.show_call_site(site);
        self.guard.set_call_site(site);
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
    /// It sets an environment variable that names this process. The variable is believed only
    /// while this process lives and holds the lock, and only by its descendants. Keep the guard
    /// until the child has ended.
    ///
    /// A descendant whose own parent ends becomes a child of process 1, and is then no descendant
    /// for the kernel any more. It joins only if it has used this lock before; otherwise it waits
    /// like any process. A program that adopts orphans (`PR_SET_CHILD_SUBREAPER`, as `penholder
    /// run` does) before it starts the child keeps them below itself, and has to reap them.
    pub fn lend_to(&self, child: &mut Command) {
        self.guard.lend_to(child);
    }
}
