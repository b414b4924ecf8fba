//! The same database for tasks of a tokio runtime.
//!
//! | state of a write | what waits | its future is dropped |
//! | --- | --- | --- |
//! | waits for its turn in the group of the process | the task | it leaves, and nothing happened |
//! | has the lead, which is handed over to a blocking thread | the task | the lead is taken back and passed on |
//! | leads: waits for the lock | the task, and one blocking thread for each process and database | it leaves; the thread ends its wait, and passes the lead on |
//! | runs on a blocking thread, its own or another member's | the task | it runs on and commits or fails; no one learns which |
//!
//! What runs outside the group (`with_write_lock`, maintenance) waits for the lock on a blocking
//! thread of its own. Dropping its future ends that wait; what runs already is completed.

use std::any::Any;
use std::fmt;
use std::io;
use std::panic::{self, AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::Duration;

use futures_core::Stream;
use penholder_core::fair_queue::Wake;
use penholder_core::handover::{END_THREADS, Handover, spawn_blocking};
use penholder_core::{Canceller, CommitToken, Deadline, Status};
use rusqlite::Connection;
use rusqlite::types::FromSql;
use serde::de::DeserializeOwned;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::{AbortHandle, JoinError};
use tokio::time::timeout;

use crate::attachment::Attachment;
use crate::commits::Commits;
use crate::data::{Executed, IntoParams, Query, Row, RowSet, Statement};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::group::{self, Begun, Lead, Member, PendingWrite, Work, WriteResult};
use crate::maintenance::{self, Checkpoint, Migrated, Migration};
use crate::mutex::lock;
use crate::options::OpenOptions;
use crate::sqlite::plain_data::{self, Call};
use crate::write::{CallSite, Session, Transaction};

/// What fails if a task cannot wait for commits.
const WAIT: &str = "wait for commits";

/// A [`Database`] whose calls are futures: no thread of the runtime ever blocks.
///
/// ```
/// use penholder::AsyncDatabase;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("notes.db");
/// let db = AsyncDatabase::open(path).await?;
/// db.execute("CREATE TABLE IF NOT EXISTS note(text)", ()).await?;
/// db.execute("INSERT INTO note VALUES (?1)", ["hello"]).await?;
/// assert_eq!(db.query("SELECT text FROM note", ()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// Dropping the future of a write before it has the lock leaves no trace. Once it
/// runs, on a blocking thread, it is completed; the caller that dropped it does not
/// learn whether it was committed.
///
/// # Panics
///
/// All calls, outside a tokio runtime or in one whose time is not enabled.
#[derive(Debug, Clone)]
pub struct AsyncDatabase {
    db: Database,
    /// As many as the pool has readers, so that waiting for one blocks no thread.
    reads: Arc<Semaphore>,
}

/// Both use the same connections.
impl From<Database> for AsyncDatabase {
    fn from(db: Database) -> Self {
        let reads = Arc::new(Semaphore::new(db.max_readers()));
        Self { db, reads }
    }
}

impl AsyncDatabase {
    /// Opens a database, creating it if it is missing.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub async fn open(path: impl AsRef<Path>) -> Result<Self> {
        Self::open_with(OpenOptions::new(), path).await
    }

    /// Opens a database with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub async fn open_with(options: OpenOptions, path: impl AsRef<Path>) -> Result<Self> {
        let path = path.as_ref().to_owned();
        let db = run("open database", &path.clone(), move || options.open(path)).await?;
        Ok(db.into())
    }

    /// The same database, for calls that may block.
    #[must_use]
    pub fn blocking(&self) -> &Database {
        &self.db
    }

    /// Returns the path of the database: absolute, links resolved.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.db.path()
    }

    // ---- writing ---------------------------------------------------------------

    /// Runs a closure in one transaction under the write lock, on a blocking thread;
    /// see [`Database::write`].
    ///
    /// ```
    /// # use penholder::AsyncDatabase;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = AsyncDatabase::open(directory.path().join("x.db")).await?;
    /// # db.execute("CREATE TABLE ticket(n, owner)", []).await?;
    /// let owner = "ann".to_owned();
    /// let n = db.write(move |tx| {
    ///     let n: i64 = tx.query_row("SELECT count(*) FROM ticket", [], |row| row.get(0))?;
    ///     tx.execute("INSERT INTO ticket VALUES (?1, ?2)", (n, owner))?;
    ///     Ok(n)
    /// }).await?;
    /// assert_eq!(n, 0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Database::write`].
    #[track_caller]
    pub fn write<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let written = self.write_from(panic::Location::caller(), work);
        async move {
            written
                .await
                .map_err(|e: Error| e.in_closure("write", self.path()))
        }
    }

    /// Runs a closure in one transaction and keeps the closure's error type; see
    /// [`Database::try_write`].
    ///
    /// # Errors
    ///
    /// As [`Database::write`].
    #[track_caller]
    pub fn try_write<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send {
        self.write_from(panic::Location::caller(), work)
    }

    async fn write_from<T, E, F>(&self, site: CallSite, work: F) -> Result<T, E>
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let output = Arc::new(Mutex::new(None));
        let (mut work, kept) = (Some(work), Arc::clone(&output));
        let closure = Work::Closure(Box::new(move |tx| {
            group::run_once(&mut work, tx, |result| *lock(&kept) = Some(result))
        }));
        let result = self.submit(closure, site).await;
        let output = lock(&output).take();
        group::closure_outcome(output, result)
    }

    /// Takes the write lock, runs a closure on the writing connection, on a blocking thread, and
    /// releases the lock; see [`Database::with_write_lock`].
    ///
    /// # Errors
    ///
    /// As [`Database::with_write_lock`].
    #[track_caller]
    pub fn with_write_lock<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> impl Future<Output = Result<T>> + Send {
        let done = self.hold(panic::Location::caller(), |session: &Session<'_>| {
            session.run(work)
        });
        let what = "write under the lock";
        async move {
            done.await
                .map_err(|e: Error| e.in_closure(what, self.path()))
        }
    }

    /// Runs a closure under the write lock and keeps the closure's error type; see
    /// [`Database::try_with_write_lock`].
    ///
    /// # Errors
    ///
    /// As [`Database::with_write_lock`].
    #[track_caller]
    pub fn try_with_write_lock<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> impl Future<Output = Result<T, E>> + Send {
        let site = panic::Location::caller();
        self.hold(site, |session: &Session<'_>| session.run(work))
    }

    /// Runs one statement that writes; see [`Database::execute`].
    ///
    /// # Errors
    ///
    /// As [`Database::execute`].
    #[track_caller]
    pub fn execute(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<Executed>> + Send {
        let site = panic::Location::caller();
        let query = Query::new(sql, params);
        let statement = plain_data::check(query.sql(), Call::Execute)
            .and_then(|_| query.into_statement("write", |error, _| error));
        async move {
            let work = Work::Statement(statement?);
            self.submit(work, site).await.and_then(group::only)
        }
    }

    /// Runs several statements in one transaction; see [`Database::batch`].
    ///
    /// # Errors
    ///
    /// As [`Database::batch`].
    #[track_caller]
    pub fn batch<Q: Into<Query>>(
        &self,
        queries: impl IntoIterator<Item = Q>,
    ) -> impl Future<Output = Result<Vec<Executed>>> + Send {
        let site = panic::Location::caller();
        let statements = self.db.statements(queries);
        async move { self.submit(Work::Batch(statements?), site).await }
    }

    // ---- reading ---------------------------------------------------------------

    /// Runs one statement that reads; see [`Database::query`].
    ///
    /// # Errors
    ///
    /// As [`Database::query`].
    pub fn query(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<RowSet>> + Send {
        self.query_up_to(usize::MAX, Query::new(sql, params))
    }

    /// Runs one statement that reads, and converts each row; see [`Database::query_as`].
    ///
    /// # Errors
    ///
    /// As [`Database::query_as`].
    pub fn query_as<T: DeserializeOwned>(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<Vec<T>>> + Send {
        let rows = self.query(sql, params);
        async move { rows.await?.iter().map(Row::deserialize).collect() }
    }

    /// Runs one statement that reads, and converts its first row; see [`Database::query_row`].
    ///
    /// # Errors
    ///
    /// As [`Database::query_row`].
    pub fn query_row<T>(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
        convert: impl FnOnce(&Row) -> Result<T> + Send,
    ) -> impl Future<Output = Result<T>> + Send {
        let found = self.query_optional(sql, params, convert);
        async move { found.await?.ok_or_else(|| self.db.no_row()) }
    }

    /// Runs one statement that reads, and converts its first row, if there is one; see
    /// [`Database::query_optional`].
    ///
    /// # Errors
    ///
    /// As [`Database::query_optional`].
    pub fn query_optional<T>(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
        convert: impl FnOnce(&Row) -> Result<T> + Send,
    ) -> impl Future<Output = Result<Option<T>>> + Send {
        let rows = self.query_up_to(1, Query::new(sql, params));
        async move { rows.await?.first().map(convert).transpose() }
    }

    /// Runs one statement that reads, and returns the first column of its first row; see
    /// [`Database::query_scalar`].
    ///
    /// # Errors
    ///
    /// As [`Database::query_scalar`].
    pub fn query_scalar<T: FromSql>(
        &self,
        sql: impl Into<String>,
        params: impl IntoParams,
    ) -> impl Future<Output = Result<T>> + Send {
        self.query_row(sql, params, |row| row.get(0))
    }

    async fn query_up_to(&self, max: usize, query: Query) -> Result<RowSet> {
        plain_data::check(query.sql(), Call::Query)?;
        let Statement { sql, values } = query.into_statement("query", |error, _| error)?;
        let db = self.db.clone();
        let run = move |connection: &Connection| db.run_query(max, connection, &sql, &values);
        self.read_from(run).await
    }

    /// Runs a closure on a connection that only reads, on a blocking thread; see
    /// [`Database::read`].
    ///
    /// # Errors
    ///
    /// As [`Database::read`].
    pub async fn read<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T> + Send + 'static,
    ) -> Result<T> {
        let read = self.read_from(work).await;
        read.map_err(|e: Error| self.db.name_setting(e.in_closure("read", self.path())))
    }

    /// Runs a closure on a connection that only reads and keeps the closure's error type; see
    /// [`Database::try_read`].
    ///
    /// # Errors
    ///
    /// As [`Database::read`].
    pub async fn try_read<T: Send + 'static, E: From<Error> + Send + 'static>(
        &self,
        work: impl FnOnce(&Connection) -> Result<T, E> + Send + 'static,
    ) -> Result<T, E> {
        self.read_from(work).await
    }

    async fn read_from<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let deadline = self.db.deadline();
        let permit = self.permit_to_read(deadline).await?;
        let db = self.db.clone();
        run("read", self.db.path(), move || {
            let _permit = permit;
            db.read_until(&deadline, work)
        })
        .await
    }

    /// Waits until a connection of the pool is free.
    async fn permit_to_read(&self, deadline: Deadline) -> Result<OwnedSemaphorePermit> {
        let permit = Arc::clone(&self.reads).acquire_owned();
        match timeout(deadline.remaining(), permit).await {
            Ok(Ok(permit)) => Ok(permit),
            _ => Err(self.no_reader(deadline)),
        }
    }

    // ---- maintenance and diagnosis -----------------------------------------------

    /// Brings the schema up to date; see [`Database::migrate`].
    ///
    /// ```
    /// # use penholder::AsyncDatabase;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = AsyncDatabase::open(directory.path().join("x.db")).await?;
    /// let done = db.migrate(&["CREATE TABLE note(text)"]).await?;
    /// assert_eq!((done.from, done.to), (0, 1));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Database::migrate`].
    #[track_caller]
    pub fn migrate(
        &self,
        steps: &[&str],
    ) -> impl Future<Output = Result<Migrated>> + Send + use<'_> {
        let site = panic::Location::caller();
        let steps: Arc<[String]> = steps.iter().map(|&sql| sql.to_owned()).collect();
        async move {
            let deadline = self.db.deadline();
            let permit = self.permit_to_read(deadline).await?;
            let (db, known) = (self.db.clone(), Arc::clone(&steps));
            let version = move || {
                let _permit = permit;
                Migration::new(&db, &known)?.version_now(&deadline)
            };
            let from = run("migrate", self.db.path(), version).await?;
            for number in from..steps.len() {
                let (db, known) = (self.db.clone(), Arc::clone(&steps));
                let step = move |session: &Session<'_>| {
                    Migration::new(&db, &known)?.run_step(session, number)
                };
                self.hold_until(deadline, site, step).await?;
            }
            Ok(Migrated {
                from,
                to: steps.len(),
            })
        }
    }

    /// Copies the content of the WAL into the database file, under the write lock; see
    /// [`Database::checkpoint`].
    ///
    /// # Errors
    ///
    /// As [`Database::checkpoint`].
    #[track_caller]
    pub fn checkpoint(&self) -> impl Future<Output = Result<Checkpoint>> + Send {
        self.hold(panic::Location::caller(), maintenance::run_checkpoint)
    }

    /// Rebuilds the database file without its free pages, under the write lock; see
    /// [`Database::vacuum`].
    ///
    /// # Errors
    ///
    /// As [`Database::vacuum`].
    #[track_caller]
    pub fn vacuum(&self) -> impl Future<Output = Result<()>> + Send {
        self.hold(panic::Location::caller(), maintenance::run_vacuum)
    }

    /// Copies the database, as it is at this moment, into a new file; see
    /// [`Database::backup_to`]. A backup that has begun runs to its end, even if the future is
    /// dropped.
    ///
    /// # Errors
    ///
    /// As [`Database::backup_to`].
    pub async fn backup_to(&self, target: impl AsRef<Path>) -> Result<()> {
        let target = target.as_ref().to_owned();
        let deadline = self.db.deadline();
        let permit = self.permit_to_read(deadline).await?;
        let db = self.db.clone();
        run("back up", self.db.path(), move || {
            let _permit = permit;
            db.backup_until(&deadline, &target)
        })
        .await
    }

    /// Puts the content of a backup into this database; see [`Database::restore_from`]. If the
    /// future is dropped before the write lock is free, nothing is changed.
    ///
    /// # Errors
    ///
    /// As [`Database::restore_from`].
    #[track_caller]
    pub fn restore_from(
        &self,
        backup: impl AsRef<Path>,
    ) -> impl Future<Output = Result<()>> + Send {
        let site = panic::Location::caller();
        let backup = backup.as_ref().to_owned();
        async move {
            let mut deadline = self.db.deadline();
            let permit = self.permit_to_read(deadline).await?;
            let db = self.db.clone();
            let stage = move || -> Result<_> {
                let _permit = permit;
                Ok((db.stage_backup(&mut deadline, &backup)?, deadline))
            };
            let (staged, deadline) = run("restore", self.db.path(), stage).await?;
            let put = move |session: &Session<'_>| staged.put_into(session);
            self.hold_until(deadline, site, put).await
        }
    }

    /// Returns the commits from now on; see [`Database::commits`].
    ///
    /// ```
    /// # use penholder::AsyncDatabase;
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = AsyncDatabase::open(directory.path().join("x.db")).await?;
    /// # db.execute("CREATE TABLE job(name)", []).await?;
    /// let mut commits = db.commits().await?;
    /// db.execute("INSERT INTO job VALUES ('sweep')", []).await?;
    /// let token = commits.next().await?;
    /// assert_eq!(token, commits.token());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`Database::commits`].
    pub async fn commits(&self) -> Result<AsyncCommits> {
        self.commits_from(Database::commits).await
    }

    /// Returns the commits after a token was made; see [`Database::commits_since`].
    ///
    /// # Errors
    ///
    /// As [`Database::commits`].
    pub async fn commits_since(&self, token: CommitToken) -> Result<AsyncCommits> {
        self.commits_from(move |db| db.commits_since(token)).await
    }

    async fn commits_from(
        &self,
        begin: impl FnOnce(&Database) -> Result<Commits> + Send + 'static,
    ) -> Result<AsyncCommits> {
        let deadline = self.db.deadline();
        let permit = self.permit_to_read(deadline).await?;
        let db = self.db.clone();
        let commits = run(WAIT, self.db.path(), move || {
            let _permit = permit;
            begin(&db)
        })
        .await?;
        Ok(AsyncCommits {
            db: self.db.clone(),
            token: commits.token(),
            commits: Arc::new(Mutex::new(commits)),
            pending: None,
        })
    }

    /// Returns who holds the write lock, who waits, and what happened; see
    /// [`Database::status`].
    ///
    /// # Errors
    ///
    /// As [`Database::status`].
    pub async fn status(&self) -> Result<Status> {
        let db = self.db.clone();
        run("read the status", self.db.path(), move || db.status()).await
    }

    // ---- what they share ---------------------------------------------------------

    /// Waits for the write lock, and runs work with it on a blocking thread, outside the group of
    /// this process.
    async fn hold<T, E, F>(&self, site: CallSite, work: F) -> Result<T, E>
    where
        F: FnOnce(&Session<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        self.hold_until(self.db.deadline(), site, work).await
    }

    /// The blocking thread waits for the lock too, so that the lock is never held for a thread
    /// that is still to come. Dropping the future ends the wait.
    async fn hold_until<T, E, F>(&self, deadline: Deadline, site: CallSite, work: F) -> Result<T, E>
    where
        F: FnOnce(&Session<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let attachment = self.attachment_to_write(&deadline).await?;
        let canceller = Arc::new(Canceller::default());
        let _cancel = CancelOnDrop(Arc::clone(&canceller));
        let (handed_over, handover) = Handover::new(work);
        let (db, opened) = (self.db.clone(), Arc::clone(&attachment));
        let thread = spawn_blocking(move || {
            let work = handover.begin()?;
            Some(db.with_cancellable_session(&opened, deadline, &canceller, site, work))
        });
        let thread = thread.map_err(|e| no_thread("write", self.db.path(), e))?;
        if let Ok(ended) = handed_over.wait(&deadline, thread).await
            && let Some(done) = joined("write under the lock", ended)?
        {
            return done;
        }
        let error = attachment.locker().timeout_error_async(&deadline, 0).await;
        let error = error.into();
        self.db.report_failed(&error);
        Err(error.into())
    }

    /// Returns what this process has open, for a write of this task.
    async fn attachment_to_write(&self, deadline: &Deadline) -> Result<Arc<Attachment>> {
        self.db.refuse_read_only()?;
        let mut attachment = self.db.attachment();
        if attachment.files().are_lost() {
            let (db, deadline) = (self.db.clone(), *deadline);
            attachment = run("open database", self.db.path(), move || {
                db.attachment_to_use(&deadline)
            })
            .await?;
        }
        // Awaited inside a closure it would wait for the thread that it runs on.
        if attachment.group.is_led_by_this_thread() || attachment.locker().is_held_by_this_thread()
        {
            return Err(attachment.locker().nested_error().into());
        }
        Ok(attachment)
    }

    fn no_reader(&self, deadline: Deadline) -> Error {
        Error::no_reader(self.db.path(), deadline, self.db.max_readers())
    }

    /// Runs a write in the group of this process.
    async fn submit(&self, work: Work, site: CallSite) -> WriteResult {
        let deadline = self.db.deadline();
        let attachment = self.attachment_to_write(&deadline).await?;
        let write = PendingWrite::new(work, deadline, site);
        let task = QueuedTask {
            db: self.db.clone(),
            attachment,
            member: Member::of_task(write),
            panic: Arc::default(),
        };
        task.wait().await
    }
}

