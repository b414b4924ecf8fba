//! File systems on which a lock on this machine does not hold on another.

use std::io;
use std::path::Path;

use super::unsupported;

/// Fails: whether a path is on a network file system is not known.
pub(crate) fn network(_path: &Path) -> io::Result<Option<String>> {
    unsupported("file system types")
}
