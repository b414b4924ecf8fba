//! The one deadline of a call.

use std::fmt;
use std::time::{Duration, Instant};

/// The moment after which a call gives up, on the monotonic clock.
///
/// One deadline is made where a call begins and handed to everything the call
/// waits for, so that waits never add up. It remembers the timeout that was
/// asked for, because the error message repeats it.
///
/// Any `Duration` is accepted: `Duration::MAX` means never.
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
    /// A deadline `timeout` from now.
    #[must_use]
    pub fn after(timeout: Duration) -> Self {
        // Kept as start and length: `Instant + Duration::MAX` would overflow.
        Self {
            start: Instant::now(),
            timeout,
        }
    }

    /// What is left, zero once it is over.
    #[must_use]
    pub fn remaining(&self) -> Duration {
        self.timeout.saturating_sub(self.start.elapsed())
    }

    /// Whether nothing is left.
    #[must_use]
    pub fn is_over(&self) -> bool {
        self.remaining().is_zero()
    }

    /// The timeout asked for.
    #[must_use]
    pub fn timeout(&self) -> Duration {
        self.timeout
    }

    /// When the call began.
    #[must_use]
    pub fn start(&self) -> Instant {
        self.start
    }
}

/// The timeout asked for, as people write it: `500ms`, `1.5s`, `2s`.
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
    fn reads_as_it_was_asked_for() {
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
    fn absurd_timeouts_are_taken() {
        let never = Deadline::after(Duration::MAX);
        assert!(never.remaining() > Duration::from_secs(u64::MAX / 2));
    }
}
