//! Directories.

use std::fs::File;
use std::io;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::Path;
use std::ptr::null_mut;
use std::time::UNIX_EPOCH;

use windows_sys::Win32::Foundation::{
    ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_NOT_SUPPORTED, GENERIC_WRITE,
};
use windows_sys::Win32::Storage::FileSystem::{
    FILE_FLAG_BACKUP_SEMANTICS, GetVolumeInformationByHandleW,
};

use super::call::{SHARE_ALL, code_of, succeeded};
use super::identity::open_to_look;
use crate::sys::directory_stamp::DirectoryStamp;

/// A directory that is only looked at.
#[derive(Debug)]
pub(crate) struct Directory {
    file: File,
    has_stamps: bool,
}

impl Directory {
    /// Opens a directory by its path. Nothing in it is opened.
    pub(crate) fn open(path: &Path) -> io::Result<Self> {
        let file = open_to_look(path)?;
        if !file.metadata()?.is_dir() {
            return Err(io::ErrorKind::NotADirectory.into());
        }
        let has_stamps = has_stamps(&file);
        Ok(Self { file, has_stamps })
    }

    /// Returns when a name in it was last created, deleted or changed.
    ///
    /// # Errors
    ///
    /// The file system does not keep that, as FAT.
    pub(crate) fn stamp(&self) -> io::Result<DirectoryStamp> {
        if !self.has_stamps {
            return Err(io::ErrorKind::Unsupported.into());
        }
        let written = self.file.metadata()?.modified()?;
        let since = written.duration_since(UNIX_EPOCH).unwrap_or_default();
        Ok(DirectoryStamp(since))
    }
}

/// Returns whether the file system stamps each change of a directory. FAT does not, and counts in
/// steps of two seconds.
fn has_stamps(directory: &File) -> bool {
    let mut name = [0_u16; 32];
    let length = u32::try_from(name.len()).unwrap_or(0);
    let handle = directory.as_raw_handle();
    // SAFETY: the handle is open while the file is borrowed, the name has room for `length`
    // characters, and the other results are not wanted.
    let done = unsafe {
        GetVolumeInformationByHandleW(
            handle,
            null_mut(),
            0,
            null_mut(),
            null_mut(),
            null_mut(),
            name.as_mut_ptr(),
            length,
        )
    };
    let end = name.iter().position(|&unit| unit == 0).unwrap_or(0);
    let name = String::from_utf16_lossy(&name[..end]);
    succeeded(done).is_ok() && ["NTFS", "ReFS"].contains(&name.as_str())
}

/// Makes a new name in the directory survive a power cut.
///
/// Some file systems do not let a directory be flushed. NTFS logs all changes of names in their
/// order: after a power cut the new name is there or it is not, together with everything that was
/// changed before, but the last of them may be lost.
pub(crate) fn sync_directory(directory: &Path) -> io::Result<()> {
    let mut options = File::options();
    options.access_mode(GENERIC_WRITE).share_mode(SHARE_ALL);
    let opened = options
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS)
        .open(directory);
    match opened.and_then(|directory| directory.sync_all()) {
        Err(error) if cannot_be_flushed(&error) => Ok(()),
        done => done,
    }
}

fn cannot_be_flushed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::PermissionDenied
        || matches!(
            code_of(error),
            Some(ERROR_INVALID_FUNCTION | ERROR_INVALID_PARAMETER | ERROR_NOT_SUPPORTED)
        )
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::thread;
    use std::time::Duration;

    use super::*;

    #[test]
    fn a_new_name_changes_the_stamp() {
        let directory = tempfile::tempdir().unwrap();
        let open = Directory::open(directory.path()).unwrap();
        let Ok(before) = open.stamp() else {
            assert!(
                !open.has_stamps,
                "only a file system without stamps has none"
            );
            return;
        };
        assert_eq!(open.stamp().unwrap(), before);
        thread::sleep(Duration::from_millis(50));
        fs::write(directory.path().join("x"), b"").unwrap();
        let created = open.stamp().unwrap();
        assert_ne!(created, before);
        thread::sleep(Duration::from_millis(50));
        fs::rename(directory.path().join("x"), directory.path().join("y")).unwrap();
        let renamed = open.stamp().unwrap();
        assert_ne!(renamed, created);
        thread::sleep(Duration::from_millis(50));
        fs::remove_file(directory.path().join("y")).unwrap();
        assert_ne!(open.stamp().unwrap(), renamed);
    }

    #[test]
    fn only_a_directory_is_opened_and_synced() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("x");
        fs::write(&file, b"").unwrap();
        assert!(Directory::open(&file).is_err());
        assert!(Directory::open(&directory.path().join("missing")).is_err());
        sync_directory(directory.path()).unwrap();
        assert!(sync_directory(&directory.path().join("missing")).is_err());
    }

    #[test]
    fn an_open_directory_can_be_deleted() {
        let parent = tempfile::tempdir().unwrap();
        let path = parent.path().join("d");
        fs::create_dir(&path).unwrap();
        let open = Directory::open(&path).unwrap();
        fs::remove_dir(&path).unwrap();
        drop(open);
        assert!(!path.exists());
    }
}
