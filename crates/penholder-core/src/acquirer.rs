//! Taking and releasing the lock for this process: the kernel's lock, the queue of
//! processes, the record.
//!
//! A process has one `Acquirer` for each lock file; the thread or task that has the turn
//! within the process has it in its hands.
//!
//! | state | turn | `flock` or byte lock | record |
//! | --- | --- | --- | --- |
//! | at rest | free | not ours | blank, or another process's, or ours if others wait |
//! | waiting | the asking thread's | not ours | the holder's |
//! | held | the holding thread's | ours, on the file that the path names | ours |
//! | kept, during a lease | free | ours | ours |
//! | held under an ancestor | the holding thread's | the byte of our level is ours | the ancestor's |
//! | releasing | the holding thread's | ours, then not | blank if no process waits, otherwise left to the next holder |

use std::panic::Location;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, OnceLock};
use std::thread;
use std::time::Duration;

use crate::backoff::{self, Backoff};
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::LockError;
use crate::lease::Lease;
use crate::lease_party::LeaseEnd;
use crate::lock_file::{self, Hold, KernelAttempt, LockFile, SharedId};
use crate::lock_options::LockOptions;
use crate::mailbox::Outcome;
use crate::membership::Membership;
use crate::pending_request::{Offer, PendingRequest};
use crate::queue_file::{Counter, EventRecord, Histogram, SettledRequest, Slot};
use crate::running_statement;
use crate::status::{EventKind, SqliteHolder};
use crate::sys::clock;
use crate::time::nanos;
use crate::turnstile::{self, KernelLock, QueuePolicy, Taken, WaitEnd, WaitLimits};

/// How waiting for the lock ended.
#[derive(Debug)]
pub(crate) enum Acquired {
    Held(Hold),
    /// The deadline passed while `ahead` processes were before us in the queue.
    TimedOut {
        ahead: usize,
    },
    /// The wait was cancelled, or ended because its request was settled.
    Cancelled,
    /// The wait has paused, and keeps its place in the queue.
    Paused,
}

/// What ends a wait besides the lock.
#[derive(Debug, Clone, Copy)]
struct Limits<'a> {
    deadline: &'a Deadline,
    /// When it pauses, if it does.
    pause: Option<&'a Deadline>,
    canceller: Option<&'a Canceller>,
}

/// The lock of one process on one lock file.
#[derive(Debug)]
pub(crate) struct Acquirer {
    file: LockFile,
    membership: Membership,
    /// The pid of the holder that had died with the lock when it was last taken.
    recovered: Option<u32>,
    /// The pid of a process that this holder waited for, because that has SQLite's lock without
    /// the write lock; zero if there was none.
    outsider: AtomicU32,
    /// What may be kept after this hold, or is kept after the last one.
    lease: Option<Lease>,
    /// Whether this hold goes on with a lock that was kept, right after the last one.
    is_resumed: bool,
    /// The length of the lock file, as of the last time that its lock was taken.
    length: u64,
}

/// What became of the lock at a release.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Released {
    Free,
    /// It is kept for the next hold of this process, since this time on the monotonic clock.
    Kept(u64),
}

impl Acquirer {
    pub(crate) fn open(options: &LockOptions) -> Result<Self, LockError> {
        Ok(Self {
            file: LockFile::open(options)?,
            membership: Membership::default(),
            recovered: None,
            outsider: AtomicU32::new(0),
            lease: None,
            is_resumed: false,
            length: 0,
        })
    }

    pub(crate) fn file_id(&self) -> &SharedId {
        self.file.shared_id()
    }

    // ---- acquiring -------------------------------------------------------------

