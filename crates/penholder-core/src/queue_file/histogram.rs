//! Histograms of the queue file: four buckets for each power of two.

use super::layout::{AT_BATCH_SIZES, AT_HOLDS, AT_WAITS};

pub(crate) use super::layout::BUCKETS;

/// A histogram.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Histogram {
    /// How long acquisitions waited, in nanoseconds.
    Waits,
    /// How long the lock was held, in nanoseconds.
    Holds,
    /// How many writes shared a transaction.
    BatchSizes,
}

impl Histogram {
    /// Returns the offset of the word of a bucket.
    pub(super) fn at(self, bucket: usize) -> usize {
        let start = match self {
            Self::Waits => AT_WAITS,
            Self::Holds => AT_HOLDS,
            Self::BatchSizes => AT_BATCH_SIZES,
        };
        start + bucket % BUCKETS * 8
    }
}

/// Returns the bucket that counts a value; values below four share one.
pub(crate) fn bucket(value: u64) -> usize {
    let value = value.max(4);
    let highest = value.ilog2();
    let next_two = value >> (highest - 2) & 3;
    highest as usize * 4 + usize::try_from(next_two).unwrap_or(0)
}

/// Returns the smallest value that a bucket counts.
pub(crate) fn bucket_starts(bucket: usize) -> u64 {
    let (highest, next_two) = (bucket / 4, bucket as u64 % 4);
    if highest < 2 {
        return 0;
    }
    (4 + next_two) << (highest - 2)
}
