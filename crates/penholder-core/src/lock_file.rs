//! This process's one attachment to a lock file: whose turn it is among its
//! threads, the kernel's lock, and its place in the line of processes.
//!
//! | state | turn | `flock` or byte lock | record |
//! | --- | --- | --- | --- |
//! | at rest | free | not ours | blank, or somebody else's, or ours if others wait |
//! | waiting | owned by the asking thread | not ours | whoever holds |
//! | owned | owned | ours, on the file that the path names | ours |
//! | owned under an ancestor | owned | the byte of our level is ours | the ancestor's |
//! | releasing | owned | ours, then not | blank if nobody waits, otherwise left to the next holder |
//!
//! A process has one `Pen` for each lock file (device and inode), so two
//! lockers of one file share a descriptor and see each other's turns.

use std::cell::RefCell;
use std::fmt;
use std::io;
use std::mem;
use std::panic::Location;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::Duration;

use crate::backoff::Backoff;
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::fair_queue::Turn;
use crate::holder_record::{self, Found, RecordWriter};
use crate::inherited_hold::{self, Ancestors, Level, ProcessId};
use crate::locker::LOCK_FILE_NAME;
use crate::mailbox::{Fate, RequestId};
use crate::queue_file::{self, Counter, Entry, Histogram, NoPage, Seat, Withdrawal};
use crate::running_statement;
use crate::status::EventKind;
use crate::sys::descriptor::{self, Descriptor, DescriptorsGuard};
use crate::sys::file::{self, FileId};
use crate::sys::locks::{self, Seen, TableName};
use crate::sys::process::Identity;
use crate::sys::{clock, filesystem, fork};
use crate::turnstile::{self, Kernel, Member, Patience, Policy, Taken, Turn as Turnstile, Waited};

/// How long a lock file may be used without looking whether the path still
/// names it, in nanoseconds. A deleted one is noticed at every acquisition.
const RECHECK: u64 = 100_000_000;
/// The same for one that somebody else has locked.
const RECHECK_WAITING: u64 = 20_000_000;
/// How many replacements of the lock file one acquisition follows.
const REPLACEMENTS_MAX: u32 = 16;

/// How long after its deadline a waiter whose request is being carried out waits to
/// learn what came of it.
const CLAIMED_GRACE: Duration = Duration::from_millis(50);

/// What a locker asks for; it is the same at every acquisition.
#[derive(Debug, Clone)]
pub(crate) struct Request {
    /// Absolute, links resolved.
    pub(crate) path: PathBuf,
    pub(crate) model: Option<PathBuf>,
    pub(crate) label: Option<String>,
    pub(crate) allow_network_fs: bool,
    pub(crate) policy: Policy,
    pub(crate) page: bool,
    /// A hold as long as this is kept as an event.
    pub(crate) warn_hold: Duration,
}

/// How an acquired lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Hold {
    /// The kernel's lock on the file is ours.
    Flock,
    /// An ancestor has it; ours is the byte of this level.
    Under(Level),
}

/// A request that is left while its owner waits: see
/// [`WriteLocker::acquire_with_request`](crate::WriteLocker::acquire_with_request).
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// What it means, and to whom: a holder takes only those of the kind it knows.
    pub kind: u64,
    /// What is asked for.
    pub bytes: &'a [u8],
    /// Told once it is left, with what takes it back.
    pub left: &'a (dyn Fn(RequestId, Withdrawal) + Sync),
}

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Offer");
        debug.field("kind", &self.kind).field("bytes", &self.bytes);
        debug.finish_non_exhaustive()
    }
}

/// An offer while it is waited with.
struct Standing<'a> {
    offer: Option<&'a Offer<'a>>,
    /// Once it is left.
    id: Option<RequestId>,
    fate: Fate,
}

