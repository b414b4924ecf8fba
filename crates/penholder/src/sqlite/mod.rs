//! What this crate asks of SQLite, apart from what a write does.
//!
//! | file | what it has |
//! | --- | --- |
//! | `connection` | one connection with the settings of the pattern |
//! | `write_connection` | a connection that writes, with hooks on it |
//! | `fingerprint` | what decides what a statement means on a connection |
//! | `query`, `savepoint` | running one statement; the savepoint around one write |
//! | `reader_pool` | a bounded pool of connections that only read |
//! | `hooks` | SQLite's hooks on the writing connection |
//! | `plain_data` | which statements `execute`, `batch` and `query` refuse |
//! | `program` | whether a statement may keep changes when it fails |
//! | `sql` | what kind of statement a text is |
//! | `wal` | the WAL and its checkpoints |
//! | `checkpointer` | the connection that runs checkpoints |
//! | `busy_wait` | waiting for SQLite's own locks while the write lock is held |
//! | `integrity` | what is wrong in the content of a database |
//! | `open_files`, `watched_paths` | whether the paths still name what SQLite has open |
//! | `rescue` | saving what is only in files that have lost their names |
//! | `lock_bytes` | the bytes on which SQLite takes its locks |
//! | `ffi` | what rusqlite does not wrap |

pub(crate) mod busy_wait;
pub(crate) mod checkpointer;
pub(crate) mod connection;
pub(crate) mod ffi;
pub(crate) mod fingerprint;
pub(crate) mod hooks;
pub(crate) mod integrity;
pub(crate) mod lock_bytes;
pub(crate) mod open_files;
pub(crate) mod plain_data;
pub(crate) mod program;
pub(crate) mod query;
pub(crate) mod reader_pool;
pub(crate) mod rescue;
pub(crate) mod savepoint;
pub(crate) mod sql;
pub(crate) mod wal;
mod watched_paths;
pub(crate) mod write_connection;
