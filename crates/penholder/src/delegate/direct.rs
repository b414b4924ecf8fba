//! The short way of a write of plain data that has to wait for another process, while no other
//! thread of its own writes: it is encoded as it is and offered, and makes no member of the group.
//! Unless it is *done*, it goes on as a member with all its rights.

use std::cell::Cell;
use std::mem;
use std::sync::Arc;

use penholder_core::{Deadline, Offer, Outcome, REQUEST_MAX, Waited};

use super::connection::looks_delegable;
use super::policy::should_offer_requests;
use super::requester::{EndedOffer, end_of_wait};
use super::state::DelegateContext;
use super::wire::{self, Encoder, Reply};
use crate::data::{Executed, Statement, Value};
use crate::group::{Begun, Member, Submission};
use crate::mutex::lock;
use crate::telemetry::WaitSpan;
use crate::write::CallSite;

/// Plain data that may be offered.
#[derive(Debug, Clone, Copy)]
pub(crate) enum PlainData<'a> {
    Statement(&'a str, &'a [Value]),
    Batch(&'a [Statement]),
}

/// A write that has to wait for the lock, or for another thread of its process.
pub(crate) struct WaitingWrite<'a> {
    pub(super) context: DelegateContext<'a>,
    pub(super) deadline: Deadline,
    pub(super) site: CallSite,
    /// If this thread leads.
    pub(super) begun: Option<Begun>,
    /// If the write was offered directly.
    pub(super) offer: Option<DirectOffer>,
}

impl WaitingWrite<'_> {
    /// Has plain data executed by another process, if this thread has only to wait for the lock.
    /// `None` if it was not done: it goes on waiting.
    pub(crate) fn have_executed(&mut self, data: PlainData<'_>) -> Option<Vec<Executed>> {
        let waits_for_lock = self
            .begun
            .as_ref()
            .is_some_and(|begun| begun.turn.is_none());
        if !waits_for_lock {
            return None;
        }
        self.offer = self.context.offer_alone(&self.deadline, data);
        let done = self.context.done(self.offer.as_ref()?)?;
        let waited = self.offer.take().map(|offer| offer.waited);
        match waited.map(|waited| waited.lock) {
            // It came at the same moment. Others may wait for it too.
            Some(Ok(Some(guard))) => self.context.serve_with(guard, self.deadline),
            _ => self.context.serve_others(self.deadline.start()),
        }
        Some(done)
    }

    /// Goes on as a member of the group.
    pub(crate) fn submit<T>(self, submit: impl FnOnce(Submission<'_>) -> T) -> T {
        let (context, offer) = (self.context, Cell::new(self.offer));
        let lead = |begun: Begun, member: &Arc<Member>| match offer.take() {
            Some(offer) => context.lead_after_offer(begun, offer, member),
            None => context.lead_until_finished(begun, member),
        };
        submit(Submission {
            context: context.group,
            begun: self.begun,
            deadline: self.deadline,
            site: self.site,
            lead: &lead,
        })
    }
}

/// What is known of a write that was offered directly, when the wait for the lock has ended.
pub(crate) struct DirectOffer {
    waited: Waited,
    since: u64,
}

impl DirectOffer {
    /// Goes on as if this member had offered its write.
    pub(super) fn of_member(
        self,
        context: &DelegateContext<'_>,
        member: &Arc<Member>,
    ) -> EndedOffer {
        let own = context.group().claim_own(member);
        EndedOffer::of(own, self.waited, self.since)
    }
}

impl PlainData<'_> {
    fn looks_delegable(self) -> bool {
        match self {
            Self::Statement(sql, _) => looks_delegable(sql),
            Self::Batch(all) => !all.is_empty() && all.iter().all(|one| looks_delegable(&one.sql)),
        }
    }

    /// How many bytes of SQL and values it has.
    fn bytes(self) -> usize {
        match self {
            Self::Statement(sql, values) => {
                sql.len() + values.iter().map(Value::bytes).sum::<usize>()
            }
            Self::Batch(all) => all.iter().map(Statement::bytes).sum(),
        }
    }

    fn encode(self, encoder: &mut Encoder) {
        match self {
            Self::Statement(sql, values) => encoder.remote_statement(sql, values),
            Self::Batch(all) => encoder.remote_write(true, all),
        }
    }
}

impl DelegateContext<'_> {
    /// `None` if it was not offered, and nothing was waited for.
    fn offer_alone(&self, deadline: &Deadline, data: PlainData<'_>) -> Option<DirectOffer> {
        let (write, commits) = (self.write(), self.group().commit_stats());
        // Other threads are about to write too: their writes share the request.
        let is_alone = commits.last_batch() <= 1;
        if !is_alone || !should_offer_requests(write, commits) {
            return None;
        }
        if data.bytes() > REQUEST_MAX || !data.looks_delegable() {
            return None;
        }
        let fingerprint = self.delegate.fingerprint(write, deadline)?.0;
        let since = self.delegate.newest_batch(write, deadline)?;
        let mut encoder = Encoder::reusing(mem::take(&mut lock(&self.delegate.buffer)));
        data.encode(&mut encoder);
        let bytes = encoder.into_bytes();
        let waited = (bytes.len() <= REQUEST_MAX).then(|| {
            let waiting = WaitSpan::begin(write.labels());
            let offer = Offer {
                fingerprint,
                since,
                bytes: &bytes,
                on_offered: None,
            };
            let locker = write.locker();
            let waited = locker.acquire_with_request(deadline, None, Some(&offer));
            end_of_wait(self, waiting, &waited);
            waited
        });
        *lock(&self.delegate.buffer) = bytes;
        let waited = waited?;
        Some(DirectOffer { waited, since })
    }

    /// Returns what the write did, if another process executed it.
    fn done(&self, offered: &DirectOffer) -> Option<Vec<Executed>> {
        let Outcome::Done { claim, reply } = &offered.waited.outcome else {
            return None;
        };
        let mut replies = wire::replies(reply)?;
        let (Some(Reply::Done(done)), true) = (replies.pop(), replies.is_empty()) else {
            return None;
        };
        if let Some(claim) = claim {
            self.delegate.note_sequence(claim.sequence);
        }
        self.group().commit_stats().note_batch(1);
        penholder_core::failpoint!("reply_received");
        Some(done)
    }
}
