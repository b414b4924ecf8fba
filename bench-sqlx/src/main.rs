//! A peer for the figures: many tasks of one process, each writing one row a
//! transaction into one database through a sqlx pool, in a closed loop. The table
//! and the row are those of `penholder-bench`.
//!
//! Prints one line of JSON for each variant:
//!
//! - `sqlx-pool-1`: a pool of one connection, the queue being the pool's;
//! - `sqlx-pool-N`: a connection a task, a plain `INSERT`, the queue being
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
const PATIENCE: Duration = Duration::from_secs(5);
const WARM_UP: Duration = Duration::from_millis(300);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// One process that writes through a sqlx pool.
#[derive(Parser)]
struct Args {
    /// How many tasks write at once
    #[arg(long, default_value_t = 32, value_parser = clap::value_parser!(u32).range(1..=1024))]
    threads: u32,
    /// What a commit waits for
    #[arg(long, value_enum, default_value_t = Durability::Normal)]
    sync: Durability,
    /// How long each variant writes
    #[arg(long, default_value_t = 4)]
    seconds: u64,
    /// The folder for the databases; the system's for temporary files otherwise
    #[arg(long)]
    folder: Option<PathBuf>,
}

#[derive(Clone, Copy, ValueEnum)]
enum Durability {
    Normal,
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

/// What all tasks of a variant share.
struct Cell {
    variant: Variant,
    pool: SqlitePool,
    locker: WriteLocker,
}

/// What one task did.
#[derive(Default)]
struct Share {
    /// Writes acknowledged, the warm-up's among them.
    acknowledged: u64,
    /// Writes that ended within the window, and how long the longest call took,
    /// failed ones among them.
    writes: u64,
    failed: u64,
    longest: Duration,
}

impl Cell {
    async fn open(variant: Variant, folder: &Path, args: &Args) -> Result<Self> {
        let options = SqliteConnectOptions::new()
            .filename(folder.join("bench.db"))
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            .synchronous(match args.sync {
                Durability::Normal => SqliteSynchronous::Normal,
                Durability::Full => SqliteSynchronous::Full,
            })
            .busy_timeout(PATIENCE);
        let size = match variant {
            Variant::One => 1,
            _ => args.threads,
        };
        let pool = SqlitePoolOptions::new()
            .max_connections(size)
            .min_connections(size)
            .acquire_timeout(PATIENCE)
            .connect_with(options)
            .await?;
        sqlx::query(TABLE).execute(&pool).await?;
        let locker = WriteLocker::new(folder)?;
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
                let _guard = self.locker.acquire_async(PATIENCE).await?;
                insert.execute(&mut *connection).await?;
            }
        }
        Ok(())
    }

    /// Writes until the end; what ended before `counted` was the warm-up.
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

/// Busy, no connection in time, or no lock in time: the write was given up.
fn waited_too_long(error: &(dyn Error + 'static)) -> bool {
    match error.downcast_ref::<sqlx::Error>() {
        Some(sqlx::Error::PoolTimedOut) => return true,
        // SQLITE_BUSY, also extended.
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
    let folder = match &args.folder {
        Some(folder) => tempfile::tempdir_in(folder)?,
        None => tempfile::tempdir()?,
    };
    let cell = Arc::new(Cell::open(variant, folder.path(), args).await?);
    let counted = Instant::now() + WARM_UP;
    let end = counted + Duration::from_secs(args.seconds);
    let tasks: Vec<_> = (0..args.threads)
        .map(|number| {
            let cell = Arc::clone(&cell);
            tokio::spawn(async move { cell.work(number, counted, end).await })
        })
        .collect();
    let mut shares = Vec::new();
    for task in tasks {
        shares.push(task.await??);
    }
    let rows: i64 = sqlx::query("SELECT count(*) FROM t")
        .fetch_one(&cell.pool)
        .await?
        .get(0);
    cell.pool.close().await;
    let acknowledged: u64 = shares.iter().map(|share| share.acknowledged).sum();
    let writes: Vec<u64> = shares.iter().map(|share| share.writes).collect();
    let longest = shares.iter().map(|share| share.longest).max();
    Ok(json!({
        "peer": variant.name(args.threads),
        "sync": match args.sync { Durability::Normal => "normal", Durability::Full => "full" },
        "threads": args.threads,
        "seconds": args.seconds,
        "rate": writes.iter().sum::<u64>() as f64 / args.seconds as f64,
        "longest_ms": longest.unwrap_or_default().as_secs_f64() * 1e3,
        "failed": shares.iter().map(|share| share.failed).sum::<u64>(),
        "jain": jain(&writes),
        "rows_ok": u64::try_from(rows)? == acknowledged,
    }))
}

/// Jain's index: 1 if all wrote alike, 1/n if one wrote alone.
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