/// The commits to a database, of all processes: [`AsyncDatabase::commits`] returns it. As
/// [`Commits`], for tasks; also a [`Stream`] without an end, of the same tokens.
///
/// A task that waits keeps one thread for blocking work, which sleeps. If a future of it is dropped, no
/// commit is lost: the next one begins at the same token. Once the stream was polled, it goes on waiting
/// on its thread until it is dropped, or [`wait`](Self::wait) is called.
///
/// [`next`](Self::next) is the method of this type; that of `StreamExt` has to be named.
#[derive(Debug)]
pub struct AsyncCommits {
    db: Database,
    /// A thread whose future was dropped has it for some milliseconds more.
    commits: Arc<Mutex<Commits>>,
    token: CommitToken,
    /// What the stream waits for.
    pending: Option<NextCommit>,
}

impl AsyncCommits {
    /// Returns the token of the last commit that was told; see [`Commits::token`].
    #[must_use]
    pub fn token(&self) -> CommitToken {
        self.token
    }

    /// Waits for the next commit, as long as it takes, and returns its token.
    ///
    /// # Errors
    ///
    /// As [`Commits::wait`].
    pub async fn next(&mut self) -> Result<CommitToken> {
        loop {
            if let Some(token) = self.wait(Duration::MAX).await? {
                return Ok(token);
            }
        }
    }

