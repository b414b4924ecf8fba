//! How long commits take, whether that is expensive, and waiting for more writes to share one.
//!
//! Writes that wait for the same disk share one commit. The writers of the last batch are
//! likely to write again soon, so a leader waits until as many are there, for at most the
//! duration of one commit. If commits are cheap, or the last batch had one writer, it does
//! not wait at all.
//!
//! The same two words are kept in two places: in each process, and in the queue file for
//! all processes of a lock. There they are hints that may be garbage.

use std::ops::RangeInclusive;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

use crate::time::nanos;

/// A commit that takes at least this long is worth sharing.
const EXPENSIVE: Duration = Duration::from_micros(40);
/// From this number of writers on, not all are waited for.
const MANY: usize = 16;
/// How many percent of them are: the last ones to come cost more time than a place in the next
/// batch.
const SHARE_OF_MANY: usize = 70;
/// How often the mean one commit may count. With 4 the mean follows slow commits even if two of
/// three are fast: closures that find nothing to do commit at once, on any disk.
const JUMP_MAX: u64 = 4;
/// A mean outside this range, in nanoseconds, is garbage.
const PLAUSIBLE: RangeInclusive<u64> = 100..=1_000_000_000;

/// A view of the two words that commit statistics are kept in.
#[derive(Debug, Clone, Copy)]
pub struct CommitStats<'a> {
    /// A smoothed duration of a commit, in nanoseconds.
    mean: &'a AtomicU64,
    /// How many writes shared the last commit.
    batch: &'a AtomicU64,
}

/// The commit statistics of one process.
#[derive(Debug, Default)]
pub struct OwnCommitStats {
    mean: AtomicU64,
    batch: AtomicU64,
}

impl OwnCommitStats {
    /// Returns a view of them.
    #[must_use]
    pub fn view(&self) -> CommitStats<'_> {
        CommitStats::new(&self.mean, &self.batch)
    }
}

impl<'a> CommitStats<'a> {
    pub(crate) fn new(mean: &'a AtomicU64, batch: &'a AtomicU64) -> Self {
        Self { mean, batch }
    }

    /// Returns the smoothed duration of a commit; zero if none is known.
    #[must_use]
    pub fn commit_time(self) -> Duration {
        Duration::from_nanos(self.mean.load(Relaxed))
    }

    /// Returns how many writes shared the last commit; zero if none is known.
    #[must_use]
    pub fn last_batch(self) -> usize {
        usize::try_from(self.batch.load(Relaxed)).unwrap_or(0)
    }

    /// Whether a commit takes so long that sharing it pays.
    #[must_use]
    pub fn is_expensive(self) -> bool {
        self.commit_time() >= threshold()
    }

    /// Notes that a commit took `duration` and that `writes` shared it.
    pub fn note(self, duration: Duration, writes: usize) {
        self.note_batch(writes);
        self.note_duration(duration);
    }

    /// Notes that `writes` shared a commit.
    pub fn note_batch(self, writes: usize) {
        self.batch.store(writes as u64, Relaxed);
    }

    /// Notes that a commit took `duration`.
    pub fn note_duration(self, duration: Duration) {
        let new = nanos(duration);
        let old = match self.mean.load(Relaxed) {
            0 => new,
            // A mean of a few nanoseconds would never grow: it is rounded down.
            old => old.clamp(*PLAUSIBLE.start(), *PLAUSIBLE.end()),
        };
        // Clamped: a process that was descheduled during its commit says nothing about the
        // disk.
        let new = new.min(old.saturating_mul(JUMP_MAX));
        self.mean.store(old / 8 * 7 + new / 8, Relaxed);
    }

    /// Waits until as many writes are there as shared the last commit, or 70% of those if they were
    /// many, for at most the duration of one commit and at most `longest`. `are_there` returns whether
    /// this number is there.
    pub fn wait_for_more_writes(self, longest: Duration, are_there: impl Fn(usize) -> bool) {
        let wanted = match self.last_batch() {
            few @ 0..MANY => few,
            many => (many.saturating_mul(SHARE_OF_MANY) / 100).max(MANY - 1),
        };
        if wanted <= 1 || !self.is_expensive() {
            return;
        }
        let begun = Instant::now();
        let limit = self.commit_time().min(longest);
        while !are_there(wanted) && begun.elapsed() < limit {
            thread::yield_now();
        }
    }
}

#[cfg(not(feature = "failpoints"))]
fn threshold() -> Duration {
    EXPENSIVE
}

/// The environment variable by which a test makes every commit expensive, on any
/// disk.
#[cfg(feature = "failpoints")]
pub const ALL_EXPENSIVE: &str = "PENHOLDER_TEST_ALL_EXPENSIVE";

#[cfg(feature = "failpoints")]
fn threshold() -> Duration {
    thread_local! {
        static THRESHOLD: Duration = match std::env::var_os(ALL_EXPENSIVE) {
            Some(_) => Duration::ZERO,
            None => EXPENSIVE,
        };
    }
    THRESHOLD.with(|&threshold| threshold)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_slow_commit_does_not_make_commits_expensive() {
        let stats = OwnCommitStats::default();
        stats.view().note(Duration::from_micros(8), 1);
        stats.view().note(Duration::from_secs(5), 1);
        assert!(stats.view().commit_time() < Duration::from_micros(12));
        assert!(!stats.view().is_expensive());
        for _ in 0..100 {
            stats.view().note(Duration::from_micros(200), 2);
        }
        assert!(stats.view().is_expensive());
    }

    #[test]
    fn slow_commits_between_fast_ones_are_expensive() {
        let stats = OwnCommitStats::default();
        for _ in 0..100 {
            stats.view().note(Duration::from_micros(5), 1);
            stats.view().note(Duration::from_micros(5), 1);
            stats.view().note(Duration::from_millis(5), 1);
        }
        assert!(stats.view().is_expensive());
    }

    #[test]
    fn garbage_is_forgotten() {
        let (mean, batch) = (AtomicU64::new(u64::MAX), AtomicU64::new(u64::MAX));
        let stats = CommitStats::new(&mean, &batch);
        for _ in 0..300 {
            stats.note(Duration::from_micros(10), 1);
        }
        assert!(stats.commit_time() < Duration::from_micros(20), "{stats:?}");
        assert_eq!(stats.last_batch(), 1);
        for garbage in 1..200 {
            mean.store(garbage, Relaxed);
            for _ in 0..100 {
                stats.note(Duration::from_micros(200), 1);
            }
            assert!(stats.is_expensive(), "{garbage}: {stats:?}");
        }
    }

    #[test]
    fn more_writes_are_not_waited_for_longer_than_a_commit_takes() {
        let stats = OwnCommitStats::default();
        stats.view().note(Duration::from_millis(1), 8);
        let begun = Instant::now();
        stats
            .view()
            .wait_for_more_writes(Duration::from_secs(9), |wanted| wanted <= 1);
        assert!(begun.elapsed() < Duration::from_secs(5));
    }
}
