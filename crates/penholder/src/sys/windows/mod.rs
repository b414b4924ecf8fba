#![expect(unsafe_code, reason = "calls of the Windows API")]
//! Windows, with the file systems NTFS and ReFS; FAT as far as it goes.

mod call;
mod directory;
mod identity;
mod name;
mod system_calls;

use std::fs::{File, FileType, Metadata, Permissions};
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::path::Path;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_LOCK_VIOLATION, ERROR_SHARING_VIOLATION, GENERIC_READ, GENERIC_WRITE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_ADD_FILE, FILE_FLAG_BACKUP_SEMANTICS, FILE_SHARE_DELETE, FILE_SHARE_READ,
    GetDiskFreeSpaceExW,
};

use super::descriptor::Descriptor;
use super::file_ownership::Ownership;
use super::space::Space;
use call::{SHARE_ALL, code_of, succeeded, wide};
pub(crate) use directory::{Directory, sync_directory};
pub(crate) use identity::{
    born_file, born_file_or_link, file_id, links, open_born_file, open_file_id,
};
pub(crate) use name::{HAS_OTHER_SPELLINGS, PATH_LIMIT, is_same_name, path_length, refuse_name};
pub(crate) use system_calls::system_calls;

/// Whether a file, and its directory, can be renamed or deleted while SQLite has it open. SQLite shares
/// its files with others for reading and writing only.
pub(crate) const DELETES_OPEN_FILES: bool = false;

/// Whether the system tells which processes have a file open, and by which name.
pub(crate) const SHOWS_OPENERS: bool = false;

/// Returns whether another process has the file open in a way that keeps it from being opened,
/// renamed or deleted. A file that is deleted but still open is reported as "access denied", which
/// may also mean that this user has no permission.
pub(crate) fn is_in_use(error: &io::Error) -> bool {
    matches!(
        code_of(error),
        Some(ERROR_SHARING_VIOLATION | ERROR_LOCK_VIOLATION | ERROR_ACCESS_DENIED)
    )
}

/// Names what a file is that is not a regular file.
pub(crate) fn kind(kind: FileType) -> &'static str {
    if kind.is_dir() {
        "a directory"
    } else if kind.is_symlink() {
        "a link that cannot be followed"
    } else {
        "a device"
    }
}

/// Returns `None`: there are no permission bits.
pub(crate) fn ownership(_file: &Metadata) -> Option<Ownership> {
    None
}

/// Returns the permissions of a file without the attribute that forbids writing.
#[expect(
    clippy::permissions_set_readonly_false,
    reason = "an attribute here, and no permission bits"
)]
pub(crate) fn writable_by_owner(file: &Metadata) -> Permissions {
    let mut permissions = file.permissions();
    permissions.set_readonly(false);
    permissions
}

/// Creates an empty file. It inherits the permissions of its directory, as that of SQLite does.
pub(crate) fn create_as_sqlite(path: &Path) -> io::Result<()> {
    File::create_new(path).map(drop)
}

/// Returns whether this user may read the file. It is opened for a moment, which disturbs neither
/// SQLite's locks nor other processes.
pub(crate) fn may_read(path: &Path) -> bool {
    may(path, GENERIC_READ, 0)
}

/// Returns whether this user may write the file, which is opened as in [`may_read`].
pub(crate) fn may_write(path: &Path) -> bool {
    may(path, GENERIC_WRITE, 0)
}

/// Returns whether this user may create files in the directory. None is created.
pub(crate) fn may_add_files(directory: &Path) -> bool {
    may(directory, FILE_ADD_FILE, FILE_FLAG_BACKUP_SEMANTICS)
}

fn may(path: &Path, access: u32, flags: u32) -> bool {
    let mut options = File::options();
    options.access_mode(access).share_mode(SHARE_ALL);
    match options.custom_flags(flags).open(path) {
        Ok(_) => true,
        // Only who may open it is told that another process does not let it be opened now.
        Err(error) => is_sharing_violation(&error),
    }
}

fn is_sharing_violation(error: &io::Error) -> bool {
    error.kind() != io::ErrorKind::PermissionDenied && is_in_use(error)
}

/// Returns whether a process may have the file open for writing. If none has, no process can open it
/// so during this call: not to be asked of files that are in use all the time.
pub(crate) fn may_be_written_elsewhere(path: &Path) -> bool {
    let mut options = File::options();
    options
        .read(true)
        .share_mode(FILE_SHARE_READ | FILE_SHARE_DELETE);
    path.is_file() && options.open(path).is_err()
}

