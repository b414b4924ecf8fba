//! One handle on one database.

use std::panic;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use arc_swap::ArcSwap;
use penholder_core::{Deadline, Guard, LOCK_FILE_NAME, Locker, Status, fork_generation};
use penholder_lock::WriteLocker;
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::carry::Carrying;
use crate::data::{Executed, IntoParams, Rows, Statement, refuse_nul};
use crate::error::{Error, Result};
use crate::group::{self, Entered, Group, Work, first};
use crate::location::Location;
use crate::options::Options;
use crate::sqlite::checkpointer::Checkpointer;
use crate::sqlite::connection;
use crate::sqlite::reader_pool::ReaderPool;
use crate::sqlite::wal;
use crate::sys;
#[cfg(feature = "tokio")]
use crate::telemetry::{self, Subject};
use crate::writer::{self, Desk, Session, Transaction, Writer};

/// One SQLite database, written by many processes, one at a time.
///
/// Cheap to clone, and shared between threads. All clones use one writing
/// connection and one pool of readers.
///
/// ```
/// use penholder::Database;
///
/// # fn main() -> penholder::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("notes.db");
/// let db = Database::open(path)?;
/// db.execute("CREATE TABLE IF NOT EXISTS note(text)", ())?;
/// db.execute("INSERT INTO note VALUES (?1)", ["hello"])?;
/// assert_eq!(db.query("SELECT text FROM note", ())?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// # What an acknowledgement means
///
/// When a writing call returns `Ok`, the write is committed and survives the
/// death of every process. With [`Synchronous::Normal`](crate::Synchronous), the
/// default, a power cut may still take the last writes (never a part of one);
/// with [`Synchronous::Full`](crate::Synchronous) it may not.
///
/// # Waiting
///
/// [`Options::timeout`] bounds everything that one call waits for. It does not
/// bound the work itself.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    location: Location,
    options: Options,
    warnings: Vec<String>,
    /// A forked child replaces its parent's.
    attachment: ArcSwap<Attachment>,
}

/// What one process has open.
#[derive(Debug)]
pub(crate) struct Attachment {
    generation: u64,
    pub(crate) locker: Locker,
    /// Boxed, because each write takes it out and puts it back.
    writer: Mutex<Option<Box<Writer>>>,
    readers: ReaderPool,
    pub(crate) checkpointer: Checkpointer,
    pub(crate) group: Group,
    pub(crate) carrying: Carrying,
    /// The path of the WAL, which is only looked at.
    wal: PathBuf,
}

