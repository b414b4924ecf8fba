//! What this crate asks of SQLite, apart from what a write does.
//!
//! | file | what it has |
//! | --- | --- |
//! | `connection` | one connection with the settings of the pattern |
//! | `reader_pool` | a bounded pool of connections that only read |
//! | `hooks` | SQLite's hooks on the writing connection |
//! | `sql` | what kind of statement a text is |
//! | `wal` | the WAL and its checkpoints |
//! | `checkpointer` | the connection that runs checkpoints |
//! | `lock_bytes` | the bytes on which SQLite takes its locks |
//! | `ffi` | what rusqlite does not wrap |

pub(crate) mod checkpointer;
pub(crate) mod connection;
pub(crate) mod ffi;
pub(crate) mod hooks;
pub(crate) mod lock_bytes;
pub(crate) mod reader_pool;
pub(crate) mod sql;
pub(crate) mod wal;
