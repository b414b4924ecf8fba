//! Notable things that happened on a lock.

use std::fmt;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use crate::queue_file::{EventRecord, QueueFileSnapshot};
use crate::time;

/// What kind of event it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum EventKind {
    /// A process held the lock for longer than
    /// `WriteLocker::long_hold_threshold` allows.
    LongHold,
    /// A process gave up at its deadline; `other` was in its way.
    Timeout,
    /// The lock was taken from `other`, which had died.
    Recovery,
    /// The lock was found held by `other`, which does not use the queue.
    UnqueuedHolder,
    /// `other` did not take its turn and was passed over.
    PassedOver,
    /// The holder executed writes on behalf of waiting processes in one transaction;
    /// `other` is the first of these processes. A sample: at most one event per second
    /// and process.
    Combined,
    /// The holder waited for `other`, which had SQLite's own lock without the write lock.
    SqliteBusy,
    /// A program without the write lock wrote when SQLite's was left alone for such programs after a
    /// slice.
    OutsiderWrote,
}

/// A notable event on a lock.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Event {
    /// Increases by one with each event of a queue file.
    pub number: u64,
    /// When it happened, by the wall clock; of an event that happened several times the latest.
    pub at: SystemTime,
    /// How often it happened. Events that are the same are kept as one: of the same kind and
    /// processes; of [`UnqueuedHolder`](EventKind::UnqueuedHolder) and
    /// [`SqliteBusy`](EventKind::SqliteBusy) if one of the two processes is the same; of
    /// [`OutsiderWrote`](EventKind::OutsiderWrote) all.
    pub count: u32,
    /// When it happened first.
    pub first: SystemTime,
    /// What happened.
    pub kind: EventKind,
    /// The process that held, waited or took over: its pid in its own pid namespace. Of an event
    /// that happened several times the latest, as `other` is.
    pub pid: u32,
    /// The other process that was involved, if it is known; of a long hold the process that had
    /// SQLite's lock meanwhile.
    pub other: Option<u32>,
    /// How long it took: the hold, or the wait; if it happened several times, the longest. Zero for
    /// [`EventKind::Combined`].
    pub duration: Duration,
    /// How many writes were executed for other processes; zero for all kinds but
    /// [`EventKind::Combined`].
    pub writes: u64,
    /// The label of `pid`, control characters escaped.
    pub label: Option<String>,
    /// The last statement of a long hold, if it was noted; control characters escaped.
    pub statement: Option<String>,
    /// Where the program called, as `file:line`.
    pub call_site: Option<String>,
}

impl EventKind {
    const ALL: [Self; 8] = [
        Self::LongHold,
        Self::Timeout,
        Self::Recovery,
        Self::UnqueuedHolder,
        Self::PassedOver,
        Self::Combined,
        Self::SqliteBusy,
        Self::OutsiderWrote,
    ];

    /// Whether it happens at each wait, so that it counts as the same event if one of its two
    /// processes is the same.
    pub(crate) fn is_frequent(self) -> bool {
        matches!(
            self,
            Self::UnqueuedHolder | Self::SqliteBusy | Self::OutsiderWrote
        )
    }

    /// Returns the number that stands for the kind in a queue file, from one on.
    pub(crate) fn number(self) -> u64 {
        self as u64 + 1
    }

    fn of(number: u64) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.number() == number)
    }
}

impl Event {
    /// Reads the events of a queue file, the latest first.
    pub(super) fn all_of(snapshot: &QueueFileSnapshot) -> Vec<Self> {
        let events = snapshot.events().into_iter();
        events
            .filter_map(|(number, record)| Self::of(number, record))
            .collect()
    }

    /// Returns `None` for garbage, and for an event of a newer version.
    fn of(number: u64, record: EventRecord) -> Option<Self> {
        let kind = EventKind::of(record.kind)?;
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let is_combined = kind == EventKind::Combined;
        let (nanos, writes) = if is_combined {
            (0, record.amount)
        } else {
            (record.amount, 0)
        };
        Some(Self {
            number,
            at: UNIX_EPOCH.checked_add(Duration::from_nanos(record.at))?,
            count: record.count,
            first: UNIX_EPOCH.checked_add(Duration::from_nanos(record.first))?,
            kind,
            pid: u32::try_from(record.pid).ok()?,
            other: u32::try_from(record.other).ok().filter(|&pid| pid > 0),
            duration: Duration::from_nanos(nanos),
            writes,
            label: text(record.label),
            statement: text(record.statement),
            call_site: text(record.call_site),
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Event {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Event", 11)?;
        out.serialize_field("at", &time::rfc3339(self.at))?;
        out.serialize_field("kind", &self.kind)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("other_pid", &self.other)?;
        out.serialize_field("duration_s", &self.duration.as_secs_f64())?;
        out.serialize_field("writes", &self.writes)?;
        out.serialize_field("count", &self.count)?;
        out.serialize_field("first", &time::rfc3339(self.first))?;
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
            None => "an unknown process".to_owned(),
        };
        self.describe(f, &took, &other)?;
        if self.count > 1 {
            let first = time::rfc3339(self.first);
            write!(f, " ({} times since {first})", self.count)?;
        }
        Ok(())
    }
}

impl Event {
    fn describe(&self, f: &mut fmt::Formatter<'_>, took: &str, other: &str) -> fmt::Result {
        match self.kind {
            EventKind::LongHold => {
                write!(f, " held the lock for {took}")?;
                if self.other.is_some() {
                    write!(f, ", waiting for {other}, which had SQLite's own")?;
                }
                if let Some(statement) = &self.statement {
                    write!(f, ", last: {statement}")?;
                }
                match &self.call_site {
                    Some(site) => write!(f, ", called at {site}"),
                    None => Ok(()),
                }
            }
            EventKind::SqliteBusy => write!(
                f,
                " waited {took} for {other}, which had SQLite's lock without the write lock"
            ),
            EventKind::OutsiderWrote => write!(
                f,
                " left SQLite's lock alone for {took}, and a program without the write lock wrote"
            ),
            EventKind::Timeout => write!(f, " gave up after {took}; {other} was in the way"),
            EventKind::Recovery => write!(f, " recovered the lock from {other}, which had died"),
            EventKind::UnqueuedHolder => write!(
                f,
                " found the lock held by {other}, which does not use the queue"
            ),
            EventKind::PassedOver => write!(f, " passed over {other}, which did not take its turn"),
            EventKind::Combined => write!(
                f,
                " executed {} writes for waiting processes, the first of them {other}",
                self.writes
            ),
        }
    }
}
