#![expect(unsafe_code, reason = "the performance counter and the system's time")]
//! The clock that all processes of the machine share.

use std::sync::OnceLock;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use windows_sys::Win32::Foundation::FILETIME;
use windows_sys::Win32::System::Performance::{QueryPerformanceCounter, QueryPerformanceFrequency};
use windows_sys::Win32::System::SystemInformation::GetSystemTimeAsFileTime;

use super::process_table;

const NANOS_PER_SECOND: u64 = 1_000_000_000;
/// The time that Windows counts from, 1601, lies before 1970 by this many seconds.
const SECONDS_TO_1970: u64 = 11_644_473_600;

/// Reads the monotonic clock, in nanoseconds: the performance counter, which counts from
/// the start of the machine for all processes.
pub(crate) fn monotonic() -> u64 {
    let mut ticks = 0;
    // SAFETY: the call fills in `ticks`, which is ours. It cannot fail since Windows XP.
    unsafe { QueryPerformanceCounter(&raw mut ticks) };
    let (ticks, frequency) = (u64::try_from(ticks).unwrap_or(0), frequency());
    let (seconds, rest) = (ticks / frequency, ticks % frequency);
    seconds * NANOS_PER_SECOND + rest * NANOS_PER_SECOND / frequency
}

/// Returns how often the counter ticks in a second.
fn frequency() -> u64 {
    static FREQUENCY: OnceLock<u64> = OnceLock::new();
    *FREQUENCY.get_or_init(|| {
        let mut frequency = 0;
        // SAFETY: the call fills in `frequency`, which is ours. It cannot fail since Windows XP.
        unsafe { QueryPerformanceFrequency(&raw mut frequency) };
        u64::try_from(frequency).unwrap_or(1).max(1)
    })
}

/// Reads the monotonic clock: there is no cheaper one with the same beginning.
pub(crate) fn coarse() -> u64 {
    monotonic()
}

/// Returns what to add to the monotonic clock to get the wall clock's time since
/// 1970, in nanoseconds; it changes when the wall clock is set.
pub(crate) fn wall_offset() -> u64 {
    let since_1970 = SystemTime::now().duration_since(UNIX_EPOCH);
    let nanos = since_1970.unwrap_or_default().as_nanos();
    u64::try_from(nanos)
        .unwrap_or(u64::MAX)
        .saturating_sub(monotonic())
}

/// Reads the wall clock as of the last tick, in nanoseconds since 1970: the kernel stamps changes of
/// files with it.
pub(crate) fn wall_coarse() -> u64 {
    let mut time = FILETIME {
        dwLowDateTime: 0,
        dwHighDateTime: 0,
    };
    // SAFETY: the call fills in `time`, which is ours.
    unsafe { GetSystemTimeAsFileTime(&raw mut time) };
    let ticks = u64::from(time.dwHighDateTime) << 32 | u64::from(time.dwLowDateTime);
    since_1970(ticks)
}

/// Converts a moment of the monotonic clock to the wall clock.
pub(crate) fn wall(monotonic: u64, offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(monotonic.saturating_add(offset))
}

/// Returns when this boot of the machine began, in nanoseconds since 1970, by the
/// wall clock as it is set now.
pub(crate) fn booted() -> u64 {
    process_table::boot_times().map_or(0, |times| since_1970(times.by_wall_clock))
}

/// Converts steps of 100 nanoseconds since 1601 to nanoseconds since 1970.
fn since_1970(ticks: u64) -> u64 {
    let before = SECONDS_TO_1970 * (NANOS_PER_SECOND / 100);
    ticks.saturating_sub(before).saturating_mul(100)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clocks_agree_with_those_of_std() {
        let now = |time: SystemTime| time.duration_since(UNIX_EPOCH).unwrap().as_secs();
        let expected = now(SystemTime::now());
        assert!(expected.abs_diff(wall_coarse() / NANOS_PER_SECOND) <= 1);
        assert!(expected.abs_diff(now(wall(monotonic(), wall_offset()))) <= 1);
        let booted = booted();
        assert!(0 < booted && booted / NANOS_PER_SECOND <= expected);
        let (first, second) = (monotonic(), monotonic());
        assert!(first <= second);
    }
}
