//! The counts of one thread of a worker that is running.

use std::error::Error;

use hdrhistogram::Histogram;

use crate::clock::{self, Nanos};
use crate::peer::client::Outcome;
use crate::share::{self, Share};
use crate::window::Window;

pub(crate) struct Tally {
    share: Share,
    latencies: Histogram<u64>,
    /// CPU time at the end of the warm-up.
    before: Option<Nanos>,
}

impl Tally {
    pub(crate) fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            share: Share::default(),
            latencies: share::histogram()?,
            before: None,
        })
    }

    pub(crate) fn count(&mut self, window: Window, begun: Nanos, outcome: Outcome) {
        let ended = clock::now();
        if outcome == Outcome::Written {
            self.share.acknowledged += 1;
        }
        if ended < window.counted {
            return;
        }
        self.before.get_or_insert_with(clock::cpu_time);
        self.latencies.saturating_record(ended - begun);
        self.share.longest = self.share.longest.max(ended - begun);
        match outcome {
            Outcome::Failed => self.share.failed += 1,
            _ if ended <= window.end => self.share.done += 1,
            _ => {}
        }
    }

    pub(crate) fn share(mut self) -> Share {
        let now = clock::cpu_time();
        self.share.cpu_time = now - self.before.unwrap_or(now);
        self.share.latencies = share::latencies(&self.latencies);
        self.share
    }
}
