//! Putting the content of a backup into the database file that processes have open.
//!
//! | step | the write lock | if the process dies here |
//! | --- | --- | --- |
//! | copies the backup into a temporary file without a name, and checks the copy | – | nothing has changed |
//! | makes another copy with the page size of the database, if the backup has another | – | nothing has changed; `.penholder-restore-…` may be left behind in the directory for temporary files |
//! | gives the copy the batch table of the database | held | as above |
//! | copies all pages into the database, in one transaction of SQLite | held | SQLite rolls back |
//! | commits it | held | all of it is committed |
//! | checks the content, and checkpoints the WAL | held | as above |

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;
use std::{io, panic};

use penholder_core::Deadline;
use rusqlite::backup::{Backup, StepResult};
use rusqlite::{Connection, ErrorCode, OpenFlags, ffi};
use tempfile::TempDir;

use super::backup::{BACKUP_STEP, copy_all};
use super::checkpoint::run_checkpoint_if_allowed;
use crate::database::Database;
use crate::delegate::carry_over;
use crate::error::{Error, Result, busy_code};
use crate::location::Location;
use crate::options::{ConnectionRole, OpenOptions};
use crate::sqlite::{connection, integrity};
use crate::write::{CallSite, Session};
use crate::{sidecar, sys, while_in_use};

/// The operation, for errors.
const RESTORE: &str = "restore";
/// What to do about a backup that is no good.
const USE_ANOTHER: &str = "nothing was changed: use another backup";
/// How many faults of a corrupt backup are named.
const FAULTS: u32 = 3;

impl OpenOptions {
    /// Checks a backup, opens the database, creating it if it is missing, and puts the content of
    /// the backup into it, as [`Database::restore_from`] does. If the backup is refused, no
    /// database is created.
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open) and [`Database::restore_from`].
    #[track_caller]
    pub fn restore(self, path: impl AsRef<Path>, backup: impl AsRef<Path>) -> Result<Database> {
        let site = panic::Location::caller();
        let mut deadline = Deadline::after(self.timeout);
        let location = Location::of(path.as_ref(), "open database")?;
        if location.exists {
            let db = self.open_until(&deadline, path.as_ref())?;
            db.restore_until(deadline, site, backup.as_ref())?;
            return Ok(db);
        }
        // The backup comes first, so that no database is created for one that is refused.
        let page_size =
            default_page_size().map_err(|e| Error::sqlite("open database", &location.path, e))?;
        let staged =
            StagedBackup::read(&location, &self, &mut deadline, backup.as_ref(), page_size)?;
        if self.create {
            create_like(&location, &staged.path, &deadline)?;
        }
        let db = self.open_until(&deadline, path.as_ref())?;
        db.with_session(deadline, site, |session| staged.put_into(session))?;
        Ok(db)
    }
}

impl Database {
    /// Puts the content of a backup into this database, under the write lock and in one
    /// transaction of SQLite. Every process that has the database open goes on with the restored
    /// content, and a read that has begun keeps its snapshot. Whatever ends it early, a kill or a
    /// full disk, leaves the old content or the new, and never a part of each.
    ///
    /// Before anything changes, the backup is copied to a temporary file, with what its own
    /// `-wal` has, and its whole content is checked. After the commit the database is checked in
    /// the same way, and the WAL is checkpointed. Other writers wait for the copying and for the
    /// second check.
    ///
    /// A backup with another page size is converted, as `VACUUM` does. The content of a backup is
    /// all that it has, also `user_version`, `application_id` and the mode of `auto_vacuum`. The
    /// table `_penholder_batch` is the exception: it stays that of the database.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE note(text)", ())?;
    /// let backup = directory.path().join("backup.db");
    /// db.backup_to(&backup)?;
    /// db.execute("DROP TABLE note", ())?;
    /// db.restore_from(&backup)?;
    /// db.execute("INSERT INTO note VALUES ('hello')", ())?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_refused`](Error::is_refused): the backup is missing, empty, corrupt, no database, or
    ///   the database itself; or its text encoding is not that of the database, and the database
    ///   has tables: SQLite cannot change it for connections that are open. Nothing was changed.
    /// - [`sqlite_error`](Error::sqlite_error): the disk is full, and nothing was changed; or
    ///   what was restored is found to be corrupt.
    /// - otherwise as [`write`](Self::write).
    #[track_caller]
    pub fn restore_from(&self, backup: impl AsRef<Path>) -> Result<()> {
        self.restore_until(self.deadline(), panic::Location::caller(), backup.as_ref())
    }

