//! The process that holds a lock, and how it is found: from the record in the lock
//! file, the kernel's tables and the queue file.

use std::fmt;
use std::fs::File;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use super::process::{Process, ProcessIdentity, state_of};
use crate::hold_file;
use crate::holder_record::{self, Record};
use crate::queue_file::{self, Occupant, QueueFileReading, QueueFileSnapshot};
use crate::sys::locks::{self, Seen, TableName};
use crate::sys::process;
use crate::sys::process_state::ProcessState;
use crate::time;

/// How often the record and the kernel's table are read until they agree.
const READINGS_MAX: u32 = 3;

/// The process that holds a lock, as far as it is known.
///
/// Its `Display` is the line of the timeout error:
///
/// ```text
/// pid:4242 since 2026-01-15T10:30:45.000Z (`sync --all`, stopped, held 3.2s, last: UPDATE jobs SET …)
/// ```
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Holder {
    /// Process id. For a holder in another pid namespace it is the pid in that
    /// namespace, unless the kernel's tables have the one in ours.
    pub pid: Option<u32>,
    /// When it took the lock (wall clock, for display), if it left a record.
    pub since: Option<SystemTime>,
    /// For how long it has held the lock, by the wall clock.
    pub held: Option<Duration>,
    /// Its command line, control characters escaped.
    pub cmd: Option<String>,
    /// The label it gave, control characters escaped.
    pub label: Option<String>,
    /// The database that it works on: its name if it is in the directory of the lock file,
    /// otherwise its path, control characters escaped.
    pub database: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
    /// Whether it left a record. Without one only the kernel's tables can name it.
    pub recorded: bool,
    /// Whether it takes the lock as this crate does: it left a record, or has a slot in the queue
    /// file. `false` for a plain `flock`, for example of `flock(1)`.
    pub queues: bool,
    /// What it runs, or ran last, if it noted that: the beginning of a statement, on
    /// one line, control characters escaped; or where the program called
    /// (`file:line`).
    pub statement: Option<String>,
    identity: Option<ProcessIdentity>,
}

impl Holder {
    /// Returns what tells it from other processes with its pid, if its pid is known.
    #[must_use]
    pub fn identity(&self) -> Option<ProcessIdentity> {
        self.identity
    }

    /// Finds the holder of a lock, and in the queue file what it runs. Nothing is
    /// created, written or locked.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read, or is not a regular file.
    pub(crate) fn of_lock(lock_file: &Path, model: Option<&Path>) -> io::Result<Option<Self>> {
        let mut holder = Self::from_tables(lock_file)?;
        if let Some(holder) = &mut holder
            && let Ok(queue_file::QueueFileReading::Valid(snapshot)) =
                QueueFileSnapshot::read(lock_file, model)
        {
            holder.add_statement(&snapshot);
        }
        Ok(holder)
    }

    /// Finds the holder by the record and the kernel's tables.
    ///
    /// # Errors
    ///
    /// As [`of_lock`](Self::of_lock).
    pub(super) fn from_tables(lock_file: &Path) -> io::Result<Option<Self>> {
        match holder_record::open(lock_file)? {
            Some(file) => search_tables(&file, lock_file),
            None => Ok(None),
        }
    }

    /// Finds the holder by the queue file and the record. If no process has passed the
    /// turnstile, a record is of a process that polls.
    ///
    /// # Errors
    ///
    /// As [`of_lock`](Self::of_lock).
    pub(super) fn from_queue_file(
        snapshot: Option<&QueueFileSnapshot>,
        lock_file: &Path,
    ) -> io::Result<Option<Self>> {
        let record = match holder_record::open(lock_file)? {
            Some(file) => Record::read(&file)?,
            None => None,
        };
        let own_pidns = process::own_pidns();
        Ok(match snapshot.and_then(QueueFileSnapshot::holder) {
            Some(occupant) => Self::from_occupant(occupant, record, own_pidns),
            None if snapshot.is_none_or(QueueFileSnapshot::is_at_rest) => {
                Self::without_tables(record, own_pidns)
            }
            None => None,
        })
    }

    /// Finds the process that has locked a byte of the hold file: it works under the
    /// hold of an ancestor.
    pub(crate) fn of_byte(lock_file: &Path, byte: i64) -> Option<Self> {
        let path = hold_file::path_of(lock_file);
        let name = locks::table_name(&path)?;
        let byte = u64::try_from(byte).ok()?;
        let pids = locks::byte_holders(&path, &name, byte);
        pids.first().map(|&pid| Self::from_kernel(Some(pid)))
    }

