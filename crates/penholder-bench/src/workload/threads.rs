//! Threads of one process that write one database, one row a transaction.

use std::error::Error;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use crate::clock;
use crate::peer::Sync;
use crate::peer::writer::{self, INSERT, TEXT};
use crate::text;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How many threads write at once; several numbers with commas between
    #[arg(long, value_delimiter = ',', default_value = "1,8,32", value_parser = clap::value_parser!(u32).range(1..=1_000))]
    threads: Vec<u32>,
    /// What a commit waits for
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal,full")]
    sync: Vec<Sync>,
    /// Who is compared
    #[arg(
        long,
        value_delimiter = ',',
        default_value = "penholder,penholder-write,penholder-off,mutex,mutex-autocommit"
    )]
    peers: Vec<Way>,
    /// Seconds a trial
    #[arg(long, default_value = "4", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// Runs in turns; medians count
    #[arg(long, default_value_t = 5)]
    runs: usize,
    /// Where the database is made: the file system decides the figures
    #[arg(long, default_value = ".")]
    folder: PathBuf,
}

/// How the threads of a process share a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Way {
    /// `Database::execute`, as it comes.
    Penholder,
    /// `Database::write` with a closure.
    PenholderWrite,
    /// `Database::execute` without group commit.
    PenholderOff,
    /// One mutex around one connection: BEGIN IMMEDIATE, INSERT, COMMIT, prepared.
    Mutex,
    /// The same with a prepared INSERT alone.
    MutexAutocommit,
}

impl Way {
    const ALL: [Self; 5] = [
        Self::Penholder,
        Self::PenholderWrite,
        Self::PenholderOff,
        Self::Mutex,
        Self::MutexAutocommit,
    ];

    fn name(self) -> &'static str {
        match self {
            Self::Penholder => "penholder",
            Self::PenholderWrite => "penholder-write",
            Self::PenholderOff => "penholder-off",
            Self::Mutex => "mutex",
            Self::MutexAutocommit => "mutex-autocommit",
        }
    }
}

impl FromStr for Way {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let found = Self::ALL.into_iter().find(|way| way.name() == text);
        found.ok_or_else(|| format!("one of {}", Self::ALL.map(Self::name).join(", ")))
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// What came of one trial.
#[derive(Debug, Clone, Copy)]
struct Figure {
    rate: f64,
    longest: f64,
    jain: f64,
    failed: u64,
    rows_ok: bool,
}

/// What one thread did.
struct Share {
    written: u64,
    failed: u64,
    longest: Duration,
}

type Failure = Box<dyn Error + Send + std::marker::Sync>;
type Write = Arc<dyn Fn(u32) -> Result<bool, Failure> + Send + std::marker::Sync>;

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    println!(
        "threads of one process, one row a transaction, {} s a trial, medians of {} runs",
        args.seconds.as_secs_f64(),
        args.runs
    );
    for sync in &args.sync {
        for threads in &args.threads {
            trial(args, *sync, *threads)?;
        }
    }
    Ok(())
}

fn trial(args: &Args, sync: Sync, threads: u32) -> Result<(), Box<dyn Error>> {
    let mut figures = vec![Vec::new(); args.peers.len()];
    for run in 0..args.runs {
        let mut order: Vec<usize> = (0..args.peers.len()).collect();
        if run % 2 == 1 {
            order.reverse();
        }
        for number in order {
            figures[number].push(measure(args, args.peers[number], sync, threads)?);
        }
    }
    println!("\nsynchronous={sync}, {threads} threads");
    println!(
        "  {:<18} {:>9} {:>8} {:>7} {:>9} {:>6}  rows",
        "", "writes/s", "times", "failed", "longest", "Jain"
    );
    let base = args.peers.iter().position(|way| *way == Way::Mutex);
    let base = base.map(|at| median(&figures[at], |one| one.rate));
    for (way, runs) in args.peers.iter().zip(&figures) {
        let rate = median(runs, |one| one.rate);
        let times = base.map_or(String::new(), |base| format!("{:.2}", rate / base));
        let failed: u64 = runs.iter().map(|one| one.failed).sum();
        println!(
            "  {:<18} {rate:>9.0} {times:>8} {failed:>7} {:>9} {:>6.3}  {}",
            way.name(),
            text::time(median(runs, |one| one.longest)),
            median(runs, |one| one.jain),
            text::rows(runs.iter().all(|one| one.rows_ok)),
        );
    }
    Ok(())
}

