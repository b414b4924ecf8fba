//! The turn and the lock, in the hands of the thread or task that works with them.

use std::mem;
use std::panic::Location;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::time::Duration;

use crate::acquirer::{Acquirer, Released};
use crate::attachment::Attachment;
use crate::commit_stats::CommitStats;
use crate::error::{Kind, LockError};
use crate::inherited_hold::VARIABLE;
use crate::keeper;
use crate::lease_party::LeaseEnd;
use crate::lock_file::Hold;
use crate::lock_options::LockOptions;
use crate::mailbox::{Claim, RemoteRequest};
use crate::queue_file::{BatchSize, Combining, DatabaseWords, Slot};
use crate::status::SqliteHolder;
use crate::sys::file;
use crate::turnstile::{self, QueuePolicy};

/// The turn within this process. Dropping it passes the turn on, on every way out of an
/// acquisition.
#[derive(Debug)]
pub(crate) struct Turn {
    attachment: Arc<Attachment>,
    /// `None` once the turn is passed on.
    acquirer: Option<Box<Acquirer>>,
}

impl Turn {
    pub(crate) fn new(attachment: Arc<Attachment>, acquirer: Box<Acquirer>) -> Self {
        let acquirer = Some(acquirer);
        Self {
            attachment,
            acquirer,
        }
    }

    #[expect(clippy::expect_used, reason = "taken out only in `drop`")]
    pub(crate) fn acquirer(&mut self) -> &mut Acquirer {
        self.acquirer.as_mut().expect("ours until dropped")
    }

    fn is_ours(&self) -> bool {
        self.attachment.is_ours()
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        let Some(acquirer) = self.acquirer.take() else {
            return;
        };
        if self.is_ours() {
            self.attachment.queue.give(acquirer);
        } else {
            // A forked child's copy of what is its parent's, not even to be dropped here.
            mem::forget(acquirer);
        }
    }
}

/// The lock, held. Dropping it releases.
///
/// Unlike [`release`](Self::release), dropping it cannot report a failure.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct Guard {
    options: Arc<LockOptions>,
    /// Passed on after the release.
    turn: Turn,
    /// `None` once the lock is released.
    hold: Option<Hold>,
    /// Where the program asked for what is done.
    call_site: Option<&'static Location<'static>>,
}

impl Guard {
    pub(crate) fn new(options: &Arc<LockOptions>, turn: Turn, hold: Hold) -> Self {
        Self {
            options: Arc::clone(options),
            turn,
            hold: Some(hold),
            call_site: None,
        }
    }

    /// Releases the lock.
    ///
    /// # Errors
    ///
    /// The record could not be blanked (the lock is free all the same), the kernel refused
    /// to unlock, or this is a forked child ([`is_forked`](LockError::is_forked)), whose
    /// parent still holds the lock.
    pub fn release(mut self) -> Result<(), LockError> {
        let policy = self.options.policy;
        self.release_with(policy)
    }

    /// Releases the lock to the first waiter, even within the slice of this process: for a
    /// caller that does not want the lock again at once.
    ///
    /// # Errors
    ///
    /// As [`release`](Self::release).
    pub fn release_fair(mut self) -> Result<(), LockError> {
        self.release_with(QueuePolicy::Fifo)
    }

    fn release_with(&mut self, policy: QueuePolicy) -> Result<(), LockError> {
        let Some(hold) = self.hold.take() else {
            return Ok(());
        };
        let Turn {
            attachment,
            acquirer,
        } = &mut self.turn;
        if !attachment.is_ours() {
            return Err(LockError::new(attachment.path(), Kind::Forked));
        }
        let Some(acquirer) = acquirer else {
            return Ok(());
        };
        let queue = &attachment.queue;
        let more = || !queue.is_empty();
        let released = acquirer.release(&self.options, hold, policy, self.call_site, more)?;
        if let Released::Kept(since) = released {
            attachment.note_kept_since(since);
            keeper::watch();
        }
        Ok(())
    }

    // ---- leases ------------------------------------------------------------------

    /// Returns whether the lock may be kept after this hold, along with what the party of the
    /// locker keeps: see [`begin_lease`](Self::begin_lease).
    #[must_use]
    pub fn may_lease(&mut self) -> bool {
        let Turn {
            attachment,
            acquirer,
        } = &mut self.turn;
        let (Some(acquirer), Some(Hold::Flock)) = (acquirer, self.hold) else {
            return false;
        };
        let more = || !attachment.queue.is_empty();
        attachment.is_ours() && acquirer.may_lease(&self.options, more) && keeper::start()
    }

    /// Lets the lock be kept after this hold, until the slice of this process is over or it
    /// stops writing. It is released after the party has released what it keeps.
    pub fn begin_lease(&mut self) {
        if let Some(acquirer) = &mut self.turn.acquirer {
            acquirer.begin_lease(&self.options);
        }
    }

    /// Ends the lease, but not this hold: the party releases what it keeps.
    pub fn forgo_lease(&self, why: LeaseEnd) {
        if let (Some(acquirer), true) = (&self.turn.acquirer, self.turn.is_ours()) {
            acquirer.forgo_lease(why);
        }
    }

