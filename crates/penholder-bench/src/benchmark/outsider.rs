//! The waits of an outsider, one writer that uses SQLite alone, while penholder's
//! processes write, compared with its waits while other processes write with SQLite
//! alone.
//!
//! When a trial ends, the others stop, so no wait lasts much longer than the trial.

use std::error::Error;
use std::time::Duration;

use crate::clock;
use crate::company::Reads;
use crate::scene::Scene;
use crate::scene::figures::{self, Figures};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// About how long the outsider pauses between its writes
    #[arg(long, value_name = "TIME", default_value = "20ms", value_parser = clock::parse)]
    every: Duration,
    #[command(flatten)]
    scene: Scene,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    args.scene.print_head();
    println!(
        "an outsider writes about every {:?}: BEGIN IMMEDIATE, busy_timeout 5 s\n",
        args.every
    );
    let all = args.scene.measure(Some(args.every), &[Reads::Sqlite])?;
    figures::print_table(&all, "the outsider's waits next to", |row| row.outsider);
    figures::print_table(&all, "reads meanwhile", |row| row.reading);
    for row in &all {
        if let Some(plain) = figures::plain_writers(&all, row) {
            print_ratios(row, plain);
        }
    }
    Ok(())
}

/// Compares with the waits among plain writers.
fn print_ratios(row: &Figures, plain: &Figures) {
    let (Some(waits), Some(others)) = (row.outsider, plain.outsider) else {
        return;
    };
    println!(
        "{}/{}: the outsider's wait p50 {:.2} (target 1.00), p90 {:.2}, p99 {:.2} (target 1.00), \
         longest {:.2}, failed {} and {}; rate {:.2} (target 1.00)",
        row.name(),
        plain.name(),
        waits.p50_us / others.p50_us,
        waits.p90_us / others.p90_us,
        waits.p99_us / others.p99_us,
        waits.max_us / others.max_us,
        waits.failed,
        others.failed,
        row.writing.rate / plain.writing.rate
    );
}
