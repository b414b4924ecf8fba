//! How often things happened on a lock.

use crate::queue_file::{Counter, QueueFileSnapshot};

/// How often things happened since the queue file was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// The lock was taken.
    pub acquisitions: u64,
    /// The lock was taken after waiting for it in the queue.
    pub contended: u64,
    /// A wait ended at its deadline.
    pub timeouts: u64,
    /// The lock was taken from a holder that had died.
    pub recoveries: u64,
    /// A waiter found the lock held by a process that does not use the queue, for
    /// example by `flock(1)`.
    pub unqueued_holders: u64,
    /// A waiter did not take its turn, because it was stopped or had died.
    pub passed_over: u64,
    /// A transaction served several writes.
    pub batches: u64,
    /// Writes in those transactions.
    pub batched_writes: u64,
    /// Requests of waiting processes that a holder executed on their behalf.
    pub combined_requests: u64,
    /// Writes in those requests.
    pub combined_writes: u64,
}

impl Counters {
    pub(super) fn of(snapshot: &QueueFileSnapshot) -> Self {
        Self {
            acquisitions: snapshot.counter(Counter::Acquisitions),
            contended: snapshot.counter(Counter::Contended),
            timeouts: snapshot.counter(Counter::Timeouts),
            recoveries: snapshot.counter(Counter::Recoveries),
            unqueued_holders: snapshot.counter(Counter::UnqueuedHolders),
            passed_over: snapshot.counter(Counter::PassedOver),
            batches: snapshot.counter(Counter::Batches),
            batched_writes: snapshot.counter(Counter::Grouped),
            combined_requests: snapshot.counter(Counter::RemoteRequests),
            combined_writes: snapshot.counter(Counter::RemoteWrites),
        }
    }

    /// Returns what was counted between an earlier snapshot of the same queue file and
    /// this one.
    pub(super) fn since(self, earlier: Self) -> Self {
        Self {
            acquisitions: self.acquisitions.saturating_sub(earlier.acquisitions),
            contended: self.contended.saturating_sub(earlier.contended),
            timeouts: self.timeouts.saturating_sub(earlier.timeouts),
            recoveries: self.recoveries.saturating_sub(earlier.recoveries),
            unqueued_holders: self
                .unqueued_holders
                .saturating_sub(earlier.unqueued_holders),
            passed_over: self.passed_over.saturating_sub(earlier.passed_over),
            batches: self.batches.saturating_sub(earlier.batches),
            batched_writes: self.batched_writes.saturating_sub(earlier.batched_writes),
            combined_requests: self
                .combined_requests
                .saturating_sub(earlier.combined_requests),
            combined_writes: self.combined_writes.saturating_sub(earlier.combined_writes),
        }
    }
}
