//! Group commit within a process: many threads and tasks, one transaction.
//!
//! Writers queue; the first leads. It takes the write lock, runs what is queued in
//! the order it came, commits once and tells everybody how it went. Then the next
//! one leads. (`LevelDB`'s writer queue, `DBImpl::Write`, is the model.)
//!
//! | stage of a member | where it is | leaves by |
//! | --- | --- | --- |
//! | `QUEUED` | in the queue | claimed by the leader; called to lead; leaves: its deadline is over, or its future was dropped |
//! | `CALLED` | in the queue, the first | its thread begins to lead; leaves, and the next one is called |
//! | `LEADING` | in the queue, the first | claimed by itself; leaves: as above |
//! | `OFFERED` | with the leader, which has left it as a request for another process | claimed, answered, or back in the queue; its future is dropped: the request is taken back if nobody has claimed it |
//! | `CLAIMED` | with the leader | back in the queue, if it has to be run differently; answered; whoever waits for it waits until then, deadline or not: it runs |
//! | `ANSWERED` | with its owner again | – |
//!
//! Somebody leads, or is called to lead, whenever the queue is not empty: whoever
//! stops leading calls the first. The stage changes with the queue's mutex held,
//! but for the last step.

use std::any::Any;
use std::collections::VecDeque;
use std::fmt;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, Thread, ThreadId};
use std::time::{Duration, Instant};

use penholder_core::{Canceller, Deadline, Guard, Withdrawal, fork_generation};
#[cfg(feature = "tokio")]
use tokio::sync::Notify;

use crate::carry;
use crate::data::{Executed, Statement};
use crate::error::{Error, Result};
use crate::options::GroupLimits;
use crate::pace::Pace;
use crate::telemetry;
use crate::writer::{CallSite, Desk, Session, Transaction};

const QUEUED: u8 = 0;
const CALLED: u8 = 1;
const LEADING: u8 = 2;
const OFFERED: u8 = 3;
const CLAIMED: u8 = 4;
const ANSWERED: u8 = 5;

/// As long as a deadline may be away to be compared with another.
const AGES: Duration = Duration::from_secs(1 << 30);

/// How often a member that is with the leader looks after its deadline whether it is
/// back in the queue.
pub(crate) const LOOK: Duration = Duration::from_millis(10);

/// What a write comes to: what its statements did (nothing, for a closure).
pub(crate) type Answer = Result<Vec<Executed>>;

/// A closure as the leader runs it: its result stays with its owner, and it says
/// whether it succeeded.
type Closure<'a> = Box<dyn FnMut(&Transaction<'_>) -> bool + Send + 'a>;

/// What a member wants done.
pub(crate) enum Work {
    Closure(Closure<'static>),
    /// One statement, which SQLite makes atomic.
    Statement(Statement),
    /// All or nothing.
    Batch(Vec<Statement>),
}

impl Work {
    pub(crate) fn statements(&self) -> &[Statement] {
        match self {
            Self::Closure(_) => &[],
            Self::Statement(one) => std::slice::from_ref(one),
            Self::Batch(all) => all,
        }
    }

    pub(crate) fn is_closure(&self) -> bool {
        matches!(self, Self::Closure(_))
    }

    fn bytes(&self) -> usize {
        self.statements().iter().map(Statement::bytes).sum()
    }
}

impl fmt::Debug for Work {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Closure(_) => f.write_str("Closure"),
            _ => self.statements().fmt(f),
        }
    }
}

/// One write that waits for its turn, or has it.
#[derive(Debug)]
pub(crate) struct Member {
    pub(crate) deadline: Deadline,
    /// Where the program asked for it.
    site: CallSite,
    stage: AtomicU8,
    /// `None` once it is with the leader, or back with its owner.
    work: Mutex<Option<Work>>,
    answer: Mutex<Option<Answer>>,
    sleeper: Sleeper,
    /// Ends its wait in the line of processes, if it leads.
    pub(crate) canceller: Canceller,
    /// It cannot be carried out by another process, or with others.
    stays_home: AtomicBool,
    /// Its future was dropped.
    is_abandoned: AtomicBool,
}

/// What waits, and so what has to be woken.
#[derive(Debug)]
enum Sleeper {
    Thread(Thread),
    #[cfg(feature = "tokio")]
    Task(Notify),
}