impl Standing<'_> {
    fn leave_at(&mut self, seat: &Seat) {
        let Some(offer) = self.offer else { return };
        if self.id.is_none() {
            self.id = seat.offer(offer.kind, offer.bytes);
            if let Some(id) = self.id {
                crate::failpoint!("offered");
                (offer.left)(id, seat.withdrawal(id));
            }
        }
    }

    fn is_settled(&self, seat: &Seat) -> bool {
        self.id.is_some_and(|id| seat.own_mailbox().is_settled(id))
    }

    /// Somebody is at it: a moment longer, and it is known what came of it.
    fn wait_for_claimant(&self, seat: &Seat) {
        let Some(id) = self.id else { return };
        let grace = Deadline::after(CLAIMED_GRACE);
        while seat.own_mailbox().is_claimed(id) && !grace.is_over() {
            thread::sleep(Duration::from_micros(500));
        }
    }

    fn settle_at(&mut self, seat: &Seat) {
        if let Some(id) = self.id.take() {
            self.fate = seat.own_mailbox().settle(id);
        }
    }
}

/// How waiting for the lock ended.
#[derive(Debug)]
pub(crate) enum Ended {
    Held(Hold),
    /// The deadline came first; so many processes were before us in line.
    TimedOut {
        ahead: usize,
    },
    Cancelled,
}

/// One process's attachment to one lock file.
#[derive(Debug)]
pub(crate) struct Pen {
    generation: u64,
    /// The path that it was attached by.
    path: PathBuf,
    pub(crate) turn: Turn<Box<LockFile>>,
}

/// The open lock file, in the hands of whoever has the turn.
#[derive(Debug)]
pub(crate) struct LockFile {
    kernel: KernelSide,
    line: Line,
    /// Who had died with the lock when it was taken the last time.
    recovered: Option<u32>,
}

/// The file that carries the kernel's lock and the record.
#[derive(Debug)]
struct KernelSide {
    descriptor: Descriptor,
    id: FileId,
    /// When a path was last seen to name this file, and which: a file may have
    /// several names (hard links), one of them replaced.
    checked: u64,
    checked_path: PathBuf,
    /// The wall clock beside the monotonic one, as of the last check.
    wall_offset: u64,
    /// The file's name in the kernel's tables.
    name: Option<TableName>,
    identity: Identity,
    record: RecordWriter,
    /// What this process inherited, of this and other lock files.
    inherited: Vec<Ancestors>,
}

/// Our place in the line of processes, if there is a page.
#[derive(Debug, Default)]
struct Line {
    seat: Option<(Seat, Member)>,
    /// When we last tried to sit down and could not.
    tried: Option<u64>,
    /// What stands where the page should be is none: whoever has the lock puts
    /// one there.
    is_broken: bool,
    /// As it stands in our slot.
    label: Option<String>,
}

/// What this process has attached to. Held across a fork, so that the child finds
/// it whole; never held while waiting for anybody. Locked before the descriptors.
static PENS: Mutex<Vec<Attached>> = Mutex::new(Vec::new());

/// An attachment, found by its file or by its path.
#[derive(Debug)]
struct Attached {
    /// The file that its descriptor is open on, always: an identity that lags
    /// behind could be another lock file's by now.
    id: FileId,
    path: PathBuf,
    pen: Weak<Pen>,
}

impl Pen {
    /// The process's attachment to the file of the request, opened (and created)
    /// if this is the first.
    pub(crate) fn attach(request: &Request) -> Result<Arc<Self>, LockError> {
        let path = &request.path;
        let mut pens = lock(&PENS);
        pens.retain(|one| one.pen.strong_count() > 0);
        let id = file::facts_of_path(path).ok().map(|facts| facts.id);
        let find = |pens: &[Attached], id| {
            let same = |one: &&Attached| one.path == *path || Some(one.id) == id;
            pens.iter().find(same).and_then(|one| one.pen.upgrade())
        };
        if let Some(pen) = find(&pens, id) {
            return Ok(pen);
        }
        let (descriptor, id) = open(request)?;
        // Somebody may have put another file there since we looked.
        if let Some(pen) = find(&pens, Some(id)) {
            return Ok(pen);
        }
        let pen = Arc::new(Self {
            generation: fork::generation(),
            path: path.clone(),
            turn: Turn::new(Box::new(LockFile {
                kernel: KernelSide::new(descriptor, id, request),
                line: Line::default(),
                recovered: None,
            })),
        });
        pens.push(Attached {
            id,
            path: path.clone(),
            pen: Arc::downgrade(&pen),
        });
        Ok(pen)
    }

