//! Penholder's write lock as the connections of this process share it.
//!
//! The databases that use one lock file share the lock. A process has it for as long as one of its
//! connections uses it, and a second connection joins instead of waiting for itself:
//!
//! | who asks while this process has the lock | gets |
//! | --- | --- |
//! | a connection that has it, or that it was reserved for | it |
//! | the thread of such a connection (several databases in one transaction, nested writes) | joins; for itself ([`Claim::Thread`]) only if no other thread has it too |
//! | another thread, for a database that one of them uses | waits: SQLite would refuse it anyway |
//! | any other thread, while a thread has the lock for itself ([`Claim::Thread`]) | waits |
//! | another thread, for another database | joins, but no sooner than [`Hold::joins_at`] if another process waits: otherwise threads that relieve one another would never let go of it |
//!
//! One connection after the other:
//!
//! | state of a connection | leaves by |
//! | --- | --- |
//! | outside | [`enter`](ProcessLock::enter) → inside; if the lock is not free and it may wait → waiting |
//! | waiting: it has a place in the order, for [`PLACE`] after it was last seen | its turn comes → reserved; it is not seen again → outside |
//! | reserved: the lock is held for it, for [`RESERVED`] after it was last seen | `enter` → inside; it is not seen again → outside |
//! | inside | [`leave`](ProcessLock::leave) → outside; SQLite's own lock was not free ([`set_aside`](ProcessLock::set_aside)) → reserved |
//!
//! SQLite itself does not wait for the lock but is told that it is busy, because it would wait with
//! a snapshot that gets old. It then calls the busy handler of the connection, which decides for how
//! long to go on, and mostly sleeps: [`sleep`](ProcessLock::sleep) ends that when the turn has come.
//! One of those who sleep waits in the queue of processes for all of them, and the one who comes next
//! goes on in the same place. If nobody has come for [`UNATTENDED`], a thread does, because the busy handler
//! may sleep by itself, or have given up. It ends when no connection has waited for [`IDLE`].
//!
//! A connection that has the lock may take it again for [`TURN`] although others of this process wait,
//! if it comes back within [`COMING_BACK`].

use std::collections::VecDeque;
use std::ffi::CStr;
use std::fmt;
use std::mem;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::SeqCst;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::{self, ThreadId};
use std::time::{Duration, Instant};

use penholder_core::{Deadline, Guard, LeaseParty, LockError, Locker};

use crate::background::in_background;

/// For how long a connection that was told to wait keeps its place without being seen: busy
/// handlers that sleep by themselves come back within this time.
const PLACE: Duration = Duration::from_millis(10);
/// For how long the lock is held for a connection whose turn has come.
const RESERVED: Duration = Duration::from_millis(5);
/// For how long it is held for one that finds SQLite's own lock taken, while others wait.
const RESERVED_MAX: Duration = Duration::from_millis(50);
/// How often such a one looks again.
const LOOK: Duration = Duration::from_micros(500);
/// For so long after the lock was taken, other threads may join although another process waits.
const JOINING: Duration = Duration::from_millis(2);
/// The longest time for which a thread has to wait before it joins, unless the lock was held for
/// more than [`JOINING_SHARE`] times as long.
const JOINING_MAX: Duration = Duration::from_millis(100);
const JOINING_SHARE: u32 = 4;
/// For so long one connection goes before others of this process.
const TURN: Duration = Duration::from_millis(1);
/// If it does not take the lock again within this time, the others go on.
const COMING_BACK: Duration = Duration::from_micros(100);
/// For how long the place in the queue may be left alone.
const UNATTENDED: Duration = Duration::from_millis(2);
/// For how long the thread waits there before it looks again.
const PIECE: Duration = Duration::from_millis(20);
/// The thread ends after this time without anything to wait for.
const IDLE: Duration = Duration::from_secs(1);
/// For how long after a pause the place in the queue is good: if this process dies or is stopped,
/// the others do not wait for it any longer.
const GOOD: Duration = Duration::from_secs(2);

/// What names a connection in this process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct ConnectionId(u64);

impl ConnectionId {
    pub(crate) fn new() -> Self {
        static NEXT: AtomicU64 = AtomicU64::new(1);
        Self(NEXT.fetch_add(1, SeqCst))
    }
}