    /// Waits for the next commit, and returns its token; `None` if there was none for so long.
    ///
    /// # Errors
    ///
    /// As [`Commits::wait`].
    pub async fn wait(&mut self, timeout: Duration) -> Result<Option<CommitToken>> {
        self.pending = None;
        let found = self.wait_on_thread(timeout).await?;
        self.token = found.unwrap_or(self.token);
        Ok(found)
    }

    fn wait_on_thread(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<Option<CommitToken>>> + Send + Sync + 'static {
        let cancelled = Arc::new(AtomicBool::new(false));
        let cancel = SetOnDrop(Arc::clone(&cancelled));
        let (db, commits, token) = (self.db.clone(), Arc::clone(&self.commits), self.token);
        async move {
            let _cancel = cancel;
            let wait = move || {
                lock(&commits).wait_since(token, timeout, || cancelled.load(Ordering::Relaxed))
            };
            run(WAIT, db.path(), wait).await
        }
    }
}

impl Stream for AsyncCommits {
    type Item = Result<CommitToken>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let mut next = match self.pending.take() {
                Some(next) => next,
                None => NextCommit(Box::pin(self.wait_on_thread(Duration::MAX))),
            };
            match next.0.as_mut().poll(cx) {
                Poll::Ready(Ok(Some(token))) => {
                    self.token = token;
                    return Poll::Ready(Some(Ok(token)));
                }
                // It has waited for longer than any program runs.
                Poll::Ready(Ok(None)) => {}
                Poll::Ready(Err(error)) => return Poll::Ready(Some(Err(error))),
                Poll::Pending => {
                    self.pending = Some(next);
                    return Poll::Pending;
                }
            }
        }
    }
}

