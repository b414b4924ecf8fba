//! A request that a waiter leaves in its slot of the queue file, and the reply.
//!
//! The holder of the lock may execute the request in a transaction of its own, and reply.
//! What the bytes mean is the business of the two sides; this module only hands them over.
//! Everything in a mailbox may be garbage.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | `Empty` | no request | its owner → `Offered` |
//! | `Offered` | may be claimed | a holder, in its transaction → `Claimed`; refused → `Local`; its owner withdraws it → `Withdrawn` or `Empty` |
//! | `Claimed` | is, or was, in a holder's transaction; the claim says in which | acknowledged after the commit → `Done`; refused → `Local`; another holder, which finds that the transaction was not committed, claims it again; its owner gives up → `Empty` |
//! | `Done` | committed, and the reply is there | its owner → `Empty` |
//! | `Local` | no holder will execute it: its owner has to | its owner → `Empty`; another thread of its process → `Withdrawn` |
//! | `Withdrawn` | its owner, or another thread of its process, withdrew it | its owner → `Empty` |
//!
//! If a mailbox is empty although its owner left a request there, that is garbage like any
//! other.
//!
//! The claim is written before the state says so. Both are written only by a process that
//! holds the write lock of the database itself, in a transaction, so of two claims one is
//! over before the other is made. Each state of each request has a number of its own, which
//! is made from the id of the request: a few flipped bits do not lead to another state.
//!
//! An older state of a mailbox that is written back looks like any other. What tells is not in
//! the file: see `queue_file/requests.rs`.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Length of a mailbox, in bytes.
pub(crate) const LENGTH: usize = 8192;
/// Words of the layout.
const STATE: usize = 0;
const ID: usize = 1;
const REQUEST_LENGTH: usize = 3;
const REQUEST_SUM: usize = 4;
const FINGERPRINT: usize = 5;
const CLAIM: usize = 6;
const CLAIM_SUM: usize = 10;
const REPLY_LENGTH: usize = 11;
const REPLY_SUM: usize = 12;
const SINCE: usize = 13;
const CHANGED: usize = 14;
const REQUEST: usize = 16;
const REPLY: usize = 512;
const END: usize = LENGTH / 8;

/// The longest request, in bytes.
pub const REQUEST_MAX: usize = (REPLY - REQUEST) * 8;
/// The longest reply, in bytes.
pub const REPLY_MAX: usize = (END - REPLY) * 8;

/// The id of one request: random, and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub(crate) [u64; 2]);

impl RequestId {
    /// Returns its 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }

    /// Makes an id of its 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let number = u128::from_le_bytes(bytes);
        #[expect(clippy::cast_possible_truncation, reason = "its two halves")]
        Self([number as u64, (number >> 64) as u64])
    }
}

/// In which transaction a request is, or was, executed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The sequence number of the batch; later batches have higher ones.
    pub sequence: u64,
    /// The id of the batch: random.
    pub batch: [u64; 2],
    /// The pid of the process that executes it, in its own pid namespace.
    pub pid: u32,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Outcome {
    /// No holder executed it, and none will.
    Untouched,
    /// It was executed and committed.
    Done {
        /// In which transaction.
        claim: Option<Claim>,
        /// The reply.
        reply: Vec<u8>,
    },
    /// A holder claimed it and has not acknowledged it.
    Claimed {
        /// In which transaction, if that can be read.
        claim: Option<Claim>,
        /// The reply, which is valid if that transaction was committed.
        reply: Option<Vec<u8>>,
    },
    /// Its mailbox was overwritten: it may have been executed or not.
    Lost,
}

/// A request in the mailbox of a waiter, as the holder of the lock reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RemoteRequest {
    pub(crate) slot: crate::turnstile::SlotIndex,
    /// Its id.
    pub id: RequestId,
    /// What it asks for.
    pub bytes: Vec<u8>,
    /// The newest batch that its owner knew of before it was offered: no batch up to this one
    /// executed it.
    pub since: u64,
    /// When the queue file was last changed before it was offered, in nanoseconds since 1970;
    /// zero if a later change might have the same time.
    pub(crate) changed: u64,
    /// The claim of an earlier holder, whose transaction is over by now: committed or
    /// not.
    pub claimed: Option<Claim>,
    /// The pid of the waiter, in its own pid namespace.
    pub pid: u32,
}

/// What stands in a mailbox that has a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MailboxContent {
    pub(crate) id: RequestId,
    pub(crate) bytes: Vec<u8>,
    pub(crate) since: u64,
    pub(crate) changed: u64,
    pub(crate) claimed: Option<Claim>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered = 1,
    Claimed = 2,
    Done = 3,
    Local = 4,
    Withdrawn = 5,
}

