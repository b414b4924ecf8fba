//! One process at the turnstile: taking, waiting, releasing.

use std::mem;
use std::time::Duration;

use super::memory::{KernelLock, Memory, SlotIndex, Word};
use super::policy::{
    ASKING, BACK_PAUSE, CALM, COMBINING_SLICE, CUT, GAP_MAX, LEISURE, QueuePolicy, REPORT_PAUSE,
    RESERVED_TRIES, SAMPLE, SPIN, TICKET_CHECK, UNMOVED, WAKING, back_pause, is_quick, probe_pause,
    request_pause, slice,
};
use super::queue::{
    ahead, contains, count_waiters, first, insert, is_behind, is_empty, pass, remove, waiters,
    wake_first,
};
use super::word::{TurnState, TurnWord};
use crate::time::nanos;

/// How the lock was taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Taken {
    /// It comes from another process or from rest, not from our own last release.
    pub(crate) fresh: bool,
    /// The slot of the holder that died with it.
    pub(crate) recovered: Option<SlotIndex>,
    /// The slot of the process whose turn it was, and which did not come.
    pub(crate) passed_over: Option<SlotIndex>,
}

/// How a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WaitEnd {
    Taken(Taken),
    /// The deadline passed while `ahead` waiters were before this process.
    TimedOut {
        ahead: usize,
    },
    /// The caller does not want the lock any more.
    Cancelled,
    /// The caller does something else before it goes on waiting: it keeps its place.
    Paused,
    /// The others use another memory by now.
    Outdated,
}

/// What ends a wait besides the lock.
pub(crate) struct WaitLimits<'a> {
    /// When the wait begins, on the clock of the memory, in nanoseconds.
    pub(crate) since: u64,
    /// The deadline on the clock of the memory, in nanoseconds.
    pub(crate) until: u64,
    /// When the wait pauses, on the same clock.
    pub(crate) pauses_at: u64,
    pub(crate) is_cancelled: &'a dyn Fn() -> bool,
    /// Whether the others use another memory by now; asked at each longer pause, because
    /// it is a system call.
    pub(crate) is_outdated: &'a dyn Fn() -> bool,
    /// Whether the caller has left a request, which the holder may execute: it is woken then, and
    /// need not be the first.
    pub(crate) has_request: bool,
}

/// A reading of the clock of the memory. While no process waits most readings are coarse:
/// an exact one costs a sixtieth of an uncontended acquisition.
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

    fn read(memory: &impl Memory, is_exact: bool) -> Self {
        if is_exact {
            return Self::exact(memory);
        }
        Self {
            nanos: memory.coarse_now(),
            is_exact,
        }
    }

    /// Returns how long ago another moment was, and whether that is exact.
    fn since(self, other: Self) -> (u64, bool) {
        let nanos = self.nanos.saturating_sub(other.nanos);
        (nanos, self.is_exact && other.is_exact)
    }
}

/// The words that make up an entry of the queue, as its waiter wrote them.
type QueueEntry = [(Word, u64); 3];

/// What a wait that has paused goes on with.
#[derive(Debug)]
struct Place {
    entry: QueueEntry,
    seen: Seen,
}

/// The word that a waiter saw last, and since when: a lock that has had the same state for long is
/// tried in any state, also if no part of the wait was that long.
type Seen = Option<(TurnWord, u64)>;

fn smoothed(mean: u64, new: u64) -> u64 {
    (mean / 8 * 7).saturating_add(new / 8)
}

/// One process at the turnstile; one thread uses it at a time.
#[derive(Debug)]
pub(crate) struct Participant {
    slot: SlotIndex,
    /// Our place in the queue, while a wait has paused.
    place: Option<Place>,
    /// The word while we hold the lock, for the release.
    held: Option<TurnWord>,
    /// The word as our last release left it, if it kept the lock for us.
    kept: Option<TurnWord>,
    taken: Moment,
    slice_begun: u64,
    slice_ends: u64,
    /// Whether the slice is longer than usual, because our last hold served all who waited.
    is_long_slice: bool,
    /// Whether the next waiter was woken for the end of this slice.
    woke_next: bool,
    released: Moment,
    /// When the lock was last asked for since, on the clock of the memory.
    asked_at: Option<u64>,
    /// Whether a process waited when our hold ended.
    was_contended: bool,
    acquisitions: u32,
    /// Whether our last acquisition came right after our last release.
    came_back: bool,
    /// The same, or our slice was over when we released.
    is_quick: bool,
    /// Whether it came soon after it, from a caller that mostly comes right after it.
    is_brisk: bool,
    /// Whether it came soon after it.
    is_soon: bool,
    /// Whether we wrote quickly until our last slice was over.
    was_cut: bool,
    /// How many holds there were since a process last waited for one.
    calm: u32,
    /// How often this process has queued, and with which ticket it did last.
    waits: u32,
    last_ticket: u64,
    /// A smoothed length of our holds, in nanoseconds.
    mean_hold: u64,
    /// A smoothed length of the gaps between them.
    mean_gap: u64,
    /// Whether all clock readings are exact, because this process takes leases.
    is_exact: bool,
}

