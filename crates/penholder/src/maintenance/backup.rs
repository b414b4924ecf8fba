//! Copying the database into a new file.

use std::fs;
use std::path::Path;

use penholder_core::Deadline;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::location::Location;
use crate::sqlite::connection;
use crate::{sidecar, sys, while_in_use};

/// How many pages one step of a backup copies.
pub(super) const BACKUP_STEP: i32 = 1024;

impl Database {
    /// Copies the database, as it is at this moment, into a new file. It does not take the
    /// write lock, so writers go on. The new file appears complete and synced, or not at all.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// let copy = directory.path().join("copy.db");
    /// db.backup_to(&copy)?;
    /// Database::open(&copy)?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The target or one of the files that SQLite keeps next to it exists, or the target
    /// cannot be written.
    pub fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        self.backup_until(&self.deadline(), target.as_ref())
    }

    /// As [`backup_to`](Self::backup_to), with a reader by this deadline.
    pub(crate) fn backup_until(&self, deadline: &Deadline, target: &Path) -> Result<()> {
        let target = Location::of(target, "back up")?;
        refuse_existing(&target)?;
        let failed = |e| {
            Error::io(
                "back up",
                &target.path,
                e,
                "make sure that its directory is writable and has room",
            )
        };
        let copy = tempfile::Builder::new()
            .prefix(sidecar::UNFINISHED_BACKUP)
            .tempfile_in(target.directory())
            .map_err(failed)?;
        // The reader's transaction keeps one snapshot for all steps.
        self.read_until(deadline, |source| {
            copy_pages(source, copy.path())
                .map_err(|e| connection::failed("back up", &target.path, e))
        })?;
        let mode = fs::metadata(self.path()).map(|meta| meta.permissions());
        mode.and_then(|mode| copy.as_file().set_permissions(mode))
            .map_err(failed)?;
        copy.as_file().sync_all().map_err(failed)?;
        refuse_existing(&target)?;
        let named = while_in_use::retry_with(copy, deadline, |copy| {
            let named = copy.persist_noclobber(&target.path);
            named
                .map(drop)
                .map_err(|failed| (failed.error, failed.file))
        });
        named.map_err(failed)?;
        sys::sync_directory(target.directory()).map_err(failed)
    }
}

/// Refuses a target of which any file exists: SQLite would use a WAL that was left behind as
/// that of the new file.
fn refuse_existing(target: &Location) -> Result<()> {
    let Some(found) = target.files().find(|name| name.symlink_metadata().is_ok()) else {
        return Ok(());
    };
    let why = "it exists already";
    let next = "choose another name, or remove it first, with its -wal, -shm and -journal";
    Err(Error::refused("back up", &found, why, next))
}

fn copy_pages(source: &Connection, target: &Path) -> rusqlite::Result<()> {
    // Takes the snapshot.
    source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))?;
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut copy = Connection::open_with_flags(target, flags)?;
    // No other process uses the file until it is complete, and it is synced once at the end.
    copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
    copy_all(source, &mut copy)
}

/// Copies all pages from a connection that has a snapshot to one that no other uses.
pub(super) fn copy_all(source: &Connection, copy: &mut Connection) -> rusqlite::Result<()> {
    let backup = Backup::new(source, copy)?;
    loop {
        match backup.step(BACKUP_STEP)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // No other connection uses the copy, and the snapshot is ours.
            _ => {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_BUSY),
                    None,
                ));
            }
        }
    }
}
