//! The turnstile: who is served next, in memory that all processes share.
//!
//! The kernel's lock is the truth. What stands here only decides who tries to
//! take it, and when: nothing in it grants the lock, all of it may be garbage,
//! and then order and latency suffer, never exclusion or progress.
//!
//! # The word
//!
//! | state | meaning | who may try the kernel's lock | leaves by |
//! | --- | --- | --- | --- |
//! | `Free` | at rest, or let go while the first in line, called less than [`BARGING`] ago, is waking up | anybody | the taker → `Held` |
//! | `Held(x)` | `x` has the kernel's lock, or is about to say that it has not | if nobody is in line, or nothing moved during a pause: then `x` may be dead | release by `x` → `Free`, `Kept`, `Reserved`; takeover → `Held(y)` |
//! | `Kept(x)` | released; `x` may take it again within its slice | `x`; the first in line, if nothing moved during a short pause | `x` → `Held(x)`; the first in line → `Held(y)` |
//! | `Reserved(x)` | released, for `x`, who was first in line | `x`; the others if nothing moved during a pause: then `x` is stopped or dead and loses its place until it wakes | `x` → `Held(x)`; passed over → `Held(y)`; `x` gives up → as a release |
//!
//! Every change to `Held` is made while holding the kernel's lock, and counts the
//! word's sequence up, so that "nothing moved" can be told by comparing it. A
//! release gives the kernel's lock back first and then changes the word, from
//! exactly what it was: if somebody took over in between, their word stands.
//! After a taker has the kernel's lock it looks at the word again; if it is not
//! its turn any more, it lets go and queues.
//!
//! # The line
//!
//! A process waits in a slot of its own (its threads queue in the process first).
//! It draws a ticket, and sets its bit: from then on it is in line. The line is
//! the set of bits, the first in line is the lowest ticket among them. Only its
//! owner sets a bit; whoever passes a slot over (dead, stopped, given up)
//! clears it, and its owner, if it lives, sets it again when it wakes, with the
//! ticket it had. So nothing here has to be repaired after a crash.
//!
//! | a waiter | sleeps at most | then |
//! | --- | --- | --- |
//! | first in line | [`PROBE`], longer when nothing moves, up to [`PROBE_MAX`] | if nothing moved: tries the kernel's lock |
//! | first in line, sees `Kept` | [`KEPT_PAUSE`] | the same |
//! | further back | [`PATIENCE`] and more, by its place | the same: whoever is before it is dead or stopped |
//!
//! Sleeping is on a futex word of one's own. Whoever leaves the line from its
//! front wakes the next one once, so that there is always one that probes.

use std::time::Duration;

#[cfg(test)]
mod model;

/// How many processes can wait in the page; further ones poll.
pub(crate) const SLOTS: usize = 512;

/// How long the holder may take the lock again while others wait.
const SLICE: Duration = Duration::from_millis(2);
/// How long, where many wait: each hand-over costs some tens of microseconds.
const SLICE_MIN: Duration = Duration::from_millis(1);
/// What the slices of all together are to last, within these bounds.
const ROUND: Duration = Duration::from_millis(48);
/// A caller that pauses longer than this between two writes does not keep the
/// lock for its next one.
const QUICK: Duration = Duration::from_micros(20);
/// How long the first in line can be passed by others that are running while it,
/// having been called, has yet to wake up.
pub(crate) const BARGING: Duration = Duration::from_millis(2);
/// How long somebody alone in line watches the word before it sleeps: about what
/// going to sleep and being woken costs.
const SPIN: Duration = Duration::from_micros(25);
/// The first pause between two looks by the first in line.
const PROBE: Duration = Duration::from_millis(1);
/// Its longest pause.
const PROBE_MAX: Duration = Duration::from_micros(2500);
/// How long a lock that is kept for somebody may stand unused.
const KEPT_PAUSE: Duration = Duration::from_micros(50);
/// The pause of those further back, and what each one before them adds.
const PATIENCE: Duration = Duration::from_millis(50);
const PATIENCE_EACH: Duration = Duration::from_millis(2);
/// A waiter that is still in line so long after its deadline is stopped.
const OVERDUE: Duration = Duration::from_millis(100);
/// How long before the end of a slice the next in line is woken, so that it is
/// awake by then.
const WAKING: Duration = Duration::from_micros(60);
/// Where nobody waits, one acquisition of so many is measured.
const SAMPLE: u32 = 8;
/// How often an heir tries at once when somebody's look is in its way. In the
/// model it gives up soon, or it would hardly ever go to sleep over that.
const HEIR_TRIES: u32 = if cfg!(test) { 2 } else { 16 };

