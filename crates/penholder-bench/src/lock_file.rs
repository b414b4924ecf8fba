//! A lock file, for the peers that call `flock` themselves.

use std::fs::{File, OpenOptions};
use std::path::{Path, PathBuf};

/// The path of the lock file that belongs to a database.
pub(crate) fn path(database: &Path) -> PathBuf {
    database.with_file_name("db.lock")
}

/// Opens the file, and creates it if it does not exist.
pub(crate) fn open(path: &Path) -> std::io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(path)
}