impl Database {
    /// Opens a database, creating it if it is missing, and switches it to WAL if
    /// it is not (only then the write lock is taken).
    ///
    /// The path is made absolute and links are resolved now: every alias of the
    /// database uses the lock file in its real folder.
    ///
    /// # Errors
    ///
    /// - [`is_refused`](Error::is_refused): no plain file can be opened there
    ///   (a folder, `:memory:`, a URI, a missing folder, a network file system).
    /// - [`sqlite_error`](Error::sqlite_error): it is no database, or may not be
    ///   read.
    /// - [`is_timeout`](Error::is_timeout): it had to be switched to WAL, and
    ///   somebody held the lock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        Options::new().open(path)
    }

    pub(crate) fn open_with(path: &Path, options: Options) -> Result<Self> {
        let deadline = Deadline::after(options.timeout);
        let location = Location::of(path, "open database")?;
        if !location.exists && (options.read_only || !options.create) {
            return Err(Error::refused(
                "open database",
                &location.path,
                "there is no such database",
                "check the name",
            ));
        }
        refuse_network(&location, &options)?;
        let locker = core_locker(&location, &options)?;
        let attachment = Attachment::new(locker, &location, &options);
        if options.read_only {
            let reader = attachment.readers.take(&location, &deadline)?;
            connection::is_wal(&reader, &deadline)
                .map_err(|e| connection::explain(&location, &deadline, e))?;
        } else {
            let writer = Writer::open(&location, &options, &deadline)?;
            ensure_wal(&writer.connection, &location, &attachment, &deadline)?;
            connection::set_busy_timeout(&writer.connection, options.timeout)
                .map_err(|e| Error::sqlite("open database", &location.path, e))?;
            attachment.keep_writer(Some(Box::new(writer)));
        }
        Ok(Self {
            inner: Arc::new(Inner {
                warnings: warnings(&location),
                location,
                options,
                attachment: ArcSwap::from_pointee(attachment),
            }),
        })
    }

    /// The path of the database, absolute, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.location.path
    }

    /// The path of the lock file.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.inner.attachment().locker.lock_file().to_owned()
    }

    /// What is unwise about this database, in sentences for a person: a second
    /// name by a hard link, under which another lock file would be used.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
        &self.inner.warnings
    }

    /// Who holds the write lock, seen from outside. Only looks.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn status(&self) -> Result<Status> {
        Ok(self.inner.attachment().locker.status()?)
    }

    /// Runs a closure in one transaction (`BEGIN IMMEDIATE`) under the write
    /// lock, and commits it if the closure returns `Ok`.
    ///
    /// The closure may read before it writes: nobody else writes meanwhile. It
    /// may borrow, and return its own error type. An error or a panic rolls back
    /// and reaches the caller; the database goes on working. Keep it short:
    /// everybody else waits. It stays on this machine, unlike the plain data of
    /// [`execute`](Self::execute) and [`batch`](Self::batch).
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Database::open(folder.path().join("x.db"))?;
    /// db.execute("CREATE TABLE counter(n INTEGER)", ())?;
    /// let n = db.write(|tx| -> Result<i64> {
    ///     let n: i64 = tx.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))?;
    ///     tx.execute("INSERT INTO counter VALUES (?1)", [n])?;
    ///     Ok(n)
    /// })?;
    /// assert_eq!(n, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): the deadline came before the lock,
    ///   or before SQLite's own ([`is_busy`](Error::is_busy)); nothing ran.
    /// - [`lock_error`](Error::lock_error) that is nested: called inside another
    ///   write of this thread.
    /// - the closure's own error.
    /// - [`sqlite_error`](Error::sqlite_error) of the commit; nothing was written.
    #[track_caller]
    pub fn write<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let site = panic::Location::caller();
        let deadline = self.deadline();
        let attachment = self.inner.attachment();
        let desk = self.desk(&attachment)?;
        match desk.enter(deadline)? {
            Entered::Alone(alone) => {
                alone.session.is_asked_at(site, false);
                alone.session.write(work)
            }
            Entered::Group(lead) => group::run_closure(&desk, lead, work, deadline, site),
        }
    }

    /// Takes the write lock, runs a closure on the writing connection, releases:
    /// for what cannot run in one transaction. A transaction that the closure
    /// leaves open is rolled back, and that is an error.
    ///
    /// SQLite's own waits in it are bounded each, not together: every statement
    /// that meets a writer without the lock may wait what was left of the timeout
    /// when the closure began.
    ///
    /// It does not nest: a write inside it is an error at once. What the closure
    /// changes on the connection (pragmas, attached databases) stays changed for
    /// later writes of this process.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn with_write_lock<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let attachment = self.inner.attachment();
        self.session(&attachment)?.run(work)
    }

    /// Runs one statement that writes, as plain data, in a transaction.
    ///
    /// Pragmas that SQLite ignores in a transaction (`foreign_keys`) want
    /// [`with_write_lock`](Self::with_write_lock), and so does `ATTACH`.
    ///
    /// ```
    /// # use penholder::{Database, Result, params};
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Database::open(folder.path().join("x.db"))?;
    /// db.execute("CREATE TABLE job(id INTEGER PRIMARY KEY, name, size)", ())?;
    /// let done = db.execute("INSERT INTO job(name, size) VALUES (?1, ?2)", params!["a", 7])?;
    /// assert_eq!((done.rows_changed, done.last_insert_id), (1, Some(1)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`sqlite_error`](Error::sqlite_error) if the
    /// statement fails, and then nothing was written: unless it asks SQLite to
    /// keep what it did before the failure (`INSERT OR FAIL`, `ON CONFLICT FAIL`,
    /// `RAISE(FAIL)`), and then the text says so. SQL with a NUL byte is refused
    /// before anything is waited for.
    #[track_caller]
    pub fn execute(&self, sql: &str, params: impl IntoParams) -> Result<Executed> {
        let site = panic::Location::caller();
        refuse_nul("write", sql)?;
        let params = params.into_params();
        let deadline = self.deadline();
        let attachment = self.inner.attachment();
        let desk = self.desk(&attachment)?;
        match desk.enter(deadline)? {
            Entered::Alone(alone) => {
                alone.session.is_asked_at(site, true);
                alone.session.execute(sql, &params)
            }
            Entered::Group(lead) => {
                let work = Work::Statement(Statement::new(sql, params));
                group::run_data(&desk, lead, work, deadline, site).and_then(first)
            }
        }
    }

    /// Runs several statements, as plain data, in one transaction: all or
    /// nothing.
    ///
    /// ```
    /// # use penholder::{Database, Result, Statement};
    /// # fn main() -> Result<()> {
    /// # let folder = tempfile::tempdir().unwrap();
    /// # let db = Database::open(folder.path().join("x.db"))?;
    /// db.batch([
    ///     Statement::new("CREATE TABLE account(name, balance)", ()),
    ///     Statement::new("INSERT INTO account VALUES (?1, ?2)", ("ann", 10)),
    ///     Statement::new("INSERT INTO account VALUES (?1, ?2)", ("bob", 0)),
    /// ])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); if one statement fails, none took effect.
    #[track_caller]
    pub fn batch<S: Into<Statement>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Executed>> {
        let site = panic::Location::caller();
        // Built before the lock is taken: the iterator is the caller's code.
        let statements: Vec<Statement> = statements.into_iter().map(Into::into).collect();
        statements
            .iter()
            .try_for_each(|one| refuse_nul("write", one.sql()))?;
        let deadline = self.deadline();
        let attachment = self.inner.attachment();
        let desk = self.desk(&attachment)?;
        match desk.enter(deadline)? {
            Entered::Alone(alone) => {
                alone.session.is_asked_at(site, true);
                alone.session.batch(&statements)
            }
            Entered::Group(lead) => {
                group::run_data(&desk, lead, Work::Batch(statements), deadline, site)
            }
        }
    }

    /// Runs one statement that reads, and returns all its rows. Never waits for
    /// the write lock.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); also if the statement would write.
    pub fn query(&self, sql: &str, params: impl IntoParams) -> Result<Rows> {
        refuse_nul("query", sql)?;
        let params = params.into_params();
        self.read(|connection| {
            writer::collect(connection, sql, &params)
                .map_err(|e| Error::sqlite("query", self.path(), self.hide(e)))
        })
    }

    /// Runs a closure on a connection that only reads; everything it reads is of
    /// one moment (one snapshot). Never waits for the write lock.
    ///
    /// At most [`Options::readers`] reads run at once; a read inside a read
    /// takes a second connection. Keep it short: SQLite cannot shorten its log
    /// past the oldest snapshot in use.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): no connection became free.
    /// - the closure's own error.
    pub fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.read_by(&self.deadline(), work)
    }

    pub(crate) fn read_by<T, E>(
        &self,
        deadline: &Deadline,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        let location = &self.inner.location;
        let failed = |e: rusqlite::Error| Error::sqlite("read", &location.path, e);
        let attachment = self.inner.attachment();
        let reader = attachment.readers.take(location, deadline)?;
        connection::set_busy_timeout(&reader, deadline.remaining()).map_err(failed)?;
        let begun = reader
            .prepare_cached("BEGIN")
            .and_then(|mut begin| begin.raw_execute());
        begun.map_err(failed)?;
        let value = work(&reader)?;
        if reader.is_inherited() {
            return Err(Error::forked("read", &location.path).into());
        }
        Ok(value)
    }

    /// The error as the caller may see it.
    pub(crate) fn hide(&self, error: rusqlite::Error) -> rusqlite::Error {
        self.inner.options.hide(error)
    }

    /// For whoever listens: a call of a task failed before it had a thread.
    #[cfg(feature = "tokio")]
    pub(crate) fn tell_failed(&self, error: &Error) {
        let subject = Subject {
            database: &self.inner.location,
            options: &self.inner.options,
        };
        telemetry::failed(subject, error);
    }

    /// The deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.inner.options.timeout)
    }

    pub(crate) fn attachment(&self) -> Arc<Attachment> {
        self.inner.attachment()
    }

    /// Waits for the write lock and the writing connection.
    #[track_caller]
    pub(crate) fn session<'a>(&'a self, attachment: &'a Attachment) -> Result<Session<'a>> {
        self.session_by(attachment, self.deadline())
    }

    #[track_caller]
    pub(crate) fn session_by<'a>(
        &'a self,
        attachment: &'a Attachment,
        deadline: Deadline,
    ) -> Result<Session<'a>> {
        let site = panic::Location::caller();
        let session = self.desk(attachment)?.session(deadline)?;
        session.is_asked_at(site, false);
        Ok(session)
    }

    /// What a write needs, if this database may be written.
    pub(crate) fn desk<'a>(&'a self, attachment: &'a Attachment) -> Result<Desk<'a>> {
        self.refuse_read_only()?;
        Ok(Desk {
            location: &self.inner.location,
            options: &self.inner.options,
            attachment,
        })
    }

    pub(crate) fn refuse_read_only(&self) -> Result<()> {
        if !self.inner.options.read_only {
            return Ok(());
        }
        Err(Error::misuse(
            "write",
            format!("{} was opened for reading only", self.path().display()),
            "open it without `read_only`",
        ))
    }

    /// How many reads run at once.
    #[cfg(feature = "tokio")]
    pub(crate) fn readers(&self) -> usize {
        self.inner.options.readers
    }
}

