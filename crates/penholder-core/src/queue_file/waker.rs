//! Waking the thread of this process that sleeps in its slot.

use std::sync::atomic::Ordering::SeqCst;

use super::layout::record;
use super::mapped_file::Block;
use crate::sys::futex;
use crate::turnstile::SlotIndex;

/// Wakes the thread of this process that sleeps in its slot.
#[derive(Debug)]
pub(crate) struct Waker {
    block: Block,
    slot: SlotIndex,
}

impl Waker {
    pub(super) fn new(block: &Block, slot: SlotIndex) -> Self {
        let block = block.clone();
        Self { block, slot }
    }

    pub(crate) fn wake(&self) {
        wake(&self.block, self.slot);
    }
}

/// Wakes the occupant of a slot whether or not it is known to sleep.
pub(super) fn wake(block: &Block, slot: SlotIndex) {
    let (wakes, _) = block.futex(record(slot));
    wakes.fetch_add(1, SeqCst);
    futex::wake(wakes);
}
