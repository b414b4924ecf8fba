//! A request that a waiter leaves in its slot of the page, and the reply.
//!
//! Whoever holds the lock may do what the request says, in a transaction of its own,
//! and answer it. What the bytes mean is the users' affair; here is only how they
//! change hands. Everything that stands in a mailbox may be garbage.
//!
//! | state | meaning | leaves by |
//! | --- | --- | --- |
//! | `Empty` | no request | its owner → `Offered` |
//! | `Offered` | to be taken | a holder → `Claimed`, in its transaction; its owner takes it back → `Empty` |
//! | `Claimed` | in somebody's transaction, or was: the claim says in which | acknowledged after the commit → `Done`; refused → `Home`; another holder, who finds that the transaction came to nothing, claims it anew; its owner gives up → `Empty` |
//! | `Done` | committed, the reply stands | its owner → `Empty` |
//! | `Home` | nobody will take it | its owner → `Empty` |
//! | `Withdrawn` | another thread of its owner's process took it back | its owner → `Empty` |
//!
//! An empty mailbox where there should be something is garbage like any other.
//!
//! The claim is written before the state says so, and both only by whoever holds
//! the lock of the database itself, in a transaction: so of two claims one is over
//! before the other is made. Each state of each request is a number of its own,
//! made from the request's id: a few flipped bits lead to no other state.

use std::sync::atomic::AtomicU64;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

/// Length of a mailbox, in bytes.
pub(crate) const LENGTH: usize = 8192;
/// Words of the layout.
const STATE: usize = 0;
const ID: usize = 1;
const REQUEST_LENGTH: usize = 3;
const REQUEST_SUM: usize = 4;
const KIND: usize = 5;
const CLAIM: usize = 6;
const CLAIM_SUM: usize = 10;
const REPLY_LENGTH: usize = 11;
const REPLY_SUM: usize = 12;
const REQUEST: usize = 16;
const REPLY: usize = 512;
const END: usize = LENGTH / 8;

/// The longest request, in bytes.
pub(crate) const REQUEST_MAX: usize = (REPLY - REQUEST) * 8;
/// The longest reply, in bytes.
pub(crate) const REPLY_MAX: usize = (END - REPLY) * 8;

/// Names one request: random, and never used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct RequestId(pub(crate) [u64; 2]);

impl RequestId {
    /// Its 16 bytes.
    #[must_use]
    pub fn to_bytes(self) -> [u8; 16] {
        let mut bytes = [0; 16];
        bytes[..8].copy_from_slice(&self.0[0].to_le_bytes());
        bytes[8..].copy_from_slice(&self.0[1].to_le_bytes());
        bytes
    }
}

/// In which transaction a request was, or is, carried out.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Claim {
    /// The number of the batch; the next one has a higher number.
    pub sequence: u64,
    /// Names the batch: random.
    pub batch: [u64; 2],
    /// The pid of whoever carries it out, in its own pid namespace.
    pub pid: u32,
}

/// What became of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Fate {
    /// Nobody took it, and nobody will.
    Untouched,
    /// It was carried out and committed.
    Done {
        /// In which transaction.
        claim: Option<Claim>,
        /// The answer.
        reply: Vec<u8>,
    },
    /// Somebody took it, and has not acknowledged it.
    Claimed {
        /// In which transaction, if that can be read.
        claim: Option<Claim>,
        /// The answer, true if that transaction was committed.
        reply: Option<Vec<u8>>,
    },
    /// Its mailbox was overwritten: it may have been carried out or not.
    Lost,
}

