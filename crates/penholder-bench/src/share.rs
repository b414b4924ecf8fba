//! What one worker did: its share of a trial's result.

use std::collections::HashMap;
use std::error::Error;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::Nanos;

/// A worker prints this as one line of JSON; `worker.py` prints the same keys.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// All acknowledged writes, including those of the warm-up and after the end:
    /// the database must have this number of rows of the worker.
    pub(crate) acknowledged: u64,
    /// Writes that ended within the window.
    pub(crate) writes: u64,
    /// Calls that ended after the warm-up and wrote nothing.
    pub(crate) failed: u64,
    /// Latencies of all calls that ended after the warm-up, including failed ones:
    /// nanoseconds, and the number of calls.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// The longest of these latencies, exactly.
    pub(crate) longest: Nanos,
    /// CPU time since the end of the warm-up.
    pub(crate) cpu_time: Nanos,
    /// An error other than "busy".
    pub(crate) error: Option<String>,
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

/// All failed calls.
pub(crate) fn failed(shares: &[Share]) -> u64 {
    shares.iter().map(|share| share.failed).sum()
}

/// The number of rows that the database must have of each worker.
pub(crate) fn acknowledged(shares: &[Share]) -> HashMap<usize, u64> {
    let writes = shares.iter().map(|share| share.acknowledged).enumerate();
    writes.filter(|(_, writes)| *writes > 0).collect()
}