impl Inner {
    /// What this process has open. A forked child leaves its parent's alone,
    /// for ever, and starts its own.
    fn attachment(&self) -> Arc<Attachment> {
        let current = self.attachment.load();
        if current.is_ours() {
            return Arc::clone(&current);
        }
        let own = Arc::new(Attachment::new(
            current.locker.clone(),
            &self.location,
            &self.options,
        ));
        let previous = self
            .attachment
            .compare_and_swap(&*current, Arc::clone(&own));
        if previous.is_ours() {
            // Another thread of the child was first.
            return Arc::clone(&previous);
        }
        // One count is kept for ever, so that it is never dropped.
        std::mem::forget(Arc::clone(&previous));
        own
    }
}

impl Attachment {
    fn new(locker: Locker, location: &Location, options: &Options) -> Self {
        Self {
            generation: fork_generation(),
            locker,
            writer: Mutex::new(None),
            readers: ReaderPool::new(options.readers),
            checkpointer: Checkpointer::default(),
            group: Group::default(),
            carrying: Carrying::default(),
            wal: location.wal(),
        }
    }

    /// Whether this process made it, not a parent of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    pub(crate) fn take_writer(&self) -> Option<Box<Writer>> {
        self.lock_writer().take()
    }

    pub(crate) fn keep_writer(&self, writer: Option<Box<Writer>>) {
        *self.lock_writer() = writer;
    }

    /// The write lock, if it is free this moment and nothing is left to move that
    /// would take long.
    fn guard_for_closing(&self, connection: &Connection) -> Option<Guard> {
        if !self.locker.lock_file().exists() {
            return None;
        }
        // First without the lock: others may write while we wait for the disk. Not at
        // all, if we are not the last: of many short processes each would wait.
        if wal::is_long(&self.wal) && (self.locker.is_shared() || !wal::checkpoint_all(connection))
        {
            return None;
        }
        let guard = self.locker.try_acquire().unwrap_or(None)?;
        // They may have written.
        let moved = !wal::is_long(&self.wal) || wal::checkpoint_all(connection);
        moved.then_some(guard)
    }

    fn lock_writer(&self) -> MutexGuard<'_, Option<Box<Writer>>> {
        // Nothing panics with the mutex held.
        self.writer.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The last connection to a database checkpoints and deletes the log as it
