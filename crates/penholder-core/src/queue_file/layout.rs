//! Where each word of the queue file stands.
//!
//! The layout is an ABI between processes: it is described in `docs/design.md`, "The queue
//! file". Offsets are in bytes and those of version 3.
//!
//! The file is a head and up to [`BLOCKS`] blocks, each with [`BLOCK_SLOTS`] slots. It grows by
//! blocks and never shrinks.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use crate::failpoint;
use crate::mailbox::{self, RequestId};
use crate::turnstile::{SLOTS, SlotIndex, Word};

/// `penhold\n`
pub(super) const MAGIC: u64 = u64::from_ne_bytes(*b"penhold\n");
const VERSION: u64 = 3;

// ---- the head ------------------------------------------------------------------

pub(super) const AT_MAGIC: usize = 0;
pub(super) const AT_VERSION: usize = 8;
/// How many slots there are.
pub(super) const AT_SLOTS: usize = 16;
/// The length of the file. Other versions look at it, and nobody else.
pub(super) const AT_LENGTH: usize = 24;
pub(super) const AT_BOOT: usize = 32;
pub(super) const AT_BUILT: usize = 40;
/// Random, not zero: where a wake-up needs a name, names are made from it.
pub(super) const AT_ID: usize = 48;
/// Length of the header.
pub(super) const HEADER_LEN: usize = AT_ID + 8;
pub(super) const AT_TURNSTILE: usize = 64;
/// When files were last examined, and which: [`EXAMINED`] places of two words each.
pub(super) const AT_EXAMINED: usize = 80;
const AT_LAST_TICKET: usize = 128;
/// A hint where to look for a free slot next.
pub(super) const AT_ROTOR: usize = 136;
/// A smoothed duration of a commit, in nanoseconds.
pub(super) const AT_COMMIT_TIME: usize = 144;
/// How many writes shared the last commit.
pub(super) const AT_BATCH_SIZE: usize = 152;
const AT_QUEUE: usize = 192;
pub(super) const AT_COUNTERS: usize = 256;
/// A bit for each slot that has an occupant, or had one that died: a hint.
const AT_OCCUPIED: usize = 448;
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
const AT_EVENT_TEXTS: usize = AT_EVENTS + EVENTS * EVENT_LEN;
const AT_DATABASES: usize = AT_EVENT_TEXTS + EVENTS * EVENT_TEXTS_LEN;
/// Length of the head.
pub(super) const HEAD_LEN: usize = AT_DATABASES + DATABASES * DATABASE_LEN;

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
/// Places for what was examined.
pub(super) const EXAMINED: usize = 3;
/// Length of such a place.
pub(super) const EXAMINED_LEN: usize = 16;
/// Databases that are known.
pub(super) const DATABASES: usize = 32;
const DATABASE_LEN: usize = 512;

/// Returns the offset of a word in the head that the turnstile uses; `None` for a word of a slot.
pub(super) fn head_word(word: Word) -> Option<usize> {
    match word {
        Word::Turnstile => Some(AT_TURNSTILE),
        Word::LastTicket => Some(AT_LAST_TICKET),
        Word::Queue(group) => Some(AT_QUEUE + group % (SLOTS / 64) * 8),
        Word::Ticket(_) | Word::Since(_) | Word::Until(_) | Word::WokenAt(_) => None,
    }
}

/// Returns the offset of the word with the bit of this slot that says whether it has an occupant.
pub(super) fn occupied(slot: SlotIndex) -> usize {
    AT_OCCUPIED + slot.group() * 8
}

