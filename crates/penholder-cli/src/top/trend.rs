//! How busy the lock was from look to look, as far as it is shown.

use std::collections::VecDeque;
use std::time::Duration;

use penholder::lock::Glance;

/// So many looks are kept: more than the widest terminal shows.
const KEPT: usize = 512;

/// What happened between two looks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Sample {
    /// How often a second the lock was taken.
    pub(crate) taken: u64,
    /// How often a second it was waited for before it was taken.
    pub(crate) waited: u64,
    /// How long it took to get it: ninety-nine of a hundred took no longer.
    pub(crate) p99: Duration,
    /// The longest.
    pub(crate) longest: Duration,
}

impl Sample {
    pub(crate) fn between(earlier: &Glance, now: &Glance, passed: Duration) -> Self {
        let counted = now.counted_since(earlier);
        let waits = now.waits_since(earlier);
        Self {
            taken: per_second(counted.acquisitions, passed),
            waited: per_second(counted.contended, passed),
            p99: waits.p99,
            longest: waits.max,
        }
    }

    pub(crate) fn longest_micros(&self) -> u64 {
        u64::try_from(self.longest.as_micros()).unwrap_or(u64::MAX)
    }
}

fn per_second(count: u64, passed: Duration) -> u64 {
    let nanos = passed.as_nanos().max(1);
    u64::try_from(u128::from(count) * 1_000_000_000 / nanos).unwrap_or(u64::MAX)
}

/// The latest samples.
#[derive(Debug, Default)]
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

    /// The last so many, the earliest first.
    pub(crate) fn last(&self, count: usize) -> impl Iterator<Item = &Sample> {
        let skipped = self.samples.len().saturating_sub(count);
        self.samples.iter().skip(skipped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_per_second_whatever_the_interval() {
        assert_eq!(per_second(50, Duration::from_millis(100)), 500);
        assert_eq!(per_second(50, Duration::from_secs(10)), 5);
        assert_eq!(per_second(u64::MAX, Duration::ZERO), u64::MAX);
    }

    #[test]
    fn only_the_latest_are_kept() {
        let mut trend = Trend::default();
        for taken in 0..2 * KEPT as u64 {
            trend.add(Sample {
                taken,
                ..Sample::default()
            });
        }
        assert_eq!(trend.latest().unwrap().taken, 2 * KEPT as u64 - 1);
        assert_eq!(trend.last(usize::MAX).count(), KEPT);
        let last: Vec<u64> = trend.last(2).map(|sample| sample.taken).collect();
        assert_eq!(last, [1022, 1023]);
    }
}
