//! Checkpoint, vacuum and migration under the write lock; backup beside it.

use std::fs;
use std::path::Path;
use std::time::Duration;

use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, OpenFlags, ffi};

use crate::data::refuse_nul;
use crate::database::Database;
use crate::error::{Error, Result, is_sqlite_busy};
use crate::location::Location;
use crate::sqlite::wal::{self, Mode};
use crate::sys;
use crate::writer::Session;

/// Pages copied by one step of a backup.
const BACKUP_STEP: i32 = 1024;

/// What a checkpoint did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// Frames (pages) in the log before.
    pub log_frames: u64,
    /// How many of them are in the database file now.
    pub moved_frames: u64,
    /// Whether the log was emptied. If not, somebody still reads from it.
    pub truncated: bool,
}

impl Database {
    /// Moves the log (WAL) into the database file and empties it, under the
    /// write lock, waiting for no reader: first as much as possible without
    /// disturbing anybody, then the rest if nobody reads from the log.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let attachment = self.attachment();
        let session = self.session(&attachment)?;
        checkpoint(&session)
    }

    /// Rebuilds the database file without its free pages, under the write lock.
    /// It copies the whole database: everybody else waits, and twice the space
    /// is needed meanwhile. The file is shorter at once, or, if somebody reads from
    /// the log, after the next checkpoint.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn vacuum(&self) -> Result<()> {
        let attachment = self.attachment();
        let session = self.session(&attachment)?;
        session.note_statement("VACUUM");
        let done = session.connection().execute_batch("VACUUM");
        done.map_err(|e| session.explain("vacuum", e))?;
        // It all stands in the log, and the file is as long as before.
        checkpoint(&session).map(drop)
    }

    /// Copies the database as it is this moment into a new file, without the
    /// write lock: writers go on meanwhile. The file appears whole and synced,
    /// or not at all.
    ///
    /// # Errors
    ///
    /// The target exists, or cannot be written.
    pub fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        let target = Location::of(target.as_ref(), "back up")?;
        refuse_existing(&target)?;
        let failed = |e| {
            Error::io(
                "back up",
                &target.path,
                e,
                "make sure that the folder is writable and has room",
            )
        };
        let copy = tempfile::Builder::new()
            .prefix(".penholder-backup-")
            .tempfile_in(target.directory())
            .map_err(failed)?;
        // The reader's transaction keeps one snapshot for all the steps.
        self.read(|source| {
            copy_pages(source, copy.path()).map_err(|e| Error::sqlite("back up", &target.path, e))
        })?;
        let mode = fs::metadata(self.path()).map(|meta| meta.permissions());
        mode.and_then(|mode| copy.as_file().set_permissions(mode))
            .map_err(failed)?;
        copy.as_file().sync_all().map_err(failed)?;
        refuse_existing(&target)?;
        copy.persist_noclobber(&target.path)
            .map_err(|e| failed(e.error))?;
        sys::sync_directory(target.directory()).map_err(failed)
    }

    /// Brings the schema up to date: runs those of `steps` that this database
    /// has not seen yet, each in a transaction of its own, and counts them in
    /// `user_version`. Returns the versions before and after.
    ///
    /// SQLite ignores `PRAGMA foreign_keys` in a transaction, and a step is one: to
    /// rebuild a table that others refer to, use
    /// [`with_write_lock`](Self::with_write_lock).
    ///
    /// The version is read again under the write lock, so that of many processes
    /// that start at once each step runs in one. One timeout bounds what all the
    /// steps wait for together.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Database::open(folder.path().join("x.db"))?;
    /// let steps = [
    ///     "CREATE TABLE note(text)",
    ///     "ALTER TABLE note ADD COLUMN author; CREATE INDEX by_author ON note(author)",
    /// ];
    /// assert_eq!(db.migrate(&steps)?, (0, 2));
    /// assert_eq!(db.migrate(&steps)?, (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The database is newer than the list; or a step fails, and then it and
    /// those after it took no effect. Otherwise as [`write`](Self::write).
    #[track_caller]
    pub fn migrate(&self, steps: &[&str]) -> Result<(usize, usize)> {
        steps
            .iter()
            .try_for_each(|sql| refuse_nul("migrate", sql))?;
        let known = steps.len();
        // One for all the steps: their waits do not add up.
        let deadline = self.deadline();
        let before = self.read_by(&deadline, |connection| self.version(connection, known))?;
        for (number, sql) in steps.iter().enumerate().skip(before) {
            let attachment = self.attachment();
            let session = self.session_by(&attachment, deadline)?;
            session.write(|tx| {
                tx.note_statement(sql);
                self.step(tx, known, number, sql)
            })?;
        }
        Ok((before, known))
    }

    fn step(&self, tx: &Connection, known: usize, number: usize, sql: &str) -> Result<()> {
        // Another process may have run it since.
        if self.version(tx, known)? != number {
            return Ok(());
        }
        let step = tx.execute_batch(sql);
        step.map_err(|e| Error::sqlite("migrate", self.path(), self.hide(e)))?;
        let version = i64::try_from(number + 1).unwrap_or(i64::MAX);
        Ok(tx.pragma_update(None, "user_version", version)?)
    }

    fn version(&self, connection: &Connection, known: usize) -> Result<usize> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match usize::try_from(version) {
            Ok(version) if version <= known => Ok(version),
            _ => Err(Error::refused(
                "migrate",
                self.path(),
                format!("its version is {version}, this program knows {known}"),
                "use a newer program",
            )),
        }
    }
}

fn checkpoint(session: &Session<'_>) -> Result<Checkpoint> {
    let connection = session.connection();
    let failed = |e| session.explain("checkpoint", e);
    let passive = wal::checkpoint(connection, Mode::Passive).map_err(failed)?;
    // Whoever reads from the log is not waited for.
    session.wait_at_most(Duration::ZERO)?;
    let truncated = match wal::checkpoint(connection, Mode::Truncate) {
        Ok(done) => !done.busy,
        // An answer here, not an error.
        Err(error) if is_sqlite_busy(&error) => false,
        Err(error) => return Err(failed(error)),
    };
    Ok(Checkpoint {
        log_frames: passive.wal_frames,
        moved_frames: passive.checkpointed,
        truncated,
    })
}

/// Nothing of a database may be there already: SQLite would take a log that was
/// left behind for the new file's.
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
    // The file is nobody's until it is whole, and synced once at the end.
    copy.execute_batch("PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF")?;
    let backup = Backup::new(source, &mut copy)?;
    loop {
        match backup.step(BACKUP_STEP)? {
            StepResult::Done => return Ok(()),
            StepResult::More => {}
            // Nobody else knows of the copy, and the snapshot is ours.
            _ => {
                return Err(rusqlite::Error::SqliteFailure(
                    ffi::Error::new(ffi::SQLITE_BUSY),
                    None,
                ));
            }
        }
    }
}
