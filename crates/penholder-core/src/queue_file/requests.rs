//! Remote requests: what waiters leave in the mailboxes of their slots, and what the
//! holder of the lock does with them.
//!
//! The file only carries them: an older file may be written over it. What must not be forged by
//! older bytes is in the kernel:
//!
//! | who | what it locks | until | what that tells |
//! | --- | --- | --- | --- |
//! | owner | a byte whose offset contains its slot and bits of the request's id | it runs a request itself, or does not know its outcome; if a batch executed it, the next request has the same bits | without it, a request is one of an older file. With it, one of an older file was executed, and is in the batch table |
//! | combiner | the byte of the request's slot | its transaction is over | without it, what became of a request that is not offered any more is decided, and can be read in the batch table |
//!
//! A combiner locks its byte, claims the request, and only then asks for the owner's lock. An owner
//! takes its request out of the mailbox, gives up its lock, and only then looks when the file
//! was last changed by a `write`. So if a combiner executes a request because an older mailbox was
//! written back, its owner sees that the file was written.
//!
//! A request says when the file was last changed, as its owner last saw that. If the file has not
//! been changed since, the combiner need not ask for the lock: what it reads was not written back.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime};

use super::layout::{self, executed_byte, offered_byte, with_byte_of};
use super::mapped_file::Block;
use super::slot::{Offering, Slot};
use super::waker;
use crate::mailbox::{self, Claim, Mailbox, Outcome, RemoteRequest, RequestId};
use crate::sys::descriptor::Descriptor;
use crate::sys::file;
use crate::time::nanos;
use crate::turnstile::{self, Memory, SlotIndex, Word};

/// Two changes of a file this close to each other may have the same time, in nanoseconds: kernels
/// before Linux 6.13 count by ticks.
const TIME_GRAIN: i128 = 12_000_000;

/// A request in our mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct OfferedRequest {
    pub(crate) id: RequestId,
    /// The file that it is in.
    file: [u64; 3],
    /// When the queue file was last changed before, as we last saw that; `None` if a later change
    /// would not show.
    changed: Option<i128>,
}

/// A request that is not in our mailbox any more.
#[derive(Debug)]
pub(crate) struct SettledRequest {
    /// `None` if it was never offered.
    pub(crate) id: Option<RequestId>,
    pub(crate) outcome: Outcome,
    /// Whether no combiner may still be executing it.
    pub(crate) is_decided: bool,
}

/// Says that this process may execute the requests in some slots, until it is dropped.
#[derive(Debug)]
pub struct Combining {
    file: Arc<Descriptor>,
    first: SlotIndex,
    last: SlotIndex,
}

impl Combining {
    /// Says that the request in this slot is not executed, or that the transaction which did is
    /// over.
    fn leave(&self, slot: SlotIndex) {
        // If that fails, its owner is told less than it could be.
        let _ = file::unlock_byte(&self.file, executed_byte(slot));
    }
}

impl Drop for Combining {
    fn drop(&mut self) {
        // A forked child's copy is its parent's.
        if self.file.is_ours() {
            let first = executed_byte(self.first);
            let length = executed_byte(self.last) + 1 - first;
            let _ = file::unlock_bytes(&self.file, first, length);
        }
    }
}

