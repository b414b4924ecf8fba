//! Whose turn it is among the threads and the tasks of this process.
//!
//! The owner of the turn has what the turn is about (the open lock file) in its
//! hands: taking gives it out, `give` brings it back.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | no owner, empty queue | at rest | taking makes the caller the owner |
//! | owner, empty queue | one works | `give` → at rest; whoever else asks queues |
//! | owner, queue | others wait, first come first served | `give` makes the first in line the owner and wakes it; a waiter whose deadline is over, or whose future is dropped, leaves the queue |
//! | owner granted, not yet awake | the subject lies ready for it | it wakes and takes the subject; its future is dropped → as `give` |
//!
//! "No owner, queue" does not exist: `give` hands the turn over under the same
//! mutex that a waiter holds to queue or to leave.
//!
//! A thread that asks again is told so. A task is not: what it owns may move to
//! another task and to another thread, so that nobody can tell who asks.

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};

#[cfg(feature = "tokio")]
use tokio::sync::Notify;

use crate::deadline::Deadline;
#[cfg(feature = "tokio")]
use crate::sys::fork;

thread_local! {
    /// Kept, because asking for it counts a shared handle up and down.
    static ME: ThreadId = thread::current().id();
}

/// First come, first served, with a deadline.
#[derive(Debug)]
pub(crate) struct Turn<T> {
    state: Mutex<State<T>>,
}

#[derive(Debug)]
struct State<T> {
    owner: Option<Owner>,
    /// With the owner while there is one.
    subject: Option<T>,
    queue: VecDeque<Arc<Waiter>>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Thread(ThreadId),
    #[cfg(feature = "tokio")]
    Task,
}

#[derive(Debug)]
struct Waiter {
    sleeper: Sleeper,
    granted: AtomicBool,
}

/// What waits, and so what has to be woken.
#[derive(Debug)]
enum Sleeper {
    Thread(Thread),
    #[cfg(feature = "tokio")]
    Task(Notify),
}

/// What came of asking.
enum Asked<T> {
    Granted(T),
    Queued(Arc<Waiter>),
}