/// What a connection wants the lock for.
#[derive(Debug, Clone)]
pub(crate) enum Claim {
    /// To write to this database, by the path that SQLite has opened.
    Database(Arc<CStr>),
    /// For all that this thread does: other threads of the process are excluded too.
    Thread,
}

/// A connection that asks for the lock.
#[derive(Debug, Clone)]
pub(crate) struct Asker {
    pub(crate) id: ConnectionId,
    pub(crate) claim: Claim,
    pub(crate) locker: Arc<Locker>,
    /// What it keeps along with the lock.
    pub(crate) party: Arc<dyn LeaseParty>,
}

/// How [`ProcessLock::enter`] ended.
#[derive(Debug)]
pub(crate) enum Entry {
    Inside,
    /// The lock is not free, or it is not the connection's turn.
    Busy,
    Failed(LockError),
}

/// The lock of one lock file, as the connections of this process share it.
pub(crate) struct ProcessLock {
    lock_file: PathBuf,
    state: Mutex<State>,
    /// Something changed that a waiting connection may wait for.
    changed: Condvar,
    /// The same for the thread.
    thread: Condvar,
}

impl fmt::Debug for ProcessLock {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("ProcessLock")
            .field("lock_file", &self.lock_file)
            .finish_non_exhaustive()
    }
}

#[derive(Debug, Default)]
struct State {
    hold: Option<Hold>,
    /// The first one is served first.
    waiters: VecDeque<Waiter>,
    turn: Option<Turn>,
    has_thread: bool,
    /// When the thread looks again, if it sleeps.
    thread_wakes_at: Option<Instant>,
    /// How many connections sleep until something changes.
    sleepers: usize,
    /// Whether someone waits in the queue of processes.
    is_attended: bool,
    /// Since when nobody does, or until when the one who does is expected to.
    attended_until: Option<Instant>,
    /// Whose locker has a place in that queue.
    place_of: Option<Arc<Locker>>,
}

/// The connection that goes before others of this process.
#[derive(Debug, Clone, Copy)]
struct Turn {
    id: ConnectionId,
    ends: Instant,
    /// When it last released the lock.
    left: Option<Instant>,
}

impl Turn {
    /// Returns until when the others wait for it.
    fn lasts_until(&self) -> Instant {
        self.left
            .map_or(self.ends, |left| self.ends.min(left + COMING_BACK))
    }
}

/// The lock, held by this process.
#[derive(Debug)]
struct Hold {
    guard: Guard,
    begun: Instant,
    /// The connection whose locker took it: only this one may keep its locks along with it.
    owner: ConnectionId,
    /// Whether it does.
    is_leased: bool,
    /// Never empty.
    users: Vec<User>,
}

#[derive(Debug)]
struct User {
    id: ConnectionId,
    claim: Claim,
    thread: ThreadId,
    party: Arc<dyn LeaseParty>,
    /// `None` once it is inside.
    reserved: Option<Reservation>,
}

/// The lock is held for a connection that waits.
#[derive(Debug, Clone, Copy)]
struct Reservation {
    until: Instant,
    /// Whether a sleep of the connection has ended for it. SQLite also sleeps to let others go on
    /// before it tries again to read: those sleeps last as long as they should.
    is_told: bool,
}

impl Reservation {
    fn from(now: Instant, is_told: bool) -> Self {
        Self {
            until: now + RESERVED,
            is_told,
        }
    }
}

#[derive(Debug)]
struct Waiter {
    asker: Asker,
    thread: ThreadId,
    since: Instant,
    /// Until when it keeps its place.
    until: Instant,
}

/// Whether a connection gets the lock that this process has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Admission {
    Admitted,
    /// At this time at the latest, if it is known.
    Later(Option<Instant>),
}

impl Admission {
    fn latest(self) -> Option<Instant> {
        match self {
            Self::Admitted => None,
            Self::Later(at) => at,
        }
    }
}

impl Hold {
    /// Whether a connection may use the lock too; it has waited since `since`.
    fn admits(&self, asker: &Asker, thread: ThreadId, since: Instant, now: Instant) -> Admission {
        let is_user = |user: &User| user.id == asker.id || user.thread == thread;
        let excludes_users = matches!(asker.claim, Claim::Thread);
        if excludes_users && !self.users.iter().all(is_user) {
            return Admission::Later(None);
        }
        if self.users.iter().any(is_user) {
            return Admission::Admitted;
        }
        if self.users.iter().any(|user| user.excludes(&asker.claim)) {
            return Admission::Later(None);
        }
        let at = self.joins_at(since);
        if now >= at || !self.guard.is_awaited() {
            Admission::Admitted
        } else {
            Admission::Later(Some(at))
        }
    }

