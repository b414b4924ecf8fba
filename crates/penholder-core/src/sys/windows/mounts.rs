//! Files that are mounted by themselves, which Windows does not have: a volume is mounted on a
//! letter or a directory.

use std::io;
use std::path::Path;

/// Returns `false`.
#[expect(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn is_file_mount(_path: &Path) -> io::Result<bool> {
    Ok(false)
}
