//! The cost of waiting: the CPU time that processes use while they wait behind one
//! long hold.

use std::error::Error;
use std::path::Path;
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::directory::Directory;
use crate::handoff_lock::LockKind;
use crate::lock_process::LockProcess;
use crate::machine::Machine;
use crate::{process, system};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Number of processes that wait
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    waiters: u32,
    /// How long they wait, in seconds
    #[arg(long, default_value = "10", value_parser = clock::parse_seconds)]
    seconds: Duration,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    process::raise_file_limit(args.waiters + 1)?;
    println!("{}", Machine::here(args.directory.path()).hardware);
    println!(
        "{} processes wait behind a hold of {:?}; their total CPU time as a share of one CPU:\n",
        args.waiters, args.seconds
    );
    for kind in [LockKind::Flock, LockKind::Poller, LockKind::Penholder] {
        let used = clock::micros(measure(args, kind)?);
        let percent = used / args.seconds.as_secs_f64() / 10_000.0;
        let target = match kind {
            LockKind::Penholder => " (target 3%)",
            _ => "",
        };
        println!("{kind:<20} {percent:.2}%{target}");
    }
    Ok(())
}

fn measure(args: &Args, kind: LockKind) -> Result<Nanos, Box<dyn Error>> {
    let directory = args.directory.temporary()?;
    let directory = directory.path().canonicalize()?;
    let (first, second) = system::two_cpus()?;
    let mut holder = LockProcess::start(kind, &directory, first)?;
    holder.acquire()?;
    let mut waiters = waiters(args.waiters, kind, &directory, (first, second))?;
    // The cost of starting and of joining the queue does not count.
    let mut before = 0;
    for waiter in &mut waiters {
        before += waiter.cpu_time()?;
        waiter.begin_to_pass()?;
    }
    std::thread::sleep(args.seconds);
    holder.release()?;
    let mut after = 0;
    for waiter in &mut waiters {
        waiter.acquired()?;
        after += waiter.cpu_time()?;
    }
    Ok(after.saturating_sub(before))
}

fn waiters(
    count: u32,
    kind: LockKind,
    directory: &Path,
    (first, second): (usize, usize),
) -> Result<Vec<LockProcess>, Box<dyn Error>> {
    (0..count)
        .map(|number| {
            let cpu = if number % 2 == 0 { second } else { first };
            LockProcess::start(kind, directory, cpu)
        })
        .collect()
}
