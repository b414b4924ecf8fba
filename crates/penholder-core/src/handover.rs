//! Handing work of a task to a blocking thread of the runtime, and taking it back.
//!
//! | state | the task | leaves by |
//! | --- | --- | --- |
//! | handed over | waits for a blocking thread to begin | a thread begins → begun; the deadline passes, but not before `GRACE` does; or the future is dropped → taken back |
//! | begun | waits for the outcome, however long that takes: the thread keeps the deadline itself | – |
//! | taken back | has what it handed over again, and drops it | – |
//!
//! What is handed over lies here and not in the closure of the thread, so that a task which
//! gives up takes it back at once, even if every blocking thread is busy.

use std::io;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use tokio::runtime::Handle;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use crate::deadline::Deadline;
use crate::sys::fork;

/// How long a blocking thread has to begin at least, even if the deadline is nearer: for a
/// last attempt, and for the facts in the text of the timeout error.
pub(crate) const GRACE: Duration = Duration::from_millis(250);

/// The next step if the runtime gets no thread.
pub const END_THREADS: &str = if cfg!(windows) {
    "end some threads or processes"
} else {
    "end some threads or processes, or raise their limit (`ulimit -u`)"
};

/// Has a blocking thread of the runtime work.
///
/// # Errors
///
/// The runtime has no blocking thread, and the operating system refuses one. The runtime keeps
/// the work, and a thread that it starts for something else does it later: hand over what must
/// not happen then.
///
/// # Panics
///
/// Outside a tokio runtime.
pub fn spawn_blocking<T: Send + 'static>(
    work: impl FnOnce() -> T + Send + 'static,
) -> io::Result<JoinHandle<T>> {
    let runtime = Handle::current();
    // tokio has no other way to say it than a panic.
    let spawned = catch_unwind(AssertUnwindSafe(|| runtime.spawn_blocking(work)));
    spawned.map_err(|_panic| {
        let why = "the operating system refuses a thread";
        io::Error::new(io::ErrorKind::WouldBlock, why)
    })
}

/// Something that a task hands to a blocking thread.
#[derive(Debug)]
pub struct Handover<T> {
    value: Mutex<Option<T>>,
    generation: u64,
}

/// The task's end of a [`Handover`]. Dropping it takes back what no thread has begun with.
#[derive(Debug)]
pub struct HandedOver<T>(Arc<Handover<T>>);

/// No blocking thread began in time.
#[derive(Debug)]
pub struct NotBegun;

impl<T> Handover<T> {
    /// Hands a value over. Returns the task's end and the thread's end.
    pub fn new(value: T) -> (HandedOver<T>, Arc<Self>) {
        let handover = Arc::new(Self {
            value: Mutex::new(Some(value)),
            generation: fork::generation(),
        });
        (HandedOver(Arc::clone(&handover)), handover)
    }

    /// Begins: the blocking thread takes the value, unless it was taken back.
    pub fn begin(&self) -> Option<T> {
        self.value
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .take()
    }
}

impl<T> HandedOver<T> {
    /// Waits for an event that the blocking thread brings about.
    ///
    /// # Errors
    ///
    /// No thread began by the deadline, or within a quarter of a second if the deadline is
    /// nearer; the value was dropped.
    pub async fn wait<F: Future>(
        &self,
        deadline: &Deadline,
        event: F,
    ) -> Result<F::Output, NotBegun> {
        let mut event = std::pin::pin!(event);
        let limit = deadline.remaining().max(GRACE);
        match timeout(limit, &mut event).await {
            Ok(output) => Ok(output),
            Err(_) if !self.take_back() => Ok(event.await),
            Err(_) => Err(NotBegun),
        }
    }

    /// Takes the value back and drops it; `false` if a thread had begun.
    pub fn take_back(&self) -> bool {
        self.0.begin().is_some()
    }
}

impl<T> Drop for HandedOver<T> {
    fn drop(&mut self) {
        // In a forked child the thread and the mutex are the parent's.
        if self.0.generation == fork::generation() {
            self.take_back();
        }
    }
}
