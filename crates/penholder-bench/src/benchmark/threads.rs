//! Threads of one process that write to one database, one row per transaction.

use std::error::Error;
use std::fmt;
use std::path::Path;
use std::sync::{Arc, Barrier, Mutex, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use rusqlite::Connection;

use crate::directory::Directory;
use crate::synchronous::Synchronous;
use crate::table::{self, INSERT, TEXT};
use crate::workload::Workload;
use crate::{clock, names, statistics, text, turns};

/// For SQLite and for the lock.
const TIMEOUT: Duration = Duration::from_secs(5);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Numbers of threads that write at the same time, separated by commas
    #[arg(long, value_delimiter = ',', default_value = "1,8,32")]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1_000))]
    threads: Vec<u32>,
    /// Values of `PRAGMA synchronous`, separated by commas
    #[arg(long, value_enum, value_delimiter = ',', default_value = "normal,full")]
    sync: Vec<Synchronous>,
    /// Peers to compare, separated by commas
    #[arg(
        long,
        value_enum,
        value_delimiter = ',',
        default_value = "penholder,penholder-write,penholder-off,mutex,mutex-autocommit"
    )]
    peers: Vec<Peer>,
    /// Duration of each trial, in seconds
    #[arg(long, default_value = "4", value_parser = clock::parse_seconds)]
    seconds: Duration,
    /// How often each trial is run; medians are reported
    #[arg(long, default_value_t = 5)]
    runs: usize,
    #[command(flatten)]
    directory: Directory,
}

/// How the threads of a process share a database.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Peer {
    /// `Database::execute` with the default options
    Penholder,
    /// `Database::write` with a closure
    PenholderWrite,
    /// `Database::execute` without group commit
    PenholderOff,
    /// One mutex around one connection: prepared BEGIN IMMEDIATE, INSERT, COMMIT
    Mutex,
    /// One mutex around one connection: a prepared INSERT alone
    MutexAutocommit,
}

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&names::name(self))
    }
}

/// The figures of one run of a trial.
#[derive(Debug, Clone, Copy)]
struct Figures {
    rate: f64,
    longest_us: f64,
    jain: f64,
    failed: u64,
    rows_ok: bool,
}

/// What one thread did.
#[derive(Default)]
struct Share {
    written: u64,
    failed: u64,
    longest: Duration,
}

type Failure = Box<dyn Error + Send + Sync>;
/// Writes one row a call, from any thread, and returns whether it was in time.
type Write = Arc<dyn Fn(u32) -> Result<bool, Failure> + Send + Sync>;

pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    println!(
        "threads of one process, one row per transaction, {} s per trial, medians of {} runs",
        args.seconds.as_secs_f64(),
        args.runs
    );
    for sync in &args.sync {
        for threads in &args.threads {
            let figures = turns::alternate(&args.peers, args.runs, |peer| {
                measure(args, *peer, *sync, *threads)
            })?;
            println!("\nsynchronous={sync}, {threads} threads");
            print(&args.peers, &figures);
        }
    }
    Ok(())
}

fn print(peers: &[Peer], figures: &[Vec<Figures>]) {
    println!(
        "  {:<18} {:>9} {:>8} {:>7} {:>9} {:>6}  rows",
        "", "writes/s", "times", "failed", "longest", "Jain"
    );
    let base = peers.iter().position(|peer| *peer == Peer::Mutex);
    let base = base.map(|number| median(&figures[number], |one| one.rate));
    for (peer, runs) in peers.iter().zip(figures) {
        let rate = median(runs, |one| one.rate);
        let times = base.map_or(String::new(), |base| format!("{:.2}", rate / base));
        let failed: u64 = runs.iter().map(|one| one.failed).sum();
        println!(
            "  {peer:<18} {rate:>9.0} {times:>8} {failed:>7} {:>9} {:>6.3}  {}",
            text::time(median(runs, |one| one.longest_us)),
            median(runs, |one| one.jain),
            text::rows(runs.iter().all(|one| one.rows_ok)),
        );
    }
}

