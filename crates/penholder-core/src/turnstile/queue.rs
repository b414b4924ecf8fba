//! The waiting processes, and their order.

use super::memory::{Memory, SlotIndex, Word};
use super::policy::{BARGING, OVERDUE};
use super::word::TurnWord;
use crate::time::nanos;

/// Whether no process waits.
pub(crate) fn is_empty(memory: &impl Memory) -> bool {
    (0..memory.groups()).all(|group| memory.load(Word::Queue(group)) == 0)
}

/// Returns how many processes wait.
pub(crate) fn count_waiters(memory: &impl Memory) -> u32 {
    (0..memory.groups())
        .map(|group| memory.load(Word::Queue(group)).count_ones())
        .sum()
}

/// Returns the slots of the waiting processes, in no order.
pub(crate) fn waiters(memory: &impl Memory) -> impl Iterator<Item = SlotIndex> {
    (0..memory.groups()).flat_map(move |group| {
        let mut bits = memory.load(Word::Queue(group));
        std::iter::from_fn(move || {
            if bits == 0 {
                return None;
            }
            let number = group * 64 + bits.trailing_zeros() as usize;
            bits &= bits - 1;
            SlotIndex::new(number)
        })
    })
}

/// Wakes the first waiter, so that it probes from now on.
pub(super) fn wake_first(memory: &impl Memory) {
    wake_first_unless(memory, |_| false);
}

/// Wakes the first waiter, after those before it have left the queue, unless it is one that looks
/// by itself before long. The overdue are not asked.
pub(crate) fn wake_first_unless(memory: &impl Memory, looks_soon: impl Fn(SlotIndex) -> bool) {
    let now = memory.now();
    let next = waiters(memory)
        .filter(|&slot| !is_overdue(memory, slot, now))
        .min_by_key(|&slot| memory.load(Word::Ticket(slot)));
    if let Some(next) = next.filter(|&slot| !looks_soon(slot)) {
        memory.wake(next);
    }
}

/// Whether a waiter is still in the queue long after its deadline: it is stopped, or left there by
/// an older state of the memory.
fn is_overdue(memory: &impl Memory, slot: SlotIndex, now: u64) -> bool {
    let until = memory.load(Word::Until(slot));
    until.saturating_add(nanos(OVERDUE)) < now
}

pub(super) fn contains(memory: &impl Memory, slot: SlotIndex) -> bool {
    memory.load(Word::Queue(slot.group())) & slot.bit() != 0
}

pub(super) fn insert(memory: &impl Memory, slot: SlotIndex) {
    memory.set_bits(Word::Queue(slot.group()), slot.bit());
}

pub(super) fn remove(memory: &impl Memory, slot: SlotIndex) {
    memory.clear_bits(Word::Queue(slot.group()), slot.bit());
}

/// Returns the first waiter that can be served; the overdue, and the dead before it, lose their
/// place.
///
/// Bounded also if bits of waiters that do not exist are set again and again meanwhile: each look
/// goes through the waiters once, and there are no more looks than slots.
pub(super) fn first(memory: &impl Memory) -> Option<SlotIndex> {
    for _ in 0..memory.groups() * 64 {
        let slot = lowest_in_time(memory)?;
        if memory.lives(slot) {
            return Some(slot);
        }
        remove(memory, slot);
    }
    None
}

/// Returns the waiter with the lowest ticket, dead or alive, and removes the overdue.
fn lowest_in_time(memory: &impl Memory) -> Option<SlotIndex> {
    let now = memory.now();
    let in_time = waiters(memory).filter(|&slot| {
        let is_overdue = is_overdue(memory, slot, now);
        if is_overdue {
            remove(memory, slot);
        }
        !is_overdue
    });
    in_time.min_by_key(|&slot| memory.load(Word::Ticket(slot)))
}

/// Returns how many waiters are before this one, without the overdue, which are not served.
pub(super) fn ahead(memory: &impl Memory, slot: SlotIndex, now: u64) -> usize {
    let ticket = memory.load(Word::Ticket(slot));
    waiters(memory)
        .filter(|&other| other != slot && memory.load(Word::Ticket(other)) < ticket)
        .filter(|&other| !is_overdue(memory, other, now))
        .count()
}

/// Returns whether waiters are before this one, as a rule without looking at all of them.
pub(super) fn is_behind(memory: &impl Memory, slot: SlotIndex, now: u64) -> bool {
    let ticket = memory.load(Word::Ticket(slot));
    waiters(memory)
        .filter(|&other| other != slot && memory.load(Word::Ticket(other)) < ticket)
        .any(|other| !is_overdue(memory, other, now))
}

/// Gives the lock, which is ours to give as `word` says, to the first waiter. With
/// `barging`, any running process may take it if that waiter was woken just now.
pub(super) fn pass(memory: &impl Memory, mut word: TurnWord, barging: bool, now: u64) {
    loop {
        let Some(waiter) = first(memory) else {
            if word.change(memory, word.freed()).is_ok() {
                // A process may have queued since we looked.
                wake_first(memory);
            }
            return;
        };
        let next = if barging && may_be_passed(memory, waiter, now) {
            word.freed()
        } else {
            word.reserved_for(waiter)
        };
        if word.change(memory, next).is_err() {
            // Another process took over, and passes it on.
            return;
        }
        crate::failpoint!("passed");
        memory.wake(waiter);
        if contains(memory, waiter) {
            return;
        }
        // It gave up before it could see that the lock is its own, or free.
        word = next;
    }
}

/// Whether running processes may pass the first waiter, which has just been woken or had
/// no time to wake up yet.
fn may_be_passed(memory: &impl Memory, waiter: SlotIndex, now: u64) -> bool {
    match memory.load(Word::WokenAt(waiter)) {
        0 => {
            memory.store(Word::WokenAt(waiter), now);
            true
        }
        woken_at => now.saturating_sub(woken_at) < nanos(BARGING),
    }
}
