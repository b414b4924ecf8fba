//! A write in the queue, and in the hands of the leader.

use std::mem;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use penholder_core::fair_queue::{Waiter, Wakes};
use penholder_core::{Canceller, Deadline, fork_generation};

use super::work::{Work, WriteResult, missing_result};
use crate::error::Error;
use crate::mutex::lock;
use crate::write::CallSite;

/// A thread or task that waits with a write.
pub(crate) type Member = Waiter<PendingWrite>;

/// A write that waits for its turn, or has it.
#[derive(Debug)]
pub(crate) struct PendingWrite {
    pub(crate) deadline: Deadline,
    /// Where the program asked for it.
    site: CallSite,
    /// `None` while the leader has it, and afterwards.
    work: Mutex<Option<Work>>,
    result: Mutex<Option<WriteResult>>,
    /// Ends its wait in the queue of processes, if it leads.
    pub(crate) canceller: Canceller,
    /// It must not be executed by another process, or together with other writes.
    is_local: AtomicBool,
}

impl PendingWrite {
    pub(crate) fn new(work: Work, deadline: Deadline, site: CallSite) -> Self {
        Self {
            deadline,
            site,
            work: Mutex::new(Some(work)),
            result: Mutex::new(None),
            canceller: Canceller::default(),
            is_local: AtomicBool::new(false),
        }
    }

    /// Takes the work out if it is `wanted`.
    pub(super) fn take_work_if(&self, wanted: impl FnOnce(&Work) -> bool) -> Option<Work> {
        let mut work = lock(&self.work);
        if !work.as_ref().is_some_and(wanted) {
            return None;
        }
        work.take()
    }

    pub(crate) fn take_work(&self) -> Option<Work> {
        lock(&self.work).take()
    }

    pub(super) fn put_work_back(&self, work: Work) {
        *lock(&self.work) = Some(work);
    }

    pub(crate) fn is_local(&self) -> bool {
        self.is_local.load(Relaxed)
    }

    /// Takes the result of a finished write.
    pub(crate) fn take_result(&self) -> WriteResult {
        let result = lock(&self.result).take();
        result.unwrap_or_else(|| Err(missing_result()))
    }
}

/// A write in the hands of the leader, which owes its owner a result.
#[derive(Debug)]
pub(crate) struct ClaimedWrite {
    /// `None` once the result is sent.
    member: Option<Arc<Member>>,
    pub(crate) work: Work,
    generation: u64,
}

impl ClaimedWrite {
    pub(super) fn new(member: Arc<Member>, work: Work) -> Self {
        Self {
            member: Some(member),
            work,
            generation: fork_generation(),
        }
    }

    /// Returns where the program asked for it.
    pub(crate) fn site(&self) -> Option<CallSite> {
        self.member.as_ref().map(|member| member.content.site)
    }

    /// From now on it is run alone, by this process.
    pub(crate) fn make_local(&self) {
        if let Some(member) = &self.member {
            member.content.is_local.store(true, Relaxed);
        }
    }

    pub(crate) fn is_local(&self) -> bool {
        let member = self.member.as_ref();
        member.is_some_and(|member| member.content.is_local())
    }

    /// Sends the result to the owner, and wakes it.
    pub(crate) fn finish(self, result: WriteResult) {
        self.finish_with(&mut Wakes::default(), result);
    }

    /// Sends the result to the owner, and leaves waking it to `wakes`.
    pub(crate) fn finish_with(mut self, wakes: &mut Wakes, result: WriteResult) {
        self.send(wakes, result);
    }

    fn send(&mut self, wakes: &mut Wakes, result: WriteResult) {
        let Some(member) = self.member.take() else {
            return;
        };
        // The work borrows from the owner's stack, so it is dropped before the owner
        // continues. What else it owns may panic as it is dropped; the owner gets its result
        // all the same.
        let work = mem::replace(&mut self.work, Work::nothing());
        let _ = catch_unwind(AssertUnwindSafe(|| drop(work)));
        *lock(&member.content.result) = Some(result);
        member.finish_with(wakes);
    }

    /// Takes the write apart to put it back into the queue.
    pub(super) fn into_parts(mut self) -> Option<(Arc<Member>, Work)> {
        let member = self.member.take()?;
        Some((member, mem::replace(&mut self.work, Work::nothing())))
    }
}

impl Drop for ClaimedWrite {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            // The owner is a thread of the parent, and so is what the work borrows.
            mem::forget(mem::replace(&mut self.work, Work::nothing()));
            mem::forget(self.member.take());
            return;
        }
        // The owner must not wait for ever, whatever happened to the leader.
        let error = Error::misuse(
            "write",
            "the thread that led the batch panicked",
            "look for its panic; whether this was written is unknown",
        );
        self.send(&mut Wakes::default(), Err(error));
    }
}
