//! Uses sqlx under penholder's write lock. Eight tasks take tickets: each takes the next
//! number after the last one. Start several processes at once on one database.
//!
//! ```text
//! cargo run -- app.db
//! ```

use std::error::Error;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use penholder_lock::WriteLocker;
use sqlx::sqlite::{SqliteConnectOptions, SqliteJournalMode, SqlitePool, SqlitePoolOptions};
use sqlx::{Connection, Row, SqliteConnection};

const TASKS: usize = 8;
const TICKETS: usize = 25;
/// How long a write waits for the lock, and then for SQLite.
const TIMEOUT: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// The application's sqlx pool, and the lock that it takes before each write.
struct Tickets {
    pool: SqlitePool,
    locker: WriteLocker,
}

impl Tickets {
    async fn open(path: &Path) -> Result<Self> {
        // `db.lock` in the database's directory, which penholder itself uses too.
        let directory = path
            .parent()
            .filter(|directory| *directory != Path::new(""));
        let locker = WriteLocker::new(directory.unwrap_or(Path::new(".")))?.label("tickets");
        let options = SqliteConnectOptions::new()
            .filename(path)
            .create_if_missing(true)
            .journal_mode(SqliteJournalMode::Wal)
            // For programs that write without the lock.
            .busy_timeout(TIMEOUT);
        // The switch to WAL and the schema are writes too.
        let guard = locker.acquire_async(TIMEOUT).await?;
        let pool = SqlitePoolOptions::new().connect_with(options).await?;
        sqlx::query("CREATE TABLE IF NOT EXISTS ticket(number INTEGER PRIMARY KEY, owner TEXT)")
            .execute(&pool)
            .await?;
        guard.release()?;
        Ok(Self { pool, locker })
    }

    /// Takes the next number.
    ///
    /// It acquires the connection before the lock, because the holder of the lock must wait
    /// for nothing except SQLite.
    async fn take(&self, owner: &str) -> Result<i64> {
        let mut connection = self.pool.acquire().await?;
        // Dropped and not released, because the write is committed even if the release fails.
        let _guard = self.locker.acquire_async(TIMEOUT).await?;
        let mut tx = connection.begin_with("BEGIN IMMEDIATE").await?;
        // The transaction ends before the guard is dropped, also after an error: a `tx` that
        // is only dropped is rolled back later.
        match take_next(&mut tx, owner).await {
            Ok(number) => {
                tx.commit().await?;
                Ok(number)
            }
            Err(error) => {
                // The first error is the cause.
                let _ = tx.rollback().await;
                Err(error)
            }
        }
    }

    async fn count(&self, owner: &str) -> Result<usize> {
        let sql = "SELECT count(*) FROM ticket WHERE owner = ?1";
        let row = sqlx::query(sql).bind(owner).fetch_one(&self.pool).await?;
        Ok(usize::try_from(row.get::<i64, _>(0))?)
    }
}

async fn take_next(connection: &mut SqliteConnection, owner: &str) -> Result<i64> {
    let number: i64 = sqlx::query("SELECT coalesce(max(number), 0) + 1 FROM ticket")
        .fetch_one(&mut *connection)
        .await?
        .get(0);
    sqlx::query("INSERT INTO ticket(number, owner) VALUES (?1, ?2)")
        .bind(number)
        .bind(owner)
        .execute(connection)
        .await?;
    Ok(number)
}

#[tokio::main]
async fn main() -> Result<()> {
    let Some(path) = std::env::args_os().nth(1) else {
        return Err("usage: penholder-example-sqlx DB".into());
    };
    let tickets = Arc::new(Tickets::open(Path::new(&path)).await?);
    let owner = format!("process {}", std::process::id());
    let before = tickets.count(&owner).await?;
    let tasks: Vec<_> = (0..TASKS)
        .map(|_| {
            let (tickets, owner) = (Arc::clone(&tickets), owner.clone());
            tokio::spawn(async move {
                for _ in 0..TICKETS {
                    tickets.take(&owner).await?;
                }
                Result::Ok(())
            })
        })
        .collect();
    for task in tasks {
        task.await??;
    }
    let taken = tickets.count(&owner).await? - before;
    if taken != TASKS * TICKETS {
        return Err(format!("{taken} tickets instead of {}", TASKS * TICKETS).into());
    }
    // The last connection deletes the WAL when it closes, which is a write too.
    let guard = tickets.locker.acquire_async(TIMEOUT).await?;
    tickets.pool.close().await;
    drop(guard);
    println!("{owner}: {taken} tickets by {TASKS} tasks");
    Ok(())
}