    fn restore_until(&self, mut deadline: Deadline, site: CallSite, backup: &Path) -> Result<()> {
        let staged = self.stage_backup(&mut deadline, backup)?;
        self.with_session(deadline, site, |session| staged.put_into(session))
    }

    /// Copies and checks a backup for this database. This work does not count for the deadline.
    pub(crate) fn stage_backup(
        &self,
        deadline: &mut Deadline,
        backup: &Path,
    ) -> Result<StagedBackup> {
        self.refuse_read_only()?;
        let page_size = self.read_until(deadline, |connection| -> Result<i64> {
            Ok(number(connection, "page_size")?)
        });
        StagedBackup::read(
            self.location(),
            self.options(),
            deadline,
            backup,
            page_size?,
        )
    }
}

/// A backup that was copied and checked.
pub(crate) struct StagedBackup {
    /// The path of the backup, for errors.
    path: PathBuf,
    /// The copy: a temporary file without a name.
    copy: Connection,
    /// The directory of the copy where an open file cannot lose its name. It goes last.
    _directory: Option<TempDir>,
}

impl StagedBackup {
    /// Copies a backup for a database at `target` with pages of this size, and checks the copy.
    fn read(
        target: &Location,
        options: &OpenOptions,
        deadline: &mut Deadline,
        backup: &Path,
        page_size: i64,
    ) -> Result<Self> {
        let backup = Location::of(backup, RESTORE)?;
        refuse_wrong_file(&backup, target)?;
        let source = open_backup(&backup, deadline)?;
        refuse_cut_off(&backup, &source)?;
        let begun = Instant::now();
        let staged = Self::copy_of(&source, &backup, options, deadline)?;
        drop(source);
        let staged = staged.with_page_size(&backup, options, deadline, page_size)?;
        *deadline = deadline.without_work_since(begun);
        Ok(staged)
    }

