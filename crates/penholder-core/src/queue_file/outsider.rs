//! A process in the way that does not use the queue, as the queue file has it.

use super::layout::{AT_OUTSIDER, CMD_LEN, OUTSIDER_CMD_AT};
use super::text::read_text;

/// A process that keeps the occupants of the queue file waiting and is not one of them, as one of
/// them found it in the kernel's tables. It is there for those that do not read these tables.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct OutsiderRecord {
    /// When it was found: monotonic clock, nanoseconds.
    pub(crate) at: u64,
    pub(crate) pid: u32,
    pub(crate) start: Option<u64>,
    /// The pid namespace in which the pid is its.
    pub(crate) pidns: Option<u64>,
    /// What it has: [`WRITE_LOCK`], or the number of a lock of SQLite.
    pub(crate) lock: u64,
    pub(crate) cmd: String,
}

/// The lock of the lock file, taken by a process that does not use the queue.
pub(crate) const WRITE_LOCK: u64 = 1;
/// After this time the process may not be in the way any more, in nanoseconds. Who waits looks
/// again sooner.
const VALID: u64 = 3_000_000_000;

impl OutsiderRecord {
    /// Whether it was found so recently that it is probably still in the way.
    pub(crate) fn is_recent(&self, now: u64) -> bool {
        now.saturating_sub(self.at) < VALID
    }
}

/// Reads which process a waiter found in the way.
pub(super) fn read_outsider(word: impl Fn(usize) -> u64) -> Option<OutsiderRecord> {
    let non_zero = |value: u64| Some(value).filter(|&value| value > 0);
    Some(OutsiderRecord {
        at: non_zero(word(AT_OUTSIDER))?,
        pid: u32::try_from(non_zero(word(AT_OUTSIDER + 8))?).ok()?,
        start: non_zero(word(AT_OUTSIDER + 16)),
        pidns: non_zero(word(AT_OUTSIDER + 24)),
        lock: word(AT_OUTSIDER + 32),
        cmd: read_text(OUTSIDER_CMD_AT, CMD_LEN, &word),
    })
}