impl Member {
    fn new(work: Work, deadline: Deadline, site: CallSite, sleeper: Sleeper) -> Arc<Self> {
        Arc::new(Self {
            deadline,
            site,
            stage: AtomicU8::new(QUEUED),
            work: Mutex::new(Some(work)),
            answer: Mutex::new(None),
            sleeper,
            canceller: Canceller::default(),
            stays_home: AtomicBool::new(false),
            is_abandoned: AtomicBool::new(false),
        })
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn of_task(work: Work, deadline: Deadline, site: CallSite) -> Arc<Self> {
        Self::new(work, deadline, site, Sleeper::Task(Notify::new()))
    }

    /// Until something happens to this task's member.
    #[cfg(feature = "tokio")]
    pub(crate) async fn called(&self) {
        if let Sleeper::Task(task) = &self.sleeper {
            task.notified().await;
        }
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn is_called(&self) -> bool {
        self.stage() == CALLED
    }

    #[cfg(feature = "tokio")]
    pub(crate) fn is_queued(&self) -> bool {
        self.stage() == QUEUED
    }

    /// What its owner has to do now.
    #[cfg(feature = "tokio")]
    pub(crate) fn turn(&self) -> Turn {
        match self.stage() {
            QUEUED => Turn::Waiting,
            CALLED => Turn::ToLead,
            ANSWERED => Turn::Answered(answer_of(self)),
            _ => Turn::Running,
        }
    }

    fn stage(&self) -> u8 {
        self.stage.load(Ordering::Acquire)
    }

    fn set_stage(&self, stage: u8) {
        self.stage.store(stage, Ordering::Release);
    }

    fn take_work(&self) -> Option<Work> {
        lock(&self.work).take()
    }

    /// Of one that is answered.
    fn take_answer(&self) -> Option<Answer> {
        lock(&self.answer).take()
    }

    fn wake(&self) {
        match &self.sleeper {
            Sleeper::Thread(thread) => thread.unpark(),
            // Kept until the task looks, if it does not wait yet.
            #[cfg(feature = "tokio")]
            Sleeper::Task(task) => task.notify_one(),
        }
    }
}

/// What the owner of a member has to do.
#[cfg(feature = "tokio")]
pub(crate) enum Turn {
    /// To wait until it is called, or until its deadline.
    Waiting,
    /// To find a thread that leads.
    ToLead,
    /// To wait until it is answered.
    Running,
    Answered(Answer),
}

/// A member in the leader's hands, which owes it an answer.
#[derive(Debug)]
pub(crate) struct Claimed {
    /// `None` once it is answered.
    member: Option<Arc<Member>>,
    pub(crate) work: Work,
    generation: u64,
}

impl Claimed {
    fn new(member: Arc<Member>, work: Work) -> Self {
        Self {
            member: Some(member),
            work,
            generation: fork_generation(),
        }
    }

    /// Where the program asked for it.
    pub(crate) fn site(&self) -> Option<CallSite> {
        self.member.as_ref().map(|member| member.site)
    }

    /// From now on it is run by itself, at home.
    pub(crate) fn stay_home(&self) {
        if let Some(member) = &self.member {
            member.stays_home.store(true, Ordering::Relaxed);
        }
    }

    pub(crate) fn stays_home(&self) -> bool {
        let member = self.member.as_ref();
        member.is_some_and(|member| member.stays_home.load(Ordering::Relaxed))
    }

    pub(crate) fn answer(mut self, answer: Answer) {
        self.send(answer);
    }

    fn send(&mut self, answer: Answer) {
        let Some(member) = self.member.take() else {
            return;
        };
        // What it borrowed from its owner's stack is gone before the owner goes on. What
        // else it owns may panic as it is dropped: the owner gets its answer all the same.
        let work = mem::replace(&mut self.work, Work::Batch(Vec::new()));
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        *lock(&member.answer) = Some(answer);
        member.set_stage(ANSWERED);
        member.wake();
    }
}

impl Drop for Claimed {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            // Its owner is a thread of the parent, and so is what the work borrows.
            mem::forget(mem::replace(&mut self.work, Work::Batch(Vec::new())));
            mem::forget(self.member.take());
            return;
        }
        // Nobody is left waiting for ever, whatever happened to the leader.
        self.send(Err(Error::misuse(
            "write",
            "the thread that led the batch panicked",
            "look for its panic; whether this was written is unknown",
        )));
    }
}

