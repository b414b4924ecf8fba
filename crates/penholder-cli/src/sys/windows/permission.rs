//! What this user may do.

use std::fs::File;
use std::io;
use std::path::Path;

/// Returns whether this user may write the file. It is opened for a moment, which disturbs neither
/// the locks of SQLite nor other processes.
pub(crate) fn may_write(path: &Path) -> bool {
    let opened = File::options().write(true).open(path);
    // Any other error is for the one who writes it.
    !opened.is_err_and(|error| error.kind() == io::ErrorKind::PermissionDenied)
}