    /// The path that it was attached by: where a guard's errors say they happened.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// Whether this attachment was made by this process, not by a parent of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }
}

impl LockFile {
    /// Takes the lock if that passes nobody unduly; `polite`: nobody at all.
    pub(crate) fn try_take(
        &mut self,
        request: &Request,
        polite: bool,
    ) -> Result<Option<Hold>, LockError> {
        if let Some(level) = self.kernel.level(&request.path) {
            return self.kernel.probe_under(request, level);
        }
        self.line.sit_down(request, &self.kernel.identity);
        let mut attempt = Attempt::new(&mut self.kernel, request);
        let (now, taken) = match self.line.seat_for(request) {
            Some((seat, member)) => {
                let now = member.begins(seat);
                let taken = member.try_take(seat, &mut attempt, now, polite)?;
                (now.nanos, taken)
            }
            None => {
                let now = clock::monotonic();
                let taken = attempt.try_lock(now)?.then_some(Taken {
                    fresh: true,
                    recovered: None,
                    passed_over: None,
                });
                (now, taken)
            }
        };
        let length = attempt.length;
        let Some(taken) = taken else {
            return Ok(None);
        };
        self.entered(request, &taken, now, length, 0);
        Ok(Some(Hold::Flock))
    }

    /// Waits for the lock up to the deadline, or until it is cancelled.
    #[cfg(feature = "tokio")]
    pub(crate) fn wait(
        &mut self,
        request: &Request,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
    ) -> Result<Ended, LockError> {
        self.wait_with(request, deadline, canceller, None).0
    }

    /// The same, leaving a request in the page: the wait ends, as if it was cancelled,
    /// when that is answered. Says what became of it in any case.
    pub(crate) fn wait_with(
        &mut self,
        request: &Request,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        offer: Option<&Offer<'_>>,
    ) -> (Result<Ended, LockError>, Fate) {
        let mut standing = Standing {
            offer,
            id: None,
            fate: Fate::Untouched,
        };
        let ended = self.wait_until(request, deadline, canceller, &mut standing);
        if let Some((seat, member)) = &mut self.line.seat {
            standing.settle_at(seat);
            if matches!(standing.fate, Fate::Done { .. }) {
                member.was_served();
            }
        }
        (ended, standing.fate)
    }

    fn wait_until(
        &mut self,
        request: &Request,
        deadline: &Deadline,
        canceller: Option<&Canceller>,
        standing: &mut Standing<'_>,
    ) -> Result<Ended, LockError> {
        let mut backoff = Backoff::new();
        loop {
            if let Some(hold) = self.try_take(request, false)? {
                return Ok(Ended::Held(hold));
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Ok(Ended::TimedOut { ahead: 0 });
            }
            if canceller.is_some_and(Canceller::is_cancelled) {
                return Ok(Ended::Cancelled);
            }
            if self.kernel.level(&request.path).is_none() && self.line.seat_for(request).is_some() {
                let ended = self.wait_in_line(request, remaining, canceller, standing)?;
                if let Some(ended) = ended {
                    return Ok(ended);
                }
                if standing.fate != Fate::Untouched {
                    return Ok(Ended::Cancelled);
                }
                continue;
            }
            let pause = backoff.pause(remaining);
            match canceller {
                Some(canceller) => canceller.sleep(pause),
                None => thread::sleep(pause),
            }
        }
    }