/// The writers of one process at one database.
#[derive(Debug, Default)]
pub(crate) struct Group {
    state: Mutex<State>,
    pub(crate) pace: Pace,
}

#[derive(Debug, Default)]
struct State {
    leader: Leader,
    /// The leader's own is the first while it waits.
    queue: VecDeque<Arc<Member>>,
    /// Of what is offered to other processes this moment.
    withdrawal: Option<Withdrawal>,
    /// Somebody left before it was offered.
    is_unwanted: bool,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
enum Leader {
    #[default]
    Nobody,
    /// The first in the queue was called, and has yet to wake.
    Called,
    Thread(ThreadId),
}

thread_local! {
    /// Kept, because asking for it counts a shared handle up and down.
    static ME: ThreadId = thread::current().id();
}

fn me() -> ThreadId {
    ME.with(|id| *id)
}

/// Somebody leads; dropping it calls the next one.
#[derive(Debug)]
pub(crate) struct Lead<'a> {
    group: &'a Group,
    generation: u64,
}

impl Drop for Lead<'_> {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, its mutex included.
        if self.generation == fork_generation() {
            let next = self.group.lock().pass();
            if let Some(next) = next {
                next.wake();
            }
        }
    }
}

impl State {
    /// Calls the first to lead, if there is one.
    fn pass(&mut self) -> Option<Arc<Member>> {
        let Some(next) = self.queue.front() else {
            self.leader = Leader::Nobody;
            return None;
        };
        self.leader = Leader::Called;
        next.set_stage(CALLED);
        Some(Arc::clone(next))
    }

    fn remove(&mut self, member: &Arc<Member>) -> Option<usize> {
        let place = self.queue.iter().position(|one| Arc::ptr_eq(one, member))?;
        self.queue.remove(place);
        Some(place)
    }
}