/// closes, and keeps readers out until it is done. So what can take long is done
/// before, passively. The rest is maintenance: it happens under the write lock, or,
/// where the lock is not free this moment or something is left to move, not at all:
/// whoever is in the way closes later.
impl Drop for Attachment {
    fn drop(&mut self) {
        // Without locking: in a forked child a thread that is not there may have the
        // mutexes for ever.
        let writer = self.writer.get_mut();
        let writer = writer.unwrap_or_else(PoisonError::into_inner).take();
        let carrier = self.carrying.drain();
        let others = (self.readers.drain(), self.checkpointer.take(), carrier);
        if !self.is_ours() {
            std::mem::forget((writer, others));
            return;
        }
        drop(others);
        let Some(writer) = writer else {
            return;
        };
        let guard = self.guard_for_closing(&writer.connection);
        if guard.is_none() {
            // Cannot fail on an open connection; if it did, closing checkpoints.
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = writer.connection.set_db_config(no_checkpoint, true);
        }
        drop(writer);
        drop(guard);
    }
}

impl Options {
    /// Returns the write lock of a database without opening the database, which need not
    /// exist.
    ///
    /// # Errors
    ///
    /// Those of [`Database::open`] that are about the path.
    pub fn locker(&self, path: impl AsRef<Path>) -> Result<WriteLocker> {
        locker(&Location::of(path.as_ref(), "lock database")?, self)
    }

    /// Opens the database, as [`Database::open`] does, with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        Database::open_with(path.as_ref(), self)
    }
}

