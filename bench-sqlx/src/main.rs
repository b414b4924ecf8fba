//! A peer for the figures: many tasks of one process that write to one database
//! through a sqlx pool, one row per transaction, in a closed loop. The table and the
//! row are those of `penholder-bench`.
//!
//! Prints one line of JSON for each variant:
//!
//! - `sqlx-pool-1`: a pool of one connection; tasks queue in the pool;
//! - `sqlx-pool-N`: a connection for each task and a plain `INSERT`; tasks wait in
//!   SQLite's busy timeout;
//! - `sqlx-pool-N-immediate`: the same with `BEGIN IMMEDIATE` and `COMMIT`;
//! - `sqlx-pool-N-lock`: the plain `INSERT` under penholder's lock.

use std::error::Error;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use clap::{Parser, ValueEnum};
use penholder_lock::{LockError, WriteLocker};
use serde_json::json;
use sqlx::sqlite::{
    SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions, SqliteSynchronous,
};
use sqlx::{Connection, Row};

const TABLE: &str = "CREATE TABLE IF NOT EXISTS t(id INTEGER PRIMARY KEY, worker, text)";
const INSERT: &str = "INSERT INTO t(worker, text) VALUES (?1, ?2)";
const TEXT: &str = "a row of forty bytes, as they really are";
/// For SQLite, for the pool and for the lock.
const TIMEOUT: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(300);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Benchmark of one process that writes through a sqlx pool
#[derive(Parser)]
struct Args {
    /// Number of tasks that write at the same time
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// Value of `PRAGMA synchronous`
    #[arg(long, value_enum, default_value_t = Synchronous::Normal)]
    sync: Synchronous,
    /// Duration of the trial of each variant, in seconds
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// Directory for the databases [default: the system's for temporary files]
    #[arg(long, alias = "folder")]
    directory: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Synchronous {
    /// `synchronous=NORMAL`: a commit survives the death of every process
    Normal,
    /// `synchronous=FULL`: a commit also survives a power cut
    Full,
}

#[derive(Clone, Copy)]
enum Variant {
    One,
    Many,
    ManyImmediate,
    ManyLock,
}

impl Variant {
    fn name(self, threads: u32) -> String {
        match self {
            Self::One => "sqlx-pool-1".to_owned(),
            Self::Many => format!("sqlx-pool-{threads}"),
            Self::ManyImmediate => format!("sqlx-pool-{threads}-immediate"),
            Self::ManyLock => format!("sqlx-pool-{threads}-lock"),
        }
    }
}

/// What the tasks of one variant share.
struct Trial {
    variant: Variant,
    pool: SqlitePool,
    locker: WriteLocker,
}

/// What one task did.
#[derive(Default)]
struct Share {
    /// All acknowledged writes, including those of the warm-up.
    acknowledged: u64,
    /// Writes that ended within the window.
    writes: u64,
    /// Calls that ended after the warm-up and wrote nothing.
    failed: u64,
    /// The longest call that ended after the warm-up, including failed ones.
    longest: Duration,
}

impl Trial {
    async fn open(variant: Variant, directory: &Path, args: &Args) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(directory.join("bench.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match args.sync {
                Synchronous::Normal => SqliteSynchronous::Normal,
                Synchronous::Full => SqliteSynchronous::Full,
            })
            .busy_timeout(TIMEOUT);
        let size = match variant {
            Variant::One => 1,
            _ => args.threads,
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(size)
            .min_connections(size)
            .acquire_timeout(TIMEOUT)
            .connect_with(options)
            .await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let locker = WriteLocker::new(directory)?;
        Ok(Self {
            variant,
            pool,
            locker,
        })
    }

    async fn write(&self, number: u32) -> Result<()> {
        let insert = sqlx::query(INSERT).bind(number).bind(TEXT);
        match self.variant {
            Variant::One | Variant::Many => {
                insert.execute(&self.pool).await?;
            }
            Variant::ManyImmediate => {
                let mut connection = self.pool.acquire().await?;
                let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
                insert.execute(&mut *tx).await?;
                tx.commit().await?;
            }
            Variant::ManyLock => {
                let mut connection = self.pool.acquire().await?;
                let _guard = self.locker.acquire_async(TIMEOUT).await?;
                insert.execute(&mut *connection).await?;
            }
        }
        Ok(())
    }

