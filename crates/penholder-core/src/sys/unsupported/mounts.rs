//! Files that are mounted by themselves.

use std::io;
use std::path::Path;

use super::unsupported;

/// Fails: what is mounted is not known.
pub(crate) fn is_file_mount(_path: &Path) -> io::Result<bool> {
    unsupported("mounts")
}
