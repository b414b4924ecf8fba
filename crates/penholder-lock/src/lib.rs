//! One write lock for many processes: fair, woken instead of polling, bounded by one
//! deadline, released by the kernel when its holder dies, and able to say who holds it.
//!
//! ```
//! use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let locker = WriteLocker::new(directory)?; // directory/db.lock
//! let guard = locker.acquire(DEFAULT_TIMEOUT)?;
//! // … write to the database, with any library …
//! guard.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! The lock is the operating system's `flock` on a small text file, so `flock(1)`, Python's
//! `fcntl.flock` and Go's `flock` take part unchanged. While it is held, the file says who
//! holds it; a timeout says the same:
//!
//! ```text
//! write lock timeout after 500ms
//!   holder: pid:4242 since 2026-01-15T10:30:45.000Z (`sync --all`, stopped, held 3.2s)
//!   queue: 7 ahead of you
//!   lock file: /srv/app/db.lock
//!   try again or check if holder process is stuck
//! ```
//!
//! Processes queue in shared memory: the *queue file*, whose name is that of the lock file
//! with a `q` appended. They are served first come, first served, in time slices of up to 2 ms
//! that keep throughput up ([`QueuePolicy`]). The queue file is disposable, and nothing in it grants
//! the lock. Where it cannot be created, processes poll.
//!
//! # The primary type
//!
//! [`WriteLocker`] is a lock on one file, for all processes, threads and tasks:
//! [`acquire`](WriteLocker::acquire) waits for it, and dropping the [`WriteGuard`] that it
//! returns releases it. Take it *before* the transaction begins, and end the transaction before
//! the guard goes. Keep a `busy_timeout` for programs that write without the lock. Complete
//! programs that use it with rusqlite, sqlx and diesel are in the repository's `examples`.
//!
//! # Map
//!
//! | for | see |
//! | --- | --- |
//! | in which order processes are served | [`QueuePolicy`] |
//! | what went wrong, and who was in the way | [`LockError`], [`Holder`] |
//! | one timeout over several waits | [`Deadline`] |
//! | who holds, who waits, what happened, only by looking | [`WriteLocker::status`], [`Status`] |
//! | the same ten times a second | [`WriteLocker::snapshot`], [`Snapshot`], [`EventsSince`] |
//! | which processes have a file open, and what is wrong with a queue file | [`Openers`], [`Process`], [`QueueFileHeader`] |
//! | a child process that works under this hold | [`WriteGuard::lend_to`] |
//! | whether a directory is on a network file system | [`network_file_system`] |
//! | futures (feature `tokio`) | `WriteLocker::acquire_async`, `AsyncWriteGuard` |
//! | `Serialize` for what can be seen (feature `serde`) | [`Status`] |
//!
//! # What it does not do
//!
//! It does not know SQLite: the crate `penholder` does. It does not work across machines: a
//! network file system is refused. It is a lock among the programs that take it: a program that
//! writes without it is stopped only by SQLite itself. It has no shared mode: readers of SQLite
//! need no lock. It runs on Linux only, so far; elsewhere every operation returns an error.
//!
//! # Async
//!
//! With the feature `tokio`, `WriteLocker::acquire_async` waits in the same queue without
//! blocking a thread of the runtime; one parked thread waits for all tasks of a process.
//! Dropping the future gives its place back. The guard may cross an `.await`; keep it short all
//! the same.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
//!
//! # let directory = tempfile::tempdir()?;
//! # let directory = directory.path();
//! let locker = WriteLocker::new(directory)?;
//! let guard = locker.acquire_async(DEFAULT_TIMEOUT).await?;
//! // … write to the database, with sqlx for instance …
//! guard.release()?;
//! # Ok(())
//! # }
//! # #[cfg(not(feature = "tokio"))]
//! # fn main() {}
//! ```
//!
//! # Forks
//!
//! A forked child does not hold what its parent holds: a `pthread_atfork` handler closes its
//! copies of the descriptors without unlocking, and a guard that it inherited does nothing. A
//! `fork` that bypasses libc is not noticed.
//!
//! # Stability
//!
//! The types that this crate re-exports from `penholder-core` are part of its own promise; the
//! rest of that crate is not.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
mod asynchronous;
mod guard;
mod locker;

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use asynchronous::AsyncWriteGuard;
pub use guard::WriteGuard;
pub use locker::WriteLocker;
pub use penholder_core::{
    Counters, DEFAULT_TIMEOUT, Deadline, Event, EventKind, EventsSince, Holder, LOCK_FILE_NAME,
    Leases, LockError, LockState, Opened, Opener, Openers, Percentiles, Process, ProcessIdentity,
    ProcessState, QueueFileFault, QueueFileHeader, QueueFileState, QueuePolicy, Sizes, Snapshot,
    SqliteAccess, SqliteHolder, SqliteLock, Status, Waiter, network_file_system,
};
