//! The writers of one process at one database, and the lead.

use std::mem;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use penholder_core::commit_stats::{CommitStats, OwnCommitStats};
use penholder_core::fair_queue::FairQueue;
use penholder_core::{Deadline, Withdrawal, fork_generation};

use super::isolation::Caution;
use super::pending_write::{ClaimedWrite, Member, PendingWrite};
use super::work::Work;
use crate::error::Result;
use crate::mutex::lock;
use crate::write::WriteContext;

/// Deadlines further away than this are compared as if they were this far away.
const COMPARABLE: Duration = Duration::from_secs(1 << 30);

/// The writers of one process at one database.
#[derive(Debug)]
pub(crate) struct Group {
    /// The owner of its turn leads.
    pub(crate) queue: FairQueue<(), PendingWrite>,
    offer: Mutex<GroupOffer>,
    stats: OwnCommitStats,
    caution: Caution,
}

/// The writes that the leader offers to other processes as a request.
#[derive(Debug, Default)]
struct GroupOffer {
    /// The leader is about to offer writes, or offers them.
    #[cfg_attr(
        not(feature = "tokio"),
        expect(dead_code, reason = "only a dropped future asks")
    )]
    is_active: bool,
    /// Once they are in the queue file.
    withdrawal: Option<Withdrawal>,
    /// The owner of one of them left the queue before they were.
    is_unwanted: bool,
}

/// What a write in a group needs to know.
#[derive(Debug, Clone, Copy)]
pub(crate) struct GroupContext<'a> {
    pub(crate) write: WriteContext<'a>,
    pub(crate) group: &'a Arc<Group>,
}

impl GroupContext<'_> {
    /// Refuses a thread that has the lock, or that runs a closure which has it: it would wait
    /// for itself.
    pub(crate) fn refuse_nested(self) -> Result<()> {
        let locker = self.write.locker();
        if self.group.is_led_by_this_thread() || locker.is_held_by_this_thread() {
            return Err(locker.nested_error().into());
        }
        Ok(())
    }
}

/// The lead of a group. Dropping it passes the lead to the next writer.
#[derive(Debug)]
pub(crate) struct Lead {
    group: Arc<Group>,
    generation: u64,
}

impl Lead {
    /// Of a turn of the group's queue that was just taken.
    pub(crate) fn new(group: &Arc<Group>) -> Self {
        Self {
            group: Arc::clone(group),
            generation: fork_generation(),
        }
    }

    /// Makes the calling thread the leader, for a task.
    #[cfg(feature = "tokio")]
    pub(crate) fn bind_to_this_thread(&self) {
        self.group.queue.bind_to_this_thread();
    }
}

impl Drop for Lead {
    fn drop(&mut self) {
        // In a forked child the queue is the parent's, including its mutex.
        if self.generation == fork_generation() {
            self.group.queue.give(());
        }
    }
}

impl Group {
    pub(crate) fn new() -> Arc<Self> {
        Arc::new(Self {
            queue: FairQueue::new(()),
            offer: Mutex::default(),
            stats: OwnCommitStats::default(),
            caution: Caution::default(),
        })
    }

    /// Takes the lead if no one else leads or waits.
    pub(crate) fn try_lead(self: &Arc<Self>) -> Option<Lead> {
        let taken = self.queue.try_take().unwrap_or(None);
        taken.map(|()| Lead::new(self))
    }

    /// Returns whether the calling thread leads: it is inside a closure.
    pub(crate) fn is_led_by_this_thread(&self) -> bool {
        self.queue.is_owned_by_this_thread()
    }

    /// Returns how many wait, including the leader.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Returns the deadline of the write that is served next.
    pub(crate) fn first_deadline(&self) -> Option<Deadline> {
        self.queue.peek(|first| first.deadline)
    }

