//! One handle on one database.

use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};

use arc_swap::ArcSwap;
#[cfg(feature = "tokio")]
use penholder_core::Canceller;
use penholder_core::{Deadline, Status, shown_path};
use penholder_lock::WriteLocker;
use rusqlite::Connection;
use rusqlite::types::FromSql;
use serde::de::DeserializeOwned;

use crate::attachment::Attachment;
use crate::attachments;
use crate::data::{Executed, IntoParams, Query, Row, RowSet, Statement, Value, place_of};
use crate::delegate::{DelegateContext, Entered, PlainData, WaitingWrite};
use crate::doctor::{self, Finding};
use crate::error::{Error, Result, Setting};
use crate::group::{self, Work};
use crate::location::Location;
use crate::mutex::lock_until;
use crate::opening;
use crate::options::OpenOptions;
use crate::separate_files;
use crate::sqlite::connection;
use crate::sqlite::plain_data::{self, Call};
use crate::sqlite::query::query_up_to;
use crate::telemetry;
#[cfg(feature = "tokio")]
use crate::telemetry::Labels;
use crate::write::{CallSite, Session, Transaction};

/// One SQLite database, written by many processes, one at a time.
///
/// Cheap to clone, and shared between threads. All clones use one writing connection and one
/// pool of readers.
///
/// ```
/// use penholder::Database;
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("notes.db");
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
/// When a writing call returns `Ok`, the write is committed and survives the death of every
/// process. With [`Synchronous::Normal`](crate::Synchronous), the default, a power cut may still
/// take the last writes (never a part of one); with [`Synchronous::Full`](crate::Synchronous) it
/// may not.
///
/// # Waiting
///
/// [`OpenOptions::timeout`] bounds everything that one call waits for. It does not bound the work
/// itself.
#[derive(Debug, Clone)]
pub struct Database {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    location: Location,
    options: OpenOptions,
    warnings: Vec<Finding>,
    /// A forked child replaces its parent's, and every process one whose files were replaced.
    attachment: ArcSwap<Attachment>,
    reopening: Mutex<()>,
}

impl OpenOptions {
    /// Returns the write lock of a database without opening the database, which need not
    /// exist.
    ///
    /// # Errors
    ///
    /// Those of [`Database::open`] that are about the path.
    pub fn locker(&self, path: impl AsRef<Path>) -> Result<WriteLocker> {
        let what = "lock database";
        let location = Location::of(path.as_ref(), what)?;
        separate_files::refuse(&location, self, what)?;
        opening::public_locker(&location, self)
    }

    /// Opens the database, as [`Database::open`] does, with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        let deadline = Deadline::after(self.timeout);
        self.open_until(&deadline, path.as_ref())
    }

    /// As [`open`](Self::open), by this deadline.
    pub(crate) fn open_until(self, deadline: &Deadline, path: &Path) -> Result<Database> {
        let location = Location::of(path, "open database")?;
        let attachment = opening::open(&location, &self, deadline)?;
        Ok(Database {
            inner: Arc::new(Inner {
                warnings: doctor::findings_on_opening(&location),
                location,
                options: self,
                attachment: ArcSwap::new(attachments::register(attachment)),
                reopening: Mutex::new(()),
            }),
        })
    }
}

impl Database {
    /// Opens a database, creating it if it is missing, and switches it to WAL if it is not in
    /// WAL mode (only then the write lock is taken).
    ///
    /// The path is made absolute and links are resolved now: every alias of the database uses
    /// the lock file in its real directory.
    ///
    /// # Errors
    ///
    /// - [`is_refused`](Error::is_refused): no plain file can be opened there (a directory,
    ///   `:memory:`, a URI, a missing directory, a network file system), or processes use the
    ///   file with another WAL (a mount of the single file; a second name by a hard link).
    /// - [`sqlite_error`](Error::sqlite_error): it is not a database, or may not be read.
    /// - [`is_timeout`](Error::is_timeout): it had to be switched to WAL, and another process
    ///   held the lock.
    pub fn open(path: impl AsRef<Path>) -> Result<Self> {
        OpenOptions::new().open(path)
    }

    /// Returns the path of the database: absolute, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.inner.location.path
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn lock_file(&self) -> PathBuf {
        self.attachment().locker().lock_file().to_owned()
    }

