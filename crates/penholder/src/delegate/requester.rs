//! The waiting side: offers writes as a request while it waits for the lock, and finds out what
//! became of it.

use std::sync::Mutex;

use penholder_core::{Deadline, Guard, Offer, Outcome, REQUEST_MAX, RequestId};

use super::batch_table;
use super::policy::may_offer_requests;
use super::state::DelegateContext;
use super::wire::{self, Encoder, Reply};
use crate::error::{Error, Result};
use crate::group::{ClaimedWrite, Group, PendingWrite, Work};
use crate::mutex::lock;
use crate::sqlite::fingerprint::Fingerprint;
use crate::telemetry;
use crate::write::Session;

/// How a wait for the lock ended in which writes were offered.
pub(super) enum Served {
    /// The lock is ours; the writes that were offered are finished, or back in the queue.
    Locked(Guard),
    /// The wait ended without the lock; the writes that were offered are finished, or back in
    /// the queue.
    WithoutLock,
    /// A combiner claimed the request and did not acknowledge it, or its mailbox was
    /// overwritten: the outcome has to be looked up.
    UnknownOutcome(EndedOffer),
}

/// What is known of offered writes when the wait for the lock has ended.
pub(super) struct EndedOffer {
    offered: OfferedWrites,
    lock: Result<Option<Guard>>,
    outcome: Outcome,
    id: Option<RequestId>,
    /// The newest batch that was known before the writes were offered.
    since: u64,
}

/// Waits for the lock on behalf of the leader. Meanwhile the writes at the front of the queue
/// are offered to other processes as a request.
pub(super) fn wait_for_lock(
    context: &DelegateContext<'_>,
    leader: &PendingWrite,
) -> Result<Served> {
    let group = context.group();
    group
        .commit_stats()
        .wait_for_more_writes(context.write().limits().max_latency, || group.len());
    let ended = offer_writes(context, leader);
    deliver_outcome(context, ended)
}

/// Offers writes, if that is allowed and there are any, and waits for the lock.
fn offer_writes(context: &DelegateContext<'_>, leader: &PendingWrite) -> EndedOffer {
    let (write, group, delegate) = (context.write(), context.group(), context.delegate);
    let fingerprint = may_offer_requests(write)
        .then(|| delegate.fingerprint(write, &leader.deadline))
        .flatten();
    group.begin_offer();
    let mut offered = OfferedWrites::default();
    if fingerprint.is_some() {
        offered.fill(group, leader);
    }
    let since = delegate.newest_batch();
    let id = Mutex::new(None);
    let waiting = telemetry::WaitSpan::begin(write.labels());
    let waited = {
        let on_offered = |request, withdrawal| {
            *lock(&id) = Some(request);
            penholder_core::failpoint!("offered");
            group.note_offered(withdrawal);
        };
        let offer = fingerprint.filter(|_| !offered.writes.is_empty());
        let offer = offer.map(|Fingerprint(fingerprint)| Offer {
            fingerprint,
            bytes: &offered.bytes,
            on_offered: &on_offered,
        });
        let locker = write.locker();
        locker.acquire_with_request(&leader.deadline, &leader.canceller, offer.as_ref())
    };
    group.end_offer();
    if let Ok(Some(guard)) = &waited.lock {
        waiting.ends(write.labels(), guard);
    }
    if !waited.commit_time.is_zero() {
        group.commit_stats().note_duration(waited.commit_time);
    }
    EndedOffer {
        offered,
        lock: waited.lock.map_err(Error::from),
        outcome: waited.outcome,
        id: *lock(&id),
        since,
    }
}

/// Tells the owners of offered writes their outcome, if it is known. Writes that no other
/// process executed go back into the queue.
fn deliver_outcome(context: &DelegateContext<'_>, ended: EndedOffer) -> Result<Served> {
    let (group, delegate) = (context.group(), context.delegate);
    match ended.outcome {
        Outcome::Done { claim, reply } => {
            if let Some(claim) = claim {
                delegate.note_batch(claim.sequence);
            }
            group.commit_stats().note_batch(ended.offered.writes.len());
            penholder_core::failpoint!("reply_received");
            ended.offered.deliver(context, &reply);
        }
        Outcome::Claimed { .. } | Outcome::Lost => return Ok(Served::UnknownOutcome(ended)),
        _ => ended.offered.put_back(group),
    }
    Ok(match ended.lock? {
        Some(guard) => Served::Locked(guard),
        None => Served::WithoutLock,
    })
}

/// Writes that are offered to other processes as one request.
#[derive(Default)]
struct OfferedWrites {
    writes: Vec<ClaimedWrite>,
    bytes: Vec<u8>,
}

