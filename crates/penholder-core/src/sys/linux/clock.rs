//! The clock that all processes of the machine share.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// The monotonic clock, in nanoseconds; every wait is on it.
pub(crate) fn monotonic() -> u64 {
    nanos(ClockId::Monotonic)
}

/// The same clock as of the last tick of the kernel's timer: up to 10 ms behind,
/// and four times cheaper to read.
pub(crate) fn coarse() -> u64 {
    nanos(ClockId::MonotonicCoarse)
}

/// What to add to the monotonic clock to have the wall clock's time since 1970,
/// in nanoseconds; it changes when somebody sets the wall clock.
pub(crate) fn wall_offset() -> u64 {
    nanos(ClockId::Realtime).saturating_sub(monotonic())
}

/// The wall clock at a moment of the monotonic one.
pub(crate) fn wall(monotonic: u64, offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(monotonic.saturating_add(offset))
}

/// When this boot of the machine began, by the wall clock as it is set now.
pub(crate) fn booted() -> u64 {
    nanos(ClockId::Realtime).saturating_sub(nanos(ClockId::Boottime))
}

fn nanos(clock: ClockId) -> u64 {
    let time = clock_gettime(clock);
    // Neither is negative on a machine whose clock is set.
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    let nanos = u64::try_from(time.tv_nsec).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
