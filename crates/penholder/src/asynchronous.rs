//! The same database for tasks of a tokio runtime.
//!
//! | state of a write | what waits | its future is dropped |
//! | --- | --- | --- |
//! | waits for its turn in the group of the process | the task | it leaves, and nothing happened |
//! | has the lead, which is handed over to a blocking thread | the task | the lead is taken back and passed on |
//! | leads: waits for the lock | the task, and one blocking thread for each process and database | it leaves; the thread ends its wait, and passes the lead on |
//! | runs on a blocking thread, its own or another member's | the task | it runs on and commits or fails; no one learns which |

use std::panic::{self, resume_unwind};
use std::path::Path;
use std::sync::{Arc, Mutex};

use penholder_core::Deadline;
use penholder_core::fair_queue::Wake;
use penholder_core::handover::Handover;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use crate::attachment::Attachment;
use crate::data::{Executed, IntoParams, Query, RowSet, refuse_nul};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::group::{self, Begun, Lead, Member, PendingWrite, Work, WriteResult};
use crate::mutex::lock;
use crate::options::OpenOptions;
use crate::sqlite::query;
use crate::write::{CallSite, Transaction};

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
        let db = run("open database", move || options.open(path)).await?;
        Ok(db.into())
    }

    /// The same database, for calls that may block.
    #[must_use]
    pub fn blocking(&self) -> &Database {
        &self.db
    }

    /// Runs a closure in one transaction under the write lock, on a blocking thread;
    /// see [`Database::write`].
    ///
    /// # Errors
    ///
    /// As [`Database::write`].
    #[track_caller]
    pub fn write<T, E, F>(&self, work: F) -> impl Future<Output = Result<T, E>> + Send
    where
        F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let site = panic::Location::caller();
        async move {
            let output = Arc::new(Mutex::new(None));
            let (mut work, kept) = (Some(work), Arc::clone(&output));
            let closure = Work::Closure(Box::new(move |tx| {
                group::run_once(&mut work, tx, |result| *lock(&kept) = Some(result))
            }));
            let result = self.submit(closure, site).await;
            let output = lock(&output).take();
            group::closure_outcome(output, result)
        }
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
        let (sql, params) = (sql.into(), params.into_params());
        async move {
            refuse_nul("write", &sql)?;
            let work = Work::Statement(Query::new(sql, params));
            self.submit(work, site).await.and_then(group::only)
        }
    }

    /// Runs several statements in one transaction; see [`Database::batch`].
    ///
    /// # Errors
    ///
    /// As [`Database::batch`].
    #[track_caller]
    pub fn batch<S: Into<Query>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> impl Future<Output = Result<Vec<Executed>>> + Send {
        let site = panic::Location::caller();
        let statements: Vec<Query> = statements.into_iter().map(Into::into).collect();
        async move {
            statements
                .iter()
                .try_for_each(|one| refuse_nul("write", one.sql()))?;
            self.submit(Work::Batch(statements), site).await
        }
    }

    /// Runs one statement that reads; see [`Database::query`].
    ///
    /// # Errors
    ///
    /// As [`Database::query`].
    pub async fn query(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<RowSet> {
        let (sql, params) = (sql.into(), params.into_params());
        refuse_nul("query", &sql)?;
        let (db, path) = (self.db.clone(), self.db.path().to_owned());
        self.read(move |connection| {
            query::query(connection, &sql, &params)
                .map_err(|e| Error::sqlite("query", &path, db.hide(e)))
        })
        .await
    }

    /// Runs a closure on a connection that only reads, on a blocking thread; see
    /// [`Database::read`].
    ///
    /// # Errors
    ///
    /// As [`Database::read`].
    pub async fn read<T, E, F>(&self, work: F) -> Result<T, E>
    where
        F: FnOnce(&Connection) -> Result<T, E> + Send + 'static,
        T: Send + 'static,
        E: From<Error> + Send + 'static,
    {
        let deadline = self.db.deadline();
        let permit = timeout(
            deadline.remaining(),
            Arc::clone(&self.reads).acquire_owned(),
        )
        .await;
        let Ok(Ok(permit)) = permit else {
            return Err(self.no_reader(deadline).into());
        };
        let db = self.db.clone();
        run("read", move || {
            let _permit = permit;
            db.read_until(&deadline, work)
        })
        .await
    }

    fn no_reader(&self, deadline: Deadline) -> Error {
        Error::no_reader(self.db.path(), deadline, self.db.max_readers())
    }

    /// Runs a write in the group of this process.
    async fn submit(&self, work: Work, site: CallSite) -> WriteResult {
        self.db.refuse_read_only()?;
        let attachment = self.db.attachment();
        // Awaited inside a closure it would wait for the thread that it runs on.
        if attachment.group.is_led_by_this_thread() {
            return Err(attachment.locker().nested_error().into());
        }
        let write = PendingWrite::new(work, self.db.deadline(), site);
        let task = QueuedTask {
            db: self.db.clone(),
            attachment,
            member: Member::of_task(write),
        };
        task.wait().await
    }
}

/// A task that waits in the group. Dropping it leaves the queue, unless the write runs already.
struct QueuedTask {
    db: Database,
    attachment: Arc<Attachment>,
    member: Arc<Member>,
}

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
                Wake::TimedOut { ahead } => return Err(self.timed_out(ahead).await),
                Wake::Granted(()) => self.lead(Lead::new(group)).await?,
            };
        }
    }

    /// Hands the lead to a blocking thread, and waits for what comes of this write.
    async fn lead(&self, lead: Lead) -> Result<Wake<()>> {
        let (handed_over, handover) = Handover::new(lead);
        let (db, attachment) = (self.db.clone(), Arc::clone(&self.attachment));
        let member = Arc::clone(&self.member);
        spawn_blocking(move || {
            let Some(lead) = handover.begin() else {
                return;
            };
            lead.bind_to_this_thread();
            if let Ok(context) = db.context(&attachment) {
                context.lead_until_finished(Begun { lead, guard: None }, &member);
            }
        });
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
    work: impl FnOnce() -> Result<T, E> + Send + 'static,
) -> Result<T, E>
where
    T: Send + 'static,
    E: From<Error> + Send + 'static,
{
    let thread = spawn_blocking(work);
    let _abort = AbortOnDrop(thread.abort_handle());
    match thread.await {
        Ok(done) => done,
        Err(error) => match error.try_into_panic() {
            Ok(panic) => resume_unwind(panic),
            Err(_cancelled) => {
                let why = "the runtime shut down before it began";
                Err(Error::misuse(what, why, "await it while the runtime runs").into())
            }
        },
    }
}

/// Aborts a thread that has not begun; it does not stop one that has.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