/// The words of one mailbox.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Mailbox<'a> {
    words: &'a [AtomicU64],
}

impl<'a> Mailbox<'a> {
    pub(crate) fn new(words: &'a [AtomicU64]) -> Self {
        assert_eq!(words.len(), END, "a whole mailbox");
        Self { words }
    }

    // ---- its owner ---------------------------------------------------------

    /// Empties the mailbox.
    pub(crate) fn clear(self) {
        self.words[STATE].store(0, SeqCst);
    }

    /// Writes a request of at most [`REQUEST_MAX`] bytes, which is there once it is
    /// [published](Self::publish).
    pub(crate) fn prepare(self, id: RequestId, fingerprint: u64, since: u64, request: &[u8]) {
        debug_assert!(request.len() <= REQUEST_MAX, "checked before");
        self.words[STATE].store(0, SeqCst);
        self.store(ID, id.0[0]);
        self.store(ID + 1, id.0[1]);
        self.store(FINGERPRINT, fingerprint);
        self.store(SINCE, since);
        self.store(REQUEST_LENGTH, request.len() as u64);
        self.write(REQUEST, request);
        self.store(REQUEST_SUM, request_sum(id, fingerprint, since, request));
        self.store(REPLY_LENGTH, u64::MAX);
        self.store(CLAIM_SUM, 0);
        // Another page of the file: from here on no store changes when the file was last
        // changed, as the first one to a page may.
        self.store(REPLY, 0);
    }

    /// Leaves the request that was prepared; `changed`: when the file was last changed before.
    pub(crate) fn publish(self, id: RequestId, changed: u64) {
        self.store(CHANGED, seal(id, changed));
        self.words[STATE].store(word(id, State::Offered), SeqCst);
    }

    /// Whether the holder found that the file has been changed since: see
    /// [`note_changed`](Self::note_changed).
    pub(crate) fn is_known_changed(self, id: RequestId) -> bool {
        seal(id, self.load(CHANGED)) == 0
    }

    /// Does both.
    #[cfg(any(test, fuzzing))]
    pub(crate) fn offer(self, id: RequestId, fingerprint: u64, request: &[u8]) {
        self.prepare(id, fingerprint, 0, request);
        self.publish(id, 0);
    }

    /// Whether waiting for a reply is over: there is one, or the request is gone.
    pub(crate) fn is_settled(self, id: RequestId) -> bool {
        let state = self.words[STATE].load(SeqCst);
        ![State::Offered, State::Claimed, State::Local]
            .iter()
            .any(|&one| state == word(id, one))
    }

    pub(crate) fn is_claimed(self, id: RequestId) -> bool {
        self.words[STATE].load(SeqCst) == word(id, State::Claimed)
    }

    /// Withdraws the request unless it is claimed; its owner sees that. Returns whether
    /// it is withdrawn now.
    pub(crate) fn withdraw(self, id: RequestId) -> bool {
        let withdrawn = word(id, State::Withdrawn);
        self.change(id, State::Offered, withdrawn)
            || self.change(id, State::Local, withdrawn)
            || self.words[STATE].load(SeqCst) == withdrawn
    }

    /// Ends the request, and returns what became of it.
    pub(crate) fn settle(self, id: RequestId) -> Outcome {
        loop {
            let state = self.words[STATE].load(SeqCst);
            let claim = self.claim_of(id);
            if claim.is_some_and(|claim| state == done(id, claim.batch)) {
                let reply = self.reply_to(id, claim);
                self.words[STATE].store(0, SeqCst);
                return reply.map_or(Outcome::Lost, |reply| Outcome::Done { claim, reply });
            }
            if state == word(id, State::Claimed) {
                let reply = self.reply_to(id, claim);
                if self.change(id, State::Claimed, 0) {
                    return Outcome::Claimed { claim, reply };
                }
            } else if state == word(id, State::Offered) {
                if self.change(id, State::Offered, 0) {
                    return Outcome::Untouched;
                }
            } else {
                self.words[STATE].store(0, SeqCst);
                let free = [State::Local, State::Withdrawn];
                return if free.iter().any(|&one| state == word(id, one)) {
                    Outcome::Untouched
                } else {
                    Outcome::Lost
                };
            }
        }
    }

    // ---- the holder of the lock --------------------------------------------

    /// Whether there may be a request.
    pub(crate) fn is_used(self) -> bool {
        self.words[STATE].load(SeqCst) != 0
    }

