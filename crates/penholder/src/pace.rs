//! How long a leader waits for company.
//!
//! A commit that waits for the disk is shared by as many as come in time. Whoever
//! was in the last batch is about to write again, as a rule: the leader waits until
//! as many are there, or for as long as one commit takes. Where a commit is cheap,
//! or nobody else was there, it does not wait at all.

use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering::Relaxed};
use std::thread;
use std::time::{Duration, Instant};

/// A commit that takes this long is worth sharing. In the unit tests all are, whatever
/// the disk.
pub(crate) const DEAR: Duration = Duration::from_micros(if cfg!(test) { 0 } else { 40 });

/// What a process knows of its commits.
#[derive(Debug, Default)]
pub(crate) struct Pace {
    /// A smoothed length of a commit, in nanoseconds.
    commit: AtomicU64,
    /// Members of the last batch.
    last: AtomicUsize,
}

impl Pace {
    pub(crate) fn commit(&self) -> Duration {
        Duration::from_nanos(self.commit.load(Relaxed))
    }

    /// A batch of so many was committed, which took so long.
    pub(crate) fn note(&self, members: usize, commit: Duration) {
        self.note_company(members);
        self.note_commit(commit);
    }

    pub(crate) fn note_company(&self, members: usize) {
        self.last.store(members, Relaxed);
    }

    pub(crate) fn note_commit(&self, commit: Duration) {
        let new = u64::try_from(commit.as_nanos()).unwrap_or(u64::MAX);
        let old = self.commit.load(Relaxed);
        let smoothed = if old == 0 { new } else { old / 8 * 7 + new / 8 };
        self.commit.store(smoothed, Relaxed);
    }

    /// Waits for the company of this process, at most `longest`; `here` says how many
    /// have come.
    pub(crate) fn gather(&self, longest: Duration, here: impl Fn() -> usize) {
        gather(self.last.load(Relaxed), self.commit(), longest, here);
    }
}

/// Waits until as many are there as the last time, or for as long as one commit takes.
pub(crate) fn gather(wanted: usize, commit: Duration, longest: Duration, here: impl Fn() -> usize) {
    if wanted <= 1 || commit < DEAR {
        return;
    }
    let begun = Instant::now();
    let patience = commit.min(longest);
    while here() < wanted && begun.elapsed() < patience {
        thread::yield_now();
    }
}
