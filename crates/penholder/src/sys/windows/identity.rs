//! Which file a path leads to. It is opened without any access right, which Windows refuses to
//! none that may see it, and which disturbs no other process. The locks of SQLite belong to handles
//! here: opening and closing another one does not drop them.

use std::fs::File;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;

use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_ID_INFO, FileIdInfo, GetFileInformationByHandle, GetFileInformationByHandleEx,
};

use super::call::{SHARE_ALL, code_of, succeeded};
use crate::sys::file_identity::{BornFile, FileId};

/// Opens a file or a directory to look at it.
pub(super) fn open_to_look(path: &Path) -> io::Result<File> {
    open(path, FILE_FLAG_BACKUP_SEMANTICS)
}

fn open(path: &Path, flags: u32) -> io::Result<File> {
    let mut options = File::options();
    options.access_mode(0).share_mode(SHARE_ALL);
    options.custom_flags(flags).open(path)
}

/// Returns which file a path leads to.
pub(crate) fn file_id(path: &Path) -> io::Result<FileId> {
    open_file_id(&open_to_look(path)?)
}

/// Returns which file this one is, which is open.
pub(crate) fn open_file_id(file: &File) -> io::Result<FileId> {
    open_born_file(file).map(|file| file.id)
}

/// Returns which file a path leads to, and when it was created.
pub(crate) fn born_file(path: &Path) -> io::Result<BornFile> {
    open_born_file(&open_to_look(path)?)
}

/// Does the same without following a link.
pub(crate) fn born_file_or_link(path: &Path) -> io::Result<BornFile> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS | FILE_FLAG_OPEN_REPARSE_POINT;
    open_born_file(&open(path, flags)?)
}

/// Returns which file this one is, which is open, and when it was created.
///
/// A long identity is never given to another file; so the time, which programs can set, is left out.
pub(crate) fn open_born_file(file: &File) -> io::Result<BornFile> {
    match long_id(file) {
        Ok(id) => Ok(BornFile { id, born: None }),
        Err(error) if is_unknown(&error) => {
            let id = short_id(file)?;
            let born = file.metadata()?.created().ok();
            Ok(BornFile { id, born })
        }
        Err(error) => Err(error),
    }
}

/// Returns how many names (hard links) a file has.
pub(crate) fn links(path: &Path) -> io::Result<u64> {
    let file = open_to_look(path)?;
    information(&file).map(|found| found.nNumberOfLinks.into())
}

/// The identity that every file of a volume keeps, with 128 bits.
fn long_id(file: &File) -> io::Result<FileId> {
    let mut found = FILE_ID_INFO::default();
    let size = u32::try_from(size_of::<FILE_ID_INFO>()).unwrap_or(0);
    let handle = file.as_raw_handle();
    // SAFETY: the handle is open while the file is borrowed, and the result has room for `size`
    // bytes.
    let done =
        unsafe { GetFileInformationByHandleEx(handle, FileIdInfo, (&raw mut found).cast(), size) };
    succeeded(done)?;
    Ok(FileId {
        device: found.VolumeSerialNumber,
        inode: u128::from_le_bytes(found.FileId.Identifier),
    })
}

/// Whether a file system, as FAT, does not know the long identity. Any other error must not lead to
/// the short one: a file must not have two.
fn is_unknown(error: &io::Error) -> bool {
    matches!(
        code_of(error),
        Some(ERROR_INVALID_PARAMETER | ERROR_INVALID_FUNCTION | ERROR_NOT_SUPPORTED)
    )
}

fn short_id(file: &File) -> io::Result<FileId> {
    let found = information(file)?;
    let index = u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow);
    Ok(FileId {
        device: found.dwVolumeSerialNumber.into(),
        inode: index.into(),
    })
}

fn information(file: &File) -> io::Result<BY_HANDLE_FILE_INFORMATION> {
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open while the file is borrowed, and the result has room.
    let done = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) };
    succeeded(done).map(|()| found)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;

    #[test]
    fn two_names_of_one_file_have_one_identity() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two, other] = ["one.db", "two.db", "other.db"].map(|n| directory.path().join(n));
        fs::write(&one, b"").unwrap();
        fs::write(&other, b"").unwrap();
        assert_eq!(links(&one).unwrap(), 1);
        fs::hard_link(&one, &two).unwrap();
        assert_eq!(links(&one).unwrap(), 2);
        assert_eq!(file_id(&one).unwrap(), file_id(&two).unwrap());
        assert_eq!(
            file_id(&one).unwrap(),
            file_id(&directory.path().join("ONE.DB")).unwrap()
        );
        assert_ne!(file_id(&one).unwrap(), file_id(&other).unwrap());
        let open = File::open(&one).unwrap();
        assert_eq!(open_file_id(&open).unwrap(), file_id(&one).unwrap());
        assert_eq!(open_born_file(&open).unwrap(), born_file(&one).unwrap());
        assert!(file_id(directory.path()).is_ok(), "of a directory too");
    }

    #[test]
    fn a_missing_file_is_reported_as_missing() {
        let directory = tempfile::tempdir().unwrap();
        let error = file_id(&directory.path().join("x.db")).unwrap_err();
        assert_eq!(error.kind(), io::ErrorKind::NotFound);
    }

    #[test]
    fn both_identities_tell_files_apart() {
        let directory = tempfile::tempdir().unwrap();
        let file = |name: &str| {
            let path = directory.path().join(name);
            fs::write(&path, b"").unwrap();
            File::open(path).unwrap()
        };
        let (one, other) = (file("one"), file("other"));
        assert_ne!(short_id(&one).unwrap(), short_id(&other).unwrap());
        assert_eq!(short_id(&one).unwrap(), short_id(&one).unwrap());
    }
}
