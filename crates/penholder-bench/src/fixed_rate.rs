//! The role of a process that writes one row at fixed moments, whatever happens to
//! the rows before: a write that comes late waits from the moment it was due.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering::Relaxed};
use std::time::Duration;

use crate::clock;
use crate::peer::writer::{self, Outcome, Setting};
use crate::peer::{Peer, Sync};
use crate::process::{self, Process};
use crate::worker::{self, Share};

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

/// The role itself: it writes from the beginning, counts from `count` on, and on
/// `stop` says its share.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    process::end_with_parent()?;
    let orders = AtomicU8::new(WRITE);
    let share = std::thread::scope(|scope| {
        scope.spawn(|| obey(&orders));
        let share = write(args, &orders);
        // Otherwise the thread would wait for an order.
        if share.is_err() {
            std::process::exit(1);
        }
        share
    })?;
    println!("{}", serde_json::to_string(&share)?);
    Ok(())
}

fn obey(orders: &AtomicU8) {
    for line in std::io::stdin().lock().lines().map_while(Result::ok) {
        match line.as_str() {
            "count" => orders.store(COUNT, Relaxed),
            _ => break,
        }
    }
    orders.store(STOP, Relaxed);
}

fn write(args: &Args, orders: &AtomicU8) -> Result<Share, Box<dyn Error>> {
    let setting = Setting {
        peer: Peer::Penholder,
        sync: Sync::Normal,
        database: args.database.clone(),
        number: args.number,
        patience: Peer::Penholder.patience(),
    };
    let mut write = writer::open(&setting)?;
    let mut share = Share::default();
    let mut latencies = worker::histogram()?;
    let mut output = std::io::stdout();
    writeln!(output, "ready")?;
    output.flush()?;
    // Not all at the same moment.
    let mut due = clock::after(args.every.mul_f64(fastrand::f64()));
    loop {
        std::thread::sleep(clock::left(due));
        let order = orders.load(Relaxed);
        if order == STOP {
            break;
        }
        let outcome = write()?;
        let waited = clock::now() - due;
        due += clock::nanos(args.every);
        if order == COUNT {
            share.writes += 1;
            share.failed += u64::from(outcome == Outcome::Failed);
            share.longest = share.longest.max(waited);
            latencies.saturating_record(waited);
        }
    }
    let recorded = latencies.iter_recorded();
    share.latencies = recorded
        .map(|step| (step.value_iterated_to(), step.count_at_value()))
        .collect();
    Ok(share)
}

/// Such processes, seen from the one that started them.
pub(crate) struct Writers(Vec<Process>);

impl Writers {
    pub(crate) fn start(
        count: u32,
        every: Duration,
        database: &Path,
    ) -> Result<Self, Box<dyn Error>> {
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

    pub(crate) fn count(&mut self) -> Result<(), Box<dyn Error>> {
        self.0
            .iter_mut()
            .try_for_each(|writer| writer.send("count"))
    }

    /// Ends them, and returns what each did since it counts.
    pub(crate) fn stop(mut self) -> Result<Vec<Share>, Box<dyn Error>> {
        for writer in &mut self.0 {
            writer.send("stop")?;
        }
        let deadline = clock::after(Duration::from_secs(60));
        let share = |writer: &mut Process| Ok(serde_json::from_str(&writer.receive(deadline)?)?);
        self.0.iter_mut().map(share).collect()
    }
}
