//! How a database is opened.

use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder_lock::{DEFAULT_TIMEOUT, Policy, WriteLocker};

use crate::database::{self, Database};
use crate::error::Result;
use crate::location::Location;

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

/// How a database is opened.
///
/// ```
/// use penholder::{Options, Synchronous};
/// use std::time::Duration;
///
/// # fn main() -> penholder::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("app.db");
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

    /// The write lock of a database, without opening the database, which need
    /// not exist.
    ///
    /// # Errors
    ///
    /// As [`Database::open`], as far as the path is concerned.
    pub fn locker(&self, path: impl AsRef<Path>) -> Result<WriteLocker> {
        database::locker(&Location::of(path.as_ref(), "lock database")?, self)
    }

    /// Opens the database; [`Database::open`] with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        Database::open_with(path.as_ref(), self)
    }
}
