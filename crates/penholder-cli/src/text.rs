//! Times, sizes and other text for people.

use std::fmt::Display;
use std::time::{Duration, SystemTime};

/// A duration: `14 µs`, `1.2 ms`, `3.3 s`.
pub(crate) fn duration(duration: Duration) -> String {
    micros(u64::try_from(duration.as_micros()).unwrap_or(u64::MAX))
}

/// How long something has lasted, in at most seven characters for some years: `3.3 s`, `12m 03s`,
/// `5h 07m`, `2d 04h`.
pub(crate) fn age(age: Duration) -> String {
    let seconds = age.as_secs();
    let (minutes, hours, days) = (seconds / 60, seconds / 3600, seconds / 86_400);
    match seconds {
        0..100 => duration(age),
        100..3600 => format!("{minutes}m {:02}s", seconds % 60),
        3600..86_400 => format!("{hours}h {:02}m", minutes % 60),
        _ => format!("{days}d {:02}h", hours % 24),
    }
}

/// A time of the wall clock, in the format of the lock record.
pub(crate) fn timestamp(time: SystemTime) -> String {
    jiff::Timestamp::try_from(time)
        .map_or_else(|_| "unknown".to_owned(), |time| format!("{time:.3}"))
}

/// A size: `512 bytes`, `4.1 MB`.
pub(crate) fn size(bytes: u64) -> String {
    match bytes {
        0..10_000 => format!("{bytes} bytes"),
        10_000..1_000_000 => format!("{} kB", bytes / 1000),
        1_000_000..1_000_000_000 => {
            format!("{}.{} MB", bytes / 1_000_000, bytes / 100_000 % 10)
        }
        _ => format!("{}.{} GB", bytes / 1_000_000_000, bytes / 100_000_000 % 10),
    }
}

/// A number of things: `1 row`, `3 rows`, `0 recoveries`.
pub(crate) fn count<N: Display + Copy + PartialEq + From<u8>>(number: N, noun: &str) -> String {
    if number == N::from(1) {
        return format!("1 {noun}");
    }
    match noun.strip_suffix('y') {
        Some(stem) => format!("{number} {stem}ies"),
        None => format!("{number} {noun}s"),
    }
}

/// A duration in microseconds: `14 µs`, `1.2 ms`, `3.3 s`.
pub(crate) fn micros(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..10_000 => format!("{}.{} ms", us / 1000, us % 1000 / 100),
        10_000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{}.{} s", us / 1_000_000, us % 1_000_000 / 100_000),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_read_well() {
        assert_eq!(size(0), "0 bytes");
        assert_eq!(size(45_678), "45 kB");
        assert_eq!(size(4_152_000), "4.1 MB");
        assert_eq!(size(2_000_000_000), "2.0 GB");
    }

    #[test]
    fn ages_stay_short() {
        let age = |seconds| super::age(Duration::from_secs(seconds));
        assert_eq!(age(99), "99.0 s");
        assert_eq!(age(100), "1m 40s");
        assert_eq!(age(3_600), "1h 00m");
        assert_eq!(age(86_400 * 3 + 7_200), "3d 02h");
    }

    #[test]
    fn times_read_well() {
        assert_eq!(micros(7), "7 µs");
        assert_eq!(micros(1_250), "1.2 ms");
        assert_eq!(micros(45_000), "45 ms");
        assert_eq!(micros(3_300_000), "3.3 s");
    }
}
