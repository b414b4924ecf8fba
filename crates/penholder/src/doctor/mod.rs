//! Examines a database: what is wrong with it or may go wrong, why that matters, and what to
//! do. Only looks.
//!
//! [`Doctor`] examines; its [`Report`] has the [`Finding`]s, each with a [`Check`] and a [`Severity`].

// | file | what it has |
// | --- | --- |
// | `report` | what was found |
// | `subject` | what is examined |
// | `text` | names, sizes and lists for people |
// | `opening` | what SQLite says: whether the database can be read, its settings, its content |
// | `files` | the file system, permissions, room, mounts, names, a journal that was left behind |
// | `leftovers` | what a killed process has left unfinished |
// | `wal` | the WAL, and who keeps it long |
// | `lock` | the holder of the write lock, the queue file, leases, the clock |
// | `processes` | which processes have it open: writers without the lock, their SQLite |
// | `detector` | which version of SQLite a program contains |
// | `examine` | runs all of these |

mod detector;
mod examine;
mod files;
mod leftovers;
mod lock;
mod opening;
mod processes;
mod report;
mod subject;
mod text;
mod wal;

use crate::location::Location;
pub use examine::Doctor;
pub use report::{Check, Finding, Report, Severity};

/// Returns what is unwise about a database, as far as its path shows it.
pub(crate) fn findings_on_opening(location: &Location) -> Vec<Finding> {
    let mut findings = vec![files::hard_links(location)];
    findings.retain(|finding| finding.severity > Severity::Info);
    findings
}
