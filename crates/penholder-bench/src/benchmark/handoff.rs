//! The handoff alone: the time from the release by one process until a waiter that
//! sleeps on another CPU owns the lock, compared with the lowest possible cost of
//! such a wake-up. Also the time until a waiter notices that the holder is dead.

use std::error::Error;
use std::path::PathBuf;
use std::time::Duration;

use serde::Serialize;
use tempfile::TempDir;

use crate::clock::{self, Nanos};
use crate::directory::Directory;
use crate::handoff_lock::LockKind;
use crate::lock_process::LockProcess;
use crate::machine::Machine;
use crate::{report, system, text};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each handoff is measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Write the figures to this file as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    let machine = Machine::here(args.directory.path());
    let (first, second) = system::two_cpus()?;
    // Requests come from the holder's CPU, so that the waiter's CPU stays asleep.
    system::pin(first)?;
    let mut pairs = pairs(&args.directory, (first, second))?;
    // The machine is shared: each round measures every pair once.
    for round in 0..=args.rounds {
        for pair in &mut pairs {
            pair.round(round)?;
        }
    }
    let times: Vec<Times> = pairs.into_iter().map(Pair::times).collect();
    println!("{}", machine.hardware);
    if first == second {
        println!("only one CPU: the waiter sleeps on the holder's");
    }
    print_times(args.rounds, &times);
    print_targets(&times);
    if let Some(path) = &args.json {
        report::write_json(path, &times)?;
    }
    Ok(())
}

fn pairs(directory: &Directory, cpus: (usize, usize)) -> Result<Vec<Pair>, Box<dyn Error>> {
    use LockKind::{Flock, Futex, Penholder, PenholderFifo, Poller};
    let pairs = [
        ("futex", Futex, Futex, End::Release),
        ("blocking flock", Flock, Flock, End::Release),
        ("50 ms poller", Poller, Poller, End::Release),
        ("penholder", Penholder, Penholder, End::Release),
        ("penholder-fifo", PenholderFifo, PenholderFifo, End::Release),
        ("plain flock to penholder", Flock, Penholder, End::Release),
        ("penholder, holder killed", Penholder, Penholder, End::Kill),
    ];
    let start = |(name, holder, waiter, end)| {
        Pair::start(name, (holder, waiter), end, directory.temporary()?, cpus)
    };
    pairs.into_iter().map(start).collect()
}

/// How a hold ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Release,
    Kill,
}

/// A holder and a waiter that takes the lock over from it in every round.
struct Pair {
    name: &'static str,
    kind: LockKind,
    end: End,
    cpu: usize,
    directory: TempDir,
    holder: LockProcess,
    waiter: LockProcess,
    times: Vec<Nanos>,
}

impl Pair {
    fn start(
        name: &'static str,
        (holder, waiter): (LockKind, LockKind),
        end: End,
        directory: TempDir,
        (first, second): (usize, usize),
    ) -> Result<Self, Box<dyn Error>> {
        let path = directory.path().canonicalize()?;
        Ok(Self {
            name,
            kind: holder,
            end,
            cpu: first,
            holder: LockProcess::start(holder, &path, first)?,
            waiter: LockProcess::start(waiter, &path, second)?,
            directory,
            times: Vec::new(),
        })
    }

    fn round(&mut self, round: u32) -> Result<(), Box<dyn Error>> {
        let time = self.once().map_err(|e| format!("{}: {e}", self.name))?;
        // The first round opens the files and does not count.
        if round > 0 {
            self.times.push(time);
        }
        Ok(())
    }

    fn once(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.holder.acquire()?;
        self.waiter.begin_to_acquire()?;
        std::thread::sleep(self.hold());
        let ended = match self.end {
            End::Release => self.holder.release()?,
            End::Kill => self.holder.kill()?,
        };
        let acquired = self.waiter.acquired()?;
        self.waiter.release()?;
        if self.end == End::Kill {
            let directory = self.directory.path().canonicalize()?;
            self.holder = LockProcess::start(self.kind, &directory, self.cpu)?;
        }
        Ok(acquired.saturating_sub(ended))
    }

    /// How long the hold lasts after the waiter has begun to wait: long enough for
    /// the waiter to sleep. The range covers the whole pause of a poller, so that
    /// the release comes at a random point of it.
    fn hold(&self) -> Duration {
        let longest = match self.kind {
            LockKind::Poller => 55_000,
            _ => 10_000,
        };
        Duration::from_micros(fastrand::u64(5_000..=longest))
    }

    fn times(self) -> Times {
        let mut times = self.times;
        times.sort_unstable();
        let percentile = |percent: usize| {
            let index = (times.len() * percent).div_ceil(100).max(1) - 1;
            clock::micros(times.get(index).copied().unwrap_or(0))
        };
        Times {
            name: self.name,
            median_us: percentile(50),
            p95_us: percentile(95),
            worst_us: percentile(100),
        }
    }
}

/// One object of the JSON file.
#[derive(Debug, Serialize)]
struct Times {
    name: &'static str,
    median_us: f64,
    p95_us: f64,
    worst_us: f64,
}

fn print_times(rounds: u32, times: &[Times]) {
    println!(
        "from release (or kill -9) until the waiter, asleep on another CPU, owns the lock, {rounds} rounds\n"
    );
    println!("{:<26} {:>10} {:>10} {:>10}", "", "median", "95%", "worst");
    for row in times {
        println!(
            "{:<26} {:>10} {:>10} {:>10}",
            row.name,
            text::time(row.median_us),
            text::time(row.p95_us),
            text::time(row.worst_us)
        );
    }
    println!();
}

fn print_targets(times: &[Times]) {
    let find = |name: &str| times.iter().find(|row| row.name == name);
    if let Some(futex) = find("futex") {
        for own in ["penholder", "penholder-fifo"].into_iter().filter_map(find) {
            let more = own.median_us - futex.median_us;
            println!(
                "{}: median {more:+.1}us compared with the bare futex (target +10us)",
                own.name
            );
        }
    }
    if let Some(noticed) = find("plain flock to penholder") {
        let median = text::time(noticed.median_us);
        println!("a waiter notices the release of a plain flock in {median}, median (target 2ms)");
    }
    if let Some(killed) = find("penholder, holder killed") {
        let (median, p95) = (text::time(killed.median_us), text::time(killed.p95_us));
        println!("kill -9 of the holder: median {median} (target 2ms), 95% {p95} (target 20ms)");
    }
}
