//! Everything that can be seen of a lock.

use std::io;
use std::path::{Path, PathBuf};

use super::counters::Counters;
use super::event::Event;
use super::holder::Holder;
use super::leases::Leases;
use super::percentiles::Percentiles;
use super::sizes::Sizes;
use super::sqlite_holder::{SqliteAccess, SqliteHolder};
use super::waiter::Waiter;
use crate::queue_file::{self, Histogram, QueueFileFault, QueueFileReading, QueueFileSnapshot};
use crate::sys::process_state::ProcessState;
use crate::sys::{clock, process};

/// Everything that can be seen of a lock without taking it.
///
/// With the feature `serde` it serialises to an object with these fields, which do not
/// change within a major version. Times are RFC 3339 in UTC, fields named `…_s` are
/// seconds, percentiles are microseconds:
///
/// | field | value |
/// | --- | --- |
/// | `state` | `"free"` or `"held"` |
/// | `holder` | `null`, or `pid, since, held_s, cmd, label, database, state, queues, statement` |
/// | `sqlite_lock` | `null`, or which process has SQLite's own lock: `pid, cmd, state, lock, outsider` |
/// | `lock_file` | path |
/// | `queue_file` | `"in-use"`, `"none"` or `"unusable"` |
/// | `queue_file_fault` | `null`, or why the queue file is not used |
/// | `queue` | first come first: `pid, since, waited_s, left_s, cmd, label, state`; `left_s` is `null` without a deadline |
/// | `counters` | `acquisitions, contended, timeouts, recoveries, unqueued_holders, passed_over, batches, batched_writes, combined_requests, combined_writes` |
/// | `leases` | `count, writes, held_s, ended_slice, ended_waiter, ended_idle, ended_outsider, ended_checkpoint, ended_close, ended_other, gaps, gaps_used, outsider_writes` |
/// | `wait_us`, `hold_us` | `count, p50, p90, p99, max` |
/// | `batch_writes` | the same fields, of the numbers of writes that shared a transaction |
/// | `events` | the latest first: `at, kind, pid, other_pid, duration_s, writes, count, first, label, statement, call_site` |
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub struct Status {
    /// Free or held.
    pub state: LockState,
    /// The process that holds it, as far as it is known; `None` if the lock is free.
    pub holder: Option<Holder>,
    /// Whether the holder works on another database than the one that was asked about, which
    /// shares the lock file.
    pub has_other_database: bool,
    /// The process that has SQLite's own lock and keeps writers out with it. In a [`Status`] it is
    /// the one that has it now, of the holder too, if the kernel's tables show it and the locker
    /// knows of a database; in a [`Snapshot`](crate::Snapshot) an outsider for which a process that
    /// writes was found waiting less than three seconds ago.
    pub sqlite_holder: Option<SqliteHolder>,
    /// The lock file.
    pub lock_file: PathBuf,
    /// The state of the queue file. If it is not in use, processes poll, and the
    /// fields below are empty.
    pub queue_file: QueueFileState,
    /// Why this process would not use the queue file, or could not build it, as far as that
    /// is known.
    pub queue_file_fault: Option<QueueFileFault>,
    /// The waiting processes, first come first. A thread that waits for another thread
    /// of its own process is not listed.
    pub queue: Vec<Waiter>,
    /// How often things happened since the queue file was built.
    pub counters: Counters,
    /// What leases did since then.
    pub leases: Leases,
    /// How long it took to get the lock, including acquisitions without a wait.
    pub waits: Percentiles,
    /// How long it was held; of holds that no process waited for, a sample.
    pub holds: Percentiles,
    /// How many writes shared a transaction, of the transactions that served several.
    pub batches: Sizes,
    /// What happened recently, the latest first; at most 64 events.
    pub events: Vec<Event>,
}

/// The state of the queue file, which has the lock file's name with a `q` appended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum QueueFileState {
    /// Processes queue in it.
    InUse,
    /// It does not exist yet, or cannot be created.
    None,
    /// It is not a queue file of this version and boot, and the next process that acquires
    /// the lock rebuilds it; or it may not be read; or it belongs to a user who may not write
    /// the database, and stays as it is. See [`Status::queue_file_fault`].
    Unusable,
}

/// Whether a lock is held.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "lowercase")
)]
pub enum LockState {
    /// No process holds it.
    Free,
    /// A process holds it.
    Held,
}

impl Status {
    /// Returns the path of the queue file, whether there is one or not.
    #[must_use]
    pub fn queue_file_path(&self) -> PathBuf {
        queue_file::path_of(&self.lock_file)
    }