    /// Takes the lock if it is free and our turn; with `may_barge`, also where the policy
    /// lets a running process pass waiters.
    pub(crate) fn try_take(
        &mut self,
        options: &LockOptions,
        may_barge: bool,
    ) -> Result<Option<Hold>, LockError> {
        if let Some(level) = self.file.level(&options.path) {
            return self.file.try_lock_under(options, level);
        }
        if self.resume(options, may_barge) {
            return Ok(Some(Hold::Flock));
        }
        self.membership.join(options, self.file.identity());
        let mut kernel = KernelAttempt::new(&mut self.file, options);
        let (now, taken) = match self.membership.member(options) {
            Some((slot, participant)) => {
                let now = participant.begin(slot);
                let taken = participant.try_take(slot, &mut kernel, now, may_barge)?;
                (now.nanos, taken)
            }
            None => {
                let now = clock::monotonic();
                let taken = kernel.try_lock(now)?.then_some(Taken {
                    fresh: true,
                    recovered: None,
                    passed_over: None,
                });
                (now, taken)
            }
        };
        self.length = kernel.length;
        let Some(taken) = taken else {
            return Ok(None);
        };
        self.publish_hold(options, &taken, now, 0);
        Ok(Some(Hold::Flock))
    }

    // ---- leases ------------------------------------------------------------------

    /// Whether the lock may be kept after this hold: its caller comes back quickly, or another
    /// thread of this process waits (`more`).
    pub(crate) fn may_lease(&mut self, options: &LockOptions, more: impl FnOnce() -> bool) -> bool {
        if options.lease.is_none() || options.policy != QueuePolicy::TimeSliced {
            return false;
        }
        let member = self.membership.holding_member();
        member.is_some_and(|(_, participant)| participant.is_soon() || more())
    }

    /// Begins a lease, or goes on with it: the lock may be kept after this hold, along with what
    /// the party of these options keeps.
    pub(crate) fn begin_lease(&mut self, options: &Arc<LockOptions>) {
        if self.lease.is_none() {
            self.lease = Some(Lease {
                options: Arc::clone(options),
                since: self.membership.taken_at(),
                is_kept: false,
                forgone: OnceLock::new(),
                holds: 0,
            });
            crate::failpoint!("lease_begun");
        }
    }

    /// Ends the lease with this hold: what was kept along with the lock is released now, and the
    /// lock at the end of the hold.
    pub(crate) fn forgo_lease(&self, why: LeaseEnd) {
        if let Some(lease) = &self.lease {
            // The first reason counts.
            let _ = lease.forgone.set(why);
            lease.release();
        }
    }

    /// Whether the lock is kept.
    fn is_kept(&self) -> bool {
        self.lease.as_ref().is_some_and(|lease| lease.is_kept)
    }

    /// Takes up the lock that was kept, if the slice is not over; otherwise releases it.
    fn resume(&mut self, options: &LockOptions, may_barge: bool) -> bool {
        if !self.is_kept() {
            return false;
        }
        // Strict order holds also among the lockers of one process.
        let may_barge = may_barge && options.policy == QueuePolicy::TimeSliced;
        let may_resume = may_barge || !self.is_awaited();
        let member = self.membership.holding_member().filter(|_| may_resume);
        let Some(now) = member.and_then(|(slot, participant)| participant.resume(slot)) else {
            let is_own = self
                .lease
                .as_ref()
                .is_some_and(|lease| lease.is_of(options));
            let why = if is_own {
                LeaseEnd::of_slice(self.is_awaited())
            } else {
                // At the end of a slice the party may wait, and a task of another locker must not.
                LeaseEnd::Other
            };
            // A record that cannot be blanked is no reason to refuse the next hold.
            let _ = self.end_lease(why);
            return false;
        };
        let is_same = match &mut self.lease {
            Some(lease) if lease.is_of(options) => {
                lease.is_kept = false;
                true
            }
            // Another locker of this process goes on without it.
            Some(_) | None => {
                if let Some(former) = self.lease.take() {
                    self.release_with_party(&former, LeaseEnd::Other);
                }
                false
            }
        };
        let taken = Taken {
            fresh: false,
            recovered: None,
            passed_over: None,
        };
        self.publish_hold(options, &taken, now, 0);
        let member = self.membership.holding_member();
        self.is_resumed = is_same && member.is_some_and(|(_, participant)| participant.came_back());
        crate::failpoint!("lease_resumed");
        true
    }

    /// Whether this hold goes on with the lock that the last one of the same locker kept, right
    /// after that one.
    pub(crate) fn is_resumed(&self) -> bool {
        self.is_resumed
    }

