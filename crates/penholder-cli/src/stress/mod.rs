//! `penholder stress`: many real processes write one database, and the result
//! is checked.

mod report;
mod samples;
mod table;
pub(crate) mod worker;

use std::io::{self, PipeReader};
use std::process::{Child, ChildStdout, Command, ExitCode, Stdio};
use std::thread;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use indicatif::{ProgressBar, ProgressStyle};
use penholder::Database;

use crate::args::Stress;
use crate::failure::{FAILED, Failure, say};
use crate::output;
use report::Report;
use samples::{Counted, Samples};

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
    db.warnings().iter().for_each(say);
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
        // Whoever does not read the report may still ask for the result.
        Ok(_) | Err(Failure::PipeClosed) => Ok(report.exit_code()),
        Err(failure) => Err(failure),
    }
}

/// A process that says nothing for longer than a write may take and this is
/// stuck: its writes count as failed.
const SILENCE: Duration = Duration::from_secs(10);

/// Tells the rows of this run from those of earlier ones.
fn run_number() -> i64 {
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    i64::try_from(now.as_micros()).unwrap_or(i64::MAX)
}

/// Starts the processes, lets them go at once, and counts what they say.
fn write(args: &Stress, run: i64) -> Result<Counted, Failure> {
    // Whoever has this for standard input waits until its other end is closed.
    let (gate, gatekeeper) = io::pipe().map_err(|e| failed("open a pipe", &e))?;
    let mut workers = Workers::start(args, run, &gate)?;
    drop(gate);
    let progress = progress_bar(u64::from(args.processes) * u64::from(args.writes));
    let mut readers: Vec<_> = workers
        .take_outputs()
        .into_iter()
        .map(|output| Samples::new(output, args.timeout.saturating_add(SILENCE)))
        .collect();
    for reader in &mut readers {
        reader.wait_until_ready();
    }
    let begun = Instant::now();
    drop(gatekeeper);
    let mut total = Counted::default();
    thread::scope(|scope| {
        let progress = &progress;
        let threads: Vec<_> = readers
            .into_iter()
            .map(|reader| {
                thread::Builder::new()
                    .stack_size(256 << 10)
                    .spawn_scoped(scope, move || reader.count(begun, progress))
            })
            .collect();
        for thread in threads {
            let thread = thread.map_err(|e| failed("start a thread", &e))?;
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

/// A duration as the workers' command line takes it, nothing lost.
fn exactly(timeout: Duration) -> String {
    format!("{}s {}ns", timeout.as_secs(), timeout.subsec_nanos())
}

fn progress_bar(writes: u64) -> ProgressBar {
    // Drawn on standard error, and only if that is a terminal.
    let bar = ProgressBar::new(writes);
    let style = ProgressStyle::with_template("{bar:40} {pos}/{len} writes  {per_sec}  {eta} left");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.enable_steady_tick(Duration::from_millis(100));
    bar
}

fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::new(
        format!("stress: {what}: {error}: try fewer processes"),
        FAILED,
    )
}

/// The processes. Those whose output has ended end by themselves; one that was
/// given up is killed when this is dropped.
struct Workers {
    children: Vec<Child>,
}

impl Workers {
    fn start(args: &Stress, run: i64, gate: &PipeReader) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| failed("find this program", &e))?;
        let mut workers = Self {
            children: Vec::new(),
        };
        for process in 0..args.processes {
            let gate = gate.try_clone().map_err(|e| failed("open a pipe", &e))?;
            let mut command = Command::new(&program);
            command
                .args(["stress-worker", "--run", &run.to_string()])
                .args(["--process", &process.to_string()])
                .args(["--writes", &args.writes.to_string()])
                .args(["--sync", args.sync.name()])
                .args(["--timeout", &exactly(args.timeout)])
                .stdin(gate)
                .stdout(Stdio::piped());
            if let Some(path) = &args.target.lock_file {
                command.arg("--lock-file").arg(path);
            }
            if args.target.allow_network_fs {
                command.arg("--allow-network-fs");
            }
            command.arg("--").arg(&args.target.db);
            let child = command.spawn().map_err(|e| failed("start a process", &e))?;
            workers.children.push(child);
        }
        Ok(workers)
    }

    fn take_outputs(&mut self) -> Vec<ChildStdout> {
        let outputs = self.children.iter_mut().map(|child| child.stdout.take());
        outputs.flatten().collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}
