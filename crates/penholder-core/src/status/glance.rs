//! A look at the page alone, for whoever looks again and again.
//!
//! [`Status`] asks the kernel's table of locks who holds, and to read that table stalls
//! everybody on the machine who takes a lock at that moment. A glance believes the page.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::holder_record::Record;
use crate::queue_file::{Found, Histogram, Occupant, Snapshot};
use crate::status::history::{Counters, Event, Percentiles};
use crate::status::{self, Holder, PageState, ProcessState, Status};
use crate::sys::{file, process};

/// So many of those in line are looked at, which costs some microseconds each; what
/// the others are doing is [`ProcessState::Unknown`].
const LOOKS: usize = 64;

/// What the page of a lock shows, and what happened since an earlier glance.
///
/// It reads two files, the page and the lock file, and of `/proc` what the holder and
/// the first 64 in line are doing; it never asks for the table of all locks. So it says
/// less than [`Status`]: a process that does not queue (a plain `flock`) is not seen to
/// hold, unless it left a record, and while the lock is kept for somebody between
/// two of its writes it is free.
///
/// ```
/// use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let locker = WriteLocker::new(folder.path())?;
/// locker.acquire(DEFAULT_TIMEOUT)?.release()?;
/// let earlier = locker.glance()?;
/// locker.acquire(DEFAULT_TIMEOUT)?.release()?;
/// let now = locker.glance()?;
/// assert_eq!(now.counted_since(&earlier).acquisitions, 1);
/// assert_eq!(now.news_since(&earlier).events, []);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Glance {
    /// What is seen; its counts and percentiles are since the page was built.
    pub status: Status,
    /// When the page was built, in nanoseconds since 1970; zero without one.
    built: u64,
    waits: Vec<u64>,
    holds: Vec<u64>,
}

/// The events between two glances.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct News {
    /// The earliest first.
    pub events: Vec<Event>,
    /// How many more there were, which the page had forgotten by the second one.
    pub missed: u64,
}

/// Looks at the page and the record; creates, writes, locks and probes nothing.
pub(crate) fn look(lock_file: &Path) -> io::Result<Glance> {
    let (state, page) = match Snapshot::read(lock_file) {
        Ok(Found::Valid(page)) => (PageState::InUse, Some(page)),
        Ok(Found::Nothing) => (PageState::None, None),
        Ok(Found::Invalid) | Err(_) => (PageState::Unusable, None),
    };
    let holder = holder(page.as_ref(), record(lock_file)?);
    let mut glance = Glance {
        status: Status::of(lock_file, holder),
        built: 0,
        waits: Vec::new(),
        holds: Vec::new(),
    };
    glance.status.page = state;
    if let Some(page) = page {
        glance.status.add(&page, LOOKS);
        glance.built = page.built();
        glance.waits = page.histogram(Histogram::Waits);
        glance.holds = page.histogram(Histogram::Holds);
    }
    Ok(glance)
}

fn record(lock_file: &Path) -> io::Result<Option<Record>> {
    match file::open_to_look(lock_file) {
        Ok(file) if file.metadata()?.is_file() => Record::read(&file),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The holder that the page names. Where nobody has passed the turnstile a record
/// that stands is of somebody who polls.
fn holder(page: Option<&Snapshot>, record: Option<Record>) -> Option<Holder> {
    let own_pidns = process::own_pidns();
    if let Some(person) = page.and_then(Snapshot::holder) {
        return through_turnstile(person, record, own_pidns);
    }
    if page.is_none_or(Snapshot::is_at_rest) {
        return status::without_tables(record, own_pidns);
    }
    None
}

/// The kernel gave the lock back if it died.
fn through_turnstile(
    person: Occupant,
    record: Option<Record>,
    own_pidns: Option<u64>,
) -> Option<Holder> {
    let state = status::state_of(&person, own_pidns);
    if state == ProcessState::Gone {
        return None;
    }
    // Of the same process; only it says since when.
    let record = record.filter(|record| {
        record.pid == Some(person.pid)
            && record.start == person.start
            && record.pidns == person.pidns
    });
    let text = |text: String| Some(text).filter(|text| !text.is_empty());
    let (recorded, pid) = (record.is_some(), Some(person.pid));
    let record = record.unwrap_or_default();
    let seen = Record {
        cmd: record.cmd.or(text(person.cmd)),
        label: text(person.label),
        ..record
    };
    let holder = Holder::from_record(seen, pid, state);
    Some(Holder { recorded, ..holder })
}

impl Glance {
    /// When the page was built: since then it counts. `None` without a page.
    #[must_use]
    pub fn built(&self) -> Option<SystemTime> {
        let built = Duration::from_nanos(self.built);
        UNIX_EPOCH.checked_add(built).filter(|_| self.built > 0)
    }

    /// What was counted since an earlier glance; all of it if the page was built anew.
    #[must_use]
    pub fn counted_since(&self, earlier: &Self) -> Counters {
        if self.is_same_page(earlier) {
            self.status.counters.since(earlier.status.counters)
        } else {
            self.status.counters
        }
    }

    /// How long it took to get the lock, of those who got it since an earlier glance.
    #[must_use]
    pub fn waits_since(&self, earlier: &Self) -> Percentiles {
        self.times_since(earlier, |glance| &glance.waits)
    }

    /// How long it was held, of the holds since an earlier glance.
    #[must_use]
    pub fn holds_since(&self, earlier: &Self) -> Percentiles {
        self.times_since(earlier, |glance| &glance.holds)
    }

    fn times_since(&self, earlier: &Self, of: impl Fn(&Self) -> &Vec<u64>) -> Percentiles {
        if !self.is_same_page(earlier) {
            return Percentiles::from_counts(of(self));
        }
        let counts = of(self).iter().zip(of(earlier));
        let counts: Vec<u64> = counts
            .map(|(now, before)| now.saturating_sub(*before))
            .collect();
        Percentiles::from_counts(&counts)
    }

    /// What happened since an earlier glance; all that is kept if the page was built
    /// anew.
    #[must_use]
    pub fn news_since(&self, earlier: &Self) -> News {
        let seen: BTreeSet<u64> = numbers(earlier)
            .filter(|_| self.is_same_page(earlier))
            .collect();
        // Before the first one seen: it was forgotten, or written over a later one.
        let from = seen.first().copied().unwrap_or(0);
        let mut events = self.status.events.clone();
        events.retain(|event| event.number >= from && !seen.contains(&event.number));
        events.reverse();
        let expected = seen.last().map(|last| last.saturating_add(1));
        let missed = match (expected, events.first()) {
            (Some(expected), Some(first)) => first.number.saturating_sub(expected),
            _ => 0,
        };
        News { events, missed }
    }

    fn is_same_page(&self, earlier: &Self) -> bool {
        self.built == earlier.built
    }
}

fn numbers(glance: &Glance) -> impl Iterator<Item = u64> + '_ {
    glance.status.events.iter().map(|event| event.number)
}