    /// Ends the lease between two holds, if there is one, and releases the lock.
    pub(crate) fn end_lease(&mut self, why: LeaseEnd) -> Result<(), LockError> {
        let Some(lease) = self.lease.take_if(|lease| lease.is_kept) else {
            return Ok(());
        };
        self.release_with_party(&lease, why);
        let mut kernel = KernelAttempt::new(&mut self.file, &lease.options);
        let Some((slot, participant)) = self.membership.holding_member() else {
            return kernel.unlock(true);
        };
        slot.note_kept(false);
        participant.end_kept(slot);
        participant.release(slot, &mut kernel, QueuePolicy::Fifo, || false)
    }

    /// Ends a lease for its party, with the lock held.
    fn release_with_party(&self, lease: &Lease, why: LeaseEnd) {
        if let Some(gap) = lease.end(why) {
            self.record_event(&lease.options, EventKind::OutsiderWrote, 0, nanos(gap));
        }
    }

    /// Waits for the lock until the deadline, or until the pause. In the queue of processes, the next
    /// wait goes on in the same place.
    pub(crate) fn wait_in_place(
        &mut self,
        options: &LockOptions,
        deadline: &Deadline,
        pause: &Deadline,
    ) -> Result<Acquired, LockError> {
        let limits = Limits {
            deadline,
            pause: Some(pause),
            canceller: None,
        };
        self.wait_with(options, &limits, &mut PendingRequest::new(None))
    }

    /// Gives up the place in the queue of a wait that has paused.
    pub(crate) fn leave_place(&mut self) {
        self.membership.leave_place();
    }

    /// Waits for the lock until the deadline, or until it is cancelled. A request is offered
    /// meanwhile: if it is settled, the wait ends as if it was cancelled. Returns what became
    /// of the request in any case.
    pub(crate) fn wait(
        &mut self,
        options: &LockOptions,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        offer: Option<&Offer<'_>>,
    ) -> (Result<Acquired, LockError>, SettledRequest) {
        let mut pending = PendingRequest::new(offer);
        let limits = Limits {
            deadline,
            pause: None,
            canceller,
        };
        let ended = self.wait_with(options, &limits, &mut pending);
        if let Some(slot) = self.membership.slot() {
            pending.settle(slot);
        }
        (ended, pending.into_settled())
    }

    fn wait_with(
        &mut self,
        options: &LockOptions,
        limits: &Limits<'_>,
        pending: &mut PendingRequest<'_>,
    ) -> Result<Acquired, LockError> {
        let Limits {
            deadline,
            pause: pauses_at,
            canceller,
        } = *limits;
        let mut backoff = Backoff::new();
        loop {
            if let Some(hold) = self.try_take(options, true)? {
                return Ok(Acquired::Held(hold));
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                self.record_short_timeout(options, deadline);
                return Ok(Acquired::TimedOut { ahead: 0 });
            }
            if canceller.is_some_and(Canceller::is_cancelled) {
                return Ok(Acquired::Cancelled);
            }
            let may_queue = self.file.level(&options.path).is_none();
            if may_queue && self.membership.member(options).is_some() {
                let ended = self.wait_at_turnstile(options, limits, pending)?;
                if let Some(ended) = ended {
                    return Ok(ended);
                }
                if *pending.outcome() != Outcome::Untouched {
                    return Ok(Acquired::Cancelled);
                }
                continue;
            }
            let left = pauses_at.map_or(remaining, Deadline::remaining);
            if left.is_zero() {
                return Ok(Acquired::Paused);
            }
            let pause = backoff.pause(remaining.min(left));
            match canceller {
                Some(canceller) => canceller.sleep(pause),
                None => thread::sleep(pause),
            }
            if backoff.is_due(self.membership.is_full())
                && let Some(hold) = self.try_often(options, deadline)?
            {
                return Ok(Acquired::Held(hold));
            }
        }
    }

    /// Tries for about the length of a slice. Processes that queue pass the lock on within
    /// microseconds: a process that does not would seldom find it free by one try.
    fn try_often(
        &mut self,
        options: &LockOptions,
        deadline: &Deadline,
    ) -> Result<Option<Hold>, LockError> {
        for _ in 0..backoff::TRIES {
            if let Some(hold) = self.try_take(options, true)? {
                return Ok(Some(hold));
            }
            if deadline.is_over() {
                break;
            }
            thread::sleep(backoff::TRY_PAUSE);
        }
        Ok(None)
    }