    /// Returns when a thread joins that has waited since `since`, although another process waits:
    /// after as long as the lock was held before, so that a chain of threads that relieve one
    /// another breaks soon. One that has the lock may wait for this one, so it is no longer than
    /// [`JOINING_MAX`] or a part of that time: a part, because a chain of transactions that take
    /// longer than that would not break.
    fn joins_at(&self, since: Instant) -> Instant {
        let before = since.saturating_duration_since(self.begun);
        if before < JOINING {
            return since;
        }
        since + before.min(JOINING_MAX.max(before / JOINING_SHARE))
    }

    fn user(&mut self, id: ConnectionId) -> Option<&mut User> {
        self.users.iter_mut().find(|user| user.id == id)
    }
}

impl User {
    /// Whether a connection of another thread has to wait for this one.
    fn excludes(&self, other: &Claim) -> bool {
        match (&self.claim, other) {
            (Claim::Database(ours), Claim::Database(theirs)) => ours == theirs,
            (Claim::Thread, _) | (_, Claim::Thread) => true,
        }
    }
}

impl State {
    fn place(&self, id: ConnectionId) -> Option<usize> {
        self.waiters.iter().position(|waiter| waiter.asker.id == id)
    }

    /// Gives the connection a place at the end, or keeps the one that it has. Returns whether it is
    /// a new one.
    fn keep_place(
        &mut self,
        asker: &Asker,
        thread: ThreadId,
        now: Instant,
        until: Instant,
    ) -> bool {
        if let Some(place) = self.place(asker.id) {
            self.waiters[place].until = until;
            return false;
        }
        self.waiters.push_back(Waiter {
            asker: asker.clone(),
            thread,
            since: now,
            until,
        });
        true
    }

    /// Returns since when a connection waits: since now, if it has no place.
    fn waits_since(&self, id: ConnectionId, now: Instant) -> Instant {
        self.place(id)
            .map_or(now, |place| self.waiters[place].since)
    }

    /// Whether a connection has a place, or the lock.
    fn knows(&self, id: ConnectionId) -> bool {
        let has_lock = |hold: &Hold| hold.users.iter().any(|user| user.id == id);
        self.place(id).is_some() || self.hold.as_ref().is_some_and(has_lock)
    }

    /// Whether a sleep of a connection is one that ends when its turn comes.
    fn sleeps_here(&mut self, id: ConnectionId, now: Instant) -> bool {
        if self.place(id).is_some() {
            return true;
        }
        let user = self.hold.as_mut().and_then(|hold| hold.user(id));
        let Some(reserved) = user.and_then(|user| user.reserved.as_mut()) else {
            return false;
        };
        reserved.until = now + RESERVED;
        !reserved.is_told
    }

    /// Reserves the lock, which was just taken, for the first one who waits. Returns it if there is
    /// none.
    fn reserve_for_first(
        &mut self,
        guard: Guard,
        owner: ConnectionId,
        now: Instant,
    ) -> Option<Guard> {
        self.drop_absent_waiters(now);
        let Some(first) = self.waiters.pop_front() else {
            return Some(guard);
        };
        self.begin_hold(guard, owner, first.asker.id, now);
        self.admit(
            &first.asker,
            first.thread,
            Some(Reservation::from(now, false)),
        );
        None
    }

    fn drop_absent_waiters(&mut self, now: Instant) {
        self.waiters.retain(|waiter| waiter.until > now);
    }

    fn admit(&mut self, asker: &Asker, thread: ThreadId, reserved: Option<Reservation>) {
        if let Some(place) = self.place(asker.id) {
            self.waiters.remove(place);
        }
        let Some(hold) = &mut self.hold else {
            return;
        };
        if let Some(user) = hold.user(asker.id) {
            user.reserved = reserved;
            user.thread = thread;
            return;
        }
        hold.users.push(User {
            id: asker.id,
            claim: asker.claim.clone(),
            thread,
            party: Arc::clone(&asker.party),
            reserved,
        });
    }