impl Participant {
    pub(crate) fn new(slot: SlotIndex) -> Self {
        Self {
            slot,
            place: None,
            held: None,
            kept: None,
            taken: Moment::default(),
            slice_begun: 0,
            slice_ends: 0,
            is_long_slice: false,
            woke_next: false,
            released: Moment::default(),
            asked_at: None,
            was_contended: false,
            acquisitions: 0,
            came_back: false,
            is_quick: false,
            is_brisk: false,
            is_soon: false,
            was_cut: false,
            calm: 0,
            waits: 0,
            last_ticket: 0,
            mean_hold: 0,
            mean_gap: 0,
            is_exact: false,
        }
    }

    /// Whether this process took the lock and has not released it.
    pub(crate) fn holds(&self) -> bool {
        self.held.is_some()
    }

    /// Returns when our last hold ended, on the clock of the memory.
    pub(crate) fn released_at(&self) -> u64 {
        self.released.nanos
    }

    /// Returns when the lock that we hold was taken, on the clock of the memory.
    pub(crate) fn taken_at(&self) -> u64 {
        self.taken.nanos
    }

    /// Reads the clock for an acquisition: exactly if others wait, or if this acquisition
    /// is one of those that are measured.
    pub(crate) fn begin(&self, memory: &impl Memory) -> Moment {
        let is_measured = self.was_contended || self.acquisitions.is_multiple_of(SAMPLE);
        Moment::read(memory, is_measured || self.is_exact)
    }

    // ---- taking --------------------------------------------------------------

