//! The figures as a table on the terminal and as a JSON file.

use std::error::Error;
use std::fs;
use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use crate::figures::Figures;
use crate::machine::Machine;
use crate::matrix::Plan;

/// The machine, how it was measured, and a table of all trials.
pub(crate) fn print(machine: &Machine, plan: &Plan, figures: &[Figures]) {
    println!("{}", machine.hardware);
    println!("{}", machine.software);
    println!("{}", method(plan));
    let mut group = None;
    for row in figures {
        if group != Some((row.sync, row.processes)) {
            group = Some((row.sync, row.processes));
            heading(row);
        }
        line(row);
    }
}

/// How it was measured, in a line.
pub(crate) fn method(plan: &Plan) -> String {
    let mut text = format!(
        "one row a transaction, {} s a trial",
        plan.seconds.as_secs_f64()
    );
    if plan.runs > 1 {
        text += &format!(", medians of {} runs", plan.runs);
    }
    if !plan.think.is_zero() {
        text += &format!(", {:?} between writes", plan.think);
    }
    text
}

fn heading(row: &Figures) {
    let several = if row.processes == 1 {
        "process"
    } else {
        "processes"
    };
    println!("\nsynchronous={}, {} {several}", row.sync, row.processes);
    println!(
        "  {:<21} {:>9} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6} {:>15} {:>6} {:>7}  rows",
        "",
        "writes/s",
        "failed",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "Jain",
        "per process",
        "cpu s",
        "log MB"
    );
}

fn line(row: &Figures) {
    let process = format!("{:.0}-{:.0}", row.min, row.max);
    println!(
        "  {:<21} {:>9.0} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6.3} {process:>15} {:>6.1} {:>7.1}  {}",
        row.peer,
        row.rate,
        row.failed,
        time(row.p50_us),
        time(row.p99_us),
        time(row.p999_us),
        time(row.max_us),
        row.jain,
        row.cpu_s,
        megabytes(row.wal_max_bytes),
        if row.rows_ok { "ok" } else { "WRONG" },
    );
}

#[expect(
    clippy::cast_precision_loss,
    reason = "rounded to a tenth of a megabyte"
)]
pub(crate) fn megabytes(bytes: u64) -> f64 {
    bytes as f64 / 1e6
}

/// Microseconds to two or three digits, with a unit: `8.3us`, `12ms`, `1.5s`.
pub(crate) fn time(micros: f64) -> String {
    let (value, unit) = match micros {
        value if value < 1e3 => (value, "us"),
        value if value < 1e6 => (value / 1e3, "ms"),
        value => (value / 1e6, "s"),
    };
    if value < 9.95 {
        format!("{value:.1}{unit}")
    } else {
        format!("{value:.0}{unit}")
    }
}

/// A duration in the same way.
pub(crate) fn duration(duration: Duration) -> String {
    time(duration.as_secs_f64() * 1e6)
}

pub(crate) fn write_json<T: Serialize>(path: &Path, figures: &[T]) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(path, text).map_err(|e| format!("write {}: {e}", path.display()).into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_have_two_or_three_digits() {
        assert_eq!(time(8.34), "8.3us");
        assert_eq!(time(140.2), "140us");
        assert_eq!(time(12_345.0), "12ms");
        assert_eq!(time(1_500_000.0), "1.5s");
        assert_eq!(duration(Duration::from_millis(79)), "79ms");
    }
}