impl Slot {
    pub(crate) fn own_mailbox(&self) -> Mailbox<'_> {
        mailbox_in(self.own_block(), self.index())
    }

    /// Returns the mailbox of a slot, if there is such a slot.
    fn mailbox(&self, slot: SlotIndex) -> Option<Mailbox<'_>> {
        let block = self.block(slot)?;
        Some(mailbox_in(block, slot))
    }

    // ---- the waiter ----------------------------------------------------------

    /// Leaves a request, if one may be left here and it fits. No batch up to `since` has
    /// executed it.
    pub(crate) fn offer(
        &self,
        fingerprint: u64,
        since: u64,
        request: &[u8],
    ) -> Option<OfferedRequest> {
        if !self.is_private() || request.len() > mailbox::REQUEST_MAX {
            return None;
        }
        self.make_writable();
        let mut offering = lock(&self.offering);
        let mut id = self.unique_id();
        if let Some(locked) = offering.locked {
            id = with_byte_of(id, locked);
        } else if !self.lock_byte_of(id) {
            return None;
        }
        offering.locked = Some(id);
        let fingerprint = self.bind(fingerprint, self.index());
        self.own_mailbox().prepare(id, fingerprint, since, request);
        // A change before that, since we looked, only makes us look the request up.
        let changed = offering.changed.or_else(|| settled(self.changed_at()));
        offering.changed = changed;
        let told = changed.and_then(|changed| u64::try_from(changed).ok());
        self.own_mailbox().publish(id, told.unwrap_or(0));
        let file = self.file_identity();
        Some(OfferedRequest { id, file, changed })
    }

    /// Takes our request out of the mailbox, and returns what became of it.
    pub(crate) fn settle(&self, request: OfferedRequest) -> SettledRequest {
        let OfferedRequest { id, file, changed } = request;
        if file != self.file_identity() {
            // We have left that file, and cannot see any more who uses it.
            return SettledRequest {
                id: Some(id),
                outcome: Outcome::Lost,
                is_decided: false,
            };
        }
        let outcome = self.own_mailbox().settle(id);
        let mut offering = lock(&self.offering);
        // What a batch has executed is in the batch table, should it ever be offered again.
        if matches!(outcome, Outcome::Done { .. }) {
            if self.own_mailbox().is_known_changed(id) {
                offering.changed = None;
            }
            return SettledRequest {
                id: Some(id),
                outcome,
                is_decided: true,
            };
        }
        offering.locked = None;
        let byte = offered_byte(self.index(), id);
        let is_unlocked = file::unlock_byte(self.liveness(), byte).is_ok();
        let now = self.changed_at();
        let was_written = !is_unlocked || changed.is_none() || now != changed;
        offering.changed = settled(now);
        let (outcome, is_decided) = match outcome {
            Outcome::Untouched if was_written => (Outcome::Lost, !self.may_be_executed()),
            outcome @ (Outcome::Claimed { .. } | Outcome::Lost) => {
                (outcome, !self.may_be_executed())
            }
            outcome => (outcome, true),
        };
        SettledRequest {
            id: Some(id),
            outcome,
            is_decided,
        }
    }

    /// Whether another process may be executing our request.
    fn may_be_executed(&self) -> bool {
        file::are_bytes_locked(self.liveness(), executed_byte(self.index()), 1).unwrap_or(true)
    }

    fn changed_at(&self) -> Option<i128> {
        file::changed_at(self.liveness()).ok()
    }

    fn lock_byte_of(&self, id: RequestId) -> bool {
        let byte = offered_byte(self.index(), id);
        file::try_lock_byte(self.liveness(), byte).unwrap_or(false)
    }

    /// Returns a handle that withdraws the request from another thread.
    pub(crate) fn withdrawal(&self, id: RequestId) -> Withdrawal {
        Withdrawal {
            block: self.own_block().clone(),
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
            .filter(|&slot| self.mailbox(slot).is_some_and(Mailbox::is_used))
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
            let content = self.mailbox(slot)?.read(self.bind(fingerprint, slot))?;
            Some(RemoteRequest {
                slot,
                id: content.id,
                bytes: content.bytes,
                since: content.since,
                changed: content.changed,
                claimed: content.claimed,
                pid: u32::try_from(self.pid(slot)).unwrap_or(0),
            })
        };
        slots.into_iter().filter_map(read).collect()
    }

    /// Returns whether all who wait have left a request with this fingerprint, which no holder has
    /// refused, and none has waited for longer than this.
    pub(crate) fn have_all_requests(&self, fingerprint: u64, longest: Duration) -> bool {
        let earliest = self.now().saturating_sub(nanos(longest));
        self.is_private()
            && turnstile::waiters(self).all(|slot| {
                self.load(Word::Since(slot)) >= earliest && self.has_offered(slot, fingerprint)
            })
    }

    /// Returns whether there is a request with this fingerprint in the slot, which no holder has
    /// claimed or refused.
    fn has_offered(&self, slot: SlotIndex, fingerprint: u64) -> bool {
        let fingerprint = self.bind(fingerprint, slot);
        self.mailbox(slot)
            .is_some_and(|mailbox| mailbox.is_offered(fingerprint))
    }

    /// Says that this process may execute these requests. Removes those that another process
    /// may be executing.
    pub(crate) fn begin_combining(&self, requests: &mut Vec<RemoteRequest>) -> Option<Combining> {
        let mut slots: Vec<SlotIndex> = requests.iter().map(|one| one.slot).collect();
        slots.sort_unstable_by_key(|slot| slot.number());
        let combining = Combining {
            file: Arc::clone(self.liveness()),
            first: *slots.first()?,
            last: *slots.last()?,
        };
        let lock = |slots: &[SlotIndex]| {
            let first = slots.first().map_or(0, |&slot| executed_byte(slot));
            let length = i64::try_from(slots.len()).unwrap_or(0);
            file::try_lock_bytes(&combining.file, first, length).unwrap_or(false)
        };
        // Neighbours at once.
        for neighbours in slots.chunk_by(|one, next| one.number() + 1 == next.number()) {
            if lock(neighbours) {
                continue;
            }
            for slot in neighbours {
                if !lock(&[*slot]) {
                    requests.retain(|one| one.slot != *slot);
                }
            }
        }
        Some(combining)
    }

    /// Claims requests whose owners wait for them, and returns which were claimed. Those of an
    /// older file are discarded.
    pub(crate) fn claim_requests(
        &self,
        requests: &[&RemoteRequest],
        claim: Claim,
        combining: &Combining,
    ) -> Vec<bool> {
        let mailboxes = requests.iter().map(|one| (self.mailbox(one.slot), one.id));
        let claimed: Vec<bool> = mailboxes
            .map(|(mailbox, id)| mailbox.is_some_and(|mailbox| mailbox.claim(id, claim)))
            .collect();
        // After the claims: an older mailbox that is written back later is not claimed.
        let changed = self.changed_at().and_then(|at| u64::try_from(at).ok());
        let is_unchanged =
            |request: &RemoteRequest| request.changed != 0 && Some(request.changed) == changed;
        let is_offered = |request: &RemoteRequest| {
            let byte = offered_byte(request.slot, request.id);
            file::are_bytes_locked(self.liveness(), byte, 1).unwrap_or(false)
        };
        let take = |(request, is_claimed): (&&RemoteRequest, bool)| {
            if is_claimed && is_unchanged(request) {
                return true;
            }
            if is_claimed && is_offered(request) {
                if let Some(mailbox) = self.mailbox(request.slot) {
                    mailbox.note_changed(request.id);
                }
                return true;
            }
            if let (true, Some(mailbox)) = (is_claimed, self.mailbox(request.slot)) {
                mailbox.discard(request.id);
            }
            combining.leave(request.slot);
            false
        };
        requests.iter().zip(claimed).map(take).collect()
    }

    /// Returns the claim on a request, if it is claimed, also if its owner has left the queue.
    pub(crate) fn current_claim(&self, request: &RemoteRequest) -> Option<Claim> {
        self.mailbox(request.slot)?.current_claim(request.id)
    }

    pub(crate) fn reply(&self, request: &RemoteRequest, batch: [u64; 2], reply: &[u8]) -> bool {
        let mailbox = self.mailbox(request.slot);
        mailbox.is_some_and(|mailbox| mailbox.reply(request.id, batch, reply))
    }

    pub(crate) fn refuse(&self, request: &RemoteRequest) {
        if let Some(mailbox) = self.mailbox(request.slot) {
            mailbox.refuse(request.id);
        }
    }

    /// Tells the owners of committed requests, which do not wait for the lock any more.
    /// The next waiter is woken too, unless it has left a request with this fingerprint.
    pub(crate) fn acknowledge(
        &self,
        requests: &[&RemoteRequest],
        batch: [u64; 2],
        fingerprint: u64,
    ) {
        for one in requests {
            self.end_wait(one, |mailbox| mailbox.acknowledge(one.id, batch));
        }
        self.wake_owners(requests.iter().copied(), fingerprint);
    }

    /// Tells the owners of requests that earlier batches committed, each with its batch.
    pub(crate) fn acknowledge_found(
        &self,
        requests: &[(RemoteRequest, [u64; 2])],
        combining: &Combining,
        fingerprint: u64,
    ) {
        for (one, batch) in requests {
            combining.leave(one.slot);
            self.end_wait(one, |mailbox| mailbox.acknowledge_found(one.id, *batch));
        }
        self.wake_owners(requests.iter().map(|(one, _)| one), fingerprint);
    }

    fn end_wait(&self, request: &RemoteRequest, acknowledge: impl Fn(Mailbox<'_>) -> bool) {
        let slot = request.slot;
        // First, or it could be given the lock, which it does not want any more.
        self.clear_bits(Word::Queue(slot.group()), slot.bit());
        if self.mailbox(slot).is_some_and(acknowledge) {
            crate::failpoint!("acknowledged");
        }
    }

    fn wake_owners<'a>(&self, requests: impl Iterator<Item = &'a RemoteRequest>, fingerprint: u64) {
        requests.for_each(|one| self.wake(one.slot));
        turnstile::wake_first_unless(self, |slot| self.has_offered(slot, fingerprint));
    }
}