/// The path of the lock file of a database.
fn lock_path(location: &Location, options: &Options) -> Result<PathBuf> {
    let path = match &options.lock_path {
        Some(path) => path.clone(),
        None => location.directory().join(LOCK_FILE_NAME),
    };
    refuse_database_as_lock(location, &path)?;
    Ok(path)
}

/// The write lock of a database, for this crate.
fn core_locker(location: &Location, options: &Options) -> Result<Locker> {
    let locker = Locker::at(&lock_path(location, options)?)?;
    refuse_database_as_lock(location, locker.lock_file())?;
    Ok(locker.with(|lock| {
        lock.model = Some(location.path.clone());
        lock.allow_network_fs = options.allow_network_fs;
        lock.policy = options.policy;
        lock.long_hold = options.warn_hold;
        lock.use_queue = options.queue_file;
        lock.label.clone_from(&options.label);
    }))
}

/// The same for users.
pub(crate) fn locker(location: &Location, options: &Options) -> Result<WriteLocker> {
    let locker = WriteLocker::at(lock_path(location, options)?)?;
    refuse_database_as_lock(location, locker.lock_file())?;
    let locker = locker
        .permissions_like(&location.path)
        .allow_network_fs(options.allow_network_fs)
        .policy(options.policy)
        .warn_hold(options.warn_hold);
    let locker = if options.queue_file {
        locker
    } else {
        locker.no_page()
    };
    Ok(match &options.label {
        Some(label) => locker.label(label),
        None => locker,
    })
}

/// The lock's record would overwrite the database, or SQLite's files beside it.
fn refuse_database_as_lock(location: &Location, lock_file: &Path) -> Result<()> {
    let identity = |path: &Path| path.metadata().and_then(|meta| sys::identity(&meta)).ok();
    let lock_identity = identity(lock_file);
    let is_lock = |path: &Path| {
        path == lock_file || (lock_identity.is_some() && identity(path) == lock_identity)
    };
    if !location.files().any(|file| is_lock(&file)) {
        return Ok(());
    }
    Err(Error::refused(
        "lock database",
        &location.path,
        format!(
            "its lock file would be {}, a file of the database itself",
            lock_file.display()
        ),
        "choose another lock path, or another name for the database",
    ))
}

fn refuse_network(location: &Location, options: &Options) -> Result<()> {
    if options.allow_network_fs {
        return Ok(());
    }
    let found = penholder_lock::network_file_system(location.directory());
    let found = found.map_err(|e| {
        Error::io(
            "open database",
            &location.path,
            e,
            "check the permissions of its folder",
        )
    })?;
    match found {
        None => Ok(()),
        Some(name) => Err(Error::refused(
            "open database",
            &location.path,
            format!(
                "on a network file system ({name}), where SQLite's locks are not to be trusted"
            ),
            "move it to a local disk, or allow it if no other machine writes there (`allow_network_fs`, on the command line `--allow-network-fs`)",
        )),
    }
}

/// Switches the database to WAL if it is not, under the write lock. Where the
/// lock file cannot be written the database is left as it is: it can be read,
/// and every write says why not.
fn ensure_wal(
    connection: &Connection,
    location: &Location,
    attachment: &Attachment,
    deadline: &Deadline,
) -> Result<()> {
    let failed = |e| connection::explain(location, deadline, e);
    if connection::is_wal(connection, deadline).map_err(failed)?
        || connection.is_readonly("main").map_err(failed)?
    {
        return Ok(());
    }
    let guard = match attachment.locker.acquire_until(deadline) {
        Ok(guard) => guard,
        Err(error) if error.is_not_permitted() => return Ok(()),
        Err(error) => return Err(error.into()),
    };
    // Another process may have switched it while we waited.
    let done = connection::is_wal(connection, deadline).map_err(failed)?
        || connection::switch_to_wal(connection, deadline).map_err(failed)?;
    drop(guard);
    if done {
        return Ok(());
    }
    Err(Error::refused(
        "open database",
        &location.path,
        "SQLite does not switch it to WAL",
        "check for a program that has it open in another mode",
    ))
}

fn warnings(location: &Location) -> Vec<String> {
    let mut warnings = Vec::new();
    if location.links > 1 {
        warnings.push(format!(
            "{}: the file has {} names (hard links): a writer that opens it under a name in \
             another folder uses another lock file and another log, which corrupts it: keep one name",
            location.path.display(),
            location.links
        ));
    }
    warnings
}
