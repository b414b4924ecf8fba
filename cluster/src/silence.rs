//! What did not answer, and is asked again after a while.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

/// How long something that was silent is not asked.
const PERIOD: Duration = Duration::from_secs(2);

/// Whether something answers. While it is silent, one caller in each period asks it; the others need not
/// wait for it too.
#[derive(Debug, Default)]
pub(crate) struct Silence {
    /// When it was found silent, or was asked since.
    since: Mutex<Option<Instant>>,
}

impl Silence {
    /// Notes that it did not answer.
    pub(crate) fn begin(&self) {
        self.set(Some(Instant::now()));
    }

    /// Notes that it answered.
    pub(crate) fn end(&self) {
        self.set(None);
    }

    /// Returns whether the caller is to ask it.
    pub(crate) fn may_ask(&self) -> bool {
        self.may_ask_at(Instant::now())
    }

    fn may_ask_at(&self, now: Instant) -> bool {
        let mut since = self.since.lock().unwrap_or_else(PoisonError::into_inner);
        match *since {
            None => true,
            Some(begun) if now.saturating_duration_since(begun) < PERIOD => false,
            Some(_) => {
                *since = Some(now);
                true
            }
        }
    }

    fn set(&self, since: Option<Instant>) {
        *self.since.lock().unwrap_or_else(PoisonError::into_inner) = since;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_silent_is_asked_once_in_each_period() {
        let silence = Silence::default();
        assert!(silence.may_ask() && silence.may_ask());
        let begun = Instant::now();
        silence.begin();
        assert!(!silence.may_ask_at(begun));
        let later = Instant::now() + PERIOD;
        assert!(silence.may_ask_at(later));
        assert!(!silence.may_ask_at(later));
        silence.end();
        assert!(silence.may_ask_at(later) && silence.may_ask_at(later));
    }
}