    /// Whether a connection may try to take the lock: no other one waits, or it is its turn.
    fn is_turn_of(&self, id: ConnectionId, now: Instant) -> bool {
        let is_first = self
            .waiters
            .front()
            .is_none_or(|first| first.asker.id == id);
        let has_turn = |turn: &Turn| turn.id == id && now < turn.ends;
        !self.is_attended && (is_first || self.turn.as_ref().is_some_and(has_turn))
    }

    /// Begins a hold that the locker of `owner` took, for the turn of `id`.
    fn begin_hold(&mut self, guard: Guard, owner: ConnectionId, id: ConnectionId, now: Instant) {
        debug_assert!(self.hold.is_none(), "one hold at a time");
        let goes_on = |turn: &Turn| turn.id == id && now < turn.ends;
        if !self.turn.as_ref().is_some_and(goes_on) {
            self.turn = Some(Turn {
                id,
                ends: now + TURN,
                left: None,
            });
        }
        // Any connection that joins may be the last one to leave.
        guard.unbind_from_thread();
        self.hold = Some(Hold {
            guard,
            begun: now,
            owner,
            is_leased: false,
            users: Vec::new(),
        });
    }

    /// Notes that the lock is not used any more. Returns whether others wait whose turn it is now.
    fn end_use(&mut self, now: Instant) -> bool {
        if self.waiters.is_empty() {
            return false;
        }
        self.attended_until = Some(now + UNATTENDED);
        match &mut self.turn {
            Some(turn) if now < turn.ends => {
                turn.left = Some(now);
                false
            }
            _ => self.sleepers > 0,
        }
    }

    /// Returns when to look again whether someone still waits in the queue of processes, while
    /// someone does or a connection has the lock.
    fn attended_later(&self, now: Instant) -> Option<Instant> {
        let until = self.attended_until?;
        if self.is_attended {
            return Some(until.max(now + UNATTENDED));
        }
        self.hold.is_some().then(|| now + PIECE)
    }

    /// Returns when the next one who waits is given up.
    fn next_absent(&self) -> Option<Instant> {
        self.waiters.iter().map(|waiter| waiter.until).min()
    }

    /// Takes the hold out if nobody uses the lock any more.
    fn end_unused_hold(&mut self) -> Option<Hold> {
        self.hold.take_if(|hold| hold.users.is_empty())
    }

    /// Removes those who did not come for what was reserved for them. Returns what they had
    /// prepared, and the hold if nobody else uses it; otherwise when the next reservation ends.
    fn drop_absent_users(&mut self, now: Instant) -> Absent {
        let mut absent = Absent::default();
        let Some(hold) = &mut self.hold else {
            return absent;
        };
        hold.users.retain(|user| match user.reserved {
            Some(Reservation { until, .. }) if until <= now => {
                absent.parties.push(Arc::clone(&user.party));
                false
            }
            Some(Reservation { until, .. }) => {
                absent.next = Some(absent.next.map_or(until, |next| next.min(until)));
                true
            }
            None => true,
        });
        absent.hold = self.end_unused_hold();
        absent
    }
}

/// Who did not come.
#[derive(Debug, Default)]
struct Absent {
    parties: Vec<Arc<dyn LeaseParty>>,
    hold: Option<Hold>,
    /// When the next reservation ends.
    next: Option<Instant>,
}

impl Absent {
    /// Releases what was prepared for them.
    fn end(self) {
        in_background(|| self.parties.iter().for_each(|party| party.release()));
        if let Some(hold) = self.hold {
            // If the kernel refuses, the next acquisition reports it.
            let _ = hold.guard.release();
        }
    }
}

impl ProcessLock {
    /// Returns the one of this process for a lock file.
    pub(crate) fn of(lock_file: &Path) -> Arc<Self> {
        let mut locks = lock_all();
        locks.retain(|known| known.strong_count() > 0);
        let mut known = locks.iter().filter_map(Weak::upgrade);
        if let Some(known) = known.find(|known| known.lock_file == lock_file) {
            return known;
        }
        let new = Arc::new(Self {
            lock_file: lock_file.to_owned(),
            state: Mutex::default(),
            changed: Condvar::new(),
            thread: Condvar::new(),
        });
        locks.push(Arc::downgrade(&new));
        new
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock_whole(&self.state)
    }

