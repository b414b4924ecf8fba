//! The plumbing of penholder. No stability promise: use `penholder-lock` or `penholder`.

pub mod failpoint;

#[cfg(feature = "tokio")]
mod asynchronous;
#[path = "lock_file.rs"]
mod attachment;
mod backoff;
mod canceller;
mod deadline;
mod error;
mod fair_queue;
mod guard;
mod holder_record;
mod inherited_hold;
mod locker;
mod mailbox;
mod printable;
#[path = "queue_file/slot.rs"]
mod queue_file;
mod running_statement;
mod status;
mod sys;
mod time;
#[path = "turnstile/participant.rs"]
mod turnstile;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncWriteGuard;
pub use attachment::Offer;
pub use canceller::Canceller;
pub use deadline::Deadline;
pub use error::LockError;
pub use locker::{DEFAULT_TIMEOUT, LOCK_FILE_NAME, Waited, WriteGuard, WriteLocker};
pub use mailbox::{Claim, Fate, Request, RequestId};
pub use queue_file::header::{PageFault, PageHeader};
pub use queue_file::{BatchSize, Withdrawal};
pub use status::{
    Counters, Event, EventKind, Glance, Holder, LockState, News, Opened, Opener, Openers,
    PageState, Percentiles, Process, ProcessState, Sizes, Status, Waiter,
};
pub use turnstile::Policy;

/// How many forks lie between the first process of this program and this one:
/// whoever keeps something that a forked child must not touch compares it.
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

/// The name of the network (or otherwise shared) file system that a path is on,
/// where a lock on this machine does not hold on another; `None` on a local one.
///
/// ```
/// # fn main() -> std::io::Result<()> {
/// # let folder = tempfile::tempdir()?;
/// assert_eq!(penholder_core::network_file_system(folder.path())?, None);
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
