//! The files that SQLite keeps next to a database, and those that penholder makes there.

use std::path::{Path, PathBuf};

use penholder_core::UNFINISHED_QUEUE_FILE;

/// What SQLite appends to the path of a database.
pub(crate) const WAL: &str = "-wal";
pub(crate) const SHM: &str = "-shm";
const JOURNAL: &str = "-journal";

/// How the name of a directory begins in which a database is being created.
#[doc(hidden)]
pub const UNFINISHED_DATABASE: &str = ".penholder-create-";
/// How the name of a backup begins until it is complete.
pub(crate) const UNFINISHED_BACKUP: &str = ".penholder-backup-";
/// How the name begins of a copy of a backup, or of an empty database, that is about to be restored.
pub(crate) const UNFINISHED_RESTORE: &str = ".penholder-restore-";
/// All of them.
pub(crate) const UNFINISHED: [&str; 4] = [
    UNFINISHED_DATABASE,
    UNFINISHED_BACKUP,
    UNFINISHED_RESTORE,
    UNFINISHED_QUEUE_FILE,
];

/// Returns whether a file is one of these, or in a directory that is.
pub(crate) fn is_unfinished(file: &Path) -> bool {
    let is_one = |path: &Path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        UNFINISHED.iter().any(|begin| name.starts_with(begin))
    };
    is_one(file) || file.parent().is_some_and(is_one)
}

/// The length of the longest suffix of SQLite.
pub(crate) const SUFFIX_MAX: usize = JOURNAL.len();

/// Returns the path of the WAL.
pub(crate) fn wal(database: &Path) -> PathBuf {
    with_suffix(database, WAL)
}

/// Returns the path of the shared memory of WAL mode.
pub(crate) fn shm(database: &Path) -> PathBuf {
    with_suffix(database, SHM)
}

/// Returns the path of the rollback journal, which SQLite uses outside WAL mode.
pub(crate) fn journal(database: &Path) -> PathBuf {
    with_suffix(database, JOURNAL)
}

/// Returns the paths of all of them.
pub(crate) fn all(database: &Path) -> [PathBuf; 3] {
    [WAL, SHM, JOURNAL].map(|suffix| with_suffix(database, suffix))
}

fn with_suffix(database: &Path, suffix: &str) -> PathBuf {
    let mut name = database.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}