/// A slot of the page.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Index(u16);

impl Index {
    /// `None` if there is no such slot.
    pub(crate) fn new(number: usize) -> Option<Self> {
        u16::try_from(number)
            .ok()
            .filter(|_| number < SLOTS)
            .map(Self)
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }

    fn group(self) -> usize {
        self.number() / 64
    }

    fn bit(self) -> u64 {
        1 << (self.number() % 64)
    }
}

/// A word of the shared memory that the turnstile uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Who has the lock or may have it: [`Turn`].
    Turnstile,
    /// The last ticket drawn.
    LastTicket,
    /// Sixty-four slots: those in line.
    Line(usize),
    /// A slot's ticket.
    Ticket(Index),
    /// Since when it waits, on the monotonic clock, in nanoseconds.
    Since(Index),
    /// Its deadline, on the same clock; `u64::MAX` for none.
    Until(Index),
    /// When it was first called to take the lock; zero before.
    Called(Index),
}

/// The shared memory, and what else the turnstile asks of the world. All of it
/// is sequentially consistent.
pub(crate) trait Memory {
    /// How many groups of sixty-four slots there are.
    fn groups(&self) -> usize;
    fn load(&self, word: Word) -> u64;
    fn store(&self, word: Word, value: u64);
    /// Changes a word from `old` to `new`; otherwise says what it is.
    fn exchange(&self, word: Word, old: u64, new: u64) -> Result<(), u64>;
    /// Adds one and returns the sum.
    fn count_up(&self, word: Word) -> u64;
    fn set_bits(&self, word: Word, bits: u64);
    fn clear_bits(&self, word: Word, bits: u64);
    /// How often a slot was called.
    fn calls(&self, slot: Index) -> u32;
    /// Wakes whoever sleeps in a slot, or keeps it from falling asleep.
    fn call(&self, slot: Index);
    /// Sleeps until the slot is called, unless it was since `calls`, at most for
    /// `pause`.
    fn sleep(&self, slot: Index, calls: u32, pause: Duration);
    /// Whether the process that has this slot lives: the kernel's word.
    fn lives(&self, slot: Index) -> bool;
    /// The monotonic clock, in nanoseconds.
    fn now(&self) -> u64;
    /// The same, some milliseconds behind, for a quarter of the price.
    fn about_now(&self) -> u64;
    /// Whether there is a second processor to spin on.
    fn can_spin(&self) -> bool;
    /// A moment of spinning.
    fn relax(&self);
}

/// The kernel's lock.
pub(crate) trait Kernel {
    type Error;
    /// Takes it if it is free; `now` is on the memory's clock.
    fn try_lock(&mut self, now: u64) -> Result<bool, Self::Error>;
    /// Gives it back; `at_rest` if nobody waits.
    fn unlock(&mut self, at_rest: bool) -> Result<(), Self::Error>;
    /// Told once in a wait if somebody has it who does not queue.
    fn met_foreigner(&mut self);
}

/// The word of the turnstile: two bits of state, sixteen of slot, the rest a
/// sequence that counts acquisitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Turn(u64);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Free,
    Held,
    Kept,
    Reserved,
}

impl Turn {
    pub(crate) fn of(memory: &impl Memory) -> Self {
        Self(memory.load(Word::Turnstile))
    }

    fn new(state: State, slot: u16, sequence: u64) -> Self {
        Self(state as u64 | u64::from(slot) << 2 | sequence << 18)
    }

