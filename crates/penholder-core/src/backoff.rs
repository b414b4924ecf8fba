//! How long to sleep between two attempts to take the kernel's lock.

use std::time::Duration;

/// The first pause.
const FIRST: Duration = Duration::from_millis(5);
/// The longest pause.
const LONGEST: Duration = Duration::from_millis(50);

/// How often the lock is tried after each pause, and how long apart: for about 2 ms together, as the
/// kernel adds some 50 µs to each.
pub(crate) const TRIES: u32 = 20;
pub(crate) const TRY_PAUSE: Duration = Duration::from_micros(50);

/// While the queue file is full, only one in this many pauses ends with so many tries: hundreds of
/// processes poll then, and the next thing to come free is a slot.
const CROWDED: u32 = 16;

/// Pauses of 5, 10, 20, 40, 50, 50 … ms that never exceed the remaining time.
#[derive(Debug)]
pub(crate) struct Backoff {
    next: Duration,
    pauses: u32,
}

impl Backoff {
    pub(crate) fn new() -> Self {
        Self {
            next: FIRST,
            pauses: 0,
        }
    }

    /// Whether to try often after this pause; `is_crowded`: the queue file is full.
    pub(crate) fn is_due(&self, is_crowded: bool) -> bool {
        !is_crowded || self.pauses.is_multiple_of(CROWDED)
    }

    /// Returns the next pause, at most `remaining`.
    pub(crate) fn pause(&mut self, remaining: Duration) -> Duration {
        let pause = self.next.min(remaining);
        self.next = (self.next * 2).min(LONGEST);
        self.pauses = self.pauses.wrapping_add(1);
        pause
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_fifty_milliseconds() {
        let mut backoff = Backoff::new();
        let pauses: Vec<_> = (0..7)
            .map(|_| backoff.pause(Duration::MAX).as_millis())
            .collect();
        assert_eq!(pauses, [5, 10, 20, 40, 50, 50, 50]);
    }

    #[test]
    fn pause_ends_at_the_deadline() {
        let mut backoff = Backoff::new();
        let left = Duration::from_millis(3);
        assert_eq!(backoff.pause(left), left);
        assert_eq!(backoff.pause(Duration::ZERO), Duration::ZERO);
    }
}
