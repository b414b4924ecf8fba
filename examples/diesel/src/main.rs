//! Uses diesel under penholder's write lock. Eight threads take tickets: each takes the
//! next number after the last one. Start several processes at once on one database.
//!
//! ```text
//! cargo run -- app.db
//! ```

use std::error::Error;
use std::path::Path;
use std::thread;
use std::time::Duration;

use diesel::connection::SimpleConnection;
use diesel::dsl::max;
use diesel::prelude::*;
use penholder_lock::WriteLocker;

const THREADS: usize = 8;
const TICKETS: usize = 25;
/// How long a write waits for the lock, and then for SQLite.
const TIMEOUT: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

diesel::table! {
    ticket (number) {
        number -> BigInt,
        owner -> Text,
    }
}

/// A thread's diesel connection, and the lock that it takes before each write.
struct Tickets {
    connection: SqliteConnection,
    locker: WriteLocker,
}

impl Tickets {
    fn open(path: &str, locker: WriteLocker) -> Result<Self> {
        let mut connection = SqliteConnection::establish(path)?;
        // For programs that write without the lock.
        connection.batch_execute(&format!("PRAGMA busy_timeout={}", TIMEOUT.as_millis()))?;
        // The switch to WAL and the schema are writes too.
        let guard = locker.acquire(TIMEOUT)?;
        connection.batch_execute(
            "PRAGMA journal_mode=WAL;
             CREATE TABLE IF NOT EXISTS ticket(number BIGINT PRIMARY KEY, owner TEXT NOT NULL)",
        )?;
        guard.release()?;
        Ok(Self { connection, locker })
    }

    /// Takes the next number.
    fn take(&mut self, owner: &str) -> Result<i64> {
        // Dropped, and so released, after the transaction has ended.
        let _guard = self.locker.acquire(TIMEOUT)?;
        let number = self.connection.immediate_transaction(|connection| {
            let last: Option<i64> = ticket::table
                .select(max(ticket::number))
                .first(connection)?;
            let number = last.unwrap_or(0) + 1;
            diesel::insert_into(ticket::table)
                .values((ticket::number.eq(number), ticket::owner.eq(owner)))
                .execute(connection)?;
            diesel::QueryResult::Ok(number)
        })?;
        Ok(number)
    }

    fn count(&mut self, owner: &str) -> Result<usize> {
        let owned = ticket::table.filter(ticket::owner.eq(owner));
        let count: i64 = owned.count().get_result(&mut self.connection)?;
        Ok(usize::try_from(count)?)
    }
}

fn main() -> Result<()> {
    let Some(path) = std::env::args().nth(1) else {
        return Err("usage: penholder-example-diesel DB".into());
    };
    // `db.lock` in the database's directory, which penholder itself uses too.
    let directory = Path::new(&path)
        .parent()
        .filter(|directory| *directory != Path::new(""));
    let locker = WriteLocker::new(directory.unwrap_or(Path::new(".")))?.label("tickets");
    let mut tickets = Tickets::open(&path, locker.clone())?;
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
