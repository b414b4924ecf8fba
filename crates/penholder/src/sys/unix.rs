//! What Linux, macOS and other Unix systems have in common.

pub(super) mod system_calls;

use std::fs::{File, FileType, Metadata, Permissions};
use std::io::{self, Read};
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, access, accessat, statvfs};
use rustix::io::Errno;

use super::file_identity::{BornFile, FileId};
use super::file_ownership::Ownership;
use super::name::{NameRefusal, PathLimit};
use super::space::Space;

/// `MAX_PATHNAME` of SQLite (`os_unix.c`).
pub(crate) const PATH_LIMIT: PathLimit = PathLimit {
    longest: 512,
    unit: "bytes",
    next: if cfg!(target_os = "linux") {
        "move it, or shorten its path with a bind mount"
    } else {
        "move it to a shorter path"
    },
};

/// Returns the length of a path, as SQLite limits it.
pub(crate) fn path_length(path: &Path) -> usize {
    path.as_os_str().len()
}

/// Returns `None`: a file can have every name.
pub(crate) fn refuse_name(_path: &Path) -> Option<NameRefusal> {
    None
}

/// A path without links is the only one of its file.
pub(crate) const HAS_OTHER_SPELLINGS: bool = false;

/// Returns whether two paths in one spelling are the same.
pub(crate) fn is_same_name(one: &Path, other: &Path) -> bool {
    one == other
}

/// Returns which file a path leads to.
pub(crate) fn file_id(path: &Path) -> io::Result<FileId> {
    path.metadata().map(|file| id_of(&file))
}

/// Returns which file this one is, which is open.
pub(crate) fn open_file_id(file: &File) -> io::Result<FileId> {
    file.metadata().map(|file| id_of(&file))
}

/// Returns which file a path leads to, and when it was created.
pub(crate) fn born_file(path: &Path) -> io::Result<BornFile> {
    path.metadata().map(|file| born(&file))
}

/// Does the same without following a link.
pub(crate) fn born_file_or_link(path: &Path) -> io::Result<BornFile> {
    path.symlink_metadata().map(|file| born(&file))
}

/// Returns which file this one is, which is open, and when it was created.
pub(crate) fn open_born_file(file: &File) -> io::Result<BornFile> {
    file.metadata().map(|file| born(&file))
}

fn id_of(file: &Metadata) -> FileId {
    FileId {
        device: file.dev(),
        inode: file.ino().into(),
    }
}

fn born(file: &Metadata) -> BornFile {
    BornFile {
        id: id_of(file),
        born: file.created().ok(),
    }
}

/// Whether a file, and its directory, can be renamed or deleted while SQLite has it open.
pub(crate) const DELETES_OPEN_FILES: bool = true;

/// Whether the system tells which processes have a file open, and by which name.
pub(crate) const SHOWS_OPENERS: bool = true;

/// Returns how many names (hard links) a file has.
pub(crate) fn links(path: &Path) -> io::Result<u64> {
    path.metadata().map(|file| file.nlink())
}

/// Returns `false`: a file can be opened, renamed and deleted while other processes have it open.
pub(crate) fn is_in_use(_error: &io::Error) -> bool {
    false
}

/// Names what a file is that is not a regular file.
pub(crate) fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

/// Returns who owns the file and who may use it; `None` if the platform has no such thing.
pub(crate) fn ownership(file: &Metadata) -> Option<Ownership> {
    Some(Ownership {
        user: file.uid(),
        group: file.gid(),
        mode: file.mode() & 0o7777,
    })
}

/// Returns the permissions of a file, and those of its owner to read and write it.
pub(crate) fn writable_by_owner(file: &Metadata) -> Permissions {
    Permissions::from_mode(file.mode() & 0o777 | 0o600)
}

/// Creates an empty file with the permissions that SQLite gives to a new database: those of
/// `SQLITE_DEFAULT_FILE_PERMISSIONS`, less the umask.
pub(crate) fn create_as_sqlite(path: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.write(true).create_new(true).mode(0o644);
    options.open(path).map(drop)
}

/// Returns whether this user may read the file. It is not opened.
pub(crate) fn may_read(path: &Path) -> bool {
    may(path, Access::READ_OK)
}

/// Returns whether this user may write the file. It is not opened.
pub(crate) fn may_write(path: &Path) -> bool {
    may(path, Access::WRITE_OK)
}

/// Returns whether this user may create files in the directory.
pub(crate) fn may_add_files(directory: &Path) -> bool {
    may(directory, Access::WRITE_OK | Access::EXEC_OK)
}

/// Asks for the user that this process acts as, as opening the file would.
fn may(path: &Path, wanted: Access) -> bool {
    match accessat(CWD, path, wanted, AtFlags::EACCESS) {
        // Kernels before Linux 5.8 know only the real user.
        Err(Errno::NOSYS | Errno::INVAL) => access(path, wanted).is_ok(),
        answer => answer.is_ok(),
    }
}

/// Returns `true`: it cannot be told from the file.
pub(crate) fn may_be_written_elsewhere(_path: &Path) -> bool {
    true
}

/// Returns how much room the file system of the directory has.
pub(crate) fn free_space(directory: &Path) -> io::Result<Space> {
    let disk = statvfs(directory)?;
    Ok(Space {
        bytes: disk.f_bavail.saturating_mul(disk.f_frsize),
        // Some file systems do not count files.
        has_files: disk.f_files == 0 || disk.f_favail > 0,
    })
}

/// Reads the first bytes of a file. Never waits, also if it is a FIFO.
pub(crate) fn read_start<const LENGTH: usize>(path: &Path) -> io::Result<[u8; LENGTH]> {
    let mut bytes = [0; LENGTH];
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::CLOEXEC;
    File::from(rustix::fs::open(path, flags, Mode::empty())?).read_exact(&mut bytes)?;
    Ok(bytes)
}

/// Makes a symbolic link.
#[cfg(test)]
pub(crate) fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    std::os::unix::fs::symlink(target, link)
}
