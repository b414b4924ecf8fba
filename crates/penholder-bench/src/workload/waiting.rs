//! What waiting costs: processes that wait behind one long hold, and the processor
//! time that they use meanwhile.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::handoff_lock::LockKind;
use crate::lock_process::LockProcess;
use crate::machine::Machine;
use crate::process;
use crate::{cpu, matrix};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many processes wait
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1000))]
    waiters: u32,
    /// How long they wait, in seconds
    #[arg(long, default_value = "10", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// Where the lock files go
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    matrix::check_folder(&args.folder)?;
    process::make_room(args.waiters + 1)?;
    println!("{}", Machine::here(&args.folder).hardware);
    println!(
        "{} processes wait behind a hold of {:?}; of one processor they use together\n",
        args.waiters, args.seconds
    );
    for kind in [LockKind::Flock, LockKind::Poller, LockKind::Penholder] {
        let used = clock::micros(measure(args, kind)?);
        let percent = used / args.seconds.as_secs_f64() / 10_000.0;
        let target = match kind {
            LockKind::Penholder => " (target 3%)",
            _ => "",
        };
        println!("{:<20} {percent:.2}%{target}", kind.name());
    }
    Ok(())
}

fn measure(args: &Args, kind: LockKind) -> Result<Nanos, Box<dyn Error>> {
    let folder = tempfile::tempdir_in(&args.folder)?;
    let folder = folder.path().canonicalize()?;
    let (first, second) = cpu::two()?;
    let mut holder = LockProcess::start(kind, &folder, first)?;
    holder.take()?;
    let mut waiters = waiters(args.waiters, kind, &folder, (first, second))?;
    // What it took to start and to get in line is not counted.
    let mut before = 0;
    for waiter in &mut waiters {
        before += waiter.processor()?;
        waiter.begin_to_pass()?;
    }
    std::thread::sleep(args.seconds);
    holder.release()?;
    let mut after = 0;
    for waiter in &mut waiters {
        waiter.taken()?;
        after += waiter.processor()?;
    }
    Ok(after.saturating_sub(before))
}

fn waiters(
    count: u32,
    kind: LockKind,
    folder: &Path,
    (first, second): (usize, usize),
) -> Result<Vec<LockProcess>, Box<dyn Error>> {
    (0..count)
        .map(|number| {
            let cpu = if number % 2 == 0 { second } else { first };
            LockProcess::start(kind, folder, cpu)
        })
        .collect()
}
