//! How long things took.

use std::time::Duration;

use crate::queue_file::{BUCKETS, Histogram, QueueFileSnapshot, bucket_starts};

/// How long something took, to within an eighth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Percentiles {
    /// How many durations were counted.
    pub count: u64,
    /// Half of them were no longer than this.
    pub p50: Duration,
    /// Nine tenths of them were no longer than this.
    pub p90: Duration,
    /// 99 of 100 were no longer than this.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

impl Percentiles {
    pub(super) fn of(snapshot: &QueueFileSnapshot, histogram: Histogram) -> Self {
        Self::from_counts(&snapshot.histogram(histogram))
    }

    /// Computes percentiles from the counts of a histogram's buckets: each is the end
    /// of the bucket that it falls into.
    pub(super) fn from_counts(counts: &[u64]) -> Self {
        let total = counts.iter().fold(0_u64, |sum, &n| sum.saturating_add(n));
        let ends =
            |bucket: usize| Duration::from_nanos(bucket_starts((bucket + 1).min(BUCKETS - 1)));
        let up_to = |parts: u64, of: u64| {
            let wanted = (u128::from(total) * u128::from(parts)).div_ceil(u128::from(of));
            let mut seen = 0_u128;
            let bucket = counts.iter().position(|&count| {
                seen += u128::from(count);
                seen >= wanted && seen > 0
            });
            bucket.map_or(Duration::ZERO, ends)
        };
        Self {
            count: total,
            p50: up_to(50, 100),
            p90: up_to(90, 100),
            p99: up_to(99, 100),
            max: counts
                .iter()
                .rposition(|&count| count > 0)
                .map_or(Duration::ZERO, ends),
        }
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Percentiles {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let micros = |duration: Duration| u64::try_from(duration.as_micros()).unwrap_or(u64::MAX);
        let mut out = serializer.serialize_struct("Percentiles", 5)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("p50", &micros(self.p50))?;
        out.serialize_field("p90", &micros(self.p90))?;
        out.serialize_field("p99", &micros(self.p99))?;
        out.serialize_field("max", &micros(self.max))?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_file::bucket;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_exact_to_within_a_bucket() {
        let mut counts = vec![0; BUCKETS];
        for micros in 1..=1000_u64 {
            counts[bucket(micros * 1000)] += 1;
        }
        let found = Percentiles::from_counts(&counts);
        for (found, wanted) in [(found.p50, 500.0), (found.p90, 900.0), (found.p99, 990.0)] {
            let ratio = found.as_secs_f64() * 1e6 / wanted;
            assert!((0.99..1.26).contains(&ratio), "{found:?} for {wanted}");
        }
        assert!(found.max >= Duration::from_millis(1), "{found:?}");
        assert_eq!(
            Percentiles::from_counts(&[0; BUCKETS]),
            Percentiles::default()
        );
    }

    proptest! {
        #[test]
        fn duration_falls_into_its_bucket(nanos in 4..u64::MAX) {
            let bucket = bucket(nanos);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(bucket_starts(bucket) <= nanos);
            prop_assert!(bucket + 1 >= BUCKETS || nanos < bucket_starts(bucket + 1));
        }
    }
}
