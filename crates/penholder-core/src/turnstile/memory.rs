//! What the turnstile needs of the world: shared words, wake-ups, a clock, the kernel's
//! lock. The queue file implements it; the model has another implementation.

use std::time::Duration;

/// The number of processes that can wait in the queue file. Further ones poll.
pub(crate) const SLOTS: usize = 512;

/// The number of a slot.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct SlotIndex(u16);

impl SlotIndex {
    /// Returns `None` if there is no such slot.
    pub(crate) fn new(number: usize) -> Option<Self> {
        u16::try_from(number)
            .ok()
            .filter(|_| number < SLOTS)
            .map(Self)
    }

    pub(crate) fn number(self) -> usize {
        usize::from(self.0)
    }

    pub(super) fn raw(self) -> u16 {
        self.0
    }

    /// The group of sixty-four slots that this one belongs to.
    pub(crate) fn group(self) -> usize {
        self.number() / 64
    }

    /// The bit of this slot within its group.
    pub(crate) fn bit(self) -> u64 {
        1 << (self.number() % 64)
    }
}

/// A word of the shared memory that the turnstile uses.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Word {
    /// Who has the lock or may take it: a [`TurnWord`](super::TurnWord).
    Turnstile,
    /// The last ticket drawn.
    LastTicket,
    /// A bit for each of sixty-four slots: set while its occupant is in the queue.
    Queue(usize),
    /// The ticket of a slot.
    Ticket(SlotIndex),
    /// Since when the occupant waits: monotonic clock, nanoseconds.
    Since(SlotIndex),
    /// The occupant's deadline on the same clock; `u64::MAX` for none.
    Until(SlotIndex),
    /// When the occupant was first woken to take the lock; zero before.
    WokenAt(SlotIndex),
}

/// The shared memory, and what else the turnstile asks of the world. Every access is
/// sequentially consistent.
pub(crate) trait Memory {
    /// Returns the number of groups of sixty-four slots.
    fn groups(&self) -> usize;
    fn load(&self, word: Word) -> u64;
    fn store(&self, word: Word, value: u64);
    /// Changes a word from `old` to `new`, or returns its current value.
    fn compare_exchange(&self, word: Word, old: u64, new: u64) -> Result<(), u64>;
    /// Adds one and returns the sum.
    fn increment(&self, word: Word) -> u64;
    fn set_bits(&self, word: Word, bits: u64);
    fn clear_bits(&self, word: Word, bits: u64);
    /// Returns how often a slot was woken.
    fn wakes(&self, slot: SlotIndex) -> u32;
    /// Wakes the occupant of a slot, or keeps it from falling asleep.
    fn wake(&self, slot: SlotIndex);
    /// Sleeps until the slot is woken, at most for `pause`. Returns at once if it was
    /// woken since `wakes` was read.
    fn sleep(&self, slot: SlotIndex, wakes: u32, pause: Duration);
    /// Asks the kernel whether the process that occupies this slot lives.
    fn lives(&self, slot: SlotIndex) -> bool;
    /// Reads the monotonic clock, in nanoseconds.
    fn now(&self) -> u64;
    /// Reads the same clock as of the last timer tick, at a quarter of the cost.
    fn coarse_now(&self) -> u64;
    /// Whether there is a second processor, so that spinning can help.
    fn can_spin(&self) -> bool;
    /// Lets another thread have the processor, between two looks of one that spins.
    fn spin(&self);
}

/// The kernel's lock.
pub(crate) trait KernelLock {
    type Error;
    /// Takes the lock if it is free; `now` is on the clock of the memory.
    fn try_lock(&mut self, now: u64) -> Result<bool, Self::Error>;
    /// Releases the lock; `at_rest` if no process waits.
    fn unlock(&mut self, at_rest: bool) -> Result<(), Self::Error>;
    /// Is told, now and then in a wait, that a process holds the lock that does not use the
    /// queue.
    fn met_unqueued_holder(&mut self);
}