    /// `None` if the page turned out not to be everybody's any more.
    fn wait_in_line(
        &mut self,
        request: &Request,
        remaining: Duration,
        canceller: Option<&Canceller>,
        standing: &mut Standing<'_>,
    ) -> Result<Option<Ended>, LockError> {
        self.line.introduce(request);
        let Some((seat, member)) = &mut self.line.seat else {
            return Ok(None);
        };
        standing.leave_at(seat);
        let begun = clock::monotonic();
        let remaining = u64::try_from(remaining.as_nanos()).unwrap_or(u64::MAX);
        let patience = Patience {
            until: begun.saturating_add(remaining),
            is_cancelled: &|| {
                canceller.is_some_and(Canceller::is_cancelled) || standing.is_settled(seat)
            },
            is_outdated: &|| !seat.is_current(),
        };
        let mut attempt = Attempt::new(&mut self.kernel, request);
        let watched = canceller.map(|canceller| canceller.watch(seat));
        let waited = member.wait(seat, &mut attempt, &patience)?;
        drop(watched);
        let is_answered = match waited {
            Waited::TimedOut { .. } => {
                standing.wait_for_claimant(seat);
                standing.is_settled(seat)
            }
            Waited::Outdated => {
                standing.settle_at(seat);
                false
            }
            Waited::Taken(_) | Waited::Cancelled => false,
        };
        let (length, foreigner) = (attempt.length, attempt.foreigner);
        if let Some(pid) = foreigner {
            let waited = clock::monotonic().saturating_sub(begun);
            self.tell(request, EventKind::Bypass, pid, waited);
        }
        Ok(match waited {
            Waited::Taken(taken) => {
                let now = self.line.taken_at();
                self.entered(request, &taken, now, length, now.saturating_sub(begun));
                Some(Ended::Held(Hold::Flock))
            }
            Waited::TimedOut { .. } if is_answered => Some(Ended::Cancelled),
            Waited::TimedOut { ahead } => {
                let in_the_way = foreigner.unwrap_or_else(|| self.line.pid_at_turnstile());
                self.tell(request, EventKind::Timeout, in_the_way, remaining);
                Some(Ended::TimedOut { ahead })
            }
            Waited::Cancelled => Some(Ended::Cancelled),
            Waited::Outdated => {
                self.line = Line::default();
                None
            }
        })
    }

    /// Whether another process waits in line.
    pub(crate) fn is_awaited(&self) -> bool {
        let seat = self.line.seat.as_ref();
        seat.is_some_and(|(seat, _)| !turnstile::nobody_waits(seat))
    }

    /// Our place in the page, if there is one.
    pub(crate) fn seat(&self) -> Option<&Seat> {
        self.line.seat.as_ref().map(|(seat, _)| seat)
    }

    /// Keeps for people that this process did so many writes of another.
    pub(crate) fn tell_carried(&self, request: &Request, other: u32, writes: u64) {
        self.tell(request, EventKind::Carried, other.into(), writes);
    }

    /// Whether other processes queue here, as far as it is known.
    pub(crate) fn is_shared(&self) -> bool {
        let seat = self.line.seat.as_ref();
        seat.is_none_or(|(seat, _)| seat.is_shared())
    }

    /// The lock is ours, after waiting so long in line: says so in the lock file and
    /// in the page.
    fn entered(&mut self, request: &Request, taken: &Taken, now: u64, length: u64, waited: u64) {
        if taken.fresh {
            self.kernel.publish(request, now, length);
            crate::failpoint!("published");
        }
        if self.line.is_broken {
            self.line.mend(request, &self.kernel.identity);
        }
        self.recovered = None;
        let Some((seat, _)) = &self.line.seat else {
            return;
        };
        seat.forget_statement();
        seat.count_as_holder(Counter::Acquisitions);
        seat.note(Histogram::Waits, waited);
        if waited > 0 {
            seat.count_as_holder(Counter::Contended);
        }
        if let Some(dead) = taken.recovered {
            let dead = seat.pid(dead);
            self.tell(request, EventKind::Recovery, dead, waited);
            self.recovered = u32::try_from(dead).ok();
        }
        if let Some(absent) = taken.passed_over {
            self.tell(request, EventKind::PassedOver, seat.pid(absent), waited);
        }
    }

    /// Who had died with the lock when it was taken the last time.
    pub(crate) fn recovered(&self) -> Option<u32> {
        self.recovered
    }

