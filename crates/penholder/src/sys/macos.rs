//! What is macOS's own.

use std::ffi::CStr;
use std::fs::File;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use rustix::fs::{Mode, OFlags};

use super::descriptor::Descriptor;
use super::directory_stamp::DirectoryStamp;
use super::system_call::{Observer, SystemCall};
use super::unix::system_calls;
pub(crate) use super::unix::*;

/// Where a child process has its number of forks in the number of a device or of a file, which SQLite
/// compares: above the bits in use. All 32 bits of a device number are in use, but a file has 64, of
/// which APFS uses no more than 60, and hands them out in order.
fn mark_forks(stat: &mut libc::stat, forks: u64) {
    stat.st_ino ^= forks << 48;
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
pub(crate) struct Directory(File);

impl Directory {
    /// Opens a directory by its path. Nothing in it is opened. This user has to be allowed to read it:
    /// there is no `O_PATH`.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
        Ok(Self(rustix::fs::open(path, flags, Mode::empty())?.into()))
    }

    /// Returns when a name in it was last created, deleted or changed, or its own name.
    pub(crate) fn stamp(&self) -> io::Result<DirectoryStamp> {
        let meta = self.0.metadata()?;
        let seconds = u64::try_from(meta.ctime()).unwrap_or(0);
        let nanos = u32::try_from(meta.ctime_nsec()).unwrap_or(0);
        Ok(DirectoryStamp(Duration::new(seconds, nanos)))
    }
}

/// Fails: a descriptor of another process cannot be opened again.
pub(crate) fn descriptors(_pid: u32) -> io::Result<Vec<Descriptor>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a new name in the directory survive a power cut.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let directory = File::open(directory)?;
    // By `F_FULLFSYNC`: `fsync` of macOS leaves it to the disk when to write what is in its cache. Not each
    // file system has that for directories.
    match directory.sync_all() {
        Err(_) => Ok(rustix::fs::fsync(&directory)?),
        done => done,
    }
}
