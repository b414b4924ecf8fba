//! How long a process sleeps between its requests.

use std::time::Duration;

use serde::{Deserialize, Serialize};

/// A duration between these two, each time another one.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub(crate) struct Pause {
    shortest: Duration,
    longest: Duration,
}

impl Pause {
    pub(crate) const NONE: Self = Self::exactly(Duration::ZERO);

    pub(crate) const fn exactly(duration: Duration) -> Self {
        Self {
            shortest: duration,
            longest: duration,
        }
    }

    /// From a half of the duration to one and a half, so that the process keeps no
    /// rhythm with others.
    pub(crate) fn about(duration: Duration) -> Self {
        Self {
            shortest: duration / 2,
            longest: duration * 3 / 2,
        }
    }

    pub(crate) fn sleep(self) {
        let range = self.longest - self.shortest;
        let pause = self.shortest + range.mul_f64(fastrand::f64());
        if !pause.is_zero() {
            std::thread::sleep(pause);
        }
    }
}
