//! Many processes, one SQLite database, one pen.
//!
//! SQLite lets one connection write at a time. Programs that start several
//! processes on one file meet `database is locked`: SQLite waits by polling,
//! nobody is first, and the error names the victim, never the culprit. This
//! crate is the *single-writer pattern* done properly: whoever writes takes a
//! lock beside the database first, waits no longer than it said, and a timeout
//! says who is in the way.
//!
//! ```
//! use penholder::Database;
//!
//! # fn main() -> penholder::Result<()> {
//! # let folder = tempfile::tempdir().unwrap();
//! # let path = folder.path().join("app.db");
//! let db = Database::open(path)?;
//! db.execute("CREATE TABLE IF NOT EXISTS note(text)", ())?;
//! db.write(|tx| tx.execute("INSERT INTO note VALUES ('hello')", []).map_err(penholder::Error::from))?;
//! let notes: i64 = db.query("SELECT count(*) AS n FROM note", ())?.get(0, "n")?;
//! assert_eq!(notes, 1);
//! # Ok(())
//! # }
//! ```
//!
//! # Where to look
//!
//! - [`Database`]: [`write`](Database::write), [`execute`](Database::execute),
//!   [`batch`](Database::batch), [`query`](Database::query),
//!   [`read`](Database::read); [`Options`] to open it differently.
//! - [`Error`]: what went wrong, and who was in the way.
//! - [`checkpoint`](Database::checkpoint), [`vacuum`](Database::vacuum),
//!   [`backup_to`](Database::backup_to), [`migrate`](Database::migrate).
//! - [`Doctor`]: what is wrong with a database, or may go wrong.
//! - [`lock`]: the write lock by itself, for programs that use another SQLite
//!   library.
//!
//! # What an acknowledgement means
//!
//! When a writing call returns `Ok`, the write is committed and survives the
//! death of every process. With `synchronous=NORMAL`, the default, it may not
//! survive a power cut; [`Synchronous::Full`] is for that.
//!
//! # What it does not do
//!
//! It is no new engine and has no several writers at once. It does not work over
//! a network file system and refuses one. It needs no daemon. Programs that
//! write without it are not stopped: SQLite's own lock still guards the data,
//! and the error says that an outsider was in the way.
//!
//! # Async
//!
//! With the feature `tokio` there is an `AsyncDatabase` with the same operations as
//! futures. No thread of the runtime blocks, and a future that is dropped before it
//! has the lock leaves no trace.
//!
//! # Forks
//!
//! A `Database` may be used in a forked child: it leaves the parent's
//! connections alone and opens its own. A child forked inside a closure of
//! [`Database::write`] gets an error, and the parent's transaction goes on.

#[macro_use]
mod failpoint;

mod batch;
mod carrier;
mod carry;
mod connection;
mod database;
mod doctor;
mod error;
mod ffi;
mod group;
mod location;
mod log;
mod maintenance;
mod options;
mod pace;
mod parcel;
mod readers;
#[cfg(feature = "tokio")]
mod task;
mod value;
mod watch;
mod writer;

pub use database::Database;
pub use doctor::{Check, Doctor, Finding, Report, Severity};
pub use error::{Error, Result};
pub use maintenance::Checkpoint;
pub use options::{GroupCommit, GroupLimits, Options, Synchronous};
pub use penholder_lock as lock;
pub use rusqlite;
#[cfg(feature = "tokio")]
pub use task::AsyncDatabase;
pub use value::{Executed, IntoParams, Rows, Statement, Value};
pub use writer::Transaction;

/// The version of the SQLite library in this program.
#[must_use]
pub fn sqlite_version() -> &'static str {
    rusqlite::version()
}