    /// Whether there may be a request with this fingerprint that no holder has claimed or refused.
    pub(crate) fn is_offered(self, fingerprint: u64) -> bool {
        let id = RequestId([self.load(ID), self.load(ID + 1)]);
        self.words[STATE].load(SeqCst) == word(id, State::Offered)
            && self.load(FINGERPRINT) == fingerprint
    }

    /// Returns the request if it is complete and has this fingerprint.
    pub(crate) fn read(self, fingerprint: u64) -> Option<MailboxContent> {
        let state = self.words[STATE].load(SeqCst);
        let id = RequestId([self.load(ID), self.load(ID + 1)]);
        let is_claimed = state == word(id, State::Claimed);
        if self.load(FINGERPRINT) != fingerprint
            || !(is_claimed || state == word(id, State::Offered))
        {
            return None;
        }
        let length = usize::try_from(self.load(REQUEST_LENGTH)).ok()?;
        let bytes = self.copy(REQUEST, length, REQUEST_MAX)?;
        let since = self.load(SINCE);
        if self.load(REQUEST_SUM) != request_sum(id, fingerprint, since, &bytes) {
            return None;
        }
        let claimed = match is_claimed.then(|| self.claim_of(id)) {
            // The claim cannot be read: the owner finds out what became of the request.
            Some(None) => return None,
            claim => claim.flatten(),
        };
        Some(MailboxContent {
            id,
            bytes,
            since,
            changed: seal(id, self.load(CHANGED)),
            claimed,
        })
    }

    /// Notes that the file has been changed since its owner looked, so that it looks again before
    /// its next request.
    pub(crate) fn note_changed(self, id: RequestId) {
        self.store(CHANGED, seal(id, 0));
    }

    /// Claims the request, also if an earlier holder claimed it. Returns whether it did.
    pub(crate) fn claim(self, id: RequestId, claim: Claim) -> bool {
        let facts = claim_words(claim);
        for (index, fact) in facts.into_iter().enumerate() {
            self.store(CLAIM + index, fact);
        }
        self.store(CLAIM_SUM, sum_of(id, CLAIM as u64, facts));
        self.store(REPLY_LENGTH, u64::MAX);
        let claimed = word(id, State::Claimed);
        self.words[STATE].load(SeqCst) == claimed || self.change(id, State::Offered, claimed)
    }

    /// Leaves the reply of this batch, which is valid once its transaction is committed.
    /// Returns `false` if it is longer than [`REPLY_MAX`] bytes.
    pub(crate) fn reply(self, id: RequestId, batch: [u64; 2], reply: &[u8]) -> bool {
        if reply.len() > REPLY_MAX {
            return false;
        }
        self.store(REPLY_LENGTH, reply.len() as u64);
        self.write(REPLY, reply);
        self.store(REPLY_SUM, reply_sum(id, batch, reply));
        true
    }

    /// Returns the claim on the request, if it is claimed.
    pub(crate) fn current_claim(self, id: RequestId) -> Option<Claim> {
        self.is_claimed(id).then(|| self.claim_of(id)).flatten()
    }

    /// Acknowledges the claim of this batch.
    pub(crate) fn acknowledge(self, id: RequestId, batch: [u64; 2]) -> bool {
        self.change(id, State::Claimed, done(id, batch))
    }

    /// Acknowledges a request that this earlier batch executed, whatever its state is. Its reply
    /// may be gone.
    pub(crate) fn acknowledge_found(self, id: RequestId, batch: [u64; 2]) -> bool {
        let done = done(id, batch);
        self.acknowledge(id, batch)
            || self.change(id, State::Offered, done)
            || self.words[STATE].load(SeqCst) == done
    }

    /// Empties a mailbox that has a request which no process waits for.
    pub(crate) fn discard(self, id: RequestId) {
        let _ = self.change(id, State::Claimed, 0) || self.change(id, State::Offered, 0);
    }

    /// Refuses the request: its owner has to execute it.
    pub(crate) fn refuse(self, id: RequestId) {
        let local = word(id, State::Local);
        let _ = self.change(id, State::Claimed, local) || self.change(id, State::Offered, local);
    }

    // ---- both --------------------------------------------------------------

    fn claim_of(self, id: RequestId) -> Option<Claim> {
        let facts = [0, 1, 2, 3].map(|place| self.load(CLAIM + place));
        (self.load(CLAIM_SUM) == sum_of(id, CLAIM as u64, facts)).then(|| Claim {
            sequence: facts[0],
            batch: [facts[1], facts[2]],
            pid: u32::try_from(facts[3]).unwrap_or(0),
        })
    }

