//! What a worker reports on its standard output, as 32-bit little-endian numbers.
//!
//! The first is [`READY`]. Then one number for each write follows: the microseconds
//! from the call to the acknowledgement, or [`FAILED`]. The last is [`DONE`].

use std::time::Duration;

/// The database is open.
pub(super) const READY: u32 = u32::MAX - 1;
/// A write was not acknowledged.
pub(super) const FAILED: u32 = u32::MAX;
/// The worker has written all that it was to write.
pub(super) const DONE: u32 = u32::MAX - 2;
/// The longest time that can be reported.
const LONGEST: u32 = u32::MAX - 3;

/// The number for an acknowledged write.
pub(super) fn acknowledged(time: Duration) -> u32 {
    u32::try_from(time.as_micros()).map_or(LONGEST, |micros| micros.min(LONGEST))
}
