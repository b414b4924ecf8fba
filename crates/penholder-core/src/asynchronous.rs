//! Taking the lock without blocking a thread of the runtime.
//!
//! | state | the task | who else works | its future is dropped |
//! | --- | --- | --- | --- |
//! | attaching | first use of a locker only | a blocking thread opens the lock file | the file stays open for the next one |
//! | queued | waits for its turn among the threads and tasks of this process | – | leaves the queue; a turn just granted goes on |
//! | trying | has the turn; a few system calls that wait for nobody | – | cannot be: there is no `.await` in it |
//! | handed over | waits for a blocking thread to begin | the turn lies in the [`Errand`] | takes the turn back and gives it on |
//! | in line | waits for the thread | one blocking thread sleeps in this process's slot of the page | the thread is called, leaves the line, passes on what was promised to it, and gives the turn on |
//! | held | is about to be woken | the lock lies in the thread's answer | the answer is dropped, and the lock released |
//! | owned | has the guard | – | releases |
//!
//! Only the task whose turn it is waits in the line of processes: so there is at
//! most one such thread a process and lock file, however many tasks wait.

use std::panic::resume_unwind;
use std::process::Command;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::task::{JoinError, spawn_blocking};
use tokio::time::timeout;

use crate::attachment::{Ended, Pen, Request};
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::fair_queue::NoTurn;
use crate::guard::{Held, Owned};
use crate::locker::{WriteGuard, WriteLocker, timed_out};
use crate::sys::fork;

/// How long a blocking thread may take to begin after the deadline: for a last
/// try, and for the facts of the timeout's text.
const GRACE: Duration = Duration::from_millis(250);

impl WriteLocker {
    /// Takes the lock, waiting up to `timeout` from now without blocking the
    /// thread: what [`acquire`](Self::acquire) does, for tasks of a tokio runtime.
    ///
    /// Threads and tasks of this process are served in the order they came. A
    /// task that holds the lock and asks for it again waits for itself until its
    /// timeout: unlike a thread it cannot be recognised. So does a thread that
    /// holds it and blocks on this.
    ///
    /// No thread of the runtime waits. What runs on one is a few short system
    /// calls, as at the release; opening files, waiting for other processes and
    /// finding out who is in the way are for a blocking thread of the runtime's
    /// pool, at most one for the waiting.
    ///
    /// Dropping the future gives its place back, and the lock if it has just
    /// come. A future that is kept but not polled may hold both: poll it until it
    /// is ready, or drop it.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), but for nesting; and an error if the runtime
    /// shuts down meanwhile.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one whose time is not enabled.
    pub fn acquire_async(
        &self,
        timeout: Duration,
    ) -> impl Future<Output = Result<AsyncWriteGuard, LockError>> + Send {
        let deadline = Deadline::after(timeout);
        self.acquire_as_task(deadline)
    }

    /// Takes the lock, waiting up to a deadline that the caller shares with
    /// whatever else it waits for.
    ///
    /// # Errors
    ///
    /// As [`acquire_async`](Self::acquire_async).
    ///
    /// # Panics
    ///
    /// As [`acquire_async`](Self::acquire_async).
    pub fn acquire_async_by(
        &self,
        deadline: &Deadline,
    ) -> impl Future<Output = Result<AsyncWriteGuard, LockError>> + Send {
        self.acquire_as_task(*deadline)
    }

    /// What [`timeout_error`](Self::timeout_error) does, for tasks: finding out who
    /// holds is for a blocking thread. If there is none to be had in time, the holder
    /// is not named.
    ///
    /// # Panics
    ///
    /// As [`acquire_async`](Self::acquire_async).
    pub async fn timeout_error_async(&self, deadline: &Deadline, ahead: usize) -> LockError {
        look_who_holds(&self.request, *deadline, ahead).await
    }

    async fn acquire_as_task(&self, deadline: Deadline) -> Result<AsyncWriteGuard, LockError> {
        let known = self.attached();
        // What was just opened has no place in the page yet: a thread takes it.
        let may_try = known.is_some();
        let pen = match known {
            Some(pen) => pen,
            None => self.attach_as_task().await?,
        };
        let file = match pen.turn.take_as_task(&deadline).await {
            Ok(file) => file,
            Err(NoTurn::Nested) => return Err(self.error(Kind::Nested)),
            Err(NoTurn::Timeout { ahead }) => {
                return Err(look_who_holds(&self.request, deadline, ahead).await);
            }
        };
        let mut turn = Owned::new(pen, file);
        if may_try && let Some(hold) = turn.file().try_take(&self.request, false)? {
            let held = Held::new(Arc::clone(&self.request), turn, hold);
            return Ok(AsyncWriteGuard { held });
        }
        let held = wait(Errand::new(&self.request, deadline, turn)).await?;
        Ok(AsyncWriteGuard { held })
    }

    async fn attach_as_task(&self) -> Result<Arc<Pen>, LockError> {
        let _one_at_a_time = self.attaching.lock().await;
        if let Some(pen) = self.attached() {
            return Ok(pen);
        }
        let request = Arc::clone(&self.request);
        let attached = spawn_blocking(move || Pen::attach(&request)).await;
        let pen = attached.map_err(|e| self.lost(e))??;
        Ok(self.attach(pen))
    }

    fn lost(&self, error: JoinError) -> LockError {
        lost(&self.request, error)
    }
}