    /// Adds what the process runs, if the queue file names the same process as holder.
    pub(super) fn add_statement(&mut self, snapshot: &QueueFileSnapshot) {
        let own_pidns = process::own_pidns();
        let is_same = |occupant: &Occupant| {
            // The pid of a process in another namespace may have been translated.
            let is_elsewhere = occupant.pidns.is_some() && occupant.pidns != own_pidns;
            self.pid == Some(occupant.pid) || (is_elsewhere && self.recorded)
        };
        let occupant = snapshot.holder().filter(is_same);
        self.queues |= occupant.is_some();
        self.statement = occupant.and_then(|occupant| occupant.statement);
    }

    /// Returns whether the holder is this process (another thread of it).
    #[must_use]
    pub fn is_this_process(&self) -> bool {
        self.pid == Some(std::process::id()) && self.state != ProcessState::OtherNamespace
    }

    /// Whether it works on another database than this one, which has the same lock file.
    pub(crate) fn has_other_database(&self, database: &Path, lock_file: &Path) -> bool {
        let own = || holder_record::database_text(database, lock_file);
        self.database.as_ref().is_some_and(|other| *other != own())
    }

    fn from_record(record: Record, pid: Option<u32>, state: ProcessState) -> Self {
        // The kernel has translated the pid of a process that is visible from here.
        let pidns = if pid == record.pid {
            record.pidns
        } else {
            process::own_pidns()
        };
        Self {
            identity: pid.map(|pid| ProcessIdentity::new(pid, record.start, pidns)),
            pid,
            since: record.time,
            held: record.time.map(|since| {
                // The wall clock may have been set back meanwhile.
                SystemTime::now().duration_since(since).unwrap_or_default()
            }),
            cmd: record.cmd,
            label: record.label,
            database: record.database,
            state,
            recorded: true,
            queues: true,
            statement: None,
        }
    }

    /// Makes the holder of a lock that a waiter found to be held by a process which does not
    /// queue.
    pub(super) fn without_record(process: &Process) -> Self {
        Self {
            pid: Some(process.pid),
            since: None,
            held: None,
            cmd: process.cmd.clone(),
            label: None,
            database: None,
            state: process.state,
            recorded: false,
            queues: false,
            statement: None,
            identity: Some(process.identity()),
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
            database: None,
            identity: process.as_ref().map(Process::identity),
            state: process.map_or(ProcessState::Unknown, |process| process.state),
            recorded: false,
            queues: false,
            statement: None,
        }
    }

    /// Makes the holder that the queue file names; `None` if it has died, because the
    /// kernel has released its lock then.
    fn from_occupant(
        occupant: Occupant,
        record: Option<Record>,
        own_pidns: Option<u64>,
    ) -> Option<Self> {
        let state = state_of(&occupant, own_pidns);
        if state == ProcessState::Gone {
            return None;
        }
        // A record of the same process; only the record tells since when.
        let record = record.filter(|record| {
            record.pid == Some(occupant.pid)
                && record.start == occupant.start
                && record.pidns == occupant.pidns
        });
        let text = |text: String| Some(text).filter(|text| !text.is_empty());
        let (recorded, pid) = (record.is_some(), Some(occupant.pid));
        let record = record.unwrap_or_default();
        let record = Record {
            pid,
            start: occupant.start,
            pidns: occupant.pidns,
            cmd: record.cmd.or(text(occupant.cmd)),
            label: text(occupant.label),
            ..record
        };
        Some(Self {
            recorded,
            ..Self::from_record(record, pid, state)
        })
    }

    /// Without the kernel's tables only the record is known: it is believed while its
    /// process is alive.
    fn without_tables(record: Option<Record>, own_pidns: Option<u64>) -> Option<Self> {
        let record = record?;
        if record.pidns.is_some() && record.pidns != own_pidns {
            return Some(Self::elsewhere(record));
        }
        let pid = record.pid?;
        let (state, pid) = (process::state(pid, record.start), Some(pid));
        (state != ProcessState::Gone).then(|| Self::from_record(record, pid, state))
    }

    fn elsewhere(record: Record) -> Self {
        let pid = record.pid;
        Self::from_record(record, pid, ProcessState::OtherNamespace)
    }
}

