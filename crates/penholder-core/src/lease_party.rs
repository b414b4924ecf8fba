//! What is kept along with the lock during a lease.

use std::fmt::Debug;
use std::time::Duration;

/// What is kept along with the lock during a lease.
pub trait LeaseParty: Debug + Send + Sync {
    /// Releases what is kept. Called with the lock held, from any thread, and also if nothing is
    /// kept.
    fn release(&self);

    /// Is told that a lease has ended, after [`release`](Self::release) and while the lock is
    /// still held. At the end of a slice, this is the time to let programs write that do not use
    /// the lock; if one wrote, returns after which time.
    fn ended(&self, lease: &EndedLease) -> Option<Duration>;
}

/// A lease that has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndedLease {
    /// Why it ended.
    pub why: LeaseEnd,
    /// How long the lock was held.
    pub held: Duration,
    /// How many holds there were in it.
    pub holds: u64,
    /// When it ended: monotonic clock, nanoseconds.
    pub at: u64,
}

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum LeaseEnd {
    /// The slice was over, and no process waited.
    Slice,
    /// The process did not write again at once.
    Idle,
    /// The slice was over, and another process waited.
    Waiter,
    /// The process ran a checkpoint, or waited for one.
    Checkpoint,
    /// The process ended its use of the lock, or forked.
    Close,
    /// The process did something else under the lock.
    Other,
}

impl LeaseEnd {
    /// Returns the end of a slice, while another process waits or not.
    pub(crate) fn of_slice(is_awaited: bool) -> Self {
        if is_awaited {
            Self::Waiter
        } else {
            Self::Slice
        }
    }

    /// Returns whether it ended because its time was over.
    #[must_use]
    pub fn is_slice(self) -> bool {
        matches!(self, Self::Slice | Self::Waiter)
    }
}
