//! Taking the write lock from tasks of a tokio runtime.

use std::process::Command;
use std::time::Duration;

use penholder_core::{Deadline, Guard, LockError};

use crate::guard::WriteGuard;
use crate::locker::WriteLocker;

impl WriteLocker {
    /// Takes the lock, waiting up to `timeout` from now without blocking the thread: what
    /// [`acquire`](Self::acquire) does, for tasks of a tokio runtime.
    ///
    /// Threads and tasks of this process are served in the order in which they came. A task
    /// that holds the lock and asks for it again waits for itself until its timeout: unlike a
    /// thread, it cannot be recognised. So does a thread that holds the lock and blocks on
    /// this future.
    ///
    /// No thread of the runtime waits. It makes a few short system calls, as it does at the
    /// release. A blocking thread of the runtime's pool opens files, waits for other processes
    /// and finds out who is in the way; at most one such thread waits at a time.
    ///
    /// Dropping the future gives its place back, and the lock if it has just come. A future
    /// that is kept but not polled may hold both: poll it until it is ready, or drop it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for nesting; and an error if the runtime shuts
    /// down meanwhile.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without a timer.
    pub fn acquire_async(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<AsyncWriteGuard, LockError>> + Send {
        let deadline = Deadline::after(timeout);
        async move {
            let guard = self.locker.acquire_until_async(deadline).await?;
            Ok(AsyncWriteGuard { guard })
        }
    }

    /// Takes the lock, waiting until a deadline that the caller shares with its other waits.
    ///
    /// # Errors
    ///
    /// As [`acquire_async`](Self::acquire_async).
    ///
    /// # Panics
    ///
    /// As [`acquire_async`](Self::acquire_async).
    pub async fn acquire_until_async(
        &self,
        deadline: &Deadline,
    ) -> Result<AsyncWriteGuard, LockError> {
        let guard = self.locker.acquire_until_async(*deadline).await?;
        Ok(AsyncWriteGuard { guard })
    }
}

/// The lock, held by a task. Dropping it releases, which takes a few short system calls; the
/// kernel releases it when the process dies.
///
/// It may cross an `.await` and move to another thread. Every other process waits meanwhile,
/// so keep that short, and never wait for something that itself needs the lock. To find every
/// such place, add to `clippy.toml`:
///
/// ```toml
/// await-holding-invalid-types = ["penholder_lock::AsyncWriteGuard"]
/// ```
///
/// In a forked child dropping it does nothing, as for a [`WriteGuard`].
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct AsyncWriteGuard {
    guard: Guard,
}

impl AsyncWriteGuard {
    /// Releases the lock, and reports whether that succeeded. Dropping the guard releases it
    /// without a report.
    ///
    /// # Errors
    ///
    /// As [`WriteGuard::release`].
    pub fn release(self) -> Result<(), LockError> {
        self.guard.release()
    }

    /// Ties the hold to this thread: for blocking work under the lock, on a blocking thread,
    /// where a nested acquisition is then recognised.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
    /// # let directory = tempfile::tempdir()?;
    /// # let locker = WriteLocker::new(directory.path())?;
    /// let guard = locker.acquire_async(DEFAULT_TIMEOUT).await?;
    /// tokio::task::spawn_blocking(move || {
    ///     let guard = guard.into_blocking();
    ///     // … write to the database …
    ///     guard.release()
    /// })
    /// .await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_blocking(self) -> WriteGuard {
        self.guard.bind_to_this_thread();
        WriteGuard::new(self.guard)
    }

    /// Lets a child process work under this hold: [`WriteGuard::lend_to`].
    pub fn lend_to(&self, child: &mut Command) {
        self.guard.lend_to(child);
    }
}