    /// Lets a connection use the lock, if it is free and the connection's turn, or if this process
    /// has it and others may join. Otherwise the connection gets a place in the order, if
    /// `may_wait`. `entered` is told of the guard, and whether the connection's own locker took it:
    /// then it says whether the connection keeps its own locks along with it.
    pub(crate) fn enter(
        self: &Arc<Self>,
        asker: &Asker,
        may_wait: bool,
        entered: impl FnOnce(&mut Guard, bool) -> bool,
    ) -> Entry {
        let thread = thread::current().id();
        let mut state = self.lock();
        match self.admit_now(&mut state, asker, thread) {
            Ok(true) => {
                if let Some(hold) = &mut state.hold {
                    let is_owner = hold.owner == asker.id;
                    let is_leased = entered(&mut hold.guard, is_owner);
                    hold.is_leased = if is_owner { is_leased } else { hold.is_leased };
                }
                Entry::Inside
            }
            Ok(false) if may_wait => {
                let now = Instant::now();
                state.keep_place(asker, thread, now, now + PLACE);
                state.attended_until.get_or_insert(now + UNATTENDED);
                self.wake_thread(&mut state, now + UNATTENDED);
                Entry::Busy
            }
            Ok(false) => Entry::Busy,
            Err(error) => Entry::Failed(error),
        }
    }

    fn admit_now(
        &self,
        state: &mut State,
        asker: &Asker,
        thread: ThreadId,
    ) -> Result<bool, LockError> {
        if let Some(hold) = &state.hold {
            let now = Instant::now();
            let since = state.waits_since(asker.id, now);
            let is_admitted = hold.admits(asker, thread, since, now) == Admission::Admitted;
            if is_admitted {
                state.admit(asker, thread, None);
            }
            return Ok(is_admitted);
        }
        let now = Instant::now();
        if !state.is_turn_of(asker.id, now) {
            return Ok(false);
        }
        let Some(guard) = asker.locker.acquire_without_waiting()? else {
            return Ok(false);
        };
        state.place_of = None;
        state.begin_hold(guard, asker.id, asker.id, now);
        state.admit(asker, thread, None);
        Ok(true)
    }

    /// Ends the use of the lock by a connection. `keep_locks` is called before the lock is
    /// released, with whether the connection may keep its own locks along with it.
    ///
    /// # Errors
    ///
    /// Those of the release.
    pub(crate) fn leave(
        &self,
        id: ConnectionId,
        keep_locks: impl FnOnce(bool),
    ) -> Result<(), LockError> {
        let mut state = self.lock();
        let Some(hold) = &mut state.hold else {
            return Ok(());
        };
        hold.users.retain(|user| user.id != id);
        // Others may have it for long, and a lease ends only when nobody has it.
        let is_last = hold.users.is_empty();
        keep_locks(hold.is_leased && hold.owner == id && is_last);
        let Some(hold) = state.end_unused_hold() else {
            return Ok(());
        };
        // Those who wait look by themselves when the turn of this connection may be over.
        let now = Instant::now();
        let is_over = state.end_use(now);
        if !state.waiters.is_empty() {
            self.have_thread_look(&state, now + UNATTENDED);
        }
        // The release may take a while: it leaves time to programs without penholder.
        drop(state);
        let released = hold.guard.release();
        if is_over {
            self.changed.notify_all();
        }
        released
    }

    /// Takes a connection out that found SQLite's own lock taken; with `may_wait` the lock stays
    /// reserved for it, while its busy handler sleeps.
    pub(crate) fn set_aside(
        self: &Arc<Self>,
        asker: &Asker,
        may_wait: bool,
    ) -> Result<(), LockError> {
        if !may_wait {
            return self.leave(asker.id, |_| asker.party.release());
        }
        let mut state = self.lock();
        let now = Instant::now();
        let user = state.hold.as_mut().and_then(|hold| hold.user(asker.id));
        if let Some(user) = user {
            user.reserved = Some(Reservation::from(now, false));
            self.wake_thread(&mut state, now + RESERVED);
            if !state.has_thread {
                // Nobody would end the reservation.
                drop(state);
                return self.leave(asker.id, |_| asker.party.release());
            }
        }
        Ok(())
    }

