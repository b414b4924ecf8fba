//! A request that a waiter offers in its slot while it waits for the lock.

use std::fmt;
use std::thread;
use std::time::Duration;

use crate::deadline::Deadline;
use crate::mailbox::{Outcome, RequestId};
use crate::queue_file::{Slot, Withdrawal};

/// How long a waiter whose request is claimed waits past its deadline for the outcome.
const CLAIMED_GRACE: Duration = Duration::from_millis(50);

/// A request to offer while waiting: see
/// [`Locker::acquire_with_request`](crate::Locker::acquire_with_request).
#[derive(Clone, Copy)]
pub struct Offer<'a> {
    /// What the request means depends on it: a holder takes only requests whose fingerprint
    /// is its own.
    pub fingerprint: u64,
    /// What is asked for.
    pub bytes: &'a [u8],
    /// Called once the request is offered, with a handle to withdraw it.
    pub on_offered: &'a (dyn Fn(RequestId, Withdrawal) + Sync),
}

impl fmt::Debug for Offer<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut debug = f.debug_struct("Offer");
        debug
            .field("fingerprint", &self.fingerprint)
            .field("bytes", &self.bytes);
        debug.finish_non_exhaustive()
    }
}

/// The request of one wait, and what becomes of it.
pub(crate) struct PendingRequest<'a> {
    offer: Option<&'a Offer<'a>>,
    /// Set while the request is in the mailbox.
    id: Option<RequestId>,
    outcome: Outcome,
}

impl<'a> PendingRequest<'a> {
    pub(crate) fn new(offer: Option<&'a Offer<'a>>) -> Self {
        Self {
            offer,
            id: None,
            outcome: Outcome::Untouched,
        }
    }

    /// Offers the request in the slot, unless it is there already.
    pub(crate) fn offer_in(&mut self, slot: &Slot) {
        let Some(offer) = self.offer else { return };
        if self.id.is_some() {
            return;
        }
        self.id = slot.offer(offer.fingerprint, offer.bytes);
        if let Some(id) = self.id {
            crate::failpoint!("offered");
            (offer.on_offered)(id, slot.withdrawal(id));
        }
    }

    /// Whether waiting for a reply is over.
    pub(crate) fn is_settled(&self, slot: &Slot) -> bool {
        self.id.is_some_and(|id| slot.own_mailbox().is_settled(id))
    }

    /// Waits up to `CLAIMED_GRACE` for the outcome if a holder has claimed the request.
    /// Returns whether waiting for a reply is over.
    pub(crate) fn wait_for_claimant(&self, slot: &Slot) -> bool {
        let Some(id) = self.id else { return false };
        let grace = Deadline::after(CLAIMED_GRACE);
        while slot.own_mailbox().is_claimed(id) && !grace.is_over() {
            thread::sleep(Duration::from_micros(500));
        }
        self.is_settled(slot)
    }

    /// Takes the request out of the mailbox, and notes what became of it.
    pub(crate) fn settle(&mut self, slot: &Slot) {
        if let Some(id) = self.id.take() {
            self.outcome = slot.own_mailbox().settle(id);
        }
    }

    pub(crate) fn outcome(&self) -> &Outcome {
        &self.outcome
    }

    pub(crate) fn into_outcome(self) -> Outcome {
        self.outcome
    }
}
