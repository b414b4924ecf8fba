//! How a database is opened.

use std::path::PathBuf;
use std::time::Duration;

use penholder_lock::{DEFAULT_TIMEOUT, Policy};

use crate::error::without_sql;

/// When SQLite asks the disk to make sure of its writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Synchronous {
    /// At checkpoints only. An acknowledged write survives the death of every
    /// process, but a power cut may take the last ones; the database stays whole.
    #[default]
    Normal,
    /// At every commit. An acknowledged write survives a power cut too.
    Full,
}

impl Synchronous {
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
    /// Those of other processes too, where it is the same for whoever wrote: what
    /// [`Database::execute`](crate::Database::execute) and [`Database::batch`](crate::Database::batch) are given may be carried out by
    /// the process that holds the lock, and this process does the same for others. It
    /// is done where a commit takes long, or many wait.
    ///
    /// A table `_penholder_batch` appears in the database with the first such
    /// transaction: the last thousand or so, and what they carried. Deleting it while
    /// nobody writes is safe.
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
    /// At most so many statements; a closure counts as one.
    pub fn statements(mut self, statements: usize) -> Self {
        self.statements = statements;
        self
    }

    /// At most so many bytes of SQL and values.
    pub fn bytes(mut self, bytes: usize) -> Self {
        self.bytes = bytes;
        self
    }

    /// How long a write may have to wait for the sake of others: for as many as came
    /// the last time, for those that join the batch before it commits, and until its
    /// thread, if it led, is its own again; each of them at most for this long. Where
    /// nobody else writes nothing waits.
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
    pub(crate) page: bool,
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
    /// A timeout of 500 ms, `synchronous=NORMAL`, four readers, `db.lock` in the
    /// database's folder.
    pub fn new() -> Self {
        Self {
            timeout: DEFAULT_TIMEOUT,
            synchronous: Synchronous::default(),
            lock_path: None,
            label: None,
            readers: 4,
            allow_network_fs: false,
            policy: Policy::default(),
            page: true,
            group_commit: GroupCommit::default(),
            group_limits: GroupLimits::default(),
            record_sql: true,
            warn_hold: DEFAULT_TIMEOUT,
            create: true,
            read_only: false,
        }
    }

    /// How long a call waits, for everything together: other threads, other
    /// processes, SQLite's own locks. It does not bound the work itself.
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// What a commit waits for on the disk; [`Synchronous::Normal`] by default.
    pub fn synchronous(mut self, synchronous: Synchronous) -> Self {
        self.synchronous = synchronous;
        self
    }

    /// Another lock file than `db.lock` in the database's folder. Every process
    /// that writes this database must name the same. Two databases in one folder
    /// share `db.lock` unless this separates them.
    pub fn lock_path(mut self, path: impl Into<PathBuf>) -> Self {
        self.lock_path = Some(path.into());
        self
    }

    /// Says for what this program writes: shown to whoever waits for it.
    pub fn label(mut self, label: impl Into<String>) -> Self {
        self.label = Some(label.into());
        self
    }

    /// How many reads run at once, each on a connection of its own; at least one.
    pub fn readers(mut self, readers: usize) -> Self {
        self.readers = readers.max(1);
        self
    }

    /// Opens a database on a network file system too, where SQLite's own locks
    /// are not to be trusted. Off by default: right only if no other machine
    /// writes there.
    pub fn allow_network_fs(mut self, allow: bool) -> Self {
        self.allow_network_fs = allow;
        self
    }

    /// In which order waiting processes are served; [`Policy::Slices`] by default.
    /// It is for what happens when this process lets go of the lock.
    pub fn policy(mut self, policy: Policy) -> Self {
        self.policy = policy;
        self
    }

    /// Does not queue through `db.lockq`: the lock is polled instead, after 5 to
    /// 50 ms. Where that file cannot be created this happens by itself.
    pub fn no_page(mut self) -> Self {
        self.page = false;
        self
    }

    /// Which writes share a commit; all that can by default.
    ///
    /// Members of a batch see what those before them wrote; each is atomic by
    /// itself, and none is acknowledged before all are committed. A closure may run
    /// on another thread of this process than the one that called
    /// [`Database::write`](crate::Database::write).
    pub fn group_commit(mut self, group_commit: GroupCommit) -> Self {
        self.group_commit = group_commit;
        self
    }

    /// How far a shared commit may grow.
    pub fn group_limits(mut self, limits: GroupLimits) -> Self {
        self.group_limits = limits;
        self
    }

    /// Whether the text of the statements of this program may be shown to others: in
    /// the status, in the timeout of whoever waits for it, in events and in errors.
    /// Yes by default; of a statement at most the first 120 bytes are kept.
    ///
    /// Without it no SQL of this program reaches the page, an event, `tracing` or an
    /// error of this crate: where the statement would stand there is the place in the
    /// program's source that asked for it, and an error of wrong SQL has no text of
    /// SQLite's. As a request for another process is SQL in the page, this program's
    /// writes are not carried out by others ([`GroupCommit::AcrossProcesses`]).
    ///
    /// What it cannot hide: the command line, which is in the lock file (so no
    /// `penholder exec` with secrets on it), labels, and what a closure of the program
    /// puts into its own errors.
    pub fn record_sql(mut self, record: bool) -> Self {
        self.record_sql = record;
        self
    }

    /// A hold of the write lock of this length or longer is told as an event, with
    /// the label, the statement and the place in the program that asked for it: in the
    /// page's history (`penholder history`), and as a warning of `tracing`. 500 ms by
    /// default, as long as others wait by default.
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

    /// Whether a missing database is created; yes by default.
    pub fn create(mut self, create: bool) -> Self {
        self.create = create;
        self
    }

    /// Opens for reading only: no lock is taken, the journal mode is left as it
    /// is, and writing is an error.
    pub fn read_only(mut self, read_only: bool) -> Self {
        self.read_only = read_only;
        self
    }

    /// An error as it may be seen.
    pub(crate) fn hide(&self, error: rusqlite::Error) -> rusqlite::Error {
        if self.record_sql {
            error
        } else {
            without_sql(error)
        }
    }
}
