//! The figures of a trial, and their median over several runs.

use std::error::Error;

use serde::Serialize;

use crate::clock::{self, Nanos};
use crate::closed_loop::Measurement;
use crate::closures::Closures;
use crate::peer::Peer;
use crate::share::{self, Share};
use crate::statistics;
use crate::synchronous::Synchronous;
use crate::trial::Trial;
use crate::workload::Workload;

/// One object of the JSON file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) peer: Peer,
    pub(crate) workload: Workload,
    pub(crate) sync: Synchronous,
    pub(crate) processes: u32,
    /// Threads in each process.
    pub(crate) threads: u32,
    pub(crate) think_us: f64,
    /// Writes per second of all processes together; with a workload that reads, its
    /// reads count too.
    pub(crate) rate: f64,
    /// Requests that waited too long, in all runs together.
    pub(crate) failed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// How many percent of the processes write by closure, and their longest wait.
    pub(crate) closures: u32,
    pub(crate) closures_max_us: f64,
    /// Jain's index over the rates of the processes: 1 if all are equal.
    pub(crate) jain: f64,
    /// The rate of the slowest process, and of the fastest.
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Whether the database was intact and had every acknowledged write, and no other,
    /// in every run.
    pub(crate) rows_ok: bool,
    /// CPU time of all processes together, in seconds, after the warm-up.
    pub(crate) cpu_s: f64,
    /// The largest size of the WAL, in any run.
    pub(crate) wal_max_bytes: u64,
    pub(crate) runs: usize,
}

/// The longest wait of the writers that write by closure; zero if there are none.
fn longest_of(shares: &[Share], closures: Closures) -> Nanos {
    let writers = (0..).zip(shares);
    let by_closure = writers.filter(|(number, _)| closures.includes(*number));
    by_closure
        .map(|(_, share)| share.longest)
        .max()
        .unwrap_or(0)
}

impl Figures {
    pub(crate) fn of(trial: &Trial, measurement: &Measurement) -> Result<Self, Box<dyn Error>> {
        let shares = &measurement.writers;
        let latencies = share::merged_latencies(shares)?;
        let quantile = |q: f64| clock::micros(latencies.value_at_quantile(q));
        let rates = share::rates(shares, trial.seconds);
        let cpu_time: u64 = shares.iter().map(|share| share.cpu_time).sum();
        Ok(Self {
            peer: trial.peer,
            workload: trial.workload,
            sync: trial.sync,
            processes: trial.processes,
            threads: trial.threads,
            think_us: trial.think.as_secs_f64() * 1e6,
            rate: rates.iter().sum(),
            failed: share::failed(shares),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: clock::micros(share::longest(shares)),
            closures: trial.closures.percent(),
            closures_max_us: clock::micros(longest_of(shares, trial.closures)),
            jain: statistics::jain(&rates),
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            rows_ok: measurement.rows_ok,
            cpu_s: clock::micros(cpu_time) / 1e6,
            wal_max_bytes: measurement.wal_max_bytes,
            runs: 1,
        })
    }

    /// Returns the median of each figure over the runs of one trial. A median must
    /// not hide failures, so these add up, one run with wrong rows makes the result
    /// wrong, and the largest WAL counts.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let first = runs.first()?.clone();
        let median =
            |figure: fn(&Self) -> f64| statistics::median(runs.iter().map(figure).collect());
        Some(Self {
            rate: median(|run| run.rate),
            failed: runs.iter().map(|run| run.failed).sum(),
            p50_us: median(|run| run.p50_us),
            p99_us: median(|run| run.p99_us),
            p999_us: median(|run| run.p999_us),
            max_us: median(|run| run.max_us),
            closures_max_us: median(|run| run.closures_max_us),
            jain: median(|run| run.jain),
            min: median(|run| run.min),
            max: median(|run| run.max),
            rows_ok: runs.iter().all(|run| run.rows_ok),
            cpu_s: median(|run| run.cpu_s),
            wal_max_bytes: runs.iter().map(|run| run.wal_max_bytes).max()?,
            runs: runs.len(),
            ..first
        })
    }
}
