//! Taking the lock from tasks, without blocking a thread of the runtime.
//!
//! | state | the task | what else works | its future is dropped |
//! | --- | --- | --- | --- |
//! | attaching | first use of a locker only | a blocking thread opens the lock file | the file stays open for the next one |
//! | queued | waits for its turn among the threads and tasks of this process | – | it leaves the queue; a turn that was just granted is passed on |
//! | trying | has the turn; a few system calls that wait for nothing | – | cannot happen: there is no `.await` in it |
//! | handed over | waits for a blocking thread to begin | the turn lies in the [`Handover`] | the turn is taken back and passed on |
//! | waiting | waits for the thread | one blocking thread sleeps in this process's slot | the thread is woken, leaves the queue of processes, passes on what was promised to it, and passes the turn on |
//! | held | is about to be woken | the guard lies in the thread's outcome | the guard is dropped, and the lock released |
//! | done | has the guard | – | releases |
//!
//! Only the task that has the turn waits in the queue of processes, so there is at most one
//! such thread for each process and lock file, however many tasks wait.

use std::panic::resume_unwind;
use std::sync::Arc;

use tokio::task::JoinError;
use tokio::time::timeout;

use crate::acquirer::Acquired;
use crate::attachment::Attachment;
use crate::canceller::Canceller;
use crate::deadline::Deadline;
use crate::error::{Kind, LockError};
use crate::fair_queue::{Waiter, Wake};
use crate::guard::{Guard, Turn};
use crate::handover::{END_THREADS, GRACE, Handover, spawn_blocking};
use crate::lock_options::LockOptions;
use crate::locker::{Locker, timed_out};
use crate::sys::fork;

impl Locker {
    /// Takes the lock, waiting until a deadline without blocking the thread: what
    /// [`acquire_until`](Self::acquire_until) does, for tasks of a tokio runtime.
    ///
    /// A task that holds the lock and asks for it again waits for itself until its deadline:
    /// unlike a thread, it cannot be recognised.
    ///
    /// # Errors
    ///
    /// As [`acquire`](Self::acquire), except for nesting; and an error if the runtime shuts
    /// down meanwhile.
    ///
    /// # Panics
    ///
    /// Outside a tokio runtime, or in one without a timer.
    pub async fn acquire_until_async(&self, deadline: Deadline) -> Result<Guard, LockError> {
        let known = self.known_attachment();
        // A file that was just opened has no slot yet: a thread occupies one.
        let may_try = known.is_some();
        let attachment = match known {
            Some(attachment) => attachment,
            None => self.attach_as_task(deadline).await?,
        };
        let mut turn = self.wait_for_turn_as_task(attachment, &deadline).await?;
        if may_try && let Some(hold) = turn.acquirer().try_take(&self.options, true)? {
            return Ok(self.guard(turn, hold));
        }
        wait(&self.options, deadline, turn).await
    }

    /// Does what [`timeout_error`](Self::timeout_error) does, for tasks: a blocking thread
    /// finds out who holds the lock. If no thread is free in time, the holder is not named.
    ///
    /// # Panics
    ///
    /// As [`acquire_until_async`](Self::acquire_until_async).
    pub async fn timeout_error_async(&self, deadline: &Deadline, ahead: usize) -> LockError {
        find_holder(&self.options, *deadline, ahead).await
    }

    async fn attach_as_task(&self, deadline: Deadline) -> Result<Arc<Attachment>, LockError> {
        let _one_at_a_time = self.attaching.lock().await;
        if let Some(attachment) = self.known_attachment() {
            return Ok(attachment);
        }
        let options = Arc::clone(&self.options);
        let thread = spawn_blocking(move || Attachment::attach_until(&options, &deadline));
        let attached = thread.map_err(|e| no_thread(&self.options, e))?.await;
        let attachment = attached.map_err(|e| lost(&self.options, e))??;
        Ok(self.keep(attachment))
    }

    async fn wait_for_turn_as_task(
        &self,
        attachment: Arc<Attachment>,
        deadline: &Deadline,
    ) -> Result<Turn, LockError> {
        let place = Place {
            attachment,
            waiter: Waiter::of_task(()),
        };
        let queue = &place.attachment.queue;
        queue
            .join(&place.waiter)
            .map_err(|_nested| self.nested_error())?;
        match queue.wait_as_task(&place.waiter, deadline).await {
            Wake::Granted(acquirer) => Ok(Turn::new(Arc::clone(&place.attachment), acquirer)),
            Wake::TimedOut { ahead } => Err(find_holder(&self.options, *deadline, ahead).await),
            Wake::Finished => Err(gone(&self.options)),
        }
    }
}

