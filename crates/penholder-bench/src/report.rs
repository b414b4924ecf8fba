//! The figures of a comparison as a table on the terminal and as a JSON file.

use std::error::Error;
use std::fs;
use std::path::Path;

use serde::Serialize;

use crate::figures::Figures;
use crate::machine::Machine;
use crate::plan::Plan;
use crate::text;

/// Prints the machine, the method, and a table of all trials.
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

/// Describes in one line how the figures were measured.
pub(crate) fn method(plan: &Plan) -> String {
    let mut text = format!(
        "{}, {} s per trial",
        plan.workload.summary(),
        plan.seconds.as_secs_f64()
    );
    if plan.threads > 1 {
        text += &format!(", {} threads in each process", plan.threads);
    }
    if !plan.closures.is_none() {
        text += &format!(", {} of the processes by closure", plan.closures);
    }
    if plan.runs > 1 {
        text += &format!(", medians of {} runs", plan.runs);
    }
    if !plan.think.is_zero() {
        text += &format!(", {:?} between transactions", plan.think);
    }
    text
}

fn heading(row: &Figures) {
    let processes = text::processes(row.processes);
    println!("\nsynchronous={}, {processes}", row.sync);
    println!(
        "  {:<21} {:>10} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6} {:>15} {:>6} {:>7}  rows",
        "",
        if row.workload.reads() {
            "requests/s"
        } else {
            "writes/s"
        },
        "failed",
        "p50",
        "p99",
        "p99.9",
        "longest",
        "Jain",
        "per process",
        "cpu s",
        "WAL MB"
    );
}

fn line(row: &Figures) {
    let process = format!("{:.0}-{:.0}", row.min, row.max);
    println!(
        "  {:<21} {:>10.0} {:>7} {:>8} {:>8} {:>8} {:>8} {:>6.3} {process:>15} {:>6.1} {:>7.1}  {}",
        row.peer,
        row.rate,
        row.failed,
        text::time(row.p50_us),
        text::time(row.p99_us),
        text::time(row.p999_us),
        text::time(row.max_us),
        row.jain,
        row.cpu_s,
        text::megabytes(row.wal_max_bytes),
        text::rows(row.rows_ok),
    );
    if row.closures > 0 {
        let longest = text::time(row.closures_max_us);
        println!(
            "  {:<21} {longest:>8} was the longest wait of those by closure",
            ""
        );
    }
}

/// Writes figures of any kind to a JSON file.
pub(crate) fn write_json<T: Serialize>(path: &Path, figures: &[T]) -> Result<(), Box<dyn Error>> {
    let text = serde_json::to_string_pretty(figures)? + "\n";
    fs::write(path, text).map_err(|e| format!("write {}: {e}", path.display()).into())
}
