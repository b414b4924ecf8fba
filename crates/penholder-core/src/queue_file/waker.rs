//! Waking the thread of this process that sleeps in its slot.

use std::sync::Arc;
use std::sync::atomic::Ordering::SeqCst;

use super::layout::waiting;
use crate::sys::futex;
use crate::sys::map::Mapping;
use crate::turnstile::SlotIndex;

/// Wakes the thread of this process that sleeps in its slot.
#[derive(Debug)]
pub(crate) struct Waker {
    mapping: Arc<Mapping>,
    slot: SlotIndex,
}

impl Waker {
    pub(super) fn new(mapping: &Arc<Mapping>, slot: SlotIndex) -> Self {
        Self {
            mapping: Arc::clone(mapping),
            slot,
        }
    }

    pub(crate) fn wake(&self) {
        wake(&self.mapping, self.slot);
    }
}

/// Wakes the occupant of a slot whether or not it is known to sleep.
pub(super) fn wake(mapping: &Mapping, slot: SlotIndex) {
    let wakes = &mapping.u32s()[waiting(slot) / 4];
    wakes.fetch_add(1, SeqCst);
    futex::wake(wakes);
}
