//! Taking the lock, from threads.

use std::ffi::OsStr;
use std::io;
use std::path::{self, Path, PathBuf};
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::acquirer::Acquired;
use crate::attachment::Attachment;
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::fair_queue::{Waiter, Wake};
use crate::forks;
use crate::guard::{Guard, Turn};
use crate::hold_file;
use crate::lock_file::{self, Hold};
use crate::lock_options::{LOCK_FILE_NAME, LockOptions};
use crate::mailbox::{Outcome, RequestId};
use crate::pending_request::Offer;
use crate::queue_file::{self, Examined, QueueFileHeader};
use crate::status::{Holder, Snapshot, SqliteAccess, SqliteHolder, Status};
use crate::sys::{file, fork};

/// A write lock between processes, and between the threads of each.
///
/// A process has one descriptor for each lock file, opened at the first acquisition, however
/// many lockers there are. Before that nothing on disk is touched.
#[derive(Debug)]
pub struct Locker {
    pub(crate) options: Arc<LockOptions>,
    generation: u64,
    attachment: OnceLock<Arc<Attachment>>,
    /// Of many tasks that find no attachment, one makes it.
    #[cfg(feature = "tokio")]
    pub(crate) attaching: tokio::sync::Mutex<()>,
}

impl Locker {
    /// Makes a locker of the file [`LOCK_FILE_NAME`] in a directory.
    ///
    /// # Errors
    ///
    /// The directory does not exist or cannot be resolved.
    pub fn in_directory(directory: &Path) -> Result<Self, LockError> {
        if directory.as_os_str().is_empty() {
            return Err(no_file(directory));
        }
        Self::at(&directory.join(LOCK_FILE_NAME))
    }

    /// Makes a locker of this file, which is created if it is missing. The path is made
    /// absolute and links in its directory are resolved now, so that a later change of the
    /// working directory changes nothing.
    ///
    /// # Errors
    ///
    /// The path names no file, or its directory does not exist or cannot be resolved.
    pub fn at(path: &Path) -> Result<Self, LockError> {
        let path = resolve(path)?;
        forks::watch().map_err(|e| LockError::io(&path, "watch for forks", e))?;
        Ok(Self::of(Arc::new(LockOptions::new(path))))
    }

    fn of(options: Arc<LockOptions>) -> Self {
        Self {
            options,
            generation: fork::generation(),
            attachment: OnceLock::new(),
            #[cfg(feature = "tokio")]
            attaching: tokio::sync::Mutex::default(),
        }
    }

    /// Changes what this locker asks for. To be called before the first acquisition.
    #[must_use]
    pub fn with(mut self, change: impl FnOnce(&mut LockOptions)) -> Self {
        change(Arc::make_mut(&mut self.options));
        self
    }

