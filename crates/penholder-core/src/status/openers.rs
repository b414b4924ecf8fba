//! Which processes have files open.

use std::path::{Path, PathBuf};
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

/// A process that has a file open by another path, with files of its own next to it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct OpenerElsewhere {
    /// The process.
    pub process: Process,
    /// The path, as the kernel shows it for that process. In another mount namespace it may
    /// mean another file here.
    pub path: PathBuf,
}

impl OpenerElsewhere {
    /// Finds the processes, this one too, that have `file` open together with a *companion* (a
    /// file whose path is that of the first with one of the suffixes) that is not the companion
    /// of `file`. Searches for `timeout` at most, and opens no file. A process that may not be
    /// examined is not found.
    ///
    /// Two processes that have one SQLite database open, each with a `-wal` of its own, corrupt
    /// it.
    #[must_use]
    pub fn of(file: &Path, suffixes: &[&str], timeout: Duration) -> Vec<Self> {
        let now = Instant::now();
        let end = now.checked_add(timeout).unwrap_or(now);
        let found = openers::openers_elsewhere(file, suffixes, end).into_iter();
        found
            .map(|one| Self {
                process: Process::of(one.pid),
                path: one.path,
            })
            .collect()
    }
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
