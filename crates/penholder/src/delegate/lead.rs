//! What the leader of a group does: takes the lead, waits for the lock, serves its own process
//! and others, and gives both back.

use std::sync::Arc;
use std::time::{Duration, Instant};

use penholder_core::{Deadline, Guard};

use super::combiner;
use super::direct::{DirectOffer, WaitingWrite};
use super::policy::is_combining_worth_it;
use super::requester::{EndedOffer, Served, deliver_outcome, wait_for_lock};
use super::state::DelegateContext;
use crate::error::Result;
use crate::group::{self, Begun, Lead, Member, PendingWrite};
use crate::sqlite::fingerprint::Fingerprint;
use crate::telemetry;
use crate::write::{CallSite, Session, WriteTurn};

/// How a write begins.
pub(crate) enum Entered<'a> {
    /// No one else writes in this process, the lock was free, and nothing is to be combined.
    Alone(Alone<'a>),
    /// The write takes part in the group.
    Group(WaitingWrite<'a>),
}

/// The lock and the connection, and the lead, which is passed on once those are given back.
pub(crate) struct Alone<'a> {
    pub(crate) session: Session<'a>,
    context: DelegateContext<'a>,
    _lead: Lead,
}

impl Alone<'_> {
    /// Ends the session.
    pub(crate) fn finish(self) {
        self.context.finish(self.session);
    }
}

