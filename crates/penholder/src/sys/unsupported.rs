//! A platform that this crate does not know yet: what is needed returns an error, what is
//! only looked at returns the answer that leads to no complaint.

use std::fs::{FileType, Metadata, Permissions};
use std::io;
pub(crate) use std::os::fd::FromRawFd;
use std::path::Path;

use super::types::{BornFile, Descriptor, DirectoryStamp, FileId, Ownership, Space};

fn unsupported<T>(what: &str) -> io::Result<T> {
    let why = format!("{what} is not supported on this platform");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Fails: two names of one file cannot be recognised.
pub(crate) fn file_id(_file: &Metadata) -> io::Result<FileId> {
    unsupported("the identity of a file")
}

/// Does nothing: there are no forks, or nobody is told of them.
pub(crate) fn mark_forks(_stat: &mut libc::stat, _forks: u64) {}

/// Fails, as [`file_id`].
pub(crate) fn born_file(file: &Metadata) -> io::Result<BornFile> {
    file_id(file).map(|id| BornFile { id, born: None })
}

/// Returns one name.
pub(crate) fn links(_file: &Metadata) -> u64 {
    1
}

/// Tells directories from everything else.
pub(crate) fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else {
        "a special file"
    }
}

/// Returns `None`: who owns a file is not known.
pub(crate) fn ownership(_file: &Metadata) -> Option<Ownership> {
    None
}

/// Returns the permissions of the file as they are.
pub(crate) fn writable_by_owner(file: &Metadata) -> Permissions {
    file.permissions()
}

/// Returns `true`: opening the file tells.
pub(crate) fn may_read(_path: &Path) -> bool {
    true
}

/// Returns `true`: writing the file tells.
pub(crate) fn may_write(_path: &Path) -> bool {
    true
}

/// Returns `true`: creating a file tells.
pub(crate) fn may_add_files(_directory: &Path) -> bool {
    true
}

/// Creates an empty file.
pub(crate) fn create_as_sqlite(path: &Path) -> io::Result<()> {
    std::fs::File::create_new(path).map(drop)
}

/// Fails: the room is not known.
pub(crate) fn free_space(_directory: &Path) -> io::Result<Space> {
    unsupported("the room on a disk")
}

/// There is none: all files have to be compared.
#[derive(Debug)]
pub(crate) enum Directory {}

impl Directory {
    pub(crate) fn open(_path: &Path) -> io::Result<Self> {
        unsupported("a directory")
    }

    pub(crate) fn stamp(&self) -> io::Result<DirectoryStamp> {
        match *self {}
    }
}

/// Fails: what a process has open is not known.
pub(crate) fn descriptors(_pid: u32) -> io::Result<Vec<Descriptor>> {
    unsupported("the open files of a process")
}

/// Fails.
pub(crate) fn read_start<const LENGTH: usize>(_path: &Path) -> io::Result<[u8; LENGTH]> {
    unsupported("a file of another process")
}

/// Fails: the new name may not survive a power cut.
pub(crate) fn sync_directory(_directory: &Path) -> io::Result<()> {
    unsupported("syncing a directory")
}

/// Fails.
#[cfg(test)]
pub(crate) fn symlink(_target: impl AsRef<Path>, _link: impl AsRef<Path>) -> io::Result<()> {
    unsupported("a symbolic link")
}
