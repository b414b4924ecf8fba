//! The waiting side: offers writes as a request while it waits for the lock, and finds out what
//! became of it.

use std::mem;
use std::time::{Duration, Instant};

use penholder_core::fair_queue::Wakes;
use penholder_core::{Deadline, Guard, Offer, Outcome, REQUEST_MAX, RequestId, Waited};

use super::batch_table::{Executed, Search, TableError};
use super::connection::DelegateConnection;
use super::policy::should_offer_requests;
use super::state::DelegateContext;
use super::wire::{self, Encoder, Reply};
use crate::error::{Error, Result};
use crate::group::{ClaimedWrite, Group, PendingWrite, Work};
use crate::sqlite::fingerprint::Fingerprint;
use crate::telemetry::WaitSpan;
use crate::write::{Session, WriteTurn};

/// How long opening a connection may take to read what became of a request.
const READ_TIME: Duration = Duration::from_millis(50);

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
    /// Whether no other process may still be executing them.
    is_decided: bool,
    id: Option<RequestId>,
    /// The newest batch that was known before the writes were offered.
    since: u64,
}

/// Waits for the lock on behalf of the leader. Meanwhile the writes at the front of the queue
/// are offered to other processes as a request.
pub(super) fn wait_for_lock(context: &DelegateContext<'_>, leader: &PendingWrite) -> EndedOffer {
    let group = context.group();
    group
        .commit_stats()
        .wait_for_more_writes(context.write().limits().max_latency, |wanted| {
            group.len() >= wanted
        });
    offer_writes(context, leader)
}

/// Offers writes, if that is allowed and there are any, and waits for the lock.
fn offer_writes(context: &DelegateContext<'_>, leader: &PendingWrite) -> EndedOffer {
    let (write, group, delegate) = (context.write(), context.group(), context.delegate);
    let fingerprint = should_offer_requests(write, group.commit_stats())
        .then(|| delegate.fingerprint(write, &leader.deadline))
        .flatten();
    group.begin_offer();
    let mut offered = OfferedWrites::default();
    let since = fingerprint.and_then(|_| delegate.newest_batch(write, &leader.deadline));
    if since.is_some() {
        offered.fill(group, leader);
    }
    let since = since.unwrap_or(0);
    let waiting = WaitSpan::begin(write.labels());
    let waited = {
        let on_offered = |withdrawal| {
            penholder_core::failpoint!("offered");
            group.note_offered(withdrawal);
        };
        let offer = fingerprint.filter(|_| !offered.writes.is_empty());
        let offer = offer.map(|Fingerprint(fingerprint)| Offer {
            fingerprint,
            since,
            bytes: &offered.bytes,
            on_offered: Some(&on_offered),
        });
        let locker = write.locker();
        let canceller = Some(&leader.canceller);
        locker.acquire_with_request(&leader.deadline, canceller, offer.as_ref())
    };
    group.end_offer();
    end_of_wait(context, waiting, &waited);
    EndedOffer::new(offered, waited, since)
}

/// Notes what a wait has shown.
pub(super) fn end_of_wait(context: &DelegateContext<'_>, waiting: WaitSpan, waited: &Waited) {
    if let Ok(Some(guard)) = &waited.lock {
        waiting.ends(context.write().labels(), guard);
    }
    if !waited.commit_time.is_zero() {
        let commits = context.group().commit_stats();
        commits.note_duration(waited.commit_time);
    }
}

/// Tells the owners of offered writes their outcome, if it is known. Writes that no other
/// process executed go back into the queue.
pub(super) fn deliver_outcome(
    context: &DelegateContext<'_>,
    mut ended: EndedOffer,
) -> Result<Served> {
    let (group, delegate) = (context.group(), context.delegate);
    if let Outcome::Done { claim, reply } = &ended.outcome {
        if let Some(claim) = claim {
            delegate.note_sequence(claim.sequence);
        }
        group.commit_stats().note_batch(ended.offered.writes.len());
        penholder_core::failpoint!("reply_received");
        match ended.offered.replies(reply) {
            Some(replies) => ended.offered.deliver(context, replies),
            None => ended.outcome = Outcome::Lost,
        }
    }
    match ended.outcome {
        Outcome::Claimed { .. } | Outcome::Lost => match ended.read_outcome(context) {
            Some(found) => ended.offered.deliver_found(context, &ended.outcome, found),
            None => return Ok(Served::UnknownOutcome(ended)),
        },
        Outcome::Done { .. } => {}
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

    /// Decodes the replies to all writes.
    fn replies(&self, reply: &[u8]) -> Option<Vec<Reply>> {
        wire::replies(reply).filter(|replies| replies.len() == self.writes.len())
    }

    /// Tells each owner the outcome of its write; those that were not executed go back into
    /// the queue.
    fn deliver(&mut self, context: &DelegateContext<'_>, replies: Vec<Reply>) {
        let path = &context.write().location.path;
        let (mut local, mut wakes) = (Vec::new(), Wakes::default());
        for (one, reply) in mem::take(&mut self.writes).into_iter().zip(replies) {
            match reply {
                Reply::Done(all) => one.finish_with(&mut wakes, Ok(all)),
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
                    one.finish_with(&mut wakes, Err(error));
                }
                Reply::Local => {
                    one.make_local();
                    local.push(one);
                }
            }
        }
        drop(wakes);
        context.group().put_back(local);
    }

    /// Tells each owner what the table says of its write.
    fn deliver_found(
        mut self,
        context: &DelegateContext<'_>,
        outcome: &Outcome,
        found: Option<Executed>,
    ) {
        let Some(executed) = found else {
            return self.put_back(context.group());
        };
        if let Some(replies) = self.replies_of(outcome, &executed) {
            return self.deliver(context, replies);
        }
        let path = &context.write().location.path;
        let mut local = Vec::new();
        for (place, one) in self.writes.into_iter().enumerate() {
            if executed.is_done(place) {
                one.finish(Err(Error::result_lost(path)));
            } else {
                // It failed, or was not tried, and what it did was taken back.
                one.make_local();
                local.push(one);
            }
        }
        context.group().put_back(local);
    }

    /// Returns the replies, if they are those of the batch that executed the request.
    fn replies_of(&self, outcome: &Outcome, executed: &Executed) -> Option<Vec<Reply>> {
        let Outcome::Claimed {
            claim: Some(claim),
            reply: Some(reply),
        } = outcome
        else {
            return None;
        };
        let replies = self.replies(reply)?;
        let is_done = |reply: &Reply| matches!(reply, Reply::Done(_));
        let agrees = |(place, reply)| executed.is_done(place) == is_done(reply);
        let are_its = claim.batch == executed.batch && replies.iter().enumerate().all(agrees);
        are_its.then_some(replies)
    }

    fn fail_all(self, error: &dyn Fn() -> Error) {
        for one in self.writes {
            one.finish(Err(error()));
        }
    }
}