    /// Returns what this process knows of its commits.
    pub(crate) fn commit_stats(&self) -> CommitStats<'_> {
        self.stats.view()
    }

    /// Returns which of its batches have savepoints.
    pub(super) fn caution(&self) -> &Caution {
        &self.caution
    }

    // ---- claiming --------------------------------------------------------------

    /// Claims the first write in the queue, if it is `wanted`.
    pub(crate) fn claim(&self, wanted: impl FnOnce(&Work) -> bool) -> Option<ClaimedWrite> {
        let (member, work) = self.queue.claim_first(|first| first.take_work_if(wanted))?;
        Some(ClaimedWrite::new(member, work))
    }

    /// Claims the first write in the queue to offer it to other processes, if it is `wanted`.
    pub(crate) fn claim_to_offer(
        &self,
        leader: &PendingWrite,
        wanted: impl FnOnce(&Work) -> bool,
    ) -> Option<ClaimedWrite> {
        let end = |write: &PendingWrite| {
            write.deadline.start() + write.deadline.timeout().min(COMPARABLE)
        };
        let (member, work) = self.queue.claim_first(|first| {
            // The request is offered until the deadline of the leader.
            let is_in_time = end(first) >= end(leader);
            if !is_in_time || first.is_local() {
                return None;
            }
            first.take_work_if(wanted)
        })?;
        Some(ClaimedWrite::new(member, work))
    }

    /// Claims the leader's own write, wherever it is in the queue.
    pub(crate) fn claim_own(&self, member: &Arc<Member>) -> Option<ClaimedWrite> {
        if !self.queue.claim(member) {
            return None;
        }
        let work = member.content.take_work().unwrap_or_else(Work::nothing);
        Some(ClaimedWrite::new(Arc::clone(member), work))
    }

    /// Puts writes back at the front of the queue, in their order. Those whose future was
    /// dropped are dropped. If that panics, the rest are told so.
    pub(crate) fn put_back(&self, writes: Vec<ClaimedWrite>) {
        for one in writes.into_iter().rev() {
            let Some((member, work)) = one.into_parts() else {
                continue;
            };
            self.queue
                .put_back(member, |write| write.put_work_back(work));
        }
    }

    // ---- offering --------------------------------------------------------------

    /// Notes that the leader begins to offer writes to other processes.
    pub(crate) fn begin_offer(&self) {
        *self.lock_offer() = GroupOffer {
            is_active: true,
            ..GroupOffer::default()
        };
    }

    /// Notes that the writes are in the queue file, and can be withdrawn.
    pub(crate) fn note_offered(&self, withdrawal: Withdrawal) {
        let mut offer = self.lock_offer();
        if mem::take(&mut offer.is_unwanted) {
            let _ = withdrawal.withdraw();
        }
        offer.withdrawal = Some(withdrawal);
    }

    /// Notes that the offer has ended: the leader alone has its writes again.
    pub(crate) fn end_offer(&self) {
        *self.lock_offer() = GroupOffer::default();
    }

    fn lock_offer(&self) -> MutexGuard<'_, GroupOffer> {
        lock(&self.offer)
    }

    // ---- leaving ---------------------------------------------------------------

    /// Leaves, because the future of this write was dropped. A write that the leader has
    /// already runs on, unless it is offered and no other process has claimed it; it does not
    /// come back into the queue.
    #[cfg(feature = "tokio")]
    pub(crate) fn abandon(&self, member: &Arc<Member>) {
        // If it leads, its thread leaves the queue of processes.
        if self.queue.abandon(member) {
            member.content.canceller.cancel();
            drop(member.content.take_work());
            return;
        }
        let mut offer = self.lock_offer();
        // With the mutex held, so that it is this offer which the write is part of.
        if !member.is_claimed() {
            return;
        }
        match (&offer.withdrawal, offer.is_active) {
            (Some(withdrawal), _) => drop(withdrawal.withdraw()),
            // It is being offered at this moment.
            (None, true) => offer.is_unwanted = true,
            (None, false) => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::write::Transaction;
    use penholder_core::fair_queue::Wake;
    use std::panic::{AssertUnwindSafe, catch_unwind};
    use std::thread;

    fn closure(run: impl FnMut(&Transaction<'_>) -> bool + Send + 'static) -> Work {
        Work::Closure(Box::new(run))
    }

    /// A member of another thread, as far as the queue can tell.
    fn member(work: Work) -> Arc<Member> {
        let deadline = Deadline::after(Duration::from_secs(10));
        let site = std::panic::Location::caller();
        let write = PendingWrite::new(work, deadline, site);
        thread::scope(|scope| {
            let made = scope.spawn(|| Member::of_this_thread(write));
            made.join().unwrap()
        })
    }

    fn nothing() -> Arc<Member> {
        member(Work::nothing())
    }

    fn join_all(group: &Group, all: &[Arc<Member>]) {
        for one in all {
            group.queue.join(one).unwrap();
        }
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
    fn the_first_writer_leads_and_passes_the_lead_on() {
        let group = Group::new();
        let all = [nothing(), nothing(), nothing()];
        join_all(&group, &all);
        assert!(group.try_lead().is_none());
        let soon = Deadline::after(Duration::ZERO);
        assert_eq!(group.queue.wait(&all[0], &soon), Wake::Granted(()));
        let lead = Lead::new(&group);
        assert!(group.queue.rejoin(&all[0]));
        group.claim(|_| true).unwrap().finish(Ok(Vec::new()));
        assert_eq!(group.queue.wait(&all[0], &soon), Wake::Finished);
        drop(lead);
        // Granted to the second, which is gone: the last one leads.
        assert!(group.queue.abandon(&all[1]));
        assert_eq!(group.queue.wait(&all[2], &soon), Wake::Granted(()));
        drop(Lead::new(&group));
        assert!(group.try_lead().is_some());
    }

    #[test]
    fn writes_that_are_put_back_keep_their_order_and_are_claimed_once() {
        let group = Group::new();
        let lead = group.try_lead().unwrap();
        let all = [nothing(), nothing(), nothing()];
        join_all(&group, &all);
        let claimed = vec![
            group.claim(|_| true).unwrap(),
            group.claim(|_| true).unwrap(),
        ];
        assert_eq!(group.len(), 1);
        claimed.iter().for_each(ClaimedWrite::make_local);
        group.put_back(claimed);
        for one in &all {
            let claimed = group.claim(|_| true).unwrap();
            claimed.finish(Ok(Vec::new()));
            assert!(one.is_finished());
        }
        assert!(group.claim(|_| true).is_none());
        drop(lead);
    }

    #[test]
    fn a_dropped_claim_finishes_its_write() {
        let group = Group::new();
        let _lead = group.try_lead().unwrap();
        let one = nothing();
        join_all(&group, std::slice::from_ref(&one));
        drop(group.claim(|_| true).unwrap());
        assert!(one.is_finished());
        assert!(one.content.take_result().is_err());
    }

    #[test]
    fn a_panic_in_drop_keeps_no_writer_waiting() {
        let group = Group::new();
        let _lead = group.try_lead().unwrap();
        let first = member(bomb());
        join_all(&group, std::slice::from_ref(&first));
        group.claim(|_| true).unwrap().finish(Ok(Vec::new()));
        assert!(first.is_finished());
        // The first writer has the lead, and leaves: the second gets it all the same.
        let group = Group::new();
        let (first, second) = (member(bomb()), nothing());
        join_all(&group, &[Arc::clone(&first), Arc::clone(&second)]);
        let left = catch_unwind(AssertUnwindSafe(|| {
            assert!(group.queue.abandon(&first));
            drop(first.content.take_work());
        }));
        assert!(left.is_err());
        let soon = Deadline::after(Duration::ZERO);
        assert_eq!(group.queue.wait(&second, &soon), Wake::Granted(()));
    }

    #[test]
    fn what_panics_as_it_is_put_back_keeps_no_caller_waiting() {
        let group = Group::new();
        let _lead = group.try_lead().unwrap();
        let all = [nothing(), member(bomb()), nothing()];
        join_all(&group, &all);
        let claim = |_| group.claim(|_| true).unwrap();
        let claimed: Vec<_> = (0..3).map(claim).collect();
        assert!(!group.queue.abandon(&all[1]), "the leader has it");
        let put_back = catch_unwind(AssertUnwindSafe(|| group.put_back(claimed)));
        assert!(put_back.is_err());
        assert!(all[0].is_finished() && all[0].content.take_result().is_err());
        group.claim(|_| true).unwrap().finish(Ok(Vec::new()));
        assert!(all[2].is_finished());
    }

    #[cfg(feature = "tokio")]
    #[test]
    fn a_write_abandoned_while_it_is_offered_is_not_put_back() {
        let group = Group::new();
        let lead = group.try_lead().unwrap();
        let all = [nothing(), nothing()];
        join_all(&group, &all);
        group.begin_offer();
        let offer = || group.claim_to_offer(&all[0].content, |_| true).unwrap();
        let claimed = vec![offer(), offer()];
        group.abandon(&all[0]);
        assert!(
            group.lock_offer().is_unwanted,
            "what is offered next is withdrawn"
        );
        group.end_offer();
        group.put_back(claimed);
        assert_eq!(group.len(), 1);
        drop(lead);
    }
}
