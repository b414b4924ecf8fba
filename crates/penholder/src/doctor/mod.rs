//! What is wrong with a database, or may go wrong: each finding with why it matters
//! and what to do. Only looks.
//!
//! | file | what it looks at |
//! | --- | --- |
//! | `opening` | what SQLite says of it: can it be read, its settings, its content |
//! | `files` | the file system, permissions, room, names, a journal left behind |
//! | `wal` | the log and who keeps it from being started anew |
//! | `lock` | the lock's holder, its page, the clock |
//! | `processes` | who has it open: writers without the lock, their SQLite |
//! | `version` | which version of SQLite a program contains, and which are affected |

mod files;
mod lock;
mod opening;
mod processes;
mod report;
mod version;
mod wal;

pub use report::{Check, Doctor, Finding, Report, Severity};
