//! A request that a waiter offers in its slot while it waits for the lock.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::mailbox::{Outcome, RequestId};
use crate::queue_file::{OfferedRequest, SettledRequest, Slot, Withdrawal};

/// How long a waiter whose request is claimed waits past its deadline for the outcome.
const CLAIMED_GRACE: Duration = Duration::from_millis(50);

/// A request to offer while waiting: see
/// [`Locker::acquire_with_request`](crate::Locker::acquire_with_request).
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// What the request means depends on it: a holder takes only requests whose fingerprint
    /// is its own.
    pub fingerprint: u64,
    /// The newest batch that is known to its owner, or an earlier one: see
    /// [`RemoteRequest::since`](crate::RemoteRequest::since).
    pub since: u64,
    /// What is asked for.
    pub bytes: &'a [u8],
    /// Called once the request is offered, with a handle to withdraw it from another thread.
    pub on_offered: Option<OnOffered<'a>>,
}

/// What is called once a request is offered.
pub type OnOffered<'a> = &'a (dyn Fn(Withdrawal) + Sync);

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Offer");
        debug
            .field("fingerprint", &self.fingerprint)
            .field("since", &self.since)
            .field("bytes", &self.bytes);
        debug.finish_non_exhaustive()
    }
}

/// The request of one wait, and what becomes of it.
pub(crate) struct PendingRequest<'a> {
    offer: Option<&'a Offer<'a>>,
    /// Set while the request is in the mailbox.
    offered: Option<OfferedRequest>,
    settled: SettledRequest,
}

impl<'a> PendingRequest<'a> {
    pub(crate) fn new(offer: Option<&'a Offer<'a>>) -> Self {
        Self {
            offer,
            offered: None,
            settled: SettledRequest {
                id: None,
                outcome: Outcome::Untouched,
                is_decided: true,
            },
        }
    }

    /// Offers the request in the slot, unless it is there already.
    pub(crate) fn offer_in(&mut self, slot: &Slot) {
        let Some(offer) = self.offer else { return };
        if self.offered.is_some() {
            return;
        }
        self.offered = slot.offer(offer.fingerprint, offer.since, offer.bytes);
        if let Some(id) = self.id() {
            self.settled.id = Some(id);
            crate::failpoint!("offered");
            if let Some(on_offered) = offer.on_offered {
                on_offered(slot.withdrawal(id));
            }
        }
    }

    /// Whether the request is in the mailbox.
    pub(crate) fn is_offered(&self) -> bool {
        self.offered.is_some()
    }

    fn id(&self) -> Option<RequestId> {
        self.offered.map(|offered| offered.id)
    }

    /// Whether waiting for a reply is over.
    pub(crate) fn is_settled(&self, slot: &Slot) -> bool {
        self.id()
            .is_some_and(|id| slot.own_mailbox().is_settled(id))
    }

    /// Withdraws the request, because the deadline has passed. If a holder has claimed it,
    /// waits up to `CLAIMED_GRACE` for the outcome. Returns whether there is a reply.
    pub(crate) fn end_at_deadline(&self, slot: &Slot) -> bool {
        let Some(id) = self.id() else { return false };
        let mailbox = slot.own_mailbox();
        if mailbox.is_settled(id) {
            return true;
        }
        // Or a holder could still claim it, and its owner would not learn the outcome.
        if mailbox.withdraw(id) {
            return false;
        }
        let grace = Deadline::after(CLAIMED_GRACE);
        while mailbox.is_claimed(id) && !grace.is_over() {
            thread::sleep(Duration::from_micros(500));
        }
        mailbox.is_settled(id)
    }

    /// Takes the request out of the mailbox, and notes what became of it.
    pub(crate) fn settle(&mut self, slot: &Slot) {
        if let Some(offered) = self.offered.take() {
            self.settled = slot.settle(offered);
        }
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        &self.settled.outcome
    }

    pub(crate) fn into_settled(self) -> SettledRequest {
        self.settled
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mailbox::{Claim, RemoteRequest};
    use crate::sys::process::Identity;

    /// Offers a request in a slot of a new queue file, and calls `then` with both.
    fn offer(then: impl FnOnce(&Slot, PendingRequest<'_>, RequestId)) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lock");
        let slot = Slot::occupy(&path, None, &Identity::of_this_process(), None).unwrap();
        let offer = Offer {
            fingerprint: 1,
            since: 0,
            bytes: b"do it",
            on_offered: None,
        };
        let mut pending = PendingRequest::new(Some(&offer));
        pending.offer_in(&slot);
        let id = pending.id().unwrap();
        then(&slot, pending, id);
    }

    fn claim(slot: &Slot, id: RequestId) -> bool {
        let (sequence, batch, pid) = (1, [1, 1], 1);
        slot.own_mailbox().claim(
            id,
            Claim {
                sequence,
                batch,
                pid,
            },
        )
    }

    #[test]
    fn a_request_cannot_be_claimed_after_its_deadline() {
        offer(|slot, mut pending, id| {
            assert!(!pending.end_at_deadline(slot));
            assert!(!claim(slot, id));
            pending.settle(slot);
            // The file is new: a write to it since would not show.
            assert_eq!(*pending.outcome(), Outcome::Lost);
            assert!(pending.into_settled().is_decided);
        });
    }

    #[test]
    fn a_claimed_request_is_not_withdrawn_at_its_deadline() {
        offer(|slot, mut pending, id| {
            assert!(claim(slot, id));
            assert!(!pending.end_at_deadline(slot), "no reply in time");
            assert!(slot.own_mailbox().reply(id, [1, 1], b"done"));
            assert!(slot.own_mailbox().acknowledge(id, [1, 1]));
            assert!(pending.end_at_deadline(slot));
            pending.settle(slot);
            assert!(matches!(pending.outcome(), Outcome::Done { .. }));
        });
    }

    /// A combiner that begins its transaction again still has to execute it, or refuse it.
    #[test]
    fn a_claim_is_seen_although_its_owner_is_not_in_the_queue() {
        offer(|slot, _, id| {
            let request = RemoteRequest {
                slot: slot.index(),
                id,
                bytes: b"do it".to_vec(),
                since: 0,
                changed: 0,
                claimed: None,
                pid: 1,
            };
            assert_eq!(slot.current_claim(&request), None);
            assert!(claim(slot, id));
            assert!(slot.requests(1).is_empty());
            let sequence = slot.current_claim(&request).map(|claim| claim.sequence);
            assert_eq!(sequence, Some(1));
            slot.refuse(&request);
            assert_eq!(slot.current_claim(&request), None);
        });
    }
}