    /// Waits in the queue of processes, with the request offered. Returns `None` if the
    /// queue file turns out not to be the one that the others use.
    fn wait_at_turnstile(
        &mut self,
        options: &LockOptions,
        limits: &Limits<'_>,
        pending: &mut PendingRequest<'_>,
    ) -> Result<Option<Acquired>, LockError> {
        let canceller = limits.canceller;
        self.membership.update_label(options);
        let Some((slot, participant)) = self.membership.member(options) else {
            return Ok(None);
        };
        pending.offer_in(slot);
        let begun = clock::monotonic();
        let remaining = nanos(limits.deadline.remaining());
        let pause = limits
            .pause
            .map_or(u64::MAX, |pause| nanos(pause.remaining()));
        let limits = WaitLimits {
            since: begun,
            until: begun.saturating_add(remaining),
            pauses_at: begun.saturating_add(pause),
            is_cancelled: &|| {
                canceller.is_some_and(Canceller::is_cancelled) || pending.is_settled(slot)
            },
            is_outdated: &|| !slot.is_current(),
            has_request: pending.is_offered(),
        };
        let mut kernel = KernelAttempt::new(&mut self.file, options).noting_in(slot);
        let watched = canceller.map(|canceller| canceller.watch(slot.waker()));
        let ended = participant.wait(slot, &mut kernel, &limits)?;
        drop(watched);
        self.length = kernel.length;
        let unqueued_holder = kernel.unqueued_holder;
        let is_late = matches!(ended, WaitEnd::TimedOut { .. });
        let is_replied = is_late && pending.end_at_deadline(slot);
        if ended == WaitEnd::Outdated {
            pending.settle(slot);
        }
        if let Some(pid) = unqueued_holder {
            let waited = clock::monotonic().saturating_sub(begun);
            self.record_event(options, EventKind::UnqueuedHolder, pid, waited);
        }
        Ok(match ended {
            WaitEnd::Taken(taken) => {
                let now = self.membership.taken_at();
                self.publish_hold(options, &taken, now, now.saturating_sub(begun));
                Some(Acquired::Held(Hold::Flock))
            }
            WaitEnd::TimedOut { .. } if is_replied => Some(Acquired::Cancelled),
            WaitEnd::TimedOut { ahead } => {
                let in_the_way = unqueued_holder.unwrap_or_else(|| self.pid_in_the_way());
                self.record_event(options, EventKind::Timeout, in_the_way, remaining);
                Some(Acquired::TimedOut { ahead })
            }
            WaitEnd::Cancelled => Some(Acquired::Cancelled),
            WaitEnd::Paused => Some(Acquired::Paused),
            WaitEnd::Outdated => {
                self.membership.reset();
                None
            }
        })
    }

    /// The lock is ours, after waiting `waited` nanoseconds in the queue: says so in the lock
    /// file and in the queue file.
    fn publish_hold(&mut self, options: &LockOptions, taken: &Taken, now: u64, waited: u64) {
        if taken.fresh || !self.file.record_fits(options) {
            self.file.publish(options, now, self.length);
            crate::failpoint!("published");
        }
        self.membership
            .rebuild_if_invalid(options, self.file.identity());
        self.recovered = None;
        self.is_resumed = false;
        let Some(slot) = self.membership.slot() else {
            return;
        };
        self.outsider.store(0, Relaxed);
        slot.clear_statement();
        slot.note_kept(false);
        if slot.has_outsider_with_write_lock() {
            slot.clear_outsider();
        }
        slot.count_as_holder(Counter::Acquisitions);
        slot.record(Histogram::Waits, waited);
        if waited > 0 {
            slot.count_as_holder(Counter::Contended);
        }
        let pid = |index| slot.pid(index);
        // One that ended between two holds left nothing half done.
        let recovered = taken.recovered.filter(|&index| !slot.is_kept(index));
        let (dead, absent) = (recovered.map(pid), taken.passed_over.map(pid));
        if let Some(dead) = dead {
            self.record_event(options, EventKind::Recovery, dead, waited);
            self.recovered = u32::try_from(dead).ok();
        }
        if let Some(absent) = absent {
            self.record_event(options, EventKind::PassedOver, absent, waited);
        }
    }

