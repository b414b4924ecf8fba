//! Whether this user may use a database without harm to those who may write it.
//!
//! SQLite gives its `-wal` and `-shm` the mode of the database. Their owner is the user that
//! happens to create them, unless that is root, who gives them to the database's owner. So the
//! files of a user who may not write the database keep its writers out, until somebody gives
//! them to its owner. A reader cannot remove them either: only the last connection may, which
//! takes a lock on the database that a reader does not get.

use crate::error::{Error, Result};
use crate::location::Location;
use crate::sys;

/// Mode bit of a directory: only the owner of a file, or of the directory, may remove it.
const STICKY: u32 = 0o1000;

/// Refuses to open a database for writing that this user may not write, before SQLite creates
/// anything. Where nothing can be created, the database can be opened, and is only read.
pub(crate) fn refuse_non_writer(location: &Location) -> Result<()> {
    if !location.exists
        || sys::may_write(&location.path)
        || !sys::may_read(&location.path)
        || !sys::may_add_files(location.directory())
    {
        return Ok(());
    }
    let why = format!(
        "this user has no write permission on it{}",
        owner_of(location)
    );
    let next = "open it for reading (`penholder query`, `OpenOptions::read_only`), or give this \
                user write permission on it";
    Err(Error::refused("open database", &location.path, why, next))
}

/// Refuses to read a database in WAL mode if SQLite would have to create its `-wal` and `-shm`,
/// and these would keep its owner out for good: in a directory like `/tmp` the owner of the
/// database may not even remove them. Elsewhere the error that the owner gets says what to do.
pub(crate) fn refuse_lock_out(location: &Location, is_wal: impl FnOnce() -> bool) -> Result<()> {
    let has_both = || location.wal().exists() && location.shm().exists();
    if sys::may_write(&location.path)
        || !sys::may_add_files(location.directory())
        || has_both()
        || may_owner_remove(location)
        || !is_wal()
    {
        return Ok(());
    }
    let owner = owner_of(location);
    let why = format!(
        "this user may only read it{owner}, and SQLite would leave -wal and -shm files of this user \
         in a directory where the owner of the database may not remove them, which keeps every \
         writer out"
    );
    let next = "read it while a user who may write it has it open, or copy it to a directory of \
                your own";
    Err(Error::refused("open database", &location.path, why, next))
}

/// Returns whether the owner of the database may remove files of others next to it.
fn may_owner_remove(location: &Location) -> bool {
    let ownership = |path: &std::path::Path| sys::ownership(&path.metadata().ok()?);
    let (database, directory) = (ownership(&location.path), ownership(location.directory()));
    let (Some(database), Some(directory)) = (database, directory) else {
        return true;
    };
    database.user == 0 || directory.mode & STICKY == 0 || directory.user == database.user
}

/// Says whose database it is, in parentheses.
fn owner_of(location: &Location) -> String {
    let found = location.path.metadata().ok();
    let Some(found) = found.and_then(|meta| sys::ownership(&meta)) else {
        return String::new();
    };
    let owner = penholder_core::user_text(found.user);
    format!(" (it belongs to {owner}, mode {:04o})", found.mode)
}