impl Group {
    /// Leads, if nobody else does or waits.
    pub(crate) fn try_lead(&self) -> Option<Lead<'_>> {
        let mut state = self.lock();
        if state.leader != Leader::Nobody {
            return None;
        }
        debug_assert!(state.queue.is_empty(), "a queue has a leader");
        state.leader = Leader::Thread(me());
        Some(self.lead())
    }

    fn lead(&self) -> Lead<'_> {
        Lead {
            group: self,
            generation: fork_generation(),
        }
    }

    /// Whether this thread leads: it is inside somebody's closure.
    pub(crate) fn is_led_by_this_thread(&self) -> bool {
        self.lock().leader == Leader::Thread(me())
    }

    /// How many wait, the leader included.
    pub(crate) fn len(&self) -> usize {
        self.lock().queue.len()
    }

    /// Of whoever is served next.
    fn first_deadline(&self) -> Option<Deadline> {
        self.lock().queue.front().map(|first| first.deadline)
    }

    /// Queues behind everybody; the first of an idle group is called at once.
    pub(crate) fn join(&self, member: &Arc<Member>) {
        let mut state = self.lock();
        state.queue.push_back(Arc::clone(member));
        if state.leader == Leader::Nobody {
            let _oneself = state.pass();
        }
    }

    /// The leader queues too, before everybody.
    fn join_as_leader(&self, member: &Arc<Member>) {
        member.set_stage(LEADING);
        self.lock().queue.push_front(Arc::clone(member));
    }

    /// Whoever was called begins to lead.
    pub(crate) fn begin(&self, member: &Member) -> Option<Lead<'_>> {
        let mut state = self.lock();
        let is_first = |first: &Arc<Member>| std::ptr::eq(&raw const **first, member);
        // One that has left since it was called is no longer the first.
        if member.stage() != CALLED || !state.queue.front().is_some_and(is_first) {
            return None;
        }
        debug_assert_eq!(state.leader, Leader::Called, "one leads");
        state.leader = Leader::Thread(me());
        member.set_stage(LEADING);
        Some(self.lead())
    }

    /// Leaves the queue, and says how many were before; `None` if it is claimed.
    pub(crate) fn leave(&self, member: &Arc<Member>) -> Option<usize> {
        let mut state = self.lock();
        let before = state.remove(member)?;
        // A leader's own work is not there for as long as it leads.
        let led = usize::from(member.stage() == QUEUED && before == 0);
        let next = match member.stage() {
            CALLED => {
                // A thread may be on its way to lead for it: the next one leads now.
                member.set_stage(QUEUED);
                state.pass()
            }
            _ => None,
        };
        drop(state);
        // First, because what the work owns may panic as it is dropped.
        if let Some(next) = next {
            next.wake();
        }
        drop(member.take_work());
        Some((before + led).max(1))
    }

    /// Its future was dropped: leaves, unless it is claimed, and then it runs on. It does
    /// not come back into the queue, where nobody would lead for it.
    #[cfg(feature = "tokio")]
    pub(crate) fn abandon(&self, member: &Arc<Member>) {
        {
            let _state = self.lock();
            member.is_abandoned.store(true, Ordering::Relaxed);
        }
        if self.leave(member).is_some() {
            if member.stage() == LEADING {
                member.canceller.cancel();
            }
            return;
        }
        let mut state = self.lock();
        if member.stage() == OFFERED {
            match &state.withdrawal {
                Some(withdrawal) => drop(withdrawal.withdraw()),
                // It is being left this moment.
                None => state.is_unwanted = true,
            }
        }
    }

    /// The first in the queue, for the leader to run, if it is `wanted`.
    pub(crate) fn claim(&self, wanted: impl FnOnce(&Work) -> bool) -> Option<Claimed> {
        self.claim_as(CLAIMED, |_, work| wanted(work))
    }

    /// The first in the queue, to be offered to other processes.
    pub(crate) fn claim_to_offer(
        &self,
        leader: &Member,
        wanted: impl FnOnce(&Work) -> bool,
    ) -> Option<Claimed> {
        let ends = |member: &Member| member.deadline.start() + member.deadline.timeout().min(AGES);
        self.claim_as(OFFERED, |member, work| {
            // The request is waited with until the leader's deadline.
            let in_time = ends(member) >= ends(leader);
            in_time && !member.stays_home.load(Ordering::Relaxed) && wanted(work)
        })
    }

    fn claim_as(&self, stage: u8, wanted: impl FnOnce(&Member, &Work) -> bool) -> Option<Claimed> {
        let mut state = self.lock();
        let first = Arc::clone(state.queue.front()?);
        let work = {
            let mut place = lock(&first.work);
            if !place.as_ref().is_some_and(|work| wanted(&first, work)) {
                return None;
            }
            place.take()?
        };
        state.queue.pop_front();
        first.set_stage(stage);
        Some(Claimed::new(first, work))
    }

    /// What is offered can be taken back by whoever's future is dropped.
    pub(crate) fn offered(&self, withdrawal: Withdrawal) {
        let mut state = self.lock();
        if mem::take(&mut state.is_unwanted) {
            let _ = withdrawal.withdraw();
        }
        state.withdrawal = Some(withdrawal);
    }

    /// The request is settled: what was in it is the leader's alone.
    pub(crate) fn no_longer_offered(&self) {
        let mut state = self.lock();
        state.withdrawal = None;
        state.is_unwanted = false;
    }

    /// Puts members back at the front of the queue, in their order. `home`: to be run
    /// by themselves.
    pub(crate) fn unclaim(&self, members: Vec<Claimed>, home: bool) {
        let mut state = self.lock();
        let mut abandoned = Vec::new();
        for mut one in members.into_iter().rev() {
            if home {
                one.stay_home();
            }
            let Some(member) = one.member.take() else {
                continue;
            };
            if member.is_abandoned.load(Ordering::Relaxed) {
                abandoned.push(one);
                continue;
            }
            let work = mem::replace(&mut one.work, Work::Batch(Vec::new()));
            *lock(&member.work) = Some(work);
            member.set_stage(QUEUED);
            state.queue.push_front(member);
        }
        drop(state);
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        lock(&self.state)
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    // Nothing panics with one of these held, so what they guard is whole.
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How much one batch may grow, and when it has.
#[derive(Debug)]
pub(crate) struct Room {
    limits: GroupLimits,
    begun: Instant,
    statements: usize,
    bytes: usize,
}

impl Room {
    pub(crate) fn new(limits: GroupLimits) -> Self {
        Self {
            limits,
            begun: Instant::now(),
            statements: 0,
            bytes: 0,
        }
    }

    /// Whether this fits in; the first always does. It is counted.
    pub(crate) fn takes(&mut self, work: &Work) -> bool {
        self.takes_as_much(work.statements().len().max(1), work.bytes())
    }

    pub(crate) fn takes_as_much(&mut self, statements: usize, bytes: usize) -> bool {
        let fits = self.statements == 0
            || self.statements + statements <= self.limits.statements
                && self.bytes + bytes <= self.limits.bytes
                && self.begun.elapsed() < self.limits.latency;
        if fits {
            self.statements += statements;
            self.bytes += bytes;
        }
        fits
    }
}

/// How a write begins.
pub(crate) enum Entered<'a> {
    /// Nobody else writes in this process, the lock was free, and nobody is to be
    /// carried.
    Alone(Alone<'a>),
    /// It takes part in the group; it leads already, if nobody else did.
    Group(Option<Begun<'a>>),
}

/// The lead, and the lock if it was to be had at once.
pub(crate) struct Begun<'a> {
    lead: Lead<'a>,
    guard: Option<Guard>,
}

/// The lock and the connection, and then, once those are given back, the lead.
pub(crate) struct Alone<'a> {
    pub(crate) session: Session<'a>,
    _lead: Lead<'a>,
}