    /// Keeps for people that something happened.
    fn tell(&self, request: &Request, kind: EventKind, other: u64, nanos: u64) {
        self.tell_of(request, kind, other, nanos, None);
    }

    /// Keeps for people that the lock was held for long; what was run stands in our
    /// slot until we take it again.
    fn tell_long_hold(&self, request: &Request, nanos: u64, site: Option<&Location<'_>>) {
        self.tell_of(request, EventKind::LongHold, 0, nanos, site);
    }

    fn tell_of(
        &self,
        request: &Request,
        kind: EventKind,
        other: u64,
        nanos: u64,
        site: Option<&Location<'_>>,
    ) {
        let Some((seat, _)) = &self.line.seat else {
            return;
        };
        match kind {
            EventKind::Timeout => seat.count(Counter::Timeouts),
            EventKind::Recovery => seat.count(Counter::Recoveries),
            EventKind::Bypass => seat.count(Counter::Foreign),
            EventKind::PassedOver => seat.count(Counter::PassedOver),
            EventKind::LongHold | EventKind::Carried => {}
        }
        let noted = (kind == EventKind::LongHold)
            .then(|| seat.noted())
            .flatten();
        let statement = noted.filter(|noted| !noted.is_place);
        seat.tell(&Entry {
            kind: kind.number(),
            at: clock::monotonic().saturating_add(self.kernel.wall_offset),
            pid: self.kernel.identity.pid.into(),
            other,
            nanos,
            label: request.label.clone().unwrap_or_default(),
            statement: statement.map_or_else(String::new, |noted| noted.text),
            call_site: site.map(running_statement::text_of).unwrap_or_default(),
        });
    }

    /// Gives the lock back. `more`: another thread of this process waits for it.
    pub(crate) fn release(
        &mut self,
        request: &Request,
        hold: Hold,
        policy: Policy,
        site: Option<&Location<'_>>,
        more: impl FnOnce() -> bool,
    ) -> Result<(), LockError> {
        if let Hold::Under(level) = hold {
            return Attempt::new(&mut self.kernel, request).unlock_under(level);
        }
        // Another locker of this process may have taken it past the queue.
        let seat = self.line.seat.as_mut();
        let Some((seat, member)) = seat.filter(|(_, member)| member.holds()) else {
            return Attempt::new(&mut self.kernel, request).unlock(true);
        };
        let (held, is_exact) = member.ends(seat);
        if is_exact {
            seat.note(Histogram::Holds, held);
        }
        let mut attempt = Attempt::new(&mut self.kernel, request);
        let released = member.release(seat, &mut attempt, policy, more);
        if Duration::from_nanos(held) >= request.warn_hold {
            self.tell_long_hold(request, held, site);
        }
        released
    }

    /// The value of the environment variable for a child of ours.
    pub(crate) fn inheritance(&self, hold: Hold) -> String {
        let kernel = &self.kernel;
        let own = ProcessId {
            pid: kernel.identity.pid,
            // Without `/proc` a child cannot check it and will not believe it.
            start: kernel.identity.start.unwrap_or(0),
        };
        let chain = match (hold, kernel.ancestors()) {
            (Hold::Under(level), Some(ancestors)) => ancestors.chain_below(level, own),
            _ => vec![own],
        };
        inherited_hold::value(&kernel.inherited, kernel.id, &chain)
    }
}

impl Drop for LockFile {
    fn drop(&mut self) {
        // In a forked child the place in line is the parent's.
        if let (Some((seat, member)), true) = (&self.line.seat, self.kernel.descriptor.is_ours()) {
            member.leave(seat);
        }
    }
}

