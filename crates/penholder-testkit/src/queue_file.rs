//! Where things stand in the queue file, for tests that write into it: offsets in bytes, as
//! `docs/design.md` has them.

/// The most slots that a file has.
pub const SLOTS: u64 = 512;
/// Slots that a file is built with, and of each block by which it grows.
pub const BLOCK_SLOTS: u64 = 8;
/// Length of the head, which comes before the blocks.
pub const HEAD: u64 = 49_152;
/// Length of a block.
pub const BLOCK: u64 = 69_632;
/// Length of a mailbox.
pub const MAILBOX: u64 = 8192;
/// The bits of the waiters.
pub const QUEUE: u64 = 192;
/// Length of a slot's record; the records of a block come before its mailboxes.
const RECORD: u64 = 512;

/// Returns the length of a file with this many blocks.
#[must_use]
pub const fn length(blocks: u64) -> u64 {
    HEAD + blocks * BLOCK
}

/// Returns how many slots there are in a file of this length.
#[must_use]
pub const fn slots(length: u64) -> u64 {
    length.saturating_sub(HEAD) / BLOCK * BLOCK_SLOTS
}

/// Returns the offset of a slot's record.
#[must_use]
pub const fn record(slot: u64) -> u64 {
    length(slot / BLOCK_SLOTS) + slot % BLOCK_SLOTS * RECORD
}

/// Returns the offset of the ticket of a slot.
#[must_use]
pub const fn ticket(slot: u64) -> u64 {
    record(slot) + 40
}

/// Returns the offset of the pid of a slot's occupant.
#[must_use]
pub const fn pid(slot: u64) -> u64 {
    record(slot) + 64
}

/// Returns the offset of a slot's mailbox.
#[must_use]
pub const fn mailbox(slot: u64) -> u64 {
    length(slot / BLOCK_SLOTS) + BLOCK_SLOTS * RECORD + slot % BLOCK_SLOTS * MAILBOX
}
