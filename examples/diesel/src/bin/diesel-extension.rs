//! Uses diesel with the extension of penholder: each immediate transaction queues with all other
//! programs, and the code has no lock. Eight threads take tickets, as in the other example. Start
//! several processes at once on one database.
//!
//! ```text
//! cargo build --release -p penholder-extension      # in the repository
//! cargo run --bin diesel-extension -- target/release/libpenholder app.db
//! ```

use std::error::Error;
use std::ffi::CString;
use std::ptr;
use std::thread;
use std::time::{Duration, Instant};

use diesel::connection::SimpleConnection;
use diesel::dsl::max;
use diesel::prelude::*;
use libsqlite3_sys as ffi;

const THREADS: usize = 8;
const TICKETS: usize = 25;
/// How long SQLite's busy handler waits: in the queue.
const TIMEOUT: Duration = Duration::from_secs(10);

type Result<T> = std::result::Result<T, Box<dyn Error + Send + Sync>>;

diesel::table! {
    ticket (number) {
        number -> BigInt,
        owner -> Text,
    }
}

/// Makes penholder's VFS the default one of this process.
#[expect(unsafe_code, reason = "diesel has no call that loads an extension")]
fn load(library: &str) -> Result<()> {
    let library = CString::new(library)?;
    let entry = c"sqlite3_penholder_default_init";
    let mut connection = ptr::null_mut();
    // SAFETY: C texts, and room for a pointer.
    let code = unsafe { ffi::sqlite3_open(c":memory:".as_ptr(), &raw mut connection) };
    let code = if code == ffi::SQLITE_OK {
        // SAFETY: an open connection, and C texts; the library is that of penholder.
        unsafe {
            ffi::sqlite3_enable_load_extension(connection, 1);
            ffi::sqlite3_load_extension(
                connection,
                library.as_ptr(),
                entry.as_ptr(),
                ptr::null_mut(),
            )
        }
    } else {
        code
    };
    // SAFETY: not used any more.
    unsafe { ffi::sqlite3_close(connection) };
    match code {
        ffi::SQLITE_OK => Ok(()),
        code => Err(format!("the library was not loaded: result code {code}").into()),
    }
}

fn open(path: &str) -> Result<SqliteConnection> {
    let mut connection = SqliteConnection::establish(path)?;
    connection.batch_execute(&format!("PRAGMA busy_timeout={}", TIMEOUT.as_millis()))?;
    use_wal(&mut connection)?;
    connection.batch_execute(
        "CREATE TABLE IF NOT EXISTS ticket(number BIGINT PRIMARY KEY, owner TEXT NOT NULL)",
    )?;
    Ok(connection)
}

/// Switches to WAL mode. If others do so at the same moment, SQLite says at once that the database is
/// locked, whatever the busy timeout.
fn use_wal(connection: &mut SqliteConnection) -> Result<()> {
    let begun = Instant::now();
    while let Err(error) = connection.batch_execute("PRAGMA journal_mode=WAL") {
        if begun.elapsed() > TIMEOUT {
            return Err(error.into());
        }
        thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// Takes the next number.
fn take(connection: &mut SqliteConnection, owner: &str) -> Result<i64> {
    let number = connection.immediate_transaction(|connection| {
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

fn count(connection: &mut SqliteConnection, owner: &str) -> Result<usize> {
    let owned = ticket::table.filter(ticket::owner.eq(owner));
    let count: i64 = owned.count().get_result(connection)?;
    Ok(usize::try_from(count)?)
}

fn main() -> Result<()> {
    let mut arguments = std::env::args().skip(1);
    let (Some(library), Some(path)) = (arguments.next(), arguments.next()) else {
        return Err("usage: diesel-extension LIBRARY DB".into());
    };
    load(&library)?;
    let mut connection = open(&path)?;
    let owner = format!("process {}", std::process::id());
    let before = count(&mut connection, &owner)?;
    thread::scope(|scope| {
        let work = || -> Result<()> {
            let mut connection = open(&path)?;
            (0..TICKETS).try_for_each(|_| take(&mut connection, &owner).map(drop))
        };
        let threads: Vec<_> = (0..THREADS).map(|_| scope.spawn(work)).collect();
        threads
            .into_iter()
            .try_for_each(|thread| thread.join().map_err(|_| "a thread panicked")?)
    })?;
    let taken = count(&mut connection, &owner)? - before;
    if taken != THREADS * TICKETS {
        return Err(format!("{taken} tickets instead of {}", THREADS * TICKETS).into());
    }
    println!("{owner}: {taken} tickets by {THREADS} threads");
    Ok(())
}
