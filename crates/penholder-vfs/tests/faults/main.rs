//! What SQLite promises, with a disk that fails and with one that loses power: the same with and
//! without leases, and with frames that are joined.
#![cfg(test)]

mod failing;
mod gates;
mod layer;
mod power_loss;

use std::ffi::CStr;

use penholder_testkit::lease_fixture::{LeaseFixture, file_of, open_with};
use penholder_vfs::DatabaseFile;
use rusqlite::Connection;
use std::path::Path;
use std::sync::Arc;

/// How many times as much is tried as in a plain `cargo test`: the variable `PENHOLDER_FAULTS`.
fn thoroughness() -> u32 {
    let value = std::env::var("PENHOLDER_FAULTS");
    value.map_or(1, |value| value.parse().expect("a number"))
}

/// What writes.
#[derive(Debug, Clone, Copy)]
struct Setup {
    /// The VFS of the connections; `None` for SQLite alone.
    vfs: Option<&'static CStr>,
    joins: bool,
    has_leases: bool,
    synchronous: &'static str,
    /// Whether the connections take penholder's write lock by themselves: in a process of its own.
    has_gates: bool,
    /// Whether the database is in WAL mode; otherwise it has a rollback journal.
    is_wal: bool,
}

const fn setup(joins: bool, has_leases: bool, synchronous: &'static str) -> Setup {
    Setup {
        vfs: Some(penholder_vfs::NAME),
        joins,
        has_leases,
        synchronous,
        has_gates: false,
        is_wal: true,
    }
}

const fn sqlite_alone(synchronous: &'static str) -> Setup {
    Setup {
        vfs: None,
        ..setup(false, false, synchronous)
    }
}

/// A connection that is being set up or used, and its file if it can have a lease.
struct Writer {
    connection: Connection,
    file: Option<Arc<DatabaseFile>>,
}

impl Writer {
    fn open(path: &Path, setup: Setup) -> rusqlite::Result<Self> {
        let connection = open_with(path, setup.vfs)?;
        connection.execute_batch(&format!(
            "PRAGMA synchronous = {}; PRAGMA cache_size = 10; PRAGMA wal_autocheckpoint = 0;
             SELECT count(*) FROM r",
            setup.synchronous,
        ))?;
        let file = file_of(&connection, c"main");
        if let Some(file) = file.as_ref().filter(|_| setup.joins) {
            file.join_frames();
        }
        Ok(Self { connection, file })
    }

    fn begin_lease(&self) {
        if let Some(file) = &self.file {
            file.begin_lease();
        }
    }

    fn end_lease(&self) {
        if let Some(file) = &self.file {
            file.end_lease();
        }
    }

    /// Runs statements; rolls back what they leave open.
    fn run(&self, sql: &str) -> rusqlite::Result<()> {
        let result = self.connection.execute_batch(sql);
        if !self.connection.is_autocommit() {
            let _ = self.connection.execute_batch("ROLLBACK");
        }
        result
    }
}

/// Makes a database with rows that transactions change.
fn fixture() -> LeaseFixture {
    layer::install();
    let fixture = LeaseFixture::with_page_size(1024);
    let connection = fixture.open_plain();
    connection
        .execute_batch(
            "CREATE TABLE log (id INTEGER PRIMARY KEY, filler BLOB);
             CREATE TABLE tally (last INTEGER, pad BLOB);
             INSERT INTO tally WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s
             WHERE i < 12) SELECT 0, zeroblob(700) FROM s",
        )
        .unwrap();
    connection.close().unwrap();
    fixture
}

/// Returns the statements of a transaction: a single one, several, or so many that they spill.
fn transaction(id: u32) -> String {
    let insert = format!("INSERT INTO log VALUES ({id}, zeroblob(100))");
    let tally = format!("UPDATE tally SET last = {id}");
    match id % 3 {
        0 => format!("BEGIN IMMEDIATE; {tally}; {insert}; COMMIT"),
        1 => format!(
            "BEGIN IMMEDIATE; {insert}; {tally} WHERE rowid < 5;
             SAVEPOINT s; DELETE FROM tally; ROLLBACK TO s; {tally}; COMMIT"
        ),
        _ => format!(
            "BEGIN IMMEDIATE; {insert};
             INSERT INTO big WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s
             WHERE i < 20) SELECT zeroblob(900) FROM s;
             UPDATE big SET x = zeroblob(901) WHERE rowid % 3 = 0;
             {tally}; DELETE FROM big; COMMIT"
        ),
    }
}

#[test]
fn peer() {
    penholder_testkit::peer::run_role(&[gates::ROLE]);
}

#[test]
fn the_layer_is_below_penholder_and_a_write_in_a_lease_is_one_call() {
    let fixture = fixture();
    let below = if cfg!(windows) { "win32" } else { "unix" };
    assert_eq!(layer::default_name(), below);
    let writer = Writer::open(&fixture.path(), setup(true, true, "NORMAL")).unwrap();
    let insert = "INSERT INTO r VALUES (zeroblob(10))";
    writer.run(insert).unwrap();
    layer::take_counts();
    writer.run(insert).unwrap();
    let (locks, writes) = layer::take_counts();
    assert_eq!(writes, 1);
    // A read mark is locked, moved, unlocked and locked shared; WRITE is locked; both unlocked.
    assert_eq!(locks, 6, "without a lease");
    writer.begin_lease();
    writer.run(insert).unwrap();
    layer::take_counts();
    for _ in 0..5 {
        writer.run(insert).unwrap();
    }
    // Neither a lock of the WAL index, nor a second write.
    assert_eq!(layer::take_counts(), (0, 5));
    writer.end_lease();
    assert_eq!(layer::take_counts(), (2, 0));
}
