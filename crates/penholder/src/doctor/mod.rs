//! Examines a database: what is wrong with it or may go wrong, why that matters, and what to
//! do. Only looks.
//!
//! | file | what it has |
//! | --- | --- |
//! | `report` | what was found |
//! | `subject` | what is examined |
//! | `text` | names, sizes and lists for people |
//! | `opening` | what SQLite says: whether the database can be read, its settings, its content |
//! | `files` | the file system, permissions, room, names, a journal that was left behind |
//! | `wal` | the WAL, and who keeps it long |
//! | `lock` | the holder of the write lock, the queue file, the clock |
//! | `processes` | which processes have it open: writers without the lock, their SQLite |
//! | `version` | which version of SQLite a program contains, and which versions are affected |
//! | `examine` | runs all of these |

mod examine;
mod files;
mod lock;
mod opening;
mod processes;
mod report;
mod subject;
mod text;
mod version;
mod wal;

pub use examine::Doctor;
pub use report::{Check, Finding, Report, Severity};