    // ---- while the lock is held ------------------------------------------------

    /// Whether another process waits in the queue.
    pub(crate) fn is_awaited(&self) -> bool {
        let slot = self.membership.slot();
        slot.is_some_and(|slot| !turnstile::is_empty(slot))
    }

    /// Returns our slot in the queue file, if we have one.
    pub(crate) fn slot(&self) -> Option<&Slot> {
        self.membership.slot()
    }

    /// Whether other processes queue here, as far as that is known.
    pub(crate) fn is_shared(&self) -> bool {
        self.membership.slot().is_none_or(Slot::is_shared)
    }

    /// Returns the pid of the holder that had died with the lock when it was last taken.
    pub(crate) fn recovered(&self) -> Option<u32> {
        self.recovered
    }

    /// Lends the hold to a child of ours, and returns the value of its environment variable.
    pub(crate) fn lend(&self, options: &LockOptions, hold: Hold) -> String {
        self.file.lend(options, hold)
    }

    /// Says that this holder waits for a process that has SQLite's lock without the write lock.
    pub(crate) fn note_outsider(&self, found: &SqliteHolder) {
        let pid = found.process.pid;
        self.outsider.store(pid, Relaxed);
        if let Some(slot) = self.membership.slot() {
            let pidns = self.file.identity().pidns;
            slot.note_outsider(&lock_file::outsider(pid, found.lock.number(), pidns));
        }
    }

    /// Says that this holder waits no more, and how long it did.
    pub(crate) fn end_outsider(&self, options: &LockOptions, waited: Duration, is_over: bool) {
        let (pid, slot) = (self.outsider.load(Relaxed), self.membership.slot());
        if let (Some(slot), true) = (slot, is_over) {
            slot.clear_outsider();
        }
        self.record_event(options, EventKind::SqliteBusy, pid.into(), nanos(waited));
    }

    /// Returns the pid of the process that a waiter waits for: of one that does not use the queue,
    /// if it is known, for which the holder waits too.
    fn pid_in_the_way(&self) -> u64 {
        let outsider = self.membership.slot().and_then(Slot::outsider);
        outsider.map_or_else(
            || self.membership.pid_at_turnstile(),
            |found| u64::from(found.pid),
        )
    }

    // ---- events ----------------------------------------------------------------

    /// Records that this process executed `writes` writes of others, the first of which
    /// has the pid `other`.
    pub(crate) fn record_remote_writes(&self, options: &LockOptions, other: u32, writes: u64) {
        self.record_event(options, EventKind::Combined, other.into(), writes);
    }

    /// Records an event and counts it. `amount`: see [`EventRecord::amount`].
    fn record_event(&self, options: &LockOptions, kind: EventKind, other: u64, amount: u64) {
        let Some(slot) = self.membership.slot() else {
            return;
        };
        match kind {
            EventKind::Timeout => slot.count(Counter::Timeouts),
            EventKind::Recovery => slot.count(Counter::Recoveries),
            EventKind::UnqueuedHolder => slot.count(Counter::UnqueuedHolders),
            EventKind::PassedOver => slot.count(Counter::PassedOver),
            EventKind::LongHold
            | EventKind::Combined
            | EventKind::SqliteBusy
            | EventKind::OutsiderWrote => {}
        }
        slot.record_event(&self.event(options, kind, other, amount));
    }

    /// Records a timeout that passed before this process could wait in the queue. An
    /// acquisition with a timeout of zero only tries, and has none.
    fn record_short_timeout(&self, options: &LockOptions, deadline: &Deadline) {
        let timeout = deadline.timeout();
        if timeout.is_zero() || !options.use_queue {
            return;
        }
        let in_the_way = self.pid_in_the_way();
        self.record_event(options, EventKind::Timeout, in_the_way, nanos(timeout));
    }

    /// Records a long hold. The statement that ran stands in our slot until we take the lock
    /// again.
    fn record_long_hold(&self, options: &LockOptions, nanos: u64, site: Option<&Location<'_>>) {
        let Some(slot) = self.membership.slot() else {
            return;
        };
        let statement = slot.noted().filter(|noted| !noted.is_place);
        let waited_for = self.outsider.load(Relaxed);
        slot.record_event(&EventRecord {
            statement: statement.map_or_else(String::new, |noted| noted.text),
            call_site: site.map(running_statement::text_of).unwrap_or_default(),
            ..self.event(options, EventKind::LongHold, waited_for.into(), nanos)
        });
    }