impl OfferedWrites {
    /// Claims those writes from the front of the queue that may be delegated, as many as fit.
    fn fill(&mut self, group: &Group, leader: &PendingWrite) {
        let mut encoder = Encoder::default();
        loop {
            let length = encoder.len();
            let claimed = group.claim_to_offer(leader, |work| {
                if !work.looks_delegable() {
                    return false;
                }
                let is_batch = matches!(work, Work::Batch(_));
                encoder.remote_write(is_batch, work.statements());
                encoder.len() <= REQUEST_MAX
            });
            let Some(claimed) = claimed else {
                encoder.truncate(length);
                break;
            };
            self.writes.push(claimed);
        }
        self.bytes = encoder.into_bytes();
    }

    fn put_back(self, group: &Group) {
        group.put_back(self.writes);
    }

    /// Tells each owner the outcome of its write; those that were not executed go back into
    /// the queue.
    fn deliver(self, context: &DelegateContext<'_>, reply: &[u8]) {
        let replies = wire::replies(reply).unwrap_or_default();
        let path = &context.write().location.path;
        if replies.len() != self.writes.len() {
            self.fail_all(&|| Error::result_lost(path));
            return;
        }
        let mut local = Vec::new();
        for (one, reply) in self.writes.into_iter().zip(replies) {
            match reply {
                Reply::Done(all) => one.finish(Ok(all)),
                Reply::Failed {
                    statement,
                    code,
                    text,
                } => {
                    let error = Error::sqlite("write", path, Reply::failed(code, text));
                    let options = context.write().options;
                    let error = one
                        .work
                        .say_which_failed(error, statement as usize, options);
                    one.finish(Err(error));
                }
                Reply::Local => {
                    one.make_local();
                    local.push(one);
                }
            }
        }
        context.group().put_back(local);
    }

    fn fail_all(self, error: &dyn Fn() -> Error) {
        for one in self.writes {
            one.finish(Err(error()));
        }
    }
}

impl EndedOffer {
    /// Looks the request up in the batch table, with the lock held, and tells its owners.
    /// Returns the session, if the lock could be taken.
    pub(super) fn resolve<'a>(
        self,
        context: &DelegateContext<'a>,
        deadline: Deadline,
    ) -> Option<Session<'a>> {
        let path = &context.write().location.path;
        let Self {
            offered,
            lock,
            outcome,
            id,
            since,
        } = self;
        let guard = match lock {
            // The wait ended because the request was gone: now for the lock itself.
            Ok(None) => context
                .write()
                .locker()
                .acquire_until(&deadline)
                .map(Some)
                .map_err(Error::from),
            lock => lock,
        };
        let (guard, id) = match (guard, id) {
            (Ok(Some(guard)), Some(id)) => (guard, id),
            (guard, _) => {
                let cause = guard.err();
                offered.fail_all(&|| Error::outcome_unknown(path, cause.as_ref()));
                return None;
            }
        };
        let session = match Session::begin(*context.write(), deadline, guard) {
            Ok(session) => session,
            Err(error) => {
                offered.fail_all(&|| Error::outcome_unknown(path, Some(&error)));
                return None;
            }
        };
        match look_up(context, &session, &outcome, id, since) {
            Ok(Some(true)) => match outcome {
                Outcome::Claimed {
                    reply: Some(reply), ..
                } => offered.deliver(context, &reply),
                _ => offered.fail_all(&|| Error::result_lost(path)),
            },
            Ok(Some(false)) => offered.put_back(context.group()),
            Ok(None) => offered.fail_all(&|| Error::outcome_unknown(path, None)),
            Err(error) => offered.fail_all(&|| Error::outcome_unknown(path, Some(&error))),
        }
        Some(session)
    }
}

/// Returns whether a request was executed and committed; `None` if that cannot be told any more.
fn look_up(
    context: &DelegateContext<'_>,
    session: &Session<'_>,
    outcome: &Outcome,
    id: RequestId,
    since: u64,
) -> Result<Option<bool>> {
    let delegate = context.delegate;
    let failed = |e| session.explain("look a batch up", e);
    let connection = delegate.take_connection(context.write(), session.deadline())?;
    session.share_busy_timeout(connection.connection())?;
    let found = connection
        .step("BEGIN IMMEDIATE")
        .and_then(|()| match outcome {
            Outcome::Claimed {
                claim: Some(claim), ..
            } => batch_table::has_executed_since(connection.connection(), claim.sequence, id),
            _ => batch_table::find_executed(connection.connection(), since, id),
        })
        .map_err(failed);
    penholder_core::failpoint!("looked_up");
    // Ends the transaction too.
    delegate.keep_connection(connection);
    found
}
