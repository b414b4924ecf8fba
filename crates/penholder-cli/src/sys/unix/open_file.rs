//! Files that this process has open.

use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crate::sys::own_files;

/// Removes the files whose names, or those of their directories, begin with `prefix`, among
/// those that this process has open and no others. Such a directory is removed too.
pub(crate) fn remove(prefix: &str) {
    let has_prefix = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.as_bytes().starts_with(prefix.as_bytes())
    };
    for path in own_files::paths() {
        let directory = path.parent().filter(|directory| has_prefix(directory));
        if directory.is_some() || has_prefix(&path) {
            let _ = fs::remove_file(&path);
        }
        if let Some(directory) = directory {
            // It fails while another of its files is left.
            let _ = fs::remove_dir(directory);
        }
    }
}

/// Removes the directories whose names begin with `prefix`, among those that this process has
/// open and no others, with all that is in them.
pub(crate) fn remove_directories(prefix: &str) {
    for path in own_files::paths() {
        let name = path.file_name().unwrap_or_default().as_bytes();
        if name.starts_with(prefix.as_bytes()) && path.is_dir() {
            remove_directory(&path);
        }
    }
}

/// Removes a directory in which another thread may still create files.
fn remove_directory(path: &Path) {
    const ATTEMPTS: u32 = 100;
    for _ in 0..ATTEMPTS {
        match fs::remove_dir_all(path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                thread::sleep(Duration::from_millis(2));
            }
            _ => return,
        }
    }
}

/// Whether two paths name the same file; not if one of them names none.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}
