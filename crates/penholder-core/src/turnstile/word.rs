//! The word of the turnstile.
//!
//! | state | meaning | who may try the kernel's lock | leaves by |
//! | --- | --- | --- | --- |
//! | `Free` | at rest; or released while the first waiter, woken less than `BARGING` ago, is waking up | anyone | the taker → `Held`; its releaser finds that the woken waiter is gone → `Reserved(y)` for the next |
//! | `Held(x)` | `x` has the kernel's lock, or is about to report that it does not | anyone if the queue is empty; a waiter if nothing changed during a pause, because `x` may be dead | release by `x`, or `x` leaves the queue file → `Free`, `Kept`, `Reserved`; takeover → `Held(y)` |
//! | `Kept(x)` | released; `x` may take it again within its slice | `x`; the first waiter if nothing changed during a short pause | `x` → `Held(x)`; the first waiter → `Held(y)`; `x` leaves → as for a release |
//! | `Reserved(x)` | released for `x`, the first waiter | `x`; another waiter if nothing changed during a pause, because `x` is stopped or dead: it loses its place until it wakes | `x` → `Held(x)`; passed over → `Held(y)`; `x` gives up → as for a release |
//!
//! Each change to `Held` is made with the kernel's lock held and increments the sequence
//! number of the word, so that comparing two readings tells whether anything changed. A
//! release unlocks the kernel's lock first and then changes the word from exactly its
//! previous value: if another process took over in between, that process's word stands.
//! After a process has taken the kernel's lock, it reads the word again. If it is not its
//! turn any more, it unlocks and queues.

use super::memory::{Memory, SlotIndex, Word};

/// Who has the lock or may take it: two bits of state, sixteen of slot, and a sequence
/// number that counts acquisitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct TurnWord(u64);

/// The state of the [`TurnWord`]; see the table of this module.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TurnState {
    Free,
    Held,
    Kept,
    Reserved,
}

impl TurnWord {
    pub(crate) fn load(memory: &impl Memory) -> Self {
        Self(memory.load(Word::Turnstile))
    }

    fn new(state: TurnState, slot: u16, sequence: u64) -> Self {
        Self(state as u64 | u64::from(slot) << 2 | sequence << 18)
    }

    /// Interprets a word that was read elsewhere.
    pub(crate) fn from_raw(word: u64) -> Self {
        Self(word)
    }

    pub(crate) fn state(self) -> TurnState {
        match self.0 & 3 {
            0 => TurnState::Free,
            1 => TurnState::Held,
            2 => TurnState::Kept,
            _ => TurnState::Reserved,
        }
    }

    /// Returns the slot that the word names, if there is such a slot.
    pub(crate) fn slot(self) -> Option<SlotIndex> {
        #[expect(clippy::cast_possible_truncation, reason = "sixteen bits of it")]
        let number = (self.0 >> 2) as u16;
        SlotIndex::new(usize::from(number))
    }

    /// Returns the slot that the word names, unless it is `Free`.
    pub(crate) fn owner(self) -> Option<SlotIndex> {
        self.slot().filter(|_| self.state() != TurnState::Free)
    }

    /// Whether the word allows this slot to take the lock: it is free, or names this slot.
    pub(super) fn may_be_taken_by(self, slot: SlotIndex) -> bool {
        self.state() == TurnState::Free || self.slot() == Some(slot)
    }

    /// Whether the lock is reserved for this slot.
    pub(super) fn is_reserved_for(self, slot: SlotIndex) -> bool {
        self.state() == TurnState::Reserved && self.slot() == Some(slot)
    }

    pub(super) fn held_by(self, slot: SlotIndex) -> Self {
        Self::new(TurnState::Held, slot.raw(), (self.0 >> 18) + 1)
    }

    pub(super) fn freed(self) -> Self {
        Self::new(TurnState::Free, 0, self.0 >> 18)
    }

    pub(super) fn kept(self) -> Self {
        Self(self.0 & !3 | TurnState::Kept as u64)
    }

    pub(super) fn reserved_for(self, slot: SlotIndex) -> Self {
        Self::new(TurnState::Reserved, slot.raw(), self.0 >> 18)
    }

    /// Changes the shared word from this value to `to`, or returns its current value.
    pub(super) fn change(self, memory: &impl Memory, to: Self) -> Result<(), Self> {
        memory
            .compare_exchange(Word::Turnstile, self.0, to.0)
            .map_err(Self)
    }
}
