//! The deadline of a call.

use std::fmt;
use std::time::{Duration, Instant};

/// The moment after which a call gives up, on the monotonic clock.
///
/// A call makes one deadline when it begins and passes it to everything it waits for,
/// so that waits never add up. The deadline keeps the requested timeout, because the
/// error message repeats it.
///
/// Any `Duration` is accepted; with `Duration::MAX` the deadline never passes.
///
/// ```
/// use penholder_lock::Deadline;
/// use std::time::Duration;
///
/// let deadline = Deadline::after(Duration::from_secs(5));
/// assert!(deadline.remaining() <= Duration::from_secs(5));
/// assert!(!deadline.is_over());
/// assert!(Deadline::after(Duration::ZERO).is_over());
/// ```
#[derive(Debug, Clone, Copy)]
pub struct Deadline {
    start: Instant,
    timeout: Duration,
}

impl Deadline {
    /// Makes a deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        // Kept as start and length: `Instant + Duration::MAX` would overflow.
        Self {
            start: Instant::now(),
            timeout,
        }
    }

    /// Returns the time that is left, zero after the deadline.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.remaining_at(Instant::now())
    }

    /// Returns the time that was left at this moment.
    #[must_use]
    pub fn remaining_at(&self, now: Instant) -> Duration {
        self.timeout
            .saturating_sub(now.saturating_duration_since(self.start))
    }

    /// Returns whether the deadline has passed.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// Returns a deadline that is later by the time that work took since `begun`: a deadline
    /// bounds what a call waits for, not its work.
    #[must_use]
    pub fn without_work_since(self, begun: Instant) -> Self {
        let start = self.start.checked_add(begun.elapsed());
        Self {
            start: start.unwrap_or(self.start),
            ..self
        }
    }

    /// Returns the requested timeout.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// Returns when the call began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }
}

/// Formats the requested timeout as people write it: `500ms`, `1.5s`, `2s`.
impl fmt::Display for Deadline {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.timeout.is_zero() {
            return f.write_str("0ms");
        }
        write!(f, "{:?}", self.timeout)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timeout_is_formatted_as_requested() {
        for (ms, text) in [
            (0, "0ms"),
            (500, "500ms"),
            (1500, "1.5s"),
            (2000, "2s"),
            (90_000, "90s"),
        ] {
            assert_eq!(Deadline::after(Duration::from_millis(ms)).to_string(), text);
        }
    }

    #[test]
    fn work_does_not_count() {
        let begun = Instant::now();
        let deadline = Deadline::after(Duration::from_millis(50));
        std::thread::sleep(Duration::from_millis(60));
        assert!(deadline.is_over());
        assert!(!deadline.without_work_since(begun).is_over());
        assert_eq!(deadline.without_work_since(begun).to_string(), "50ms");
    }

    #[test]
    fn huge_timeout_is_accepted() {
        let never = Deadline::after(Duration::MAX);
        assert!(never.remaining() > Duration::from_secs(u64::MAX / 2));
    }
}