/// A task's place in the queue of this process. Dropping it leaves the queue.
struct Place {
    attachment: Arc<Attachment>,
    waiter: Arc<Waiter<()>>,
}

impl Drop for Place {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, including its mutex.
        if self.attachment.is_ours() {
            self.attachment.queue.abandon(&self.waiter);
        }
    }
}

/// Has a blocking thread wait in the queue of processes.
async fn wait(
    options: &Arc<LockOptions>,
    deadline: Deadline,
    turn: Turn,
) -> Result<Guard, LockError> {
    let (handed_over, handover) = Handover::new(turn);
    let cancel = CancelOnDrop::new();
    let thread = spawn_blocking({
        let (options, canceller) = (Arc::clone(options), Arc::clone(&cancel.canceller));
        move || {
            Some(wait_on_thread(
                &options,
                &deadline,
                &canceller,
                handover.begin()?,
            ))
        }
    })
    .map_err(|e| no_thread(options, e))?;
    match handed_over.wait(&deadline, thread).await {
        Ok(Ok(Some(guard))) => guard,
        Ok(Ok(None)) => Err(gone(options)),
        Ok(Err(error)) => Err(lost(options, error)),
        Err(_not_begun) => Err(find_holder(options, deadline, 0).await),
    }
}

fn wait_on_thread(
    options: &Arc<LockOptions>,
    deadline: &Deadline,
    canceller: &Canceller,
    mut turn: Turn,
) -> Result<Guard, LockError> {
    let (ended, _) = turn
        .acquirer()
        .wait(options, deadline, Some(canceller), None);
    match ended? {
        Acquired::Held(hold) => Ok(Guard::new(options, turn, hold)),
        Acquired::TimedOut { ahead } => {
            // Naming the holder may take a while: not at the cost of other threads.
            drop(turn);
            Err(timed_out(options, deadline, 0, ahead))
        }
        Acquired::Cancelled | Acquired::Paused => Err(gone(options)),
    }
}

/// Ends the wait of a thread whose task does not wait for it any more.
struct CancelOnDrop {
    canceller: Arc<Canceller>,
    generation: u64,
}

impl CancelOnDrop {
    fn new() -> Self {
        Self {
            canceller: Arc::default(),
            generation: fork::generation(),
        }
    }
}

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        // In a forked child the thread and the mutexes are the parent's.
        if self.generation == fork::generation() {
            self.canceller.cancel();
        }
    }
}

/// Returns the timeout error; a blocking thread finds out who holds the lock, if one is free.
async fn find_holder(options: &Arc<LockOptions>, deadline: Deadline, threads: usize) -> LockError {
    let asked = Arc::clone(options);
    let found = spawn_blocking(move || timed_out(&asked, &deadline, threads, 0));
    let found = match found {
        Ok(found) => timeout(GRACE, found).await.ok(),
        Err(_) => None,
    };
    match found {
        Some(Ok(error)) => error,
        Some(Err(_)) | None => {
            let kind = Kind::Timeout {
                deadline,
                holder: None,
                outsider: None,
                has_other_database: false,
                threads,
                processes: 0,
            };
            LockError::new(&options.path, kind)
        }
    }
}

fn no_thread(options: &LockOptions, source: std::io::Error) -> LockError {
    let kind = Kind::Io {
        what: "wait for write lock",
        next: END_THREADS.into(),
        source,
    };
    LockError::new(&options.path, kind)
}

/// Returns the error for a blocking thread that was never started; resumes its panic if it
/// panicked.
fn lost(options: &LockOptions, error: JoinError) -> LockError {
    match error.try_into_panic() {
        Ok(panic) => resume_unwind(panic),
        Err(_cancelled) => gone(options),
    }
}

fn gone(options: &LockOptions) -> LockError {
    let kind = Kind::Io {
        what: "wait for write lock",
        next: "take it before the runtime ends, or without one (`acquire`)".into(),
        source: std::io::Error::other("the async runtime shuts down"),
    };
    LockError::new(&options.path, kind)
}