    /// Copies what a connection reads from a backup, and checks the copy.
    fn copy_of(
        source: &Connection,
        backup: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Self> {
        let mut copy = open_temporary().map_err(|e| no_temporary_file(backup, &e))?;
        copy_all(source, &mut copy).map_err(|error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::CannotOpen) => no_temporary_file(backup, &error),
            _ => connection::explain(backup, deadline, error),
        })?;
        Self::checked(backup, copy, None, options)
    }

    fn checked(
        backup: &Location,
        copy: Connection,
        directory: Option<TempDir>,
        options: &OpenOptions,
    ) -> Result<Self> {
        connection::set_up_by_program(&copy, backup, options, ConnectionRole::Reader)?;
        let path = backup.path.clone();
        let staged = Self {
            path,
            copy,
            _directory: directory,
        };
        staged.refuse_damage()?;
        Ok(staged)
    }

    /// Replaces the copy by one with this page size, if it has another: SQLite does not copy pages
    /// of one size into a database in WAL mode that has another.
    fn with_page_size(
        self,
        backup: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
        page_size: i64,
    ) -> Result<Self> {
        if number(&self.copy, "page_size").map_err(|e| self.failed(e))? == page_size {
            return Ok(self);
        }
        let no_file = |error: rusqlite::Error| match error.sqlite_error_code() {
            Some(ErrorCode::DiskFull | ErrorCode::CannotOpen) => no_temporary_file(backup, &error),
            _ => connection::failed("convert backup", &backup.path, error),
        };
        let directory = tempfile::Builder::new()
            .prefix(sidecar::UNFINISHED_RESTORE)
            .tempdir()
            .map_err(|e| Error::io(RESTORE, &backup.path, e, ROOM_FOR_COPY))?;
        let path = directory.path().join("copy.db");
        // From the backup itself: SQLite does not convert a temporary database.
        let source = open_backup(backup, deadline)?;
        source.execute_batch("COMMIT").map_err(no_file)?;
        connection::set_up_by_program(&source, backup, options, ConnectionRole::Reader)?;
        let convert = format!("PRAGMA query_only = OFF; PRAGMA page_size = {page_size}");
        source
            .execute_batch(&convert)
            .and_then(|()| source.execute("VACUUM INTO ?1", [path.to_string_lossy()]))
            .map_err(no_file)?;
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let copy = Connection::open_with_flags(&path, flags)
            .and_then(without_journal)
            .map_err(no_file)?;
        // The connection keeps the file, and no name is left behind.
        let directory = (!sys::DELETES_OPEN_FILES).then_some(directory);
        Self::checked(backup, copy, directory, options)
    }

    fn refused(&self, why: impl Into<String>, next: &str) -> Error {
        Error::refused(RESTORE, &self.path, why, next)
    }

    fn failed(&self, error: rusqlite::Error) -> Error {
        explain(
            &self.path,
            connection::failed("read backup", &self.path, error),
        )
    }

    /// Refuses a backup whose content is corrupt, or of which a part is missing.
    fn refuse_damage(&self) -> Result<()> {
        match integrity::faults(&self.copy, FAULTS) {
            Ok(faults) if faults.is_empty() => Ok(()),
            Ok(faults) => Err(self.refused(
                format!("it is corrupt ({})", faults.join("; ")),
                USE_ANOTHER,
            )),
            Err(error) if integrity::is_definition_missing(&error) => Err(self.refused(
                format!("it cannot be checked: {error}"),
                "nothing was changed: restore it with `Database::restore_from` in the program \
                     that defines what is missing (`OpenOptions::connection_hook`)",
            )),
            Err(error) => Err(self.failed(error)),
        }
    }

    /// Puts the content of the copy into the database of the session.
    pub(crate) fn put_into(self, session: &Session<'_>) -> Result<()> {
        let failed = |e| session.explain(RESTORE, e);
        let (location, options) = (session.context().location, session.context().options);
        let live = session.connection();
        self.refuse_other_encoding(session)?;
        let mut target = connection::open_writer(location, options, session.deadline())?;
        let files = &session.context().resources.files;
        files.check_opened(&target, session.deadline())?;
        // Whatever the options ask for: it is a single commit.
        let durable = target.pragma_update(None, "synchronous", "FULL");
        durable.map_err(failed)?;
        let begun = Instant::now();
        loop {
            let version = number(live, "data_version").map_err(failed)?;
            self.copy
                .execute_batch("PRAGMA query_only = OFF")
                .and_then(|()| carry_over(live, &self.copy))
                .map_err(failed)?;
            penholder_core::failpoint!("restore_carried_over");
            session.share_busy_timeout(&target)?;
            if self.copy_pages(session, &mut target, version)? {
                break;
            }
            if session.deadline().is_over() {
                return Err(failed(busy_code()));
            }
        }
        session.count_commit();
        drop(target);
        session.check_files().map_err(Error::after_commit)?;
        penholder_core::failpoint!("restored");
        self.check_result(session, session.deadline().without_work_since(begun))?;
        // The content is there, also if the disk has no room to move it out of the WAL now.
        let _ = run_checkpoint_if_allowed(session);
        Ok(())
    }

    /// Refuses another text encoding, unless the database is empty: a connection that has read a
    /// schema cannot change its encoding, and would fail until it is opened again.
    fn refuse_other_encoding(&self, session: &Session<'_>) -> Result<()> {
        let failed = |e| session.explain(RESTORE, e);
        let live = session.connection();
        let sql = "SELECT count(*) FROM sqlite_schema";
        let entries: i64 = live.query_row(sql, [], |row| row.get(0)).map_err(failed)?;
        let (own, other) = (
            encoding(live).map_err(failed)?,
            encoding(&self.copy).map_err(failed)?,
        );
        if entries == 0 || own == other {
            return Ok(());
        }
        Err(self.refused(
            format!("its text is {other}, and that of the database {own}, which SQLite cannot change while processes have it open"),
            "nothing was changed: stop all programs that use the database, move it to another place with its -wal and -shm, and restore again, which creates it",
        ))
    }

    /// Copies all pages in one transaction and commits. Returns `false`, with nothing changed, if
    /// the database is no longer of this version.
    fn copy_pages(
        &self,
        session: &Session<'_>,
        target: &mut Connection,
        version: i64,
    ) -> Result<bool> {
        let failed = |e| session.explain(RESTORE, e);
        let backup = Backup::new(&self.copy, target).map_err(failed)?;
        // Takes SQLite's write lock, and copies nothing.
        step(&backup, 0).map_err(failed)?;
        // A process that does not know of our lock may have written before that, and the batch
        // table may have more rows than were carried over.
        if number(session.connection(), "data_version").map_err(failed)? != version {
            return Ok(false);
        }
        while !step(&backup, BACKUP_STEP).map_err(failed)? {
            penholder_core::failpoint!("restore_copying");
        }
        Ok(true)
    }

    /// Checks that the database has the content of the copy, and is sound.
    fn check_result(&self, session: &Session<'_>, deadline: Deadline) -> Result<()> {
        let failed = |e| session.explain(RESTORE, e);
        let (location, options) = (session.context().location, session.context().options);
        let reader = connection::open_reader(location, None, &deadline)?;
        connection::set_up_by_program(&reader, location, options, ConnectionRole::Reader)?;
        reader.execute_batch("BEGIN").map_err(failed)?;
        let found = Contents::of(&reader).map_err(failed)?;
        let mut faults = integrity::faults(&reader, FAULTS).map_err(failed)?;
        if found != Contents::of(&self.copy).map_err(failed)? {
            faults.push("it has not the content of the backup".to_owned());
        }
        if faults.is_empty() {
            return Ok(());
        }
        let text = format!(
            "the content was restored, but is wrong ({}): check the disk, and whether a program \
             writes without the lock",
            faults.join("; ")
        );
        let code = ffi::Error::new(ffi::SQLITE_CORRUPT);
        Err(failed(rusqlite::Error::SqliteFailure(code, Some(text))))
    }
}

