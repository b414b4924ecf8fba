//! Ending a thread's wait from another thread.
//!
//! | state | the waiting thread | `cancel` |
//! | --- | --- | --- |
//! | no waker | has not begun, is on its way, or is in [`sleep`](Canceller::sleep) | its next look at `is_cancelled` says so; `sleep` ends |
//! | waker | waits in the queue, and may sleep in its slot | the same, and the waker is used |
//! | cancelled | leaves | nothing more |

use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::queue_file::Waker;

/// Ends the one wait that it is passed to, from another thread: see
/// [`Locker::acquire_with_request`](crate::Locker::acquire_with_request).
#[derive(Debug, Default)]
pub struct Canceller {
    state: Mutex<State>,
    cancelled: Condvar,
}

#[derive(Debug, Default)]
struct State {
    is_cancelled: bool,
    /// Of the slot in which the thread waits now.
    waker: Option<Waker>,
}

/// The thread waits in its slot for as long as this lives.
#[derive(Debug)]
pub(crate) struct Watched<'a>(&'a Canceller);

impl Canceller {
    /// Ends the wait: the thread learns of it at once, wherever it sleeps.
    pub fn cancel(&self) {
        let mut state = self.lock();
        state.is_cancelled = true;
        // With the mutex held, so that no wake-up reaches a later wait.
        if let Some(waker) = state.waker.take() {
            waker.wake();
        }
        drop(state);
        self.cancelled.notify_all();
    }

    pub(crate) fn is_cancelled(&self) -> bool {
        self.lock().is_cancelled
    }

    /// Sleeps, unless it is cancelled.
    pub(crate) fn sleep(&self, pause: Duration) {
        let not_yet = |state: &mut State| !state.is_cancelled;
        // A poisoned mutex is as good: see `lock`.
        let _ = self
            .cancelled
            .wait_timeout_while(self.lock(), pause, not_yet);
    }

    /// From now on the thread waits in the slot of this waker. It looks at `is_cancelled`
    /// after this call and before it sleeps.
    pub(crate) fn watch(&self, waker: Waker) -> Watched<'_> {
        self.lock().waker = Some(waker);
        Watched(self)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // Nothing panics with it held, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Watched<'_> {
    fn drop(&mut self) {
        self.0.lock().waker = None;
    }
}
