//! What a process keeps for executing requests of others, and for having its own executed.

use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use penholder_core::Deadline;

use super::batch_table::TableError;
use super::connection::DelegateConnection;
use super::policy::is_across_processes;
use super::wire::LAYOUT;
use crate::error::Result;
use crate::group::{Caution, Group, GroupContext};
use crate::mutex::lock;
use crate::sqlite::fingerprint::Fingerprint;
use crate::write::{Session, WriteContext};

/// At most one event in this time says that writes of others were executed.
const EVENT_INTERVAL: Duration = Duration::from_secs(1);
/// How long the newest batch that this process knows of is believed to be one of the newest.
const NEWEST_RECHECK: Duration = Duration::from_millis(100);
/// How long a write that is done waits for the connection to be opened.
const OPENING_MAX: Duration = Duration::from_millis(50);
/// How long nothing is combined after the table of batches could not be used, or the connection could
/// not be opened.
const PAUSE: Duration = Duration::from_secs(10);
/// The shortest and the longest time between two inspections of a customized connection, each
/// of which takes up to a millisecond.
const INSPECTION_INTERVAL: (Duration, Duration) =
    (Duration::from_millis(5), Duration::from_millis(100));
/// At most one part in this many of the time is spent on inspections.
const INSPECTION_SHARE: u32 = 50;

/// What a process keeps for both sides.
#[derive(Debug, Default)]
pub(crate) struct Delegate {
    connection: Mutex<KeptConnection>,
    /// The fingerprint of that connection; zero before there is one.
    fingerprint: AtomicU64,
    newest: Mutex<NewestBatch>,
    /// Which batches have savepoints.
    pub(super) caution: Caution,
    /// What the last request was encoded in.
    pub(super) buffer: Mutex<Vec<u8>>,
    /// Until when nothing is combined.
    paused: Mutex<Option<Instant>>,
    /// When an event last said that writes of others were executed.
    last_event: Mutex<Option<Instant>>,
    inspections: Mutex<Inspections>,
}

/// The connection while it is not in use.
#[derive(Debug, Default)]
struct KeptConnection {
    connection: Option<Box<DelegateConnection>>,
    /// Its files were replaced or deleted: one that is still in use is not kept either.
    is_closed: bool,
}

/// The newest batch that this process knows of.
#[derive(Debug, Default)]
struct NewestBatch {
    sequence: u64,
    /// When it was the newest of all.
    at: Option<Instant>,
}

/// What a write needs to know that may be combined with writes of other processes.
#[derive(Debug, Clone, Copy)]
pub(crate) struct DelegateContext<'a> {
    pub(crate) group: GroupContext<'a>,
    pub(crate) delegate: &'a Delegate,
}

impl<'a> DelegateContext<'a> {
    pub(super) fn write(&self) -> &WriteContext<'a> {
        &self.group.write
    }

    pub(super) fn group(&self) -> &'a Arc<Group> {
        self.group.group
    }
}

/// When the writing connection may next be inspected, and how often it was.
#[derive(Debug, Default)]
struct Inspections {
    not_before: Option<Instant>,
    count: u32,
}

impl Delegate {
    /// Takes the connection out; opens one if there is none.
    pub(super) fn take_connection(
        &self,
        context: &WriteContext<'_>,
        deadline: &Deadline,
    ) -> Result<Box<DelegateConnection>> {
        if let Some(connection) = lock(&self.connection).connection.take() {
            return Ok(connection);
        }
        let connection = DelegateConnection::open(context.location, context.options, deadline)?;
        context
            .resources
            .files
            .check_opened(connection.connection(), deadline)?;
        self.fingerprint.store(connection.fingerprint().0, Relaxed);
        Ok(Box::new(connection))
    }

    /// Opens the connection, so that it is there the next time; an error is that of no write. It
    /// takes a millisecond as a rule, and a write that is done waits for it: if it does not succeed
    /// soon, nothing is combined for a while.
    pub(super) fn open_in_time(&self, context: &WriteContext<'_>, deadline: &Deadline) {
        let soon = Deadline::after(OPENING_MAX.min(deadline.remaining()));
        match self.take_connection(context, &soon) {
            Ok(connection) => self.keep_connection(connection),
            Err(_) => self.pause(),
        }
    }

    /// Keeps the connection for the next time. One that cannot roll back is closed, which does
    /// that too.
    pub(super) fn keep_connection(&self, connection: Box<DelegateConnection>) {
        let is_usable = connection.roll_back().is_ok();
        let mut kept = lock(&self.connection);
        if is_usable && !kept.is_closed {
            kept.connection = Some(connection);
        }
    }

    /// Whether the connection was ever opened.
    pub(super) fn has_opened(&self) -> bool {
        self.fingerprint.load(Relaxed) != 0
    }