/// Returns how much room the file system of the directory has. The number of files is not limited.
pub(crate) fn free_space(directory: &Path) -> io::Result<Space> {
    let directory = wide(directory);
    let mut bytes = 0;
    let (total, free) = (std::ptr::null_mut(), std::ptr::null_mut());
    // SAFETY: the path ends with a zero, the result has room, and the others are not wanted.
    let done = unsafe { GetDiskFreeSpaceExW(directory.as_ptr(), &raw mut bytes, total, free) };
    succeeded(done)?;
    Ok(Space {
        bytes,
        has_files: true,
    })
}

/// Fails: Windows does not tell what another process has open.
pub(crate) fn descriptors(_pid: u32) -> io::Result<Vec<Descriptor>> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Fails, as [`descriptors`].
pub(crate) fn read_start<const LENGTH: usize>(_path: &Path) -> io::Result<[u8; LENGTH]> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Makes a symbolic link to a file, which Windows permits to few users, and Wine only pretends to.
#[cfg(test)]
pub(crate) fn symlink(target: impl AsRef<Path>, link: impl AsRef<Path>) -> io::Result<()> {
    std::os::windows::fs::symlink_file(target, &link)?;
    link.as_ref().symlink_metadata().map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn permissions_are_found_without_a_change() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x.db");
        assert!(!may_read(&file) && !may_write(&file));
        create_as_sqlite(&file).unwrap();
        let written = file.metadata().unwrap().modified().unwrap();
        assert!(may_read(&file) && may_write(&file));
        assert!(may_add_files(directory.path()));
        assert!(!may_add_files(&directory.path().join("missing")));
        let mut permissions = file.metadata().unwrap().permissions();
        permissions.set_readonly(true);
        std::fs::set_permissions(&file, permissions).unwrap();
        if File::options().write(true).open(&file).is_ok() {
            eprintln!("SKIPPED: the user of Wine is root, who may write everything");
        } else {
            assert!(may_read(&file) && !may_write(&file));
        }
        let meta = file.metadata().unwrap();
        assert_eq!(meta.modified().unwrap(), written);
        std::fs::set_permissions(&file, writable_by_owner(&meta)).unwrap();
        assert!(may_write(&file));
    }

    #[test]
    fn a_file_that_sqlite_has_open_keeps_its_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        let connection = rusqlite::Connection::open(path("x.db")).unwrap();
        let sql = "PRAGMA journal_mode=WAL; CREATE TABLE t(x)";
        connection.execute_batch(sql).unwrap();
        std::fs::write(path("other"), b"").unwrap();
        for name in ["x.db", "x.db-wal", "x.db-shm"] {
            assert!(std::fs::remove_file(path(name)).is_err(), "{name}");
            assert!(std::fs::rename(path(name), path("away")).is_err(), "{name}");
            assert!(
                std::fs::rename(path("other"), path(name)).is_err(),
                "{name}"
            );
        }
        connection
            .execute_batch("INSERT INTO t VALUES (1)")
            .unwrap();
    }

    #[test]
    fn a_file_that_another_has_open_alone_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let mut alone = File::options();
        alone.write(true).create(true).share_mode(0);
        let alone = alone.open(&path).unwrap();
        let error = File::open(&path).unwrap_err();
        assert!(is_in_use(&error), "{error}");
        assert!(may_read(&path), "this user may, once it is closed");
        assert!(file_id(&path).is_ok(), "looking at it needs no access");
        drop(alone);
        assert!(!is_in_use(
            &File::open(directory.path().join("y")).unwrap_err()
        ));
    }

    #[test]
    fn a_file_that_is_written_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let open = File::create(&path).unwrap();
        assert!(may_be_written_elsewhere(&path));
        drop(open);
        assert!(!may_be_written_elsewhere(&path));
        assert!(!may_be_written_elsewhere(directory.path()));
    }

    #[test]
    fn a_disk_has_room() {
        let directory = tempfile::tempdir().unwrap();
        let space = free_space(directory.path()).unwrap();
        assert!(space.bytes > 0 && space.has_files);
        assert!(free_space(&directory.path().join("missing")).is_err());
    }
}
