//! The clocks of `std`. The monotonic one begins at its first use in this process, so
//! it is not shared between processes.

use std::sync::OnceLock;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

/// Reads the monotonic clock, in nanoseconds.
pub(crate) fn monotonic() -> u64 {
    static FIRST: OnceLock<Instant> = OnceLock::new();
    nanos(FIRST.get_or_init(Instant::now).elapsed())
}

/// Reads the monotonic clock, in nanoseconds.
pub(crate) fn coarse() -> u64 {
    monotonic()
}

/// Returns what to add to the monotonic clock to get the wall clock's time since
/// 1970, in nanoseconds.
pub(crate) fn wall_offset() -> u64 {
    let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH);
    nanos(since_epoch.unwrap_or_default()).saturating_sub(monotonic())
}

/// Reads the wall clock, in nanoseconds since 1970.
pub(crate) fn wall_coarse() -> u64 {
    wall_offset().saturating_add(monotonic())
}

/// Converts a moment of the monotonic clock to the wall clock.
pub(crate) fn wall(monotonic: u64, offset: u64) -> SystemTime {
    UNIX_EPOCH + Duration::from_nanos(monotonic.saturating_add(offset))
}

/// Returns 0: when this boot of the machine began is not known.
pub(crate) fn booted() -> u64 {
    0
}

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