/// The next commit, which a stream waits for.
struct NextCommit(Pin<Box<dyn Future<Output = Result<Option<CommitToken>>> + Send + Sync>>);

impl fmt::Debug for NextCommit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("NextCommit").finish_non_exhaustive()
    }
}

/// Tells a blocking thread that its future was dropped.
struct SetOnDrop(Arc<AtomicBool>);

impl Drop for SetOnDrop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// A task that waits in the group. Dropping it leaves the queue, unless the write runs already.
struct QueuedTask {
    db: Database,
    attachment: Arc<Attachment>,
    member: Arc<Member>,
    /// The panic of a thread that led for this task: a hook of the program panicked. The task
    /// goes on with it, and would otherwise lead again and again.
    panic: Arc<Mutex<Option<Panic>>>,
}

type Panic = Box<dyn Any + Send>;

impl QueuedTask {
    async fn wait(self) -> WriteResult {
        let (group, member) = (&self.attachment.group, &self.member);
        let deadline = &member.content.deadline;
        if group.queue.join(member).is_err() {
            return Err(self.attachment.locker().nested_error().into());
        }
        let mut wake = group.queue.wait_as_task(member, deadline).await;
        loop {
            wake = match wake {
                Wake::Finished => return member.content.take_result(),
                Wake::TimedOut { ahead } => {
                    self.go_on_with_panic();
                    return Err(self.timed_out(ahead).await);
                }
                Wake::Granted(()) => self.lead(Lead::new(group)).await?,
            };
        }
    }

