//! Time that all processes share: the monotonic clock, in nanoseconds.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

/// A point of the monotonic clock.
pub(crate) type Nanos = u64;

/// This moment.
pub(crate) fn now() -> Nanos {
    read(ClockId::Monotonic)
}

/// The processor time of this process so far, its own and the kernel's for it.
pub(crate) fn processor() -> Nanos {
    read(ClockId::ProcessCPUTime)
}

fn read(clock: ClockId) -> Nanos {
    let time = clock_gettime(clock);
    let seconds = u64::try_from(time.tv_sec).unwrap_or(0);
    seconds * 1_000_000_000 + u64::try_from(time.tv_nsec).unwrap_or(0)
}

/// The moment that is `duration` from now.
pub(crate) fn after(duration: Duration) -> Nanos {
    now().saturating_add(nanos(duration))
}

/// What is left until `moment`; zero when it is over.
pub(crate) fn left(moment: Nanos) -> Duration {
    Duration::from_nanos(moment.saturating_sub(now()))
}

/// A duration in nanoseconds; centuries are cut.
pub(crate) fn nanos(duration: Duration) -> Nanos {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds as microseconds.
#[expect(clippy::cast_precision_loss, reason = "2^53 ns are 104 days")]
pub(crate) fn micros(nanos: Nanos) -> f64 {
    nanos as f64 / 1_000.0
}

/// A duration as people write it: `0us`, `200us`, `1.5s`.
pub(crate) fn parse(text: &str) -> Result<Duration, String> {
    let wanted = "give a number with a unit, like 200us, 2ms or 1.5s";
    let parsed: jiff::SignedDuration = text.parse().map_err(|_| wanted.to_owned())?;
    Duration::try_from(parsed).map_err(|_| "it cannot be negative".to_owned())
}

/// A number of seconds, like `5` or `0.2`.
pub(crate) fn parse_seconds(text: &str) -> Result<Duration, String> {
    let number: f64 = text
        .parse()
        .map_err(|_| "give a number of seconds, like 5 or 0.2")?;
    if !(0.01..=3600.0).contains(&number) {
        return Err("give between 0.01 and 3600 seconds".into());
    }
    Ok(Duration::from_secs_f64(number))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_as_people_write_them() {
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
