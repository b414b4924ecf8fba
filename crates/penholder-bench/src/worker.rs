//! The role of one writing process: opens, says `ready`, hears when to start,
//! writes in a closed loop until the end, and says its share of the result as
//! one line of JSON. With `--once` it opens when it is told, and writes one row.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Duration;

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

use crate::clock::{self, Nanos};
use crate::peer::writer::{self, Outcome, Setting};
use crate::peer::{Peer, Sync};
use crate::process;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    peer: Peer,
    #[arg(long)]
    sync: Sync,
    #[arg(long)]
    database: PathBuf,
    #[arg(long)]
    number: u32,
    #[arg(long, value_parser = clock::parse)]
    patience: Duration,
    #[arg(long, value_parser = clock::parse)]
    think: Duration,
    #[arg(long)]
    once: bool,
}

/// The arguments that start a worker; it reads them as [`Args`].
pub(crate) fn arguments(setting: &Setting, think: Duration) -> Vec<String> {
    vec![
        "worker".into(),
        format!("--peer={}", setting.peer),
        format!("--sync={}", setting.sync),
        format!("--database={}", setting.database.display()),
        format!("--number={}", setting.number),
        format!("--patience={}ms", setting.patience.as_millis()),
        format!("--think={}ns", think.as_nanos()),
    ]
}

/// When to start, from when on to count, and when to end.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Window {
    pub(crate) start: Nanos,
    pub(crate) counted: Nanos,
    pub(crate) end: Nanos,
}

impl Window {
    /// The line that a worker waits for.
    pub(crate) fn order(self) -> String {
        format!("{} {} {}", self.start, self.counted, self.end)
    }
}

impl FromStr for Window {
    type Err = Box<dyn Error>;

    fn from_str(line: &str) -> Result<Self, Self::Err> {
        let mut words = line.split_whitespace();
        let mut next = || -> Result<Nanos, Self::Err> {
            Ok(words.next().ok_or("no order to start came")?.parse()?)
        };
        Ok(Self {
            start: next()?,
            counted: next()?,
            end: next()?,
        })
    }
}

/// What one process did. The Python worker says the same.
#[derive(Debug, Default, Serialize, Deserialize)]
pub(crate) struct Share {
    /// Writes acknowledged, those of the warm-up and after the end among them:
    /// so many rows must be there.
    pub(crate) acknowledged: u64,
    /// Writes that ended within the window.
    pub(crate) writes: u64,
    /// Calls that ended after the warm-up and wrote nothing.
    pub(crate) failed: u64,
    /// How long calls took that ended after the warm-up, failed ones among them:
    /// nanoseconds, and how often.
    pub(crate) latencies: Vec<(u64, u64)>,
    /// The longest of them, exactly.
    pub(crate) longest: Nanos,
    /// Processor time from the end of the warm-up on.
    pub(crate) processor: Nanos,
    /// What must not happen, if it did.
    pub(crate) error: Option<String>,
}

pub(crate) fn run(args: Args) -> Result<(), Box<dyn Error>> {
    process::end_with_parent()?;
    let setting = Setting {
        peer: args.peer,
        sync: args.sync,
        database: args.database,
        number: args.number,
        patience: args.patience,
    };
    let share = if args.once {
        once(&setting)?
    } else if setting.peer == Peer::PenholderThreads {
        threaded(&setting, args.think)?
    } else {
        looped(&setting, args.think)?
    };
    say(&serde_json::to_string(&share)?)
}

/// One opening and one write, when all have been started; whatever goes wrong is
/// a failure.
fn once(setting: &Setting) -> Result<Share, Box<dyn Error>> {
    say("ready")?;
    std::thread::sleep(clock::left(order()?.start));
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
        processor: clock::cpu_time(),
        error: outcome.err().map(|error| error.to_string()),
    })
}

fn looped(setting: &Setting, think: Duration) -> Result<Share, Box<dyn Error>> {
    let mut write = writer::open(setting)?;
    say("ready")?;
    repeat(order()?, think, &mut *write)
}

/// Threads of this process.
const THREADS: usize = 8;

/// The same by several threads, counted together.
fn threaded(setting: &Setting, think: Duration) -> Result<Share, Box<dyn Error>> {
    let write = writer::penholder(setting)?;
    say("ready")?;
    let window = order()?;
    let one = || {
        let mut write = || write().map_err(Into::into);
        repeat(window, think, &mut write).map_err(|error| error.to_string())
    };
    let before = clock::cpu_time();
    let shares: Vec<Result<Share, String>> = std::thread::scope(|scope| {
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(one)).collect();
        let died = |_| Err("a thread panicked".to_owned());
        let join =
            |thread: std::thread::ScopedJoinHandle<'_, _>| thread.join().unwrap_or_else(died);
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
    // The warm-up among it: it is the whole process's.
    sum.processor = clock::cpu_time() - before;
    Ok(sum)
}

/// Writes in a closed loop until the end.
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

/// What a worker counts as it goes.
struct Tally {
    share: Share,
    latencies: Histogram<u64>,
    /// Processor time at the end of the warm-up.
    before: Option<Nanos>,
}

impl Tally {
    fn new() -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            share: Share::default(),
            latencies: histogram()?,
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
        self.share.processor = now - self.before.unwrap_or(now);
        let recorded = self.latencies.iter_recorded();
        self.share.latencies = recorded
            .map(|step| (step.value_iterated_to(), step.count_at_value()))
            .collect();
        self.share
    }
}

/// Latencies from a nanosecond to two minutes, to a thousandth.
pub(crate) fn histogram() -> Result<Histogram<u64>, Box<dyn Error>> {
    Ok(Histogram::new_with_bounds(1, 120_000_000_000, 3)?)
}

fn say(line: &str) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

fn order() -> Result<Window, Box<dyn Error>> {
    let mut line = String::new();
    std::io::stdin().lock().read_line(&mut line)?;
    line.parse()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_are_read_as_written() {
        let window = Window {
            start: 1,
            counted: 2,
            end: 3,
        };
        assert_eq!(window.order().parse::<Window>().unwrap(), window);
        assert!("".parse::<Window>().is_err());
        assert!("1 2 x".parse::<Window>().is_err());
    }
}