    /// Writes until the end. Calls that end before `counted` are the warm-up.
    async fn work(&self, number: u32, counted: Instant, end: Instant) -> Result<Share> {
        let mut share = Share::default();
        loop {
            let begun = Instant::now();
            if begun >= end {
                return Ok(share);
            }
            let outcome = self.write(number).await;
            let ended = Instant::now();
            let failed = match outcome {
                Ok(()) => false,
                Err(error) if waited_too_long(&*error) => true,
                Err(error) => return Err(error),
            };
            share.acknowledged += u64::from(!failed);
            if ended >= counted {
                share.writes += u64::from(!failed && ended < end);
                share.failed += u64::from(failed);
                share.longest = share.longest.max(ended - begun);
            }
        }
    }
}

/// Whether SQLite was busy, or the pool or the lock timed out.
fn waited_too_long(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::PoolTimedOut) => return true,
        // SQLITE_BUSY and its extended codes.
        Some(sqlx::Error::Database(error)) => {
            let code = error.code().and_then(|code| code.parse::<u32>().ok());
            return code.is_some_and(|code| code & 0xff == 5);
        }
        _ => {}
    }
    let lock = error.downcast_ref::<LockError>();
    lock.is_some_and(LockError::is_timeout)
}

async fn measure(variant: Variant, args: &Args) -> Result<serde_json::Value> {
    let directory = match &args.directory {
        Some(directory) => tempfile::tempdir_in(directory)?,
        None => tempfile::tempdir()?,
    };
    let trial = Arc::new(Trial::open(variant, directory.path(), args).await?);
    let counted = Instant::now() + WARM_UP;
    let end = counted + Duration::from_secs(args.seconds);
    let tasks: Vec<_> = (0..args.threads)
        .map(|number| {
            let trial = Arc::clone(&trial);
            tokio::spawn(async move { trial.work(number, counted, end).await })
        })
        .collect();
    let mut shares = Vec::new();
    for task in tasks {
        shares.push(task.await??);
    }
    let rows: i64 = sqlx::query("SELECT count(*) FROM t")
        .fetch_one(&trial.pool)
        .await?
        .get(0);
    trial.pool.close().await;
    Ok(report(variant, args, &shares, u64::try_from(rows)?))
}

fn report(variant: Variant, args: &Args, shares: &[Share], rows: u64) -> serde_json::Value {
    let acknowledged: u64 = shares.iter().map(|share| share.acknowledged).sum();
    let writes: Vec<u64> = shares.iter().map(|share| share.writes).collect();
    let longest = shares.iter().map(|share| share.longest).max();
    json!({
        "peer": variant.name(args.threads),
        "sync": match args.sync { Synchronous::Normal => "normal", Synchronous::Full => "full" },
        "threads": args.threads,
        "seconds": args.seconds,
        "rate": writes.iter().sum::<u64>() as f64 / args.seconds as f64,
        "longest_ms": longest.unwrap_or_default().as_secs_f64() * 1e3,
        "failed": shares.iter().map(|share| share.failed).sum::<u64>(),
        "jain": jain(&writes),
        "rows_ok": rows == acknowledged,
    })
}

/// Jain's fairness index: 1 if all tasks wrote equally, 1/n if only one wrote.
fn jain(writes: &[u64]) -> f64 {
    let sum: f64 = writes.iter().map(|writes| *writes as f64).sum();
    let squares: f64 = writes.iter().map(|writes| (*writes as f64).powi(2)).sum();
    if squares == 0.0 {
        return 0.0;
    }
    sum * sum / (writes.len() as f64 * squares)
}

#[tokio::main]
async fn main() -> Result<()> {
    let args = Args::parse();
    for variant in [
        Variant::One,
        Variant::Many,
        Variant::ManyImmediate,
        Variant::ManyLock,
    ] {
        println!("{}", measure(variant, &args).await?);
    }
    Ok(())
}
