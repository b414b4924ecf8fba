//! The files that a process has open, from `/proc/<pid>/fd`.

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crate::sys::file_id::FileId;
use crate::sys::unix::file::id_in;

/// What the kernel appends to the name of a file that has none any more.
pub(in crate::sys) const DELETED: &str = " (deleted)";

/// A file that a process has open.
#[derive(Debug)]
pub(in crate::sys) struct ProcessFile {
    /// `/proc/<pid>`.
    process: PathBuf,
    number: OsString,
    target: PathBuf,
}

/// Returns the files that a process has open; `None` if they may not be read.
pub(in crate::sys) fn of(pid: u32) -> Option<impl Iterator<Item = ProcessFile>> {
    let process = PathBuf::from(format!("/proc/{pid}"));
    let entries = fs::read_dir(process.join("fd")).ok()?.flatten();
    Some(entries.filter_map(move |entry| {
        Some(ProcessFile {
            // It may have been closed since.
            target: fs::read_link(entry.path()).ok()?,
            number: entry.file_name(),
            process: process.clone(),
        })
    }))
}

impl ProcessFile {
    /// Returns where it leads, as the kernel writes it.
    pub(in crate::sys) fn target(&self) -> &Path {
        &self.target
    }

    /// Returns where it leads, with [`DELETED`] after the path of a file that has no name any more.
    pub(in crate::sys) fn shown_path(self) -> PathBuf {
        self.target
    }

    /// Returns which file it is, and how many names that has.
    pub(in crate::sys) fn identity(&self) -> Option<(FileId, u64)> {
        let meta = self.process.join("fd").join(&self.number).metadata().ok()?;
        Some((id_in(&meta), meta.nlink()))
    }

    /// Returns whether it was opened for writing: the last two bits are 0 for reading only.
    pub(in crate::sys) fn is_writable(&self) -> bool {
        flags_in(&self.info()).is_some_and(|flags| flags & 3 != 0)
    }

    /// Returns what the kernel says of the descriptor; empty if it may not be read.
    pub(in crate::sys) fn info(&self) -> String {
        let info = self.process.join("fdinfo").join(&self.number);
        fs::read_to_string(info).unwrap_or_default()
    }
}

/// Finds the flags in a line like `flags: 0100002`, in octal.
pub(in crate::sys) fn flags_in(info: &str) -> Option<u32> {
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"))?;
    u32::from_str_radix(flags.trim(), 8).ok()
}