    /// Returns whether this hold goes on with the lock that the last one of this locker kept, right
    /// after that one.
    #[must_use]
    pub fn is_resumed(&self) -> bool {
        let acquirer = self.turn.acquirer.as_ref();
        acquirer.is_some_and(|acquirer| acquirer.is_resumed())
    }

    /// Lets a child process work under this hold: penholder used inside it joins instead of
    /// waiting for this process. Several such children exclude one another.
    pub fn lend_to(&self, child: &mut Command) {
        if let (Some(acquirer), Some(hold)) = (&self.turn.acquirer, self.hold) {
            child.env(VARIABLE, acquirer.lend(&self.options, hold));
        }
    }

    /// Makes the hold, which a task had, the calling thread's.
    #[cfg(feature = "tokio")]
    pub fn bind_to_this_thread(&self) {
        if self.turn.is_ours() {
            self.turn.attachment.queue.bind_to_this_thread();
        }
    }

    /// Lets any thread of this process use the hold and release it: none holds the lock already when it
    /// asks for it.
    pub fn unbind_from_thread(&self) {
        if self.turn.is_ours() {
            self.turn.attachment.queue.unbind();
        }
    }

    /// Our slot, while we hold the kernel's lock itself.
    fn slot(&self) -> Option<&Slot> {
        if self.hold != Some(Hold::Flock) || !self.turn.is_ours() {
            return None;
        }
        self.turn.acquirer.as_ref()?.slot()
    }

    // ---- what others see -------------------------------------------------------

    /// Notes the statement that runs, for waiting processes: shown in the status and in the
    /// error of a timeout until the next one is noted or the lock is released. The first 120
    /// bytes are kept. It costs some nanoseconds, and does nothing without a queue file or
    /// under an ancestor's hold.
    pub fn note_statement(&self, statement: &str) {
        if let Some(slot) = self.slot() {
            slot.note_statement(statement);
        }
    }

    /// Notes a place in the program, shown to waiting processes instead of a statement.
    pub fn show_call_site(&self, place: &Location<'_>) {
        if let Some(slot) = self.slot() {
            slot.show_call_site(place);
        }
    }

    /// Returns the statement that was noted last, as it is shown; `None` for a place.
    #[must_use]
    pub fn noted_statement(&self) -> Option<String> {
        let noted = self.slot()?.noted()?;
        (!noted.is_place).then_some(noted.text)
    }

    /// Notes where the program asked for what is done: kept until the release, and recorded
    /// with the event if the hold was long.
    pub fn set_call_site(&mut self, site: &'static Location<'static>) {
        self.call_site = Some(site);
    }

    /// Returns the pid of the process that had died with the lock, if this hold began by
    /// recovering it.
    #[must_use]
    pub fn recovered_from(&self) -> Option<u32> {
        self.slot()?;
        self.turn.acquirer.as_ref()?.recovered()
    }

    /// Notes, for waiting processes, that this hold waits for a process that has SQLite's own lock
    /// without the write lock. To be called again now and then, while that lasts.
    pub fn note_outsider(&self, found: &SqliteHolder) {
        if let (Some(acquirer), Some(_)) = (&self.turn.acquirer, self.slot()) {
            acquirer.note_outsider(found);
        }
    }

    /// Says that this hold does not wait for it any more, and records for how long it did.
    /// `is_over`: the other process does not have that lock any more.
    pub fn end_outsider(&self, waited: Duration, is_over: bool) {
        if let (Some(acquirer), Some(_)) = (&self.turn.acquirer, self.slot()) {
            acquirer.end_outsider(&self.options, waited, is_over);
        }
    }

    // ---- waiting processes -----------------------------------------------------

    /// Whether another process waits in the queue.
    #[must_use]
    pub fn is_awaited(&self) -> bool {
        let acquirer = self.turn.acquirer.as_ref();
        acquirer.is_some_and(|acquirer| acquirer.is_awaited())
    }

    /// Returns how many processes wait, approximately.
    #[must_use]
    pub fn count_waiters(&self) -> usize {
        let slot = self.slot();
        slot.map_or(0, |slot| turnstile::count_waiters(slot) as usize)
    }

    /// Returns how many waiting processes have left a request, approximately.
    #[must_use]
    pub fn count_requests(&self) -> usize {
        self.slot().map_or(0, Slot::count_requests)
    }

    /// Returns the requests with this fingerprint that waiting processes have left, in the
    /// order of the queue.
    ///
    /// To execute one: in a transaction that excludes every other holder (the lock file may
    /// have been deleted under us), look up whether a batch has executed it already,
    /// [`claim`](Self::claim) it, execute it, leave the [`reply`](Self::reply), record in the
    /// same transaction that it was executed, commit, and only then
    /// [`acknowledge`](Self::acknowledge) it.
    #[must_use]
    pub fn requests(&self, fingerprint: u64) -> Vec<RemoteRequest> {
        let slot = self.slot();
        slot.map_or_else(Vec::new, |slot| slot.requests(fingerprint))
    }

