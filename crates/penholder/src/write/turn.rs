//! The turn to write: the lock, and what was seen when it was taken.

use std::time::Instant;

use penholder_core::Guard;

/// The turn to write: the lock, and what was seen when it was taken. Passed down, so that nothing
/// is asked twice for one write.
#[derive(Debug)]
pub(crate) struct WriteTurn {
    pub(crate) guard: Guard,
    /// When it was taken, within some microseconds.
    pub(crate) taken: Instant,
    /// Whether another process waited for the lock then.
    pub(crate) is_awaited: bool,
}

impl WriteTurn {
    /// Of a lock that was taken just now.
    pub(crate) fn new(guard: Guard) -> Self {
        Self::taken_at(guard, Instant::now())
    }

    /// Of a lock that was taken at this time.
    pub(crate) fn taken_at(guard: Guard, taken: Instant) -> Self {
        Self {
            taken,
            is_awaited: guard.is_awaited(),
            guard,
        }
    }
}
