//! Files that this process has open.

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs::{self, File};
use std::io;
use std::os::windows::ffi::OsStringExt;
use std::os::windows::fs::OpenOptionsExt;
use std::os::windows::io::AsRawHandle;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::HANDLE;
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_NAME_NORMALIZED, FILE_TYPE_DISK,
    GetFileInformationByHandle, GetFileType, GetFinalPathNameByHandleW,
};
use windows_sys::Win32::System::Threading::{GetCurrentProcess, GetProcessHandleCount};

use super::succeeded;

/// How many values of handles are looked at: more than a process of this command ever has.
const HANDLES_MAX: usize = 1 << 16;
/// Handles are multiples of this.
const HANDLE_STEP: usize = 4;
/// The longest path in UTF-16 units.
const PATH_MAX: usize = 1 << 15;

/// Removes the files whose names, or those of their directories, begin with `prefix`, among
/// those that this process has open and no others. Such a directory is removed too.
///
/// That is possible although they are open: penholder lets SQLite open unfinished files so.
pub(crate) fn remove(prefix: &str) {
    for path in open_paths() {
        let directory = path
            .parent()
            .filter(|directory| has_prefix(directory, prefix));
        if (directory.is_some() || has_prefix(&path, prefix)) && path.is_file() {
            let _ = fs::remove_file(&path);
        }
        if let Some(directory) = directory {
            // It fails while another of its files is left.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Removes the directories whose names begin with `prefix`, among those that this process has
/// open and no others, with all that is in them, as far as Windows permits: it keeps a file of which
/// a part is mapped into memory, and with it the directory.
pub(crate) fn remove_directories(prefix: &str) {
    for path in open_paths() {
        if has_prefix(&path, prefix) && path.is_dir() {
            remove_directory(&path);
        }
    }
}

fn has_prefix(path: &Path, prefix: &str) -> bool {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    name.starts_with(prefix)
}

/// Removes a directory in which another thread may still create files.
fn remove_directory(path: &Path) {
    const ATTEMPTS: u32 = 20;
    for _ in 0..ATTEMPTS {
        let entries = fs::read_dir(path).into_iter().flatten().flatten();
        entries.for_each(|entry| drop(fs::remove_file(entry.path())));
        match fs::remove_dir(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}

/// Returns the paths of the files and directories that this process has open. Windows has no list
/// of them: each value that a handle may have is looked at, until all handles are found.
fn open_paths() -> BTreeSet<PathBuf> {
    let mut count = 0;
    // SAFETY: the handle of this process is always valid, and the result has room.
    unsafe { GetProcessHandleCount(GetCurrentProcess(), &raw mut count) };
    let highest = usize::try_from(count)
        .unwrap_or(HANDLES_MAX)
        .saturating_mul(4);
    let highest = highest.clamp(1 << 12, HANDLES_MAX) * HANDLE_STEP;
    let handles = (HANDLE_STEP..highest).step_by(HANDLE_STEP);
    let handles = handles.map(std::ptr::without_provenance_mut);
    handles
        .filter(|&handle| is_on_disk(handle))
        .filter_map(path_of)
        .collect()
}

fn is_on_disk(handle: HANDLE) -> bool {
    // SAFETY: a value that is no handle is an error, and nothing is changed.
    unsafe { GetFileType(handle) == FILE_TYPE_DISK }
}

fn path_of(handle: HANDLE) -> Option<PathBuf> {
    let mut path = vec![0; PATH_MAX];
    let room = u32::try_from(path.len()).unwrap_or(0);
    // SAFETY: a value that is no handle any more is an error, and the path has this room.
    let length =
        unsafe { GetFinalPathNameByHandleW(handle, path.as_mut_ptr(), room, FILE_NAME_NORMALIZED) };
    let length = usize::try_from(length).ok()?;
    let path = path.get(..length).filter(|path| !path.is_empty())?;
    Some(OsString::from_wide(path).into())
}

/// Whether two paths name the same file; not if one of them names none.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (identity(one), identity(other)) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}

/// Returns the number of the volume, and that of the file in it. The file is opened without any
/// access right, which disturbs no other process.
fn identity(path: &Path) -> io::Result<(u32, u32, u32)> {
    let mut options = File::options();
    options
        .access_mode(0)
        .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
    let file = options.open(path)?;
    let mut found = BY_HANDLE_FILE_INFORMATION::default();
    // SAFETY: the handle is open while the file is, and the result has room.
    let done = unsafe { GetFileInformationByHandle(file.as_raw_handle(), &raw mut found) };
    succeeded(done)?;
    Ok((
        found.dwVolumeSerialNumber,
        found.nFileIndexHigh,
        found.nFileIndexLow,
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_open_here_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path(".begin-closed"), b"").unwrap();
        let open = File::create(path(".begin-open")).unwrap();
        let other = File::create(path("other")).unwrap();
        fs::create_dir(path(".begin-directory")).unwrap();
        let inside = File::create(path(".begin-directory").join("db")).unwrap();
        remove(".begin-");
        drop((open, other, inside));
        assert!(path(".begin-closed").exists() && path("other").exists());
        assert!(!path(".begin-open").exists());
        assert!(!path(".begin-directory").join("db").exists());
    }

    #[test]
    fn an_open_directory_is_removed_with_its_content() {
        let directory = tempfile::tempdir().unwrap();
        let inside = directory.path().join(".begin-directory");
        fs::create_dir(&inside).unwrap();
        fs::write(inside.join("db"), b"").unwrap();
        let mut options = File::options();
        options
            .access_mode(0)
            .custom_flags(FILE_FLAG_BACKUP_SEMANTICS);
        let open = options.open(&inside).unwrap();
        remove_directories(".begin-");
        drop(open);
        assert!(!inside.exists());
    }

    #[test]
    fn a_path_is_written_as_people_do() {
        let directory = tempfile::tempdir().unwrap();
        let path = penholder_core::canonicalize(directory.path()).unwrap();
        assert!(path.is_absolute() && path.is_dir());
        assert!(!path.to_string_lossy().starts_with(r"\\"), "{path:?}");
    }

    #[test]
    fn one_file_is_the_same_by_each_name() {
        let directory = tempfile::tempdir().unwrap();
        let path = |name: &str| directory.path().join(name);
        fs::write(path("x.db"), b"").unwrap();
        fs::write(path("y.db"), b"").unwrap();
        assert!(is_same(&path("x.db"), &path("X.DB")));
        assert!(!is_same(&path("x.db"), &path("y.db")));
        assert!(!is_same(&path("missing"), &path("missing")));
    }
}