impl Line {
    /// Takes a place if we have none, and sees now and then whether the page is
    /// still everybody's.
    fn sit_down(&mut self, request: &Request, identity: &Identity) {
        let now = clock::coarse();
        let recent = self
            .tried
            .is_some_and(|tried| now.saturating_sub(tried) < RECHECK);
        if !request.page || recent {
            return;
        }
        self.tried = Some(now);
        if let Some((seat, _)) = &self.seat {
            if seat.is_current() {
                return;
            }
            self.seat = None;
        }
        let label = request.label.as_deref();
        match Seat::take(&request.path, request.model.as_deref(), identity, label) {
            Ok(seat) => {
                let member = Member::new(seat.slot());
                self.seat = Some((seat, member));
                self.is_broken = false;
                self.label.clone_from(&request.label);
            }
            Err(NoPage::Invalid) => self.is_broken = true,
            Err(NoPage::Full | NoPage::Unavailable) => {}
        }
    }

    /// Says for what this process waits, if that has changed.
    fn introduce(&mut self, request: &Request) {
        if let Some((seat, _)) = &self.seat
            && self.label != request.label
        {
            seat.set_label(request.label.as_deref());
            self.label.clone_from(&request.label);
        }
    }

    fn taken_at(&self) -> u64 {
        self.seat
            .as_ref()
            .map_or(0, |(_, member)| member.taken_at())
    }

    /// The pid of whoever has the word of the turnstile; zero if that is nobody.
    fn pid_at_turnstile(&self) -> u64 {
        let Some((seat, _)) = &self.seat else {
            return 0;
        };
        Turnstile::of(seat).owner().map_or(0, |slot| seat.pid(slot))
    }

    fn seat_for(&mut self, request: &Request) -> Option<&mut (Seat, Member)> {
        self.seat.as_mut().filter(|_| request.page)
    }

    /// With the lock ours: puts a page where a broken one was, and sits down.
    fn mend(&mut self, request: &Request, identity: &Identity) {
        // Another holder may have done so since we looked.
        self.is_broken = false;
        self.tried = None;
        self.sit_down(request, identity);
        if self.is_broken {
            self.is_broken = false;
            if queue_file::rebuild(&request.path, request.model.as_deref()).is_ok() {
                crate::failpoint!("built");
                self.tried = None;
                self.sit_down(request, identity);
            }
        }
        if let Some((seat, member)) = &mut self.seat {
            member.adopt(seat);
        }
    }
}

/// The kernel's lock, as one acquisition or release sees it.
struct Attempt<'a> {
    side: &'a mut KernelSide,
    request: &'a Request,
    /// Of the lock file, as of the last time that it was taken.
    length: u64,
    /// Who has the lock and does not queue; zero if that is not known.
    foreigner: Option<u64>,
}

impl<'a> Attempt<'a> {
    fn new(side: &'a mut KernelSide, request: &'a Request) -> Self {
        Self {
            side,
            request,
            length: 0,
            foreigner: None,
        }
    }

    fn failed(&self, what: &'static str) -> impl Fn(io::Error) -> LockError {
        let path = &self.request.path;
        move |error| LockError::io(path, what, error)
    }

    fn unlock_under(&mut self, level: Level) -> Result<(), LockError> {
        file::unlock_byte(&self.side.descriptor, level.byte())
            .map_err(self.failed("release write lock under an ancestor's"))
    }
}

impl Kernel for Attempt<'_> {
    type Error = LockError;

    fn try_lock(&mut self, now: u64) -> Result<bool, LockError> {
        let length = self.side.try_lock(self.request, now)?;
        self.length = length.unwrap_or(0);
        Ok(length.is_some())
    }

    fn unlock(&mut self, at_rest: bool) -> Result<(), LockError> {
        let file = &self.side.descriptor;
        let cleared = if at_rest {
            holder_record::clear(file)
        } else {
            // The next holder overwrites it.
            Ok(())
        };
        // First of all the lock; a record left standing harms nobody, because
        // the kernel is asked who holds.
        file::unlock(file).map_err(self.failed("release write lock"))?;
        cleared.map_err(self.failed("empty the record of the write lock"))
    }

    fn met_foreigner(&mut self) {
        let pid = self
            .side
            .name
            .as_ref()
            .and_then(|name| match locks::flock_on(name) {
                Seen::Held { taker } => taker,
                Seen::NotHeld | Seen::Unknown => None,
            });
        self.foreigner = Some(pid.map_or(0, u64::from));
    }
}

