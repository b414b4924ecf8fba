//! Files that this process has open.

use std::fs;
use std::os::unix::ffi::OsStrExt;

/// Removes the files whose names begin with `prefix`, among those that this process has
/// open and no others.
pub(crate) fn remove(prefix: &str) {
    let Ok(entries) = fs::read_dir("/proc/self/fd") else {
        return;
    };
    for entry in entries.flatten() {
        let Ok(path) = fs::read_link(entry.path()) else {
            continue;
        };
        let name = path.file_name().unwrap_or_default();
        if name.as_bytes().starts_with(prefix.as_bytes()) {
            let _ = fs::remove_file(path);
        }
    }
}
