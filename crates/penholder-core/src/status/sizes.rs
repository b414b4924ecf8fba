//! How many writes shared a transaction.

use std::time::Duration;

use super::percentiles::Percentiles;
use crate::queue_file::{Histogram, QueueFileSnapshot};
use crate::time::nanos;

/// How many writes shared a transaction, to within an eighth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Sizes {
    /// How many transactions served several writes.
    pub count: u64,
    /// Half of them served no more writes than this.
    pub p50: u64,
    /// Nine tenths of them served no more writes than this.
    pub p90: u64,
    /// 99 of 100 served no more writes than this.
    pub p99: u64,
    /// The largest number of writes.
    pub max: u64,
}

impl Sizes {
    pub(super) fn of(snapshot: &QueueFileSnapshot) -> Self {
        // Sizes are counted in the same buckets as durations in nanoseconds.
        let found = Percentiles::of(snapshot, Histogram::BatchSizes);
        // The end of a bucket is one more than the largest number in it.
        let number = |end: Duration| {
            let end = nanos(end);
            end.saturating_sub(1)
        };
        Self {
            count: found.count,
            p50: number(found.p50),
            p90: number(found.p90),
            p99: number(found.p99),
            max: number(found.max),
        }
    }
}
