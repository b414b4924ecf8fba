//! This process's one attachment to a lock file.
//!
//! A process has one attachment for each lock file (device and inode), so two lockers of
//! one file share a descriptor and see each other's turns.

use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicBool, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::acquirer::Acquirer;
use crate::deadline::Deadline;
use crate::error::LockError;
use crate::fair_queue::{FairQueue, Nested};
use crate::lease_party::LeaseEnd;
use crate::lock_file::SharedId;
use crate::lock_options::LockOptions;
use crate::sys::{file, fork};

/// One process's attachment to one lock file.
#[derive(Debug)]
pub(crate) struct Attachment {
    generation: u64,
    /// The path that it was attached by.
    path: PathBuf,
    /// Whose turn it is among the threads and tasks of this process.
    pub(crate) queue: FairQueue<Box<Acquirer>>,
    /// Since when a lease keeps the lock while no one has the turn, on the monotonic clock in
    /// nanoseconds; zero if none does.
    kept_since: AtomicU64,
    /// Whether a thread has the turn, or tries to get it, only to end a lease.
    is_ending: AtomicBool,
}

/// What this process is attached to. A fork locks it first, so that the child finds it whole;
/// it is never held while waiting for anything. Locked before the table of descriptors.
static ATTACHMENTS: Mutex<Vec<Entry>> = Mutex::new(Vec::new());

/// The pause before the lock file is opened again that another program does not share.
const SHARING_PAUSE: Duration = Duration::from_millis(20);

/// An attachment, found by its file or by its path.
#[derive(Debug)]
pub(crate) struct Entry {
    /// Always the identity of the file that the descriptor is open on: a stale one could
    /// match another lock file.
    id: SharedId,
    path: PathBuf,
    attachment: Weak<Attachment>,
}

impl Attachment {
    /// Returns the process's attachment to the lock file of these options. The first call
    /// opens the file, and creates it if it is missing.
    pub(crate) fn attach(options: &LockOptions) -> Result<Arc<Self>, LockError> {
        let path = &options.path;
        let mut entries = lock_entries();
        entries.retain(|entry| entry.attachment.strong_count() > 0);
        let find = |entries: &[Entry], id| {
            let is_same = |entry: &&Entry| entry.path == *path || Some(entry.id.get()) == id;
            entries
                .iter()
                .find(is_same)
                .and_then(|entry| entry.attachment.upgrade())
        };
        let id = file::facts_of_path(path).ok().map(|facts| facts.id);
        if let Some(attachment) = find(&entries, id) {
            return Ok(attachment);
        }
        let acquirer = Acquirer::open(options)?;
        let id = acquirer.file_id().clone();
        // Another process may have replaced the file since we looked.
        if let Some(attachment) = find(&entries, Some(id.get())) {
            return Ok(attachment);
        }
        let attachment = Arc::new(Self {
            generation: fork::generation(),
            path: path.clone(),
            queue: FairQueue::new(Box::new(acquirer)),
            kept_since: AtomicU64::new(0),
            is_ending: AtomicBool::new(false),
        });
        entries.push(Entry {
            id,
            path: path.clone(),
            attachment: Arc::downgrade(&attachment),
        });
        Ok(attachment)
    }

    /// Does the same, but while another program has the lock file open and does not share it, as a
    /// virus scanner on Windows does, tries again until the deadline.
    pub(crate) fn attach_until(
        options: &LockOptions,
        deadline: &Deadline,
    ) -> Result<Arc<Self>, LockError> {
        loop {
            match Self::attach(options) {
                Err(error) if error.is_in_use() && !deadline.is_over() => {
                    thread::sleep(SHARING_PAUSE.min(deadline.remaining()));
                }
                attached => return attached,
            }
        }
    }

    /// Returns the path that it was attached by: where a guard's errors say they happened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this process made the attachment, not its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }

    /// Returns since when a lease keeps the lock while no one has the turn, if one does:
    /// monotonic clock, nanoseconds.
    pub(crate) fn kept_since(&self) -> Option<u64> {
        Some(self.kept_since.load(SeqCst)).filter(|&since| since != 0)
    }

    /// Notes since when a lease keeps the lock; zero if none does any more.
    pub(crate) fn note_kept_since(&self, since: u64) {
        self.kept_since.store(since, SeqCst);
    }

    /// Takes the turn within this process if it is free. A thread that only ends a lease has it for
    /// some microseconds, and is waited for.
    pub(crate) fn try_take(&self) -> Result<Option<Box<Acquirer>>, Nested> {
        loop {
            match self.queue.try_take() {
                Ok(None) if self.is_ending.load(SeqCst) => thread::yield_now(),
                taken => return taken,
            }
        }
    }

    /// Ends the lease that keeps the lock, unless someone has the turn to use the lock.
    pub(crate) fn end_lease_now(&self) {
        if let Ok(Some(acquirer)) = self.try_take() {
            self.end_lease_of(acquirer, LeaseEnd::Close);
        }
    }

    /// Ends the lease that keeps the lock, unless someone has the turn.
    pub(crate) fn end_lease(&self, why: LeaseEnd) {
        self.is_ending.store(true, SeqCst);
        if let Ok(Some(acquirer)) = self.queue.try_take() {
            self.end_lease_of(acquirer, why);
        }
        self.is_ending.store(false, SeqCst);
    }

    fn end_lease_of(&self, mut acquirer: Box<Acquirer>, why: LeaseEnd) {
        self.note_kept_since(0);
        // If the kernel refuses, the next acquisition reports it.
        let _ = acquirer.end_lease(why);
        self.queue.give(acquirer);
    }
}

/// Returns all attachments of this process.
pub(crate) fn all() -> Vec<Arc<Attachment>> {
    let entries = lock_entries();
    entries
        .iter()
        .filter_map(|entry| entry.attachment.upgrade())
        .collect()
}

/// Ends all leases that no hold is on, with the table of attachments locked: before a fork.
pub(crate) fn end_leases(entries: &[Entry]) {
    for attachment in entries
        .iter()
        .filter_map(|entry| entry.attachment.upgrade())
    {
        if attachment.kept_since().is_some() {
            attachment.end_lease(LeaseEnd::Close);
        }
        // The last handle may have gone meanwhile: what is dropped here would lock the table.
    }
}

/// Locks the table of attachments, also for a fork.
pub(crate) fn lock_entries() -> MutexGuard<'static, Vec<Entry>> {
    // Nothing panics with it held, so what it guards is whole.
    ATTACHMENTS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Forgets the attachments that a forked child inherited. They are not dropped: freeing
/// memory is not for a fork handler.
pub(crate) fn forget(entries: &mut Vec<Entry>) {
    mem::forget(mem::take(entries));
}