fn search_tables(file: &File, lock_file: &Path) -> io::Result<Option<Holder>> {
    let own_pidns = process::own_pidns();
    let mut readings = 0;
    loop {
        readings += 1;
        let record = Record::read(file)?;
        let Some(name) = locks::table_name(lock_file) else {
            return without_kernel(record, own_pidns, lock_file);
        };
        let taker = match locks::flock_on(&name) {
            Seen::Held { taker } => taker,
            Seen::NotHeld => return Ok(not_in_tables(record, own_pidns, lock_file, &name)),
            Seen::Unknown => return without_kernel(record, own_pidns, lock_file),
            Seen::HeldBySomebody => {
                let named = without_kernel(record, own_pidns, lock_file)?;
                // The record of the next holder may come a moment after the lock.
                if named.is_none() && readings < READINGS_MAX {
                    continue;
                }
                return Ok(Some(named.unwrap_or_else(|| Holder::from_kernel(None))));
            }
        };
        if let Some(holder) =
            record.and_then(|record| recorded(record, taker, own_pidns, lock_file, &name))
        {
            return Ok(Some(holder));
        }
        // The lock may just have changed hands: read again before saying that its
        // holder left no record, or that the record is of another process.
        if readings < READINGS_MAX {
            continue;
        }
        let holders = locks::flock_holders(lock_file, &name);
        let taker = taker.filter(|&pid| process::is_visible(pid));
        return Ok(Some(Holder::from_kernel(
            holders.first().copied().or(taker),
        )));
    }
}

/// Finds the holder where the kernel does not tell who it is: the queue file names it, or one that has
/// died if a process took the lock since that does not queue, whose record stands then.
fn without_kernel(
    record: Option<Record>,
    own_pidns: Option<u64>,
    lock_file: &Path,
) -> io::Result<Option<Holder>> {
    let snapshot = match QueueFileSnapshot::read(lock_file, None) {
        Ok(QueueFileReading::Valid(snapshot)) => Some(snapshot),
        _ => None,
    };
    let named = Holder::from_queue_file(snapshot.as_ref(), lock_file)?;
    Ok(named.or_else(|| Holder::without_tables(record, own_pidns)))
}

/// Returns the holder that the record names, if the kernel agrees that it holds.
fn recorded(
    record: Record,
    taker: Option<u32>,
    own_pidns: Option<u64>,
    lock_file: &Path,
    name: &TableName,
) -> Option<Holder> {
    let pid = record.pid?;
    if record.pidns.is_none() || record.pidns == own_pidns {
        let state = process::state(pid, record.start);
        let holds = state != ProcessState::Gone
            && (taker == Some(pid) || locks::holds_flock(pid, lock_file, name) == Some(true));
        return holds.then(|| Holder::from_record(record, Some(pid), state));
    }
    // Seen from outside a container: the kernel translates the pid in its table.
    match taker {
        Some(taker) if process::pidns(taker).is_none_or(|ns| Some(ns) == record.pidns) => {
            let state = process::state(taker, record.start);
            (state != ProcessState::Gone).then(|| Holder::from_record(record, Some(taker), state))
        }
        Some(_) => None,
        None => Some(Holder::elsewhere(record)),
    }
}

/// Returns the holder of a lock that the kernel's table does not show. In the
/// machine's own pid namespace the lock is not held then. In another namespace the
/// kernel hides a lock if it cannot name the taker there: the taker has ended, or it is
/// outside the namespace, where only a record can name it.
fn not_in_tables(
    record: Option<Record>,
    own_pidns: Option<u64>,
    lock_file: &Path,
    name: &TableName,
) -> Option<Holder> {
    if process::is_in_first_pidns() {
        // A lock can be missing in a very long table: ask about the recorded process.
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
        .map(Holder::elsewhere)
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
        facts.extend(
            self.database
                .as_ref()
                .map(|database| format!("on {database}")),
        );
        facts.push(self.state.to_string());
        facts.extend(self.held.map(|held| format!("held {}", time::human(held))));
        facts.extend(self.statement.as_ref().map(|last| format!("last: {last}")));
        if !self.recorded {
            facts.push("it left no record".to_owned());
        }
        write!(f, " ({})", facts.join(", "))
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Holder {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Holder", 9)?;
        out.serialize_field("pid", &self.pid)?;
        out.serialize_field("since", &self.since.map(time::rfc3339))?;
        out.serialize_field("held_s", &self.held.map(|held| held.as_secs_f64()))?;
        out.serialize_field("cmd", &self.cmd)?;
        out.serialize_field("label", &self.label)?;
        out.serialize_field("database", &self.database)?;
        out.serialize_field("state", &self.state)?;
        out.serialize_field("queues", &self.queues)?;
        out.serialize_field("statement", &self.statement)?;
        out.end()
    }
}