    /// What somebody else read of the memory.
    pub(crate) fn of_word(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn state(self) -> State {
        match self.0 & 3 {
            0 => State::Free,
            1 => State::Held,
            2 => State::Kept,
            _ => State::Reserved,
        }
    }

    /// The slot it speaks of, if there is such a slot.
    pub(crate) fn slot(self) -> Option<Index> {
        #[expect(clippy::cast_possible_truncation, reason = "sixteen bits of it")]
        let number = (self.0 >> 2) as u16;
        Index::new(usize::from(number))
    }

    /// Whom it speaks of, unless it is at rest.
    pub(crate) fn owner(self) -> Option<Index> {
        self.slot().filter(|_| self.state() != State::Free)
    }

    fn is_for(self, slot: Index) -> bool {
        self.state() == State::Free || self.slot() == Some(slot)
    }

    fn held_by(self, slot: Index) -> Self {
        Self::new(State::Held, slot.0, (self.0 >> 18) + 1)
    }

    fn free(self) -> Self {
        Self::new(State::Free, 0, self.0 >> 18)
    }

    fn kept(self) -> Self {
        Self(self.0 & !3 | State::Kept as u64)
    }

    fn reserved_for(self, slot: Index) -> Self {
        Self::new(State::Reserved, slot.0, self.0 >> 18)
    }

    fn change(self, memory: &impl Memory, to: Self) -> Result<(), Self> {
        memory.exchange(Word::Turnstile, self.0, to.0).map_err(Self)
    }
}

/// In which order waiting processes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Policy {
    /// First come, first served, in slices: whoever has its turn may take the
    /// lock again for 1 to 2 ms while others wait (the shorter the more wait), and a process that is running
    /// may pass one that was called less than 2 ms ago and has yet to wake up. So
    /// nobody waits much longer than 2 ms for each one before it, if holds are
    /// shorter than that.
    #[default]
    Slices,
    /// First come, first served, strictly: one hold, then the next. Each hand-over
    /// wakes another process, which costs more than a short write itself.
    Fifo,
}

/// How a lock was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// It comes from somebody else or from rest, not from our own last release.
    pub(crate) fresh: bool,
    /// Who held it and died.
    pub(crate) recovered: Option<Index>,
    /// Whose turn it was, and did not come.
    pub(crate) passed_over: Option<Index>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Waited {
    Taken(Taken),
    /// The deadline came first; so many were before us in line.
    TimedOut {
        ahead: usize,
    },
    /// The caller does not want it any more.
    Cancelled,
    /// The memory is not the one that the others use any more.
    Outdated,
}

/// What makes up a place in line, as its owner wrote it.
type Place = [(Word, u64); 3];

/// What ends a wait besides the lock.
pub(crate) struct Patience<'a> {
    /// On the memory's clock, in nanoseconds.
    pub(crate) until: u64,
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
    /// Asked at every longer pause.
    pub(crate) is_outdated: &'a dyn Fn() -> bool,
}

/// A reading of the memory's clock. Where nobody waits most are not exact: an
/// exact one costs a sixtieth of an uncontended acquisition.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Moment {
    pub(crate) nanos: u64,
    is_exact: bool,
}

impl Moment {
    fn exact(memory: &impl Memory) -> Self {
        Self {
            nanos: memory.now(),
            is_exact: true,
        }
    }

    fn of(memory: &impl Memory, is_exact: bool) -> Self {
        if is_exact {
            return Self::exact(memory);
        }
        Self {
            nanos: memory.about_now(),
            is_exact,
        }
    }

    /// How long ago another moment was, and whether that is exact.
    fn since(self, other: Self) -> (u64, bool) {
        let nanos = self.nanos.saturating_sub(other.nanos);
        (nanos, self.is_exact && other.is_exact)
    }
}

/// One process at the turnstile; used by one thread at a time.
#[derive(Debug)]
pub(crate) struct Member {
    slot: Index,
    /// The word while we hold, for the release.
    held: Option<Turn>,
    /// The word as our last release left it, if it kept the lock for us.
    kept: Option<Turn>,
    taken: Moment,
    slice_ends: u64,
    /// Whether the next in line was woken for the end of this slice.
    announced: bool,
    released: Moment,
    /// Whether somebody was in line when our hold ended.
    others: bool,
    /// How often we have taken it.
    count: u32,
    /// Whether our last acquisition came right after our last release.
    quick: bool,
    /// A smoothed length of our holds, in nanoseconds.
    hold: u64,
    /// Whether another process did what we last waited for.
    was_served: bool,
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

impl Member {
    pub(crate) fn new(slot: Index) -> Self {
        Self {
            slot,
            held: None,
            kept: None,
            taken: Moment::default(),
            slice_ends: 0,
            announced: false,
            released: Moment::default(),
            others: false,
            count: 0,
            quick: false,
            hold: 0,
            was_served: false,
        }
    }