    /// Hands the lead to a blocking thread, and waits for what comes of this write.
    async fn lead(&self, lead: Lead) -> Result<Wake<()>> {
        self.go_on_with_panic();
        let (handed_over, handover) = Handover::new(lead);
        let (db, attachment) = (self.db.clone(), Arc::clone(&self.attachment));
        let (member, panicked) = (Arc::clone(&self.member), Arc::clone(&self.panic));
        spawn_blocking(move || {
            let Some(lead) = handover.begin() else {
                return;
            };
            lead.bind_to_this_thread();
            let led = catch_unwind(AssertUnwindSafe(|| {
                if let Ok(context) = db.context(&attachment) {
                    context.lead_until_finished(Begun { lead, turn: None }, &member);
                    attachment.end_of_call(&member.content.deadline);
                }
            }));
            *lock(&panicked) = led.err();
        })
        .map_err(|e| no_thread("write", self.db.path(), e))?;
        let deadline = &self.member.content.deadline;
        let queue = &self.attachment.group.queue;
        let waited = handed_over
            .wait(deadline, queue.wait_as_task(&self.member, deadline))
            .await;
        match waited {
            Ok(wake) => Ok(wake),
            Err(_not_begun) => Err(self.timed_out(0).await),
        }
    }

    fn go_on_with_panic(&self) {
        let panic = lock(&self.panic).take();
        if let Some(panic) = panic {
            resume_unwind(panic);
        }
    }

