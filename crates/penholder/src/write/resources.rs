//! What a process keeps for its writes to one database, and what one write needs to know.

use std::panic::Location as SourceLocation;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use penholder_core::{LeaseParty, Locker, fork_generation};
use penholder_vfs::ConnectionLease;

use crate::error::Error;
use crate::location::Location;
use crate::mutex::lock;
use crate::options::{GroupCommit, GroupLimits, OpenOptions};
use crate::sqlite::checkpointer::Checkpointer;
use crate::sqlite::connection;
use crate::sqlite::open_files::OpenFiles;
use crate::sqlite::write_connection::WriteConnection;
use crate::telemetry::Labels;

/// Where a program asked for something.
pub(crate) type CallSite = &'static SourceLocation<'static>;

/// What a process keeps for its writes to one database.
#[derive(Debug)]
pub(crate) struct WriteResources {
    generation: u64,
    pub(crate) locker: Locker,
    pub(crate) files: Arc<OpenFiles>,
    /// The writing connection; `None` while a write uses it. Boxed, because each write takes
    /// it out and puts it back.
    connection: Mutex<Option<Box<WriteConnection>>>,
    /// What the locker keeps along with the lock.
    pub(crate) lease: Arc<ConnectionLease>,
    pub(crate) checkpointer: Checkpointer,
    /// Whether this process has written. Before that a second connection is not worth its
    /// cost.
    has_written: AtomicBool,
    /// Whether locks may be kept on the writing connection.
    may_lease: AtomicBool,
    /// Whether the application may have changed what statements mean on the writing
    /// connection: a closure or a pragma has had it.
    is_customized: AtomicBool,
}

impl WriteResources {
    pub(crate) fn new(locker: Locker, files: Arc<OpenFiles>, may_lease: bool) -> Self {
        let lease = Arc::<ConnectionLease>::default();
        let party = may_lease.then(|| Arc::clone(&lease) as Arc<dyn LeaseParty>);
        Self {
            generation: fork_generation(),
            locker: locker.with(|options| options.lease = party),
            files,
            connection: Mutex::new(None),
            lease,
            checkpointer: Checkpointer::default(),
            has_written: AtomicBool::new(false),
            may_lease: AtomicBool::new(may_lease),
            is_customized: AtomicBool::new(false),
        }
    }

    /// Returns whether this process made them, not its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    pub(crate) fn take_connection(&self) -> Option<Box<WriteConnection>> {
        lock(&self.connection).take()
    }

    pub(crate) fn keep_connection(&self, connection: Option<Box<WriteConnection>>) {
        *lock(&self.connection) = connection;
    }

    /// Returns whether the writing connection, which nobody uses now, keeps SQLite's locks.
    pub(crate) fn keeps_sqlite_locks(&self) -> bool {
        let kept = lock(&self.connection);
        kept.as_deref()
            .is_some_and(|connection| connection::keeps_locks(connection))
    }

    /// Takes the connection out without locking: in a forked child, a thread that does not
    /// exist there may hold the mutex for ever.
    pub(crate) fn drain(&mut self) -> Option<Box<WriteConnection>> {
        let connection = self.connection.get_mut();
        connection.unwrap_or_else(PoisonError::into_inner).take()
    }

    /// Notes that the writing connection was opened with these options. Locks may be kept on it,
    /// and a hook may have changed what statements mean on it.
    pub(crate) fn note_opened(&self, connection: &WriteConnection, options: &OpenOptions) {
        if let Some(file) = connection.file() {
            file.join_frames();
        }
        self.lease.set(connection.file().map(Arc::clone));
        self.may_lease.store(connection.file().is_some(), Relaxed);
        self.set_customized(!options.connection_hooks.is_empty());
    }

    /// Returns whether locks may be kept on the writing connection.
    pub(crate) fn may_lease(&self) -> bool {
        self.may_lease.load(Relaxed)
    }

    pub(crate) fn note_written(&self) {
        self.has_written.store(true, Relaxed);
    }

    pub(crate) fn has_written(&self) -> bool {
        self.has_written.load(Relaxed)
    }

    pub(crate) fn set_customized(&self, is_customized: bool) {
        self.is_customized.store(is_customized, Relaxed);
    }

    pub(crate) fn is_customized(&self) -> bool {
        self.is_customized.load(Relaxed)
    }
}

/// What a write needs to know of its database in this process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WriteContext<'a> {
    pub(crate) location: &'a Location,
    pub(crate) options: &'a OpenOptions,
    pub(crate) resources: &'a WriteResources,
}

impl<'a> WriteContext<'a> {
    pub(crate) fn locker(&self) -> &'a Locker {
        &self.resources.locker
    }

    pub(crate) fn labels(&self) -> Labels<'a> {
        Labels {
            location: self.location,
            options: self.options,
        }
    }

    /// Returns how far a shared transaction may grow.
    pub(crate) fn limits(&self) -> GroupLimits {
        match self.options.group_commit {
            GroupCommit::Off => GroupLimits::default()
                .max_statements(1)
                .max_latency(Duration::ZERO),
            GroupCommit::WithinProcess | GroupCommit::AcrossProcesses => self.options.group_limits,
        }
    }

    /// Returns whether this process opened what it writes with. A process that was forked inside a
    /// closure must not touch what its parent has open.
    pub(crate) fn is_ours(&self) -> bool {
        self.resources.is_ours()
    }

    pub(crate) fn forked(&self) -> Error {
        Error::forked("write", &self.location.path)
    }
}
