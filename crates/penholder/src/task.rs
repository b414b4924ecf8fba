//! The same database for tasks of a tokio runtime.
//!
//! | state of a write | what waits | its future is dropped |
//! | --- | --- | --- |
//! | waiting for its turn in the group of the process | the task | it leaves, nothing happened |
//! | called to lead, no blocking thread yet | the task | it leaves, and the next one is called |
//! | leading: waiting for the lock | the task, and one blocking thread a process and database | it leaves; the thread ends its wait, and calls the next one |
//! | running on a blocking thread, its own or another member's | the task | it runs on and commits or fails; nobody learns which |

use std::panic::Location;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use penholder_lock::Deadline;
use rusqlite::Connection;
use tokio::sync::Semaphore;
use tokio::task::{AbortHandle, spawn_blocking};
use tokio::time::timeout;

use crate::data::{Executed, IntoParams, Rows, Statement, refuse_nul};
use crate::database::{Attachment, Database};
use crate::error::{Error, Result};
use crate::group::{self, Answer, Member, Turn, Work};
use crate::options::Options;
use crate::writer::{self, CallSite, Transaction};

/// A [`Database`] whose calls are futures: no thread of the runtime ever blocks.
///
/// ```
/// use penholder::AsyncDatabase;
///
/// # #[tokio::main(flavor = "current_thread")]
/// # async fn main() -> penholder::Result<()> {
/// # let folder = tempfile::tempdir().unwrap();
/// # let path = folder.path().join("notes.db");
/// let db = AsyncDatabase::open(path).await?;
/// db.execute("CREATE TABLE IF NOT EXISTS note(text)", ()).await?;
/// db.execute("INSERT INTO note VALUES (?1)", ["hello"]).await?;
/// assert_eq!(db.query("SELECT text FROM note", ()).await?.len(), 1);
/// # Ok(())
/// # }
/// ```
///
/// Dropping the future of a write before it has the lock leaves no trace. Once it
/// runs, on a blocking thread, it is carried out: whoever dropped it does not
/// learn whether it was committed.
///
/// # Panics
///
/// All calls, outside a tokio runtime or in one whose time is not enabled.
#[derive(Debug, Clone)]
pub struct AsyncDatabase {
    db: Database,
    /// As many as the pool has readers: whoever waits for one blocks no thread.
    reads: Arc<Semaphore>,
}

/// Both use the same connections.
impl From<Database> for AsyncDatabase {
    fn from(db: Database) -> Self {
        let reads = Arc::new(Semaphore::new(db.readers()));
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
        Self::open_with(Options::new(), path).await
    }