impl KernelSide {
    fn new(descriptor: Descriptor, id: FileId, request: &Request) -> Self {
        let identity = Identity::of_this_process();
        Self {
            descriptor,
            id,
            checked: clock::monotonic(),
            checked_path: request.path.clone(),
            wall_offset: clock::wall_offset(),
            name: locks::table_name(&request.path),
            record: RecordWriter::new(&identity, request.label.as_deref()),
            identity,
            inherited: Ancestors::of_this_process(),
        }
    }

    /// Takes the `flock` on the file that the path names if it is free, and says
    /// how long the file is.
    fn try_lock(&mut self, request: &Request, now: u64) -> Result<Option<u64>, LockError> {
        let failed = |e| LockError::io(&request.path, "take write lock", e);
        for _ in 0..REPLACEMENTS_MAX {
            if !file::try_lock(&self.descriptor).map_err(failed)? {
                let current = self.is_current(&request.path, now, RECHECK_WAITING);
                if current.map_err(failed)? {
                    return Ok(None);
                }
            } else if let Some(length) = self.confirm(&request.path, now).map_err(failed)? {
                return Ok(Some(length));
            }
            self.reopen(request)?;
        }
        Err(failed(io::Error::other("it is replaced again and again")))
    }

    /// The length of the file that was just locked if the path still names it;
    /// otherwise, and on an error, it is unlocked again.
    fn confirm(&mut self, path: &Path, now: u64) -> io::Result<Option<u64>> {
        let confirmed = file::facts(&self.descriptor).and_then(|facts| {
            let current = facts.links > 0 && self.is_current(path, now, RECHECK)?;
            Ok(current.then_some(facts.len))
        });
        if !matches!(confirmed, Ok(Some(_))) {
            file::unlock(&self.descriptor)?;
        }
        confirmed
    }

    /// Follows the path to the file that it names now.
    fn reopen(&mut self, request: &Request) -> Result<(), LockError> {
        let old = self.id;
        let (descriptor, id) = open(request)?;
        for one in lock(&PENS).iter_mut().filter(|one| one.id == old) {
            one.id = id;
        }
        self.descriptor = descriptor;
        self.id = id;
        self.checked = clock::monotonic();
        self.checked_path.clone_from(&request.path);
        self.name = locks::table_name(&request.path);
        Ok(())
    }

    fn probe_under(&self, request: &Request, level: Level) -> Result<Option<Hold>, LockError> {
        let failed = |e| LockError::io(&request.path, "take write lock under an ancestor's", e);
        let file = &self.descriptor;
        if !file::try_lock_byte(file, level.byte()).map_err(failed)? {
            return Ok(None);
        }
        // The ancestor may have died between the two; and the children of one
        // that died in between may still be at work below us.
        if self.level(&request.path) == Some(level) && !level.is_busy_below(file).map_err(failed)? {
            return Ok(Some(Hold::Under(level)));
        }
        file::unlock_byte(file, level.byte()).map_err(failed)?;
        Ok(None)
    }

    /// Whether the path still names this file, looked at if the last look is
    /// older than `age` nanoseconds.
    fn is_current(&mut self, path: &Path, now: u64, age: u64) -> io::Result<bool> {
        let same_path = self.checked_path.as_os_str() == path.as_os_str();
        if same_path && now.saturating_sub(self.checked) < age {
            return Ok(true);
        }
        match file::facts_of_path(path) {
            Ok(facts) if facts.id == self.id => {
                self.checked = now;
                self.wall_offset = clock::wall_offset();
                if !same_path {
                    path.clone_into(&mut self.checked_path);
                }
                Ok(true)
            }
            Ok(_) => Ok(false),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
            Err(error) => Err(error),
        }
    }