fn median(runs: &[Figure], of: impl Fn(&Figure) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(of).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn measure(args: &Args, way: Way, sync: Sync, threads: u32) -> Result<Figure, Box<dyn Error>> {
    let folder = tempfile::Builder::new()
        .prefix("penholder-bench-")
        .tempdir_in(&args.folder)?;
    let database = folder.path().join("threads.db");
    writer::create(&database)?;
    let write = open(way, &database, sync)?;
    let begin = Arc::new(Barrier::new(threads as usize));
    let shares: Vec<_> = (0..threads)
        .map(|number| {
            let (write, begin, seconds) = (Arc::clone(&write), Arc::clone(&begin), args.seconds);
            thread::spawn(move || {
                begin.wait();
                share(number, seconds, &*write)
            })
        })
        .collect();
    let mut done = Vec::new();
    for share in shares {
        let share = share.join().map_err(|_| "a thread panicked")?;
        done.push(share.map_err(|e| e.to_string())?);
    }
    drop(write);
    figure(&database, &done, args.seconds)
}

fn share(
    number: u32,
    seconds: Duration,
    write: &(dyn Fn(u32) -> Result<bool, Failure> + Send + std::marker::Sync),
) -> Result<Share, Failure> {
    let mut share = Share {
        written: 0,
        failed: 0,
        longest: Duration::ZERO,
    };
    let begun = Instant::now();
    let mut last = Duration::ZERO;
    while last < seconds {
        if write(number)? {
            share.written += 1;
        } else {
            share.failed += 1;
        }
        let now = begun.elapsed();
        share.longest = share.longest.max(now - last);
        last = now;
    }
    Ok(share)
}

#[expect(clippy::cast_precision_loss, reason = "rounded to be read")]
fn figure(database: &Path, shares: &[Share], seconds: Duration) -> Result<Figure, Box<dyn Error>> {
    let written: u64 = shares.iter().map(|share| share.written).sum();
    let rows: u64 = Connection::open(database)?.query_row("SELECT count(*) FROM t", [], |row| {
        row.get::<_, i64>(0).map(i64::unsigned_abs)
    })?;
    let squares: f64 = shares.iter().map(|one| (one.written as f64).powi(2)).sum();
    let longest = shares.iter().map(|share| share.longest).max();
    Ok(Figure {
        rate: written as f64 / seconds.as_secs_f64(),
        longest: longest.unwrap_or_default().as_secs_f64() * 1e6,
        jain: (written as f64).powi(2) / (shares.len() as f64 * squares),
        failed: shares.iter().map(|share| share.failed).sum(),
        rows_ok: rows == written,
    })
}

/// Opens the database; what it returns writes one row a call, from any thread.
fn open(way: Way, database: &Path, sync: Sync) -> Result<Write, Box<dyn Error>> {
    let patience = Duration::from_secs(5);
    match way {
        Way::Penholder | Way::PenholderOff | Way::PenholderWrite => {
            let mut options = penholder::Options::new()
                .timeout(patience)
                .synchronous(sync.into());
            if way == Way::PenholderOff {
                options = options.group_commit(penholder::GroupCommit::Off);
            }
            let db = options.open(database)?;
            if way == Way::PenholderWrite {
                return Ok(Arc::new(move |number| {
                    settle(db.write(|tx| -> penholder::Result<()> {
                        tx.prepare_cached(INSERT)?.execute((number, TEXT))?;
                        Ok(())
                    }))
                }));
            }
            Ok(Arc::new(move |number| {
                settle(db.execute(INSERT, (i64::from(number), TEXT)).map(drop))
            }))
        }
        Way::Mutex | Way::MutexAutocommit => {
            let connection = Connection::open(database)?;
            connection.busy_timeout(patience)?;
            connection.pragma_update(None, "synchronous", sync.name())?;
            let connection = Mutex::new(connection);
            Ok(Arc::new(move |number| {
                let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
                if way == Way::Mutex {
                    connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
                }
                connection.prepare_cached(INSERT)?.execute((number, TEXT))?;
                if way == Way::Mutex {
                    connection.prepare_cached("COMMIT")?.execute(())?;
                }
                Ok(true)
            }))
        }
    }
}

fn settle(done: penholder::Result<()>) -> Result<bool, Failure> {
    match done {
        Ok(()) => Ok(true),
        Err(error) if error.is_timeout() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
