//! One run of all processes: they start together, write, and their samples are collected.

use std::thread;
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use super::samples::{Clock, Counted, Samples};
use super::workers::{self, Work, Workers};
use crate::args::Stress;
use crate::failure::Failure;

/// A worker that reports nothing for longer than a write may take plus this time is
/// stuck. Its writes count as failed.
const SILENCE: Duration = Duration::from_secs(10);

/// Starts the processes, lets them write at the same time, and collects their samples.
pub(super) fn run(work: &Work<'_>) -> Result<Counted, Failure> {
    let args = work.args;
    let (mut workers, start_signal) = Workers::start(work)?;
    let progress = progress_bar(args);
    let timeout = args.timeout.saturating_add(SILENCE);
    let outputs = workers.take_outputs().into_iter();
    let mut samples: Vec<_> = outputs
        .map(|output| Samples::new(output, timeout))
        .collect();
    samples.iter_mut().for_each(Samples::wait_until_ready);
    let clock = Clock {
        begun: Instant::now(),
        window: match args.amount.writes {
            Some(_) => None,
            None => Some(args.amount.time),
        },
    };
    drop(start_signal);
    let mut total = count(samples, clock, &progress)?;
    total.elapsed = clock.elapsed();
    progress.finish_and_clear();
    Ok(total)
}

/// Counts the writes of each worker, all at the same time, and adds them up.
fn count(samples: Vec<Samples>, clock: Clock, progress: &ProgressBar) -> Result<Counted, Failure> {
    let mut total = Counted::default();
    thread::scope(|scope| {
        let threads: Vec<_> = samples
            .into_iter()
            .map(|samples| {
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || samples.count(clock, progress))
            })
            .collect();
        for thread in threads {
            let thread = thread.map_err(|e| workers::failed("start a thread", &e))?;
            if let Ok(counted) = thread.join() {
                total.add(&counted);
            }
        }
        Ok(total)
    })
}

/// Drawn on standard error, and only if that is a terminal.
fn progress_bar(args: &Stress) -> ProgressBar {
    let (bar, template) = match args.amount.writes {
        Some(writes) => (
            ProgressBar::new(u64::from(args.processes) * u64::from(writes)),
            "{bar:40} {pos}/{len} writes  {per_sec}  {eta} left",
        ),
        None => (
            ProgressBar::no_length(),
            "{pos} writes  {per_sec}  {elapsed}",
        ),
    };
    let style = ProgressStyle::with_template(template);
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}
