//! Which processes have files open.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use super::process::Process;
use crate::sys::{openers, process};

/// The processes that have some files open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Openers {
    /// In the order of their process ids.
    pub found: Vec<Opener>,
    /// Whether every process could be examined. Processes of other users can be
    /// examined only by root, and processes outside a container not from inside it.
    pub complete: bool,
}

/// A process that has at least one of some files open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opener {
    /// The process.
    pub process: Process,
    /// The process ids of its parent, its parent's parent, and so on.
    pub ancestors: Vec<u32>,
    /// The files that it has open, one entry per descriptor.
    pub open: Vec<Opened>,
}

/// A file that a process has open.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Opened {
    /// The file, by the path that was asked about.
    pub path: PathBuf,
    /// Whether the process can write to it.
    pub writable: bool,
    /// Whether it is an older file of this name, which was deleted.
    pub deleted: bool,
}

impl Openers {
    /// Finds the processes that have one of these files open, within `timeout`. No file is opened, so this is safe for a database that SQLite has
    /// open in this process.
    #[must_use]
    pub fn of(files: &[PathBuf], timeout: Duration) -> Self {
        let now = Instant::now();
        let (found, complete) = openers::openers(files, now.checked_add(timeout).unwrap_or(now));
        let opened = |open: openers::OpenFile| Opened {
            path: files[open.file].clone(),
            writable: open.writable,
            deleted: open.deleted,
        };
        let mut found: Vec<_> = found
            .into_iter()
            .map(|found| Opener {
                process: Process::of(found.pid),
                ancestors: process::ancestors(found.pid),
                open: found.open.into_iter().map(opened).collect(),
            })
            .collect();
        found.sort_by_key(|opener| opener.process.pid);
        Self { found, complete }
    }
}
