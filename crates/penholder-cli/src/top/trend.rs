//! How busy the lock was between successive updates.

use std::collections::VecDeque;
use std::time::Duration;

use penholder::lock::Snapshot;

/// More samples than the widest terminal shows.
const KEPT: usize = 512;

/// What happened between two updates.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    /// Acquisitions of the lock per second.
    pub(crate) acquired: u64,
    /// Acquisitions per second that had to wait.
    pub(crate) contended: u64,
    /// The 99th percentile of the waits.
    pub(crate) p99: Duration,
    /// The longest wait.
    pub(crate) longest: Duration,
    /// The time between the two updates.
    pub(crate) elapsed: Duration,
}

impl Sample {
    pub(crate) fn between(earlier: &Snapshot, later: &Snapshot, elapsed: Duration) -> Self {
        let counters = later.counted_since(earlier);
        let waits = later.waits_since(earlier);
        Self {
            acquired: per_second(counters.acquisitions, elapsed),
            contended: per_second(counters.contended, elapsed),
            p99: waits.p99,
            longest: waits.max,
            elapsed,
        }
    }

    pub(crate) fn longest_micros(&self) -> u64 {
        u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX)
    }
}

fn per_second(count: u64, elapsed: Duration) -> u64 {
    let nanos = elapsed.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The latest samples.
#[derive(Debug, Clone, Default)]
pub(crate) struct Trend {
    samples: VecDeque<Sample>,
}

impl Trend {
    pub(crate) fn add(&mut self, sample: Sample) {
        if self.samples.len() == KEPT {
            self.samples.pop_front();
        }
        self.samples.push_back(sample);
    }

    pub(crate) fn latest(&self) -> Option<&Sample> {
        self.samples.back()
    }

    /// The last `count` samples, the earliest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = &Sample> {
        let skipped = self.samples.len().saturating_sub(count);
        self.samples.iter().skip(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_for_any_interval() {
        assert_eq!(per_second(50, Duration::from_millis(100)), 500);
        assert_eq!(per_second(50, Duration::from_secs(10)), 5);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut trend = Trend::default();
        for acquired in 0..2 * KEPT as u64 {
            trend.add(Sample {
                acquired,
                ..Sample::default()
            });
        }
        assert_eq!(trend.latest().unwrap().acquired, 2 * KEPT as u64 - 1);
        assert_eq!(trend.last(usize::MAX).count(), KEPT);
        let last: Vec<u64> = trend.last(2).map(|sample| sample.acquired).collect();
        assert_eq!(last, [1022, 1023]);
    }
}
