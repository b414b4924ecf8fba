//! What is examined.

use penholder_lock::{SqliteAccess, SqliteHolder, WriteLocker};

use crate::location::Location;
use crate::options::OpenOptions;

/// A database to examine, and how it is opened.
pub(super) struct Subject<'a> {
    pub(super) location: &'a Location,
    pub(super) options: &'a OpenOptions,
    pub(super) locker: &'a WriteLocker,
}

impl Subject<'_> {
    /// Finds the process that has SQLite's own lock and keeps writers out with it.
    pub(super) fn sqlite_holder(&self) -> Option<SqliteHolder> {
        let lock_file = Some(self.locker.lock_file());
        SqliteHolder::find(&self.location.path, lock_file, SqliteAccess::Write)
    }
}