/// Has a blocking thread wait in the line of processes.
async fn wait(errand: Arc<Errand>) -> Result<Held, LockError> {
    let kept = CancelOnDrop(Arc::clone(&errand));
    let mut thread = spawn_blocking(move || errand.run());
    let errand = &kept.0;
    let patience = errand.deadline.remaining().max(GRACE);
    let answer = match timeout(patience, &mut thread).await {
        Ok(answer) => answer,
        // A thread that has begun keeps the deadline itself.
        Err(_) if !errand.is_taken_back() => thread.await,
        Err(_) => return Err(look_who_holds(&errand.request, errand.deadline, 0).await),
    };
    match answer {
        Ok(Some(held)) => held,
        Ok(None) => Err(gone(&errand.request)),
        Err(error) => Err(lost(&errand.request, error)),
    }
}

/// A wait in the line of processes, done by a blocking thread.
#[derive(Debug)]
struct Errand {
    request: Arc<Request>,
    deadline: Deadline,
    /// Until a thread begins. Not in the closure: who gives up before that takes
    /// it back at once, even if every blocking thread is busy.
    turn: Mutex<Option<Owned>>,
    canceller: Canceller,
    generation: u64,
}

impl Errand {
    fn new(request: &Arc<Request>, deadline: Deadline, turn: Owned) -> Arc<Self> {
        Arc::new(Self {
            request: Arc::clone(request),
            deadline,
            turn: Mutex::new(Some(turn)),
            canceller: Canceller::default(),
            generation: fork::generation(),
        })
    }

    /// What the blocking thread does; `None` if nobody wants it any more.
    fn run(&self) -> Option<Result<Held, LockError>> {
        let mut turn = self.take_turn()?;
        let ended = turn
            .file()
            .wait(&self.request, &self.deadline, Some(&self.canceller));
        match ended {
            Ok(Ended::Held(hold)) => Some(Ok(Held::new(Arc::clone(&self.request), turn, hold))),
            Ok(Ended::TimedOut { ahead }) => {
                // Finding out who holds may take a while: not at others' cost.
                drop(turn);
                Some(Err(timed_out(&self.request, &self.deadline, 0, ahead)))
            }
            Ok(Ended::Cancelled) => None,
            Err(error) => Some(Err(error)),
        }
    }

    fn take_turn(&self) -> Option<Owned> {
        self.turn
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }

    /// Whether no thread had begun; none will, and the turn is given on.
    fn is_taken_back(&self) -> bool {
        self.take_turn().is_some()
    }
}

/// Ends an errand whose future is dropped.
struct CancelOnDrop(Arc<Errand>);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // In a forked child the thread is the parent's, and so are the mutexes.
        if self.0.generation == fork::generation() && !self.0.is_taken_back() {
            self.0.canceller.cancel();
        }
    }
}

/// The error of whom the deadline overtook; who holds is looked up on a blocking
/// thread, if there is one to be had.
async fn look_who_holds(request: &Arc<Request>, deadline: Deadline, threads: usize) -> LockError {
    let asked = Arc::clone(request);
    let looks = spawn_blocking(move || timed_out(&asked, &deadline, threads, 0));
    match timeout(GRACE, looks).await {
        Ok(Ok(error)) => error,
        Ok(Err(_)) | Err(_) => {
            let holder = None;
            let processes = 0;
            let kind = Kind::Timeout {
                deadline,
                holder,
                threads,
                processes,
            };
            LockError::new(&request.path, kind)
        }
    }
}

/// A blocking thread that panicked, or was never started.
fn lost(request: &Request, error: JoinError) -> LockError {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_cancelled) => gone(request),
    }
}

fn gone(request: &Request) -> LockError {
    let kind = Kind::Io {
        what: "wait for write lock",
        next: "take it before the runtime ends, or without one (`acquire`)",
        source: std::io::Error::other("the async runtime shuts down"),
    };
    LockError::new(&request.path, kind)
}

/// The lock, held by a task. Dropping it releases, which takes a few short system
/// calls; so does the kernel when the process dies.
///
/// It may cross an `.await` and move to another thread. Everybody else waits
/// meanwhile, so keep that short, and never wait for something that itself needs
/// the lock. To be told of every place, add to `clippy.toml`:
///
/// ```toml
/// await-holding-invalid-types = ["penholder_lock::AsyncWriteGuard"]
/// ```
///
/// In a forked child it is nobody's, as a [`WriteGuard`] is.
#[derive(Debug)]
#[must_use = "the lock is released as soon as the guard is dropped"]
pub struct AsyncWriteGuard {
    held: Held,
}

impl AsyncWriteGuard {
    /// Gives the lock back and says how that went. Dropping does the same and
    /// keeps silent.
    ///
    /// # Errors
    ///
    /// As [`WriteGuard::release`].
    pub fn release(self) -> Result<(), LockError> {
        self.held.release()
    }

    /// Ties the hold to this thread: for blocking work under the lock, on a
    /// blocking thread, where a nested acquisition is then recognised.
    ///
    /// ```
    /// # #[tokio::main(flavor = "current_thread")]
    /// # async fn main() -> Result<(), Box<dyn std::error::Error>> {
    /// # use penholder_lock::{DEFAULT_TIMEOUT, WriteLocker};
    /// # let folder = tempfile::tempdir()?;
    /// # let locker = WriteLocker::new(folder.path())?;
    /// let guard = locker.acquire_async(DEFAULT_TIMEOUT).await?;
    /// tokio::task::spawn_blocking(move || {
    ///     let guard = guard.into_blocking();
    ///     // … write to the database …
    ///     guard.release()
    /// })
    /// .await??;
    /// # Ok(())
    /// # }
    /// ```
    pub fn into_blocking(self) -> WriteGuard {
        self.held.is_this_threads();
        WriteGuard::new(self.held)
    }

    /// Lets a child process work under this hold: [`WriteGuard::lend_to`].
    pub fn lend_to(&self, child: &mut Command) {
        self.held.lend_to(child);
    }
}
