//! The result of `penholder stress`.

use std::fmt;
use std::process::ExitCode;

use serde::Serialize;

use super::samples::Counted;
use crate::args::Stress;
use crate::failure::FAILED;
use crate::text::micros;

/// The report. The fields are also the keys of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Report {
    processes: u32,
    /// Processes that ended early, or did not answer.
    processes_lost: u32,
    writes_expected: u64,
    rows_found: u64,
    /// Writes that were not acknowledged.
    failed: u64,
    elapsed_s: f64,
    writes_per_s: f64,
    /// From the call to the acknowledgement, in microseconds.
    wait_us: Wait,
    /// Writes per second of the slowest and of the fastest process.
    per_process: Range,
    /// Jain's index over the writes per second of each process: 1 is perfectly fair.
    jain: f64,
    integrity: String,
    #[serde(skip)]
    sync: &'static str,
}

#[derive(Debug, Serialize)]
struct Wait {
    p50: u64,
    p90: u64,
    p99: u64,
    p999: u64,
    max: u64,
}

#[derive(Debug, Serialize)]
struct Range {
    min: f64,
    max: f64,
}

impl Report {
    pub(super) fn new(
        args: &Stress,
        rows_found: u64,
        integrity: String,
        counted: &Counted,
    ) -> Self {
        let writes_expected = match args.amount.writes {
            Some(writes) => u64::from(args.processes) * u64::from(writes),
            None => counted.reported,
        };
        let elapsed_s = counted.elapsed.as_secs_f64();
        let time = |quantile| counted.times.value_at_quantile(quantile);
        let rates = &counted.rates;
        #[expect(clippy::cast_precision_loss, reason = "a rate, for people")]
        let acknowledged = counted.acknowledged as f64;
        Self {
            processes: args.processes,
            processes_lost: counted.lost,
            writes_expected,
            rows_found,
            failed: writes_expected.saturating_sub(counted.acknowledged),
            elapsed_s,
            writes_per_s: acknowledged / elapsed_s,
            wait_us: Wait {
                p50: time(0.5),
                p90: time(0.9),
                p99: time(0.99),
                p999: time(0.999),
                max: counted.times.max(),
            },
            per_process: Range {
                min: rates.iter().copied().reduce(f64::min).unwrap_or(0.0),
                max: rates.iter().copied().reduce(f64::max).unwrap_or(0.0),
            },
            jain: jain(rates),
            integrity,
            sync: args.sync.name(),
        }
    }

    /// Whether every row is there, and the database is sound.
    fn is_whole(&self) -> bool {
        self.processes_lost == 0
            && self.failed == 0
            && self.rows_found == self.writes_expected
            && self.integrity == "ok"
    }

    pub(super) fn exit_code(&self) -> ExitCode {
        if self.is_whole() {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(FAILED)
        }
    }
}

/// (Σx)² / (n Σx²): 1 if all are equal, 1/n if one has everything (Jain, Chiu
/// and Hawe, 1984).
fn jain(rates: &[f64]) -> f64 {
    let sum: f64 = rates.iter().sum();
    let squares: f64 = rates.iter().map(|rate| rate * rate).sum();
    if squares == 0.0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a number of processes")]
    let count = rates.len() as f64;
    sum * sum / (count * squares)
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Wait {
            p50,
            p90,
            p99,
            p999,
            max,
        } = &self.wait_us;
        let failed = match self.failed {
            0 => "none failed".to_owned(),
            failed => format!("{failed} FAILED"),
        };
        writeln!(
            f,
            "{} processes wrote {} of {} rows in {:.2} s, synchronous={}",
            self.processes, self.rows_found, self.writes_expected, self.elapsed_s, self.sync
        )?;
        if self.processes_lost > 0 {
            writeln!(f, "  processes  {} ENDED EARLY", self.processes_lost)?;
        }
        writeln!(
            f,
            "  writes     {failed}, {:.0} per second",
            self.writes_per_s
        )?;
        writeln!(
            f,
            "  each took  p50 {}, p90 {}, p99 {}, p99.9 {}, longest {}",
            micros(*p50),
            micros(*p90),
            micros(*p99),
            micros(*p999),
            micros(*max)
        )?;
        writeln!(
            f,
            "  fairness   {:.3} (Jain), processes at {:.0} to {:.0} writes per second",
            self.jain, self.per_process.min, self.per_process.max
        )?;
        writeln!(f, "  integrity  {}", self.integrity)
    }
}

/// The same work without penholder and with it. The fields are also the keys of `--json`.
#[derive(Debug, Serialize)]
pub(super) struct Comparison {
    pub(super) sqlite: Report,
    pub(super) penholder: Report,
}

impl fmt::Display for Comparison {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { sqlite, penholder } = self;
        write!(f, "plain SQLite: {sqlite}penholder: {penholder}")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fairness_is_one_when_all_are_equal() {
        assert!((jain(&[5.0, 5.0, 5.0]) - 1.0).abs() < 1e-12);
        assert!((jain(&[1.0, 0.0, 0.0, 0.0]) - 0.25).abs() < 1e-12);
        assert!(jain(&[]).abs() < 1e-12);
    }
}