/// Why somebody did not get its turn.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum NoTurn {
    /// The thread that asks is the owner.
    Nested,
    /// The deadline came first; so many threads and tasks of this process were
    /// ahead, the owner included.
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
        let waiter = match self.ask(Owner::this_thread())? {
            Asked::Granted(subject) => return Ok(subject),
            Asked::Queued(waiter) => waiter,
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

    /// Waits for the turn without blocking a thread. Dropping the future gives the
    /// place in the queue back, and the turn on if it has just been granted.
    #[cfg(feature = "tokio")]
    pub(crate) async fn take_as_task(&self, deadline: &Deadline) -> Result<T, NoTurn> {
        let place = match self.ask(Owner::Task)? {
            Asked::Granted(subject) => return Ok(subject),
            Asked::Queued(waiter) => Place::new(self, waiter),
        };
        let called = tokio::time::timeout(deadline.remaining(), place.called());
        // Called or too late: whether the turn was granted stands in the queue.
        let _ = called.await;
        place.end()
    }

    /// Takes the turn only if nobody has it.
    pub(crate) fn try_take(&self) -> Result<Option<T>, NoTurn> {
        self.lock().grant_if_free(Owner::this_thread())
    }

    /// Whether a thread or a task waits for its turn.
    pub(crate) fn is_wanted(&self) -> bool {
        !self.lock().queue.is_empty()
    }

    /// Whether the calling thread is the owner.
    pub(crate) fn is_mine(&self) -> bool {
        self.lock().owner == Some(Owner::this_thread())
    }

    /// From now on the turn, which a task had, is this thread's. Only the owner
    /// calls it.
    #[cfg(feature = "tokio")]
    pub(crate) fn is_this_threads(&self) {
        self.lock().owner = Some(Owner::this_thread());
    }

    /// Hands the turn to the first in line. Only the owner calls it, from any
    /// thread.
    pub(crate) fn give(&self, subject: T) {
        let mut state = self.lock();
        debug_assert!(
            state.owner.is_some() && state.subject.is_none(),
            "only an owner gives the turn"
        );
        state.subject = Some(subject);
        let next = state.queue.pop_front();
        state.owner = next.as_ref().map(|waiter| waiter.owner());
        drop(state);
        if let Some(waiter) = next {
            waiter.wake();
        }
    }

    /// The turn if nobody has it, otherwise a place in the queue.
    fn ask(&self, me: Owner) -> Result<Asked<T>, NoTurn> {
        let mut state = self.lock();
        if let Some(subject) = state.grant_if_free(me)? {
            return Ok(Asked::Granted(subject));
        }
        let waiter = Arc::new(Waiter::new(me));
        state.queue.push_back(Arc::clone(&waiter));
        Ok(Asked::Queued(waiter))
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
            // No longer in the queue: `give` made this one the owner.
            None => state.subject.take().map(Ok),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<T>> {
        // Nothing in here panics with the mutex held, so its state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl<T> State<T> {
    fn grant_if_free(&mut self, me: Owner) -> Result<Option<T>, NoTurn> {
        match self.owner {
            None => {
                debug_assert!(self.queue.is_empty(), "a queue has an owner before it");
                self.owner = Some(me);
                Ok(self.subject.take())
            }
            Some(owner) if owner == me && owner.is_a_thread() => Err(NoTurn::Nested),
            Some(_) => Ok(None),
        }
    }
}

impl Owner {
    fn this_thread() -> Self {
        Self::Thread(ME.with(|id| *id))
    }

    fn is_a_thread(self) -> bool {
        matches!(self, Self::Thread(_))
    }
}

impl Waiter {
    fn new(owner: Owner) -> Self {
        let sleeper = match owner {
            Owner::Thread(_) => Sleeper::Thread(thread::current()),
            #[cfg(feature = "tokio")]
            Owner::Task => Sleeper::Task(Notify::new()),
        };
        Self {
            sleeper,
            granted: AtomicBool::new(false),
        }
    }

    fn owner(&self) -> Owner {
        match &self.sleeper {
            Sleeper::Thread(thread) => Owner::Thread(thread.id()),
            #[cfg(feature = "tokio")]
            Sleeper::Task(_) => Owner::Task,
        }
    }

    fn wake(&self) {
        self.granted.store(true, Ordering::Release);
        match &self.sleeper {
            Sleeper::Thread(thread) => thread.unpark(),
            // Kept until the task looks, if it does not wait yet.
            #[cfg(feature = "tokio")]
            Sleeper::Task(task) => task.notify_one(),
        }
    }
}

/// A task's place in the queue.
#[cfg(feature = "tokio")]
struct Place<'a, T> {
    turn: &'a Turn<T>,
    waiter: Arc<Waiter>,
    generation: u64,
    has_ended: bool,
}

#[cfg(feature = "tokio")]
impl<'a, T> Place<'a, T> {
    fn new(turn: &'a Turn<T>, waiter: Arc<Waiter>) -> Self {
        Self {
            turn,
            waiter,
            generation: fork::generation(),
            has_ended: false,
        }
    }

    async fn called(&self) {
        if let Sleeper::Task(task) = &self.waiter.sleeper {
            task.notified().await;
        }
    }

    /// The turn if it was granted; in any case the place is no more.
    fn end(mut self) -> Result<T, NoTurn> {
        self.has_ended = true;
        let ended = self.turn.leave(&self.waiter);
        // Whoever left the queue otherwise was granted the turn, and nobody else
        // takes what lies ready for it.
        ended.unwrap_or(Err(NoTurn::Timeout { ahead: 0 }))
    }
}

#[cfg(feature = "tokio")]
impl<T> Drop for Place<'_, T> {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, its mutex included.
        if self.has_ended || self.generation != fork::generation() {
            return;
        }
        if let Some(Ok(subject)) = self.turn.leave(&self.waiter) {
            self.turn.give(subject);
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

    #[cfg(feature = "tokio")]
    mod tasks {
        use super::*;
        use std::task::{Context, Poll, Waker};

        /// Looks at a future once, with nobody to wake.
        fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
            future.poll(&mut Context::from_waker(Waker::noop()))
        }

        fn long() -> Deadline {
            Deadline::after(Duration::from_secs(20))
        }

        fn runtime() -> tokio::runtime::Runtime {
            tokio::runtime::Builder::new_current_thread()
                .enable_time()
                .build()
                .unwrap()
        }

        #[test]
        fn a_dropped_future_leaves_no_trace() {
            let runtime = runtime();
            let _entered = runtime.enter();
            let turn = Turn::new(());
            let long = long();
            turn.take(&long).unwrap();
            let mut waits = Box::pin(turn.take_as_task(&long));
            assert!(poll(waits.as_mut()).is_pending());
            assert!(turn.is_wanted());
            drop(waits);
            assert!(!turn.is_wanted());
            turn.give(());
            assert_eq!(turn.try_take(), Ok(Some(())));
        }

        #[test]
        fn a_future_dropped_with_the_turn_granted_passes_it_on() {
            let runtime = runtime();
            let _entered = runtime.enter();
            let turn = Turn::new(());
            let long = long();
            turn.take(&long).unwrap();
            let mut first = Box::pin(turn.take_as_task(&long));
            let mut second = Box::pin(turn.take_as_task(&long));
            assert!(poll(first.as_mut()).is_pending());
            assert!(poll(second.as_mut()).is_pending());
            turn.give(());
            // Granted to the first, which never looks.
            assert!(poll(second.as_mut()).is_pending());
            drop(first);
            assert_eq!(poll(second.as_mut()), Poll::Ready(Ok(())));
            turn.give(());
            assert_eq!(turn.try_take(), Ok(Some(())));
        }

        #[test]
        fn a_task_gives_up_at_its_deadline() {
            let turn = Turn::new(());
            turn.take(&soon()).unwrap();
            let soon = soon();
            let ended = runtime().block_on(turn.take_as_task(&soon));
            assert_eq!(ended, Err(NoTurn::Timeout { ahead: 1 }));
            assert!(soon.is_over() && !turn.is_wanted());
        }

        #[test]
        fn a_thread_that_takes_it_over_from_a_task_is_known_again() {
            let turn = Turn::new(());
            runtime().block_on(turn.take_as_task(&long())).unwrap();
            assert_eq!(turn.try_take(), Ok(None));
            turn.is_this_threads();
            assert_eq!(turn.try_take(), Err(NoTurn::Nested));
        }
    }
}
