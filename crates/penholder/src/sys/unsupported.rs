//! A platform that this crate does not know yet: what is needed returns an error, what is
//! only looked at returns the answer that leads to no complaint.

use std::ffi::CStr;
use std::fs::{File, FileType, Metadata, Permissions};
use std::io;
use std::path::Path;

use super::descriptor::Descriptor;
use super::directory_stamp::DirectoryStamp;
use super::file_identity::{BornFile, FileId};
use super::file_ownership::Ownership;
use super::name::{NameRefusal, PathLimit};
use super::space::Space;
use super::system_call::{Observer, SystemCall};

/// The smallest of all platforms.
pub(crate) const PATH_LIMIT: PathLimit = PathLimit {
    longest: 259,
    unit: "bytes",
    next: "move it to a directory with a shorter path",
};

fn unsupported<T>(what: &str) -> io::Result<T> {
    let why = format!("{what} is not supported on this platform");
    Err(io::Error::new(io::ErrorKind::Unsupported, why))
}

/// Returns the length of a path.
pub(crate) fn path_length(path: &Path) -> usize {
    path.as_os_str().len()
}

/// Returns `None`: SQLite tells.
pub(crate) fn refuse_name(_path: &Path) -> Option<NameRefusal> {
    None
}

/// A path without links is the only one of its file.
pub(crate) const HAS_OTHER_SPELLINGS: bool = false;

/// Returns whether two paths are the same.
pub(crate) fn is_same_name(one: &Path, other: &Path) -> bool {
    one == other
}

/// Fails: two names of one file cannot be recognised.
pub(crate) fn file_id(_path: &Path) -> io::Result<FileId> {
    unsupported("the identity of a file")
}

/// Fails, as [`file_id`].
pub(crate) fn open_file_id(_file: &File) -> io::Result<FileId> {
    unsupported("the identity of a file")
}

/// Fails, as [`file_id`].
pub(crate) fn born_file(_path: &Path) -> io::Result<BornFile> {
    unsupported("the identity of a file")
}

/// Fails, as [`file_id`].
pub(crate) fn born_file_or_link(_path: &Path) -> io::Result<BornFile> {
    unsupported("the identity of a file")
}

/// Fails, as [`file_id`].
pub(crate) fn open_born_file(_file: &File) -> io::Result<BornFile> {
    unsupported("the identity of a file")
}

/// Whether a file, and its directory, can be renamed or deleted while SQLite has it open.
pub(crate) const DELETES_OPEN_FILES: bool = false;

/// Whether the system tells which processes have a file open, and by which name.
pub(crate) const SHOWS_OPENERS: bool = false;

/// Fails: how many names a file has is not known.
pub(crate) fn links(_path: &Path) -> io::Result<u64> {
    unsupported("the number of names of a file")
}

/// Returns `false`: nothing is tried again.
pub(crate) fn is_in_use(_error: &io::Error) -> bool {
    false
}

/// Fails: SQLite's system calls are not known.
pub(crate) fn system_calls(
    _observer: Observer,
) -> Result<Vec<(&'static CStr, SystemCall)>, &'static str> {
    Err("not on this platform")
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

/// Returns `true`: it is not known.
pub(crate) fn may_be_written_elsewhere(_path: &Path) -> bool {
    true
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
