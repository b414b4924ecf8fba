//! SQLite without the write lock: what a program does that knows of no lock file.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};

use crate::peer::Peer;
use crate::{requirement, wait};

const BUSY_TIMEOUT: Duration = Duration::from_secs(10);

/// Opens a plain connection.
///
/// Do not open a database that this process has open itself while one of SQLite's locks
/// matters: closing the connection drops the POSIX locks of the whole process.
pub fn open(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(BUSY_TIMEOUT).unwrap();
    connection
}

/// Returns the one number that a query returns.
#[track_caller]
pub fn number(path: &Path, sql: &str) -> i64 {
    let connection = open(path);
    connection.busy_timeout(wait::LIMIT).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Asserts that `PRAGMA integrity_check` finds nothing wrong.
#[track_caller]
pub fn assert_integrity(path: &Path) {
    let verdict: String = open(path)
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// Starts the `sqlite3` shell on a database, if it is installed.
///
/// Its error messages are lines of the peer too.
pub fn shell(path: &Path) -> Option<Peer> {
    requirement::has_program("sqlite3").then(|| {
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>&1", "sqlite3", "-batch"]);
        shell.arg(path);
        Peer::spawn(shell)
    })
}

/// Starts the `sqlite3` shell, if it is installed, and begins a write transaction in it.
pub fn outsider(path: &Path) -> Option<Peer> {
    let mut outsider = shell(path)?;
    outsider.send("BEGIN IMMEDIATE; SELECT 'writes';");
    outsider.expect("writes");
    Some(outsider)
}
