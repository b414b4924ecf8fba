//! What can be known of a lock by looking at it.

pub(crate) mod glance;
pub(crate) mod history;
pub(crate) mod openers;

use std::fmt;
use std::fs::File;
use std::io;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crate::holder_record::Record;
use crate::printable::{COMMAND_MAX, printable};
use crate::queue_file::{self, Histogram, Person, Snapshot};
use crate::status::history::{Counters, Event, Percentiles, Sizes};
use crate::sys::locks::{self, Seen};
pub use crate::sys::process_state::ProcessState;
use crate::sys::{clock, file, process};
use crate::time;

/// How often the record and the kernel's table are read until they agree.
const LOOKS: u32 = 3;

/// A lock, seen from outside.
///
/// With the feature `serde` it serialises to an object with these fields, which
/// stay as they are within a major version; times are RFC 3339 in UTC, `…_s`
/// seconds, percentiles microseconds:
///
/// | field | value |
/// | --- | --- |
/// | `state` | `"free"` or `"held"` |
/// | `holder` | `null`, or `pid, since, held_s, cmd, label, state, statement` |
/// | `lock_file` | path |
/// | `queue_file` | `"in-use"`, `"none"` or `"unusable"` |
/// | `queue` | first come first: `pid, since, waited_s, left_s, cmd, label, state`; `left_s` is `null` without a deadline |
/// | `counters` | `acquisitions, contended, timeouts, recoveries, foreign, passed_over, batches, grouped, carried_requests, carried` |
/// | `wait_us`, `hold_us` | `count, p50, p90, p99, max` |
/// | `batch_writes` | the same, of the writes that shared a transaction |
/// | `events` | the latest first: `at, kind, pid, other_pid, duration_s, writes, label, statement, call_site` |
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Free or held.
    pub state: LockState,
    /// Who holds it, as far as it can be known; `None` when it is free.
    pub holder: Option<Holder>,
    /// The lock file.
    pub lock_file: PathBuf,
    /// Whether processes queue in a page; if not, they poll, and all that
    /// follows is empty.
    pub page: PageState,
    /// Who waits, first come first. Threads that wait for another thread of their
    /// own process are not in it.
    pub queue: Vec<Waiter>,
    /// How often things happened since the page was built.
    pub counters: Counters,
    /// How long it took to get the lock, those that did not wait included.
    pub waits: Percentiles,
    /// How long it was held; of holds that nobody waited for, a sample.
    pub holds: Percentiles,
    /// How many writes shared a transaction, of those that were shared.
    pub batches: Sizes,
    /// What happened lately, the latest first; at most 64.
    pub events: Vec<Event>,
}

/// Whether processes queue in a page beside the lock file (its name with a `q`
/// behind).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum PageState {
    /// They do.
    InUse,
    /// There is no page yet, or none can be there.
    None,
    /// What stands there is no page of this version and boot, or may not be
    /// read; the next to acquire the lock mends it if it can.
    Unusable,
}

/// A process in line for the lock.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Waiter {
    /// Process id, in its own pid namespace.
    pub pid: u32,
    /// Since when it waits, by the wall clock.
    pub since: SystemTime,
    /// For how long it has waited.
    pub waited: Duration,
    /// How long until its deadline, if it has one.
    pub left: Option<Duration>,
    /// Its command line, control characters escaped.
    pub cmd: Option<String>,
    /// Its label, control characters escaped.
    pub label: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
}

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "lowercase")
)]
pub enum LockState {
    /// Nobody holds it.
    Free,
    /// Somebody holds it.
    Held,
}

/// Who holds a lock, as far as it can be known.
///
/// Its `Display` is the line of the timeout error:
///
/// ```text
/// pid:4242 since 2026-01-15T10:30:45.000Z (`sync --all`, stopped, held 3.2s, last: UPDATE jobs SET …)
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// Process id. For a holder in another pid namespace this is its pid over
    /// there, unless the kernel's tables told ours.
    pub pid: Option<u32>,
    /// When it took the lock (wall clock, for display), if it left a record.
    pub since: Option<SystemTime>,
    /// For how long it has held the lock, by the wall clock.
    pub held: Option<Duration>,
    /// Its command line, control characters escaped.
    pub cmd: Option<String>,
    /// The label it gave, control characters escaped.
    pub label: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
    /// Whether it left a record; without one it is named from the kernel's
    /// tables, or not at all.
    pub recorded: bool,
    /// What it runs, or ran last, if it said so: the beginning of a statement, on one
    /// line, control characters escaped; or where the program called (`file:line`).
    pub statement: Option<String>,
}

/// A process: who it is and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Command line, control characters escaped, where it may be read.
    pub cmd: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
}