    /// Sleeps for a connection that was told to wait, until its turn has come and `try_write` says
    /// that SQLite's own lock is its too, for at most `pause`. Returns `false` at once if it does not
    /// wait here.
    pub(crate) fn sleep(
        &self,
        asker: &Asker,
        pause: Duration,
        try_write: impl Fn() -> bool,
    ) -> bool {
        let thread = thread::current().id();
        let begun = Instant::now();
        let until = begun + pause;
        // When this sleep got the lock.
        let mut granted = None;
        let mut state = self.lock();
        if !state.sleeps_here(asker.id, begun) {
            return false;
        }
        loop {
            let now = Instant::now();
            let since = state.waits_since(asker.id, begun);
            let hold = state.hold.as_ref();
            let admission = hold.map(|hold| hold.admits(asker, thread, since, now));
            if admission != Some(Admission::Admitted) {
                granted = None;
                if state.keep_place(asker, thread, begun, now.max(until) + PLACE) {
                    self.have_thread_look(&state, now + PIECE);
                }
                if now >= until {
                    return true;
                }
                state = self.wait_a_while(state, admission, now, until);
                if !state.knows(asker.id) {
                    // The lock cannot be used: the next try says why.
                    drop(state);
                    thread::sleep(until.saturating_duration_since(Instant::now()));
                    return true;
                }
                continue;
            }
            state.admit(asker, thread, Some(Reservation::from(now, false)));
            drop(state);
            if try_write() || now >= until {
                if !self.note_told(asker.id) {
                    // This thread did not run for so long that the reservation is over.
                    asker.party.release();
                }
                return true;
            }
            if granted.get_or_insert(now).elapsed() > RESERVED_MAX {
                // A program without penholder has SQLite's lock: others may not wait for that one.
                let _ = self.leave(asker.id, |_| asker.party.release());
                // It may join again at once, if others have the lock.
                granted = None;
            } else {
                thread::sleep((until - now).min(LOOK));
            }
            state = self.lock();
        }
    }

    /// Notes that a sleep ends for what is reserved; `false` if nothing is any more.
    fn note_told(&self, id: ConnectionId) -> bool {
        let mut state = self.lock();
        let user = state.hold.as_mut().and_then(|hold| hold.user(id));
        let Some(reserved) = user.and_then(|user| user.reserved.as_mut()) else {
            return false;
        };
        reserved.is_told = true;
        true
    }

    /// Gives up the place of a connection, and what was reserved for it.
    pub(crate) fn forget(&self, id: ConnectionId) {
        let mut state = self.lock();
        if let Some(place) = state.place(id) {
            state.waiters.remove(place);
        }
        let user = state.hold.as_mut().and_then(|hold| hold.user(id));
        if let Some(reserved) = user.and_then(|user| user.reserved.as_mut()) {
            reserved.until = Instant::now();
            self.thread.notify_one();
        }
    }

