//! Many processes, one SQLite database, one pen.
//!
//! SQLite lets one connection write at a time. Programs that start several processes on one
//! file meet `database is locked`: SQLite waits by polling, serves waiters in no order, and
//! its error names neither the process that is in the way nor how long it has been there. This
//! crate is the *single-writer pattern*: every writer takes a lock next to the database first,
//! waits no longer than its timeout, and a timeout names the process that holds the lock.
//!
//! ```
//! use penholder::{Database, Result};
//!
//! # fn main() -> Result<()> {
//! # let directory = tempfile::tempdir().unwrap();
//! # let path = directory.path().join("app.db");
//! let db = Database::open(path)?;
//! db.execute("CREATE TABLE IF NOT EXISTS ticket(n INTEGER, owner TEXT)", ())?;
//! let n = db.write(|tx| -> Result<i64> {
//!     let n = tx.query_row("SELECT count(*) FROM ticket", [], |row| row.get(0))?;
//!     tx.execute("INSERT INTO ticket VALUES (?1, ?2)", (n, "ann"))?;
//!     Ok(n)
//! })?;
//! assert_eq!(db.query("SELECT owner FROM ticket WHERE n = ?1", [n])?.len(), 1);
//! # Ok(())
//! # }
//! ```
//!
//! # The one type to know
//!
//! [`Database`] is a handle on one database. It is cheap to clone and shared between threads,
//! and any number of processes may have one on the same file. Every write is a transaction
//! under the write lock: [`write`](Database::write) runs a closure,
//! [`execute`](Database::execute) and [`batch`](Database::batch) take plain data.
//! [`query`](Database::query) and [`read`](Database::read) never wait for the lock.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | timeout, `synchronous`, label, order, another lock file | [`OpenOptions`] |
//! | which writes share a commit | [`GroupCommit`], [`GroupLimits`] |
//! | what went wrong, and which process was in the way | [`Error`] |
//! | what is wrong with a database, or may go wrong | [`Doctor`] |
//! | values and rows as plain data | [`Value`], [`Query`], [`RowSet`], [`Executed`], [`params!`] |
//! | the connection of a [`write`](Database::write) | [`Transaction`] |
//! | what cannot run in a transaction | [`with_write_lock`](Database::with_write_lock) |
//! | running each schema change once | [`migrate`](Database::migrate) |
//! | maintenance | [`checkpoint`](Database::checkpoint), [`vacuum`](Database::vacuum), [`backup_to`](Database::backup_to) |
//! | the holder, the queue, what happened | [`status`](Database::status) |
//! | what is slow; what others may see of it | [`OpenOptions::long_hold_threshold`], [`OpenOptions::record_sql`] |
//! | the write lock by itself, for use with another SQLite library | [`lock`] |
//! | futures (feature `tokio`) | `AsyncDatabase` |
//!
//! # What it does not do
//!
//! It is not a new engine, and it does not let several writers write at once. It does not work
//! over a network file system, and refuses one. It needs no daemon. It does not stop programs
//! that write without the lock: SQLite's own lock still protects the data, and the error says
//! that a process writes without the lock. It runs only on 64-bit Linux so far.
//!
//! # What an acknowledgement means
//!
//! When a writing call returns `Ok`, the write is committed and survives the death of every
//! process. With `synchronous=NORMAL`, the default, it may not survive a power cut; with
//! [`Synchronous::Full`] it does.
//!
//! # Async
//!
//! With the feature `tokio` there is an `AsyncDatabase` with the same operations as futures.
//! No thread of the runtime blocks, and a future that is dropped before it has the lock has no
//! effect.
//!
//! # Telemetry
//!
//! Spans and events of `tracing` have the target `penholder`. Each span and each warning has
//! the fields `database` and `label`; fields that end in `_s` are seconds.
//!
//! | level, name | when | further fields |
//! | --- | --- | --- |
//! | DEBUG span `wait` | a thread waits for the write lock, for itself or for a group | |
//! | DEBUG span `hold` | the lock is held; the closure of a [`write`](Database::write) runs in it, on the thread that runs the batch | |
//! | DEBUG `write lock taken` | | `waited_s` |
//! | DEBUG `write lock released` | | `held_s` |
//! | DEBUG `combined writes of other processes` | after a commit with writes of other processes | `requests`, `writes` |
//! | WARN `write lock held for long` | [`OpenOptions::long_hold_threshold`] or longer | `held_s`, `statement`, `call_site` |
//! | WARN `timeout` | of the write lock, or of SQLite's own locks | `error` |
//! | WARN `write lock recovered from a process that had died` | | `dead_pid` |
//! | WARN `the WAL is long, …` | over 16 MB, and a reader keeps a checkpoint from copying all of it; no field `label` | `frames`, `moved` |
//!
//! With the feature `metrics` the program's recorder gets, for all its databases together:
//!
//! | name | is |
//! | --- | --- |
//! | `penholder_wait_seconds` | histogram: time until the lock was taken, also if that was at once |
//! | `penholder_hold_seconds` | histogram: how long the lock was held |
//! | `penholder_timeouts_total` | counter: calls that ended at their deadline |
//! | `penholder_recoveries_total` | counter: locks taken from a process that had died |
//! | `penholder_combined_batches_total` | counter: transactions with writes of other processes |
//! | `penholder_combined_writes_total` | counter: writes of other processes in them |
//! | `penholder_long_holds_total` | counter: holds of [`OpenOptions::long_hold_threshold`] or longer |
//! | `penholder_wal_pinned_total` | counter: checkpoints that a reader kept from copying all of a long WAL |
//!
//! The example `events` prints both. Without a subscriber no clock is read; the feature
//! `metrics` reads it at each write.
//!
//! # Forks
//!
//! A `Database` may be used in a forked child: the child leaves the parent's connections alone
//! and opens its own. A child forked inside a closure of [`Database::write`] gets an error, and
//! the parent's transaction goes on.

#[cfg(feature = "tokio")]
mod asynchronous;
mod attachment;
mod data;
mod database;
mod delegate;
pub mod doctor;
mod error;
#[cfg(fuzzing)]
#[doc(hidden)]
pub mod fuzzing;
mod group;
#[cfg(feature = "failpoints")]
#[doc(hidden)]
pub mod internals;
mod location;
mod maintenance;
mod mutex;
mod opening;
mod options;
mod sqlite;
mod sys;
mod telemetry;
mod write;

#[cfg(feature = "tokio")]
pub use asynchronous::AsyncDatabase;
pub use data::{ColumnIndex, Executed, IntoParams, Params, Query, Row, RowSet, SliceParam, Value};
pub use database::Database;
pub use error::{Error, ErrorKind, Result};
pub use maintenance::{Checkpoint, Migrated};
pub use options::{ConnectionRole, GroupCommit, GroupLimits, OpenOptions, Synchronous};
pub use penholder_lock as lock;
pub use rusqlite;
pub use rusqlite::{named_params, params};
pub use write::Transaction;

/// Returns the version of the SQLite library in this program.
///
/// ```
/// assert!(penholder::sqlite_version().starts_with("3."));
/// ```
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