impl Process {
    /// The process with an exclusive POSIX (`fcntl`) lock on a byte of a file,
    /// if the kernel's tables prove one. The file is not opened, so this is
    /// safe for a database that SQLite has open in this process.
    ///
    /// SQLite's write lock in WAL mode is byte 120 of the `-shm` file.
    #[must_use]
    pub fn with_posix_lock(path: &Path, byte: u64) -> Option<Self> {
        locks::posix_owner(path, byte).map(Self::of)
    }

    /// The processes with a shared POSIX lock on one of these bytes of a file, at
    /// this moment. The file is not opened.
    ///
    /// Whoever reads a database in WAL mode has one on the bytes 123 to 127 of its
    /// `-shm` file, for as long as its transaction lasts.
    #[must_use]
    pub fn with_shared_posix_lock(path: &Path, bytes: &RangeInclusive<u64>) -> Vec<Self> {
        let pids = locks::posix_sharers(path, bytes).into_iter();
        pids.map(Self::of).collect()
    }

    /// The files that this process runs code from, as paths that can be opened
    /// while it lives: its program first, then its libraries, each once. Empty
    /// where we may not look.
    #[must_use]
    pub fn code_files(&self) -> Vec<PathBuf> {
        process::code_files(self.pid)
    }

    pub(crate) fn of(pid: u32) -> Self {
        Self {
            pid,
            cmd: process::cmd(pid).map(|cmd| printable(&cmd, COMMAND_MAX)),
            state: process::state(pid, None),
        }
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid:{} (", self.pid)?;
        if let Some(cmd) = &self.cmd {
            write!(f, "`{cmd}`, ")?;
        }
        write!(f, "{})", self.state)
    }
}

impl Holder {
    pub(crate) fn from_record(record: Record, pid: Option<u32>, state: ProcessState) -> Self {
        Self {
            pid,
            since: record.time,
            held: record.time.map(|since| {
                // The wall clock may have been set back meanwhile.
                SystemTime::now().duration_since(since).unwrap_or_default()
            }),
            cmd: record.cmd,
            label: record.label,
            state,
            recorded: true,
            statement: None,
        }
    }

    fn from_kernel(pid: Option<u32>) -> Self {
        let process = pid.map(Process::of);
        Self {
            pid,
            since: None,
            held: None,
            cmd: process.as_ref().and_then(|process| process.cmd.clone()),
            label: None,
            state: process.map_or(ProcessState::Unknown, |process| process.state),
            recorded: false,
            statement: None,
        }
    }

    /// What the page says of it, if it names the same one.
    fn add(&mut self, page: &Snapshot) {
        let own_pidns = process::own_pidns();
        let is_same = |person: &Person| {
            // The pid of one in another namespace may have been translated.
            let is_elsewhere = person.pidns.is_some() && person.pidns != own_pidns;
            self.pid == Some(person.pid) || (is_elsewhere && self.recorded)
        };
        let person = page.holder().filter(is_same);
        self.statement = person.and_then(|person| person.statement);
    }

    /// Whether the holder is this very process (another thread of it).
    #[must_use]
    pub fn is_this_process(&self) -> bool {
        self.pid == Some(std::process::id()) && self.state != ProcessState::OtherNamespace
    }
}

impl fmt::Display for Holder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Some(pid) = self.pid else {
            return f.write_str("a process that left no record");
        };
        write!(f, "pid:{pid}")?;
        if let Some(since) = self.since {
            write!(f, " since {}", time::rfc3339(since))?;
        }
        let mut facts = Vec::new();
        if self.is_this_process() {
            facts.push("another thread of this process".to_owned());
        }
        facts.extend(self.cmd.as_ref().map(|cmd| format!("`{cmd}`")));
        facts.extend(self.label.as_ref().map(|label| format!("label: {label}")));
        facts.push(self.state.to_string());
        facts.extend(self.held.map(|held| format!("held {}", time::human(held))));
        facts.extend(self.statement.as_ref().map(|last| format!("last: {last}")));
        if !self.recorded {
            facts.push("it left no record".to_owned());
        }
        write!(f, " ({})", facts.join(", "))
    }
}

impl Waiter {
    /// `looks`: whether its process is looked at.
    fn of(person: Person, own_pidns: Option<u64>, now: u64, looks: bool) -> Self {
        let state = if looks {
            state_of(&person, own_pidns)
        } else {
            ProcessState::Unknown
        };
        let waited = Duration::from_nanos(now.saturating_sub(person.since));
        let left = Duration::from_nanos(person.until.saturating_sub(now));
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        Self {
            pid: person.pid,
            since: SystemTime::now()
                .checked_sub(waited)
                .unwrap_or(SystemTime::UNIX_EPOCH),
            waited,
            left: (person.until != u64::MAX).then_some(left),
            cmd: text(person.cmd),
            label: text(person.label),
            state,
        }
    }
}