/// What two databases have in common if one was copied into the other.
#[derive(Debug, PartialEq, Eq)]
struct Contents {
    pages: i64,
    free_pages: i64,
    user_version: i64,
    application_id: i64,
    /// As bytes: names in it need not be UTF-8.
    schema: Vec<Option<Vec<u8>>>,
}

impl Contents {
    fn of(connection: &Connection) -> rusqlite::Result<Self> {
        let sql = "SELECT CAST(sql AS BLOB) FROM sqlite_schema ORDER BY rowid";
        let mut ask = connection.prepare(sql)?;
        let schema = ask
            .query_map([], |row| row.get(0))?
            .collect::<Result<_, _>>()?;
        Ok(Self {
            pages: number(connection, "page_count")?,
            free_pages: number(connection, "freelist_count")?,
            user_version: number(connection, "user_version")?,
            application_id: number(connection, "application_id")?,
            schema,
        })
    }
}

/// What to do if the copy of a backup does not fit.
const ROOM_FOR_COPY: &str =
    "nothing was changed: set TMPDIR to a directory with room for a copy of the backup";

fn no_temporary_file(backup: &Location, error: &rusqlite::Error) -> Error {
    let why = format!("it cannot be copied to a temporary file: {error}");
    Error::refused(RESTORE, &backup.path, why, ROOM_FOR_COPY)
}

/// Refuses a file that ends within a page: SQLite would read zeros there.
fn refuse_cut_off(backup: &Location, source: &Connection) -> Result<()> {
    let failed = |e| connection::failed("read backup", &backup.path, e);
    let page_size = number(source, "page_size").map_err(failed)?;
    let length = backup.path.metadata().map_or(0, |meta| meta.len());
    if length == 0 {
        let next = "give the path of a backup";
        return Err(Error::refused(RESTORE, &backup.path, "it is empty", next));
    }
    if u64::try_from(page_size).is_ok_and(|size| length.is_multiple_of(size)) {
        return Ok(());
    }
    let why = format!("it is cut off: it ends within a page of {page_size} bytes");
    let next = "nothing was changed: copy it again, completely";
    Err(Error::refused(RESTORE, &backup.path, why, next))
}

/// Refuses what cannot be a backup of this database before it is opened: closing a file of the
/// database itself would drop SQLite's locks.
fn refuse_wrong_file(backup: &Location, target: &Location) -> Result<()> {
    let refused = |why: &str, next| Err(Error::refused(RESTORE, &backup.path, why, next));
    if !backup.exists {
        return refused("there is no such file", "check the name");
    }
    let id = |path: &Path| sys::file_id(path).ok();
    let own = id(&backup.path);
    if own.is_some() && own == id(&target.path) {
        return refused("it is the database itself", "give the path of a backup");
    }
    let mut sidecars = target.sidecars().into_iter();
    if sidecars.any(|file| file == backup.path || (own.is_some() && own == id(&file))) {
        return refused("it belongs to the database", "give the path of a backup");
    }
    Ok(())
}