    fn event(
        &self,
        options: &LockOptions,
        kind: EventKind,
        other: u64,
        amount: u64,
    ) -> EventRecord {
        EventRecord {
            kind: kind.number(),
            at: self.file.wall_now(),
            pid: self.file.identity().pid.into(),
            other,
            amount,
            label: options.label.clone().unwrap_or_default(),
            is_frequent: kind.is_frequent(),
            ..EventRecord::default()
        }
    }

    /// Sets how long this slice lasts: long, while all who wait have left a request with this
    /// fingerprint, and none has waited for longer than this.
    pub(crate) fn set_combining_slice(&mut self, fingerprint: u64, longest: Duration) {
        if let Some((slot, participant)) = self.membership.holding_member() {
            let serves_all = slot.have_all_requests(fingerprint, longest);
            participant.set_slice(slot, serves_all);
        }
    }

    // ---- releasing -------------------------------------------------------------

    /// Releases the lock, or keeps it if a lease allows that. `site`: where the program asked for
    /// what was done. `more`: another thread of this process waits for the lock.
    pub(crate) fn release(
        &mut self,
        options: &LockOptions,
        hold: Hold,
        policy: QueuePolicy,
        site: Option<&Location<'_>>,
        more: impl Fn() -> bool,
    ) -> Result<Released, LockError> {
        if let Hold::Under(level) = hold {
            let unlocked = self.file.unlock_under(options, level);
            return unlocked.map(|()| Released::Free);
        }
        let Some((slot, participant)) = self.membership.holding_member() else {
            let unlocked = KernelAttempt::new(&mut self.file, options).unlock(true);
            return unlocked.map(|()| Released::Free);
        };
        let (held, is_exact) = participant.end_hold(slot);
        if is_exact {
            slot.record(Histogram::Holds, held);
        }
        let kept = self.keep(policy, &more);
        let released = match kept {
            Some(since) => Ok(Released::Kept(since)),
            None => self.release_held(options, policy, more),
        };
        if Duration::from_nanos(held) >= options.long_hold {
            self.record_long_hold(options, held, site);
        }
        released
    }

    /// Keeps the lock after a hold, if a lease allows that; returns since when.
    fn keep(&mut self, policy: QueuePolicy, more: &impl Fn() -> bool) -> Option<u64> {
        let lease = self.lease.as_mut()?;
        lease.holds += 1;
        if lease.forgone.get().is_some() {
            return None;
        }
        let (slot, participant) = self.membership.holding_member()?;
        if policy != QueuePolicy::TimeSliced || !participant.may_keep_held(more) {
            return None;
        }
        participant.keep_held(slot);
        slot.note_kept(true);
        lease.is_kept = true;
        crate::failpoint!("lease_kept");
        Some(participant.released_at())
    }

    fn why_lease_ends(&self, lease: &Lease) -> LeaseEnd {
        let forgone = lease.forgone.get().copied();
        forgone.unwrap_or_else(|| LeaseEnd::of_slice(self.is_awaited()))
    }

    /// Releases the lock after a hold, and ends the lease.
    fn release_held(
        &mut self,
        options: &LockOptions,
        policy: QueuePolicy,
        more: impl FnOnce() -> bool,
    ) -> Result<Released, LockError> {
        if let Some(lease) = self.lease.take() {
            self.release_with_party(&lease, self.why_lease_ends(&lease));
        }
        let mut kernel = KernelAttempt::new(&mut self.file, options);
        let released = match self.membership.holding_member() {
            Some((slot, participant)) => participant.release(slot, &mut kernel, policy, more),
            None => kernel.unlock(true),
        };
        released.map(|()| Released::Free)
    }
}

impl Drop for Acquirer {
    fn drop(&mut self) {
        // In a forked child the slot is the parent's.
        if self.file.is_ours() {
            // If the kernel refuses, closing the file unlocks it.
            let _ = self.end_lease(LeaseEnd::Close);
            self.membership.leave();
        }
    }
}