    /// Writes the record. A full disk does not keep anybody from the lock: the
    /// kernel holds it, and its tables name us; only the record is missing.
    fn publish(&mut self, request: &Request, now: u64, length: u64) {
        let label = request.label.as_deref();
        if !self.record.has_label(label) {
            self.record = RecordWriter::new(&self.identity, label);
        }
        let now = clock::wall(now, self.wall_offset);
        let _ = self.record.publish(&self.descriptor, now, length);
    }

    fn ancestors(&self) -> Option<&Ancestors> {
        self.inherited.iter().find(|one| one.file == self.id)
    }

    fn level(&self, path: &Path) -> Option<Level> {
        self.ancestors()?.level(path, self.name.as_ref()?)
    }
}

/// At which level this process works under an ancestor that holds this lock file,
/// if it does: for whoever has not the turn.
pub(crate) fn level(path: &Path) -> Option<Level> {
    let inherited = Ancestors::of_this_process();
    let id = file::facts_of_path(path).ok()?.id;
    let ancestors = inherited.iter().find(|one| one.file == id)?;
    ancestors.level(path, &locks::table_name(path)?)
}

/// Opens the lock file of a request, if it may be one.
fn open(request: &Request) -> Result<(Descriptor, FileId), LockError> {
    let path = &request.path;
    if !request.allow_network_fs {
        let folder = path.parent().unwrap_or(path);
        let found = filesystem::network(folder);
        if let Some(file_system) =
            found.map_err(|e| LockError::io(path, "look at the lock file's folder", e))?
        {
            return Err(LockError::new(path, Kind::Network { file_system }));
        }
    }
    let file = Descriptor::open(|| file::open_or_create(path, request.model.as_deref()))
        .map_err(|e| LockError::opening(path, "open lock file", e))?;
    let failed = |e| LockError::io(path, "open lock file", e);
    if !file.metadata().map_err(failed)?.is_file() {
        let why = "not a regular file".to_owned();
        let next = "remove it, or choose another lock path";
        return Err(LockError::new(path, Kind::Refused { why, next }));
    }
    // Whatever text stands in a file of this name is ours to overwrite.
    let is_called_lock = path.file_name().is_some_and(|name| name == LOCK_FILE_NAME);
    let why = match holder_record::found(&file).map_err(failed)? {
        Found::Record => None,
        Found::Database => Some("it is a database"),
        Found::Other if is_called_lock => None,
        Found::Other => Some("it holds something that is no lock record"),
    };
    if let Some(why) = why {
        let why = why.to_owned();
        let next = "choose another lock path, or remove what stands there";
        return Err(LockError::new(path, Kind::Refused { why, next }));
    }
    let id = file::facts(&file).map_err(failed)?.id;
    Ok((file, id))
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one of these held, so what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

// ---- fork ----------------------------------------------------------------

/// Sees to it that forked children are told from their parents from now on.
pub(crate) fn watch_forks() -> io::Result<()> {
    fork::install(HANDLERS)
}

const HANDLERS: fork::Handlers = fork::Handlers {
    before: before_fork,
    in_parent: after_fork,
    in_child,
};

type Held = (MutexGuard<'static, Vec<Attached>>, DescriptorsGuard);

thread_local! {
    /// What the forking thread holds across the fork.
    static ACROSS_FORK: RefCell<Option<Held>> = const { RefCell::new(None) };
}

fn before_fork() {
    // A thread that is past its thread-locals cannot fork cleanly; its child
    // then keeps the descriptors, and nothing worse.
    let _ = ACROSS_FORK.try_with(|held| {
        *held.borrow_mut() = Some((lock(&PENS), descriptor::lock()));
    });
}

fn after_fork() {
    let _ = ACROSS_FORK.try_with(|held| held.borrow_mut().take());
}

/// The child does not hold what its parent holds: it closes the descriptors,
/// never unlocking, and forgets the attachments; it attaches anew on first use.
fn in_child() {
    let _ = ACROSS_FORK.try_with(|held| {
        if let Some((mut pens, mut descriptors)) = held.borrow_mut().take() {
            descriptors.close_inherited();
            // Not dropped: freeing memory is not for a fork handler.
            mem::forget(mem::take(&mut *pens));
        }
    });
}