impl<'a> Desk<'a> {
    /// Begins a write, without waiting.
    pub(crate) fn enter(self, deadline: Deadline) -> Result<Entered<'a>> {
        let Some(lead) = self.group().try_lead() else {
            return self.refuse_nested().map(|()| Entered::Group(None));
        };
        let guard = self.locker().acquire_without_waiting()?;
        if let Some(guard) = &guard {
            telemetry::taken(self.subject(), guard, Duration::ZERO);
        }
        let guard = match guard {
            Some(guard) if !carry::is_worth_it(&self, &guard) => guard,
            guard => return Ok(Entered::Group(Some(Begun { lead, guard }))),
        };
        let session = Session::with(self, deadline, guard)?;
        let _lead = lead;
        Ok(Entered::Alone(Alone { session, _lead }))
    }

    /// A thread that has the lock, or runs a closure that has, would wait for itself.
    pub(crate) fn refuse_nested(self) -> Result<()> {
        let locker = self.locker();
        if self.group().is_led_by_this_thread() || locker.is_held_by_this_thread() {
            return Err(locker.nested_error().into());
        }
        Ok(())
    }
}

/// What the only statement did.
pub(crate) fn first(all: Vec<Executed>) -> Result<Executed> {
    let lost = || Error::misuse("write", "its result was lost", "report this as a fault");
    all.into_iter().next().ok_or_else(lost)
}

/// Waits for the answer, leading when it is called. `lead`: this thread leads
/// already.
fn wait(desk: &Desk<'_>, lead: Option<Begun<'_>>, member: &Arc<Member>) -> Answer {
    let group = desk.group();
    let _leaves = Leaves { desk, member };
    match lead {
        Some(Begun { lead, guard }) => {
            group.join_as_leader(member);
            run_as_leader(desk, lead, guard, member);
        }
        None => group.join(member),
    }
    loop {
        if !desk.is_ours() {
            return Err(desk.forked());
        }
        match member.stage() {
            ANSWERED => return answer_of(member),
            CALLED => {
                if let Some(lead) = group.begin(member) {
                    run_as_leader(desk, lead, None, member);
                }
                continue;
            }
            OFFERED | CLAIMED => {
                // It may be back in the queue without a call.
                thread::park_timeout(member.deadline.remaining().max(LOOK));
                continue;
            }
            _ => {}
        }
        let remaining = member.deadline.remaining();
        if remaining.is_zero()
            && let Some(ahead) = group.leave(member)
        {
            let locker = desk.locker();
            let error = locker.timeout_error(&member.deadline, ahead).into();
            telemetry::failed(desk.subject(), &error);
            return Err(error);
        }
        thread::park_timeout(remaining);
    }
}

/// Takes a member out of the queue if its thread panics as it leads: nobody would be
/// there to lead for it, and what its closure borrows is gone.
struct Leaves<'a> {
    desk: &'a Desk<'a>,
    member: &'a Arc<Member>,
}

impl Drop for Leaves<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.desk.is_ours() {
            self.desk.group().leave(self.member);
        }
    }
}

fn answer_of(member: &Member) -> Answer {
    member.take_answer().unwrap_or_else(|| {
        let why = "its answer was lost";
        Err(Error::misuse("write", why, "report this as a fault"))
    })
}

