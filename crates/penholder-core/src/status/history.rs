//! What a page remembers: counts, how long things took, and what happened. Plain
//! data for people and programs; it ends with the page.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::queue_file::{BUCKETS, Counter, EventRecord, Histogram, Snapshot, bucket_starts};
use crate::time;

/// How often things happened since the page was built.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Counters {
    /// The lock was taken.
    pub acquisitions: u64,
    /// It was waited for in line before it was taken.
    pub contended: u64,
    /// A wait ended at its deadline.
    pub timeouts: u64,
    /// The lock was taken from a holder that had died.
    pub recoveries: u64,
    /// Somebody who does not queue was found to hold the lock.
    pub foreign: u64,
    /// A waiter did not come when it was its turn: it was stopped, or died.
    pub passed_over: u64,
    /// Transactions that served several writes.
    pub batches: u64,
    /// Writes in those.
    pub grouped: u64,
    /// Requests of waiting processes that the holder carried out for them.
    pub carried_requests: u64,
    /// Writes in those.
    pub carried: u64,
}

/// How many writes shared a transaction, to within an eighth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Sizes {
    /// How many transactions there were that served several.
    pub count: u64,
    /// Half had no more.
    pub p50: u64,
    /// Nine tenths had no more.
    pub p90: u64,
    /// Ninety-nine of a hundred had no more.
    pub p99: u64,
    /// The most.
    pub max: u64,
}

/// How long something took, to within an eighth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Percentiles {
    /// How many there were.
    pub count: u64,
    /// Half took no longer.
    pub p50: Duration,
    /// Nine tenths took no longer.
    pub p90: Duration,
    /// Ninety-nine of a hundred took no longer.
    pub p99: Duration,
    /// The longest.
    pub max: Duration,
}

/// What kind of thing happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum EventKind {
    /// Somebody held the lock for longer than
    /// [`WriteLocker::warn_hold`](crate::WriteLocker::warn_hold) allows.
    LongHold,
    /// Somebody gave up at its deadline; `other` was in the way.
    Timeout,
    /// The lock was taken from `other`, which had died.
    Recovery,
    /// `other`, which does not queue, held the lock.
    Bypass,
    /// `other` did not come when it was its turn.
    PassedOver,
    /// The process did writes of `other`, which waited; so many in one transaction
    /// for all. A sample: at most one a second of each process.
    Carried,
}

/// Something notable that happened.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Goes up by one with each event of a page.
    pub number: u64,
    /// When, by the wall clock.
    pub at: SystemTime,
    /// What.
    pub kind: EventKind,
    /// To whom: the process that held, waited or took over, in its own pid
    /// namespace.
    pub pid: u32,
    /// Who else had a part in it, if it is known.
    pub other: Option<u32>,
    /// How long it took: the hold, or the wait. Zero for [`EventKind::Carried`].
    pub duration: Duration,
    /// How many writes were carried; zero for the other kinds.
    pub writes: u64,
    /// The label of `pid`, control characters escaped.
    pub label: Option<String>,
    /// What was run last in a long hold, as far as it was noted; control characters
    /// escaped.
    pub statement: Option<String>,
    /// Where the program asked for it, as `file:line`.
    pub call_site: Option<String>,
}

impl EventKind {
    const ALL: [Self; 6] = [
        Self::LongHold,
        Self::Timeout,
        Self::Recovery,
        Self::Bypass,
        Self::PassedOver,
        Self::Carried,
    ];

    /// As it stands in the page: one and up.
    pub(crate) fn number(self) -> u64 {
        self as u64 + 1
    }

    fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl Event {
    /// `None` for what is garbage, or of a newer version.
    fn of(number: u64, entry: EventRecord) -> Option<Self> {
        let kind = EventKind::of(entry.kind)?;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let is_carried = kind == EventKind::Carried;
        let (nanos, writes) = if is_carried {
            (0, entry.nanos)
        } else {
            (entry.nanos, 0)
        };
        Some(Self {
            number,
            at: UNIX_EPOCH.checked_add(Duration::from_nanos(entry.at))?,
            kind,
            pid: u32::try_from(entry.pid).ok()?,
            other: u32::try_from(entry.other).ok().filter(|&pid| pid > 0),
            duration: Duration::from_nanos(nanos),
            writes,
            label: text(entry.label),
            statement: text(entry.statement),
            call_site: text(entry.call_site),
        })
    }
}

impl Counters {
    pub(crate) fn of(page: &Snapshot) -> Self {
        Self {
            acquisitions: page.counter(Counter::Acquisitions),
            contended: page.counter(Counter::Contended),
            timeouts: page.counter(Counter::Timeouts),
            recoveries: page.counter(Counter::Recoveries),
            foreign: page.counter(Counter::Foreign),
            passed_over: page.counter(Counter::PassedOver),
            batches: page.counter(Counter::Batches),
            grouped: page.counter(Counter::Grouped),
            carried_requests: page.counter(Counter::Carried),
            carried: page.counter(Counter::CarriedWrites),
        }
    }
}

impl Counters {
    /// What was counted between an earlier look at the same page and this one.
    pub(crate) fn since(self, earlier: Self) -> Self {
        Self {
            acquisitions: self.acquisitions.saturating_sub(earlier.acquisitions),
            contended: self.contended.saturating_sub(earlier.contended),
            timeouts: self.timeouts.saturating_sub(earlier.timeouts),
            recoveries: self.recoveries.saturating_sub(earlier.recoveries),
            foreign: self.foreign.saturating_sub(earlier.foreign),
            passed_over: self.passed_over.saturating_sub(earlier.passed_over),
            batches: self.batches.saturating_sub(earlier.batches),
            grouped: self.grouped.saturating_sub(earlier.grouped),
            carried_requests: self
                .carried_requests
                .saturating_sub(earlier.carried_requests),
            carried: self.carried.saturating_sub(earlier.carried),
        }
    }
}

impl Sizes {
    /// Kept in the same buckets as durations are.
    pub(crate) fn of(page: &Snapshot) -> Self {
        let found = Percentiles::of(page, Histogram::BatchSizes);
        // The end of a bucket is one more than the most that it counts.
        let number = |end: Duration| {
            let end = u64::try_from(end.as_nanos()).unwrap_or(u64::MAX);
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

impl Percentiles {
    pub(crate) fn of(page: &Snapshot, histogram: Histogram) -> Self {
        Self::from_counts(&page.histogram(histogram))
    }

    /// A percentile is the end of the bucket that it falls into.
    pub(crate) fn from_counts(counts: &[u64]) -> Self {
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

pub(crate) fn events(page: &Snapshot) -> Vec<Event> {
    let events = page.events().into_iter();
    events
        .filter_map(|(number, entry)| Event::of(number, entry))
        .collect()
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

#[cfg(feature = "serde")]
impl serde::Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Event", 9)?;
        out.serialize_field("at", &time::rfc3339(self.at))?;
        out.serialize_field("kind", &self.kind)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("other_pid", &self.other)?;
        out.serialize_field("duration_s", &self.duration.as_secs_f64())?;
        out.serialize_field("writes", &self.writes)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("statement", &self.statement)?;
        out.serialize_field("call_site", &self.call_site)?;
        out.end()
    }
}

impl fmt::Display for Event {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let took = time::human(self.duration);
        write!(f, "{} pid:{}", time::rfc3339(self.at), self.pid)?;
        if let Some(label) = &self.label {
            write!(f, " ({label})")?;
        }
        let other = match self.other {
            Some(pid) => format!("pid:{pid}"),
            None => "a process that left no trace".to_owned(),
        };
        match self.kind {
            EventKind::LongHold => {
                write!(f, " held the lock for {took}")?;
                if let Some(statement) = &self.statement {
                    write!(f, ", last: {statement}")?;
                }
                match &self.call_site {
                    Some(site) => write!(f, ", called at {site}"),
                    None => Ok(()),
                }
            }
            EventKind::Timeout => write!(f, " gave up after {took}; {other} was in the way"),
            EventKind::Recovery => write!(f, " recovered the lock from {other}, which had died"),
            EventKind::Bypass => write!(f, " met {other}, which holds the lock and does not queue"),
            EventKind::PassedOver => write!(f, " passed over {other}, which did not come"),
            EventKind::Carried => write!(
                f,
                " carried {} writes of others, {other} the first",
                self.writes
            ),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_file::bucket;
    use proptest::prelude::*;

    #[test]
    fn percentiles_are_right_to_within_a_bucket() {
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
        fn a_duration_falls_into_its_bucket(nanos in 4..u64::MAX) {
            let bucket = bucket(nanos);
            prop_assert!(bucket < BUCKETS);
            prop_assert!(bucket_starts(bucket) <= nanos);
            prop_assert!(bucket + 1 >= BUCKETS || nanos < bucket_starts(bucket + 1));
        }
    }
}
