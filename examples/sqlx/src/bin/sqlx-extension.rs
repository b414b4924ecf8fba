//! Uses sqlx with the extension of penholder: each `BEGIN IMMEDIATE` queues with all other
//! programs, and the code has no lock. Eight tasks take tickets, as in the other example. Start
//! several processes at once on one database.
//!
//! ```text
//! cargo build --release -p penholder-extension      # in the repository
//! cargo run --bin sqlx-extension -- target/release/libpenholder app.db
//! ```

use std::error::Error;
use std::sync::Arc;
use std::time::{Duration, Instant};

use sqlx::sqlite::{SqliteConnectOptions, SqlitePool, SqlitePoolOptions};
use sqlx::{ConnectOptions, Connection, Row};

const TASKS: usize = 8;
const TICKETS: usize = 25;
/// How long SQLite's busy handler waits: in the queue.
const TIMEOUT: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// Makes penholder's VFS the default one of this process.
#[expect(unsafe_code, reason = "the library is code that runs in this process")]
async fn load(library: &str) -> Result<()> {
    let options = SqliteConnectOptions::new().in_memory(true);
    // SAFETY: the caller names the library of penholder, which keeps to SQLite's interface.
    let options = unsafe {
        options.extension_with_entrypoint(library.to_owned(), "sqlite3_penholder_default_init")
    };
    Ok(options.connect().await?.close().await?)
}

/// Switches to WAL mode. If others do so at the same moment, SQLite says at once that the database is
/// locked, whatever the busy timeout.
async fn use_wal(pool: &SqlitePool) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = sqlx::query("PRAGMA journal_mode=WAL").execute(pool).await {
        if begun.elapsed() > TIMEOUT {
            return Err(error.into());
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    Ok(())
}

/// Takes the next number.
async fn take(pool: &SqlitePool, owner: &str) -> Result<i64> {
    let mut tx = pool.begin_with("BEGIN IMMEDIATE").await?;
    let number: i64 = sqlx::query("SELECT coalesce(max(number), 0) + 1 FROM ticket")
        .fetch_one(&mut *tx)
        .await?
        .get(0);
    sqlx::query("INSERT INTO ticket(number, owner) VALUES (?1, ?2)")
        .bind(number)
        .bind(owner)
        .execute(&mut *tx)
        .await?;
    tx.commit().await?;
    Ok(number)
}

async fn count(pool: &SqlitePool, owner: &str) -> Result<usize> {
    let sql = "SELECT count(*) FROM ticket WHERE owner = ?1";
    let row = sqlx::query(sql).bind(owner).fetch_one(pool).await?;
    Ok(usize::try_from(row.get::<i64, _>(0))?)
}

#[tokio::main]
async fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(library), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: sqlx-extension LIBRARY DB".into());
    };
    load(&library).await?;
    let options = SqliteConnectOptions::new()
        .filename(&path)
        .create_if_missing(true)
        .busy_timeout(TIMEOUT);
    let pool = SqlitePoolOptions::new().connect_with(options).await?;
    use_wal(&pool).await?;
    let table = "CREATE TABLE IF NOT EXISTS ticket(number INTEGER PRIMARY KEY, owner TEXT)";
    sqlx::query(table).execute(&pool).await?;
    let owner = Arc::<str>::from(format!("process {}", std::process::id()));
    let before = count(&pool, &owner).await?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (pool, owner) = (pool.clone(), Arc::clone(&owner));
            tokio::spawn(async move {
                for _ in 0..TICKETS {
                    take(&pool, &owner).await?;
                }
                Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let taken = count(&pool, &owner).await? - before;
    if taken != TASKS * TICKETS {
        return Err(format!("{taken} tickets instead of {}", TASKS * TICKETS).into());
    }
    let waited: i64 = sqlx::query("SELECT penholder_last_wait()")
        .fetch_one(&pool)
        .await?
        .get(0);
    pool.close().await;
    println!(
        "{owner}: {taken} tickets by {TASKS} tasks, the last of one connection after {waited} µs"
    );
    Ok(())
}
