//! One handle on one database.

use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use arc_swap::ArcSwap;
use penholder_core::{Deadline, Status};
use penholder_lock::WriteLocker;
use rusqlite::Connection;

use crate::attachment::Attachment;
use crate::data::{Executed, IntoParams, Query, RowSet, Value, refuse_nul};
use crate::delegate::{DelegateContext, Entered};
use crate::error::{Error, Result};
use crate::group::{self, Begun, Submission, Work, WriteResult};
use crate::location::Location;
use crate::opening;
use crate::options::OpenOptions;
use crate::sqlite::connection;
use crate::sqlite::query::query;
#[cfg(feature = "tokio")]
use crate::telemetry::{self, Labels};
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
    warnings: Vec<String>,
    /// A forked child replaces its parent's.
    attachment: ArcSwap<Attachment>,
}

impl OpenOptions {
    /// Returns the write lock of a database without opening the database, which need not
    /// exist.
    ///
    /// # Errors
    ///
    /// Those of [`Database::open`] that are about the path.
    pub fn locker(&self, path: impl AsRef<Path>) -> Result<WriteLocker> {
        opening::public_locker(&Location::of(path.as_ref(), "lock database")?, self)
    }

    /// Opens the database, as [`Database::open`] does, with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub fn open(self, path: impl AsRef<Path>) -> Result<Database> {
        let deadline = Deadline::after(self.timeout);
        let location = Location::of(path.as_ref(), "open database")?;
        let attachment = opening::open(&location, &self, &deadline)?;
        Ok(Database {
            inner: Arc::new(Inner {
                warnings: opening::warnings(&location),
                location,
                options: self,
                attachment: ArcSwap::from_pointee(attachment),
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
    ///   `:memory:`, a URI, a missing directory, a network file system).
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

    /// Returns what is unwise about this database, in sentences for a person: a second name by
    /// a hard link, under which another lock file would be used.
    #[must_use]
    pub fn warnings(&self) -> &[String] {
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
    /// The closure may read before it writes: no other process writes meanwhile. It may borrow,
    /// and return an error type of its own. An error or a panic rolls back and reaches the
    /// caller; the database remains usable. Keep it short: all others wait. It always runs in
    /// this process; the plain data of [`execute`](Self::execute) and [`batch`](Self::batch) may
    /// be executed by another process.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
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
    /// - [`is_timeout`](Error::is_timeout): the deadline passed before the lock was free, or
    ///   SQLite's own ([`is_busy`](Error::is_sqlite_busy)); nothing ran.
    /// - [`lock_error`](Error::lock_error) that is nested: called inside another write of this
    ///   thread.
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
        let alone = |session: &Session<'_>, work| session.write(work);
        self.run_write(site, false, work, alone, group::run_closure)
    }

    /// Takes the write lock, runs a closure on the writing connection, and releases the lock:
    /// for work that cannot run in one transaction. A transaction that the closure leaves open
    /// is rolled back, and that is an error.
    ///
    /// SQLite's own waits in it are bounded each, not together: every statement that meets a
    /// writer without the lock may wait as long as was left of the timeout when the closure
    /// began.
    ///
    /// It does not nest: a write inside it is an error at once. What the closure changes on the
    /// connection (pragmas, attached databases) stays changed for later writes of this process.
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
        let site = panic::Location::caller();
        self.with_session(self.deadline(), site, |session| session.run(work))
    }

    /// Runs one statement that writes, as plain data, in a transaction.
    ///
    /// Pragmas that SQLite ignores in a transaction (`foreign_keys`) and `ATTACH` need
    /// [`with_write_lock`](Self::with_write_lock).
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
    /// failure (`INSERT OR FAIL`, `ON CONFLICT FAIL`, `RAISE(FAIL)`): then the text says so. SQL
    /// with a NUL byte is refused before the call waits for anything.
    #[track_caller]
    pub fn execute(&self, sql: &str, params: impl IntoParams) -> Result<Executed> {
        let site = panic::Location::caller();
        refuse_nul("write", sql)?;
        let params = params.into_params();
        let alone = |session: &Session<'_>, params: Vec<Value>| session.execute(sql, &params);
        self.run_write(site, true, params, alone, |submission, params| {
            let work = Work::Statement(Query::new(sql, params));
            group::run_data(submission, work).and_then(group::only)
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
    /// As [`execute`](Self::execute); if one statement fails, none took effect.
    #[track_caller]
    pub fn batch<S: Into<Query>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> Result<Vec<Executed>> {
        let site = panic::Location::caller();
        // Built before the lock is taken: the iterator is the caller's code.
        let statements: Vec<Query> = statements.into_iter().map(Into::into).collect();
        statements
            .iter()
            .try_for_each(|one| refuse_nul("write", one.sql()))?;
        self.run_batch(statements, site)
    }

    fn run_batch(&self, statements: Vec<Query>, site: CallSite) -> WriteResult {
        let alone = |session: &Session<'_>, all: Vec<Query>| session.batch(&all);
        self.run_write(site, true, statements, alone, |submission, statements| {
            group::run_data(submission, Work::Batch(statements))
        })
    }

    /// Runs a write: alone, if it can begin without waiting, or in the group of this process.
    fn run_write<W, T, E: From<Error>>(
        &self,
        site: CallSite,
        has_statement: bool,
        work: W,
        alone: impl FnOnce(&Session<'_>, W) -> Result<T, E>,
        in_group: impl FnOnce(Submission<'_>, W) -> Result<T, E>,
    ) -> Result<T, E> {
        let deadline = self.deadline();
        let attachment = self.attachment();
        let context = self.context(&attachment)?;
        match context.enter_without_waiting(deadline)? {
            Entered::Alone(entered) => {
                entered.session.note_call_site(site, has_statement);
                let done = catch_unwind(AssertUnwindSafe(|| alone(&entered.session, work)));
                entered.finish();
                done.unwrap_or_else(|panic| resume_unwind(panic))
            }
            Entered::Group(begun) => {
                let lead = |begun: Begun, member: &_| context.lead_until_finished(begun, member);
                let submission = Submission {
                    context: context.group,
                    begun,
                    deadline,
                    site,
                    lead: &lead,
                };
                in_group(submission, work)
            }
        }
    }

    /// Runs work with the write lock and the writing connection, outside the group of this
    /// process.
    pub(crate) fn with_session<T, E: From<Error>>(
        &self,
        deadline: Deadline,
        site: CallSite,
        work: impl FnOnce(&Session<'_>) -> Result<T, E>,
    ) -> Result<T, E> {
        let attachment = self.attachment();
        let context = self.context(&attachment)?;
        let session = Session::acquire(context.group.write, deadline)?;
        session.note_call_site(site, false);
        let done = catch_unwind(AssertUnwindSafe(|| work(&session)));
        context.finish(session);
        done.unwrap_or_else(|panic| resume_unwind(panic))
    }

    // ---- reading ---------------------------------------------------------------

    /// Runs one statement that reads, and returns all its rows. Never waits for the write lock.
    ///
    /// # Errors
    ///
    /// As [`read`](Self::read); also if the statement would write.
    pub fn query(&self, sql: &str, params: impl IntoParams) -> Result<RowSet> {
        refuse_nul("query", sql)?;
        let params = params.into_params();
        self.read(|connection| {
            query(connection, sql, &params)
                .map_err(|e| Error::sqlite("query", self.path(), self.hide(e)))
        })
    }

    /// Runs a closure on a connection that only reads; everything that it reads is of one
    /// moment (one snapshot). Never waits for the write lock.
    ///
    /// At most [`OpenOptions::max_readers`] reads run at once; a read inside a read takes a second
    /// connection. Keep it short: SQLite cannot shorten its WAL past the oldest snapshot in use.
    ///
    /// # Errors
    ///
    /// - [`is_timeout`](Error::is_timeout): no connection became free.
    /// - the closure's own error.
    pub fn read<T, E>(&self, work: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E>
    where
        E: From<Error>,
    {
        self.read_until(&self.deadline(), work)
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
        let failed = |e: rusqlite::Error| Error::sqlite("read", &location.path, e);
        let attachment = self.attachment();
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

    // ---- for the layers above ----------------------------------------------------

    /// Returns the error as the caller may see it.
    pub(crate) fn hide(&self, error: rusqlite::Error) -> rusqlite::Error {
        self.inner.options.hide(error)
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
            format!("{} was opened for reading only", self.path().display()),
            "open it without `read_only`",
        ))
    }

    /// Returns how many reads run at once.
    #[cfg(feature = "tokio")]
    pub(crate) fn max_readers(&self) -> usize {
        self.inner.options.max_readers
    }
}

impl Inner {
    /// Returns what this process has open. A forked child never touches its parent's, and
    /// starts its own.
    fn attachment(&self) -> Arc<Attachment> {
        let current = self.attachment.load();
        if current.is_ours() {
            return Arc::clone(&current);
        }
        let own = Arc::new(Attachment::new(
            current.locker().clone(),
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
        // One count is kept for ever, so that the parent's is never dropped.
        std::mem::forget(Arc::clone(&previous));
        own
    }
}