    /// Returns the lock file.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.options.path
    }

    // ---- acquiring -------------------------------------------------------------

    /// Takes the lock, waiting up to `timeout` ([`Duration::ZERO`] tries once).
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](LockError::is_timeout): the text and
    ///   [`holder`](LockError::holder) say who held it.
    /// - [`is_nested`](LockError::is_nested): this thread holds it already.
    /// - [`is_network_file_system`](LockError::is_network_file_system).
    /// - otherwise the lock file cannot be opened or locked; the cause is the error's source.
    pub fn acquire(&self, timeout: Duration) -> Result<Guard, LockError> {
        let attachment = self.attachment_until(|| Deadline::after(timeout))?;
        // If no one is in the way, the clock is not read.
        if let Some(guard) = self.try_on(Arc::clone(&attachment), true)? {
            return Ok(guard);
        }
        self.acquire_on(attachment, &Deadline::after(timeout))
    }

    /// Takes the lock, waiting until a deadline that the caller shares with its other waits.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn acquire_until(&self, deadline: &Deadline) -> Result<Guard, LockError> {
        let attachment = self.attachment_until(|| *deadline)?;
        if let Some(guard) = self.try_on(Arc::clone(&attachment), true)? {
            return Ok(guard);
        }
        self.acquire_on(attachment, deadline)
    }

    fn acquire_on(
        &self,
        attachment: Arc<Attachment>,
        deadline: &Deadline,
    ) -> Result<Guard, LockError> {
        let guard = self.wait_on(attachment, deadline, None, None).lock?;
        // The wait cannot be cancelled.
        guard.ok_or_else(|| timed_out(&self.options, deadline, 0, 0))
    }

    /// Takes the lock if it is free and no process waits for it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for the timeout.
    pub fn try_acquire(&self) -> Result<Option<Guard>, LockError> {
        self.try_on(self.attachment()?, false)
    }

    /// Takes the lock if that needs no waiting: what [`acquire`](Self::acquire) tries first.
    /// Unlike [`try_acquire`](Self::try_acquire) it may pass waiters as
    /// [`QueuePolicy`](crate::QueuePolicy) allows. For a caller that has something to prepare before it
    /// waits.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for the timeout.
    pub fn acquire_without_waiting(&self) -> Result<Option<Guard>, LockError> {
        self.try_on(self.attachment()?, true)
    }

    /// Takes the lock, waiting until a deadline, and leaves a request meanwhile. A holder that
    /// understands it may execute it in its own transaction and reply, and then this wait ends
    /// without the lock. See [`Guard::requests`].
    ///
    /// Nothing is left where there is no queue file, where other users may write it, or if the
    /// request is longer than [`REQUEST_MAX`](crate::REQUEST_MAX) bytes; the call then waits as
    /// [`acquire`](Self::acquire) does. Cancelling a wait behind another thread of this process
    /// ends it only when that thread releases the lock.
    pub fn acquire_with_request(
        &self,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        offer: Option<&Offer<'_>>,
    ) -> Waited {
        match self.attachment_until(|| *deadline) {
            Ok(attachment) => self.wait_on(attachment, deadline, canceller, offer),
            Err(error) => Waited::failed(error),
        }
    }

    /// Takes the lock, waiting until a deadline, but pauses before that, and then returns `None`. A
    /// process that waits in the queue keeps its place: it is to go on soon, because nobody takes
    /// the lock for it when its turn comes, or to [give it up](Self::leave_place).
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire).
    pub fn wait_in_place(
        &self,
        deadline: &Deadline,
        pause: &Deadline,
    ) -> Result<Option<Guard>, LockError> {
        let attachment = self.attachment_until(|| *deadline)?;
        let waiter = Waiter::of_this_thread(());
        let joined = attachment.queue.join(&waiter);
        joined.map_err(|_nested| self.nested_error())?;
        let acquirer = match attachment.queue.wait(&waiter, pause) {
            Wake::Granted(acquirer) => acquirer,
            Wake::TimedOut { .. } | Wake::Finished => return Ok(None),
        };
        attachment.note_kept_since(0);
        let mut turn = Turn::new(attachment, acquirer);
        let ended = turn
            .acquirer()
            .wait_in_place(&self.options, deadline, pause)?;
        match ended {
            Acquired::Held(hold) => Ok(Some(self.guard(turn, hold))),
            Acquired::Cancelled | Acquired::Paused => Ok(None),
            Acquired::TimedOut { ahead } => {
                drop(turn);
                Err(timed_out(&self.options, deadline, 0, ahead))
            }
        }
    }

    /// Gives up the place in the queue that a wait has kept when it paused, unless another thread
    /// has the turn.
    pub fn leave_place(&self) {
        let Some(attachment) = self.known_attachment() else {
            return;
        };
        if let Ok(Some(mut acquirer)) = attachment.try_take() {
            acquirer.leave_place();
            attachment.queue.give(acquirer);
        }
    }

    fn try_on(
        &self,
        attachment: Arc<Attachment>,
        may_barge: bool,
    ) -> Result<Option<Guard>, LockError> {
        let acquirer = match attachment.try_take() {
            Ok(Some(acquirer)) => acquirer,
            Ok(None) => return Ok(None),
            Err(_nested) => return Err(self.nested_error()),
        };
        attachment.note_kept_since(0);
        let mut turn = Turn::new(attachment, acquirer);
        let hold = turn.acquirer().try_take(&self.options, may_barge)?;
        Ok(hold.map(|hold| self.guard(turn, hold)))
    }

    fn wait_on(
        &self,
        attachment: Arc<Attachment>,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        offer: Option<&Offer<'_>>,
    ) -> Waited {
        let mut turn = match self.wait_for_turn(attachment, deadline) {
            Ok(turn) => turn,
            Err(error) => return Waited::failed(error),
        };
        let acquirer = turn.acquirer();
        let (ended, settled) = acquirer.wait(&self.options, deadline, canceller, offer);
        let commit_time = acquirer
            .slot()
            .map_or(Duration::ZERO, |slot| slot.commit_stats().commit_time());
        let lock = match ended {
            Ok(Acquired::Held(hold)) => Ok(Some(self.guard(turn, hold))),
            Ok(Acquired::Cancelled | Acquired::Paused) => Ok(None),
            Ok(Acquired::TimedOut { ahead }) => {
                // Naming the holder may take a while: not at the cost of other threads.
                drop(turn);
                Err(timed_out(&self.options, deadline, 0, ahead))
            }
            Err(error) => Err(error),
        };
        Waited {
            lock,
            id: settled.id,
            outcome: settled.outcome,
            is_decided: settled.is_decided,
            commit_time,
        }
    }

    /// Waits for the turn among the threads and tasks of this process.
    fn wait_for_turn(
        &self,
        attachment: Arc<Attachment>,
        deadline: &Deadline,
    ) -> Result<Turn, LockError> {
        // Mostly it is free, and nothing has to be prepared.
        let taken = attachment.try_take();
        if let Some(acquirer) = taken.map_err(|_nested| self.nested_error())? {
            attachment.note_kept_since(0);
            return Ok(Turn::new(attachment, acquirer));
        }
        let queue = &attachment.queue;
        let waiter = Waiter::of_this_thread(());
        queue.join(&waiter).map_err(|_nested| self.nested_error())?;
        match queue.wait(&waiter, deadline) {
            Wake::Granted(acquirer) => Ok(Turn::new(attachment, acquirer)),
            Wake::TimedOut { ahead } => Err(timed_out(&self.options, deadline, ahead, 0)),
            Wake::Finished => Err(timed_out(&self.options, deadline, 0, 0)),
        }
    }

    pub(crate) fn guard(&self, turn: Turn, hold: Hold) -> Guard {
        Guard::new(&self.options, turn, hold)
    }

    /// Ends the lease that keeps the lock between two holds, if one does, and releases the lock.
    pub fn end_lease(&self) {
        if let Some(attachment) = self.known_attachment() {
            attachment.end_lease_now();
        }
    }

    // ---- looking ---------------------------------------------------------------

    /// Whether the calling thread holds the lock by a guard of this process, so that it would
    /// wait for itself.
    #[must_use]
    pub fn is_held_by_this_thread(&self) -> bool {
        let attachment = self.known_attachment();
        attachment.is_some_and(|attachment| attachment.queue.is_owned_by_this_thread())
    }

    /// Whether others use this lock too: threads of this process at this moment, or processes
    /// that have a slot in its queue file. `true` where that is not known.
    #[must_use]
    pub fn is_shared(&self) -> bool {
        let Ok(attachment) = self.attachment() else {
            return true;
        };
        match attachment.try_take() {
            Ok(Some(acquirer)) => Turn::new(attachment, acquirer).acquirer().is_shared(),
            Ok(None) | Err(_) => true,
        }
    }

    /// Returns who holds the lock, if any process does. It only looks: it creates, takes and
    /// probes nothing.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn holder(&self) -> Result<Option<Holder>, LockError> {
        let path = &self.options.path;
        Holder::of_lock(path, self.model())
            .map_err(|e| LockError::opening(path, "read lock file", e))
    }

    /// Returns the lock as it is seen from outside. It only looks.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn status(&self) -> Result<Status, LockError> {
        let path = &self.options.path;
        Status::of_lock(path, self.model())
            .map_err(|e| LockError::opening(path, "read lock file", e))
    }

    /// Returns the lock as its queue file shows it. It only looks, and at less than
    /// [`status`](Self::status) does: fit for ten times a second.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn snapshot(&self) -> Result<Snapshot, LockError> {
        let path = &self.options.path;
        Snapshot::of_lock(path, self.model())
            .map_err(|e| LockError::opening(path, "read lock file", e))
    }

    /// Runs `examine`, unless another process that opens the same database does so for this one
    /// too: see [`Examined`]. Waits for that until half of the time to the deadline is over, at
    /// most. If there is no queue file, it is made if `may_build` says so. `examine` returns whether
    /// others may be told that it found nothing.
    ///
    /// # Errors
    ///
    /// Those of `examine`.
    pub fn examine_once<E>(
        &self,
        examined: Examined,
        deadline: &Deadline,
        may_build: impl FnOnce() -> bool,
        examine: impl FnOnce() -> Result<bool, E>,
    ) -> Result<(), E> {
        if !self.options.use_queue {
            return examine().map(drop);
        }
        let path = &self.options.path;
        queue_file::examine_once(path, self.model(), examined, deadline, may_build, examine)
    }

    /// Returns the path of the hold file, whose bytes the processes lock that work under another
    /// one's hold. It exists once one has done so.
    #[must_use]
    pub fn hold_file(&self) -> PathBuf {
        hold_file::path_of(&self.options.path)
    }

    /// Returns the path of the queue file.
    #[must_use]
    pub fn queue_file(&self) -> PathBuf {
        queue_file::path_of(&self.options.path)
    }

    /// Returns what the beginning of the queue file says, and why the file is not used if it
    /// is not; `None` if there is none. It only looks.
    ///
    /// # Errors
    ///
    /// The file cannot be read.
    pub fn queue_file_header(&self) -> Result<Option<QueueFileHeader>, LockError> {
        let path = &self.options.path;
        QueueFileHeader::read(path, self.model())
            .map_err(|e| LockError::opening(&self.queue_file(), "read queue file", e))
    }

    fn model(&self) -> Option<&Path> {
        self.options.model.as_deref()
    }

    // ---- errors ----------------------------------------------------------------

    /// Returns the error of [`acquire`](Self::acquire) for a thread that waited until its
    /// deadline behind `ahead` others of this process without asking for the lock itself. It
    /// names the holder.
    #[must_use]
    pub fn timeout_error(&self, deadline: &Deadline, ahead: usize) -> LockError {
        timed_out(&self.options, deadline, ahead, 0)
    }

    /// Returns the error of [`acquire`](Self::acquire) for a thread that holds the lock.
    #[must_use]
    pub fn nested_error(&self) -> LockError {
        LockError::new(&self.options.path, Kind::Nested)
    }

    // ---- the attachment --------------------------------------------------------

    /// Returns the attachment of this process. A locker that a forked child inherited looks it
    /// up each time: the field may have been half written at the fork.
    fn attachment(&self) -> Result<Arc<Attachment>, LockError> {
        match self.known_attachment() {
            Some(attachment) => Ok(attachment),
            None => Attachment::attach(&self.options).map(|attachment| self.keep(attachment)),
        }
    }

    /// Does the same for a caller that waits until a deadline.
    fn attachment_until(
        &self,
        deadline: impl FnOnce() -> Deadline,
    ) -> Result<Arc<Attachment>, LockError> {
        match self.known_attachment() {
            Some(attachment) => Ok(attachment),
            None => Attachment::attach_until(&self.options, &deadline())
                .map(|attachment| self.keep(attachment)),
        }
    }

    /// Returns the attachment if this locker knows it.
    pub(crate) fn known_attachment(&self) -> Option<Arc<Attachment>> {
        if self.generation != fork::generation() {
            return None;
        }
        self.attachment.get().map(Arc::clone)
    }

    /// Keeps the attachment for the next time.
    pub(crate) fn keep(&self, attachment: Arc<Attachment>) -> Arc<Attachment> {
        if self.generation != fork::generation() {
            return attachment;
        }
        Arc::clone(self.attachment.get_or_init(|| attachment))
    }
}

