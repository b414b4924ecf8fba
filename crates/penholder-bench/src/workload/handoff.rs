//! The hand-off alone: how long from the release of one process until another,
//! asleep on another processor, owns; beside the least that such a wake-up
//! costs. And how long until a dead holder is noticed.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Serialize;

use crate::clock::{self, Nanos};
use crate::handoff_lock::LockKind;
use crate::lock_process::LockProcess;
use crate::machine::Machine;
use crate::{cpu, matrix, report};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each is measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    rounds: u32,
    /// Writes the figures as a JSON array
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Where the lock files go
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    matrix::check_folder(&args.folder)?;
    let machine = Machine::here(&args.folder);
    let (first, second) = cpu::two()?;
    // The orders come from the holder's processor: the heir's is left asleep.
    cpu::pin(first)?;
    let mut relays = relays(&args.folder, (first, second))?;
    // Others use the machine too: all are measured in turns.
    for round in 0..=args.rounds {
        for relay in &mut relays {
            relay.round(round)?;
        }
    }
    let times: Vec<Times> = relays.into_iter().map(Relay::times).collect();
    println!("{}", machine.hardware);
    if first == second {
        println!("only one processor: the heir sleeps on the holder's");
    }
    print(args.rounds, &times);
    if let Some(path) = &args.json {
        report::write_json(path, &times)?;
    }
    Ok(())
}

fn relays(folder: &Path, cpus: (usize, usize)) -> Result<Vec<Relay>, Box<dyn Error>> {
    use LockKind::{Flock, Futex, Penholder, PenholderFifo, Poller};
    let relays = [
        ("futex", Futex, Futex, End::Release),
        ("blocking flock", Flock, Flock, End::Release),
        ("50 ms poller", Poller, Poller, End::Release),
        ("penholder", Penholder, Penholder, End::Release),
        ("penholder-fifo", PenholderFifo, PenholderFifo, End::Release),
        ("plain flock to penholder", Flock, Penholder, End::Release),
        ("penholder, holder killed", Penholder, Penholder, End::Kill),
    ];
    let start = |(name, holder, heir, end)| Relay::start(name, (holder, heir), end, folder, cpus);
    relays.into_iter().map(start).collect()
}

/// How a hold ends.
#[derive(Clone, Copy, PartialEq)]
enum End {
    Release,
    Kill,
}

/// Two processes, one of which takes over from the other again and again.
struct Relay {
    name: &'static str,
    kind: LockKind,
    end: End,
    cpu: usize,
    folder: tempfile::TempDir,
    holder: LockProcess,
    heir: LockProcess,
    times: Vec<Nanos>,
}

impl Relay {
    fn start(
        name: &'static str,
        (holder, heir): (LockKind, LockKind),
        end: End,
        folder: &Path,
        (first, second): (usize, usize),
    ) -> Result<Self, Box<dyn Error>> {
        let folder = tempfile::tempdir_in(folder)?;
        let path = folder.path().canonicalize()?;
        Ok(Self {
            name,
            kind: holder,
            end,
            cpu: first,
            holder: LockProcess::start(holder, &path, first)?,
            heir: LockProcess::start(heir, &path, second)?,
            folder,
            times: Vec::new(),
        })
    }

    fn round(&mut self, round: u32) -> Result<(), Box<dyn Error>> {
        let time = self.once().map_err(|e| format!("{}: {e}", self.name))?;
        // The first opens the files.
        if round > 0 {
            self.times.push(time);
        }
        Ok(())
    }

    fn once(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.holder.take()?;
        self.heir.begin_to_take()?;
        std::thread::sleep(self.asleep());
        let ended = match self.end {
            End::Release => self.holder.release()?,
            End::Kill => self.holder.kill()?,
        };
        let owned = self.heir.taken()?;
        self.heir.release()?;
        if self.end == End::Kill {
            let folder = self.folder.path().canonicalize()?;
            self.holder = LockProcess::start(self.kind, &folder, self.cpu)?;
        }
        Ok(owned.saturating_sub(ended))
    }

    /// How long the heir has been waiting when the hold ends: it is asleep by
    /// then. At a random moment of the poller's pause.
    fn asleep(&self) -> Duration {
        let longest = if self.kind == LockKind::Poller {
            55_000
        } else {
            10_000
        };
        Duration::from_micros(fastrand::u64(5_000..=longest))
    }

    fn times(self) -> Times {
        let mut times = self.times;
        times.sort_unstable();
        let part = |percent: usize| {
            let place = (times.len() * percent).div_ceil(100).max(1) - 1;
            clock::micros(times.get(place).copied().unwrap_or(0))
        };
        Times {
            name: self.name,
            median_us: part(50),
            p95_us: part(95),
            worst_us: part(100),
        }
    }
}

#[derive(Debug, Serialize)]
struct Times {
    name: &'static str,
    median_us: f64,
    p95_us: f64,
    worst_us: f64,
}

fn print(rounds: u32, times: &[Times]) {
    println!(
        "from release (or kill -9) to owned, the heir asleep on another processor, {rounds} rounds\n"
    );
    println!("{:<26} {:>10} {:>10} {:>10}", "", "median", "95%", "worst");
    for row in times {
        println!(
            "{:<26} {:>10} {:>10} {:>10}",
            row.name,
            report::time(row.median_us),
            report::time(row.p95_us),
            report::time(row.worst_us)
        );
    }
    println!();
    let find = |name: &str| times.iter().find(|row| row.name == name);
    if let Some(futex) = find("futex") {
        for own in ["penholder", "penholder-fifo"].into_iter().filter_map(find) {
            let more = own.median_us - futex.median_us;
            println!(
                "{}: median {more:+.1}us beside the bare futex (target +10us)",
                own.name
            );
        }
    }
    if let Some(noticed) = find("plain flock to penholder") {
        let median = report::time(noticed.median_us);
        println!("a plain flock's release is noticed in {median}, median (target 2ms)");
    }
    if let Some(killed) = find("penholder, holder killed") {
        let (median, p95) = (report::time(killed.median_us), report::time(killed.p95_us));
        println!("kill -9 of the holder: median {median} (target 2ms), 95% {p95} (target 20ms)");
    }
}