/// Leads until this member is answered, and a little longer if others wait.
pub(crate) fn run_as_leader(
    desk: &Desk<'_>,
    lead: Lead<'_>,
    guard: Option<Guard>,
    member: &Arc<Member>,
) {
    let group = desk.group();
    let begun = Instant::now();
    let served = match guard {
        Some(guard) => carry::hold(desk, member.deadline, guard),
        None => carry::serve(desk, member),
    };
    if let Err(error) = served
        && desk.is_ours()
        && let Some(own) = group.claim_own(member)
    {
        telemetry::failed(desk.subject(), &error);
        own.answer(Err(error));
    }
    // Others get their turn without another thread having to wake for it.
    let longest = desk.limits().latency;
    while desk.is_ours()
        && member.stage() == ANSWERED
        && begun.elapsed() < longest
        && group.len() > 0
    {
        group.pace.gather(longest, || group.len());
        let Some(deadline) = group.first_deadline() else {
            break;
        };
        let Ok(Some(guard)) = desk.locker().acquire_without_waiting() else {
            break;
        };
        telemetry::taken(desk.subject(), &guard, Duration::ZERO);
        if carry::hold(desk, deadline, guard).is_err() {
            break;
        }
    }
    drop(lead);
}

impl Group {
    /// The leader's own, wherever it stands in the queue.
    fn claim_own(&self, member: &Arc<Member>) -> Option<Claimed> {
        let mut state = self.lock();
        state.remove(member)?;
        member.set_stage(CLAIMED);
        drop(state);
        let work = member.take_work()?;
        Some(Claimed::new(Arc::clone(member), work))
    }
}

/// Runs plain data in the group of its process.
pub(crate) fn run_data(
    desk: &Desk<'_>,
    lead: Option<Begun<'_>>,
    work: Work,
    deadline: Deadline,
    site: CallSite,
) -> Answer {
    let sleeper = Sleeper::Thread(thread::current());
    wait(desk, lead, &Member::new(work, deadline, site, sleeper))
}

/// Runs a closure in the group of its process: on this thread, or on the one that
/// leads.
pub(crate) fn run_closure<T, E, F>(
    desk: &Desk<'_>,
    lead: Option<Begun<'_>>,
    work: F,
    deadline: Deadline,
    site: CallSite,
) -> Result<T, E>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    let mut output = None;
    let mut work = Some(work);
    let closure: Closure<'_> = Box::new(|tx| {
        let Some(work) = work.take() else {
            return false;
        };
        let result = catch_unwind(AssertUnwindSafe(|| work(tx)));
        let succeeded = matches!(result, Ok(Ok(_)));
        output = Some(result);
        succeeded
    });
    let sleeper = Sleeper::Thread(thread::current());
    let member = Member::new(Work::Closure(erase(closure)), deadline, site, sleeper);
    let answer = wait(desk, lead, &member);
    // In a forked child nobody runs it any more, and here it is only dropped.
    drop(member.take_work());
    settle(output, answer)
}

/// What the closure's owner is told.
pub(crate) fn settle<T, E: From<Error>>(
    output: Option<Result<Result<T, E>, Box<dyn Any + Send>>>,
    answer: Answer,
) -> Result<T, E> {
    match output {
        Some(Err(panic)) => resume_unwind(panic),
        Some(Ok(Err(own))) => Err(own),
        Some(Ok(Ok(value))) => answer.map(|_| value).map_err(E::from),
        None => Err(answer.err().unwrap_or_else(never_ran).into()),
    }
}

fn never_ran() -> Error {
    Error::misuse("write", "the closure did not run", "report this as a fault")
}

