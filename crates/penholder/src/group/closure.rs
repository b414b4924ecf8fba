//! Running a closure that borrows from its caller's stack.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::thread;

use super::submit::{Submission, wait};
use super::work::{Closure, Work, WriteResult};
use crate::error::{Error, Result};
use crate::write::Transaction;

/// What a closure returned, or its panic.
pub(crate) type ClosureOutput<T, E> = thread::Result<Result<T, E>>;

/// Runs a closure in the group of its process: on this thread, or on the one that leads.
pub(crate) fn run_closure<T, E, F>(submission: Submission<'_>, work: F) -> Result<T, E>
where
    F: FnOnce(&Transaction<'_>) -> Result<T, E> + Send,
    T: Send,
    E: From<Error> + Send,
{
    let mut output = None;
    let mut work = Some(work);
    let closure: Closure<'_> =
        Box::new(|tx| run_once(&mut work, tx, |result| output = Some(result)));
    let member = submission.member(Work::Closure(erase(closure)));
    let result = wait(submission, &member);
    // In a forked child no thread runs it any more, and it is only dropped here.
    drop(member.content.take_work());
    closure_outcome(output, result)
}

/// Runs a closure if it has not run, and gives what it returned, or its panic, to `keep`.
/// Returns whether it ran and succeeded.
pub(crate) fn run_once<T, E, F>(
    work: &mut Option<F>,
    tx: &Transaction<'_>,
    keep: impl FnOnce(ClosureOutput<T, E>),
) -> bool
where
    F: FnOnce(&Transaction<'_>) -> Result<T, E>,
{
    let Some(work) = work.take() else {
        return false;
    };
    let output = catch_unwind(AssertUnwindSafe(|| work(tx)));
    let succeeded = matches!(output, Ok(Ok(_)));
    keep(output);
    succeeded
}

/// Returns what the owner of a closure is told. `output` is `None` if the closure did not run.
pub(crate) fn closure_outcome<T, E: From<Error>>(
    output: Option<ClosureOutput<T, E>>,
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