/// A locker of the same file, for the process that clones it: a forked child makes a fast one
/// of its own from one that it inherited.
impl Clone for Locker {
    fn clone(&self) -> Self {
        Self::of(Arc::clone(&self.options))
    }
}

/// How a wait with a request ended.
#[derive(Debug)]
pub struct Waited {
    /// The lock; `None` if the wait was cancelled, or ended because the request was settled.
    ///
    /// # Errors
    ///
    /// As [`Locker::acquire`].
    pub lock: Result<Option<Guard>, LockError>,
    /// The id of the request; `None` if it was never offered.
    pub id: Option<RequestId>,
    /// What became of the request.
    pub outcome: Outcome,
    /// Whether it is decided what became of the request: no other process may still be executing
    /// it, nor begin to.
    pub is_decided: bool,
    /// How long commits take, as the processes that share the lock know it; zero if they do
    /// not.
    pub commit_time: Duration,
}

impl Waited {
    fn failed(error: LockError) -> Self {
        Self {
            lock: Err(error),
            id: None,
            outcome: Outcome::Untouched,
            is_decided: true,
            commit_time: Duration::ZERO,
        }
    }
}

/// Returns the timeout error for a waiter whose deadline passed behind `threads` threads and
/// tasks of this process, the holder included, or behind `processes` processes.
pub(crate) fn timed_out(
    options: &LockOptions,
    deadline: &Deadline,
    threads: usize,
    processes: usize,
) -> LockError {
    let path = &options.path;
    let holder = match lock_file::level(path) {
        Some(level) => Holder::of_byte(path, level.byte()),
        None => Holder::of_lock(path, options.model.as_deref()).unwrap_or(None),
    };
    let outsider = |database| {
        let found = SqliteHolder::find(database, Some(path), SqliteAccess::Write);
        found.filter(|found| found.is_outsider)
    };
    LockError::new(
        path,
        Kind::Timeout {
            deadline: *deadline,
            has_other_database: holder
                .as_ref()
                .zip(options.model.as_deref())
                .is_some_and(|(holder, database)| holder.has_other_database(database, path)),
            holder: holder.map(Box::new),
            outsider: options.model.as_deref().and_then(outsider),
            threads,
            processes,
        },
    )
}

fn no_file(path: &Path) -> LockError {
    let is_empty = path.as_os_str().is_empty();
    let shown = if is_empty {
        Path::new("(empty path)")
    } else {
        path
    };
    let why = "it names no file".to_owned();
    let next = "give the path of a lock file, or of its directory";
    LockError::new(shown, Kind::Refused { why, next })
}

/// Returns the absolute path with the links in its directory resolved. The last part is left:
/// a lock file is never a link, and `open` refuses one.
fn resolve(path: &Path) -> Result<PathBuf, LockError> {
    let failed = |e| LockError::io(path, "resolve lock file", e);
    let name = path.file_name().filter(|name| *name != OsStr::new(""));
    let Some(name) = name else {
        return Err(no_file(path));
    };
    let absolute = path::absolute(path).map_err(failed)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    let directory = file::canonicalize(directory).map_err(failed)?;
    if !directory.is_dir() {
        return Err(failed(io::Error::new(
            io::ErrorKind::NotADirectory,
            "what should be its directory is a file",
        )));
    }
    Ok(directory.join(name))
}
