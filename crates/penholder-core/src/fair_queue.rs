//! The queue of the threads and tasks of one process: first come, first served, with a
//! deadline.
//!
//! The lock and group commit both use it. The *owner* of the turn has the *subject* of the
//! queue in its hands (for the lock, the open lock file): taking the turn hands it out, and
//! [`give`](FairQueue::give) brings it back and grants the turn to the first waiter. Each
//! waiter brings some *content* (for group commit, the write that it wants), which the owner
//! may claim and finish on its behalf.
//!
//! | stage of a waiter | where it is | leaves by |
//! | --- | --- | --- |
//! | `Queued` | in the queue | `give` → `Granted`; `claim` → `Claimed`; it leaves at its deadline, or because its future is dropped → `Left` |
//! | `Granted` | out of the queue; the subject lies ready for it | its thread or task takes the subject → `Owning`; it leaves, and passes the turn on → `Left` |
//! | `Owning` | its thread has the turn; in the queue if [`rejoin`](FairQueue::rejoin) put it there | `claim` by itself → `Claimed`; `give` → `Granted` again if it is the first, otherwise `Queued`; it leaves → `Left` |
//! | `Claimed` | in the owner's hands; its thread or task waits, past its deadline if need be | `finish` → `Finished`; `put_back` → `Queued`, or `Left` if its task is gone |
//! | `Finished` | with its thread or task again | – |
//! | `Left` | nowhere | – |
//!
//! The queue is never non-empty without an owner: `give` passes the turn on under the same
//! mutex that a waiter holds to join or to leave. Stages change under that mutex, except for
//! `Granted` → `Owning` and `Claimed` → `Finished`, which only one side can make.
//!
//! A thread that asks again while it is the owner is told so. A task is not: what it owns may
//! move to another task and to another thread, so that nothing shows who asks.

#[cfg(test)]
mod model;

use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, ThreadId};
use std::time::Duration;

#[cfg(feature = "tokio")]
use tokio::sync::Notify;

use crate::deadline::Deadline;
use crate::sys::parking::{Place, Places};

/// How often a waiter whose content is claimed looks, after its deadline, whether it was put
/// back: that happens without a wake-up.
const LOOK: Duration = Duration::from_millis(10);

thread_local! {
    /// Kept, because asking for it counts a shared handle up and down.
    static ME: ThreadId = thread::current().id();
}

/// A queue of threads and tasks; see the module's documentation.
#[derive(Debug)]
pub struct FairQueue<S, C = ()> {
    state: Mutex<State<S, C>>,
}

#[derive(Debug)]
struct State<S, C> {
    owner: Option<Owner>,
    /// `None` while the owner has it.
    subject: Option<S>,
    queue: VecDeque<Arc<Waiter<C>>>,
    /// The owner may be in the queue itself.
    has_rejoined: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Owner {
    Thread(ThreadId),
    /// A task, or several threads that share what they own.
    Unbound,
}

#[repr(u8)]
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    Queued,
    Granted,
    Owning,
    Claimed,
    Finished,
    Left,
}

/// A thread or task that waits, and what it brings.
#[derive(Debug)]
pub struct Waiter<C> {
    /// What it brings.
    pub content: C,
    stage: AtomicU8,
    sleeper: Sleeper,
    /// Its future was dropped, so it must not be put back.
    is_abandoned: AtomicBool,
}

/// What waits, and so what has to be woken.
#[derive(Debug)]
enum Sleeper {
    Thread(ThreadId, Place),
    #[cfg(feature = "tokio")]
    Task(Notify),
}

/// The thread that asks is the owner already.
#[derive(Debug, PartialEq, Eq)]
pub struct Nested;

/// How a wait ended.
#[derive(Debug, PartialEq, Eq)]
pub enum Wake<S> {
    /// The turn is the caller's.
    Granted(S),
    /// The owner finished what this waiter brought.
    Finished,
    /// The deadline passed while `ahead` threads and tasks, including the owner, were before
    /// this one.
    TimedOut {
        /// How many.
        ahead: usize,
    },
}

