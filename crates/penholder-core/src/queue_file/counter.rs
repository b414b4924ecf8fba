//! Counters of the queue file.

use super::layout::AT_COUNTERS;

/// A counter that only goes up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Counter {
    Acquisitions,
    /// Acquisitions that waited in the queue.
    Contended,
    Timeouts,
    Recoveries,
    /// Waits that met a holder that does not use the queue.
    UnqueuedHolders,
    PassedOver,
    Events,
    /// Transactions that several writes shared.
    Batches,
    /// Writes in them.
    Grouped,
    /// Remote requests that were executed.
    RemoteRequests,
    /// Writes in those.
    RemoteWrites,
}

impl Counter {
    /// Returns the offset of its word.
    pub(super) fn at(self) -> usize {
        AT_COUNTERS + self as usize * 8
    }
}

/// How much one shared transaction did.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct BatchSize {
    /// Writes, including those of other processes.
    pub writes: u64,
    /// Remote requests: requests of other processes.
    pub requests: u64,
    /// Writes in those.
    pub remote_writes: u64,
}
