#![expect(unsafe_code, reason = "rustix knows no clock of Apple's own")]
//! The clock that all processes of the machine share.
//!
//! It is `CLOCK_UPTIME_RAW`, which `std::time::Instant` uses too: nothing sets or slews it, it has the
//! same value in all processes, and it stands still while the machine sleeps, as `CLOCK_MONOTONIC` of
//! Linux does. `CLOCK_MONOTONIC` of macOS goes on in sleep, and counts microseconds.

use std::mem::MaybeUninit;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use super::sysctl;

/// Reads the monotonic clock, in nanoseconds; every wait is measured on it.
pub(crate) fn monotonic() -> u64 {
    nanos(libc::CLOCK_UPTIME_RAW)
}

/// Reads the monotonic clock as of the last time that the kernel noted it, in nanoseconds.
pub(crate) fn coarse() -> u64 {
    nanos(libc::CLOCK_UPTIME_RAW_APPROX)
}

/// Returns what to add to the monotonic clock to get the wall clock's time since
/// 1970, in nanoseconds; it changes when the wall clock is set.
pub(crate) fn wall_offset() -> u64 {
    nanos(libc::CLOCK_REALTIME).saturating_sub(monotonic())
}

/// Reads the wall clock, in nanoseconds since 1970: the kernel stamps changes of files with it.
pub(crate) fn wall_coarse() -> u64 {
    nanos(libc::CLOCK_REALTIME)
}

/// Converts a moment of the monotonic clock to the wall clock.
pub(crate) fn wall(monotonic: u64, offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(monotonic.saturating_add(offset))
}

/// Returns when this boot of the machine began, in nanoseconds since 1970, by the
/// wall clock as it is set now; 0 if it is not known.
pub(crate) fn booted() -> u64 {
    sysctl::boot_time().map_or(0, |(seconds, micros)| nanos_of(seconds, micros * 1000))
}

fn nanos(clock: libc::clockid_t) -> u64 {
    let mut time = MaybeUninit::<libc::timespec>::uninit();
    // SAFETY: the result has room in `time`.
    if unsafe { libc::clock_gettime(clock, time.as_mut_ptr()) } != 0 {
        // Not with these clocks.
        return 0;
    }
    // SAFETY: the call succeeded and filled it in.
    let time = unsafe { time.assume_init() };
    nanos_of(time.tv_sec, time.tv_nsec)
}

fn nanos_of(seconds: i64, nanos: i64) -> u64 {
    // Neither is negative if the machine's clock is set.
    let seconds = u64::try_from(seconds).unwrap_or(0);
    let nanos = u64::try_from(nanos).unwrap_or(0);
    seconds.saturating_mul(1_000_000_000).saturating_add(nanos)
}
