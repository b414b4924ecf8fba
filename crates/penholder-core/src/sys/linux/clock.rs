//! The clock that all processes of the machine share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// Reads the monotonic clock, in nanoseconds; every wait is measured on it.
pub(crate) fn monotonic() -> u64 {
    nanos(ClockId::Monotonic)
}

/// Reads the monotonic clock as of the last tick of the kernel's timer, in
/// nanoseconds: up to 10 ms behind, and four times cheaper to read.
pub(crate) fn coarse() -> u64 {
    nanos(ClockId::MonotonicCoarse)
}

/// Returns what to add to the monotonic clock to get the wall clock's time since
/// 1970, in nanoseconds; it changes when the wall clock is set.
pub(crate) fn wall_offset() -> u64 {
    nanos(ClockId::Realtime).saturating_sub(monotonic())
}

/// Reads the wall clock as of the last tick, in nanoseconds since 1970: the kernel stamps most changes
/// of files with it.
pub(crate) fn wall_coarse() -> u64 {
    nanos(ClockId::RealtimeCoarse)
}

/// Converts a moment of the monotonic clock to the wall clock.
pub(crate) fn wall(monotonic: u64, offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(monotonic.saturating_add(offset))
}

/// Returns when this boot of the machine began, in nanoseconds since 1970, by the
/// wall clock as it is set now.
pub(crate) fn booted() -> u64 {
    nanos(ClockId::Realtime).saturating_sub(nanos(ClockId::Boottime))
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither is negative if the machine's clock is set.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
