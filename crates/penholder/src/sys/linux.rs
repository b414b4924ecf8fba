//! What is Linux's own.

use std::ffi::CStr;
use std::fs::{self, File};
use std::io;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{AtFlags, Mode, OFlags, StatxFlags};

use super::descriptor::Descriptor;
use super::directory_stamp::DirectoryStamp;
use super::system_call::{Observer, SystemCall};
use super::unix::system_calls;
pub(crate) use super::unix::*;

/// Where a child process has its number of forks in the number of a device or of a file, which SQLite
/// compares: above the bits in use. Linux has 12 bits of major and 20 of minor number, which glibc
/// spreads over the lowest 44.
fn mark_forks(stat: &mut libc::stat, forks: u64) {
    stat.st_dev ^= forks << 44;
}

/// Returns functions in place of system calls of SQLite, by the names that its VFS gives them.
///
/// # Errors
///
/// This is not a 64-bit system.
pub(crate) fn system_calls(
    observer: Observer,
) -> Result<Vec<(&'static CStr, SystemCall)>, &'static str> {
    system_calls::system_calls(observer, mark_forks)
}

/// A directory that is only looked at.
#[derive(Debug)]
pub(crate) struct Directory(OwnedFd);

impl Directory {
    /// Opens a directory by its path. Nothing in it is opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?))
    }

    /// Returns when a name in it was last created, deleted or changed, or its own name.
    pub(crate) fn stamp(&self) -> io::Result<DirectoryStamp> {
        let wanted = StatxFlags::CTIME;
        let stat = rustix::fs::statx(&self.0, c"", AtFlags::EMPTY_PATH, wanted)?;
        let seconds = u64::try_from(stat.stx_ctime.tv_sec).unwrap_or(0);
        Ok(DirectoryStamp(Duration::new(
            seconds,
            stat.stx_ctime.tv_nsec,
        )))
    }
}

/// Returns what a process has open. Nothing is opened.
pub(crate) fn descriptors(pid: u32) -> io::Result<Vec<Descriptor>> {
    let descriptor = |entry: io::Result<fs::DirEntry>| {
        let path = entry.ok()?.path();
        // It may have been closed since.
        let target = fs::read_link(&path).ok()?;
        Some(Descriptor { path, target })
    };
    let entries = fs::read_dir(format!("/proc/{pid}/fd"))?;
    Ok(entries.filter_map(descriptor).collect())
}

/// Makes a new name in the directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    File::open(directory)?.sync_all()
}