    /// Takes the lock if it is free and our turn; with `may_barge`, also where the policy
    /// lets a running process pass waiters.
    pub(crate) fn try_take<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        now: Moment,
        may_barge: bool,
    ) -> Result<Option<Taken>, K::Error> {
        debug_assert!(self.held.is_none(), "one hold at a time");
        // A wait asks again and again, but wants it only once.
        let goes_on = |at: u64| now.nanos.saturating_sub(at) < nanos(ASKING);
        if !self.asked_at.replace(now.nanos).is_some_and(goes_on) {
            self.note_gap(now);
        }
        let word = TurnWord::load(memory);
        let is_allowed = if may_barge {
            word.may_be_taken_by(self.slot) || is_empty(memory)
        } else {
            first(memory).is_none_or(|first| first == self.slot)
        };
        if !is_allowed {
            return Ok(None);
        }
        let taken = self.attempt(memory, kernel, word, now)?;
        if taken.is_some() && self.place.take().is_some() {
            self.leave_queue(memory, true);
        }
        Ok(taken)
    }

    /// Takes the kernel's lock, and then the word if it is still `seen`, or ours to take.
    fn attempt<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        seen: TurnWord,
        now: Moment,
    ) -> Result<Option<Taken>, K::Error> {
        if !kernel.try_lock(now.nanos)? {
            return Ok(None);
        }
        crate::failpoint!("flocked");
        let mut word = seen;
        // Bounded by how often other processes release the lock meanwhile.
        loop {
            let held = word.held_by(self.slot);
            match word.change(memory, held) {
                Ok(()) => {
                    crate::failpoint!("held");
                    return Ok(Some(self.note_taken(memory, word, held, now)));
                }
                Err(moved) if moved.may_be_taken_by(self.slot) => word = moved,
                Err(_not_our_turn) => {
                    kernel.unlock(false)?;
                    self.wake_next_in_turn(memory);
                    return Ok(None);
                }
            }
        }
    }

    /// Wakes the process whose turn it is: we had the kernel's lock out of turn, so it may
    /// have tried in vain and gone to sleep.
    fn wake_next_in_turn(&self, memory: &impl Memory) {
        let word = TurnWord::load(memory);
        match word.owner() {
            Some(next) if word.state() == TurnState::Reserved => memory.wake(next),
            _ => wake_first(memory),
        }
    }

    /// Notes that the lock is ours, and what that says about the process whose turn it was.
    fn note_taken(
        &mut self,
        memory: &impl Memory,
        from: TurnWord,
        held: TurnWord,
        now: Moment,
    ) -> Taken {
        self.held = Some(held);
        self.was_cut = false;
        self.taken = now;
        self.acquisitions = self.acquisitions.wrapping_add(1);
        // Compared with the exact word: another process may have had this slot since.
        let is_ours = self.kept.take() == Some(from);
        if !is_ours {
            self.slice_begun = now.nanos;
            self.woke_next = false;
        }
        // Each hold has to show again that it serves all.
        let was_long = mem::take(&mut self.is_long_slice);
        if !is_ours || was_long {
            self.slice_ends = self
                .slice_begun
                .saturating_add(slice(count_waiters(memory)));
        }
        let other = from.slot().filter(|&slot| slot != self.slot);
        let mut taken = Taken {
            fresh: !is_ours,
            recovered: None,
            passed_over: None,
        };
        match from.state() {
            TurnState::Reserved => taken.passed_over = other,
            TurnState::Held => taken.recovered = other.filter(|&holder| !memory.lives(holder)),
            TurnState::Free | TurnState::Kept => {}
        }
        if let Some(absent) = taken.passed_over {
            remove(memory, absent);
            // It may be awake, and about to sleep outside the queue.
            memory.wake(absent);
        }
        taken
    }

    /// Makes the word ours in any state. The caller has the kernel's lock.
    pub(crate) fn adopt(&mut self, memory: &impl Memory) {
        let mut word = TurnWord::load(memory);
        loop {
            let held = word.held_by(self.slot);
            match word.change(memory, held) {
                Ok(()) => {
                    self.note_taken(memory, word.freed(), held, Moment::exact(memory));
                    return;
                }
                Err(moved) => word = moved,
            }
        }
    }

    // ---- waiting -------------------------------------------------------------

    /// Waits in the queue for the lock. A wait that has paused goes on in its place.
    pub(crate) fn wait<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        limits: &WaitLimits<'_>,
    ) -> Result<WaitEnd, K::Error> {
        debug_assert!(self.held.is_none(), "one hold at a time");
        let mut place = match self.place.take() {
            Some(Place { entry, seen }) => {
                let [ticket, since, (until, _)] = entry;
                let entry = [ticket, since, (until, limits.until)];
                self.restore_entry(memory, entry);
                Place { entry, seen }
            }
            None => Place {
                entry: self.enter_queue(memory, limits),
                seen: None,
            },
        };
        let ended = self.wait_for_turn(memory, kernel, limits, &mut place);
        if matches!(ended, Ok(WaitEnd::Paused)) {
            self.place = Some(place);
            return ended;
        }
        let is_taken = matches!(ended, Ok(WaitEnd::Taken(_)));
        self.leave_queue(memory, is_taken);
        ended
    }

    fn enter_queue(&mut self, memory: &impl Memory, limits: &WaitLimits<'_>) -> QueueEntry {
        let ticket = self.draw_ticket(memory);
        let entry = [
            (Word::Ticket(self.slot), ticket),
            (Word::Since(self.slot), limits.since),
            (Word::Until(self.slot), limits.until),
        ];
        for (word, value) in entry {
            memory.store(word, value);
        }
        memory.store(Word::WokenAt(self.slot), 0);
        crate::failpoint!("ticket");
        insert(memory, self.slot);
        crate::failpoint!("queued");
        entry
    }

    /// Draws a ticket that is higher than those of all waiters. The counter may be garbage, so theirs
    /// are read if it is below our last ticket, and now and then.
    fn draw_ticket(&mut self, memory: &impl Memory) -> u64 {
        let mut ticket = memory.increment(Word::LastTicket);
        let is_due = self.waits.is_multiple_of(TICKET_CHECK);
        if is_due || ticket <= self.last_ticket {
            let tickets = waiters(memory).map(|slot| memory.load(Word::Ticket(slot)));
            let last = tickets.max().unwrap_or(0);
            if ticket <= last {
                ticket = last.saturating_add(1);
                memory.store(Word::LastTicket, ticket);
            }
        }
        self.waits = self.waits.wrapping_add(1);
        self.last_ticket = ticket;
        ticket
    }

    fn wait_for_turn<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        limits: &WaitLimits<'_>,
        place: &mut Place,
    ) -> Result<WaitEnd, K::Error> {
        // Spinning would only keep the holder, which executes the request, from running.
        let can_spin = memory.can_spin() && !limits.has_request;
        let mut may_spin = can_spin && self.mean_hold < nanos(SPIN);
        let mut pauses = 0;
        let mut next_report = 0;
        // The word, if we have seen no other for a whole pause, or for long.
        let for_long = |since: u64| memory.now().saturating_sub(since) >= nanos(UNMOVED);
        let mut unmoved = place
            .seen
            .filter(|&(_, since)| for_long(since))
            .map(|(word, _)| word);
        // Whether the last pause was a short one, of a waiter further back with a request.
        let mut only_looks = false;
        let mut looks = 0_u32;
        loop {
            looks = looks.wrapping_add(1);
            let wakes = memory.wakes(self.slot);
            let word = TurnWord::load(memory);
            // After a short pause only its place is of interest: the lock may be free for the first
            // waiter, which has been woken.
            let is_others = only_looks
                && !word.is_reserved_for(self.slot)
                && is_behind(memory, self.slot, memory.now());
            let is_our_turn = word.may_be_taken_by(self.slot) && !is_others;
            if is_our_turn || unmoved == Some(word) {
                if let Some(taken) = self.attempt_in_turn(memory, kernel, word)? {
                    return Ok(WaitEnd::Taken(taken));
                }
                // For a whole pause no process of the queue has had it, and yet it cannot
                // be taken.
                let is_free = word.may_be_taken_by(self.slot) && unmoved == Some(word);
                if is_free && memory.now() >= next_report {
                    kernel.met_unqueued_holder();
                    next_report = memory.now().saturating_add(nanos(REPORT_PAUSE));
                }
            }
            let now = memory.now();
            if now >= limits.until {
                let ahead = ahead(memory, self.slot, now);
                return Ok(WaitEnd::TimedOut { ahead });
            }
            if (limits.is_cancelled)() {
                return Ok(WaitEnd::Cancelled);
            }
            if now >= limits.pauses_at {
                return Ok(WaitEnd::Paused);
            }
            let is_behind = is_behind(memory, self.slot, now);
            if may_spin && !is_behind {
                may_spin = false;
                self.spin(memory, now);
                continue;
            }
            let looks_soon = limits.has_request && is_behind;
            let pause = match is_behind {
                true if limits.has_request => request_pause(count_waiters(memory), pauses),
                true => back_pause(ahead(memory, self.slot, now)),
                false => probe_pause(word.state() == TurnState::Kept, pauses),
            };
            // Not before the first pause, with which most waits end.
            let is_long = pause >= BACK_PAUSE || looks_soon;
            let is_due = pauses > 0 && is_long || looks.is_multiple_of(64);
            if is_due && (limits.is_outdated)() {
                return Ok(WaitEnd::Outdated);
            }
            let left = Duration::from_nanos(limits.until.min(limits.pauses_at) - now);
            let since = place
                .seen
                .filter(|(same, _)| *same == word)
                .map_or(now, |(_, at)| at);
            place.seen = Some((word, since));
            memory.sleep(self.slot, wakes, pause.min(left));
            let was_woken = memory.wakes(self.slot) != wakes;
            if was_woken {
                crate::failpoint!("woken");
                // Another process executed our request: do not enter the queue again.
                if (limits.is_cancelled)() {
                    return Ok(WaitEnd::Cancelled);
                }
                pauses = 0;
                may_spin = can_spin;
            } else {
                pauses += 1;
            }
            only_looks = !was_woken && looks_soon;
            let was_whole_pause = !was_woken && pause <= left && !only_looks;
            // Garbage that is written again and again looks as if we were woken each time.
            unmoved = (was_whole_pause || for_long(since)).then_some(word);
            self.restore_entry(memory, place.entry);
        }
    }

    /// Restores our entry in the queue if we were passed over while we slept, or if the
    /// memory was overwritten.
    fn restore_entry(&self, memory: &impl Memory, entry: QueueEntry) {
        for (word, value) in entry {
            if memory.load(word) != value {
                memory.store(word, value);
            }
        }
        if !contains(memory, self.slot) {
            insert(memory, self.slot);
        }
    }

    /// Spins for at most `SPIN`, until the word is ours to take.
    fn spin(&self, memory: &impl Memory, begun: u64) {
        while !TurnWord::load(memory).may_be_taken_by(self.slot) {
            if memory.now().saturating_sub(begun) > nanos(SPIN) {
                return;
            }
            memory.spin();
        }
    }

    /// Attempts to take the lock, several times if it is reserved for us: a process that
    /// only tries or looks may have the kernel's lock for an instant, and the rightful
    /// process does not go to sleep over that.
    fn attempt_in_turn<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        word: TurnWord,
    ) -> Result<Option<Taken>, K::Error> {
        let tries = if word.is_reserved_for(self.slot) {
            RESERVED_TRIES
        } else {
            1
        };
        for _ in 0..tries {
            if let Some(taken) = self.attempt(memory, kernel, word, Moment::exact(memory))? {
                return Ok(Some(taken));
            }
            if TurnWord::load(memory) != word {
                return Ok(None);
            }
            memory.spin();
        }
        Ok(None)
    }

    fn leave_queue(&self, memory: &impl Memory, is_taken: bool) {
        crate::failpoint!("leaving");
        // A process that serves us or passes us over removes us, and wakes those behind
        // us itself.
        let was_queued = contains(memory, self.slot);
        remove(memory, self.slot);
        // Read afterwards: a waiter that left before us may have woken us, as the next
        // one, while we were already leaving.
        let was_first = was_queued && !is_behind(memory, self.slot, memory.now());
        if is_taken {
            crate::failpoint!("left");
            if was_first {
                wake_first(memory);
            }
            return;
        }
        crate::failpoint!("gave_up");
        let word = TurnWord::load(memory);
        if word.is_reserved_for(self.slot) {
            pass(memory, word, false, memory.now());
        } else if was_first || was_queued && word.state() == TurnState::Free {
            wake_first(memory);
        }
    }

    // ---- leases --------------------------------------------------------------

    /// Returns whether the caller comes back soon after its last release, so that the lock may
    /// be kept for it. From the first call on, that is measured each time.
    pub(crate) fn is_soon(&mut self) -> bool {
        self.is_exact = true;
        self.is_soon
    }

    /// Returns whether the lock was taken right after our last release.
    pub(crate) fn came_back(&self) -> bool {
        self.came_back
    }

    /// Notes how soon after our last release the lock is wanted again.
    fn note_gap(&mut self, now: Moment) {
        let (gap, is_exact) = now.since(self.released);
        // The process that was woken for the next slice may have taken this processor.
        let was_cut = self.was_cut && gap < nanos(CUT);
        self.came_back = is_exact && is_quick(gap);
        self.is_quick = self.came_back || is_exact && was_cut;
        if is_exact {
            self.mean_gap = smoothed(self.mean_gap, gap.min(nanos(GAP_MAX)));
        }
        let is_leisurely = is_exact && gap < nanos(LEISURE);
        self.is_brisk = is_leisurely && is_quick(self.mean_gap);
        self.is_soon = self.is_quick || self.is_brisk || is_leisurely && self.calm >= CALM;
    }

    /// Returns whether the lock may stay held for the next hold, after
    /// [`end_hold`](Self::end_hold): the caller comes back quickly, or another thread of this
    /// process waits (`more`), and the slice is not over. The word stays `Held`.
    pub(crate) fn may_keep_held(&self, more: impl FnOnce() -> bool) -> bool {
        let is_soon = if self.was_contended {
            self.is_quick || self.is_brisk
        } else {
            self.is_soon
        };
        self.held.is_some() && self.released.nanos < self.slice_ends && (is_soon || more())
    }

    /// Wakes the first waiter if the slice of a lock that stays held is about to end.
    pub(crate) fn keep_held(&mut self, memory: &impl Memory) {
        let is_due = self.released.nanos + nanos(WAKING) > self.slice_ends;
        if self.was_contended && is_due && !self.woke_next {
            self.woke_next = true;
            wake_first(memory);
        }
    }

    /// Begins another hold of the lock that stayed held; `None` if the slice is over.
    pub(crate) fn resume(&mut self, memory: &impl Memory) -> Option<u64> {
        debug_assert!(self.held.is_some(), "it stayed held");
        let now = Moment::exact(memory);
        if now.nanos >= self.slice_ends {
            return None;
        }
        self.note_gap(now);
        self.taken = now;
        self.acquisitions = self.acquisitions.wrapping_add(1);
        Some(now.nanos)
    }

    /// Prepares the release of a lock that stayed held after the last hold had ended.
    pub(crate) fn end_kept(&mut self, memory: &impl Memory) {
        self.was_contended = !is_empty(memory);
    }

    /// Sets how long this slice lasts, until the next hold: long, if everyone who waits is served
    /// by this process (`serves_all`), otherwise as usual.
    pub(crate) fn set_slice(&mut self, memory: &impl Memory, serves_all: bool) {
        debug_assert!(self.held.is_some(), "a slice has a hold");
        let length = match serves_all {
            true => nanos(COMBINING_SLICE),
            false => slice(count_waiters(memory)),
        };
        let ends = self.slice_begun.saturating_add(length);
        // The next one has to be woken again.
        self.woke_next &= ends <= self.slice_ends;
        self.slice_ends = ends;
        self.is_long_slice = serves_all;
    }

    // ---- releasing -----------------------------------------------------------

    /// Notes that a hold ends. Returns how long it was, in nanoseconds, and whether that
    /// is exact.
    pub(crate) fn end_hold(&mut self, memory: &impl Memory) -> (u64, bool) {
        self.asked_at = None;
        self.was_contended = !is_empty(memory);
        self.calm = if self.was_contended {
            0
        } else {
            self.calm.saturating_add(1)
        };
        let is_exact = self.was_contended || self.taken.is_exact || self.is_exact;
        self.released = Moment::read(memory, is_exact);
        let (hold, is_exact) = self.released.since(self.taken);
        if is_exact {
            self.mean_hold = smoothed(self.mean_hold, hold);
        }
        (hold, is_exact)
    }

    /// Releases the lock after [`end_hold`](Self::end_hold), and makes sure that the next
    /// process learns of it. `more`: another thread of this process waits.
    pub(crate) fn release<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        policy: QueuePolicy,
        more: impl FnOnce() -> bool,
    ) -> Result<(), K::Error> {
        let Some(held) = self.held.take() else {
            return kernel.unlock(true);
        };
        if !self.was_contended {
            return Self::release_to_rest(memory, kernel, held);
        }
        let now = self.released.nanos;
        if policy == QueuePolicy::TimeSliced && now < self.slice_ends && (self.is_quick || more()) {
            return self.release_and_keep(memory, kernel, held);
        }
        self.was_cut = (self.came_back || self.is_brisk) && now >= self.slice_ends;
        // The next process takes longer to wake up than we take to unlock, so both happen at once.
        // A waiter that is woken and has left no request watches the word for a while.
        wake_first(memory);
        let unlocked = kernel.unlock(false);
        crate::failpoint!("unlocked");
        let may_barge = policy == QueuePolicy::TimeSliced && !self.is_quick;
        pass(memory, held, may_barge, now);
        unlocked
    }

    fn release_to_rest<K: KernelLock>(
        memory: &impl Memory,
        kernel: &mut K,
        held: TurnWord,
    ) -> Result<(), K::Error> {
        let unlocked = kernel.unlock(true);
        crate::failpoint!("unlocked_alone");
        if held.change(memory, held.freed()).is_ok() && !is_empty(memory) {
            // A process queued between our two looks.
            wake_first(memory);
        }
        unlocked
    }

    /// Releases the lock, and keeps the right to take it again within the slice.
    fn release_and_keep<K: KernelLock>(
        &mut self,
        memory: &impl Memory,
        kernel: &mut K,
        held: TurnWord,
    ) -> Result<(), K::Error> {
        let unlocked = kernel.unlock(false);
        crate::failpoint!("unlocked_to_keep");
        let kept = held.kept();
        self.kept = held.change(memory, kept).is_ok().then_some(kept);
        crate::failpoint!("kept");
        if !self.woke_next && self.released.nanos + nanos(WAKING) > self.slice_ends {
            self.woke_next = true;
            wake_first(memory);
        }
        unlocked
    }

    /// Gives up the place of a wait that has paused.
    pub(crate) fn leave_place(&mut self, memory: &impl Memory) {
        if self.place.take().is_some() {
            self.leave_queue(memory, false);
        }
    }

    /// Gives up what the word promises us, because this process leaves.
    pub(crate) fn leave(&mut self, memory: &impl Memory) {
        self.leave_place(memory);
        let word = TurnWord::load(memory);
        if word.owner() == Some(self.slot) {
            pass(memory, word, false, memory.now());
        }
    }
}
