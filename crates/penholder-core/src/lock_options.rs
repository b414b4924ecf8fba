//! What a locker asks for at every acquisition.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use crate::lease_party::LeaseParty;
use crate::turnstile::QueuePolicy;

/// How long an acquisition waits unless it is told otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_millis(500);

/// The name of the lock file in a database's directory.
pub const LOCK_FILE_NAME: &str = "db.lock";

/// What a locker asks for at every acquisition.
#[derive(Debug, Clone)]
pub struct LockOptions {
    /// The lock file: absolute, links in its directory resolved.
    pub path: PathBuf,
    /// The file (the database) whose permission bits and group a new lock file gets, which the
    /// holder record names, and whose locks in the kernel are looked at.
    pub model: Option<PathBuf>,
    /// The file whose permission bits and group a new lock file gets instead, for a `model` that
    /// does not exist yet.
    pub stand_in: Option<PathBuf>,
    /// Says what the lock is taken for.
    pub label: Option<String>,
    /// Whether the lock file may be on a network file system.
    pub allow_network_fs: bool,
    /// In which order waiting processes are served.
    pub policy: QueuePolicy,
    /// Whether to wait in the queue file.
    pub use_queue: bool,
    /// A hold of this length or longer is recorded as an event.
    pub long_hold: Duration,
    /// What may be kept along with the lock from one hold to the next.
    pub lease: Option<Arc<dyn LeaseParty>>,
}

impl LockOptions {
    /// The defaults, for a lock file with this absolute path.
    #[must_use]
    pub fn new(path: PathBuf) -> Self {
        Self {
            path,
            model: None,
            stand_in: None,
            label: None,
            allow_network_fs: false,
            policy: QueuePolicy::default(),
            use_queue: true,
            long_hold: DEFAULT_TIMEOUT,
            lease: None,
        }
    }
}