fn median(runs: &[Figures], figure: impl Fn(&Figures) -> f64) -> f64 {
    let mut values: Vec<f64> = runs.iter().map(figure).collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or_default()
}

fn measure(
    args: &Args,
    peer: Peer,
    sync: Synchronous,
    threads: u32,
) -> Result<Figures, Box<dyn Error>> {
    let directory = args.directory.temporary()?;
    let database = directory.path().join("threads.db");
    Workload::Insert.create(&database)?;
    let write = open(peer, &database, sync)?;
    let begin = Arc::new(Barrier::new(threads as usize));
    let threads: Vec<_> = (0..threads)
        .map(|number| {
            let (write, begin, seconds) = (Arc::clone(&write), Arc::clone(&begin), args.seconds);
            thread::spawn(move || {
                begin.wait();
                repeat(number, seconds, &*write)
            })
        })
        .collect();
    let mut shares = Vec::new();
    for thread in threads {
        let share = thread.join().map_err(|_| "a thread panicked")?;
        shares.push(share.map_err(|e| e.to_string())?);
    }
    drop(write);
    figures(&database, &shares, args.seconds)
}

/// Writes in a closed loop.
fn repeat(
    number: u32,
    seconds: Duration,
    write: &(dyn Fn(u32) -> Result<bool, Failure> + Send + Sync),
) -> Result<Share, Failure> {
    let mut share = Share::default();
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

#[expect(clippy::cast_precision_loss, reason = "far below 2^53 writes")]
fn figures(
    database: &Path,
    shares: &[Share],
    seconds: Duration,
) -> Result<Figures, Box<dyn Error>> {
    let written: u64 = shares.iter().map(|share| share.written).sum();
    let writes: Vec<f64> = shares.iter().map(|share| share.written as f64).collect();
    let longest = shares.iter().map(|share| share.longest).max();
    let rows = table::rows_by_worker(&Connection::open(database)?, "t")?;
    Ok(Figures {
        rate: written as f64 / seconds.as_secs_f64(),
        longest_us: longest.unwrap_or_default().as_secs_f64() * 1e6,
        jain: statistics::jain(&writes),
        failed: shares.iter().map(|share| share.failed).sum(),
        rows_ok: rows.values().sum::<u64>() == written,
    })
}

fn open(peer: Peer, database: &Path, sync: Synchronous) -> Result<Write, Box<dyn Error>> {
    match peer {
        Peer::Penholder | Peer::PenholderOff | Peer::PenholderWrite => {
            penholder(peer, database, sync)
        }
        Peer::Mutex | Peer::MutexAutocommit => mutex(peer, database, sync),
    }
}

fn penholder(peer: Peer, database: &Path, sync: Synchronous) -> Result<Write, Box<dyn Error>> {
    let mut options = penholder::OpenOptions::new()
        .timeout(TIMEOUT)
        .synchronous(sync.into());
    if peer == Peer::PenholderOff {
        options = options.group_commit(penholder::GroupCommit::Off);
    }
    let db = options.open(database)?;
    if peer == Peer::PenholderWrite {
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

fn mutex(peer: Peer, database: &Path, sync: Synchronous) -> Result<Write, Box<dyn Error>> {
    let connection = Connection::open(database)?;
    connection.busy_timeout(TIMEOUT)?;
    connection.pragma_update(None, "synchronous", sync.to_string())?;
    let connection = Mutex::new(connection);
    Ok(Arc::new(move |number| {
        let connection = connection.lock().unwrap_or_else(PoisonError::into_inner);
        if peer == Peer::Mutex {
            connection.prepare_cached("BEGIN IMMEDIATE")?.execute(())?;
        }
        connection.prepare_cached(INSERT)?.execute((number, TEXT))?;
        if peer == Peer::Mutex {
            connection.prepare_cached("COMMIT")?.execute(())?;
        }
        Ok(true)
    }))
}

fn settle(result: penholder::Result<()>) -> Result<bool, Failure> {
    match result {
        Ok(()) => Ok(true),
        Err(error) if error.is_timeout() => Ok(false),
        Err(error) => Err(error.into()),
    }
}