/// What a waiter left behind.
#[derive(Debug, PartialEq, Eq)]
enum Leaving<S> {
    /// It was in the queue, behind that many others.
    FromQueue { ahead: usize },
    /// It had just been granted the turn, which has to be passed on.
    WithTurn(S),
    /// It did not leave: the owner has what it brought, or its own thread has the turn.
    Impossible,
}

impl<S, C> FairQueue<S, C> {
    /// Makes a queue whose turn is free.
    pub fn new(subject: S) -> Self {
        Self {
            state: Mutex::new(State {
                owner: None,
                subject: Some(subject),
                queue: VecDeque::new(),
                has_rejoined: false,
            }),
        }
    }

    fn lock(&self) -> MutexGuard<'_, State<S, C>> {
        // Nothing in here panics with the mutex held, so its state is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    // ---- waiters -------------------------------------------------------------

    /// Takes the turn if it is free.
    ///
    /// # Errors
    ///
    /// The calling thread is the owner.
    pub fn try_take(&self) -> Result<Option<S>, Nested> {
        let mut state = self.lock();
        match state.owner {
            None => {
                debug_assert!(state.queue.is_empty(), "a queue has an owner");
                state.owner = Some(Owner::this_thread());
                Ok(state.subject.take())
            }
            Some(owner) if owner == Owner::this_thread() => Err(Nested),
            Some(_) => Ok(None),
        }
    }

    /// Queues behind all others. If the turn is free, it is granted at once.
    ///
    /// # Errors
    ///
    /// The waiter is the calling thread's, which is the owner.
    pub fn join(&self, waiter: &Arc<Waiter<C>>) -> Result<(), Nested> {
        let mut state = self.lock();
        match state.owner {
            None => {
                state.owner = Some(waiter.owner());
                waiter.set_stage(Stage::Granted);
            }
            Some(owner @ Owner::Thread(_)) if owner == waiter.owner() => return Err(Nested),
            Some(_) => state.queue.push_back(Arc::clone(waiter)),
        }
        Ok(())
    }

    /// Waits for the turn, or until the owner has finished what this thread brought.
    pub fn wait(&self, waiter: &Arc<Waiter<C>>, deadline: &Deadline) -> Wake<S> {
        let place = Place::of_this_thread();
        loop {
            // Before the look: who changes the stage afterwards wakes this thread.
            let wakes = place.wakes();
            match self.look(waiter, deadline) {
                Ok(wake) => return wake,
                Err(pause) => place.park(wakes, pause),
            }
        }
    }

    /// Does the same for a task, without blocking a thread. The caller calls
    /// [`abandon`](Self::abandon) if its future is dropped.
    #[cfg(feature = "tokio")]
    pub async fn wait_as_task(&self, waiter: &Arc<Waiter<C>>, deadline: &Deadline) -> Wake<S> {
        loop {
            match self.look(waiter, deadline) {
                Ok(wake) => return wake,
                // Woken or too late: the stage says which.
                Err(pause) => drop(tokio::time::timeout(pause, waiter.woken()).await),
            }
        }
    }

    /// Looks whether a wait is over; otherwise returns for how long to sleep at most.
    fn look(&self, waiter: &Arc<Waiter<C>>, deadline: &Deadline) -> Result<Wake<S>, Duration> {
        match waiter.stage() {
            Stage::Granted => {
                let subject = self.lock().subject.take();
                // No other thread takes what lies ready for this one.
                let subject = subject.ok_or(LOOK)?;
                waiter.set_stage(Stage::Owning);
                Ok(Wake::Granted(subject))
            }
            Stage::Finished => Ok(Wake::Finished),
            Stage::Queued => {
                let remaining = deadline.remaining();
                if !remaining.is_zero() {
                    return Err(remaining);
                }
                match self.leave(waiter) {
                    Leaving::FromQueue { ahead } => Ok(Wake::TimedOut { ahead }),
                    Leaving::WithTurn(subject) => {
                        waiter.set_stage(Stage::Owning);
                        Ok(Wake::Granted(subject))
                    }
                    Leaving::Impossible => Err(LOOK),
                }
            }
            Stage::Left => Ok(Wake::TimedOut { ahead: 0 }),
            Stage::Owning | Stage::Claimed => Err(deadline.remaining().max(LOOK)),
        }
    }