impl<'a> DelegateContext<'a> {
    /// Begins a write: takes the lead and the lock, if they are free.
    pub(crate) fn enter_without_waiting(
        self,
        deadline: Deadline,
        site: CallSite,
    ) -> Result<Entered<'a>> {
        let waiting = |begun| {
            Entered::Group(WaitingWrite {
                context: self,
                deadline,
                site,
                begun,
                offer: None,
            })
        };
        let Some(lead) = self.group().try_lead() else {
            return self.group.refuse_nested().map(|()| waiting(None));
        };
        let write = self.write();
        let guard = match write.locker().acquire_without_waiting()? {
            Some(guard) => guard,
            None => return Ok(waiting(Some(Begun { lead, turn: None }))),
        };
        telemetry::taken(write.labels(), &guard, Duration::ZERO);
        let turn = WriteTurn::taken_at(guard, deadline.start());
        if self.may_combine(&turn) {
            let turn = Some(turn);
            return Ok(waiting(Some(Begun { lead, turn })));
        }
        let session = Session::begin(*write, deadline, turn)?;
        Ok(Entered::Alone(Alone {
            session,
            context: self,
            _lead: lead,
        }))
    }

    /// Returns whether this process is to execute what others offer.
    fn may_combine(&self, turn: &WriteTurn) -> bool {
        is_combining_worth_it(self.write(), turn) && self.delegate.may_combine()
    }

    /// Leads until this member is finished, and a little longer if others wait. Takes the lock
    /// first, unless `begun` has it.
    pub(crate) fn lead_until_finished(&self, begun: Begun, member: &Arc<Member>) {
        let Begun { lead, turn } = begun;
        self.lead(lead, member, || match turn {
            Some(turn) => self.serve(member.content.deadline, turn),
            None => self.wait_and_serve(&member.content),
        });
    }

    /// Does the same after a wait in which the write of this member was offered.
    pub(crate) fn lead_after_offer(&self, begun: Begun, offer: DirectOffer, member: &Arc<Member>) {
        self.lead(begun.lead, member, || {
            let ended = offer.of_member(self, member);
            self.go_on(ended, member.content.deadline)
        });
    }

    fn lead(&self, lead: Lead, member: &Arc<Member>, serve: impl FnOnce() -> Result<()>) {
        let (write, group) = (self.write(), self.group());
        // Its future may have been dropped.
        if !group.queue.rejoin(member) {
            return;
        }
        let started = Instant::now();
        if let Err(error) = serve()
            && write.is_ours()
            && let Some(own) = group.claim_own(member)
        {
            telemetry::failed(write.labels(), &error);
            own.finish(Err(error));
        }
        if member.is_finished() {
            self.serve_others(started);
        }
        drop(lead);
    }

    /// Serves others for a little longer, without another thread having to wake up for it.
    pub(super) fn serve_others(&self, started: Instant) {
        let longest = self.write().limits().max_latency;
        while self.write().is_ours() && started.elapsed() < longest {
            if !self.try_serve_next(longest) {
                break;
            }
        }
    }

    /// Serves those that wait, if the lock can be taken without waiting; `false` if not.
    fn try_serve_next(&self, longest: Duration) -> bool {
        let (write, group) = (self.write(), self.group());
        if group.len() == 0 {
            return false;
        }
        group
            .commit_stats()
            .wait_for_more_writes(longest, |wanted| group.len() >= wanted);
        let Some(deadline) = group.first_deadline() else {
            return false;
        };
        let Ok(Some(guard)) = write.locker().acquire_without_waiting() else {
            return false;
        };
        telemetry::taken(write.labels(), &guard, Duration::ZERO);
        self.serve(deadline, WriteTurn::new(guard)).is_ok()
    }

    /// Waits for the lock, and serves those that wait.
    fn wait_and_serve(&self, leader: &PendingWrite) -> Result<()> {
        self.go_on(wait_for_lock(self, leader), leader.deadline)
    }

    /// Goes on after a wait in which writes were offered, and serves those that wait.
    fn go_on(&self, ended: EndedOffer, deadline: Deadline) -> Result<()> {
        match deliver_outcome(self, ended)? {
            Served::Locked(guard) => self.serve(deadline, WriteTurn::new(guard)),
            Served::WithoutLock => Ok(()),
            Served::UnknownOutcome(ended) => {
                if let Some(session) = ended.resolve(self, deadline) {
                    self.serve_in_session(session);
                }
                Ok(())
            }
        }
    }

    /// Serves those that wait with a lock that is held already. An error is that of no write.
    pub(super) fn serve_with(&self, guard: Guard, deadline: Deadline) {
        if let Err(error) = self.serve(deadline, WriteTurn::new(guard)) {
            telemetry::failed(self.write().labels(), &error);
        }
    }

    /// Begins a session with the lock held, and serves those that wait.
    fn serve(&self, deadline: Deadline, turn: WriteTurn) -> Result<()> {
        let session = Session::begin(*self.write(), deadline, turn)?;
        self.serve_in_session(session);
        Ok(())
    }

    /// Runs what is queued here and, if that pays, what other processes offer. Ends the session.
    fn serve_in_session(&self, mut session: Session<'_>) {
        let (write, group, deadline) = (self.write(), self.group(), *session.deadline());
        let may_combine = self.may_combine(session.turn());
        // Opening the connection takes longer than most batches, and others wait: the next one
        // has its turn meanwhile.
        let opens_first = may_combine && !self.delegate.has_opened();
        let combined = (may_combine && !opens_first)
            .then(|| self.combine(&session))
            .flatten();
        group::run_queued(&session, group, write.limits());
        if let Some((fingerprint, took)) = combined {
            // Those who come during one batch are served by the next one.
            session.set_combining_slice(fingerprint, took * 2);
        }
        if opens_first {
            session.pass_on();
        }
        self.finish(session);
        if opens_first && write.is_ours() {
            self.delegate.open_in_time(write, &deadline);
        }
    }

    /// Waits for requests and executes them. If there were any and all were executed, returns their
    /// fingerprint and how long that took.
    fn combine(&self, session: &Session<'_>) -> Option<(Fingerprint, Duration)> {
        let (write, group, guard) = (self.write(), self.group(), session.guard());
        let begun = Instant::now();
        if let Some(stats) = guard.commit_stats() {
            stats.wait_for_more_writes(write.limits().max_latency, |wanted| {
                // First how many wait: that is read from a few words only.
                let waiting = group.len() + guard.count_waiters();
                waiting >= wanted && group.len() + guard.count_requests() >= wanted
            });
        }
        // The requests run on another connection.
        session.forgo_lease();
        let fingerprint = combiner::combine(self, session)?;
        Some((fingerprint, begun.elapsed()))
    }

    /// Ends a session. A failed release is reported, not returned: what was committed is
    /// committed.
    pub(crate) fn finish(&self, session: Session<'_>) {
        if !session.is_ours() {
            return;
        }
        self.delegate.inspect(&session);
        if let Err(error) = session.finish() {
            telemetry::release_failed(self.write().labels(), &error);
        }
    }
}