    /// Whether it took the lock, and has not given it back.
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// When the lock that we hold was taken, on the memory's clock.
    pub(crate) fn taken_at(&self) -> u64 {
        self.taken.nanos
    }

    /// The time, for an acquisition: exact if others wait, or if it is one of the
    /// sample that is measured.
    pub(crate) fn begins(&self, memory: &impl Memory) -> Moment {
        Moment::of(memory, self.others || self.count.is_multiple_of(SAMPLE))
    }

    /// Takes the lock if that passes nobody unduly; `polite`: nobody at all.
    pub(crate) fn try_take<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        now: Moment,
        polite: bool,
    ) -> Result<Option<Taken>, K::Error> {
        debug_assert!(self.held.is_none(), "one hold at a time");
        let (gap, is_exact) = now.since(self.released);
        self.quick = is_exact && gap < nanos(QUICK);
        let word = Turn::of(memory);
        let allowed = if polite {
            first(memory).is_none()
        } else {
            word.is_for(self.slot) || nobody_waits(memory)
        };
        if !allowed {
            return Ok(None);
        }
        self.attempt(memory, kernel, word, now)
    }

    /// Waits in line for the lock.
    pub(crate) fn wait<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        patience: &Patience<'_>,
    ) -> Result<Waited, K::Error> {
        debug_assert!(self.held.is_none(), "one hold at a time");
        let place = self.enter_line(memory, patience.until);
        let waited = self.wait_in_line(memory, kernel, patience, place);
        let taken = matches!(waited, Ok(Waited::Taken(_)));
        self.leave_line(memory, taken);
        waited
    }

    fn enter_line(&self, memory: &impl Memory, until: u64) -> Place {
        let mut ticket = memory.count_up(Word::LastTicket);
        // The count may be garbage, and whoever is in line is before us.
        let tickets = in_line(memory).map(|slot| memory.load(Word::Ticket(slot)));
        let last = tickets.max().unwrap_or(0);
        if ticket <= last {
            ticket = last.saturating_add(1);
            memory.store(Word::LastTicket, ticket);
        }
        let place = [
            (Word::Ticket(self.slot), ticket),
            (Word::Since(self.slot), memory.now()),
            (Word::Until(self.slot), until),
        ];
        for (word, value) in place {
            memory.store(word, value);
        }
        memory.store(Word::Called(self.slot), 0);
        crate::failpoint!("ticket");
        memory.set_bits(Word::Line(self.slot.group()), self.slot.bit());
        crate::failpoint!("queued");
        place
    }

    fn wait_in_line<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        patience: &Patience<'_>,
        place: Place,
    ) -> Result<Waited, K::Error> {
        let mut may_spin = memory.can_spin() && self.hold < nanos(SPIN) && !self.was_served;
        let mut pauses = 0;
        let mut met_foreigner = false;
        // The word, if a whole pause went by since it was seen.
        let mut unmoved = None;
        loop {
            let calls = memory.calls(self.slot);
            let word = Turn::of(memory);
            if word.is_for(self.slot) || unmoved == Some(word) {
                if let Some(taken) = self.attempt_as_heir(memory, kernel, word)? {
                    return Ok(Waited::Taken(taken));
                }
                // Nobody in the queue has it, for a whole pause, and yet it is
                // not to be had.
                if word.is_for(self.slot) && unmoved == Some(word) && !met_foreigner {
                    met_foreigner = true;
                    kernel.met_foreigner();
                }
            }
            let ahead = ahead(memory, self.slot);
            let now = memory.now();
            if now >= patience.until {
                return Ok(Waited::TimedOut { ahead });
            }
            if (patience.is_cancelled)() {
                return Ok(Waited::Cancelled);
            }
            if may_spin && ahead == 0 {
                may_spin = false;
                self.watch(memory, now);
                continue;
            }
            let pause = pause(word, ahead, pauses);
            // Not before the first: most waits end with it, and the look is a system call.
            let looks = pauses > 0 && pause >= PATIENCE || pauses % 64 == 63;
            if looks && (patience.is_outdated)() {
                return Ok(Waited::Outdated);
            }
            let left = Duration::from_nanos(patience.until - now);
            memory.sleep(self.slot, calls, pause.min(left));
            let called = memory.calls(self.slot) != calls;
            if called {
                crate::failpoint!("woken");
                // Served by another: not back into the line.
                if (patience.is_cancelled)() {
                    return Ok(Waited::Cancelled);
                }
                pauses = 0;
                may_spin = memory.can_spin();
            } else {
                pauses += 1;
            }
            unmoved = (!called && pause <= left).then_some(word);
            self.stay_in_line(memory, place);
        }
    }

    /// Passed over while we slept (or the page is garbage): back to our place.
    fn stay_in_line(&self, memory: &impl Memory, place: Place) {
        for (word, value) in place {
            if memory.load(word) != value {
                memory.store(word, value);
            }
        }
        let line = Word::Line(self.slot.group());
        if memory.load(line) & self.slot.bit() == 0 {
            memory.set_bits(line, self.slot.bit());
        }
    }

    /// Spins until the word is ours to take, for a short while.
    fn watch(&self, memory: &impl Memory, begun: u64) {
        while !Turn::of(memory).is_for(self.slot) {
            if memory.now().saturating_sub(begun) > nanos(SPIN) {
                return;
            }
            memory.relax();
        }
    }

    /// Somebody who only looks may have the kernel's lock for an instant: an heir
    /// does not go to sleep over that.
    fn attempt_as_heir<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        word: Turn,
    ) -> Result<Option<Taken>, K::Error> {
        let reserved = word.state() == State::Reserved && word.slot() == Some(self.slot);
        let tries = if reserved { HEIR_TRIES } else { 1 };
        for _ in 0..tries {
            if let Some(taken) = self.attempt(memory, kernel, word, Moment::exact(memory))? {
                return Ok(Some(taken));
            }
            if Turn::of(memory) != word {
                return Ok(None);
            }
            memory.relax();
        }
        Ok(None)
    }

    /// Takes the kernel's lock, and then the word if it is still `seen`, or ours.
    fn attempt<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        seen: Turn,
        now: Moment,
    ) -> Result<Option<Taken>, K::Error> {
        if !kernel.try_lock(now.nanos)? {
            return Ok(None);
        }
        crate::failpoint!("flocked");
        let mut word = seen;
        // Others change the word at most as often as they can let go of it.
        loop {
            let held = word.held_by(self.slot);
            match word.change(memory, held) {
                Ok(()) => {
                    crate::failpoint!("held");
                    return Ok(Some(self.taken(memory, word, held, now)));
                }
                Err(moved) if moved.is_for(self.slot) => word = moved,
                Err(_not_our_turn) => {
                    kernel.unlock(false)?;
                    self.make_up(memory);
                    return Ok(None);
                }
            }
        }
    }

    /// We had the kernel's lock out of turn: whoever has the turn may have tried
    /// meanwhile, and gone to sleep.
    fn make_up(&self, memory: &impl Memory) {
        let word = Turn::of(memory);
        match word.owner() {
            Some(heir) if word.state() == State::Reserved => memory.call(heir),
            _ => wake_first(memory),
        }
    }

    fn taken(&mut self, memory: &impl Memory, from: Turn, held: Turn, now: Moment) -> Taken {
        self.held = Some(held);
        self.was_served = false;
        self.taken = now;
        let other = from.slot().filter(|&slot| slot != self.slot);
        self.count = self.count.wrapping_add(1);
        // Not merely one that says so: a slot has another owner now and then.
        let ours = self.kept.take() == Some(from);
        if !ours {
            self.slice_ends = now.nanos.saturating_add(slice(memory));
            self.announced = false;
        }
        let mut taken = Taken {
            fresh: !ours,
            recovered: None,
            passed_over: None,
        };
        match from.state() {
            State::Reserved => taken.passed_over = other,
            State::Held => taken.recovered = other.filter(|&holder| !memory.lives(holder)),
            State::Free | State::Kept => {}
        }
        if let Some(absent) = taken.passed_over {
            remove(memory, absent);
            // It may be awake, and about to sleep outside the line.
            memory.call(absent);
        }
        taken
    }

    /// Makes the word ours, whatever stands there: the kernel's lock is ours.
    pub(crate) fn adopt(&mut self, memory: &impl Memory) {
        let mut word = Turn::of(memory);
        loop {
            let held = word.held_by(self.slot);
            match word.change(memory, held) {
                Ok(()) => {
                    self.taken(memory, word.free(), held, Moment::exact(memory));
                    return;
                }
                Err(moved) => word = moved,
            }
        }
    }

    /// Notes that a hold ends, and says how long it was, in nanoseconds, and
    /// whether that is exact.
    pub(crate) fn ends(&mut self, memory: &impl Memory) -> (u64, bool) {
        self.others = !nobody_waits(memory);
        self.released = Moment::of(memory, self.others || self.taken.is_exact);
        let (hold, is_exact) = self.released.since(self.taken);
        if is_exact {
            self.hold = (self.hold / 8 * 7).saturating_add(hold / 8);
        }
        (hold, is_exact)
    }

    /// Gives the lock back after [`ends`](Self::ends), and sees to it that the next
    /// one learns of it. `more`: another thread of this process waits.
    pub(crate) fn release<K: Kernel>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        policy: Policy,
        more: impl FnOnce() -> bool,
    ) -> Result<(), K::Error> {
        let Some(held) = self.held.take() else {
            return kernel.unlock(true);
        };
        let now = self.released.nanos;
        if !self.others {
            let unlocked = kernel.unlock(true);
            crate::failpoint!("unlocked_alone");
            if held.change(memory, held.free()).is_ok() && !nobody_waits(memory) {
                // Somebody queued between our two looks.
                wake_first(memory);
            }
            return unlocked;
        }
        if policy == Policy::Slices && now < self.slice_ends && (self.quick || more()) {
            let unlocked = kernel.unlock(false);
            crate::failpoint!("unlocked_to_keep");
            let kept = held.kept();
            self.kept = held.change(memory, kept).is_ok().then_some(kept);
            crate::failpoint!("kept");
            if !self.announced && now + nanos(WAKING) > self.slice_ends {
                self.announced = true;
                wake_first(memory);
            }
            return unlocked;
        }
        // Waking up takes the heir longer than letting go takes us: both at once.
        // It watches the word for a while when it is called.
        wake_first(memory);
        let unlocked = kernel.unlock(false);
        crate::failpoint!("unlocked");
        let barging = policy == Policy::Slices && !self.quick;
        pass(memory, held, barging, now);
        unlocked
    }

    /// This wait ended because another process did what was wanted: spinning would
    /// only keep that one from running.
    pub(crate) fn was_served(&mut self) {
        self.was_served = true;
    }

    /// Gives up whatever the word promises us: this process leaves.
    pub(crate) fn leave(&self, memory: &impl Memory) {
        let word = Turn::of(memory);
        if word.state() != State::Free && word.slot() == Some(self.slot) {
            pass(memory, word, false, memory.now());
        }
    }

    fn leave_line(&self, memory: &impl Memory, taken: bool) {
        crate::failpoint!("leaving");
        // Whoever serves us, or passes us over, takes us out and goes on with those
        // behind us.
        let was_in_line = is_in_line(memory, self.slot);
        remove(memory, self.slot);
        // Looked at afterwards: whoever left before us may have called us, as the
        // next, while we were already leaving.
        let was_first = was_in_line && ahead(memory, self.slot) == 0;
        if taken {
            crate::failpoint!("left");
            if was_first {
                wake_first(memory);
            }
            return;
        }
        crate::failpoint!("gave_up");
        let word = Turn::of(memory);
        if word.state() == State::Reserved && word.slot() == Some(self.slot) {
            pass(memory, word, false, memory.now());
        } else if was_first || was_in_line && word.state() == State::Free {
            wake_first(memory);
        }
    }
}

