//! `penholder stress`: many processes write to one database, and the result is checked.

mod report;
mod sample;
mod samples;
mod table;
pub(crate) mod worker;
mod workers;

use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use penholder::Database;

use crate::args::Stress;
use crate::failure::{Failure, say_warnings};
use crate::output;
use report::Report;
use samples::{Counted, Samples};
use workers::Workers;

pub(crate) fn run(args: &Stress) -> Result<ExitCode, Failure> {
    let options = args
        .target
        .options()
        .timeout(args.timeout)
        .synchronous(args.sync.into());
    if !args.force {
        table::refuse_foreign(&args.target)?;
    }
    let db = options.label("stress").open(&args.target.db)?;
    say_warnings(&db);
    table::create(&db)?;
    let run = run_number();
    let counted = write(args, run)?;
    let report = check(args, &db, run, &counted)?;
    let printed = if args.json {
        output::print_json(&report)
    } else {
        output::print(report.to_string().as_bytes())
    };
    match printed {
        // Without a reader for the report, the exit code still tells the result.
        Ok(_) | Err(Failure::PipeClosed) => Ok(report.exit_code()),
        Err(failure) => Err(failure),
    }
}

/// A worker that reports nothing for longer than a write may take plus this time is
/// stuck. Its writes count as failed.
const SILENCE: Duration = Duration::from_secs(10);

/// Distinguishes the rows of this run from those of earlier ones.
fn run_number() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Starts the processes, lets them write at the same time, and collects their samples.
fn write(args: &Stress, run: i64) -> Result<Counted, Failure> {
    let (mut workers, start_signal) = Workers::start(args, run)?;
    let progress = progress_bar(u64::from(args.processes) * u64::from(args.writes));
    let timeout = args.timeout.saturating_add(SILENCE);
    let outputs = workers.take_outputs().into_iter();
    let mut samples: Vec<_> = outputs
        .map(|output| Samples::new(output, timeout))
        .collect();
    samples.iter_mut().for_each(Samples::wait_until_ready);
    let begun = Instant::now();
    drop(start_signal);
    let mut total = Counted::default();
    thread::scope(|scope| {
        let progress = &progress;
        let threads: Vec<_> = samples
            .into_iter()
            .map(|samples| {
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || samples.count(begun, progress))
            })
            .collect();
        for thread in threads {
            let thread = thread.map_err(|e| workers::failed("start a thread", &e))?;
            if let Ok(counted) = thread.join() {
                total.add(&counted);
            }
        }
        Ok::<_, Failure>(())
    })?;
    total.elapsed = begun.elapsed();
    progress.finish_and_clear();
    Ok(total)
}

fn check(args: &Stress, db: &Database, run: i64, counted: &Counted) -> Result<Report, Failure> {
    let rows_found = table::count(db, run)?.unsigned_abs();
    let integrity = table::integrity(db)?;
    Ok(Report::new(args, rows_found, integrity, counted))
}

fn progress_bar(writes: u64) -> ProgressBar {
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(writes);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} writes  {per_sec}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
