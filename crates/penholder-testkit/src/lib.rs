//! Test support for the crates of this workspace. It is not published.
//!
//! | module | what a test gets from it |
//! | --- | --- |
//! | [`peer`] | helper processes: the test binary, started again in a role |
//! | [`wait`] | bounded waits and measured times |
//! | [`requirement`] | what a test needs from the machine, and a visible skip without it |
//! | [`lock_fixture`] | processes that take the lock on command, a counter that shows overlaps |
//! | [`portable`] | what each system does in its own way |
//! | [`queue_file`] | where things stand in the queue file |
//! | [`raw_file`] | bytes, identities and locks of files, as a program without penholder sees them |
//! | `file_size_limit` | a full disk without a file system of its own |
//! | `tmpfs` | a small file system that can be filled |
//! | `database_fixture` | a directory with a database (feature `database`) |
//! | `numbered_writes` | writers in many ways, and that nothing acknowledged is lost (feature `database`) |
//! | `plain_sqlite` | SQLite without the write lock (feature `database`) |
//! | `recorder` | what `tracing` and `metrics` were told (feature `database`) |
//! | `lease_fixture` | connections with a lease, and a plain one in another process (feature `lease`) |
//! | `extension_fixture` | the loadable extension, built (feature `extension`) |
//! | `command_fixture` | a directory with a database and the command (feature `command`) |
//! | `terminal` | a command on a pseudo-terminal (feature `command`) |
//! | `snapshot` | texts compared with their approved versions (feature `command`) |
//!
//! Unit tests inside `penholder-lock` and `penholder` must not pass this crate's types
//! to the crate under test: a unit test is compiled into a second copy of its crate,
//! and the types of the two copies differ.
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::print_stderr,
    reason = "a failed assumption of a test ends the test with a panic"
)]

#[cfg(feature = "command")]
pub mod command_fixture;
#[cfg(feature = "database")]
pub mod database_fixture;
#[cfg(feature = "extension")]
pub mod extension_fixture;
#[cfg(unix)]
pub mod file_size_limit;
#[cfg(feature = "lease")]
pub mod lease_fixture;
pub mod lock_fixture;
#[cfg(feature = "database")]
pub mod numbered_writes;
pub mod peer;
#[cfg(feature = "database")]
pub mod plain_sqlite;
pub mod portable;
pub mod queue_file;
pub mod raw_file;
#[cfg(feature = "database")]
pub mod recorder;
pub mod requirement;
#[cfg(feature = "command")]
pub mod snapshot;
mod sys;
#[cfg(all(unix, feature = "command"))]
pub mod terminal;
#[cfg(unix)]
pub mod tmpfs;
pub mod wait;
