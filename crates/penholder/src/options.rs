//! How a database is opened.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use penholder_lock::{DEFAULT_TIMEOUT, QueuePolicy};
use rusqlite::Connection;

use crate::error::without_sql;

/// When SQLite syncs its writes to the disk (`PRAGMA synchronous`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// At checkpoints only. An acknowledged write survives the death of every process, but a
    /// power cut may lose the last writes. The database stays intact.
    #[default]
    Normal,
    /// At every commit. An acknowledged write survives a power cut too.
    Full,
}

impl Synchronous {
    /// Returns the value as SQLite's pragma takes it.
    pub(crate) fn pragma(self) -> &'static str {
        match self {
            Self::Normal => "NORMAL",
            Self::Full => "FULL",
        }
    }
}

/// Which writes share a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum GroupCommit {
    /// None: each write is a transaction of its own.
    Off,
    /// Those of the threads and tasks of this process that wait at the same time.
    WithinProcess,
    /// Those of other processes too, if the result is the same. The process that holds the lock
    /// may run the calls of [`Database::execute`](crate::Database::execute) and
    /// [`Database::batch`](crate::Database::batch) that wait in other processes, and this
    /// process does the same for others. Writes are combined only if commits are slow; without
    /// [`lease`](OpenOptions::lease) also if many processes wait.
    ///
    /// The first such transaction creates the table `_penholder_batch` in the database. It has
    /// about the last thousand of these transactions, with the writes in each. Deleting it is
    /// safe while no process writes.
    #[default]
    AcrossProcesses,
}

/// How far a shared commit may grow.
///
/// ```
/// use penholder::{GroupLimits, OpenOptions};
/// use std::time::Duration;
///
/// let limits = GroupLimits::default().max_statements(64).max_latency(Duration::from_micros(500));
/// let options = OpenOptions::new().group_limits(limits);
/// # drop(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct GroupLimits {
    pub(crate) max_statements: usize,
    pub(crate) max_bytes: usize,
    pub(crate) max_latency: Duration,
}

impl Default for GroupLimits {
    /// 256 statements, 1 MiB, 1 ms.
    fn default() -> Self {
        Self {
            max_statements: 256,
            max_bytes: 1 << 20,
            max_latency: Duration::from_millis(1),
        }
    }
}

impl GroupLimits {
    /// Sets how many statements share a commit at most; a closure counts as one.
    pub fn max_statements(mut self, statements: usize) -> Self {
        self.max_statements = statements;
        self
    }

    /// Sets how many bytes of SQL and values share a commit at most.
    pub fn max_bytes(mut self, bytes: usize) -> Self {
        self.max_bytes = bytes;
        self
    }

    /// Sets how long a write may wait for other writes. It bounds three waits, each by itself:
    ///
    /// - before a batch begins, until as many writes have come as the last time;
    /// - while a batch runs, for the writes that join it;
    /// - after the batch, until the thread that ran it stops serving others and returns to its
    ///   caller.
    ///
    /// If no other thread or process writes, nothing waits.
    pub fn max_latency(mut self, latency: Duration) -> Self {
        self.max_latency = latency;
        self
    }
}

/// What a connection is used for: see [`OpenOptions::connection_hook`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ConnectionRole {
    /// The connection that writes. There is one, and it is opened again after some errors.
    Writer,
    /// A connection that only reads. There are at most [`OpenOptions::max_readers`].
    Reader,
}

type Hook = dyn Fn(&Connection, ConnectionRole) -> rusqlite::Result<()> + Send + Sync;

#[derive(Clone)]
pub(crate) struct ConnectionHook(Arc<Hook>);

impl fmt::Debug for ConnectionHook {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ConnectionHook")
    }
}

/// How a database is opened.
///
/// ```
/// use penholder::{OpenOptions, Synchronous};
/// use std::time::Duration;
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.db");
/// let db = OpenOptions::new()
///     .timeout(Duration::from_secs(5))
///     .synchronous(Synchronous::Full)
///     .label("nightly sync")
///     .open(path)?;
/// # drop(db);
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct OpenOptions {
    pub(crate) timeout: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) lock_file: Option<PathBuf>,
    pub(crate) label: Option<String>,
    pub(crate) max_readers: usize,
    pub(crate) allow_network_fs: bool,
    pub(crate) allow_file_mount: bool,
    pub(crate) policy: QueuePolicy,
    pub(crate) queue: bool,
    pub(crate) lease: bool,
    pub(crate) checkpoints: bool,
    pub(crate) group_commit: GroupCommit,
    pub(crate) group_limits: GroupLimits,
    pub(crate) record_sql: bool,
    pub(crate) long_hold_threshold: Duration,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
    pub(crate) connection_hooks: Vec<ConnectionHook>,
}

