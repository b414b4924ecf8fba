//! Running a closure that borrows from its caller's stack.

use std::any::Any;
use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use penholder_core::Deadline;

use super::pending_write::{Member, PendingWrite};
use super::queue::GroupContext;
use super::submit::{Begun, wait};
use super::work::{Closure, Work, WriteResult};
use crate::error::{Error, Result};
use crate::write::{CallSite, Transaction};

/// Runs a closure in the group of its process: on this thread, or on the one that leads.
/// `lead` leads for a member.
pub(crate) fn run_closure<T, E, F>(
    context: GroupContext<'_>,
    begun: Option<Begun>,
    work: F,
    deadline: Deadline,
    site: CallSite,
    lead: impl Fn(Begun, &Arc<Member>),
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
    let write = PendingWrite::new(Work::Closure(erase(closure)), deadline, site);
    let member = Member::of_this_thread(write);
    let result = wait(context, begun, &member, &lead);
    // In a forked child no thread runs it any more, and it is only dropped here.
    drop(member.content.take_work());
    settle(output, result)
}

/// Returns what the owner of a closure is told. `output` is what the closure returned, or its
/// panic, if it ran.
pub(crate) fn settle<T, E: From<Error>>(
    output: Option<Result<Result<T, E>, Box<dyn Any + Send>>>,
    result: WriteResult,
) -> Result<T, E> {
    match output {
        Some(Err(panic)) => resume_unwind(panic),
        Some(Ok(Err(own))) => Err(own),
        Some(Ok(Ok(value))) => result.map(|_| value).map_err(E::from),
        None => Err(result.err().unwrap_or_else(never_ran).into()),
    }
}

fn never_ran() -> Error {
    Error::misuse("write", "the closure did not run", "report this as a fault")
}

/// Lets the leader run a closure that borrows from its owner's stack.
#[expect(unsafe_code, reason = "the one lifetime erasure of group commit")]
fn erase<'a>(closure: Closure<'a>) -> Closure<'static> {
    // SAFETY: only `run_closure` calls this, with a closure that borrows what lives until
    // `run_closure` returns. It returns after `wait`, and then no other thread has the closure:
    // `wait` returns when the member has left the queue with the closure still in it (and no
    // thread takes it from there), or when the member is finished, and `ClaimedWrite::send`
    // drops the closure before it finishes the member, also if the leader panics. If `wait`
    // itself panics, because this thread leads, `LeaveOnPanic` takes the member out of the
    // queue first. In a forked child the leader does not exist or is this thread;
    // `ClaimedWrite` then forgets the closure without running it.
    unsafe { mem::transmute::<Closure<'a>, Closure<'static>>(closure) }
}