/// Wakes the first in line, so that it probes from now on.
pub(crate) fn wake_first(memory: &impl Memory) {
    if let Some(next) = lowest(memory) {
        memory.call(next);
    }
}

/// Gives the lock, which `word` says is ours to give, to the first in line; with
/// `barging` to whoever comes first, if that one was called just now.
fn pass(memory: &impl Memory, mut word: Turn, barging: bool, now: u64) {
    loop {
        let Some(heir) = first(memory) else {
            if word.change(memory, word.free()).is_ok()
                && let Some(late) = lowest(memory)
            {
                memory.call(late);
            }
            return;
        };
        let next = if barging && may_be_passed(memory, heir, now) {
            word.free()
        } else {
            word.reserved_for(heir)
        };
        if word.change(memory, next).is_err() {
            // Somebody took over, and passes it on.
            return;
        }
        crate::failpoint!("passed");
        memory.call(heir);
        if is_in_line(memory, heir) {
            return;
        }
        // It gave up before it could see that the lock is its own, or free.
        word = next;
    }
}

/// Whether the first in line may be passed by whoever is running: until it has had
/// some time to wake up.
fn may_be_passed(memory: &impl Memory, heir: Index, now: u64) -> bool {
    match memory.load(Word::Called(heir)) {
        0 => {
            memory.store(Word::Called(heir), now);
            true
        }
        called => now.saturating_sub(called) < nanos(BARGING),
    }
}