fn mailbox_in(block: &Block, slot: SlotIndex) -> Mailbox<'_> {
    Mailbox::new(block.u64s(layout::mailbox(slot), mailbox::LENGTH))
}

/// Withdraws a request from another thread than the one that waits with it.
#[derive(Debug)]
pub struct Withdrawal {
    block: Block,
    slot: SlotIndex,
    id: RequestId,
}

impl Withdrawal {
    /// Withdraws the request and ends the wait for it, unless a holder has claimed it.
    /// Returns whether it is withdrawn now.
    #[must_use]
    pub fn withdraw(&self) -> bool {
        let is_withdrawn = mailbox_in(&self.block, self.slot).withdraw(self.id);
        if is_withdrawn {
            waker::wake(&self.block, self.slot);
        }
        is_withdrawn
    }
}

/// Returns a time of change, if a change from now on has another one.
fn settled(changed: Option<i128>) -> Option<i128> {
    let changed = changed?;
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    let now = i128::try_from(now.ok()?.as_nanos()).ok()?;
    (changed + TIME_GRAIN < now).then_some(changed)
}

/// Nothing panics with it: what it guards is whole.
fn lock(offering: &Mutex<Offering>) -> MutexGuard<'_, Offering> {
    offering.lock().unwrap_or_else(PoisonError::into_inner)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::queue_file::path_of;
    use crate::sys::process::Identity;
    use std::thread;

    const CLAIM: Claim = Claim {
        sequence: 1,
        batch: [1, 1],
        pid: 1,
    };

    /// Offers a request, has it executed, and returns whether its owner knew when the file was
    /// changed, before and after.
    fn have_executed(owner: &Slot, combiner: &Slot) -> [bool; 2] {
        let offered = owner.offer(7, 0, b"do it").unwrap();
        owner.set_bits(Word::Queue(owner.index().group()), owner.index().bit());
        let mut requests = combiner.requests(7);
        let combining = combiner.begin_combining(&mut requests).unwrap();
        let all: Vec<&RemoteRequest> = requests.iter().collect();
        assert_eq!(combiner.claim_requests(&all, CLAIM, &combining), [true]);
        assert!(combiner.reply(all[0], CLAIM.batch, b"done"));
        combiner.acknowledge(&all, CLAIM.batch, 7);
        let settled = owner.settle(offered);
        assert!(matches!(settled.outcome, Outcome::Done { .. }));
        let knew = offered.changed.is_some();
        [knew, lock(&owner.offering).changed.is_some()]
    }

    /// While it does not know, each of its requests costs the combiner a question to the kernel.
    #[test]
    fn an_owner_looks_again_after_a_change_that_a_combiner_has_seen() {
        if !file::STAMPS_WRITES {
            // It never knows.
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lock");
        let occupy = || Slot::occupy(&path, None, &Identity::of_this_process(), None).unwrap();
        let (owner, combiner) = (occupy(), occupy());
        let settle_down = || thread::sleep(Duration::from_millis(30));
        // The first stores to each page.
        have_executed(&owner, &combiner);
        settle_down();
        have_executed(&owner, &combiner);
        assert_eq!(have_executed(&owner, &combiner), [true, true]);
        settle_down();
        let queue_file = file::open_existing(&path_of(&path)).unwrap();
        let mut word = [0; 8];
        file::read_at(&queue_file, &mut word, 0).unwrap();
        file::write_at(&queue_file, &word, 0).unwrap();
        assert_eq!(have_executed(&owner, &combiner), [true, false]);
        settle_down();
        assert_eq!(have_executed(&owner, &combiner), [true, true]);
    }
}
