//! What is kept along with the lock during a lease.

use std::fmt::Debug;
use std::time::Duration;

/// What is kept along with the lock during a lease.
pub trait LeaseParty: Debug + Send + Sync {
    /// Releases what is kept. Called with the lock held, from any thread, and also if nothing is
    /// kept.
    fn end(&self);

    /// Is called after [`end`](Self::end), at the end of a slice in which the lock was held for
    /// `held`, while it still is: the time for programs that do not use the lock. `now` reads the
    /// monotonic clock in nanoseconds.
    fn leave_gap(&self, held: Duration, now: fn() -> u64);
}
