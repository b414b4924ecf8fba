//! Uses plain rusqlite under penholder's write lock, without [`penholder::Database`], for a
//! program that has its own connections. Eight threads take tickets: each takes the next
//! number after the last one. Start several processes at once on one database.
//!
//! ```text
//! plain_rusqlite DB
//! ```
//!
//! It needs only the crate `penholder-lock`. The directory `examples` of the repository has
//! the same program for sqlx and diesel.
#![allow(clippy::print_stdout, reason = "a program that prints")]

use std::error::Error;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use penholder_lock::WriteLocker;
use rusqlite::{Connection, TransactionBehavior};

const THREADS: usize = 8;
const TICKETS: usize = 25;
/// How long a write waits for the lock, and then for SQLite.
const TIMEOUT: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

/// A thread's connection, and the lock that it takes before each write.
struct Tickets {
    connection: Connection,
    locker: WriteLocker,
}

impl Tickets {
    fn open(path: &Path, locker: WriteLocker) -> Result<Self> {
        let connection = Connection::open(path)?;
        // For programs that write without the lock.
        connection.busy_timeout(TIMEOUT)?;
        // The switch to WAL and the schema are writes too.
        let guard = locker.acquire(TIMEOUT)?;
        connection.pragma_update(None, "journal_mode", "WAL")?;
        connection.execute_batch(
            "CREATE TABLE IF NOT EXISTS ticket(number INTEGER PRIMARY KEY, owner TEXT)",
        )?;
        guard.release()?;
        Ok(Self { connection, locker })
    }

    /// Takes the next number.
    fn take(&mut self, owner: &str) -> Result<i64> {
        // Declared before the transaction, so it is dropped and releases after it.
        let _guard = self.locker.acquire(TIMEOUT)?;
        let immediate = TransactionBehavior::Immediate;
        let tx = self.connection.transaction_with_behavior(immediate)?;
        let next = "SELECT coalesce(max(number), 0) + 1 FROM ticket";
        let number = tx.query_row(next, (), |row| row.get(0))?;
        tx.execute(
            "INSERT INTO ticket(number, owner) VALUES (?1, ?2)",
            (number, owner),
        )?;
        tx.commit()?;
        Ok(number)
    }

    fn count(&self, owner: &str) -> Result<usize> {
        let sql = "SELECT count(*) FROM ticket WHERE owner = ?1";
        let count: i64 = self.connection.query_row(sql, [owner], |row| row.get(0))?;
        Ok(usize::try_from(count)?)
    }
}

fn main() -> Result<()> {
    let Some(path) = std::env::args_os().nth(1).map(PathBuf::from) else {
        return Err("usage: plain_rusqlite DB".into());
    };
    // `db.lock` in the database's directory, which penholder itself uses too.
    let directory = path
        .parent()
        .filter(|directory| *directory != Path::new(""));
    let locker = WriteLocker::new(directory.unwrap_or(Path::new(".")))?.label("tickets");
    let tickets = Tickets::open(&path, locker.clone())?;
    let owner = format!("process {}", std::process::id());
    let before = tickets.count(&owner)?;
    thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut tickets = Tickets::open(&path, locker.clone())?;
            for _ in 0..TICKETS {
                tickets.take(&owner)?;
            }
            Ok(())
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    let taken = tickets.count(&owner)? - before;
    if taken != THREADS * TICKETS {
        return Err(format!("{taken} tickets instead of {}", THREADS * TICKETS).into());
    }
    // The last connection deletes the WAL when it closes, which is a write too.
    let guard = locker.acquire(TIMEOUT)?;
    drop(tickets);
    drop(guard);
    println!("{owner}: {taken} tickets by {THREADS} threads");
    Ok(())
}