    /// Opens a database with these options.
    ///
    /// # Errors
    ///
    /// As [`Database::open`].
    pub async fn open_with(options: Options, path: impl AsRef<Path>) -> Result<Self> {
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
        let site = Location::caller();
        async move {
            let output = Arc::new(Mutex::new(None));
            let (mut work, place) = (Some(work), Arc::clone(&output));
            let closure = Work::Closure(Box::new(move |tx| {
                let Some(work) = work.take() else {
                    return false;
                };
                let result = catch_unwind(AssertUnwindSafe(|| work(tx)));
                let succeeded = matches!(result, Ok(Ok(_)));
                *place.lock().unwrap_or_else(PoisonError::into_inner) = Some(result);
                succeeded
            }));
            let answer = self.grouped(closure, site).await;
            let output = output.lock().unwrap_or_else(PoisonError::into_inner).take();
            group::settle(output, answer)
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
        let site = Location::caller();
        let (sql, params) = (sql.into(), params.into_params());
        async move {
            refuse_nul("write", &sql)?;
            let work = Work::Statement(Statement::new(sql, params));
            self.grouped(work, site).await.and_then(group::first)
        }
    }

    /// Runs several statements in one transaction; see [`Database::batch`].
    ///
    /// # Errors
    ///
    /// As [`Database::batch`].
    #[track_caller]
    pub fn batch<S: Into<Statement>>(
        &self,
        statements: impl IntoIterator<Item = S>,
    ) -> impl Future<Output = Result<Vec<Executed>>> + Send {
        let site = Location::caller();
        let statements: Vec<Statement> = statements.into_iter().map(Into::into).collect();
        async move {
            statements
                .iter()
                .try_for_each(|one| refuse_nul("write", one.sql()))?;
            self.grouped(Work::Batch(statements), site).await
        }
    }

    /// Runs one statement that reads; see [`Database::query`].
    ///
    /// # Errors
    ///
    /// As [`Database::query`].
    pub async fn query(&self, sql: impl Into<String>, params: impl IntoParams) -> Result<Rows> {
        let (sql, params) = (sql.into(), params.into_params());
        refuse_nul("query", &sql)?;
        let (db, path) = (self.db.clone(), self.db.path().to_owned());
        self.read(move |connection| {
            writer::collect(connection, &sql, &params)
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
            db.read_by(&deadline, work)
        })
        .await
    }

    fn no_reader(&self, deadline: Deadline) -> Error {
        Error::no_reader(self.db.path(), deadline, self.db.readers())
    }

    /// Runs a write in the group of this process.
    async fn grouped(&self, work: Work, site: CallSite) -> Answer {
        self.db.refuse_read_only()?;
        let attachment = self.db.attachment();
        // Awaited inside a closure it would wait for the thread that it is on.
        if attachment.group.is_led_by_this_thread() {
            return Err(attachment.locker.nested_error().into());
        }
        let member = Member::of_task(work, self.db.deadline(), site);
        let place = Place::take(self.db.clone(), attachment, member);
        place.wait().await
    }
}

/// How long a blocking thread may take to begin after the deadline: for a last
/// try, and for the facts of the timeout's text.
const GRACE: Duration = Duration::from_millis(250);

/// A task's place in the group. Dropping it leaves, unless the write runs already.
struct Place {
    db: Database,
    attachment: Arc<Attachment>,
    member: Arc<Member>,
}

impl Place {
    fn take(db: Database, attachment: Arc<Attachment>, member: Arc<Member>) -> Self {
        attachment.group.join(&member);
        Self {
            db,
            attachment,
            member,
        }
    }

    async fn wait(self) -> Answer {
        let (group, member) = (&self.attachment.group, &self.member);
        loop {
            match member.turn() {
                Turn::Answered(answer) => return answer,
                Turn::ToLead => {
                    let (db, attachment) = (self.db.clone(), Arc::clone(&self.attachment));
                    let leader = Arc::clone(member);
                    // It may be called again before this task looks.
                    let has_begun = Arc::new(AtomicBool::new(false));
                    let begins = Arc::clone(&has_begun);
                    spawn_blocking(move || {
                        if let Ok(desk) = db.desk(&attachment)
                            && let Some(lead) = attachment.group.begin(&leader)
                        {
                            begins.store(true, Ordering::Release);
                            group::run_as_leader(&desk, lead, None, &leader);
                        }
                    });
                    let patience = member.deadline.remaining().max(GRACE);
                    let begun = async {
                        while member.is_called() && !has_begun.load(Ordering::Acquire) {
                            member.called().await;
                        }
                    };
                    // Every blocking thread is busy.
                    if timeout(patience, begun).await.is_err()
                        && member.is_called()
                        && let Some(ahead) = group.leave(member)
                    {
                        return Err(self.timed_out(ahead).await);
                    }
                }
                Turn::Running => {
                    // It may be back in the queue without a call.
                    let pause = member.deadline.remaining().max(group::LOOK);
                    let _ = timeout(pause, member.called()).await;
                }
                Turn::Waiting => {
                    let remaining = member.deadline.remaining();
                    if timeout(remaining, member.called()).await.is_err()
                        && member.is_queued()
                        && let Some(ahead) = group.leave(member)
                    {
                        return Err(self.timed_out(ahead).await);
                    }
                }
            }
        }
    }

    async fn timed_out(&self, ahead: usize) -> Error {
        let (locker, deadline) = (&self.attachment.locker, &self.member.deadline);
        let error = locker.timeout_error_async(deadline, ahead).await.into();
        self.db.tell_failed(&error);
        error
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, its mutex included.
        if self.attachment.is_ours() {
            self.attachment.group.abandon(&self.member);
        }
    }
}

/// Runs something that blocks. Not at all, if the future is dropped before a thread
/// has begun.
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

/// A thread that has begun is not stopped by this, and one that has ended not
/// either.
struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}
