//! A cheap snapshot of a lock, for repeated use.
//!
//! [`Status`] finds the holder in the kernel's table of locks, and reading that table
//! delays every process of the machine that takes a lock at that moment. A [`Snapshot`]
//! believes the queue file.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::counters::Counters;
use super::event::Event;
use super::holder::Holder;
use super::leases::Leases;
use super::lock_status::Status;
use super::percentiles::Percentiles;
use super::process::Process;
use super::sqlite_holder::SqliteHolder;
use crate::queue_file::{Histogram, QueueFileSnapshot, WRITE_LOCK};
use crate::sys::clock;
use crate::sys::process_state::ProcessState;

/// How many waiters are examined, at a few microseconds each; the state of the others
/// is [`ProcessState::Unknown`](crate::ProcessState::Unknown).
const EXAMINED_MAX: usize = 64;

/// What the queue file of a lock shows, and what happened since an earlier snapshot.
///
/// It reads two files, the queue file and the lock file, and in `/proc` the states of
/// the holder and the first 64 waiters; it never reads the table of all locks. So it
/// shows less than [`Status`]: a holder that does not use the queue (a plain `flock`) is
/// not found unless it left a record, or a process waits for it and has found it, and a lock that is kept for a process between two
/// of its writes counts as free.
///
/// ```
/// use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let locker = WriteLocker::new(directory.path())?;
/// locker.acquire(DEFAULT_TIMEOUT)?.release()?;
/// let earlier = locker.snapshot()?;
/// locker.acquire(DEFAULT_TIMEOUT)?.release()?;
/// let now = locker.snapshot()?;
/// assert_eq!(now.counted_since(&earlier).acquisitions, 1);
/// assert_eq!(now.events_since(&earlier).events, []);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Snapshot {
    /// What is seen; its counts and percentiles are since the queue file was built.
    pub status: Status,
    /// When the queue file was built, in nanoseconds since 1970; zero without one.
    built: u64,
    waits: Vec<u64>,
    holds: Vec<u64>,
}

/// The events between two snapshots.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct EventsSince {
    /// The events, the earliest first.
    pub events: Vec<Event>,
    /// How many more events there were, which the queue file did not keep until the
    /// later snapshot.
    pub missed: u64,
}

impl Snapshot {
    /// Reads the queue file and the record. Nothing is created, written or locked.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read, or is not a regular file.
    pub(crate) fn of_lock(lock_file: &Path, model: Option<&Path>) -> io::Result<Self> {
        let mut status = Status::new(lock_file, None);
        let read = status.read_queue_file(model);
        let outsider = read.as_ref().and_then(outsider);
        let unqueued = outsider.as_ref().filter(|(_, lock)| *lock == WRITE_LOCK);
        status.set_holder(match Holder::from_queue_file(read.as_ref(), lock_file)? {
            None => unqueued.map(|(process, _)| Holder::without_record(process)),
            holder => holder,
        });
        status.compare_database(model);
        status.sqlite_holder =
            outsider.and_then(|(process, lock)| SqliteHolder::of_record(process, lock));
        let mut snapshot = Self {
            status,
            built: 0,
            waits: Vec::new(),
            holds: Vec::new(),
        };
        if let Some(read) = read {
            snapshot.status.add_queue_file(&read, EXAMINED_MAX);
            snapshot.built = read.built();
            snapshot.waits = read.histogram(Histogram::Waits);
            snapshot.holds = read.histogram(Histogram::Holds);
        }
        Ok(snapshot)
    }

    /// Returns when the queue file was built and its counts began; `None` without a
    /// queue file.
    #[must_use]
    pub fn built(&self) -> Option<SystemTime> {
        let built = Duration::from_nanos(self.built);
        UNIX_EPOCH.checked_add(built).filter(|_| self.built > 0)
    }

    /// Returns what was counted since an earlier snapshot; all of it if the queue file was
    /// rebuilt.
    #[must_use]
    pub fn counted_since(&self, earlier: &Self) -> Counters {
        if self.is_same_queue_file(earlier) {
            self.status.counters.since(earlier.status.counters)
        } else {
            self.status.counters
        }
    }

    /// Returns what leases did since an earlier snapshot; all of it if the queue file was rebuilt.
    #[must_use]
    pub fn leases_since(&self, earlier: &Self) -> Leases {
        if self.is_same_queue_file(earlier) {
            self.status.leases.since(earlier.status.leases)
        } else {
            self.status.leases
        }
    }

    /// Returns how long it took to get the lock, of the acquisitions since an earlier
    /// snapshot.
    #[must_use]
    pub fn waits_since(&self, earlier: &Self) -> Percentiles {
        self.times_since(earlier, |snapshot| &snapshot.waits)
    }

    /// Returns how long the lock was held, of the holds since an earlier snapshot.
    #[must_use]
    pub fn holds_since(&self, earlier: &Self) -> Percentiles {
        self.times_since(earlier, |snapshot| &snapshot.holds)
    }

    fn times_since(&self, earlier: &Self, of: impl Fn(&Self) -> &Vec<u64>) -> Percentiles {
        if !self.is_same_queue_file(earlier) {
            return Percentiles::from_counts(of(self));
        }
        let counts = of(self).iter().zip(of(earlier));
        let counts: Vec<u64> = counts
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        Percentiles::from_counts(&counts)
    }

    /// Returns the events since an earlier snapshot; all that are kept if the queue file
    /// was rebuilt.
    #[must_use]
    pub fn events_since(&self, earlier: &Self) -> EventsSince {
        let seen: BTreeSet<u64> = numbers(earlier)
            .filter(|_| self.is_same_queue_file(earlier))
            .collect();
        // Events before the first one seen had been dropped, or were written late.
        let from = seen.first().copied().unwrap_or(0);
        let mut events = self.status.events.clone();
        events.retain(|event| event.number >= from && !seen.contains(&event.number));
        events.reverse();
        let expected = seen.last().map(|last| last.saturating_add(1));
        // Numbers that were given since; of an event that happened several times only the last one
        // is kept.
        let missed = match (expected, events.last()) {
            (Some(expected), Some(last)) => {
                let given = last.number.saturating_add(1).saturating_sub(expected);
                let kept = events.iter().map(|event| earlier.new_of(event));
                given.saturating_sub(kept.sum())
            }
            _ => 0,
        };
        EventsSince { events, missed }
    }

    /// Returns how often an event of a later snapshot has happened since this one.
    fn new_of(&self, event: &Event) -> u64 {
        let mut known = self.status.events.iter();
        let known = known.find(|one| one.kind == event.kind && one.first == event.first);
        let known = known.map_or(0, |one| one.count);
        u64::from(event.count.saturating_sub(known).max(1))
    }

    fn is_same_queue_file(&self, earlier: &Self) -> bool {
        self.built == earlier.built
    }
}

/// Returns the process that a waiter found in the way, and what it has, if that was lately and it
/// is alive.
fn outsider(snapshot: &QueueFileSnapshot) -> Option<(Process, u64)> {
    let found = snapshot.outsider()?;
    if !found.is_recent(clock::monotonic()) {
        return None;
    }
    let lock = found.lock;
    let process = Process::of_record(found);
    (process.state != ProcessState::Gone).then_some((process, lock))
}

fn numbers(snapshot: &Snapshot) -> impl Iterator<Item = u64> + '_ {
    snapshot.status.events.iter().map(|event| event.number)
}