    /// Returns the fingerprint of the requests that this process makes and takes.
    pub(super) fn fingerprint(
        &self,
        context: &WriteContext<'_>,
        deadline: &Deadline,
    ) -> Option<Fingerprint> {
        if self.fingerprint.load(Relaxed) == 0 {
            let connection = self.take_connection(context, deadline).ok()?;
            self.keep_connection(connection);
        }
        let fingerprint = self.fingerprint.load(Relaxed);
        (fingerprint != 0).then_some(Fingerprint(fingerprint))
    }

    /// Closes the connection, now or when it is given back.
    pub(crate) fn close_connection(&self) {
        *lock(&self.connection) = KeptConnection {
            connection: None,
            is_closed: true,
        };
    }

    /// Takes the connection out, to be closed.
    pub(crate) fn drain(&mut self) -> Option<Box<DelegateConnection>> {
        let kept = self.connection.get_mut();
        let kept = kept.unwrap_or_else(PoisonError::into_inner);
        kept.connection.take()
    }

    /// Returns the number of a batch that was the newest a short time ago; it is read from the
    /// table, because what stands in the queue file may be older or garbage. `None` if the table
    /// cannot be used: what became of a request could not be told.
    pub(super) fn newest_batch(
        &self,
        context: &WriteContext<'_>,
        deadline: &Deadline,
    ) -> Option<u64> {
        // A table that could not be used is not asked at each write.
        if !self.may_combine() {
            return None;
        }
        let mut newest = lock(&self.newest);
        let is_recent = newest.at.is_some_and(|at| at.elapsed() < NEWEST_RECHECK);
        if is_recent {
            return Some(newest.sequence);
        }
        let connection = self.take_connection(context, deadline).ok()?;
        // One snapshot for the schema and the row; keeping the connection ends it.
        let begun = connection.step("BEGIN").map_err(TableError::from);
        let found = begun.and_then(|()| connection.batch_table().newest(connection.connection()));
        self.keep_connection(connection);
        newest.sequence = match found {
            Ok(found) => found.unsigned_abs(),
            Err(TableError::Empty) => 0,
            Err(error) => {
                if error.into_foreign().is_some() {
                    self.pause();
                }
                return None;
            }
        };
        newest.at = Some(Instant::now());
        Some(newest.sequence)
    }

    /// Notes the number of a batch of this process.
    pub(super) fn note_batch(&self, sequence: u64) {
        let mut newest = lock(&self.newest);
        if sequence > newest.sequence {
            newest.sequence = sequence;
            newest.at = Some(Instant::now());
        }
    }

    /// Notes the number of a batch that executed a request of this process. It comes from the queue
    /// file, where an older one may stand, so the table is asked as soon as without it.
    pub(super) fn note_sequence(&self, sequence: u64) {
        let mut newest = lock(&self.newest);
        newest.sequence = newest.sequence.max(sequence);
    }

    /// Combines nothing for a while.
    pub(super) fn pause(&self) {
        *lock(&self.paused) = Some(Instant::now() + PAUSE);
    }

    /// Whether this process may combine.
    pub(super) fn may_combine(&self) -> bool {
        let mut paused = lock(&self.paused);
        if paused.is_some_and(|until| Instant::now() < until) {
            return false;
        }
        *paused = None;
        true
    }

    /// Returns whether an event that says that writes of others were executed is due.
    pub(super) fn is_event_due(&self) -> bool {
        let mut last = lock(&self.last_event);
        let is_due = last.is_none_or(|last| last.elapsed() >= EVENT_INTERVAL);
        if is_due {
            *last = Some(Instant::now());
        }
        is_due
    }

    /// Inspects a connection that a closure has had, after a write of plain data on it: if
    /// statements mean the same on it as on any other, writes of this process may be delegated
    /// again. Does nothing if there is nothing to inspect.
    pub(super) fn inspect(&self, session: &Session<'_>) {
        let context = session.context();
        if !context.resources.is_customized() || !session.is_plain() {
            return;
        }
        // Others would wait for the connection that this opens.
        if session.turn().is_awaited && !self.has_opened() {
            return;
        }
        let mut inspections = lock(&self.inspections);
        let begun = Instant::now();
        let is_early = inspections.not_before.is_some_and(|due| begun < due);
        if !is_across_processes(context) || is_early {
            return;
        }
        let is_like_others =
            self.fingerprint(context, session.deadline())
                .is_some_and(|fingerprint| {
                    let connection = session.write_connection();
                    connection.has_fingerprint(fingerprint, context.location, LAYOUT)
                });
        if is_like_others {
            context.resources.set_customized(false);
        }
        let (shortest, longest) = INSPECTION_INTERVAL;
        // A connection that is customized again and again is inspected less and less often.
        let pause = shortest * (1 << inspections.count.min(5));
        let share = begun.elapsed() * INSPECTION_SHARE;
        inspections.count += 1;
        inspections.not_before = Some(begun + pause.min(longest).max(share));
    }
}