/// Returns the offset of the entry of a database.
pub(super) fn database(place: usize) -> usize {
    AT_DATABASES + place * DATABASE_LEN
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

// ---- the blocks ----------------------------------------------------------------

/// Slots of a block.
pub(super) const BLOCK_SLOTS: usize = 8;
/// Blocks of the longest file.
pub(super) const BLOCKS: usize = SLOTS / BLOCK_SLOTS;
/// Of a slot, everything except its mailbox.
const RECORD_LEN: usize = 512;
/// The records of a block, which come before its mailboxes.
pub(super) const RECORDS_LEN: usize = BLOCK_SLOTS * RECORD_LEN;
pub(super) const BLOCK_LEN: usize = RECORDS_LEN + BLOCK_SLOTS * mailbox::LENGTH;

// Within a record. What a waiter needs is a cache line: how often it was woken and whether it
// sleeps (32 bits each), since when and until when it waits, when it was woken to take the lock,
// a word that is reserved, its ticket.
const SINCE_AT: usize = 8;
const UNTIL_AT: usize = 16;
const WOKEN_AT: usize = 24;
const TICKET_AT: usize = 40;
/// Of an occupant: pid, start time, pid namespace, whether it keeps the lock between two holds,
/// command line, label.
const OCCUPANT_AT: usize = 64;
const OCCUPANT_LEN: usize = 256;
pub(super) const KEEPS_AT: usize = 24;
pub(super) const CMD_AT: usize = 32;
pub(super) const CMD_LEN: usize = 128;
pub(super) const LABEL_AT: usize = CMD_AT + CMD_LEN;
pub(super) const LABEL_LEN: usize = 64;
const STATEMENT_AT: usize = OCCUPANT_AT + OCCUPANT_LEN;

/// Returns the length of a file with this many blocks.
pub(super) const fn length(blocks: usize) -> usize {
    HEAD_LEN + blocks * BLOCK_LEN
}

/// Returns how many blocks there are whole in a file of this length.
pub(super) fn blocks_in(length: u64) -> usize {
    let length = usize::try_from(length).unwrap_or(usize::MAX);
    (length.saturating_sub(HEAD_LEN) / BLOCK_LEN).min(BLOCKS)
}

/// Returns the block that a slot is in.
pub(super) fn block(slot: SlotIndex) -> usize {
    slot.number() / BLOCK_SLOTS
}

/// Returns the offset, within its block, of a word of a slot that the turnstile uses; `None` for a
/// word of the head.
pub(super) fn slot_word(word: Word) -> Option<(SlotIndex, usize)> {
    match word {
        Word::Since(slot) => Some((slot, record(slot) + SINCE_AT)),
        Word::Until(slot) => Some((slot, record(slot) + UNTIL_AT)),
        Word::WokenAt(slot) => Some((slot, record(slot) + WOKEN_AT)),
        Word::Ticket(slot) => Some((slot, record(slot) + TICKET_AT)),
        Word::Turnstile | Word::LastTicket | Word::Queue(_) => None,
    }
}

/// Returns the offset of a slot's record within its block, which is that of the word by which its
/// occupant is woken.
pub(super) fn record(slot: SlotIndex) -> usize {
    slot.number() % BLOCK_SLOTS * RECORD_LEN
}

/// Returns the offset of the description of the slot's occupant within the block.
pub(super) fn occupant(slot: SlotIndex) -> usize {
    record(slot) + OCCUPANT_AT
}

/// Returns the offset of the statement that the slot's occupant runs within the block.
pub(super) fn statement(slot: SlotIndex) -> usize {
    record(slot) + STATEMENT_AT
}

/// Returns the offset of the slot's mailbox within the block.
pub(super) fn mailbox(slot: SlotIndex) -> usize {
    RECORDS_LEN + slot.number() % BLOCK_SLOTS * mailbox::LENGTH
}

// ---- bytes that are locked -----------------------------------------------------

/// The byte of the file that the first slot locks. Of every version.
pub(super) const LIVENESS_FIRST_BYTE: i64 = 1 << 62;
/// The byte that a process locks while it makes an entry of a database.
pub(super) const DATABASES_BYTE: i64 = 1 << 59;
/// The byte that a process locks while it lengthens the file.
pub(super) const GROWTH_BYTE: i64 = DATABASES_BYTE + 1;
/// The byte that a process locks while it examines files.
pub(super) const EXAMINING_BYTE: i64 = DATABASES_BYTE + 2;
/// The first of the bytes that stand for requests which are executed, one for each slot.
const EXECUTED_FIRST_BYTE: i64 = 1 << 60;
/// The first of the bytes that stand for offered requests.
const OFFERED_FIRST_BYTE: i64 = 1 << 61;
/// How many bits of a request's id are part of the byte that stands for it.
const OFFERED_BITS: u32 = 44;

/// Returns the version of the layout that this process uses.
pub(super) fn version() -> u64 {
    failpoint::queue_file_version().unwrap_or(VERSION)
}

/// Returns the path of the queue file: the path of the lock file with `q` appended.
pub(crate) fn path_of(lock_file: &Path) -> PathBuf {
    let mut name = OsString::from(lock_file);
    name.push("q");
    name.into()
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
    use crate::running_statement;

    /// Other languages know these numbers from `docs/design.md`.
    #[test]
    fn the_layout_is_the_documented_one() {
        assert_eq!((AT_OUTSIDER, AT_EVENT_COUNTS), (6656, 7168));
        assert_eq!(
            (AT_EVENT_TEXTS, AT_DATABASES, HEAD_LEN),
            (16384, 32768, 49152)
        );
        assert_eq!(
            (BLOCK_LEN, length(1), length(BLOCKS)),
            (69632, 118_784, 4_505_600)
        );
        let slot = SlotIndex::new(9).unwrap();
        assert_eq!((block(slot), record(slot)), (1, 512));
        assert_eq!((occupant(slot), statement(slot)), (576, 832));
        assert_eq!(mailbox(slot), 4096 + 8192);
    }

    #[test]
    fn nothing_overlaps() {
        const { assert!(OUTSIDER_CMD_AT + CMD_LEN <= AT_EVENT_COUNTS) };
        assert!(event_count(EVENTS) <= AT_EVENTS);
        const { assert!(AT_OCCUPIED + SLOTS / 8 <= AT_WAITS) };
        const { assert!(STATEMENT_AT + running_statement::LENGTH <= RECORD_LEN) };
        const { assert!(TICKET_AT + 8 <= OCCUPANT_AT) };
        const { assert!(BLOCK_LEN.is_multiple_of(4096) && HEAD_LEN.is_multiple_of(4096)) };
        assert_eq!(blocks_in(length(3) as u64), 3);
        assert_eq!(blocks_in(length(3) as u64 - 1), 2);
        assert_eq!(blocks_in(0), 0);
        assert_eq!(blocks_in(u64::MAX), BLOCKS);
    }
}
