//! What is examined.

use penholder_core::{LOCK_FILE_NAME, shell_word};
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
    /// Returns the database as words of a shell, for a command of penholder: with the options that
    /// say how it is locked.
    pub(super) fn shell_words(&self) -> String {
        let mut words = Vec::new();
        let lock_file = self.locker.lock_file();
        if lock_file != self.location.directory().join(LOCK_FILE_NAME) {
            words.push(format!("--lock-file={}", shell_word(lock_file)));
        }
        if self.options.allow_network_fs {
            words.push("--allow-network-fs".to_owned());
        }
        if self.options.allow_file_mount {
            words.push("--allow-file-mount".to_owned());
        }
        words.push(shell_word(&self.location.path));
        words.join(" ")
    }

    /// Says how `program` is made to take the lock.
    pub(super) fn use_the_lock(&self, program: &str) -> String {
        let database = self.shell_words();
        let lock_file = shell_word(self.locker.lock_file());
        format!(
            "let {program} write through penholder, or start it with `penholder run {database}` or \
             `flock {lock_file}` before its command"
        )
    }

    /// Finds the process that has SQLite's own lock and keeps writers out with it.
    pub(super) fn sqlite_holder(&self) -> Option<SqliteHolder> {
        let lock_file = Some(self.locker.lock_file());
        SqliteHolder::find(&self.location.path, lock_file, SqliteAccess::Write)
    }
}