    fn reply_to(self, id: RequestId, claim: Option<Claim>) -> Option<Vec<u8>> {
        let length = usize::try_from(self.load(REPLY_LENGTH)).ok()?;
        let reply = self.copy(REPLY, length, REPLY_MAX)?;
        (self.load(REPLY_SUM) == reply_sum(id, claim?.batch, &reply)).then_some(reply)
    }

    fn change(self, id: RequestId, from: State, to: u64) -> bool {
        self.words[STATE]
            .compare_exchange(word(id, from), to, SeqCst, SeqCst)
            .is_ok()
    }

    fn load(self, at: usize) -> u64 {
        self.words[at].load(Relaxed)
    }

    fn store(self, at: usize, value: u64) {
        self.words[at].store(value, Relaxed);
    }

    fn write(self, at: usize, bytes: &[u8]) {
        for (place, chunk) in bytes.chunks(8).enumerate() {
            self.store(at + place, u64::from_le_bytes(padded(chunk)));
        }
    }

    /// Copies bytes out once; the caller checks the copy.
    fn copy(self, at: usize, length: usize, longest: usize) -> Option<Vec<u8>> {
        if length > longest {
            return None;
        }
        let mut bytes = Vec::with_capacity(length.next_multiple_of(8));
        for place in 0..length.div_ceil(8) {
            bytes.extend_from_slice(&self.load(at + place).to_le_bytes());
        }
        bytes.truncate(length);
        Some(bytes)
    }
}

fn claim_words(claim: Claim) -> [u64; 4] {
    let [first, second] = claim.batch;
    [claim.sequence, first, second, claim.pid.into()]
}

fn padded(chunk: &[u8]) -> [u8; 8] {
    let mut word = [0; 8];
    word[..chunk.len()].copy_from_slice(chunk);
    word
}

/// Returns the number for a state of a request; never zero, which is `Empty`.
fn word(id: RequestId, state: State) -> u64 {
    sum_of(id, state as u64, []).max(1)
}

/// Returns the number for `Done`, which is bound to the batch: an older claim, with its reply, may
/// be written back at the moment of the acknowledgement.
fn done(id: RequestId, batch: [u64; 2]) -> u64 {
    sum_of(id, State::Done as u64, batch).max(1)
}

fn request_sum(id: RequestId, fingerprint: u64, since: u64, request: &[u8]) -> u64 {
    sum(id, fingerprint ^ mix(since), request)
}

/// Hides a number behind the id of a request, and uncovers it again: one of another request, or a
/// damaged one, is another number.
fn seal(id: RequestId, number: u64) -> u64 {
    number ^ mix(id.0[0] ^ id.0[1].rotate_left(32))
}

/// A reply belongs to one batch: another may have executed the request before, and have been
/// rolled back.
fn reply_sum(id: RequestId, [first, second]: [u64; 2], reply: &[u8]) -> u64 {
    sum(id, REPLY as u64 ^ mix(first ^ mix(second)), reply)
}

/// Returns a checksum that depends on the id of the request.
fn sum(id: RequestId, part: u64, bytes: &[u8]) -> u64 {
    let words = bytes
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(padded(chunk)));
    sum_of(id, part ^ mix(bytes.len() as u64), words)
}

fn sum_of(id: RequestId, part: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    let begin = mix(id.0[0] ^ mix(id.0[1] ^ mix(part)));
    words
        .into_iter()
        .fold(begin, |sum, word| mix(sum.rotate_left(23) ^ word))
}