/// Lets the leader run a closure that borrows from its owner's stack.
#[expect(unsafe_code, reason = "the one lifetime erasure of group commit")]
fn erase<'a>(closure: Closure<'a>) -> Closure<'static> {
    // SAFETY: only `run_closure` calls this, with a closure that borrows what lives
    // until `run_closure` returns. It returns after `wait`, and then nobody else has
    // the closure any more: `wait` returns when the member has left the queue, with
    // the closure still in it (and nobody takes it from there), or when it is
    // answered, and `Claimed` drops the closure before it answers, in `send`, also
    // if the leader panics. If it is `wait` that panics, as this thread leads, `Leaves`
    // takes the member out of the queue first. In a forked child the leader is gone or is this thread;
    // `Claimed` then forgets the closure without running it.
    unsafe { mem::transmute::<Closure<'a>, Closure<'static>>(closure) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn closure(run: impl FnMut(&Transaction<'_>) -> bool + Send + 'static) -> Work {
        Work::Closure(Box::new(run))
    }

    fn member(work: Work) -> Arc<Member> {
        let deadline = Deadline::after(Duration::from_secs(10));
        let site = std::panic::Location::caller();
        Member::new(work, deadline, site, Sleeper::Thread(thread::current()))
    }

    fn nothing() -> Arc<Member> {
        member(Work::Batch(Vec::new()))
    }

    /// Panics as it is dropped.
    struct Bomb;

    impl Drop for Bomb {
        fn drop(&mut self) {
            assert!(thread::panicking(), "on purpose");
        }
    }

    fn bomb() -> Work {
        let bomb = Bomb;
        closure(move |_| {
            let _ = &bomb;
            true
        })
    }

    #[test]
    fn the_first_is_called_and_whoever_stops_calls_the_next() {
        let group = Group::default();
        let all = [nothing(), nothing(), nothing()];
        all.iter().for_each(|one| group.join(one));
        let stages = || all.each_ref().map(|one| one.stage());
        assert_eq!(stages(), [CALLED, QUEUED, QUEUED]);
        assert!(group.try_lead().is_none() && group.begin(&all[1]).is_none());
        let lead = group.begin(&all[0]).unwrap();
        assert!(group.is_led_by_this_thread());
        group.claim(|_| true).unwrap().answer(Ok(Vec::new()));
        drop(lead);
        assert_eq!(stages(), [ANSWERED, CALLED, QUEUED]);
        // Called, and gone: the last one is called.
        assert_eq!(group.leave(&all[1]), Some(1));
        assert_eq!(all[2].stage(), CALLED);
        assert_eq!(group.leave(&all[2]), Some(1));
        assert!(group.try_lead().is_some());
    }

    #[test]
    fn what_comes_back_is_in_its_old_order_and_claimed_once() {
        let group = Group::default();
        let lead = group.try_lead().unwrap();
        let all = [nothing(), nothing(), nothing()];
        all.iter().for_each(|one| group.join(one));
        let claimed = vec![
            group.claim(|_| true).unwrap(),
            group.claim(|_| true).unwrap(),
        ];
        assert_eq!((group.len(), group.leave(&all[0])), (1, None));
        group.unclaim(claimed, true);
        for one in &all {
            let claimed = group.claim(|_| true).unwrap();
            assert!(Arc::ptr_eq(claimed.member.as_ref().unwrap(), one));
            claimed.answer(Ok(Vec::new()));
        }
        assert!(group.claim(|_| true).is_none());
        drop(lead);
    }

    #[test]
    fn a_claim_that_is_dropped_is_an_answer() {
        let group = Group::default();
        let one = nothing();
        group.join(&one);
        drop(group.claim(|_| true).unwrap());
        assert_eq!(one.stage(), ANSWERED);
        assert!(one.take_answer().unwrap().is_err());
    }

    #[test]
    fn what_panics_as_it_is_dropped_keeps_nobody_waiting() {
        let group = Group::default();
        let (first, second) = (member(bomb()), nothing());
        group.join(&first);
        group.join(&second);
        group.claim(|_| true).unwrap().answer(Ok(Vec::new()));
        assert_eq!(first.stage(), ANSWERED);
        let group = Group::default();
        let (first, second) = (member(bomb()), nothing());
        group.join(&first);
        group.join(&second);
        let left = catch_unwind(AssertUnwindSafe(|| group.leave(&first)));
        assert!(left.is_err());
        assert_eq!(second.stage(), CALLED);
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn who_leaves_while_it_is_offered_does_not_come_back() {
        let group = Group::default();
        let lead = group.try_lead().unwrap();
        let all = [nothing(), nothing()];
        all.iter().for_each(|one| group.join(one));
        let offer = || group.claim_to_offer(&all[0], |_| true).unwrap();
        let claimed = vec![offer(), offer()];
        group.abandon(&all[0]);
        assert!(
            group.lock().is_unwanted,
            "what is offered next is taken back"
        );
        group.no_longer_offered();
        group.unclaim(claimed, false);
        assert_eq!((group.len(), all[1].stage()), (1, QUEUED));
        drop(lead);
    }
}
