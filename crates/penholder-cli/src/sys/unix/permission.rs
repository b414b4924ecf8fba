//! What this user may do.

use std::path::Path;

use rustix::fs::{Access, AtFlags, CWD, accessat};
use rustix::io::Errno;

/// Returns whether this user may write the file. It is not opened.
pub(crate) fn may_write(path: &Path) -> bool {
    match accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) {
        // Kernels before Linux 5.8 cannot tell for the user that this process acts as.
        Err(Errno::NOSYS | Errno::INVAL) => true,
        answer => answer.is_ok(),
    }
}
