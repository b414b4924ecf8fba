//! One write lock for many processes: fair, woken instead of polling, bounded by one
//! deadline, released by the kernel when its holder dies, and able to say who
//! holds it.
//!
//! ```
//! use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
//!
//! # fn main() -> Result<(), Box<dyn std::error::Error>> {
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let locker = WriteLocker::new(folder)?; // folder/db.lock
//! let guard = locker.acquire(DEFAULT_TIMEOUT)?;
//! // … write to the database, with whatever library …
//! guard.release()?;
//! # Ok(())
//! # }
//! ```
//!
//! The lock is the operating system's `flock` on a small text file, so
//! `flock(1)`, Python's `fcntl.flock` and Go's take part unchanged. While it is
//! held the file says by whom; a timeout says the same:
//!
//! ```text
//! write lock timeout after 500ms
//!   holder: pid:4242 since 2026-01-15T10:30:45.000Z (`sync --all`, stopped, held 3.2s)
//!   queue: 7 ahead of you
//!   lock file: /srv/app/db.lock
//!   try again or check if holder process is stuck
//! ```
//!
//! Processes queue in shared memory, the file beside it with a `q` behind its name:
//! the first who came is the first who is served, up to slices of 1 to 2 ms that
//! keep throughput ([`Policy`]). It is disposable, and nothing in it grants the lock.
//! Where it cannot be, the lock is polled.
//!
//! # The one type to know
//!
//! [`WriteLocker`] is a lock on one file, for all processes, threads and tasks:
//! [`acquire`](WriteLocker::acquire) waits for it, and the [`WriteGuard`] that it
//! returns gives it back when it is dropped. Take it *before* the transaction
//! begins, and end the transaction before the guard goes. Keep a `busy_timeout` for
//! those who write without the lock. Whole programs that do so with rusqlite, sqlx
//! and diesel are in the repository's `examples`.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | in which order processes are served | [`Policy`] |
//! | what went wrong, and who was in the way | [`LockError`], [`Holder`] |
//! | one timeout over several waits | [`Deadline`] |
//! | who holds, who waits, what happened, only by looking | [`WriteLocker::status`], [`Status`] |
//! | the same ten times a second | [`WriteLocker::glance`], [`Glance`] |
//! | who has a file open, and what is wrong with a page | [`Openers`], [`Process`], [`PageHeader`] |
//! | to do the work of those who wait | [`WriteLocker::acquire_with_request`], [`WriteGuard::requests`] |
//! | a child process that works under this hold | [`WriteGuard::lend_to`] |
//! | whether a folder is on a network file system | [`network_file_system`] |
//! | futures (feature `tokio`) | `WriteLocker::acquire_async`, `AsyncWriteGuard` |
//! | `Serialize` for what can be seen (feature `serde`) | [`Status`] |
//!
//! # What it does not do
//!
//! It does not know SQLite: the crate `penholder` does. It does not work across
//! machines: a network file system is refused. It is a lock among those who take
//! it: whoever writes without it is not stopped, except by SQLite itself. It has no
//! shared mode: readers of SQLite need no lock. It runs on Linux only, so far.
//!
//! # Async
//!
//! With the feature `tokio`, `WriteLocker::acquire_async` waits without blocking a
//! thread of the runtime, in the same line as everybody else; one parked thread
//! waits for all tasks of a process. Dropping the future gives its place back. The
//! guard may cross an `.await`; keep it short all the same.
//!
//! ```
//! # #[cfg(feature = "tokio")]
//! # #[tokio::main(flavor = "current_thread")]
//! # async fn main() -> Result<(), Box<dyn std::error::Error>> {
//! use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
//!
//! # let folder = tempfile::tempdir()?;
//! # let folder = folder.path();
//! let locker = WriteLocker::new(folder)?;
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
//! A forked child does not hold what its parent holds: its copies of the
//! descriptors are closed, without unlocking, in a `pthread_atfork` handler, and
//! a guard it inherited does nothing. A `fork` that bypasses libc is not seen.

pub use penholder_core::*;