    fn leave(&self, waiter: &Arc<Waiter<C>>) -> Leaving<S> {
        let mut state = self.lock();
        let position = state.queue.iter().position(|one| Arc::ptr_eq(one, waiter));
        if let Some(position) = position {
            // The owner counts once, also where it stands in the queue itself.
            let is_owner_queued = state
                .queue
                .front()
                .is_some_and(|first| first.stage() == Stage::Owning);
            state.queue.remove(position);
            waiter.set_stage(Stage::Left);
            let ahead = position + usize::from(!is_owner_queued);
            return Leaving::FromQueue { ahead };
        }
        if waiter.stage() == Stage::Granted
            && let Some(subject) = state.subject.take()
        {
            waiter.set_stage(Stage::Left);
            return Leaving::WithTurn(subject);
        }
        Leaving::Impossible
    }

    /// Leaves, because nothing waits any more: the future was dropped, or the thread panics.
    /// A turn that was just granted is passed on. Returns `false` if the owner has what this
    /// waiter brought; then it is finished, but not put back.
    pub fn abandon(&self, waiter: &Arc<Waiter<C>>) -> bool {
        {
            let _state = self.lock();
            waiter.is_abandoned.store(true, Ordering::Relaxed);
        }
        match self.leave(waiter) {
            Leaving::FromQueue { .. } => true,
            Leaving::WithTurn(subject) => {
                self.give(subject);
                true
            }
            Leaving::Impossible => false,
        }
    }

    // ---- the owner -----------------------------------------------------------

    /// Passes the turn to the first waiter. Only the owner calls this, from any thread.
    pub fn give(&self, subject: S) {
        let mut state = self.lock();
        debug_assert!(
            state.owner.is_some() && state.subject.is_none(),
            "only an owner gives the turn"
        );
        state.subject = Some(subject);
        if std::mem::take(&mut state.has_rejoined) {
            // What was put back may be before it: from now on it waits like the others.
            let queue = state.queue.iter();
            queue
                .filter(|one| one.stage() == Stage::Owning)
                .for_each(|one| one.set_stage(Stage::Queued));
        }
        let next = state.queue.pop_front();
        state.owner = next.as_ref().map(|waiter| waiter.owner());
        if let Some(next) = &next {
            next.set_stage(Stage::Granted);
        }
        drop(state);
        if let Some(next) = next {
            next.wake();
        }
    }

    /// Whether the calling thread is the owner.
    pub fn is_owned_by_this_thread(&self) -> bool {
        self.lock().owner == Some(Owner::this_thread())
    }

    /// Makes the calling thread the owner of a turn that a task had. Only the owner calls
    /// this.
    #[cfg(feature = "tokio")]
    pub fn bind_to_this_thread(&self) {
        self.lock().owner = Some(Owner::this_thread());
    }

    /// Makes no thread the owner of a turn that a thread has: whichever asks now waits. Only the
    /// owner calls this.
    pub fn unbind(&self) {
        self.lock().owner = Some(Owner::Unbound);
    }

    /// Returns how many are in the queue, the owner included if it rejoined.
    pub fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Whether no one is in the queue.
    pub fn is_empty(&self) -> bool {
        self.lock().queue.is_empty()
    }

    /// Puts a waiter of the owner's at the front of the queue, so that the owner claims it
    /// like all others. Returns `false` if it was abandoned, and does nothing then.
    pub fn rejoin(&self, waiter: &Arc<Waiter<C>>) -> bool {
        let mut state = self.lock();
        let is_wanted = !waiter.is_abandoned.load(Ordering::Relaxed);
        if is_wanted {
            waiter.set_stage(Stage::Owning);
            state.queue.push_front(Arc::clone(waiter));
            state.has_rejoined = true;
        }
        is_wanted
    }