    async fn timed_out(&self, ahead: usize) -> Error {
        let (locker, deadline) = (self.attachment.locker(), &self.member.content.deadline);
        let error = locker.timeout_error_async(deadline, ahead).await.into();
        self.db.report_failed(&error);
        error
    }
}

impl Drop for QueuedTask {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, including its mutex.
        if self.attachment.is_ours() {
            self.attachment.group.abandon(&self.member);
        }
    }
}

/// Runs work that blocks on a blocking thread. It does not run at all if the future is dropped
/// before a thread has begun.
async fn run<T, E>(
    what: &'static str,
    database: &Path,
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    // Handed over, so that no later thread does it if none can be started now.
    let (_handed_over, handover) = Handover::new(work);
    let thread = spawn_blocking(move || handover.begin().map(|work| work()));
    let thread = thread.map_err(|e| no_thread(what, database, e))?;
    let _abort = AbortOnDrop(thread.abort_handle());
    match joined(what, thread.await)? {
        Some(done) => done,
        None => Err(not_begun(what).into()),
    }
}

fn no_thread(what: &'static str, database: &Path, source: io::Error) -> Error {
    Error::io(what, database, source, END_THREADS)
}

/// Returns the outcome of a blocking thread, or goes on with its panic.
fn joined<T>(what: &'static str, ended: Result<T, JoinError>) -> Result<T> {
    ended.map_err(|error| match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_cancelled) => not_begun(what),
    })
}

fn not_begun(what: &'static str) -> Error {
    let why = "the runtime shut down before it began";
    Error::misuse(what, why, "await it while the runtime runs")
}

/// Ends the wait of a blocking thread whose future is dropped.
struct CancelOnDrop(Arc<Canceller>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

/// Aborts a thread that has not begun; it does not stop one that has.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
