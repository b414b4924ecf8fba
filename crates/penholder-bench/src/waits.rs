//! How long the requests of some processes took, and their median over several runs.

use std::error::Error;
use std::time::Duration;

use serde::Serialize;

use crate::clock;
use crate::share::{self, Share};
use crate::statistics;

#[derive(Debug, Clone, Copy, Serialize)]
pub(crate) struct Waits {
    /// Requests per second of all processes together.
    pub(crate) rate: f64,
    /// Requests that waited too long, in all runs together.
    pub(crate) failed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p90_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) max_us: f64,
}

impl Waits {
    pub(crate) fn of(shares: &[Share], duration: Duration) -> Result<Self, Box<dyn Error>> {
        let latencies = share::merged_latencies(shares)?;
        let quantile = |q: f64| clock::micros(latencies.value_at_quantile(q));
        Ok(Self {
            rate: share::rates(shares, duration).iter().sum(),
            failed: share::failed(shares),
            p50_us: quantile(0.5),
            p90_us: quantile(0.9),
            p99_us: quantile(0.99),
            max_us: clock::micros(share::longest(shares)),
        })
    }

    /// Returns the median of each figure over the runs; failures add up.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        runs.first()?;
        let median =
            |figure: fn(&Self) -> f64| statistics::median(runs.iter().map(figure).collect());
        Some(Self {
            rate: median(|run| run.rate),
            failed: runs.iter().map(|run| run.failed).sum(),
            p50_us: median(|run| run.p50_us),
            p90_us: median(|run| run.p90_us),
            p99_us: median(|run| run.p99_us),
            max_us: median(|run| run.max_us),
        })
    }
}
