//! Where each word of the queue file stands.
//!
//! The layout is an ABI between processes: it is described in `docs/design.md`, "The queue
//! file". Offsets are in bytes and those of version 3.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::mailbox::{self, RequestId};
use crate::running_statement;
use crate::turnstile::{SLOTS, SlotIndex, Word};

/// `penhold\n`
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"penhold\n");
pub(super) const VERSION: u64 = 3;

pub(super) const AT_MAGIC: usize = 0;
pub(super) const AT_VERSION: usize = 8;
pub(super) const AT_SLOTS: usize = 16;
pub(super) const AT_LENGTH: usize = 24;
pub(super) const AT_BOOT: usize = 32;
pub(super) const AT_BUILT: usize = 40;
/// Length of the header.
pub(super) const HEADER_LEN: usize = AT_BUILT + 8;
pub(super) const AT_TURNSTILE: usize = 64;
const AT_LAST_TICKET: usize = 128;
/// A hint where to look for a free slot next.
pub(super) const AT_ROTOR: usize = 136;
/// A smoothed duration of a commit, in nanoseconds.
pub(super) const AT_COMMIT_TIME: usize = 144;
/// How many writes shared the last commit.
pub(super) const AT_BATCH_SIZE: usize = 152;
const AT_QUEUE: usize = 192;
pub(super) const AT_COUNTERS: usize = 256;
pub(super) const AT_WAITS: usize = 512;
pub(super) const AT_HOLDS: usize = AT_WAITS + BUCKETS * 8;
pub(super) const AT_BATCH_SIZES: usize = AT_HOLDS + BUCKETS * 8;
/// A process in the way that does not use the queue.
pub(super) const AT_OUTSIDER: usize = AT_BATCH_SIZES + BUCKETS * 8;
/// The command line within it.
pub(super) const OUTSIDER_CMD_AT: usize = AT_OUTSIDER + 64;
/// How often each event happened, and when first: two words each.
const AT_EVENT_COUNTS: usize = AT_OUTSIDER + 512;
const EVENT_COUNTS_LEN: usize = 16;
const AT_EVENTS: usize = 8192;
const AT_TICKETS: usize = AT_EVENTS + EVENTS * EVENT_LEN;
const AT_WAITING: usize = AT_TICKETS + SLOTS * 8;
const AT_OCCUPANTS: usize = AT_WAITING + SLOTS * WAITING_LEN;
const AT_STATEMENTS: usize = (AT_OCCUPANTS + SLOTS * OCCUPANT_LEN).next_multiple_of(4096);
const AT_EVENT_TEXTS: usize = AT_STATEMENTS + SLOTS * running_statement::LENGTH;
const AT_DATABASES: usize = AT_EVENT_TEXTS + EVENTS * EVENT_TEXTS_LEN;
pub(super) const AT_MAILBOXES: usize = AT_DATABASES + DATABASES * DATABASE_LEN;
/// Length of the queue file.
pub(super) const LENGTH: usize = AT_MAILBOXES + SLOTS * mailbox::LENGTH;

/// Words of a histogram.
pub(crate) const BUCKETS: usize = 256;
/// Events that are kept.
pub(super) const EVENTS: usize = 64;
const EVENT_LEN: usize = 128;
const EVENT_TEXTS_LEN: usize = 256;
/// The label within an event.
pub(super) const EVENT_LABEL_AT: usize = 48;
pub(super) const EVENT_LABEL_LEN: usize = EVENT_LEN - EVENT_LABEL_AT;
/// Each of the two texts of an event: its statement and its call site.
pub(super) const EVENT_TEXT_LEN: usize = EVENT_TEXTS_LEN / 2;

/// Databases that are known.
pub(super) const DATABASES: usize = 32;
const DATABASE_LEN: usize = 512;

/// Of a waiter: how often it was woken and whether it sleeps (32 bits each), since when
/// and until when it waits, when it was woken to take the lock; the first two of its keeper.
/// A cache line.
const WAITING_LEN: usize = 64;
/// Of an occupant: pid, start time, pid namespace, command line, label.
const OCCUPANT_LEN: usize = 256;
pub(super) const CMD_AT: usize = 32;
pub(super) const CMD_LEN: usize = 128;
pub(super) const LABEL_AT: usize = CMD_AT + CMD_LEN;
pub(super) const LABEL_LEN: usize = 64;

/// The byte of the file that the first slot locks.
pub(super) const LIVENESS_FIRST_BYTE: i64 = 1 << 62;

