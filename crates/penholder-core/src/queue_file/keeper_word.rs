//! The second word that a slot is woken by: its process's keeper sleeps on it, the thread that ends
//! leases.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::layout::keeper;
use super::mapped_file::Block;
use crate::sys::futex;
use crate::turnstile::SlotIndex;

/// The word of this process's slot on which its keeper sleeps, the thread that ends leases.
///
/// It stays valid if the process moves to another queue file, but then nobody wakes it.
#[derive(Debug, Clone)]
pub struct KeeperWord {
    block: Block,
    slot: SlotIndex,
}

impl KeeperWord {
    pub(super) fn new(block: &Block, slot: SlotIndex) -> Self {
        let block = block.clone();
        Self { block, slot }
    }

    /// Returns how often the keeper was woken.
    #[must_use]
    pub fn wakes(&self) -> u32 {
        words(&self.block, self.slot).0.load(SeqCst)
    }

    /// Sleeps until the keeper is woken, at most for `pause`. Returns at once if it was woken since
    /// `wakes` was read, and now and then for no reason. For one thread at a time.
    pub fn wait(&self, wakes: u32, pause: Duration) {
        let (word, sleeping) = words(&self.block, self.slot);
        sleeping.store(1, SeqCst);
        // The kernel compares the word again, so a wake-up in between is not lost.
        futex::wait(word, wakes, pause);
        sleeping.store(0, SeqCst);
    }

    /// Wakes the keeper, or keeps it from falling asleep.
    pub fn wake(&self) {
        wake(&self.block, self.slot);
    }
}

/// Wakes the keeper of the process that occupies a slot.
pub(super) fn wake(block: &Block, slot: SlotIndex) {
    let (word, sleeping) = words(block, slot);
    word.fetch_add(1, SeqCst);
    if sleeping.load(SeqCst) != 0 {
        futex::wake(word);
    }
}

/// Returns how often the keeper was woken, and whether it sleeps.
fn words(block: &Block, slot: SlotIndex) -> (&AtomicU32, &AtomicU32) {
    block.futex(keeper(slot))
}