/// Stafford's 13th variant of `MurmurHash3`'s finalizer, as in `SplitMix64`.
pub(crate) fn mix(mut word: u64) -> u64 {
    word = word.wrapping_add(0x9e37_79b9_7f4a_7c15);
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const ID: RequestId = RequestId([7, 9]);
    const FINGERPRINT: u64 = 5;

    fn claim(sequence: u64) -> Claim {
        Claim {
            sequence,
            batch: [sequence, 1],
            pid: 42,
        }
    }

    fn words() -> Vec<AtomicU64> {
        (0..END).map(|_| AtomicU64::new(0)).collect()
    }

    #[test]
    fn a_request_is_executed_once() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        assert!(mailbox.read(FINGERPRINT).is_none());
        mailbox.offer(ID, FINGERPRINT, b"do it");
        assert!(!mailbox.is_settled(ID));
        assert_eq!(mailbox.read(FINGERPRINT + 1), None);
        let content = MailboxContent {
            id: ID,
            bytes: b"do it".to_vec(),
            since: 0,
            changed: 0,
            claimed: None,
        };
        assert_eq!(mailbox.read(FINGERPRINT), Some(content));
        assert!(mailbox.claim(ID, claim(1)));
        assert!(!mailbox.withdraw(ID), "claimed");
        assert!(mailbox.reply(ID, claim(1).batch, b"done"));
        assert!(!mailbox.is_settled(ID), "not before it is acknowledged");
        assert!(mailbox.acknowledge(ID, claim(1).batch));
        assert!(mailbox.is_settled(ID));
        let done = Outcome::Done {
            claim: Some(claim(1)),
            reply: b"done".to_vec(),
        };
        assert_eq!(mailbox.settle(ID), done);
        assert_eq!(mailbox.settle(ID), Outcome::Lost, "it is gone");
        assert!(!mailbox.is_used());
    }

    #[test]
    fn a_withdrawn_request_cannot_be_claimed() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, b"");
        assert!(mailbox.withdraw(ID));
        assert!(!mailbox.claim(ID, claim(1)));
        assert_eq!(mailbox.settle(ID), Outcome::Untouched);
    }

    #[test]
    fn a_claim_without_acknowledgement_says_in_which_batch() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, b"x");
        assert!(mailbox.claim(ID, claim(1)));
        let seen = mailbox.read(FINGERPRINT).unwrap();
        assert_eq!(seen.claimed, Some(claim(1)));
        assert!(mailbox.claim(ID, claim(2)), "claimed again");
        assert!(mailbox.reply(ID, claim(2).batch, b"y"));
        let outcome = Outcome::Claimed {
            claim: Some(claim(2)),
            reply: Some(b"y".to_vec()),
        };
        assert_eq!(mailbox.settle(ID), outcome);
        assert!(!mailbox.acknowledge(ID, claim(1).batch), "given up");
    }

    #[test]
    fn an_old_claim_or_reply_does_not_apply_to_a_new_request() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, b"x");
        assert!(mailbox.claim(ID, claim(1)) && mailbox.reply(ID, claim(1).batch, b"y"));
        let _ = mailbox.settle(ID);
        let next = RequestId([8, 9]);
        mailbox.offer(next, FINGERPRINT, b"x");
        // The old holder continues, late.
        assert!(!mailbox.acknowledge(ID, claim(1).batch));
        assert!(mailbox.reply(ID, claim(1).batch, b"late"));
        mailbox.refuse(ID);
        assert_eq!(mailbox.read(FINGERPRINT).unwrap().id, next);
        assert!(mailbox.claim(next, claim(2)));
        assert_eq!(mailbox.reply_to(next, Some(claim(2))), None);
    }

    /// A batch that was rolled back left another reply.
    #[test]
    fn a_reply_of_another_batch_is_not_believed() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, b"x");
        assert!(mailbox.claim(ID, claim(1)) && mailbox.claim(ID, claim(2)));
        assert!(mailbox.reply(ID, claim(1).batch, b"y") && mailbox.acknowledge(ID, claim(2).batch));
        assert_eq!(mailbox.settle(ID), Outcome::Lost);
    }

    /// The claim and the reply of a batch that was rolled back are written back just before the
    /// acknowledgement.
    #[test]
    fn an_acknowledgement_of_another_batch_is_not_believed() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, b"x");
        assert!(mailbox.claim(ID, claim(1)) && mailbox.reply(ID, claim(1).batch, b"y"));
        assert!(mailbox.acknowledge(ID, claim(2).batch));
        assert!(mailbox.is_settled(ID));
        assert_eq!(mailbox.settle(ID), Outcome::Lost);
    }

    #[test]
    fn a_reply_that_is_too_long_is_refused() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, FINGERPRINT, &[1; REQUEST_MAX]);
        assert!(mailbox.claim(ID, claim(1)));
        assert!(!mailbox.reply(ID, claim(1).batch, &[0; REPLY_MAX + 1]));
        assert!(mailbox.reply(ID, claim(1).batch, &[2; REPLY_MAX]));
        assert_eq!(mailbox.read(FINGERPRINT).unwrap().bytes, [1; REQUEST_MAX]);
    }

    proptest! {
        /// For any flipped bits, a request is read as it was left or not at all,
        /// and never looks done.
        #[test]
        fn garbage_is_not_believed(
            flips in proptest::collection::vec((0..200_usize, any::<u64>()), 1..8),
            request in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let words = words();
            let mailbox = Mailbox::new(&words);
            mailbox.offer(ID, FINGERPRINT, &request);
            for (place, bits) in flips {
                words[place].fetch_xor(bits, SeqCst);
            }
            if let Some(read) = mailbox.read(FINGERPRINT) {
                prop_assert_eq!((read.id, read.bytes, read.claimed), (ID, request, None));
            }
            let is_done = matches!(mailbox.settle(ID), Outcome::Done { .. });
            prop_assert!(!is_done);
        }
    }
}