/// The byte that a process locks while it makes an entry of a database.
pub(super) const DATABASES_BYTE: i64 = 1 << 59;

/// The first of the bytes that stand for requests which are executed, one for each slot.
const EXECUTED_FIRST_BYTE: i64 = 1 << 60;
/// The first of the bytes that stand for offered requests.
const OFFERED_FIRST_BYTE: i64 = 1 << 61;
/// How many bits of a request's id are part of the byte that stands for it.
const OFFERED_BITS: u32 = 44;

/// Returns the path of the queue file: the path of the lock file with `q` appended.
pub(crate) fn path_of(lock_file: &Path) -> PathBuf {
    let mut name = OsString::from(lock_file);
    name.push("q");
    name.into()
}

/// Returns the offset of a word of the turnstile.
pub(super) fn word(word: Word) -> usize {
    match word {
        Word::Turnstile => AT_TURNSTILE,
        Word::LastTicket => AT_LAST_TICKET,
        Word::Queue(group) => AT_QUEUE + group % (SLOTS / 64) * 8,
        Word::Ticket(slot) => AT_TICKETS + slot.number() * 8,
        Word::Since(slot) => waiting(slot) + 8,
        Word::Until(slot) => waiting(slot) + 16,
        Word::WokenAt(slot) => waiting(slot) + 24,
    }
}

/// Returns the offset of what a waiter in this slot needs.
pub(super) fn waiting(slot: SlotIndex) -> usize {
    AT_WAITING + slot.number() * WAITING_LEN
}

/// Returns the offset of what the keeper of a slot's occupant is woken by.
pub(super) fn keeper(slot: SlotIndex) -> usize {
    waiting(slot) + 32
}

/// Returns the offset of the entry of a database.
pub(super) fn database(place: usize) -> usize {
    AT_DATABASES + place * DATABASE_LEN
}

/// Returns the offset of the description of the slot's occupant.
pub(super) fn occupant(slot: SlotIndex) -> usize {
    AT_OCCUPANTS + slot.number() * OCCUPANT_LEN
}

/// Returns the offset of the statement that the slot's occupant runs.
pub(super) fn statement(slot: SlotIndex) -> usize {
    AT_STATEMENTS + slot.number() * running_statement::LENGTH
}

/// Returns the offset of the slot's mailbox.
pub(super) fn mailbox(slot: SlotIndex) -> usize {
    AT_MAILBOXES + slot.number() * mailbox::LENGTH
}

/// Returns the offsets of the event that stands in this place: its facts, its texts.
pub(super) fn event(place: usize) -> (usize, usize) {
    (
        AT_EVENTS + place * EVENT_LEN,
        AT_EVENT_TEXTS + place * EVENT_TEXTS_LEN,
    )
}

/// Returns the offset of how often the event in this place happened; when it did so first is the
/// next word.
pub(super) fn event_count(place: usize) -> usize {
    AT_EVENT_COUNTS + place * EVENT_COUNTS_LEN
}

/// Returns the byte that the occupant of a slot locks, which proves that it lives.
pub(super) fn liveness_byte(slot: SlotIndex) -> i64 {
    LIVENESS_FIRST_BYTE + small(slot)
}

/// Returns the byte that a combiner locks while it may execute the request in this slot.
pub(super) fn executed_byte(slot: SlotIndex) -> i64 {
    EXECUTED_FIRST_BYTE + small(slot)
}

/// Returns the byte that the owner of a request locks while it offers it.
pub(super) fn offered_byte(slot: SlotIndex, id: RequestId) -> i64 {
    let [first, _] = id.0;
    let bits = i64::try_from(first >> (64 - OFFERED_BITS)).unwrap_or(0);
    OFFERED_FIRST_BYTE + (small(slot) << OFFERED_BITS) + bits
}

/// Returns the id with which `id` has the same byte as `other`.
pub(super) fn with_byte_of(id: RequestId, other: RequestId) -> RequestId {
    let [first, second] = id.0;
    let mask = u64::MAX >> OFFERED_BITS;
    RequestId([first & mask | other.0[0] & !mask, second])
}

fn small(slot: SlotIndex) -> i64 {
    i64::from(u16::try_from(slot.number()).unwrap_or(u16::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_words_fit_between_the_earlier_ones() {
        assert_eq!((AT_OUTSIDER, AT_EVENT_COUNTS), (6656, 7168));
        const { assert!(OUTSIDER_CMD_AT + CMD_LEN <= AT_EVENT_COUNTS) };
        assert!(event_count(EVENTS) <= AT_EVENTS);
    }
}