impl EndedOffer {
    /// Of one write that was offered by itself, or of none if its owner is gone.
    pub(super) fn of(one: Option<ClaimedWrite>, waited: Waited, since: u64) -> Self {
        let offered = OfferedWrites {
            writes: one.into_iter().collect(),
            bytes: Vec::new(),
        };
        Self::new(offered, waited, since)
    }

    fn new(offered: OfferedWrites, waited: Waited, since: u64) -> Self {
        Self {
            offered,
            lock: waited.lock.map_err(Error::from),
            outcome: waited.outcome,
            is_decided: waited.is_decided,
            id: waited.id,
            since,
        }
    }

    /// Returns what became of the request, without the lock; `None` if that cannot be told. Once
    /// the request is not offered any more, and the kernel says that no combiner may be executing
    /// it, its transaction is over, and can be read if it was committed.
    #[expect(
        clippy::option_option,
        reason = "cannot be told; not executed; executed"
    )]
    fn read_outcome(&self, context: &DelegateContext<'_>) -> Option<Option<Executed>> {
        // With the lock there is the stronger way.
        if !self.is_decided || matches!(self.lock, Ok(Some(_))) {
            return None;
        }
        let deadline = Deadline::after(READ_TIME);
        let connection = context
            .delegate
            .take_connection(context.write(), &deadline)
            .ok()?;
        let found = self.search(&connection, "BEGIN");
        penholder_core::failpoint!("looked_up");
        context.delegate.keep_connection(connection);
        // Or what was read is in a database that was replaced.
        let files = &context.write().resources.files;
        files.check("write", Instant::now()).ok()?;
        match found {
            Ok(Search::Executed(executed)) => Some(Some(executed)),
            Ok(Search::NotExecuted) => Some(None),
            Ok(Search::Unknown) | Err(_) => None,
        }
    }

    /// Looks the request up in the batch table, with the lock held, and tells its owners.
    /// Returns the session, if the lock could be taken.
    pub(super) fn resolve<'a>(
        mut self,
        context: &DelegateContext<'a>,
        deadline: Deadline,
    ) -> Option<Session<'a>> {
        let path = &context.write().location.path;
        let guard = match mem::replace(&mut self.lock, Ok(None)) {
            // The wait ended because the request was gone: now for the lock itself.
            Ok(None) => context
                .write()
                .locker()
                .acquire_until(&deadline)
                .map(Some)
                .map_err(Error::from),
            lock => lock,
        };
        let guard = match guard {
            Ok(Some(guard)) => guard,
            guard => {
                let cause = guard.err();
                self.offered
                    .fail_all(&|| Error::outcome_unknown(path, cause.as_ref()));
                return None;
            }
        };
        let session = match Session::begin(*context.write(), deadline, WriteTurn::new(guard)) {
            Ok(session) => session,
            Err(error) => {
                self.offered
                    .fail_all(&|| Error::outcome_unknown(path, Some(&error)));
                return None;
            }
        };
        let found = self.look_up(context, &session);
        let Self {
            offered, outcome, ..
        } = self;
        match found {
            Ok(Search::Executed(executed)) => {
                offered.deliver_found(context, &outcome, Some(executed));
            }
            Ok(Search::NotExecuted) => offered.deliver_found(context, &outcome, None),
            Ok(Search::Unknown) => offered.fail_all(&|| Error::outcome_unknown(path, None)),
            Err(error) => offered.fail_all(&|| Error::outcome_unknown(path, Some(&error))),
        }
        Some(session)
    }

    fn look_up(&self, context: &DelegateContext<'_>, session: &Session<'_>) -> Result<Search> {
        let delegate = context.delegate;
        let connection = delegate.take_connection(context.write(), session.deadline())?;
        session.share_busy_timeout(connection.connection())?;
        let found = self
            .search(&connection, "BEGIN IMMEDIATE")
            .map_err(|e| session.explain("look a batch up", e));
        penholder_core::failpoint!("looked_up");
        // Ends the transaction too.
        delegate.keep_connection(connection);
        found
    }

    fn search(&self, connection: &DelegateConnection, begin: &str) -> rusqlite::Result<Search> {
        let Some(id) = self.id else {
            return Ok(Search::Unknown);
        };
        connection.step(begin)?;
        let table = connection.batch_table();
        match table.find(connection.connection(), &[(id, self.since)]) {
            Ok(found) => Ok(found.into_iter().next().unwrap_or(Search::Unknown)),
            Err(TableError::Sqlite(error)) => Err(error),
            Err(_) => Ok(Search::Unknown),
        }
    }
}
