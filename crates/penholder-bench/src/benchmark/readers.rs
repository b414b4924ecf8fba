//! Readers while penholder's processes write, compared with readers while processes
//! write with SQLite alone.

use std::error::Error;

use crate::company::Reads;
use crate::scene::Scene;
use crate::scene::figures::{self, Figures};

#[derive(clap::Args)]
#[command(mut_arg("readers", |arg| {
    arg.default_value("2").value_parser(clap::value_parser!(u32).range(1..=1_000))
}))]
pub(crate) struct Args {
    /// How the readers read, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "sqlite")]
    reads: Vec<Reads>,
    #[command(flatten)]
    scene: Scene,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    args.scene.print_head();
    let all = args.scene.measure(None, &args.reads)?;
    figures::print_table(&all, "reads while these write", |row| row.reading);
    for row in &all {
        if let Some(plain) = figures::plain_writers(&all, row) {
            print_ratios(row, plain, [" (target 0.95)", " (target 1.20)"]);
        }
        if let Some(plain) = figures::plain_readers(&all, row) {
            print_ratios(row, plain, ["", ""]);
        }
    }
    Ok(())
}

/// Compares with other writers or with other readers.
fn print_ratios(row: &Figures, other: &Figures, [rate, p99]: [&str; 2]) {
    let (Some(waits), Some(others)) = (row.reading, other.reading) else {
        return;
    };
    println!(
        "{} / {}: reads per second {:.2}{rate}, p99 {:.2}{p99}, longest {:.2}, \
         failed {} and {}; writes per second {:.2}",
        row.name(),
        other.name(),
        waits.rate / others.rate,
        waits.p99_us / others.p99_us,
        waits.max_us / others.max_us,
        waits.failed,
        others.failed,
        row.writing.rate / other.writing.rate
    );
}
