//! Taking the write lock.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder_core::{
    Deadline, Holder, LockError, Locker, QueueFileHeader, QueuePolicy, Snapshot, Status,
};

use crate::guard::WriteGuard;

/// A write lock between processes, and between the threads of each.
///
/// Cheap to keep and to share: a process has one descriptor for each lock file, opened at the
/// first acquisition, however many lockers there are. Before that nothing on disk is touched.
///
/// ```
/// use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let locker = WriteLocker::new(directory.path())?;
/// {
///     let _guard = locker.acquire(DEFAULT_TIMEOUT)?;
///     // No other process on this machine writes now.
///     assert_eq!(locker.holder()?.unwrap().pid, Some(std::process::id()));
/// } // released here, also by a panic; by the kernel if the process dies
/// assert!(locker.holder()?.is_none());
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct WriteLocker {
    pub(crate) locker: Locker,
}

impl WriteLocker {
    /// Makes a locker of the file [`LOCK_FILE_NAME`](crate::LOCK_FILE_NAME) in this directory.
    ///
    /// # Errors
    ///
    /// The directory does not exist or cannot be resolved.
    pub fn new(dir: impl AsRef<Path>) -> Result<Self, LockError> {
        let locker = Locker::in_directory(dir.as_ref())?;
        Ok(Self { locker })
    }

    /// Makes a locker of this file, which is created if it is missing. The path is made
    /// absolute and links in its directory are resolved now, so that a later change of the
    /// working directory changes nothing.
    ///
    /// # Errors
    ///
    /// The path names no file, or its directory does not exist or cannot be resolved.
    pub fn at(path: impl AsRef<Path>) -> Result<Self, LockError> {
        let locker = Locker::at(path.as_ref())?;
        Ok(Self { locker })
    }

    /// Says what the lock is taken for: shown to processes that wait for it. Control
    /// characters are escaped, and it is cut at 64 bytes.
    #[must_use]
    pub fn label(self, label: impl Into<String>) -> Self {
        let label = Some(label.into());
        self.with(|options| options.label = label)
    }

    /// Gives a lock file that has to be created the permission bits and the group of `model`
    /// (the database), whatever the umask: users who may write the one may then lock the
    /// other.
    #[must_use]
    pub fn permissions_like(self, model: impl Into<PathBuf>) -> Self {
        let model = Some(model.into());
        self.with(|options| options.model = model)
    }

    /// Gives a lock file that has to be created the permission bits and the group of this file
    /// instead, if the database that [`permissions_like`](Self::permissions_like) names does not
    /// exist yet.
    #[doc(hidden)]
    #[must_use]
    pub fn stand_in(self, file: impl Into<PathBuf>) -> Self {
        let file = Some(file.into());
        self.with(|options| options.stand_in = file)
    }

    /// Works on a network file system too, where this lock excludes at most the processes of
    /// this machine. Off by default.
    #[must_use]
    pub fn allow_network_fs(self, allow: bool) -> Self {
        self.with(|options| options.allow_network_fs = allow)
    }

    /// Chooses in which order waiting processes are served; [`QueuePolicy::TimeSliced`] by default. It
    /// applies when this process releases the lock: other processes may have another policy.
    #[must_use]
    pub fn policy(self, policy: QueuePolicy) -> Self {
        self.with(|options| options.policy = policy)
    }

    /// Sets whether to wait in the queue. On by default. Off, it polls the kernel's lock, and
    /// processes in the queue are usually served first: for a directory in which nothing but
    /// the lock file may be created. If the queue file cannot be created, processes poll
    /// anyway.
    #[must_use]
    pub fn queue(self, queue: bool) -> Self {
        self.with(|options| options.use_queue = queue)
    }

    /// Records a hold of this length or longer as an event in the queue file
    /// ([`EventKind::LongHold`](crate::EventKind::LongHold)); by default
    /// [`DEFAULT_TIMEOUT`](crate::DEFAULT_TIMEOUT). If no process waits for a hold, its length
    /// is known to within some milliseconds.
    #[must_use]
    pub fn long_hold_threshold(self, threshold: Duration) -> Self {
        self.with(|options| options.long_hold = threshold)
    }

    fn with(self, change: impl FnOnce(&mut penholder_core::LockOptions)) -> Self {
        Self {
            locker: self.locker.with(change),
        }
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        self.locker.lock_file()
    }

    /// Returns the path of the queue file, in which processes wait.
    #[must_use]
    pub fn queue_file(&self) -> PathBuf {
        self.locker.queue_file()
    }

    /// Returns the path of the hold file, whose bytes the processes lock that work under another
    /// one's hold ([`WriteGuard::lend_to`](crate::WriteGuard::lend_to)). It exists once one has done
    /// so.
    #[must_use]
    pub fn hold_file(&self) -> PathBuf {
        self.locker.hold_file()
    }

    /// Returns what the beginning of the queue file says, and why the file is not used if it
    /// is not; `None` if there is none. It only looks.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn queue_file_header(&self) -> Result<Option<QueueFileHeader>, LockError> {
        self.locker.queue_file_header()
    }

    /// Takes the lock, waiting up to `timeout` ([`Duration::ZERO`] tries once).
    ///
    /// The threads of this process are served in the order in which they came, and so are
    /// processes, as [`QueuePolicy`] says. Where they cannot queue, the kernel's lock is polled
    /// after 5, 10, 20, 40, 50, 50 … ms, for about 2 ms each time.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](LockError::is_timeout): the text and
    ///   [`holder`](LockError::holder) say who held it.
    /// - [`is_nested`](LockError::is_nested): this thread holds it already.
    /// - [`is_network_file_system`](LockError::is_network_file_system).
    /// - otherwise the lock file cannot be opened or locked; the cause is the error's source.
    pub fn acquire(&self, timeout: Duration) -> Result<WriteGuard, LockError> {
        self.locker.acquire(timeout).map(WriteGuard::new)
    }

    /// Takes the lock, waiting until a deadline that the caller shares with its other waits.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_until(&self, deadline: &Deadline) -> Result<WriteGuard, LockError> {
        self.locker.acquire_until(deadline).map(WriteGuard::new)
    }

    /// Takes the lock if it is free and no process waits for it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for the timeout.
    pub fn try_acquire(&self) -> Result<Option<WriteGuard>, LockError> {
        let guard = self.locker.try_acquire()?;
        Ok(guard.map(WriteGuard::new))
    }

    /// Whether the calling thread holds the lock by a guard of this process, so that it would
    /// wait for itself.
    #[must_use]
    pub fn is_held_by_this_thread(&self) -> bool {
        self.locker.is_held_by_this_thread()
    }

    /// Returns who holds the lock, if any process does. It only looks: it creates, takes and
    /// probes nothing.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn holder(&self) -> Result<Option<Holder>, LockError> {
        self.locker.holder()
    }

    /// Returns the lock as it is seen from outside. It only looks.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn status(&self) -> Result<Status, LockError> {
        self.locker.status()
    }

    /// Returns the lock as its queue file shows it. It only looks, and at less than
    /// [`status`](Self::status) does: fit for ten times a second.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, LockError> {
        self.locker.snapshot()
    }
}
