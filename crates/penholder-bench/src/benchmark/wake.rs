//! Waiting for commits: how soon a process that sleeps learns of one, what it costs the writer that
//! processes wait, and what it costs to wait while nothing happens. Compared with processes that ask
//! for `PRAGMA data_version` every millisecond.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

use penholder::Database;
use rusqlite::Connection;
use tempfile::TempDir;

use crate::clock::{self, Nanos};
use crate::directory::Directory;
use crate::machine::Machine;
use crate::wake_process::{WaitKind, WakeProcess};
use crate::{process, statistics, system, text, turns};

/// How long the processes rest before they are measured: they forget the burst before.
const SETTLE: Duration = Duration::from_millis(300);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How often each wake-up is measured
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    wakes: u32,
    /// Number of rounds in which the writer's rate is measured; the median is reported
    #[arg(long, default_value_t = 11, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rounds: u32,
    /// How long a round takes for each number of processes, in seconds
    #[arg(long, default_value = "1", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// Number of processes that wait, when there are many
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(2..=1000))]
    many: u32,
    #[command(flatten)]
    directory: Directory,
}

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    process::raise_file_limit(args.many)?;
    println!("{}", Machine::here(args.directory.path()).hardware);
    measure_wakes(args)?;
    measure_rest(args)?;
    measure_rates(args)
}

// ---- how soon a process learns of a commit ---------------------------------------

/// Who commits.
enum Writer {
    Penholder(Database),
    Plain(Connection),
}

impl Writer {
    fn open(is_plain: bool, path: &Path) -> Result<Self, Box<dyn Error>> {
        let db = Database::open(path)?;
        db.execute("CREATE TABLE entry(value)", ())?;
        if !is_plain {
            return Ok(Self::Penholder(db));
        }
        drop(db);
        Ok(Self::Plain(Connection::open(path)?))
    }

    fn write(&self) -> Result<(), Box<dyn Error>> {
        let sql = "INSERT INTO entry VALUES (1)";
        match self {
            Self::Penholder(db) => db.execute(sql, ()).map(drop)?,
            Self::Plain(connection) => connection.execute(sql, []).map(drop)?,
        }
        Ok(())
    }
}

/// A writer, and a process that waits for its commits.
struct Pair {
    name: &'static str,
    writer: Writer,
    waiter: WakeProcess,
    times: Vec<Nanos>,
    _directory: TempDir,
}

impl Pair {
    fn round(&mut self) -> Result<(), Box<dyn Error>> {
        self.waiter.begin_to_wait()?;
        // Long enough to sleep, and at any point between two looks.
        thread::sleep(Duration::from_micros(fastrand::u64(5_000..=60_000)));
        self.writer.write()?;
        let committed = clock::now();
        let learned = self.waiter.learned()?;
        self.times.push(learned.saturating_sub(committed));
        Ok(())
    }
}

fn measure_wakes(args: &Args) -> Result<(), Box<dyn Error>> {
    let (first, second) = system::two_cpus()?;
    let pair = |name, kind, is_plain| -> Result<Pair, Box<dyn Error>> {
        let directory = args.directory.temporary()?;
        let path = directory.path().join("wake.db");
        Ok(Pair {
            name,
            writer: Writer::open(is_plain, &path)?,
            waiter: WakeProcess::start(kind, &path, Some(second))?,
            times: Vec::new(),
            _directory: directory,
        })
    };
    let mut pairs = [
        pair("penholder", WaitKind::Penholder, false)?,
        pair("penholder, plain writer", WaitKind::Penholder, true)?,
        pair("data_version each ms", WaitKind::Poller, true)?,
    ];
    let mut measure = || -> Result<(), Box<dyn Error>> {
        system::pin(first)?;
        // The first one opens the files and does not count.
        for round in 0..=args.wakes {
            for pair in &mut pairs {
                pair.round()?;
                if round == 0 {
                    pair.times.clear();
                }
            }
        }
        Ok(())
    };
    // A thread of its own: it stays pinned.
    thread::scope(|scope| {
        let measured = scope.spawn(|| measure().map_err(|error| error.to_string()));
        measured.join().map_err(|_panic| "a thread panicked")?
    })?;
    println!(
        "\nfrom the return of the commit until a process that sleeps on another CPU has returned \
         from its wait, {} times\n",
        args.wakes
    );
    println!("{:<26} {:>10} {:>10} {:>10}", "", "median", "99%", "worst");
    for mut pair in pairs {
        pair.times.sort_unstable();
        let time = |percent: usize| {
            let index = (pair.times.len() * percent).div_ceil(100).max(1) - 1;
            text::time(clock::micros(pair.times[index]))
        };
        let (median, p99, worst) = (time(50), time(99), time(100));
        println!("{:<26} {median:>10} {p99:>10} {worst:>10}", pair.name);
    }
    println!("targets: 100us at the median; 50ms at worst with a plain writer");
    Ok(())
}

