//! Queuing a write of a thread, and waiting for its result.

use std::sync::Arc;
use std::thread;

use penholder_core::Deadline;
use penholder_core::fair_queue::Wake;

use super::pending_write::{Member, PendingWrite};
use super::queue::{GroupContext, Lead};
use super::work::{Work, WriteResult};
use crate::telemetry;
use crate::write::{CallSite, WriteTurn};

/// The lead, and the turn to write if the lock could be taken without waiting.
pub(crate) struct Begun {
    pub(crate) lead: Lead,
    pub(crate) turn: Option<WriteTurn>,
}

/// How a thread submits a write to the group of its process.
pub(crate) struct Submission<'a> {
    pub(crate) context: GroupContext<'a>,
    /// If this thread leads already.
    pub(crate) begun: Option<Begun>,
    pub(crate) deadline: Deadline,
    pub(crate) site: CallSite,
    /// Leads until a member is finished.
    pub(crate) lead: &'a dyn Fn(Begun, &Arc<Member>),
}

impl Submission<'_> {
    /// Makes a member of this thread with this work.
    pub(super) fn member(&self, work: Work) -> Arc<Member> {
        Member::of_this_thread(PendingWrite::new(work, self.deadline, self.site))
    }
}

/// Runs plain data in the group of its process.
pub(crate) fn run_data(submission: Submission<'_>, work: Work) -> WriteResult {
    let member = submission.member(work);
    wait(submission, &member)
}

/// Waits for the result of a write, and leads when it is the first.
pub(super) fn wait(submission: Submission<'_>, member: &Arc<Member>) -> WriteResult {
    let Submission {
        context,
        begun,
        lead,
        ..
    } = submission;
    let queue = &context.group.queue;
    let _leave_on_panic = LeaveOnPanic { context, member };
    match begun {
        Some(begun) => lead(begun, member),
        None if queue.join(member).is_err() => {
            return Err(context.write.locker().nested_error().into());
        }
        None => {}
    }
    let deadline = &member.content.deadline;
    loop {
        if !context.write.is_ours() {
            return Err(context.write.forked());
        }
        match queue.wait(member, deadline) {
            Wake::Finished => return member.content.take_result(),
            Wake::Granted(()) => {
                let lead_of_ours = Lead::new(context.group);
                let begun = Begun {
                    lead: lead_of_ours,
                    turn: None,
                };
                lead(begun, member);
            }
            Wake::TimedOut { ahead } => {
                let locker = context.write.locker();
                let error = locker.timeout_error(deadline, ahead).into();
                telemetry::failed(context.write.labels(), &error);
                return Err(error);
            }
        }
    }
}

/// Takes a member out of the queue if its thread panics while it leads: no thread would lead
/// for it, and what its closure borrows is gone.
struct LeaveOnPanic<'a> {
    context: GroupContext<'a>,
    member: &'a Arc<Member>,
}

impl Drop for LeaveOnPanic<'_> {
    fn drop(&mut self) {
        if thread::panicking() && self.context.write.is_ours() {
            self.context.group.queue.abandon(self.member);
            drop(self.member.content.take_work());
        }
    }
}