    /// Looks at what the first waiter brought.
    pub fn peek<R>(&self, look: impl FnOnce(&C) -> R) -> Option<R> {
        self.lock().queue.front().map(|first| look(&first.content))
    }

    /// Claims the first waiter if `take` takes something out of what it brought. `take` runs
    /// with the mutex of the queue held.
    pub fn claim_first<R>(
        &self,
        take: impl FnOnce(&C) -> Option<R>,
    ) -> Option<(Arc<Waiter<C>>, R)> {
        let mut state = self.lock();
        let taken = take(&state.queue.front()?.content)?;
        let first = state.queue.pop_front()?;
        first.set_stage(Stage::Claimed);
        Some((first, taken))
    }

    /// Claims a waiter wherever it is in the queue; `false` if it is not there.
    pub fn claim(&self, waiter: &Arc<Waiter<C>>) -> bool {
        let mut state = self.lock();
        let position = state.queue.iter().position(|one| Arc::ptr_eq(one, waiter));
        let is_queued = position
            .and_then(|position| state.queue.remove(position))
            .is_some();
        if is_queued {
            waiter.set_stage(Stage::Claimed);
        }
        is_queued
    }

    /// Puts a claimed waiter back at the front of the queue, unless it was abandoned.
    /// `restore` runs first, with the mutex of the queue held. Of several, the last is put
    /// back first.
    pub fn put_back(&self, waiter: Arc<Waiter<C>>, restore: impl FnOnce(&C)) {
        let mut state = self.lock();
        debug_assert_eq!(waiter.stage(), Stage::Claimed, "only what was claimed");
        if waiter.is_abandoned.load(Ordering::Relaxed) {
            waiter.set_stage(Stage::Left);
            return;
        }
        restore(&waiter.content);
        waiter.set_stage(Stage::Queued);
        state.queue.push_front(waiter);
    }
}

impl<C> Waiter<C> {
    /// Makes a waiter for the calling thread.
    pub fn of_this_thread(content: C) -> Arc<Self> {
        let sleeper = Sleeper::Thread(ME.with(|id| *id), Place::of_this_thread());
        Self::new(content, sleeper)
    }

    /// Makes a waiter for a task.
    #[cfg(feature = "tokio")]
    pub fn of_task(content: C) -> Arc<Self> {
        Self::new(content, Sleeper::Task(Notify::new()))
    }

    fn new(content: C, sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            content,
            stage: AtomicU8::new(Stage::Queued as u8),
            sleeper,
            is_abandoned: AtomicBool::new(false),
        })
    }

    /// Ends the wait of a claimed waiter: what it brought is finished.
    pub fn finish(&self) {
        self.finish_with(&mut Wakes::default());
    }

    /// Does the same, and leaves waking it to `wakes`.
    pub fn finish_with(&self, wakes: &mut Wakes) {
        debug_assert_eq!(self.stage(), Stage::Claimed, "only what was claimed");
        self.set_stage(Stage::Finished);
        self.wake_with(wakes);
    }

    /// Whether what it brought is finished.
    pub fn is_finished(&self) -> bool {
        self.stage() == Stage::Finished
    }

    /// Whether the owner has what it brought.
    pub fn is_claimed(&self) -> bool {
        self.stage() == Stage::Claimed
    }

    fn stage(&self) -> Stage {
        const STAGES: [Stage; 5] = [
            Stage::Queued,
            Stage::Granted,
            Stage::Owning,
            Stage::Claimed,
            Stage::Finished,
        ];
        let stage = self.stage.load(Ordering::Acquire);
        STAGES
            .get(usize::from(stage))
            .copied()
            .unwrap_or(Stage::Left)
    }

    fn set_stage(&self, stage: Stage) {
        self.stage.store(stage as u8, Ordering::Release);
    }

    fn owner(&self) -> Owner {
        match &self.sleeper {
            Sleeper::Thread(id, _) => Owner::Thread(*id),
            #[cfg(feature = "tokio")]
            Sleeper::Task(_) => Owner::Unbound,
        }
    }

    fn wake(&self) {
        self.wake_with(&mut Wakes::default());
    }

    fn wake_with(&self, wakes: &mut Wakes) {
        match &self.sleeper {
            Sleeper::Thread(_, place) => wakes.0.add(place),
            // Kept until the task looks, if it does not wait yet.
            #[cfg(feature = "tokio")]
            Sleeper::Task(task) => task.notify_one(),
        }
    }

    #[cfg(feature = "tokio")]
    async fn woken(&self) {
        if let Sleeper::Task(task) = &self.sleeper {
            task.notified().await;
        }
    }
}

