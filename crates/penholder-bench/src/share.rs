//! What one worker did: its share of a trial's result.

use std::collections::HashMap;
use std::error::Error;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// A worker prints this as one line of JSON; `worker.py` prints the same keys.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// All acknowledged writes, including those of the warm-up and after the end:
    /// the database must have them all.
    pub(crate) acknowledged: u64,
    /// Requests that ended within the window: writes, and the reads of a workload that
    /// reads.
    pub(crate) done: u64,
    /// Requests that ended after the warm-up and failed.
    pub(crate) failed: u64,
    /// Latencies of all requests that ended after the warm-up, including failed ones:
    /// nanoseconds, and the number of requests.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// The longest of these latencies, exactly.
    pub(crate) longest: Nanos,
    /// CPU time since the end of the warm-up.
    pub(crate) cpu_time: Nanos,
    /// An error other than "busy".
    pub(crate) error: Option<String>,
}

impl Share {
    /// The share of several threads of one process.
    pub(crate) fn joined(threads: Vec<Self>) -> Self {
        let mut sum = Self::default();
        for thread in threads {
            sum.acknowledged += thread.acknowledged;
            sum.done += thread.done;
            sum.failed += thread.failed;
            sum.latencies.extend(thread.latencies);
            sum.longest = sum.longest.max(thread.longest);
            // Each thread reads the clock of the whole process.
            sum.cpu_time = sum.cpu_time.max(thread.cpu_time);
        }
        sum
    }
}

/// Creates a histogram for latencies from 1 ns to 2 minutes, to three digits.
pub(crate) fn histogram() -> Result<Histogram<u64>, Box<dyn Error>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000_000, 3)?)
}

/// Converts a histogram to the form in which a share carries it.
pub(crate) fn latencies(histogram: &Histogram<u64>) -> Vec<(u64, u64)> {
    let recorded = histogram.iter_recorded();
    recorded
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect()
}

/// Merges the latencies of all shares.
pub(crate) fn merged_latencies(shares: &[Share]) -> Result<Histogram<u64>, Box<dyn Error>> {
    let mut merged = histogram()?;
    for (nanos, count) in shares.iter().flat_map(|share| &share.latencies) {
        merged.saturating_record_n(*nanos, *count);
    }
    Ok(merged)
}

/// The longest latency of all shares.
pub(crate) fn longest(shares: &[Share]) -> Nanos {
    shares.iter().map(|share| share.longest).max().unwrap_or(0)
}

/// Requests per second of each worker.
#[expect(clippy::cast_precision_loss, reason = "far below 2^53 requests")]
pub(crate) fn rates(shares: &[Share], duration: Duration) -> Vec<f64> {
    let rate = |share: &Share| share.done as f64 / duration.as_secs_f64();
    shares.iter().map(rate).collect()
}

/// All failed requests.
pub(crate) fn failed(shares: &[Share]) -> u64 {
    shares.iter().map(|share| share.failed).sum()
}

/// All acknowledged writes of all workers.
pub(crate) fn total_acknowledged(shares: &[Share]) -> u64 {
    shares.iter().map(|share| share.acknowledged).sum()
}

/// The number of acknowledged writes of each worker that has any.
pub(crate) fn acknowledged(shares: &[Share]) -> HashMap<u32, u64> {
    let writes = (0..).zip(shares.iter().map(|share| share.acknowledged));
    writes.filter(|(_, writes)| *writes > 0).collect()
}