// ---- what it costs to wait --------------------------------------------------------

fn measure_rest(args: &Args) -> Result<(), Box<dyn Error>> {
    const REST: Duration = Duration::from_secs(5);
    println!("\nCPU time of all processes that wait while nothing happens, of one CPU\n");
    for kind in [WaitKind::Penholder, WaitKind::Poller] {
        for count in [1, args.many] {
            let mut crowd = Crowd::start(args, kind, count)?;
            for waiter in &mut crowd.waiters {
                waiter.begin_to_rest(REST)?;
            }
            let mut used = 0;
            for waiter in &mut crowd.waiters {
                used += waiter.rested()?;
            }
            let percent = clock::micros(used) / (REST.as_secs_f64() * 1e6) * 100.0;
            let name = format!("{kind}, {}", text::processes(count));
            println!("{name:<26} {percent:>9.2}%");
        }
    }
    Ok(())
}

/// Processes that wait for commits to one database.
struct Crowd {
    db: Database,
    waiters: Vec<WakeProcess>,
    _directory: TempDir,
}

impl Crowd {
    fn start(args: &Args, kind: WaitKind, count: u32) -> Result<Self, Box<dyn Error>> {
        let directory = args.directory.temporary()?;
        let path: PathBuf = directory.path().join("wake.db");
        let db = Database::open(&path)?;
        db.execute("CREATE TABLE entry(value)", ())?;
        let start = |_| WakeProcess::start(kind, &path, None);
        Ok(Self {
            waiters: (0..count).map(start).collect::<Result<_, _>>()?,
            db,
            _directory: directory,
        })
    }
}

// ---- what it costs the writer -------------------------------------------------------

fn measure_rates(args: &Args) -> Result<(), Box<dyn Error>> {
    let cases = [
        ("nobody waits", WaitKind::Penholder, 0),
        ("1 waits", WaitKind::Penholder, 1),
        ("many wait", WaitKind::Penholder, args.many),
        ("1 polls", WaitKind::Poller, 1),
        ("many poll", WaitKind::Poller, args.many),
    ];
    let mut rates = vec![Vec::new(); cases.len()];
    for round in 0..args.rounds as usize {
        for number in turns::order(cases.len(), round) {
            let (_, kind, count) = cases[number];
            rates[number].push(rate(args, kind, count)?);
        }
    }
    println!(
        "\none process writes rows, each in a commit of its own, while processes wait for each \
         commit ({} wait where many do): medians of {} rounds of {:?}, and of the \
         rates compared with nobody's in the same round\n",
        args.many, args.rounds, args.seconds
    );
    println!("{:<26} {:>10} {:>10}", "", "writes/s", "rate");
    for ((name, ..), of_case) in cases.iter().zip(&rates) {
        // Of the same round: the machine is shared.
        let ratios = of_case
            .iter()
            .zip(&rates[0])
            .map(|(rate, alone)| rate / alone);
        let ratio = statistics::median(ratios.collect());
        let median = statistics::median(of_case.clone());
        println!("{name:<26} {median:>10.0} {ratio:>10.3}");
    }
    println!("target: 0.9 with {} that wait", args.many);
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "a number of writes")]
fn rate(args: &Args, kind: WaitKind, count: u32) -> Result<f64, Box<dyn Error>> {
    let mut crowd = Crowd::start(args, kind, count)?;
    for waiter in &mut crowd.waiters {
        waiter.follow()?;
    }
    thread::sleep(SETTLE);
    let (begun, mut writes) = (Instant::now(), 0_u64);
    while begun.elapsed() < args.seconds {
        crowd.db.execute("INSERT INTO entry VALUES (1)", ())?;
        writes += 1;
    }
    Ok(writes as f64 / begun.elapsed().as_secs_f64())
}
