//! Files that are mounted by themselves.

use std::io;
use std::path::Path;

/// Returns `false`: macOS mounts no single files.
///
/// # Errors
///
/// Those of `lstat(2)`, also if the file is missing.
pub(crate) fn is_file_mount(path: &Path) -> io::Result<bool> {
    path.symlink_metadata().map(|_| false)
}
