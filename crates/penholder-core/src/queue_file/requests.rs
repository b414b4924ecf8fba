//! Remote requests: what waiters leave in the mailboxes of their slots, and what the
//! holder of the lock does with them.

use std::sync::Arc;

use super::layout;
use super::slot::Slot;
use super::waker;
use crate::mailbox::{self, Claim, Mailbox, RemoteRequest, RequestId};
use crate::sys::map::Mapping;
use crate::turnstile::{self, Memory, SlotIndex, Word};

impl Slot {
    pub(crate) fn own_mailbox(&self) -> Mailbox<'_> {
        self.mailbox(self.index())
    }

    fn mailbox(&self, slot: SlotIndex) -> Mailbox<'_> {
        mailbox_in(self.mapping(), slot)
    }

    // ---- the waiter ----------------------------------------------------------

    /// Leaves a request, if one may be left here and it fits.
    pub(crate) fn offer(&self, fingerprint: u64, request: &[u8]) -> Option<RequestId> {
        if !self.is_private() || request.len() > mailbox::REQUEST_MAX {
            return None;
        }
        let id = self.unique_id();
        let fingerprint = self.bind(fingerprint, self.index());
        self.own_mailbox().offer(id, fingerprint, request);
        Some(id)
    }

    /// Returns a handle that withdraws the request from another thread.
    pub(crate) fn withdrawal(&self, id: RequestId) -> Withdrawal {
        Withdrawal {
            mapping: Arc::clone(self.mapping()),
            slot: self.index(),
            id,
        }
    }

    /// Binds a fingerprint to one slot of one file: a request must not be taken from a
    /// copy of the file, or from another slot than the one that it was left in.
    fn bind(&self, fingerprint: u64, slot: SlotIndex) -> u64 {
        let [dev, ino, born] = self.file_identity();
        let place = [dev, ino, born, slot.number() as u64];
        let mix = |sum: u64, word| mailbox::mix(sum.rotate_left(23) ^ word);
        place.into_iter().fold(fingerprint, mix)
    }

    // ---- the holder of the lock ----------------------------------------------

    /// Returns how many waiters have left a request, approximately.
    pub(crate) fn count_requests(&self) -> usize {
        if !self.is_private() {
            return 0;
        }
        turnstile::waiters(self)
            .filter(|&slot| self.mailbox(slot).is_used())
            .count()
    }

    /// Returns the requests with this fingerprint in the order of the queue.
    pub(crate) fn requests(&self, fingerprint: u64) -> Vec<RemoteRequest> {
        if !self.is_private() {
            return Vec::new();
        }
        let mut slots: Vec<SlotIndex> = turnstile::waiters(self)
            .filter(|&slot| slot != self.index())
            .collect();
        slots.sort_by_key(|&slot| self.load(Word::Ticket(slot)));
        let read = |slot: SlotIndex| {
            let (id, bytes, claimed) = self.mailbox(slot).read(self.bind(fingerprint, slot))?;
            let pid = u32::try_from(self.pid(slot)).unwrap_or(0);
            Some(RemoteRequest {
                slot,
                id,
                bytes,
                claimed,
                pid,
            })
        };
        slots.into_iter().filter_map(read).collect()
    }

    pub(crate) fn claim_request(&self, request: &RemoteRequest, claim: Claim) -> bool {
        self.mailbox(request.slot).claim(request.id, claim)
    }

    /// Returns the claim on a request, if it is claimed, also if its owner has left the queue.
    pub(crate) fn current_claim(&self, request: &RemoteRequest) -> Option<Claim> {
        self.mailbox(request.slot).current_claim(request.id)
    }

    pub(crate) fn reply(&self, request: &RemoteRequest, reply: &[u8]) -> bool {
        self.mailbox(request.slot).reply(request.id, reply)
    }

    pub(crate) fn refuse(&self, request: &RemoteRequest) {
        self.mailbox(request.slot).refuse(request.id);
    }

    /// Tells the owners of committed requests, which do not wait for the lock any more.
    pub(crate) fn acknowledge(&self, requests: &[RemoteRequest]) {
        for request in requests {
            let slot = request.slot;
            // First, or it could be given the lock, which it does not want any more.
            self.clear_bits(Word::Queue(slot.group()), slot.bit());
            if self.mailbox(slot).acknowledge(request.id) {
                crate::failpoint!("acknowledged");
            }
        }
        for request in requests {
            self.wake(request.slot);
        }
        // Those before the first waiter are gone: it probes from now on.
        turnstile::wake_first(self);
    }
}

fn mailbox_in(mapping: &Mapping, slot: SlotIndex) -> Mailbox<'_> {
    let at = layout::mailbox(slot) / 8;
    Mailbox::new(&mapping.u64s()[at..at + mailbox::LENGTH / 8])
}

/// Withdraws a request from another thread than the one that waits with it.
#[derive(Debug)]
pub struct Withdrawal {
    mapping: Arc<Mapping>,
    slot: SlotIndex,
    id: RequestId,
}

impl Withdrawal {
    /// Withdraws the request and ends the wait for it, unless a holder has claimed it.
    /// Returns whether it is withdrawn now.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let is_withdrawn = mailbox_in(&self.mapping, self.slot).withdraw(self.id);
        if is_withdrawn {
            waker::wake(&self.mapping, self.slot);
        }
        is_withdrawn
    }
}