    /// Waits for a change, or in the queue of processes, until something may have to be done; at most
    /// until `until`.
    fn wait_a_while<'a>(
        &'a self,
        state: MutexGuard<'a, State>,
        admission: Option<Admission>,
        now: Instant,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let turn = state.turn.filter(|turn| now < turn.ends);
        let next = match (admission, turn) {
            (Some(admission), turn) => admission.latest().or(turn.map(|turn| turn.ends)),
            (None, Some(turn)) if now < turn.lasts_until() => Some(turn.lasts_until()),
            (None, _) if !state.is_attended => return self.attend(state, until),
            (None, _) => None,
        };
        let next = next.map_or(until, |next| next.min(until));
        self.wait_for_change(state, next.saturating_duration_since(now))
    }

    fn wait_for_change<'a>(
        &self,
        state: MutexGuard<'a, State>,
        longest: Duration,
    ) -> MutexGuard<'a, State> {
        let mut state = state;
        state.sleepers += 1;
        let waited = self.changed.wait_timeout(state, longest);
        state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
        state.sleepers -= 1;
        state
    }

    /// Wakes the connections that sleep until something changes.
    fn wake_sleepers(&self, state: &State) {
        if state.sleepers > 0 {
            self.changed.notify_all();
        }
    }

    // ---- the queue of processes ------------------------------------------------------------

    /// Waits in the queue of processes until `until` at most, and reserves the lock for the first one
    /// who waits. The place stays for the one who comes next.
    fn attend<'a>(
        &'a self,
        mut state: MutexGuard<'a, State>,
        until: Instant,
    ) -> MutexGuard<'a, State> {
        let Some(first) = state.waiters.front() else {
            return state;
        };
        let (id, locker) = (first.asker.id, Arc::clone(&first.asker.locker));
        state.is_attended = true;
        state.attended_until = Some(until + UNATTENDED);
        state.place_of = Some(Arc::clone(&locker));
        drop(state);
        let pause = until.saturating_duration_since(Instant::now());
        let good = Deadline::after(pause.saturating_add(GOOD));
        let taken = locker.wait_in_place(&good, &Deadline::after(pause));
        let mut state = self.lock();
        state.is_attended = false;
        match taken {
            Ok(Some(guard)) => {
                state.place_of = None;
                let unwanted = state.reserve_for_first(guard, id, Instant::now());
                if unwanted.is_some() {
                    drop(state);
                    drop(unwanted);
                    state = self.lock();
                }
                self.wake_sleepers(&state);
            }
            Ok(None) => self.wake_sleepers(&state),
            Err(error) if error.is_timeout() => {}
            // The connections get the error when they try by themselves.
            Err(_) => state.waiters.clear(),
        }
        state
    }

    /// Has the thread look at this time, or earlier. If the system refuses it, the connections try by
    /// themselves.
    fn wake_thread(self: &Arc<Self>, state: &mut State, at: Instant) {
        if state.has_thread {
            return self.have_thread_look(state, at);
        }
        let lock = Arc::clone(self);
        let thread = thread::Builder::new().name("penholder-wait".to_owned());
        state.has_thread = thread.spawn(move || lock.serve()).is_ok();
        if !state.has_thread {
            state.waiters.clear();
        }
    }

    /// Wakes the thread, if there is one and it would sleep for longer than until `at`.
    fn have_thread_look(&self, state: &State, at: Instant) {
        if state.thread_wakes_at.is_some_and(|wakes_at| wakes_at > at) {
            self.thread.notify_one();
        }
    }

    /// Sees to it that nobody is waited for who does not come, until no connection has waited for a
    /// while.
    fn serve(self: Arc<Self>) {
        let mut idle_since = Instant::now();
        let mut state = self.lock();
        loop {
            let now = Instant::now();
            let absent = state.drop_absent_users(now);
            let next = absent.next;
            if !absent.parties.is_empty() {
                drop(state);
                absent.end();
                state = self.lock();
                self.wake_sleepers(&state);
                continue;
            }
            state.drop_absent_waiters(now);
            if state.waiters.is_empty() && !state.is_attended {
                state.attended_until = None;
                if let Some(locker) = state.place_of.take() {
                    locker.leave_place();
                }
                if next.is_none() && idle_since.elapsed() > IDLE {
                    state.has_thread = false;
                    return;
                }
            } else {
                idle_since = now;
            }
            let is_open = state.hold.is_none() && !state.is_attended;
            let unattended = state.attended_until.filter(|_| is_open);
            if unattended.is_some_and(|at| at <= now) {
                state = self.attend(state, now + PIECE);
                // One who sleeps goes on.
                state.attended_until = Some(Instant::now() + UNATTENDED);
                self.wake_sleepers(&state);
                continue;
            }
            let next = [
                next,
                unattended,
                state.attended_later(now),
                state.next_absent(),
            ];
            let next = next.into_iter().flatten().min();
            // One that sleeps may get the lock at any time, and not come for it.
            let longest = if state.waiters.is_empty() {
                IDLE
            } else {
                PIECE
            };
            let pause = next.map_or(longest, |next| next.saturating_duration_since(now));
            let pause = pause.min(longest);
            state.thread_wakes_at = Some(now + pause);
            let waited = self.thread.wait_timeout(state, pause);
            state = waited.map_or_else(|poisoned| poisoned.into_inner().0, |(state, _)| state);
            state.thread_wakes_at = None;
        }
    }
}

/// The locks of this process. A fork locks it first, so that the child finds it whole.
static LOCKS: Mutex<Vec<Weak<ProcessLock>>> = Mutex::new(Vec::new());

/// The locks of this process, locked.
pub(crate) type ProcessLocks = MutexGuard<'static, Vec<Weak<ProcessLock>>>;

pub(crate) fn lock_all() -> ProcessLocks {
    lock_whole(&LOCKS)
}

/// Forgets the locks, which are the parent's: their mutexes may be locked for ever in a forked
/// child. They are not dropped: freeing memory is not for a fork handler.
pub(crate) fn forget(locks: &mut Vec<Weak<ProcessLock>>) {
    mem::forget(mem::take(locks));
}

fn lock_whole<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one held, so what it guards is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests;
