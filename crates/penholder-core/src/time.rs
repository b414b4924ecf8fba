//! Durations in nanoseconds; wall-clock times and durations as text. The texts are for
//! display only: every wait is measured on the monotonic clock.

use std::time::{Duration, SystemTime};

use jiff::Timestamp;
use jiff::fmt::temporal::DateTimePrinter;

/// Returns a duration in nanoseconds; `u64::MAX`, which is 584 years, if it is longer.
pub(crate) fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Formats a time as RFC 3339, in UTC with milliseconds: `2026-01-15T10:30:45.123Z`.
pub(crate) fn rfc3339(time: SystemTime) -> String {
    let Ok(timestamp) = Timestamp::try_from(time) else {
        return "unknown".to_owned();
    };
    let mut text = String::new();
    let printer = DateTimePrinter::new().precision(Some(3));
    // Writing into a `String` cannot fail.
    let _ = printer.print_timestamp(&timestamp, &mut text);
    text
}

/// Parses an RFC 3339 time with any offset.
pub(crate) fn parse(text: &str) -> Option<SystemTime> {
    let timestamp: Timestamp = text.parse().ok()?;
    Some(SystemTime::from(timestamp))
}

/// Formats a duration for people: `12ms`, `3.2s`, `4m 10s`, `2h 05m`.
pub(crate) fn human(duration: Duration) -> String {
    let seconds = duration.as_secs();
    match seconds {
        0 => format!("{}ms", duration.as_millis()),
        1..60 => format!("{}.{}s", seconds, duration.subsec_millis() / 100),
        60..3600 => format!("{}m {:02}s", seconds / 60, seconds % 60),
        _ => format!("{}h {:02}m", seconds / 3600, seconds / 60 % 60),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_rounded_for_people() {
        for (ms, text) in [
            (0, "0ms"),
            (999, "999ms"),
            (3_249, "3.2s"),
            (250_000, "4m 10s"),
            (7_500_000, "2h 05m"),
        ] {
            assert_eq!(human(Duration::from_millis(ms)), text);
        }
    }

    #[test]
    fn formatted_time_parses_to_the_same_time() {
        let time = parse("2026-01-15T10:30:45.120Z").unwrap();
        assert_eq!(rfc3339(time), "2026-01-15T10:30:45.120Z");
        assert_eq!(parse("2026-01-15T11:30:45.12+01:00"), Some(time));
        assert_eq!(parse("soon"), None);
    }
}