    /// Reads the lock file, the queue file and the kernel's tables. Nothing is created,
    /// written or locked.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read, or is not a regular file.
    pub(crate) fn of_lock(lock_file: &Path, model: Option<&Path>) -> io::Result<Self> {
        let mut status = Self::new(lock_file, Holder::from_tables(lock_file)?);
        let access = SqliteAccess::Write;
        let find = |database| SqliteHolder::find(database, Some(lock_file), access);
        status.sqlite_holder = model.and_then(find);
        status.compare_database(model);
        if let Some(snapshot) = status.read_queue_file(model) {
            status.add_queue_file(&snapshot, usize::MAX);
        }
        Ok(status)
    }

    /// Reads the queue file, and says in the status why there is none to use.
    pub(super) fn read_queue_file(&mut self, model: Option<&Path>) -> Option<QueueFileSnapshot> {
        let (state, fault, snapshot) = match QueueFileSnapshot::read(&self.lock_file, model) {
            Ok(QueueFileReading::Valid(snapshot)) => (QueueFileState::InUse, None, Some(snapshot)),
            Ok(QueueFileReading::Nothing) => {
                let fault = QueueFileFault::of_building();
                (QueueFileState::None, fault, None)
            }
            Ok(QueueFileReading::Unusable(fault)) => (QueueFileState::Unusable, Some(fault), None),
            Err(_) => (QueueFileState::Unusable, None, None),
        };
        self.queue_file = state;
        self.queue_file_fault = fault;
        snapshot
    }

    /// Makes the status of a lock of which only the holder is known.
    pub(super) fn new(lock_file: &Path, holder: Option<Holder>) -> Self {
        let mut status = Self {
            state: LockState::Free,
            holder: None,
            has_other_database: false,
            sqlite_holder: None,
            lock_file: lock_file.to_owned(),
            queue_file: QueueFileState::None,
            queue_file_fault: None,
            queue: Vec::new(),
            counters: Counters::default(),
            leases: Leases::default(),
            waits: Percentiles::default(),
            holds: Percentiles::default(),
            batches: Sizes::default(),
            events: Vec::new(),
        };
        status.set_holder(holder);
        status
    }

    /// Returns the process that has SQLite's own lock, if it neither has the write lock nor works
    /// under it.
    #[must_use]
    pub fn outsider(&self) -> Option<&SqliteHolder> {
        self.sqlite_holder.as_ref().filter(|one| one.is_outsider)
    }

    pub(super) fn compare_database(&mut self, model: Option<&Path>) {
        let (holder, lock_file) = (&self.holder, &self.lock_file);
        let is_other =
            |(holder, database): (&Holder, &Path)| holder.has_other_database(database, lock_file);
        self.has_other_database = holder.as_ref().zip(model).is_some_and(is_other);
    }

    pub(super) fn set_holder(&mut self, holder: Option<Holder>) {
        self.state = match holder {
            Some(_) => LockState::Held,
            None => LockState::Free,
        };
        self.holder = holder;
    }

    /// Adds what the queue file says; only of the first `examined_max` waiters the
    /// state is asked for.
    pub(super) fn add_queue_file(&mut self, snapshot: &QueueFileSnapshot, examined_max: usize) {
        let (own_pidns, now) = (process::own_pidns(), clock::monotonic());
        if let Some(holder) = &mut self.holder {
            holder.add_statement(snapshot);
        }
        let queue = snapshot.queue().into_iter().enumerate();
        self.queue = queue
            .map(|(place, occupant)| Waiter::of(occupant, own_pidns, now, place < examined_max))
            // Dead processes stay in the queue until they are passed over.
            .filter(|waiter| waiter.state != ProcessState::Gone)
            .collect();
        self.counters = Counters::of(snapshot);
        self.leases = Leases::of(snapshot);
        self.waits = Percentiles::of(snapshot, Histogram::Waits);
        self.holds = Percentiles::of(snapshot, Histogram::Holds);
        self.batches = Sizes::of(snapshot);
        self.events = Event::all_of(snapshot);
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Status {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Status", 13)?;
        out.serialize_field("state", &self.state)?;
        out.serialize_field("holder", &self.holder)?;
        out.serialize_field("sqlite_lock", &self.sqlite_holder)?;
        out.serialize_field("lock_file", &self.lock_file.to_string_lossy())?;
        out.serialize_field("queue_file", &self.queue_file)?;
        let fault = self.queue_file_fault.map(|fault| fault.to_string());
        out.serialize_field("queue_file_fault", &fault)?;
        out.serialize_field("queue", &self.queue)?;
        out.serialize_field("counters", &self.counters)?;
        out.serialize_field("leases", &self.leases)?;
        out.serialize_field("wait_us", &self.waits)?;
        out.serialize_field("hold_us", &self.holds)?;
        out.serialize_field("batch_writes", &self.batches)?;
        out.serialize_field("events", &self.events)?;
        out.end()
    }
}