    /// Returns what was found to be unwise about this database when it was opened: a second name
    /// by a hard link, under which another lock file would be used. [`Doctor`](doctor::Doctor)
    /// examines much more.
    #[must_use]
    pub fn warnings(&self) -> &[Finding] {
        &self.inner.warnings
    }

    /// Returns who holds the write lock, who waits, and what happened. It only looks.
    ///
    /// # Errors
    ///
    /// The lock file cannot be read.
    pub fn status(&self) -> Result<Status> {
        Ok(self.attachment().locker().status()?)
    }

    // ---- writing ---------------------------------------------------------------

    /// Runs a closure in one transaction (`BEGIN IMMEDIATE`) under the write lock, and commits
    /// it if the closure returns `Ok`.
    ///
    /// The closure may read before it writes: no other process writes meanwhile. It may borrow.
    /// An error or a panic rolls back and reaches the caller; the database remains usable. Keep
    /// it short: all others wait. It always runs in this process; the plain data of
    /// [`execute`](Self::execute) and [`batch`](Self::batch) may be executed by another process.
    /// [`try_write`](Self::try_write) is the same for a closure with an error type of its own.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE counter(n INTEGER)", [])?;
    /// let n = db.write(|tx| {
    ///     let n: i64 = tx.query_row("SELECT count(*) FROM counter", [], |row| row.get(0))?;
    ///     tx.execute("INSERT INTO counter VALUES (?1)", [n])?;
    ///     Ok(n)
    /// })?;
    /// assert_eq!(n, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Why `Send`
    ///
    /// Writes of several threads share a transaction, and one of these threads runs all of their
    /// closures. So what a closure borrows or returns has to be `Send`. Copy what it needs out of
    /// an `Rc` before (`let n = *rc;`). A closure that must run on its own thread may use
    /// [`with_write_lock`](Self::with_write_lock), which needs no `Send`.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): the deadline passed before the lock was free, or
    ///   SQLite's own ([`is_sqlite_busy`](Error::is_sqlite_busy)); nothing ran.
    /// - [`is_nested`](Error::is_nested): called inside another write of this thread.
    /// - [`is_batch_aborted`](Error::is_batch_aborted): a closure of another thread made SQLite
    ///   roll back the shared transaction; nothing was written: call again.
    /// - the closure's own error; nothing was written.
    /// - [`sqlite_error`](Error::sqlite_error) of the commit; nothing was written.
    #[track_caller]
    pub fn write<T: Send>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send,
    ) -> Result<T> {
        let written = self.write_from(panic::Location::caller(), work);
        written.map_err(|e| e.in_closure("write", self.path()))
    }

    /// Runs a closure in one transaction, as [`write`](Self::write) does, and keeps the
    /// closure's error type, which has to convert from [`Error`] (`try_` does not mean without
    /// waiting). For `?` on the transaction it also converts from rusqlite's error;
    /// `anyhow::Error` does both.
    ///
    /// ```
    /// # use penholder::{Database, Error};
    /// #[derive(Debug)]
    /// enum AppError {
    ///     SoldOut,
    ///     Database(Error),
    /// }
    ///
    /// impl From<Error> for AppError {
    ///     fn from(error: Error) -> Self {
    ///         Self::Database(error)
    ///     }
    /// }
    ///
    /// impl From<penholder::rusqlite::Error> for AppError {
    ///     fn from(error: penholder::rusqlite::Error) -> Self {
    ///         Self::Database(error.into())
    ///     }
    /// }
    ///
    /// # fn main() -> Result<(), AppError> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// # db.execute("CREATE TABLE stock(count)", [])?;
    /// # db.execute("INSERT INTO stock VALUES (0)", [])?;
    /// let bought = db.try_write(|tx| {
    ///     let count: i64 = tx.query_row("SELECT count FROM stock", [], |row| row.get(0))?;
    ///     if count == 0 {
    ///         return Err(AppError::SoldOut);
    ///     }
    ///     tx.execute("UPDATE stock SET count = count - 1", [])?;
    ///     Ok(())
    /// });
    /// assert!(matches!(bought, Err(AppError::SoldOut)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn try_write<T: Send, E: From<Error> + Send>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    ) -> Result<T, E> {
        self.write_from(panic::Location::caller(), work)
    }

    /// Runs a closure in one transaction, as [`try_write`](Self::try_write) does, on the calling
    /// thread and in a commit of its own: the closure need not be `Send`.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn try_write_on_this_thread<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let site = panic::Location::caller();
        self.with_session(self.deadline(), site, |session| session.write(work))
    }

    fn write_from<T, E, F>(&self, site: CallSite, work: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
        T: Send,
        E: From<Error> + Send,
    {
        let alone = |session: &Session<'_>, work| session.write(work);
        self.run_write(site, false, work, alone, |waiting, work| {
            waiting.submit(|submission| group::run_closure(submission, work))
        })
    }

    /// Takes the write lock, runs a closure on the writing connection, and releases the lock:
    /// for work that cannot run in one transaction. A transaction that the closure leaves open
    /// is rolled back, and that is an error.
    ///
    /// SQLite's own waits in it are bounded each, not together: every statement that meets a
    /// writer without the lock may wait as long as was left of the timeout when the closure
    /// began.
    ///
    /// It runs on the calling thread. It does not nest: a write inside it is an error at once.
    /// What the closure changes on the connection (pragmas, attached databases) stays changed
    /// for later writes of this process: after `PRAGMA query_only=1` they fail, and after
    /// `PRAGMA locking_mode=EXCLUSIVE` all others are locked out, also the readers of this
    /// process. Reset such a setting before the closure returns. The errors of this process name
    /// it.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.with_write_lock(|connection| {
    ///     connection.execute_batch("PRAGMA foreign_keys = ON")?;
    ///     Ok(())
    /// })?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn with_write_lock<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let done = self.with_write_lock_from(panic::Location::caller(), work);
        done.map_err(|e| e.in_closure("write under the lock", self.path()))
    }

    /// Runs a closure under the write lock, as [`with_write_lock`](Self::with_write_lock) does,
    /// and keeps the closure's error type.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn try_with_write_lock<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_write_lock_from(panic::Location::caller(), work)
    }

    fn with_write_lock_from<T, E: From<Error>>(
        &self,
        site: CallSite,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_session(self.deadline(), site, |session| session.run(work))
    }

    /// Runs one statement that writes, as plain data, in a transaction.
    ///
    /// It changes data and leaves the connection as it is. A statement that would leave
    /// something on it for later writes is refused, and the error says what to do instead: a
    /// pragma with a value (`query_only`, `locking_mode`, `foreign_keys`), unless it changes the
    /// database (`user_version`, `application_id`) or only the use of memory (`cache_size`);
    /// `BEGIN`, `COMMIT`, `ROLLBACK`, and outside a [`batch`](Self::batch) `SAVEPOINT`; `ATTACH`
    /// and `DETACH`; `CREATE TEMP …`. Use [`connection_hook`](OpenOptions::connection_hook) for
    /// what every connection shall have, or a closure of [`write`](Self::write) or
    /// [`with_write_lock`](Self::with_write_lock). A pragma that asks is not refused.
    ///
    /// ```
    /// # use penholder::{Database, Result, params};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE job(id INTEGER PRIMARY KEY, name, size)", ())?;
    /// let done = db.execute("INSERT INTO job(name, size) VALUES (?1, ?2)", params!["a", 7])?;
    /// assert_eq!((done.rows_changed, done.last_insert_rowid), (1, Some(1)));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write); [`sqlite_error`](Error::sqlite_error) if the statement fails,
    /// and then nothing was written, unless it asks SQLite to keep what it did before the
    /// failure (`INSERT OR FAIL`, `ON CONFLICT FAIL`, `RAISE(FAIL)`): then the text says so. Of a
    /// statement that begins with `WITH` nothing is kept.
    /// Parameters that do not fit the statement ([`IntoParams`]), SQL with a NUL byte, and what
    /// would stay on the connection are refused before the call waits for anything.
    #[track_caller]
    pub fn execute(&self, sql: &str, params: impl IntoParams) -> Result<Executed> {
        let site = panic::Location::caller();
        let kind = plain_data::check(sql, Call::Execute)?;
        let params = params.into_params().resolve("write", sql)?;
        let alone = |session: &Session<'_>, params: Vec<Value>| session.execute(sql, kind, &params);
        self.run_write(site, true, params, alone, |mut waiting, params| {
            let done = match waiting.have_executed(PlainData::Statement(sql, &params)) {
                Some(done) => Ok(done),
                None => {
                    let work = Work::Statement(Statement::new(sql, params));
                    waiting.submit(|submission| group::run_data(submission, work))
                }
            };
            done.and_then(group::only)
        })
    }

    /// Runs several statements, as plain data, in one transaction: all or nothing.
    ///
    /// ```
    /// # use penholder::{Database, Result, Query};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.batch([
    ///     Query::new("CREATE TABLE account(name, balance)", ()),
    ///     Query::new("INSERT INTO account VALUES (?1, ?2)", ("ann", 10)),
    ///     Query::new("INSERT INTO account VALUES (?1, ?2)", ("bob", 0)),
    /// ])?;
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`execute`](Self::execute); if one statement fails, none took effect. The text says
    /// which one failed. Parameters are checked before any of them runs.
    #[track_caller]
    pub fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Executed>> {
        let site = panic::Location::caller();
        // Built before the lock is taken: the iterator is the caller's code.
        let statements = self.statements(queries)?;
        let alone = |session: &Session<'_>, all: Vec<Statement>| session.batch(&all);
        self.run_write(
            site,
            true,
            statements,
            alone,
            |mut waiting, statements| match waiting.have_executed(PlainData::Batch(&statements)) {
                Some(done) => Ok(done),
                None => {
                    let work = Work::Batch(statements);
                    waiting.submit(|submission| group::run_data(submission, work))
                }
            },
        )
    }

    /// Checks the parameters of the statements of a batch.
    pub(crate) fn statements<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q>,
    ) -> Result<Vec<Statement>> {
        let queries: Vec<Query> = queries.into_iter().map(Into::into).collect();
        let count = queries.len();
        let checked = |(index, query): (usize, Query)| {
            let explain = |error: Error, sql: &str| {
                let shown = self.may_show_sql().then_some(sql);
                error.at_place(|| place_of("statement", index + 1, count, shown))
            };
            plain_data::check(query.sql(), Call::Batch).map_err(|e| explain(e, query.sql()))?;
            query.into_statement("write", explain)
        };
        queries.into_iter().enumerate().map(checked).collect()
    }

    /// Runs a write: alone, if it can begin without waiting, or in the group of this process.
    fn run_write<W, T, E: From<Error>>(
        &self,
        site: CallSite,
        has_statement: bool,
        work: W,
        alone: impl FnOnce(&Session<'_>, W) -> Result<T, E>,
        in_group: impl FnOnce(WaitingWrite<'_>, W) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = self.deadline();
        self.with_attachment(&deadline, |attachment| {
            let context = self.context(attachment)?;
            match context.enter_without_waiting(deadline, site)? {
                Entered::Alone(entered) => {
                    entered.session.note_call_site(site, has_statement);
                    let done = catch_unwind(AssertUnwindSafe(|| alone(&entered.session, work)));
                    if !matches!(done, Ok(Ok(_))) {
                        entered.session.forgo_lease();
                    }
                    entered.finish();
                    done.unwrap_or_else(|panic| resume_unwind(panic))
                }
                Entered::Group(waiting) => in_group(waiting, work),
            }
        })
    }

    /// Runs work with the write lock and the writing connection, outside the group of this
    /// process.
    pub(crate) fn with_session<T, E: From<Error>>(
        &self,
        deadline: Deadline,
        site: CallSite,
        work: impl FnOnce(&Session<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        self.with_attachment(&deadline, |attachment| {
            let context = self.context(attachment)?;
            let session = Session::acquire(context.group.write, deadline)?;
            run_session(&context, session, site, work)
        })
    }

    /// As [`with_session`](Self::with_session), with a wait that another thread may end.
    #[cfg(feature = "tokio")]
    pub(crate) fn with_cancellable_session<T, E: From<Error>>(
        &self,
        attachment: &Attachment,
        deadline: Deadline,
        canceller: &Canceller,
        site: CallSite,
        work: impl FnOnce(&Session<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let context = self.context(attachment)?;
        let session = Session::acquire_unless_cancelled(context.group.write, deadline, canceller);
        let done = session
            .map_err(E::from)
            .and_then(|session| run_session(&context, session, site, work));
        attachment.end_of_call(&deadline);
        done
    }

    // ---- reading ---------------------------------------------------------------

    /// Runs one statement that reads, and returns all its rows. Never waits for the write lock.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); also if the statement would write, if it would leave something
    /// on the connection for later reads (as for [`execute`](Self::execute)), or if its
    /// parameters do not fit ([`IntoParams`]).
    pub fn query(&self, sql: &str, params: impl IntoParams) -> Result<RowSet> {
        plain_data::check(sql, Call::Query)?;
        let params = params.into_params().resolve("query", sql)?;
        self.read_from(|connection| self.run_query(usize::MAX, connection, sql, &params))
    }

    /// Runs one statement that reads, and converts each row to a tuple, to a struct, or to
    /// another type that serde can deserialize: see [`Row::deserialize`].
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// #[derive(serde::Deserialize)]
    /// struct Job {
    ///     id: i64,
    ///     name: String,
    /// }
    /// db.execute("CREATE TABLE job(id INTEGER PRIMARY KEY, name TEXT)", [])?;
    /// db.execute("INSERT INTO job(name) VALUES ('sweep')", [])?;
    /// let jobs = db.query_as::<Job>("SELECT * FROM job", [])?;
    /// assert_eq!((jobs[0].id, jobs[0].name.as_str()), (1, "sweep"));
    /// let pairs = db.query_as::<(i64, String)>("SELECT id, name FROM job", [])?;
    /// assert_eq!(pairs, [(1, "sweep".to_owned())]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query`](Self::query) and [`Row::deserialize`].
    pub fn query_as<T: DeserializeOwned>(
        &self,
        sql: &str,
        params: impl IntoParams,
    ) -> Result<Vec<T>> {
        self.query(sql, params)?
            .iter()
            .map(Row::deserialize)
            .collect()
    }

    /// Runs one statement that reads, and converts its first row. Further rows are not read.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// let sql = "SELECT 1 AS id, 'sweep' AS name";
    /// let name: String = db.query_row(sql, [], |row| row.get("name"))?;
    /// assert_eq!(name, "sweep");
    /// let pair: (i64, String) = db.query_row(sql, [], |row| row.deserialize())?;
    /// assert_eq!(pair, (1, name));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// [`ErrorKind::NoRow`](crate::ErrorKind::NoRow): there is no row. The closure's own error.
    /// Otherwise as [`query`](Self::query).
    pub fn query_row<T>(
        &self,
        sql: &str,
        params: impl IntoParams,
        convert: impl FnOnce(&Row) -> Result<T>,
    ) -> Result<T> {
        let found = self.query_optional(sql, params, convert)?;
        found.ok_or_else(|| self.no_row())
    }

    /// Runs one statement that reads, and converts its first row; `None` if there is no row.
    ///
    /// # Errors
    ///
    /// The closure's own error. Otherwise as [`query`](Self::query).
    pub fn query_optional<T>(
        &self,
        sql: &str,
        params: impl IntoParams,
        convert: impl FnOnce(&Row) -> Result<T>,
    ) -> Result<Option<T>> {
        plain_data::check(sql, Call::Query)?;
        let params = params.into_params().resolve("query", sql)?;
        let rows = self.read_from(|connection| self.run_query(1, connection, sql, &params))?;
        rows.first().map(convert).transpose()
    }

    /// Runs one statement that reads, and returns the first column of its first row. `T` is any
    /// type that implements rusqlite's [`FromSql`], `Option` of it for what may be `NULL`.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// assert_eq!(db.query_scalar::<i64>("SELECT count(*) FROM sqlite_schema", [])?, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`query_row`](Self::query_row); also if the value has another type.
    pub fn query_scalar<T: FromSql>(&self, sql: &str, params: impl IntoParams) -> Result<T> {
        self.query_row(sql, params, |row| row.get(0))
    }

    /// Runs a closure on a connection that only reads; everything that it reads is of one
    /// moment (one snapshot). Never waits for the write lock.
    ///
    /// At most [`OpenOptions::max_readers`] reads run at once; a read inside a read takes a
    /// second connection. Keep it short: SQLite cannot shorten its WAL past the oldest snapshot
    /// in use. [`try_read`](Self::try_read) is the same for a closure with an error type of its
    /// own.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// # db.execute("CREATE TABLE job(name)", [])?;
    /// let names = db.read(|connection| {
    ///     let mut statement = connection.prepare_cached("SELECT name FROM job")?;
    ///     let names = statement.query_map([], |row| row.get::<_, String>(0))?;
    ///     Ok(names.collect::<Result<Vec<_>, _>>()?)
    /// })?;
    /// assert!(names.is_empty());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): no connection became free.
    /// - the closure's own error.
    pub fn read<T>(&self, work: impl FnOnce(&Connection) -> Result<T>) -> Result<T> {
        let read = self.read_from(work);
        read.map_err(|e| self.name_obstacle(e.in_closure("read", self.path())))
    }

    /// Runs a closure on a connection that only reads, as [`read`](Self::read) does, and keeps
    /// the closure's error type, which has to convert from [`Error`].
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read).
    pub fn try_read<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.read_from(work)
    }

    fn read_from<T, E: From<Error>>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E> {
        self.read_until(&self.deadline(), work)
    }

    /// Runs one statement for at most `max` rows.
    pub(crate) fn run_query(
        &self,
        max: usize,
        connection: &Connection,
        sql: &str,
        params: &[Value],
    ) -> Result<RowSet> {
        query_up_to(max, connection, sql, params)
            .map_err(|e| self.name_obstacle(connection::failed("query", self.path(), self.hide(e))))
    }

    /// Names what keeps a reader out, if SQLite says that something does: a setting, or another
    /// process.
    fn name_obstacle(&self, error: Error) -> Error {
        match self.name_setting(error).into_busy() {
            Ok(busy) => connection::explain(&self.inner.location, &self.deadline(), busy),
            Err(error) => error,
        }
    }

    /// Names the setting that keeps a reader out, if it is one of this program. It would look
    /// like another process that writes.
    pub(crate) fn name_setting(&self, error: Error) -> Error {
        let attachment = self.attachment();
        let is_ours = || error.is_sqlite_busy() && attachment.write.keeps_sqlite_locks();
        if is_ours() {
            error.because_of(Setting::ExclusiveLockingMode)
        } else {
            error
        }
    }

    /// Returns the error of a query for one row that found none.
    pub(crate) fn no_row(&self) -> Error {
        let error = rusqlite::Error::QueryReturnedNoRows;
        connection::failed("query", self.path(), error)
    }

    pub(crate) fn read_until<T, E>(
        &self,
        deadline: &Deadline,
        work: impl FnOnce(&Connection) -> Result<T, E>,
    ) -> Result<T, E>
    where
        E: From<Error>,
    {
        let location = &self.inner.location;
        let failed = |e: rusqlite::Error| connection::failed("read", &location.path, e);
        // If it finds the files replaced, the next call gives the connections up: that takes the
        // write lock, for which a read does not wait.
        let attachment = self.attachment_to_use(deadline)?;
        let reader = attachment
            .readers
            .take(location, &self.inner.options, deadline)
            .map_err(|e| self.name_setting(e))?;
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

    // ---- for the layers above ----------------------------------------------------

    /// Returns the error as the caller may see it.
    pub(crate) fn hide(&self, error: rusqlite::Error) -> rusqlite::Error {
        self.inner.options.hide(error)
    }

    /// Returns whether errors may show the text of a statement.
    pub(crate) fn may_show_sql(&self) -> bool {
        self.inner.options.record_sql
    }

    /// Reports that a call of a task failed before it had a thread.
    #[cfg(feature = "tokio")]
    pub(crate) fn report_failed(&self, error: &Error) {
        let labels = Labels {
            location: &self.inner.location,
            options: &self.inner.options,
        };
        telemetry::failed(labels, error);
    }

    /// Returns the deadline of a call that begins now.
    pub(crate) fn deadline(&self) -> Deadline {
        Deadline::after(self.inner.options.timeout)
    }

    /// Returns what this process has open, to read or write with. If its files were replaced or
    /// deleted, opens what is there now.
    ///
    /// # Errors
    ///
    /// That is not safe yet, or fails as in [`Database::open`].
    pub(crate) fn attachment_to_use(&self, deadline: &Deadline) -> Result<Arc<Attachment>> {
        let current = self.attachment();
        if !current.files().are_lost() {
            return Ok(current);
        }
        drop(current);
        self.inner.reopen(deadline)
    }

    /// Does one call's work with what this process has open.
    fn with_attachment<T, E: From<Error>>(
        &self,
        deadline: &Deadline,
        work: impl FnOnce(&Attachment) -> Result<T, E>,
    ) -> Result<T, E> {
        let attachment = self.attachment_to_use(deadline)?;
        let done = work(&attachment);
        attachment.end_of_call(deadline);
        done
    }

    pub(crate) fn location(&self) -> &Location {
        &self.inner.location
    }

    pub(crate) fn options(&self) -> &OpenOptions {
        &self.inner.options
    }

    /// Returns what this process has open.
    pub(crate) fn attachment(&self) -> Arc<Attachment> {
        self.inner.attachment()
    }

    /// Returns what a write needs to know, if this database may be written.
    pub(crate) fn context<'a>(&'a self, attachment: &'a Attachment) -> Result<DelegateContext<'a>> {
        self.refuse_read_only()?;
        Ok(attachment.context(&self.inner.location, &self.inner.options))
    }

    pub(crate) fn refuse_read_only(&self) -> Result<()> {
        if !self.inner.options.read_only {
            return Ok(());
        }
        Err(Error::misuse(
            "write",
            format!("{} was opened for reading only", shown_path(self.path())),
            "open it without `read_only`",
        ))
    }

    /// Returns how many reads run at once.
    #[cfg(feature = "tokio")]
    pub(crate) fn max_readers(&self) -> usize {
        self.inner.options.max_readers
    }
}

/// Runs work in a session and ends it, also if the work panics.
fn run_session<T, E: From<Error>>(
    context: &DelegateContext<'_>,
    session: Session<'_>,
    site: CallSite,
    work: impl FnOnce(&Session<'_>) -> Result<T, E>,
) -> Result<T, E> {
    session.note_call_site(site, false);
    let done = catch_unwind(AssertUnwindSafe(|| work(&session)));
    if !matches!(done, Ok(Ok(_))) {
        session.forgo_lease();
    }
    context.finish(session);
    done.unwrap_or_else(|panic| resume_unwind(panic))
}

/// A closure that panics is rolled back, and leaves the database as it was.
impl panic::UnwindSafe for Database {}
impl panic::RefUnwindSafe for Database {}

impl Inner {
    /// Returns what this process has open. A forked child never touches its parent's, and
    /// starts its own.
    fn attachment(&self) -> Arc<Attachment> {
        let current = self.attachment.load();
        if current.is_ours() {
            return Arc::clone(&current);
        }
        let own = Attachment::new(current.locker().clone(), &self.location, &self.options);
        let own = attachments::register(own);
        let previous = self
            .attachment
            .compare_and_swap(&*current, Arc::clone(&own));
        if previous.is_ours() {
            // Another thread of the child was first.
            return Arc::clone(&previous);
        }
        // One count is kept for ever, so that the parent's is never dropped.
        std::mem::forget(Arc::clone(&previous));
        own
    }

    /// Opens what is at the path now, in the place of files that were replaced or deleted.
    fn reopen(&self, deadline: &Deadline) -> Result<Arc<Attachment>> {
        let former = self.attachment();
        // It may wait for the write lock, and the thread that has that lock may come here.
        former.give_up_if_lost(deadline)?;
        attachments::give_up_lost(&self.location, deadline);
        let one_at_a_time = lock_until(&self.reopening, deadline);
        let current = self.attachment();
        if !Arc::ptr_eq(&current, &former) || !current.files().are_lost() {
            // Another thread was first.
            return Ok(current);
        }
        if one_at_a_time.is_none() {
            current.files().refuse_lost("open database")?;
        }
        let opened = opening::reopen(&self.location, &self.options, former.files(), deadline)?;
        let own = attachments::register(opened);
        self.attachment.store(Arc::clone(&own));
        telemetry::reopened(&self.location);
        Ok(own)
    }
}