/// A request in somebody's mailbox, as the holder of the lock reads it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) slot: crate::turnstile::Index,
    /// Names it.
    pub id: RequestId,
    /// What it asks for.
    pub bytes: Vec<u8>,
    /// Set if somebody claimed it before, whose transaction is over by now: it was
    /// committed or not.
    pub claimed: Option<Claim>,
    /// The pid of whoever asks, in its own pid namespace.
    pub pid: u32,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Offered = 1,
    Claimed = 2,
    Done = 3,
    Home = 4,
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

    /// Whatever stands here is nobody's.
    pub(crate) fn clear(self) {
        self.words[STATE].store(0, SeqCst);
    }

    /// Leaves a request, which is not too long.
    pub(crate) fn offer(self, id: RequestId, kind: u64, request: &[u8]) {
        debug_assert!(request.len() <= REQUEST_MAX, "checked before");
        self.words[STATE].store(0, SeqCst);
        self.store(ID, id.0[0]);
        self.store(ID + 1, id.0[1]);
        self.store(KIND, kind);
        self.store(REQUEST_LENGTH, request.len() as u64);
        self.write(REQUEST, request);
        self.store(REQUEST_SUM, sum(id, kind, request));
        self.store(REPLY_LENGTH, u64::MAX);
        self.store(CLAIM_SUM, 0);
        self.words[STATE].store(word(id, State::Offered), SeqCst);
    }

    /// Whether nothing more is to come of waiting for an answer: there is one, or
    /// the request is not there any more.
    pub(crate) fn is_settled(self, id: RequestId) -> bool {
        let state = self.words[STATE].load(SeqCst);
        ![State::Offered, State::Claimed, State::Home]
            .iter()
            .any(|&one| state == word(id, one))
    }

    pub(crate) fn is_claimed(self, id: RequestId) -> bool {
        self.words[STATE].load(SeqCst) == word(id, State::Claimed)
    }

    /// Takes the request back if nobody has claimed it, for its owner to see; says
    /// whether it is taken back now.
    pub(crate) fn withdraw(self, id: RequestId) -> bool {
        let withdrawn = word(id, State::Withdrawn);
        self.change(id, State::Offered, withdrawn)
            || self.change(id, State::Home, withdrawn)
            || self.words[STATE].load(SeqCst) == withdrawn
    }

    /// Takes back whatever there is.
    pub(crate) fn settle(self, id: RequestId) -> Fate {
        loop {
            let state = self.words[STATE].load(SeqCst);
            if state == word(id, State::Done) {
                let reply = self.reply_to(id);
                let claim = self.claim_of(id);
                self.words[STATE].store(0, SeqCst);
                return reply.map_or(Fate::Lost, |reply| Fate::Done { claim, reply });
            }
            if state == word(id, State::Claimed) {
                let (claim, reply) = (self.claim_of(id), self.reply_to(id));
                if self.change(id, State::Claimed, 0) {
                    return Fate::Claimed { claim, reply };
                }
            } else if state == word(id, State::Offered) {
                if self.change(id, State::Offered, 0) {
                    return Fate::Untouched;
                }
            } else {
                self.words[STATE].store(0, SeqCst);
                let free = [State::Home, State::Withdrawn];
                return if free.iter().any(|&one| state == word(id, one)) {
                    Fate::Untouched
                } else {
                    Fate::Lost
                };
            }
        }
    }

    // ---- the holder of the lock --------------------------------------------

    /// Whether there may be a request.
    pub(crate) fn is_used(self) -> bool {
        self.words[STATE].load(SeqCst) != 0
    }

    /// The request that stands here, if it is whole and of this kind.
    pub(crate) fn read(self, kind: u64) -> Option<(RequestId, Vec<u8>, Option<Claim>)> {
        let state = self.words[STATE].load(SeqCst);
        let id = RequestId([self.load(ID), self.load(ID + 1)]);
        let is_claimed = state == word(id, State::Claimed);
        if self.load(KIND) != kind || !(is_claimed || state == word(id, State::Offered)) {
            return None;
        }
        let length = usize::try_from(self.load(REQUEST_LENGTH)).ok()?;
        let request = self.copy(REQUEST, length, REQUEST_MAX)?;
        if self.load(REQUEST_SUM) != sum(id, kind, &request) {
            return None;
        }
        let claim = is_claimed.then(|| self.claim_of(id));
        match claim {
            // Whose, cannot be read: its owner finds out what became of it.
            Some(None) => None,
            claim => Some((id, request, claim.flatten())),
        }
    }

    /// Claims it, also from a claim before.
    pub(crate) fn claim(self, id: RequestId, claim: Claim) -> bool {
        let facts = claim_words(claim);
        for (place, fact) in facts.into_iter().enumerate() {
            self.store(CLAIM + place, fact);
        }
        self.store(CLAIM_SUM, sum_of(id, CLAIM as u64, facts));
        self.store(REPLY_LENGTH, u64::MAX);
        let claimed = word(id, State::Claimed);
        self.words[STATE].load(SeqCst) == claimed || self.change(id, State::Offered, claimed)
    }

    /// Leaves the answer, true once the transaction is committed; `false` if it is
    /// too long.
    pub(crate) fn reply(self, id: RequestId, reply: &[u8]) -> bool {
        if reply.len() > REPLY_MAX {
            return false;
        }
        self.store(REPLY_LENGTH, reply.len() as u64);
        self.write(REPLY, reply);
        self.store(REPLY_SUM, sum(id, REPLY as u64, reply));
        true
    }

    pub(crate) fn acknowledge(self, id: RequestId) -> bool {
        self.change(id, State::Claimed, word(id, State::Done))
    }

    /// Its owner has to do it by itself.
    pub(crate) fn refuse(self, id: RequestId) {
        let home = word(id, State::Home);
        let _ = self.change(id, State::Claimed, home) || self.change(id, State::Offered, home);
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

    fn reply_to(self, id: RequestId) -> Option<Vec<u8>> {
        let length = usize::try_from(self.load(REPLY_LENGTH)).ok()?;
        let reply = self.copy(REPLY, length, REPLY_MAX)?;
        (self.load(REPLY_SUM) == sum(id, REPLY as u64, &reply)).then_some(reply)
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

    /// A copy, made once and checked afterwards.
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

/// The number that stands for a state of a request; never zero, which is `Empty`.
fn word(id: RequestId, state: State) -> u64 {
    sum_of(id, state as u64, []).max(1)
}

/// A checksum of bytes that nobody has by chance who does not know the id.
fn sum(id: RequestId, kind: u64, bytes: &[u8]) -> u64 {
    let words = bytes
        .chunks(8)
        .map(|chunk| u64::from_le_bytes(padded(chunk)));
    sum_of(id, kind ^ mix(bytes.len() as u64), words)
}

fn sum_of(id: RequestId, kind: u64, words: impl IntoIterator<Item = u64>) -> u64 {
    let begin = mix(id.0[0] ^ mix(id.0[1] ^ mix(kind)));
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
    const KIND: u64 = 5;

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
    fn a_request_is_carried_out_once() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        assert!(mailbox.read(KIND).is_none());
        mailbox.offer(ID, KIND, b"do it");
        assert!(!mailbox.is_settled(ID));
        assert_eq!(mailbox.read(KIND + 1), None);
        assert_eq!(mailbox.read(KIND), Some((ID, b"do it".to_vec(), None)));
        assert!(mailbox.claim(ID, claim(1)));
        assert!(!mailbox.withdraw(ID), "claimed");
        assert!(mailbox.reply(ID, b"done"));
        assert!(!mailbox.is_settled(ID), "not before it is acknowledged");
        assert!(mailbox.acknowledge(ID));
        assert!(mailbox.is_settled(ID));
        let done = Fate::Done {
            claim: Some(claim(1)),
            reply: b"done".to_vec(),
        };
        assert_eq!(mailbox.settle(ID), done);
        assert_eq!(mailbox.settle(ID), Fate::Lost, "it is gone");
        assert!(!mailbox.is_used());
    }

    #[test]
    fn what_was_taken_back_cannot_be_claimed() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, KIND, b"");
        assert!(mailbox.withdraw(ID));
        assert!(!mailbox.claim(ID, claim(1)));
        assert_eq!(mailbox.settle(ID), Fate::Untouched);
    }

    #[test]
    fn a_claim_without_acknowledgement_says_in_which_batch() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, KIND, b"x");
        assert!(mailbox.claim(ID, claim(1)));
        let (_, _, seen) = mailbox.read(KIND).unwrap();
        assert_eq!(seen, Some(claim(1)));
        assert!(mailbox.claim(ID, claim(2)), "claimed anew");
        assert!(mailbox.reply(ID, b"y"));
        let fate = Fate::Claimed {
            claim: Some(claim(2)),
            reply: Some(b"y".to_vec()),
        };
        assert_eq!(mailbox.settle(ID), fate);
        assert!(!mailbox.acknowledge(ID), "given up");
    }

    #[test]
    fn an_old_claim_or_reply_is_not_a_new_requests() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, KIND, b"x");
        assert!(mailbox.claim(ID, claim(1)) && mailbox.reply(ID, b"y"));
        let _ = mailbox.settle(ID);
        let next = RequestId([8, 9]);
        mailbox.offer(next, KIND, b"x");
        // The old holder goes on, late.
        assert!(!mailbox.acknowledge(ID));
        assert!(mailbox.reply(ID, b"late"));
        mailbox.refuse(ID);
        assert_eq!(mailbox.read(KIND).unwrap().0, next);
        assert!(mailbox.claim(next, claim(2)));
        assert_eq!(mailbox.reply_to(next), None);
    }

    #[test]
    fn what_is_too_long_is_not_replied() {
        let words = words();
        let mailbox = Mailbox::new(&words);
        mailbox.offer(ID, KIND, &[1; REQUEST_MAX]);
        assert!(mailbox.claim(ID, claim(1)));
        assert!(!mailbox.reply(ID, &[0; REPLY_MAX + 1]));
        assert!(mailbox.reply(ID, &[2; REPLY_MAX]));
        assert_eq!(mailbox.read(KIND).unwrap().1, [1; REQUEST_MAX]);
    }

    proptest! {
        /// Whatever is flipped in it, a request is read as it was left or not at
        /// all, and never looks done.
        #[test]
        fn garbage_is_not_believed(
            flips in proptest::collection::vec((0..200_usize, any::<u64>()), 1..8),
            request in proptest::collection::vec(any::<u8>(), 0..300),
        ) {
            let words = words();
            let mailbox = Mailbox::new(&words);
            mailbox.offer(ID, KIND, &request);
            for (place, bits) in flips {
                words[place].fetch_xor(bits, SeqCst);
            }
            if let Some((id, read, claim)) = mailbox.read(KIND) {
                prop_assert_eq!((id, read, claim), (ID, request, None));
            }
            let is_done = matches!(mailbox.settle(ID), Fate::Done { .. });
            prop_assert!(!is_done);
        }
    }
}
