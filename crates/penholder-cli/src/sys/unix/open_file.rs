//! Files that this process has open.

use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

/// Removes the files whose names, or those of their directories, begin with `prefix`, among
/// those that this process has open and no others. Such a directory is removed too.
pub(crate) fn remove(prefix: &str) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    let has_prefix = |path: &Path| {
        let name = path.file_name().unwrap_or_default();
        name.as_bytes().starts_with(prefix.as_bytes())
    };
    for entry in entries.flatten() {
        let Ok(path) = fs::read_link(entry.path()) else {
            continue;
        };
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

/// Whether two paths name the same file; not if one of them names none.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.metadata(), other.metadata()) {
        (Ok(one), Ok(other)) => (one.dev(), one.ino()) == (other.dev(), other.ino()),
        _ => false,
    }
}
