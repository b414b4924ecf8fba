//! How the writes of a shared transaction are kept apart.

use std::sync::atomic::{AtomicU32, Ordering::Relaxed};

/// How many batches have savepoints after one in which not all writes were done without.
const CAREFUL_BATCHES: u32 = 16;

/// How the writes of a shared transaction are kept apart.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Isolation {
    /// Each has a savepoint: if one is not done, the others go on.
    Savepoint,
    /// Not at all: if one is not done, all of the transaction is rolled back.
    None,
}

/// Which batches have savepoints. One thread at a time uses it.
#[derive(Debug, Default)]
pub(crate) struct Caution {
    /// How many batches have them from now on.
    batches: AtomicU32,
}

impl Caution {
    /// Returns how the writes of the next batch are kept apart.
    pub(crate) fn next(&self) -> Isolation {
        let batches = self.batches.load(Relaxed);
        self.batches.store(batches.saturating_sub(1), Relaxed);
        match batches {
            0 => Isolation::None,
            _ => Isolation::Savepoint,
        }
    }

    /// Notes that not all writes of a batch were done without savepoints.
    pub(crate) fn increase(&self) {
        self.batches.store(CAREFUL_BATCHES, Relaxed);
    }
}
