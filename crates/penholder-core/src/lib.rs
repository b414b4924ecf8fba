//! The plumbing of penholder: what its crates share and no program should use directly.
//!
//! There is no stability promise: any release may change anything here. Programs use
//! `penholder` (a database over rusqlite) or `penholder-lock` (the lock by itself), which
//! re-export those types of this crate that their own promise covers.
//!
//! Each layer imports only those below it:
//!
//! | layer | modules |
//! | --- | --- |
//! | taking the lock | `locker`, `asynchronous`, `handover`, `guard` |
//! | one process and one lock file | `forks`, `keeper`, `attachment`, `acquirer`, `lease`, `pending_request`, `membership`, `lock_file`, `canceller` |
//! | waiting for commits | `commit_watch`, `database_files` |
//! | what can be seen | `status`, `error` |
//! | the queue of processes | `queue_file`, `mailbox`, `turnstile`, `commit_stats` |
//! | the queue of threads and tasks | `fair_queue` |
//! | texts | `holder_record`, `running_statement`, `inherited_hold`, `printable`, `time`, `commit_token` |
//! | the ancestors of a process | `lineage` |
//! | the platform | `sys` |

mod acquirer;
#[cfg(feature = "tokio")]
mod asynchronous;
mod attachment;
mod backoff;
mod canceller;
pub mod commit_stats;
mod commit_token;
mod commit_watch;
mod database_files;
mod deadline;
mod error;
pub mod failpoint;
pub mod fair_queue;
mod forks;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod guard;
#[cfg(feature = "tokio")]
pub mod handover;
mod hold_file;
mod holder_record;
mod inherited_hold;
mod keeper;
mod lease;
mod lease_party;
mod lender;
mod lineage;
mod lock_file;
mod lock_options;
mod locker;
mod mailbox;
mod membership;
mod obstacle;
mod pending_request;
mod printable;
mod queue_file;
pub mod remedy;
mod running_statement;
mod shell_word;
mod shortage;
mod status;
mod sys;
mod time;
mod turnstile;

pub use canceller::Canceller;
pub use commit_token::{CommitToken, ParseCommitTokenError};
pub use commit_watch::CommitWatch;
pub use deadline::Deadline;
pub use error::{LockError, OTHER_DATABASE};
pub use guard::Guard;
pub use lease_party::{EndedLease, LeaseEnd, LeaseParty};
pub use lock_options::{DEFAULT_TIMEOUT, LOCK_FILE_NAME, LockOptions};
pub use locker::{Locker, Waited};
pub use mailbox::{Claim, Outcome, REPLY_MAX, REQUEST_MAX, RemoteRequest, RequestId};
pub use obstacle::Obstacle;
pub use pending_request::{Offer, OnOffered};
pub use printable::{OneLine, is_escaped, one_line, shown_name, shown_path, user_text};
pub use queue_file::{
    BatchSize, Combining, DatabaseWord, DatabaseWords, Examined, QueueFileFault, QueueFileHeader,
    Withdrawal,
};
pub use shell_word::{shell_path, shell_word};
pub use shortage::Shortage;
pub use status::{
    Counters, Event, EventKind, EventsSince, Holder, Leases, LockState, Opened, Opener,
    OpenerElsewhere, Openers, Percentiles, Process, ProcessIdentity, ProcessState, QueueFileState,
    Sizes, Snapshot, SqliteAccess, SqliteHolder, SqliteLock, Status, Waiter,
};
pub use sys::unfinished::UNFINISHED_QUEUE_FILE;
pub use turnstile::QueuePolicy;

/// Returns how many forks lie between the first process of this program and this one. Code
/// that keeps something that a forked child must not touch compares it.
///
/// ```
/// let ours = penholder_core::fork_generation();
/// // … later, perhaps in a child …
/// assert_eq!(ours, penholder_core::fork_generation());
/// ```
#[must_use]
pub fn fork_generation() -> u64 {
    sys::fork::generation()
}

/// Returns the name of the network (or otherwise shared) file system that a path is on, where
/// a lock on this machine does not hold on another; `None` on a local one.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// assert_eq!(penholder_core::network_file_system(directory.path())?, None);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The path does not exist or cannot be looked at.
pub fn network_file_system(path: impl AsRef<std::path::Path>) -> std::io::Result<Option<String>> {
    sys::filesystem::network(path.as_ref())
}

/// Returns the absolute path of a file or directory that exists, with links resolved. It is spelled as
/// the file system spells it and, on Windows, without the `\\\\?\` of [`std::fs::canonicalize`].
///
/// # Errors
///
/// Those of [`std::fs::canonicalize`].
///
/// ```
/// let directory = penholder_core::canonicalize(".")?;
/// assert!(directory.is_absolute());
/// # Ok::<(), std::io::Error>(())
/// ```
pub fn canonicalize(path: impl AsRef<std::path::Path>) -> std::io::Result<std::path::PathBuf> {
    sys::file::canonicalize(path.as_ref())
}

/// Returns whether a file is mounted by itself over another file (`docker run -v ./x.db:/x.db`),
/// so that the files next to this path are not those next to it in its own directory. A symbolic
/// link is not followed.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let directory = tempfile::tempdir()?;
/// let path = directory.path().join("x.db");
/// std::fs::write(&path, "")?;
/// assert!(!penholder_core::is_file_mount(&path)?);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
///
/// The file does not exist or cannot be looked at.
pub fn is_file_mount(path: impl AsRef<std::path::Path>) -> std::io::Result<bool> {
    sys::mounts::is_file_mount(path.as_ref())
}