    /// Says that this process may execute these requests, until the returned value is dropped:
    /// from before the transaction begins until it is over. Removes the requests of which that
    /// cannot be said; `None` if there are none.
    #[must_use]
    pub fn begin_combining(&self, requests: &mut Vec<RemoteRequest>) -> Option<Combining> {
        self.slot()?.begin_combining(requests)
    }

    /// Claims requests, unless their owners have withdrawn them; returns which were claimed. If the
    /// queue file may have been overwritten, the kernel is asked whether their owners wait.
    #[must_use]
    pub fn claim(
        &self,
        requests: &[&RemoteRequest],
        sequence: u64,
        batch: [u64; 2],
        combining: &Combining,
    ) -> Vec<bool> {
        let claim = Claim {
            sequence,
            batch,
            pid: std::process::id(),
        };
        match self.slot() {
            Some(slot) => slot.claim_requests(requests, claim, combining),
            None => vec![false; requests.len()],
        }
    }

    /// Returns the claim on a request, if it is claimed. At its deadline the owner leaves the
    /// queue, so that [`requests`](Self::requests) does not return the request any more, and
    /// waits a moment for the outcome.
    #[must_use]
    pub fn current_claim(&self, request: &RemoteRequest) -> Option<Claim> {
        self.slot()?.current_claim(request)
    }

    /// Leaves the reply of this batch to a claimed request, which is valid once it is
    /// acknowledged. Returns `false` if it is longer than [`REPLY_MAX`](crate::REPLY_MAX) bytes.
    #[must_use]
    pub fn reply(&self, request: &RemoteRequest, batch: [u64; 2], reply: &[u8]) -> bool {
        let slot = self.slot();
        slot.is_some_and(|slot| slot.reply(request, batch, reply))
    }

    /// Says that requests which this batch claims were committed, and wakes their owners. Drop
    /// the [`Combining`] before: the transaction is over.
    /// The next waiter is left asleep if its request has this fingerprint.
    pub fn acknowledge(&self, requests: &[&RemoteRequest], batch: [u64; 2], fingerprint: u64) {
        if let Some(slot) = self.slot() {
            slot.acknowledge(requests, batch, fingerprint);
        }
    }

    /// Says that requests were committed by earlier batches, which are given by their ids, and
    /// wakes their owners.
    pub fn acknowledge_found(
        &self,
        requests: &[(RemoteRequest, [u64; 2])],
        combining: &Combining,
        fingerprint: u64,
    ) {
        if let Some(slot) = self.slot() {
            slot.acknowledge_found(requests, combining, fingerprint);
        }
    }

    /// Says that no holder will execute a request: its owner waits for the lock.
    pub fn refuse(&self, request: &RemoteRequest) {
        if let Some(slot) = self.slot() {
            slot.refuse(request);
        }
    }

    /// Sets how long the slice of this process lasts: longer than others, while all who wait have
    /// left a request with this fingerprint, which this process executes, and none has waited for
    /// longer than `longest`.
    pub fn set_combining_slice(&mut self, fingerprint: u64, longest: Duration) {
        if self.slot().is_none() {
            return;
        }
        if let Some(acquirer) = &mut self.turn.acquirer {
            acquirer.set_combining_slice(fingerprint, longest);
        }
    }

    /// Returns a random id that is never returned again; `None` without a queue file.
    #[must_use]
    pub fn unique_id(&self) -> Option<[u64; 2]> {
        self.slot().map(|slot| slot.unique_id().0)
    }

    // ---- leases ----------------------------------------------------------------

    /// Returns whether there is a queue file that this hold was taken through.
    #[must_use]
    pub fn has_queue(&self) -> bool {
        self.slot().is_some()
    }

    /// Returns what the processes that use a database share in the queue file; `None` without one.
    /// They outlive the guard: keep them, and ask again when they are not
    /// [current](DatabaseWords::is_current).
    #[must_use]
    pub fn database_words(&self, database: &Path) -> Option<DatabaseWords> {
        let slot = self.slot()?;
        let id = file::facts_of_target(database).ok()?.id;
        slot.database_words(id.dev, id.ino)
    }

    // ---- statistics ------------------------------------------------------------

    /// Returns what the processes that share this lock know of their commits; `None` without
    /// a queue file.
    #[must_use]
    pub fn commit_stats(&self) -> Option<CommitStats<'_>> {
        self.slot().map(Slot::commit_stats)
    }

    /// Counts a transaction that several writes shared.
    pub fn count_batch(&self, size: BatchSize) {
        if let Some(slot) = self.slot() {
            slot.count_batch(size);
        }
    }

    /// Records that this process executed `writes` writes of others, the first of which has
    /// the pid `other`.
    pub fn record_remote_writes(&self, other: u32, writes: u64) {
        if let (Some(acquirer), Some(_)) = (&self.turn.acquirer, self.slot()) {
            acquirer.record_remote_writes(&self.options, other, writes);
        }
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        // A caller that wants to know of a failure calls `release`.
        let policy = self.options.policy;
        let _ = self.release_with(policy);
    }
}
