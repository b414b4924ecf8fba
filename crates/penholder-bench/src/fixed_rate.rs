//! Processes that write one row at fixed times, even if earlier writes were late.
//! The wait of a write counts from the time at which it was due, so a long hold
//! shows in the latency of every write that it delays.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;
use crate::pause::Pause;
use crate::peer::Peer;
use crate::peer::access::Access;
use crate::peer::client::Outcome;
use crate::peer::setting::Setting;
use crate::process::{self, Process};
use crate::share::{self, Share};
use crate::synchronous::Synchronous;
use crate::system;
use crate::task::Task;
use crate::workload::Workload;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    database: PathBuf,
    #[arg(long)]
    number: u32,
    #[arg(long, value_parser = clock::parse)]
    every: Duration,
}

const WRITE: u8 = 0;
const COUNT: u8 = 1;
const STOP: u8 = 2;

/// Writes from the beginning, counts after the line `count`, and prints its share
/// after the line `stop`.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    system::end_with_parent()?;
    let phase = AtomicU8::new(WRITE);
    let share = std::thread::scope(|scope| {
        scope.spawn(|| read_phase(&phase));
        let share = write(args, &phase);
        // The scope would wait for the thread, which waits for a line.
        if share.is_err() {
            std::process::exit(1);
        }
        share
    })?;
    println!("{}", serde_json::to_string(&share)?);
    Ok(())
}

fn read_phase(phase: &AtomicU8) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "count" => phase.store(COUNT, Relaxed),
            _ => break,
        }
    }
    phase.store(STOP, Relaxed);
}

fn write(args: &Args, phase: &AtomicU8) -> Result<Share, Box<dyn Error>> {
    let workload = Workload::Insert;
    let setting = Setting {
        peer: Peer::Penholder,
        task: Task::Workload(workload),
        sync: Synchronous::Normal,
        database: args.database.clone(),
        number: args.number,
        threads: 1,
        timeout: Peer::Penholder.timeout(),
        pause: Pause::exactly(args.every),
        by_closure: false,
        once: false,
    };
    let mut client = Access::open(&setting)?.client()?;
    let mut requests = workload.requests(args.number);
    let mut share = Share::default();
    let mut latencies = share::histogram()?;
    let mut output = std::io::stdout();
    writeln!(output, "ready")?;
    output.flush()?;
    // A random offset keeps the processes from all writing at the same time.
    let mut due = clock::after(args.every.mul_f64(fastrand::f64()));
    loop {
        std::thread::sleep(clock::left(due));
        let phase = phase.load(Relaxed);
        if phase == STOP {
            break;
        }
        let outcome = requests.send(&mut *client)?;
        let waited = clock::now() - due;
        due += clock::nanos(args.every);
        if phase == COUNT {
            share.done += 1;
            share.failed += u64::from(outcome == Outcome::Failed);
            share.longest = share.longest.max(waited);
            latencies.saturating_record(waited);
        }
    }
    share.latencies = share::latencies(&latencies);
    Ok(share)
}

/// Such processes, from the side of the process that started them.
pub(crate) struct Writers(Vec<Process>);

impl Writers {
    pub(crate) fn start(
        count: u32,
        every: Duration,
        database: &Path,
    ) -> Result<Self, Box<dyn Error>> {
        process::raise_file_limit(count)?;
        let start = |number| {
            let mut writer = Process::of_this_program(&[
                "fixed-rate".into(),
                format!("--database={}", database.display()),
                format!("--number={number}"),
                format!("--every={}ns", every.as_nanos()),
            ])?;
            writer.receive(clock::after(Duration::from_secs(20)))?;
            Ok(writer)
        };
        (0..count).map(start).collect::<Result<_, _>>().map(Self)
    }

    /// Makes them count from now on.
    pub(crate) fn count(&mut self) -> Result<(), Box<dyn Error>> {
        self.0
            .iter_mut()
            .try_for_each(|writer| writer.send("count"))
    }

    /// Stops them, and returns what each wrote since it began to count.
    pub(crate) fn stop(mut self) -> Result<Vec<Share>, Box<dyn Error>> {
        for writer in &mut self.0 {
            writer.send("stop")?;
        }
        let deadline = clock::after(Duration::from_secs(60));
        let share = |writer: &mut Process| Ok(serde_json::from_str(&writer.receive(deadline)?)?);
        self.0.iter_mut().map(share).collect()
    }
}