/// What a process that stands in the page is doing.
pub(crate) fn state_of(person: &Person, own_pidns: Option<u64>) -> ProcessState {
    if person.pidns.is_none() || person.pidns == own_pidns {
        process::state(person.pid, person.start)
    } else {
        ProcessState::OtherNamespace
    }
}

impl fmt::Display for Waiter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut facts: Vec<String> = Vec::new();
        facts.extend(self.cmd.as_ref().map(|cmd| format!("`{cmd}`")));
        facts.extend(self.label.as_ref().map(|label| format!("label: {label}")));
        facts.push(self.state.to_string());
        facts.push(format!("waits {}", time::human(self.waited)));
        facts.extend(self.left.map(|left| format!("{} left", time::human(left))));
        write!(f, "pid:{} ({})", self.pid, facts.join(", "))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Waiter {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Waiter", 7)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("since", &time::rfc3339(self.since))?;
        out.serialize_field("waited_s", &self.waited.as_secs_f64())?;
        out.serialize_field("left_s", &self.left.map(|left| left.as_secs_f64()))?;
        out.serialize_field("cmd", &self.cmd)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("state", &self.state)?;
        out.end()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Status", 10)?;
        out.serialize_field("state", &self.state)?;
        out.serialize_field("holder", &self.holder)?;
        out.serialize_field("lock_file", &self.lock_file.to_string_lossy())?;
        out.serialize_field("queue_file", &self.page)?;
        out.serialize_field("queue", &self.queue)?;
        out.serialize_field("counters", &self.counters)?;
        out.serialize_field("wait_us", &self.waits)?;
        out.serialize_field("hold_us", &self.holds)?;
        out.serialize_field("batch_writes", &self.batches)?;
        out.serialize_field("events", &self.events)?;
        out.end()
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Holder {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Holder", 7)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("since", &self.since.map(time::rfc3339))?;
        out.serialize_field("held_s", &self.held.map(|held| held.as_secs_f64()))?;
        out.serialize_field("cmd", &self.cmd)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("state", &self.state)?;
        out.serialize_field("statement", &self.statement)?;
        out.end()
    }
}

/// Looks at a lock file for its holder, and at the page for what it runs; creates, writes, locks and probes nothing.
pub(crate) fn holder(lock_file: &Path) -> io::Result<Option<Holder>> {
    let mut holder = holder_alone(lock_file)?;
    if let Some(holder) = &mut holder
        && let Ok(queue_file::Found::Page(page)) = Snapshot::read(lock_file)
    {
        holder.add(&page);
    }
    Ok(holder)
}

