//! A worker: one process that writes in a closed loop.
//!
//! It opens the database, prints `ready`, reads the window from its standard input,
//! writes until the end, and prints its share as one line of JSON. With `--once` it
//! opens the database only when the window starts, and writes one row.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::time::Duration;

use hdrhistogram::Histogram;

use crate::clock::{self, Nanos};
use crate::peer::setting::Setting;
use crate::peer::transaction::Outcome;
use crate::peer::{Peer, writer};
use crate::process;
use crate::share::{self, Share};
use crate::synchronous::Synchronous;
use crate::window::Window;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    peer: Peer,
    #[arg(long)]
    sync: Synchronous,
    #[arg(long)]
    database: PathBuf,
    #[arg(long)]
    number: u32,
    #[arg(long, value_parser = clock::parse)]
    timeout: Duration,
    #[arg(long, value_parser = clock::parse)]
    think: Duration,
    #[arg(long)]
    once: bool,
}

/// The arguments that start a worker, which parses them as [`Args`].
pub(crate) fn arguments(setting: &Setting, think: Duration, once: bool) -> Vec<String> {
    let mut arguments = vec![
        "worker".into(),
        format!("--peer={}", setting.peer),
        format!("--sync={}", setting.sync),
        format!("--database={}", setting.database.display()),
        format!("--number={}", setting.number),
        format!("--timeout={}ms", setting.timeout.as_millis()),
        format!("--think={}ns", think.as_nanos()),
    ];
    if once {
        arguments.push("--once".into());
    }
    arguments
}

pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    process::end_with_parent()?;
    let setting = Setting {
        peer: args.peer,
        sync: args.sync,
        database: args.database,
        number: args.number,
        timeout: args.timeout,
    };
    let share = if args.once {
        once(&setting)?
    } else if setting.peer == Peer::PenholderThreads {
        threaded(&setting, args.think)?
    } else {
        looped(&setting, args.think)?
    };
    print_line(&serde_json::to_string(&share)?)
}

/// Opens the database and writes once when the window starts. Every error counts
/// as a failed write.
fn once(setting: &Setting) -> Result<Share, Box<dyn Error>> {
    print_line("ready")?;
    std::thread::sleep(clock::left(read_window()?.start));
    let begun = clock::now();
    let outcome = writer::open(setting).and_then(|mut write| write());
    let longest = clock::now() - begun;
    let written = matches!(outcome, Ok(Outcome::Written));
    Ok(Share {
        acknowledged: written.into(),
        writes: written.into(),
        failed: (!written).into(),
        latencies: vec![(longest, 1)],
        longest,
        cpu_time: clock::cpu_time(),
        error: outcome.err().map(|error| error.to_string()),
    })
}

fn looped(setting: &Setting, think: Duration) -> Result<Share, Box<dyn Error>> {
    let mut write = writer::open(setting)?;
    print_line("ready")?;
    repeat(read_window()?, think, &mut *write)
}

/// Threads of a worker of [`Peer::PenholderThreads`].
const THREADS: usize = 8;

/// Writes from several threads, and counts them together.
fn threaded(setting: &Setting, think: Duration) -> Result<Share, Box<dyn Error>> {
    let write = writer::penholder(setting)?;
    print_line("ready")?;
    let window = read_window()?;
    let one = || {
        let mut write = || write().map_err(Into::into);
        repeat(window, think, &mut write).map_err(|error| error.to_string())
    };
    let before = clock::cpu_time();
    let shares: Vec<Result<Share, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        let panicked = |_| Err("a thread panicked".to_owned());
        let join =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(panicked);
        threads.into_iter().map(join).collect()
    });
    let mut sum = Share::default();
    for share in shares {
        let share = share?;
        sum.acknowledged += share.acknowledged;
        sum.writes += share.writes;
        sum.failed += share.failed;
        sum.latencies.extend(share.latencies);
        sum.longest = sum.longest.max(share.longest);
    }
    // The clock is that of the whole process, so this includes the warm-up.
    sum.cpu_time = clock::cpu_time() - before;
    Ok(sum)
}

/// Writes in a closed loop until the end of the window.
fn repeat(
    window: Window,
    think: Duration,
    write: &mut dyn FnMut() -> Result<Outcome, Box<dyn Error>>,
) -> Result<Share, Box<dyn Error>> {
    let mut tally = Tally::new()?;
    std::thread::sleep(clock::left(window.start));
    loop {
        let begun = clock::now();
        if begun >= window.end {
            return Ok(tally.share());
        }
        let outcome = write()?;
        tally.count(window, begun, outcome);
        if !think.is_zero() {
            std::thread::sleep(think);
        }
    }
}

/// The counts of a worker that is running.
struct Tally {
    share: Share,
    latencies: Histogram<u64>,
    /// CPU time at the end of the warm-up.
    before: Option<Nanos>,
}

impl Tally {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            share: Share::default(),
            latencies: share::histogram()?,
            before: None,
        })
    }

    fn count(&mut self, window: Window, begun: Nanos, outcome: Outcome) {
        let ended = clock::now();
        if outcome == Outcome::Written {
            self.share.acknowledged += 1;
        }
        if ended < window.counted {
            return;
        }
        self.before.get_or_insert_with(clock::cpu_time);
        self.latencies.saturating_record(ended - begun);
        self.share.longest = self.share.longest.max(ended - begun);
        match outcome {
            Outcome::Written if ended <= window.end => self.share.writes += 1,
            Outcome::Written => {}
            Outcome::Failed => self.share.failed += 1,
        }
    }

    fn share(mut self) -> Share {
        let now = clock::cpu_time();
        self.share.cpu_time = now - self.before.unwrap_or(now);
        self.share.latencies = share::latencies(&self.latencies);
        self.share
    }
}

fn print_line(line: &str) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn read_window() -> Result<Window, Box<dyn Error>> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    line.parse()
}