fn is_in_line(memory: &impl Memory, slot: Index) -> bool {
    memory.load(Word::Line(slot.group())) & slot.bit() != 0
}

fn remove(memory: &impl Memory, slot: Index) {
    memory.clear_bits(Word::Line(slot.group()), slot.bit());
}

/// How long the turn of one may last, in nanoseconds: shorter, where many wait.
fn slice(memory: &impl Memory) -> u64 {
    let waiting: u32 = (0..memory.groups())
        .map(|group| memory.load(Word::Line(group)).count_ones())
        .sum();
    let share = nanos(ROUND) / u64::from(waiting + 1);
    share.clamp(nanos(SLICE_MIN), nanos(SLICE))
}

/// Whether the line is empty.
pub(crate) fn nobody_waits(memory: &impl Memory) -> bool {
    (0..memory.groups()).all(|group| memory.load(Word::Line(group)) == 0)
}

/// The slots in line, in no order.
pub(crate) fn in_line(memory: &impl Memory) -> impl Iterator<Item = Index> {
    (0..memory.groups()).flat_map(move |group| {
        let mut bits = memory.load(Word::Line(group));
        std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let number = group * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            Index::new(number)
        })
    })
}

fn lowest(memory: &impl Memory) -> Option<Index> {
    in_line(memory).min_by_key(|&slot| memory.load(Word::Ticket(slot)))
}

/// The first in line that can be served: the dead and the overdue lose their
/// place.
fn first(memory: &impl Memory) -> Option<Index> {
    loop {
        let slot = lowest(memory)?;
        let overdue = memory
            .load(Word::Until(slot))
            .saturating_add(nanos(OVERDUE))
            < memory.now();
        if !overdue && memory.lives(slot) {
            return Some(slot);
        }
        remove(memory, slot);
    }
}

/// How many are before this one.
pub(crate) fn ahead(memory: &impl Memory, slot: Index) -> usize {
    let ticket = memory.load(Word::Ticket(slot));
    in_line(memory)
        .filter(|&other| other != slot && memory.load(Word::Ticket(other)) < ticket)
        .count()
}

fn pause(word: Turn, ahead: usize, pauses: u32) -> Duration {
    if ahead > 0 {
        let places = u32::try_from(ahead).unwrap_or(u32::MAX);
        return PATIENCE + PATIENCE_EACH * places.min(1000);
    }
    if word.state() == State::Kept {
        return KEPT_PAUSE;
    }
    (PROBE + PROBE / 8 * pauses.min(100)).min(PROBE_MAX)
}
