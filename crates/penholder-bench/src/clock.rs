//! The monotonic clock, which all processes share, in nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A reading of a clock, or a duration, in nanoseconds.
pub(crate) type Nanos = u64;

/// Reads the monotonic clock.
pub(crate) fn now() -> Nanos {
    read(ClockId::Monotonic)
}

/// The CPU time that this process has used, in user and kernel mode.
pub(crate) fn cpu_time() -> Nanos {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The time `duration` from now.
pub(crate) fn after(duration: Duration) -> Nanos {
    now().saturating_add(nanos(duration))
}

/// How much time is left until `deadline`; zero if it has passed.
pub(crate) fn left(deadline: Nanos) -> Duration {
    Duration::from_nanos(deadline.saturating_sub(now()))
}

/// Converts a duration to nanoseconds; saturates after 584 years.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Converts nanoseconds to microseconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
pub(crate) fn micros(nanos: Nanos) -> f64 {
    nanos as f64 / 1_000.0
}

/// Parses a duration with a unit: `0us`, `200us`, `1.5s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wanted = "expected a number with a unit, like 200us, 2ms or 1.5s";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    Duration::try_from(parsed).map_err(|_| "a duration cannot be negative".to_owned())
}

/// Parses a number of seconds, like `5` or `0.2`.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "expected a number of seconds, like 5 or 0.2")?;
    if !(0.01..=3600.0).contains(&number) {
        return Err("expected between 0.01 and 3600 seconds".into());
    }
    Ok(Duration::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_need_a_unit_and_seconds_do_not() {
        assert_eq!(parse("0us"), Ok(Duration::ZERO));
        assert_eq!(parse("200us"), Ok(Duration::from_micros(200)));
        assert_eq!(parse("2ms"), Ok(Duration::from_millis(2)));
        assert_eq!(parse_seconds("0.2"), Ok(Duration::from_millis(200)));
        assert!(parse("-1s").is_err());
        assert!(parse("5").is_err());
        assert!(parse_seconds("0").is_err());
        assert!(parse_seconds("nan").is_err());
    }
}
