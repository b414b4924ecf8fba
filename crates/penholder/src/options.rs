//! How a database is opened.

use std::path::PathBuf;
use std::time::Duration;

use penholder_lock::{DEFAULT_TIMEOUT, Policy};

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
    /// process does the same for others. Writes are combined only if commits are slow or many
    /// processes wait.
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
/// use penholder::{GroupLimits, Options};
/// use std::time::Duration;
///
/// let limits = GroupLimits::default().statements(64).latency(Duration::from_micros(500));
/// let options = Options::new().group_limits(limits);
/// # drop(options);
/// ```
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[must_use]
pub struct GroupLimits {
    pub(crate) statements: usize,
    pub(crate) bytes: usize,
    pub(crate) latency: Duration,
}

impl Default for GroupLimits {
    /// 256 statements, 1 MiB, 1 ms.
    fn default() -> Self {
        Self {
            statements: 256,
            bytes: 1 << 20,
            latency: Duration::from_millis(1),
        }
    }
}

impl GroupLimits {
    /// Sets how many statements share a commit at most; a closure counts as one.
    pub fn statements(mut self, statements: usize) -> Self {
        self.statements = statements;
        self
    }

    /// Sets how many bytes of SQL and values share a commit at most.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
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
    pub fn latency(mut self, latency: Duration) -> Self {
        self.latency = latency;
        self
    }
}

/// How a database is opened.
///
/// ```
/// use penholder::{Options, Synchronous};
/// use std::time::Duration;
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.db");
/// let db = Options::new()
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
pub struct Options {
    pub(crate) timeout: Duration,
    pub(crate) synchronous: Synchronous,
    pub(crate) lock_path: Option<PathBuf>,
    pub(crate) label: Option<String>,
    pub(crate) readers: usize,
    pub(crate) allow_network_fs: bool,
    pub(crate) policy: Policy,
    pub(crate) queue_file: bool,
    pub(crate) group_commit: GroupCommit,
    pub(crate) group_limits: GroupLimits,
    pub(crate) record_sql: bool,
    pub(crate) warn_hold: Duration,
    pub(crate) create: bool,
    pub(crate) read_only: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self::new()
    }
}

impl Options {
    /// Makes the default options: a timeout of 500 ms, `synchronous=NORMAL`, four readers,
    /// `db.lock` in the directory of the database.
    pub fn new() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            synchronous: Synchronous::default(),
            lock_path: None,
            label: None,
            readers: 4,
            allow_network_fs: false,
            policy: Policy::default(),
            queue_file: true,
            group_commit: GroupCommit::default(),
            group_limits: GroupLimits::default(),
            record_sql: true,
            warn_hold: DEFAULT_TIMEOUT,
            create: true,
            read_only: false,
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
    pub fn lock_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_path = Some(path.into());
        self
    }

    /// Says what this program writes for. Processes that wait for it see this label.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// Sets how many reads run at once, each on a connection of its own; at least one, four by
    /// default.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Sets whether a database on a network file system is opened, where SQLite's own locks
    /// are unreliable. Off by default. Switch it on only if no other machine writes there.
    pub fn allow_network_fs(mut self, allow: bool) -> Self {
        self.allow_network_fs = allow;
        self
    }

    /// Sets in which order waiting processes get the lock when this process releases it;
    /// [`Policy::Slices`] by default.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Polls the lock every 5 to 50 ms instead of using the queue file `db.lockq`. This also
    /// happens if the queue file cannot be created.
    pub fn no_page(mut self) -> Self {
        self.queue_file = false;
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
    /// It does not hide the command line, which is in the lock file (so give `penholder exec`
    /// no secrets), labels, and what a closure of the program puts into its own errors.
    pub fn record_sql(mut self, record: bool) -> Self {
        self.record_sql = record;
        self
    }

    /// Sets from which length on a hold of the write lock is reported as slow, with the label, the
    /// statement and its call site: as an event in the history (`penholder history`) and as a
    /// warning of `tracing`. 500 ms by default, which is as long as others wait by default.
    ///
    /// ```
    /// use penholder::Options;
    /// use std::time::Duration;
    ///
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let db = Options::new().warn_hold(Duration::ZERO).open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE job(name)", ())?;
    /// let event = &db.status()?.events[0];
    /// assert_eq!(event.statement.as_deref(), Some("CREATE TABLE job(name)"));
    /// assert!(event.call_site.is_some());
    /// # Ok(())
    /// # }
    /// ```
    pub fn warn_hold(mut self, longest: Duration) -> Self {
        self.warn_hold = longest;
        self
    }

    /// Sets whether a missing database is created. On by default.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Sets whether the database is opened for reading only: then no lock is taken, the journal
    /// mode stays as it is, and writing is an error. Off by default.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
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
