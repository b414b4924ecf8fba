//! Whose turn it is among the threads of this process.
//!
//! The owner of the turn has what the turn is about (the open lock file) in its
//! hands: `take` gives it out, `give` brings it back.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | no owner, empty queue | at rest | `take` makes the caller the owner |
//! | owner, empty queue | one thread works | `give` → at rest; `take` of another thread queues |
//! | owner, queue | others wait, first come first served | `give` makes the first in line the owner and wakes it; a waiter whose deadline is over leaves the queue |
//!
//! "No owner, queue" does not exist: `give` hands the turn over under the same
//! mutex that a waiter holds to queue or to leave.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};

use crate::deadline::Deadline;

thread_local! {
    /// Kept, because asking for it counts a shared handle up and down.
    static ME: ThreadId = thread::current().id();
}

/// First come, first served among threads, with a deadline.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    owner: Option<ThreadId>,
    /// With the owner while there is one.
    subject: Option<T>,
    queue: VecDeque<Arc<Waiter>>,
}

#[derive(Debug)]
struct Waiter {
    thread: Thread,
    granted: AtomicBool,
}

/// Why a thread did not get its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The thread that asks is the owner.
    Nested,
    /// The deadline came first; so many threads of this process were ahead,
    /// the owner included.
    Timeout { ahead: usize },
}

impl<T> Turn<T> {
    pub(crate) fn new(subject: T) -> Self {
        Self {
            state: Mutex::new(State {
                owner: None,
                subject: Some(subject),
                queue: VecDeque::new(),
            }),
        }
    }

    /// Waits for the turn.
    pub(crate) fn take(&self, deadline: &Deadline) -> Result<T, NoTurn> {
        let waiter = {
            let mut state = self.lock();
            if let Some(subject) = state.grant_if_free()? {
                return Ok(subject);
            }
            let waiter = Arc::new(Waiter {
                thread: thread::current(),
                granted: AtomicBool::new(false),
            });
            state.queue.push_back(Arc::clone(&waiter));
            waiter
        };
        loop {
            if waiter.granted.load(Ordering::Acquire)
                && let Some(subject) = self.lock().subject.take()
            {
                return Ok(subject);
            }
            let remaining = deadline.remaining();
            if remaining.is_zero()
                && let Some(ended) = self.leave(&waiter)
            {
                return ended;
            }
            thread::park_timeout(remaining);
        }
    }

    /// Takes the turn only if nobody has it.
    pub(crate) fn try_take(&self) -> Result<Option<T>, NoTurn> {
        self.lock().grant_if_free()
    }

    /// Whether a thread waits for its turn.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Hands the turn to the first in line. Only the owner calls it, from any
    /// thread (a guard is not `Send`, so in practice from its own).
    pub(crate) fn give(&self, subject: T) {
        let mut state = self.lock();
        debug_assert!(
            state.owner.is_some() && state.subject.is_none(),
            "only an owner gives the turn"
        );
        state.subject = Some(subject);
        let next = state.queue.pop_front();
        state.owner = next.as_ref().map(|waiter| waiter.thread.id());
        drop(state);
        if let Some(waiter) = next {
            waiter.granted.store(true, Ordering::Release);
            waiter.thread.unpark();
        }
    }

    /// Gives the place in the queue back, unless the turn has just been granted.
    fn leave(&self, waiter: &Arc<Waiter>) -> Option<Result<T, NoTurn>> {
        let mut state = self.lock();
        let place = state.queue.iter().position(|one| Arc::ptr_eq(one, waiter));
        match place {
            Some(place) => {
                state.queue.remove(place);
                Some(Err(NoTurn::Timeout { ahead: place + 1 }))
            }
            // No longer in the queue: `give` made this thread the owner.
            None => state.subject.take().map(Ok),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics with the mutex held, so its state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn grant_if_free(&mut self) -> Result<Option<T>, NoTurn> {
        let me = ME.with(|id| *id);
        match self.owner {
            None => {
                debug_assert!(self.queue.is_empty(), "a queue has an owner before it");
                self.owner = Some(me);
                Ok(self.subject.take())
            }
            Some(owner) if owner == me => Err(NoTurn::Nested),
            Some(_) => Ok(None),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20))
    }

    #[test]
    fn the_owner_is_told_that_it_asks_again() {
        let turn = Turn::new(());
        turn.take(&soon()).unwrap();
        assert_eq!(turn.take(&soon()), Err(NoTurn::Nested));
        assert_eq!(turn.try_take(), Err(NoTurn::Nested));
    }

    #[test]
    fn a_waiter_gives_up_at_its_deadline_and_leaves_no_trace() {
        let turn = Turn::new(());
        turn.take(&soon()).unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| turn.take(&soon()));
            assert_eq!(waiter.join().unwrap(), Err(NoTurn::Timeout { ahead: 1 }));
        });
        turn.give(());
        assert_eq!(turn.try_take(), Ok(Some(())));
    }

    #[test]
    fn threads_are_served_in_the_order_they_came() {
        let turn = Turn::new(());
        let order = Mutex::new(Vec::new());
        let long = Deadline::after(Duration::from_secs(20));
        turn.take(&long).unwrap();
        thread::scope(|scope| {
            for number in 0..8 {
                let (turn, order) = (&turn, &order);
                scope.spawn(move || {
                    turn.take(&long).unwrap();
                    order.lock().unwrap().push(number);
                    turn.give(());
                });
                // The next thread starts once this one stands in the queue.
                while turn.lock().queue.len() <= number {
                    thread::yield_now();
                }
            }
            turn.give(());
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }
}
