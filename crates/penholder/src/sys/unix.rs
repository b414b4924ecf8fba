//! What Linux, macOS and other Unix systems have in common.

use std::fs::{File, FileType, Metadata, Permissions};
use std::io::{self, Read};
pub(crate) use std::os::fd::FromRawFd;
use std::os::unix::fs::{FileTypeExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, access, accessat, statvfs};
use rustix::io::Errno;

use super::types::{BornFile, FileId, Ownership, Space};

/// Returns which file it is.
pub(crate) fn file_id(file: &Metadata) -> io::Result<FileId> {
    Ok(FileId {
        device: file.dev(),
        inode: file.ino(),
    })
}

/// Returns which file it is, and when it was created.
pub(crate) fn born_file(file: &Metadata) -> io::Result<BornFile> {
    let born = file.created().ok();
    file_id(file).map(|id| BornFile { id, born })
}

/// Returns how many names (hard links) the file has.
pub(crate) fn links(file: &Metadata) -> u64 {
    file.nlink()
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