/// Creates an empty database that is as private as the backup, before SQLite creates it, and its
/// WAL, for more users to read. Its owner may write it, also if the backup is protected against
/// that. It is closed before it has its name, because
/// closing it later would drop the locks that SQLite has on it in this process.
fn create_like(location: &Location, backup: &Path, deadline: &Deadline) -> Result<()> {
    let failed = |e| {
        let next = "check the permissions of its directory";
        Error::io("open database", &location.path, e, next)
    };
    let empty = tempfile::Builder::new()
        .prefix(sidecar::UNFINISHED_RESTORE)
        .tempfile_in(location.directory())
        .map_err(failed)?;
    let mode = fs::metadata(backup).map(|meta| sys::writable_by_owner(&meta));
    mode.and_then(|mode| empty.as_file().set_permissions(mode))
        .map_err(failed)?;
    let named = while_in_use::retry_with(empty.into_temp_path(), deadline, |empty| {
        let named = empty.persist_noclobber(&location.path);
        named.map_err(|failed| (failed.error, failed.path))
    });
    match named {
        // Another process was first.
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        created => created.map_err(failed),
    }
}

/// Opens a backup for reading, and takes a snapshot.
fn open_backup(backup: &Location, deadline: &Deadline) -> Result<Connection> {
    let opened = connection::open_reader(backup, None, deadline)
        .and_then(|source| with_snapshot(source, backup, deadline));
    let opened = match opened {
        Err(error) if error.is_refused() && is_on_read_only_disk(backup) => {
            connection::open_immutable(backup, deadline)
                .and_then(|source| with_snapshot(source, backup, deadline))
        }
        opened => opened,
    };
    opened.map_err(|error| explain(&backup.path, error))
}

/// Says what is wrong with a backup that SQLite cannot read.
fn explain(backup: &Path, error: Error) -> Error {
    let source = error.sqlite_error();
    let why = match source.and_then(rusqlite::Error::sqlite_error_code) {
        Some(ErrorCode::NotADatabase) => "it is not a database",
        Some(ErrorCode::DatabaseCorrupt) => "it is corrupt",
        _ => return error,
    };
    Error::refused(RESTORE, backup, why, USE_ANOTHER)
}

/// Returns whether SQLite cannot create the files next to a backup that it wants, and that the
/// backup does not need: it has no WAL with content.
fn is_on_read_only_disk(backup: &Location) -> bool {
    let has_content = |path: PathBuf| path.metadata().is_ok_and(|meta| meta.len() > 0);
    !sys::may_add_files(backup.directory())
        && !has_content(backup.wal())
        && !has_content(backup.journal())
}

/// Begins a transaction that keeps one snapshot.
fn with_snapshot(source: Connection, backup: &Location, deadline: &Deadline) -> Result<Connection> {
    let begun = source
        .execute_batch("BEGIN")
        .and_then(|()| source.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(())));
    begun.map_err(|e| connection::explain(backup, deadline, e))?;
    Ok(source)
}

/// Opens a database in a temporary file that SQLite deletes at once, so that nothing is left
/// behind if this process dies.
fn open_temporary() -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE
        | OpenFlags::SQLITE_OPEN_CREATE
        | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let copy = Connection::open_with_flags("", flags)?;
    without_journal(copy)
}

/// Prepares a connection to a file that no other process uses: if an error leaves it half
/// written, it is thrown away.
fn without_journal(copy: Connection) -> rusqlite::Result<Connection> {
    copy.execute_batch(
        "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=OFF; PRAGMA synchronous=OFF",
    )?;
    Ok(copy)
}

/// Returns the page size of a database that is created.
fn default_page_size() -> rusqlite::Result<i64> {
    number(&open_temporary()?, "page_size")
}

/// Copies some pages; returns whether all are copied and committed.
fn step(backup: &Backup<'_, '_>, pages: i32) -> rusqlite::Result<bool> {
    match backup.step(pages)? {
        StepResult::Done => Ok(true),
        StepResult::More => Ok(false),
        _ => Err(busy_code()),
    }
}

fn number(connection: &Connection, pragma: &str) -> rusqlite::Result<i64> {
    connection.pragma_query_value(None, pragma, |row| row.get(0))
}

fn encoding(connection: &Connection) -> rusqlite::Result<String> {
    connection.pragma_query_value(None, "encoding", |row| row.get(0))
}
