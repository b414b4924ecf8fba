//! The figures of a trial, and their median over several runs.

use std::error::Error;

use serde::Serialize;

use crate::clock;
use crate::peer::{Peer, Sync};
use crate::trial::Trial;
use crate::worker::{self, Share};

/// One object of the JSON file.
#[derive(Debug, Clone, Serialize)]
pub(crate) struct Figures {
    pub(crate) peer: Peer,
    pub(crate) sync: Sync,
    pub(crate) processes: u32,
    pub(crate) think_us: f64,
    /// Writes a second of all processes together.
    pub(crate) rate: f64,
    /// Writes that waited too long; of all runs together.
    pub(crate) failed: u64,
    pub(crate) p50_us: f64,
    pub(crate) p99_us: f64,
    pub(crate) p999_us: f64,
    pub(crate) max_us: f64,
    /// Jain's index over the processes' writes: 1 if all wrote alike.
    pub(crate) jain: f64,
    /// Writes a second of the slowest process, and of the fastest.
    pub(crate) min: f64,
    pub(crate) max: f64,
    /// Whether every acknowledged row was there, and no other, in every run.
    pub(crate) rows_ok: bool,
    /// Processor time of all processes together, while it counted.
    pub(crate) cpu_s: f64,
    /// The largest size of the log, in any run.
    pub(crate) wal_max_bytes: u64,
    pub(crate) runs: usize,
}

impl Figures {
    pub(crate) fn of(
        trial: &Trial,
        shares: &[Share],
        rows_ok: bool,
        wal_max_bytes: u64,
    ) -> Result<Self, Box<dyn Error>> {
        if let Some(error) = shares.iter().find_map(|share| share.error.as_ref()) {
            return Err(error.clone().into());
        }
        let mut latencies = worker::histogram()?;
        for (nanos, times) in shares.iter().flat_map(|share| &share.latencies) {
            latencies.saturating_record_n(*nanos, *times);
        }
        let longest = shares.iter().map(|share| share.longest).max();
        let quantile = |q: f64| clock::micros(latencies.value_at_quantile(q));
        let seconds = trial.seconds.as_secs_f64();
        let rates: Vec<f64> = shares.iter().map(|share| share.rate(seconds)).collect();
        let processor: u64 = shares.iter().map(|share| share.processor).sum();
        Ok(Self {
            peer: trial.peer,
            sync: trial.sync,
            processes: trial.processes,
            think_us: trial.think.as_secs_f64() * 1e6,
            rate: rates.iter().sum(),
            failed: shares.iter().map(|share| share.failed).sum(),
            p50_us: quantile(0.5),
            p99_us: quantile(0.99),
            p999_us: quantile(0.999),
            max_us: clock::micros(longest.unwrap_or(0)),
            jain: jain(&rates),
            min: rates.iter().copied().fold(f64::INFINITY, f64::min),
            max: rates.iter().copied().fold(0.0, f64::max),
            rows_ok,
            cpu_s: clock::micros(processor) / 1e6,
            wal_max_bytes,
            runs: 1,
        })
    }

    /// Each figure's median over the runs of one trial; but what may not happen is
    /// not outvoted: failures add up, one lost row is one too many, the largest
    /// log counts.
    pub(crate) fn median(runs: &[Self]) -> Option<Self> {
        let first = runs.first()?.clone();
        let middle = |figure: fn(&Self) -> f64| {
            let mut values: Vec<f64> = runs.iter().map(figure).collect();
            values.sort_by(f64::total_cmp);
            let upper = values[values.len() / 2];
            let lower = values[(values.len() - 1) / 2];
            f64::midpoint(lower, upper)
        };
        Some(Self {
            rate: middle(|run| run.rate),
            failed: runs.iter().map(|run| run.failed).sum(),
            p50_us: middle(|run| run.p50_us),
            p99_us: middle(|run| run.p99_us),
            p999_us: middle(|run| run.p999_us),
            max_us: middle(|run| run.max_us),
            jain: middle(|run| run.jain),
            min: middle(|run| run.min),
            max: middle(|run| run.max),
            rows_ok: runs.iter().all(|run| run.rows_ok),
            cpu_s: middle(|run| run.cpu_s),
            wal_max_bytes: runs.iter().map(|run| run.wal_max_bytes).max()?,
            runs: runs.len(),
            ..first
        })
    }
}

impl Share {
    #[expect(clippy::cast_precision_loss, reason = "far below 2^53 writes")]
    fn rate(&self, seconds: f64) -> f64 {
        self.writes as f64 / seconds
    }
}

/// Jain's fairness index: (Σx)² / (n Σx²).
#[expect(clippy::cast_precision_loss, reason = "some hundred processes")]
fn jain(values: &[f64]) -> f64 {
    let sum: f64 = values.iter().sum();
    let squares: f64 = values.iter().map(|value| value * value).sum();
    if squares == 0.0 {
        return 1.0;
    }
    sum * sum / (values.len() as f64 * squares)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness() {
        assert!((jain(&[3.0, 3.0, 3.0]) - 1.0).abs() < 1e-9);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-9);
        assert!((jain(&[0.0, 0.0]) - 1.0).abs() < 1e-9);
    }
}
