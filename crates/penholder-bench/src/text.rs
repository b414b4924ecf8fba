//! Figures as text.

use std::time::Duration;

/// Formats microseconds with two or three digits and a unit: `8.3us`, `12ms`, `1.5s`.
pub(crate) fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        value if value < 1e3 => (value, "us"),
        value if value < 1e6 => (value / 1e3, "ms"),
        value => (value / 1e6, "s"),
    };
    if value < 9.95 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// Formats a duration in the same way.
pub(crate) fn duration(duration: Duration) -> String {
    time(duration.as_secs_f64() * 1e6)
}

/// Converts bytes to megabytes.
#[expect(
    clippy::cast_precision_loss,
    reason = "rounded to a tenth of a megabyte"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// `1 process`, `8 processes`.
pub(crate) fn processes(count: u32) -> String {
    match count {
        1 => "1 process".to_owned(),
        count => format!("{count} processes"),
    }
}

/// The result of the check that every acknowledged row exists, and no other.
pub(crate) fn rows(ok: bool) -> &'static str {
    if ok { "ok" } else { "WRONG" }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_or_three_digits() {
        assert_eq!(time(8.34), "8.3us");
        assert_eq!(time(140.2), "140us");
        assert_eq!(time(12_345.0), "12ms");
        assert_eq!(time(1_500_000.0), "1.5s");
        assert_eq!(duration(Duration::from_millis(79)), "79ms");
    }
}