fn holder_alone(lock_file: &Path) -> io::Result<Option<Holder>> {
    match file::open_to_look(lock_file) {
        Ok(file) if file.metadata()?.is_file() => holder_of(&file, lock_file),
        Ok(_) => Err(io::Error::new(
            io::ErrorKind::InvalidInput,
            "not a regular file",
        )),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Looks at a lock file and the page beside it, likewise.
pub(crate) fn look(lock_file: &Path) -> io::Result<Status> {
    let mut status = Status::of(lock_file, holder_alone(lock_file)?);
    status.page = match Snapshot::read(lock_file) {
        Ok(queue_file::Found::Nothing) => PageState::None,
        Ok(queue_file::Found::NoPage) | Err(_) => PageState::Unusable,
        Ok(queue_file::Found::Page(page)) => {
            status.add(&page, usize::MAX);
            PageState::InUse
        }
    };
    Ok(status)
}

impl Status {
    /// A lock of which only the holder is known.
    pub(crate) fn of(lock_file: &Path, holder: Option<Holder>) -> Self {
        Self {
            state: if holder.is_some() {
                LockState::Held
            } else {
                LockState::Free
            },
            holder,
            lock_file: lock_file.to_owned(),
            page: PageState::None,
            queue: Vec::new(),
            counters: Counters::default(),
            waits: Percentiles::default(),
            holds: Percentiles::default(),
            batches: Sizes::default(),
            events: Vec::new(),
        }
    }

    /// What the page says; only the first `looks` processes in line are looked at.
    pub(crate) fn add(&mut self, page: &Snapshot, looks: usize) {
        let (own_pidns, now) = (process::own_pidns(), clock::monotonic());
        if let Some(holder) = &mut self.holder {
            holder.add(page);
        }
        let queue = page.queue().into_iter().enumerate();
        self.queue = queue
            .map(|(place, person)| Waiter::of(person, own_pidns, now, place < looks))
            // The dead are in line until somebody passes them over.
            .filter(|waiter| waiter.state != ProcessState::Gone)
            .collect();
        self.counters = Counters::of(page);
        self.waits = Percentiles::of(page, Histogram::Waits);
        self.holds = Percentiles::of(page, Histogram::Holds);
        self.batches = Sizes::of(page);
        self.events = history::events(page);
    }
}

fn holder_of(file: &File, lock_file: &Path) -> io::Result<Option<Holder>> {
    let own_pidns = process::own_pidns();
    let mut look = 0;
    loop {
        look += 1;
        let record = Record::read(file)?;
        let Some(name) = locks::table_name(lock_file) else {
            return Ok(without_tables(record, own_pidns));
        };
        let taker = match locks::flock_on(&name) {
            Seen::Held { taker } => taker,
            Seen::NotHeld => return Ok(unseen(record, own_pidns, lock_file, &name)),
            Seen::Unknown => return Ok(without_tables(record, own_pidns)),
        };
        if let Some(holder) =
            record.and_then(|record| recorded(record, taker, own_pidns, lock_file, &name))
        {
            return Ok(Some(holder));
        }
        // The lock may just have changed hands: look again before saying that
        // its holder left no record, or that the record is somebody else's.
        if look < LOOKS {
            continue;
        }
        let holders = locks::flock_holders(lock_file, &name);
        let taker = taker.filter(|&pid| process::is_visible(pid));
        return Ok(Some(Holder::from_kernel(
            holders.first().copied().or(taker),
        )));
    }
}

/// The holder that the record names, if the kernel agrees that it holds.
fn recorded(
    record: Record,
    taker: Option<u32>,
    own_pidns: Option<u64>,
    lock_file: &Path,
    name: &locks::TableName,
) -> Option<Holder> {
    let pid = record.pid?;
    if record.pidns.is_none() || record.pidns == own_pidns {
        let state = process::state(pid, record.start);
        let holds = state != ProcessState::Gone
            && (taker == Some(pid) || locks::holds_flock(pid, lock_file, name) == Some(true));
        return holds.then(|| Holder::from_record(record, Some(pid), state));
    }
    // From outside a container: the kernel translates its pid for us.
    match taker {
        Some(taker) if process::pidns(taker).is_none_or(|ns| Some(ns) == record.pidns) => {
            let state = process::state(taker, record.start);
            (state != ProcessState::Gone).then(|| Holder::from_record(record, Some(taker), state))
        }
        Some(_) => None,
        None => Some(elsewhere(record)),
    }
}

/// The table shows no lock. In the machine's own pid namespace that is so. In
/// another one the kernel hides the locks whose taker it cannot name there: one
/// who has ended, or who lives outside, where we cannot look and a record that
/// stands is all there is.
fn unseen(
    record: Option<Record>,
    own_pidns: Option<u64>,
    lock_file: &Path,
    name: &locks::TableName,
) -> Option<Holder> {
    if process::is_in_first_pidns() {
        // A very long table can pass a lock over: ask about the one on record.
        let record = record?;
        let pid = record.pid.filter(|_| record.pidns == own_pidns)?;
        let holds = locks::holds_flock(pid, lock_file, name) == Some(true);
        let state = process::state(pid, record.start);
        return (holds && state != ProcessState::Gone)
            .then(|| Holder::from_record(record, Some(pid), state));
    }
    if let Some(&pid) = locks::flock_holders(lock_file, name).first() {
        return Some(Holder::from_kernel(Some(pid)));
    }
    record
        .filter(|record| record.pidns.is_some() && record.pidns != own_pidns)
        .map(elsewhere)
}

/// Without the kernel's tables the record is all there is: believed as long as
/// its process lives.
pub(crate) fn without_tables(record: Option<Record>, own_pidns: Option<u64>) -> Option<Holder> {
    let record = record?;
    if record.pidns.is_some() && record.pidns != own_pidns {
        return Some(elsewhere(record));
    }
    let state = record.pid.map_or(ProcessState::Unknown, |pid| {
        process::state(pid, record.start)
    });
    let pid = record.pid;
    (state != ProcessState::Gone).then(|| Holder::from_record(record, pid, state))
}

fn elsewhere(record: Record) -> Holder {
    let pid = record.pid;
    Holder::from_record(record, pid, ProcessState::OtherNamespace)
}

/// The process that holds a byte of the lock file, under an ancestor's hold.
pub(crate) fn byte_holder(lock_file: &Path, byte: i64) -> Option<Holder> {
    let name = locks::table_name(lock_file)?;
    let byte = u64::try_from(byte).ok()?;
    let pids = locks::byte_holders(lock_file, &name, byte);
    pids.first().map(|&pid| Holder::from_kernel(Some(pid)))
}
