//! Files that other processes have open.

use std::path::PathBuf;

/// A descriptor by which a process has one of the files in question open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct OpenFile {
    /// The index of the file in the list that was asked about.
    pub(crate) file: usize,
    /// Whether the descriptor allows writing.
    pub(crate) writable: bool,
    /// Whether it is an older file of this name, which was deleted.
    pub(crate) deleted: bool,
}

/// A process that has at least one of the files open.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    pub(crate) pid: u32,
    /// One entry for each descriptor.
    pub(crate) open: Vec<OpenFile>,
}

/// A process that has a file open by another path, together with a companion of that path.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct OpenElsewhere {
    pub(crate) pid: u32,
    /// The path, as the kernel shows it for the process.
    pub(crate) path: PathBuf,
}