/// Threads that are woken together, once this is dropped.
#[derive(Debug, Default)]
pub struct Wakes(Places);

impl Drop for Wakes {
    fn drop(&mut self) {
        self.0.wake();
    }
}

impl Owner {
    fn this_thread() -> Self {
        Self::Thread(ME.with(|id| *id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    fn soon() -> Deadline {
        Deadline::after(Duration::from_millis(20))
    }

    fn long() -> Deadline {
        Deadline::after(Duration::from_secs(20))
    }

    fn take(queue: &FairQueue<()>, deadline: &Deadline) -> Wake<()> {
        let waiter = Waiter::of_this_thread(());
        queue.join(&waiter).unwrap();
        queue.wait(&waiter, deadline)
    }

    #[test]
    fn the_owner_is_told_that_it_asks_again() {
        let queue = FairQueue::<()>::new(());
        assert_eq!(queue.try_take(), Ok(Some(())));
        assert_eq!(queue.join(&Waiter::of_this_thread(())), Err(Nested));
        assert_eq!(queue.try_take(), Err(Nested));
    }

    #[test]
    fn a_waiter_gives_up_at_its_deadline_and_leaves_no_trace() {
        let queue = FairQueue::<()>::new(());
        queue.try_take().unwrap();
        thread::scope(|scope| {
            let waiter = scope.spawn(|| take(&queue, &soon()));
            assert_eq!(waiter.join().unwrap(), Wake::TimedOut { ahead: 1 });
        });
        queue.give(());
        assert_eq!(queue.try_take(), Ok(Some(())));
    }

    #[test]
    fn threads_are_served_in_the_order_they_came() {
        let queue = FairQueue::<()>::new(());
        let order = Mutex::new(Vec::new());
        queue.try_take().unwrap();
        thread::scope(|scope| {
            for number in 0..8 {
                let (queue, order) = (&queue, &order);
                scope.spawn(move || {
                    assert_eq!(take(queue, &long()), Wake::Granted(()));
                    order.lock().unwrap().push(number);
                    queue.give(());
                });
                // The next thread starts once this one is in the queue.
                while queue.len() <= number {
                    thread::yield_now();
                }
            }
            queue.give(());
        });
        assert_eq!(order.into_inner().unwrap(), [0, 1, 2, 3, 4, 5, 6, 7]);
    }

    #[test]
    fn what_is_put_back_is_in_its_old_order_and_claimed_once() {
        let queue = FairQueue::new(());
        queue.try_take().unwrap();
        // Of other threads, as far as the queue can tell.
        let all = thread::scope(|scope| {
            let waiter = |number| scope.spawn(move || Waiter::of_this_thread(number));
            [0, 1, 2].map(|number| waiter(number).join().unwrap())
        });
        all.iter().for_each(|one| queue.join(one).unwrap());
        let claim = || queue.claim_first(|number| Some(*number)).unwrap();
        let claimed = [claim(), claim()];
        assert_eq!(queue.len(), 1);
        assert!(!queue.abandon(&all[1]), "the owner has it");
        for (one, _) in claimed.into_iter().rev() {
            queue.put_back(one, |_| {});
        }
        let (first, number) = claim();
        assert_eq!(number, 0);
        first.finish();
        assert!(all[0].is_finished());
        assert_eq!(claim().1, 2, "an abandoned one is not put back");
        assert!(queue.claim_first(|number| Some(*number)).is_none());
    }

    #[test]
    fn an_owner_that_rejoined_is_granted_the_turn_again() {
        let queue = FairQueue::new(());
        let own = Waiter::of_this_thread(());
        queue.join(&own).unwrap();
        assert_eq!(queue.wait(&own, &long()), Wake::Granted(()));
        assert!(queue.rejoin(&own));
        queue.give(());
        assert_eq!(queue.wait(&own, &long()), Wake::Granted(()));
        assert!(queue.rejoin(&own));
        assert!(queue.claim(&own) && !queue.claim(&own));
        own.finish();
        queue.give(());
        assert_eq!(queue.wait(&own, &long()), Wake::Finished);
        assert_eq!(queue.try_take(), Ok(Some(())));
    }

    #[cfg(feature = "tokio")]
    mod tasks {
        use super::*;
        use std::task::{Context, Poll, Waker};

        /// Polls a future once, with nothing to wake.
        fn poll<F: Future>(future: std::pin::Pin<&mut F>) -> Poll<F::Output> {
            future.poll(&mut Context::from_waker(Waker::noop()))
        }

        /// Waits as a task; the place is given back if the future is dropped.
        async fn take_as_task(queue: &FairQueue<()>, deadline: Deadline) -> Wake<()> {
            struct Place<'a>(&'a FairQueue<()>, Arc<Waiter<()>>);
            impl Drop for Place<'_> {
                fn drop(&mut self) {
                    self.0.abandon(&self.1);
                }
            }
            let place = Place(queue, Waiter::of_task(()));
            queue.join(&place.1).unwrap();
            queue.wait_as_task(&place.1, &deadline).await
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
            let queue = FairQueue::<()>::new(());
            queue.try_take().unwrap();
            let mut waits = Box::pin(take_as_task(&queue, long()));
            assert!(poll(waits.as_mut()).is_pending());
            assert!(!queue.is_empty());
            drop(waits);
            assert!(queue.is_empty());
            queue.give(());
            assert_eq!(queue.try_take(), Ok(Some(())));
        }

        #[test]
        fn a_future_dropped_with_the_turn_granted_passes_it_on() {
            let runtime = runtime();
            let _entered = runtime.enter();
            let queue = FairQueue::<()>::new(());
            queue.try_take().unwrap();
            let mut first = Box::pin(take_as_task(&queue, long()));
            let mut second = Box::pin(take_as_task(&queue, long()));
            assert!(poll(first.as_mut()).is_pending());
            assert!(poll(second.as_mut()).is_pending());
            queue.give(());
            // Granted to the first, which never looks.
            assert!(poll(second.as_mut()).is_pending());
            drop(first);
            assert_eq!(poll(second.as_mut()), Poll::Ready(Wake::Granted(())));
            queue.give(());
            assert_eq!(queue.try_take(), Ok(Some(())));
        }

        #[test]
        fn a_task_gives_up_at_its_deadline() {
            let queue = FairQueue::<()>::new(());
            queue.try_take().unwrap();
            let soon = soon();
            let ended = runtime().block_on(take_as_task(&queue, soon));
            assert_eq!(ended, Wake::TimedOut { ahead: 1 });
            assert!(soon.is_over() && queue.is_empty());
        }

        #[test]
        fn a_thread_that_takes_it_over_from_a_task_is_known_again() {
            let queue = FairQueue::<()>::new(());
            let ended = runtime().block_on(take_as_task(&queue, long()));
            assert_eq!(ended, Wake::Granted(()));
            assert_eq!(queue.try_take(), Ok(None));
            queue.bind_to_this_thread();
            assert_eq!(queue.try_take(), Err(Nested));
        }
    }
}
