//! The second word that a slot is woken by: its process's keeper sleeps on it, the thread that ends
//! leases.

use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
use std::time::Duration;

use super::layout::keeper;
use crate::sys::futex;
use crate::sys::map::Mapping;
use crate::turnstile::SlotIndex;

/// The word of this process's slot on which its keeper sleeps, the thread that ends leases.
///
/// It stays valid if the process moves to another queue file, but then nobody wakes it.
#[derive(Debug, Clone)]
pub struct KeeperWord {
    mapping: Arc<Mapping>,
    slot: SlotIndex,
}

impl KeeperWord {
    pub(super) fn new(mapping: &Arc<Mapping>, slot: SlotIndex) -> Self {
        Self {
            mapping: Arc::clone(mapping),
            slot,
        }
    }

    /// Returns how often the keeper was woken.
    #[must_use]
    pub fn wakes(&self) -> u32 {
        words(&self.mapping, self.slot).0.load(SeqCst)
    }

    /// Sleeps until the keeper is woken, at most for `pause`. Returns at once if it was woken since
    /// `wakes` was read, and now and then for no reason. For one thread at a time.
    pub fn wait(&self, wakes: u32, pause: Duration) {
        let (word, sleeping) = words(&self.mapping, self.slot);
        sleeping.store(1, SeqCst);
        // The kernel compares the word again, so a wake-up in between is not lost.
        futex::wait(word, wakes, pause);
        sleeping.store(0, SeqCst);
    }

    /// Wakes the keeper, or keeps it from falling asleep.
    pub fn wake(&self) {
        wake(&self.mapping, self.slot);
    }
}

/// Wakes the keeper of the process that occupies a slot.
pub(super) fn wake(mapping: &Mapping, slot: SlotIndex) {
    let (word, sleeping) = words(mapping, slot);
    word.fetch_add(1, SeqCst);
    if sleeping.load(SeqCst) != 0 {
        futex::wake(word);
    }
}

/// Returns how often the keeper was woken, and whether it sleeps.
fn words(mapping: &Mapping, slot: SlotIndex) -> (&AtomicU32, &AtomicU32) {
    let at = keeper(slot) / 4;
    let words = mapping.u32s();
    (&words[at], &words[at + 1])
}
