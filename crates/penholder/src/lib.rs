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
//! db.execute("CREATE TABLE IF NOT EXISTS ticket(n INTEGER, owner TEXT)", [])?;
//! let n = db.write(|tx| {
//!     let n: i64 = tx.query_row("SELECT count(*) FROM ticket", [], |row| row.get(0))?;
//!     tx.execute("INSERT INTO ticket VALUES (?1, ?2)", (n, "ann"))?;
//!     Ok(n)
//! })?;
//! let owner: String = db.query_scalar("SELECT owner FROM ticket WHERE n = ?1", [n])?;
//! assert_eq!(owner, "ann");
//! # Ok(())
//! # }
//! ```
//!
//! # The one type to know
//!
//! [`Database`] is a handle on one database. It is cheap to clone and shared between threads,
//! and any number of processes may have one on the same file. Every write is a transaction
//! under the write lock: [`write`](Database::write) runs a closure on rusqlite's `Connection`,
//! [`execute`](Database::execute) and [`batch`](Database::batch) take plain data.
//! [`query`](Database::query), its typed forms and [`read`](Database::read) never wait for the
//! lock.
//!
//! # Where to look
//!
//! | for | see |
//! | --- | --- |
//! | timeout, `synchronous`, label, order, another lock file | [`OpenOptions`] |
//! | pragmas, functions and collations on every connection | [`OpenOptions::connection_hook`] |
//! | parameters, by position or by name | [`IntoParams`], [`params!`], [`named_params!`] |
//! | rows as structs, tuples and values | [`query_as`](Database::query_as), [`query_row`](Database::query_row), [`query_optional`](Database::query_optional), [`query_scalar`](Database::query_scalar), [`Row`] |
//! | plain data | [`Query`], [`Value`], [`RowSet`], [`Executed`] |
//! | the connection of a [`write`](Database::write) | [`Transaction`] |
//! | an error type of your own | [`try_write`](Database::try_write), [`try_read`](Database::try_read) |
//! | what went wrong, and which process was in the way | [`Error`], [`ErrorKind`] |
//! | which writes share a commit | [`GroupCommit`], [`GroupLimits`] |
//! | what cannot run in a transaction | [`with_write_lock`](Database::with_write_lock) |
//! | running each schema change once | [`migrate`](Database::migrate) |
//! | maintenance | [`checkpoint`](Database::checkpoint), [`vacuum`](Database::vacuum), [`backup_to`](Database::backup_to), [`restore_from`](Database::restore_from) |
//! | waiting for commits of any process | [`commits`](Database::commits), [`commits_since`](Database::commits_since), [`Commits`] |
//! | the holder, the queue, what happened | [`status`](Database::status) |
//! | what is wrong with a database, or may go wrong | [`doctor`] |
//! | what is slow; what others may see of it | [`OpenOptions::long_hold_threshold`], [`OpenOptions::record_sql`] |
//! | the write lock by itself, for use with another SQLite library | [`lock`] |
//! | futures (feature `tokio`) | `AsyncDatabase` |
//! | code that also runs on another engine (feature `tokio`) | `Store`, `StoreExt` |
//!
//! # Features
//!
//! | feature | adds |
//! | --- | --- |
//! | `bundled` (default) | SQLite, compiled into the program. Without it the system's SQLite is linked |
//! | `tokio` | `AsyncDatabase`: every operation as a future |
//! | `metrics` | counters and histograms for the program's recorder |
//! | `serde` | `Serialize` for [`Status`](lock::Status) and [`Report`](doctor::Report) |
//! | `chrono`, `jiff`, `time`, `uuid`, `url`, `serde_json` | the types of these crates as parameters and columns |
//! | `array`, `blob`, `collation`, `load_extension`, `series`, `trace`, `vtab`, `window` | the features of rusqlite with these names |
//!
//! # rusqlite
//!
//! [`rusqlite`] is re-exported, and its types are part of this crate's interface: closures get
//! its `Connection`, and parameters and columns are of its `ToSql` and `FromSql`. Every version
//! from 0.40 to 0.43 is accepted, because Cargo allows one crate with `links = "sqlite3"` in a
//! program: so a program may use the version that its other dependencies need. If none of them
//! asks for one, Cargo takes the newest, and a `cargo update` may bring a newer one. A program
//! that depends on details of rusqlite names its version itself: `rusqlite = "0.43"` next to
//! this crate. A release of this crate that accepts a newer rusqlite is a minor one; a release
//! that no longer accepts an older one is a breaking one.
//!
//! Without the feature `bundled`, the system's SQLite decides what is on by default: foreign
//! keys are enforced by the bundled one, and usually not by the system's
//! ([`OpenOptions::connection_hook`] can switch them on). rusqlite 0.41 and newer need SQLite 3.44. With an older one
//! (Debian 12 has 3.40), name rusqlite 0.40: `cargo update -p rusqlite --precise 0.40.2`. If the
//! version that is linked has the WAL-reset bug (3.7.0 to 3.51.2, except 3.44.6 and 3.50.7),
//! every checkpoint of this crate runs under the write lock, the one at closing included, so
//! that no writer that takes the lock is at work meanwhile.
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
//! Its closures are `'static`, because they run on a blocking thread. No thread of the runtime
//! blocks, and a future that is dropped before it has the lock has no effect.
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
//! | WARN `a file of the database was replaced or deleted; …` | the connections are given up; no field `label` | `change` |
//! | WARN `opened the files that are there now` | after that; no field `label` | |
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
//! | `penholder_files_replaced_total` | counter: times that a file of a database was found replaced or deleted |
//!
//! The example `events` prints both. Without a subscriber no clock is read; the feature
//! `metrics` reads it at each write.
//!
//! # Forks
//!
//! A `Database` may be used in a forked child: the child leaves the parent's connections alone
//! and opens its own. A child forked inside a closure of [`Database::write`] gets an error, and
//! the parent's transaction goes on.

#![cfg_attr(docsrs, feature(doc_cfg))]

#[cfg(feature = "tokio")]
mod asynchronous;
mod attachment;
mod attachments;
mod commits;
mod creation;
mod data;
mod database;
mod delegate;
pub mod doctor;
mod error;
mod former_users;
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
mod permission;
mod separate_files;
mod sidecar;
#[doc(hidden)]
pub mod sql_script;
#[doc(hidden)]
pub mod sql_tokens;
mod sqlite;
#[cfg(feature = "tokio")]
mod store;
mod sys;
mod telemetry;
mod while_in_use;
#[doc(hidden)]
pub mod word_value;
mod write;

#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use asynchronous::{AsyncCommits, AsyncDatabase};
pub use commits::Commits;
pub use data::{
    ColumnIndex, Executed, IntoParams, Params, Query, Row, RowSet, SliceParam, Value, from_sql,
};
pub use database::Database;
pub use error::{Error, ErrorKind, Result};
pub use maintenance::{Checkpoint, Migrated};
pub use options::{ConnectionRole, GroupCommit, GroupLimits, OpenOptions, Synchronous};
pub use penholder_core::{CommitToken, ParseCommitTokenError};
pub use penholder_lock as lock;
pub use rusqlite;
#[doc(hidden)]
pub use sidecar::UNFINISHED_DATABASE;
#[doc(hidden)]
pub use sqlite::ffi::column_names;
#[cfg(feature = "tokio")]
#[cfg_attr(docsrs, doc(cfg(feature = "tokio")))]
pub use store::{Store, StoreExt};
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