impl Default for OpenOptions {
    fn default() -> Self {
        Self::new()
    }
}

impl OpenOptions {
    /// Makes the default options: a timeout of 500 ms, `synchronous=NORMAL`, four readers,
    /// `db.lock` in the directory of the database.
    pub fn new() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            synchronous: Synchronous::default(),
            lock_file: None,
            label: None,
            max_readers: 4,
            allow_network_fs: false,
            allow_file_mount: false,
            policy: QueuePolicy::default(),
            queue: true,
            lease: true,
            checkpoints: true,
            group_commit: GroupCommit::default(),
            group_limits: GroupLimits::default(),
            record_sql: true,
            long_hold_threshold: DEFAULT_TIMEOUT,
            create: true,
            read_only: false,
            connection_hooks: Vec::new(),
        }
    }

    /// Sets how long a call waits for everything together: other threads, other processes and
    /// SQLite's own locks. 500 ms by default. It does not bound the work itself.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Sets what a commit waits for on the disk; [`Synchronous::Normal`] by default.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Uses another lock file than `db.lock` in the directory of the database. Every process
    /// that writes this database must use the same. Two databases in one directory share
    /// `db.lock` unless this separates them.
    pub fn lock_file(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_file = Some(path.into());
        self
    }

    /// Says what this program writes for. Processes that wait for it see this label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets how many reads run at once, each on a connection of its own; at least one, four by
    /// default.
    pub fn max_readers(mut self, readers: usize) -> Self {
        self.max_readers = readers.max(1);
        self
    }

    /// Sets whether a database on a network file system is opened, where SQLite's own locks
    /// are unreliable. Off by default. Switch it on only if no other machine writes there.
    pub fn allow_network_fs(mut self, allow: bool) -> Self {
        self.allow_network_fs = allow;
        self
    }

    /// Sets whether a database is opened whose file, or whose `-wal` or `-shm`, is mounted as a
    /// single file (`docker run -v ./app.db:/data/app.db`). Processes that open it in its own
    /// directory then have another WAL and another lock, and acknowledged writes are lost. Off
    /// by default. Switch it on only if no process opens it there, and mount the directory
    /// instead if you can.
    pub fn allow_file_mount(mut self, allow: bool) -> Self {
        self.allow_file_mount = allow;
        self
    }

    /// Sets in which order waiting processes get the lock when this process releases it;
    /// [`QueuePolicy::TimeSliced`] by default.
    pub fn policy(mut self, policy: QueuePolicy) -> Self {
        self.policy = policy;
        self
    }

    /// Sets whether a process that writes again and again keeps the lock, and SQLite's own locks,
    /// from one write to the next, for at most 2 ms while others wait. On by default. It saves most of the
    /// system calls of a write. Off, each write takes and releases all locks by itself, and SQLite's own
    /// VFS is used as it is.
    ///
    /// Where it cannot be done, it is not: without a queue file, with another VFS than SQLite's own, in
    /// a program that works under the lock of `penholder run`.
    ///
    /// ```
    /// use penholder::OpenOptions;
    ///
    /// let options = OpenOptions::new().lease(false);
    /// # drop(options);
    /// ```
    pub fn lease(mut self, lease: bool) -> Self {
        self.lease = lease;
        self
    }

    /// Sets whether this handle checkpoints the WAL by itself: as it grows, and when the database is
    /// closed. On by default. Off for a database that another program checkpoints, because it
    /// replicates the WAL (Litestream, for example). Then the WAL grows until that program copies it into the
    /// database; [`checkpoint`](crate::Database::checkpoint) still works.
    ///
    /// ```
    /// use penholder::OpenOptions;
    ///
    /// let options = OpenOptions::new().checkpoints(false);
    /// # drop(options);
    /// ```
    pub fn checkpoints(mut self, checkpoints: bool) -> Self {
        self.checkpoints = checkpoints;
        self
    }

    /// Sets whether to wait in the queue file `db.lockq`. On by default. Off, the lock is polled
    /// every 5 to 50 ms. This also happens if the queue file cannot be created.
    pub fn queue(mut self, queue: bool) -> Self {
        self.queue = queue;
        self
    }

    /// Sets which writes share a commit; by default all that can.
    ///
    /// Each write of a batch sees what those before it wrote. Each is atomic by itself, and
    /// none is acknowledged before all are committed. A closure may run on another thread of
    /// this process than the one that called [`Database::write`](crate::Database::write).
    pub fn group_commit(mut self, group_commit: GroupCommit) -> Self {
        self.group_commit = group_commit;
        self
    }

    /// Sets how far a shared commit may grow.
    pub fn group_limits(mut self, limits: GroupLimits) -> Self {
        self.group_limits = limits;
        self
    }

    /// Sets whether the text of this program's statements may be shown to others: in the
    /// status, in the timeout errors of waiters, in events and in errors. On by default. At
    /// most the first 120 bytes of a statement are kept.
    ///
    /// Without it no SQL of this program reaches the queue file, an event, `tracing` or an
    /// error of this crate. They show the call site in the program's source instead of the
    /// statement, and an error about wrong SQL has no text of SQLite. A request to another
    /// process is SQL in the queue file, so other processes do not run this program's writes
    /// ([`GroupCommit::AcrossProcesses`]).
    ///
    /// An error about reading a row names its columns, which are SQL if they have no name by AS.
    /// It does not hide the command line, which is in the lock file (so give `penholder exec`
    /// no secrets), labels, and what a closure of the program puts into its own errors.
    pub fn record_sql(mut self, record: bool) -> Self {
        self.record_sql = record;
        self
    }

    /// Sets from which length on a hold of the write lock is reported as long, with the label, the
    /// statement and its call site: as an event in the history (`penholder history`) and as a
    /// warning of `tracing`. 500 ms by default, which is as long as others wait by default.
    ///
    /// ```
    /// use penholder::OpenOptions;
    /// use std::time::Duration;
    ///
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let db = OpenOptions::new().long_hold_threshold(Duration::ZERO).open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE job(name)", ())?;
    /// let event = &db.status()?.events[0];
    /// assert_eq!(event.statement.as_deref(), Some("CREATE TABLE job(name)"));
    /// assert!(event.call_site.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn long_hold_threshold(mut self, threshold: Duration) -> Self {
        self.long_hold_threshold = threshold;
        self
    }

    /// Sets whether a missing database is created. On by default.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether the database is opened for reading only: then no lock is taken, the journal
    /// mode stays as it is, and writing is an error. Off by default.
    ///
    /// A user who may not write the database has to set it, unless nothing can be created in the
    /// directory either. It is refused too where SQLite would leave `-wal` and `-shm` files that
    /// the owner of the database may not remove: they would keep every writer out.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// Sets up each connection that the program's statements and closures run on: pragmas,
    /// functions, collations. The hook runs once on each, when it is opened; several hooks run in
    /// the order in which they were set. It must not write or leave a transaction open.
    ///
    /// The commit, rollback, update and WAL hooks, the progress handler and the authorizer of the
    /// connection that writes are this crate's: they replace those that a hook sets, and so is
    /// `PRAGMA wal_autocheckpoint`, because this crate runs the checkpoints.
    ///
    /// # Errors
    ///
    /// The hook's own error, and an error for a transaction that it leaves open, are those of the
    /// call that needed the connection: of `open`, a write or a read.
    ///
    /// # Panics
    ///
    /// A panic of the hook reaches the caller of that call.
    ///
    /// ```
    /// use penholder::rusqlite::functions::FunctionFlags;
    /// use penholder::{ConnectionRole, OpenOptions};
    ///
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let path = directory.path().join("app.db");
    /// let db = OpenOptions::new()
    ///     .connection_hook(|connection, role| {
    ///         if role == ConnectionRole::Writer {
    ///             connection.pragma_update(None, "recursive_triggers", true)?;
    ///         }
    ///         let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    ///         connection.create_scalar_function("twice", 1, flags, |context| {
    ///             Ok(2 * context.get::<i64>(0)?)
    ///         })
    ///     })
    ///     .open(path)?;
    /// assert_eq!(db.query_scalar::<i64>("SELECT twice(21)", [])?, 42);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// Other processes do not have what a hook adds, so writes on a connection that it makes
    /// different are executed in this process ([`GroupCommit::AcrossProcesses`]). They still share
    /// commits with those of other threads.
    pub fn connection_hook<F>(mut self, hook: F) -> Self
    where
        F: Fn(&Connection, ConnectionRole) -> rusqlite::Result<()> + Send + Sync + 'static,
    {
        self.connection_hooks.push(ConnectionHook(Arc::new(hook)));
        self
    }

    /// Runs the hooks on a connection that was just opened.
    pub(crate) fn run_connection_hooks(
        &self,
        connection: &Connection,
        role: ConnectionRole,
    ) -> rusqlite::Result<()> {
        let mut hooks = self.connection_hooks.iter();
        hooks.try_for_each(|hook| (hook.0)(connection, role))
    }

    /// Removes the text of the statement from an error, unless it may be shown.
    pub(crate) fn hide(&self, error: rusqlite::Error) -> rusqlite::Error {
        if self.record_sql {
            error
        } else {
            without_sql(error)
        }
    }
}
