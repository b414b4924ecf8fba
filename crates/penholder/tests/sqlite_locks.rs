//! A process that has one of SQLite's own locks is named, whichever lock it is, and whether it
//! keeps others from writing, from reading or from opening the database.
#![cfg(test)]

use std::time::Duration;

use penholder::lock::SqliteLock;
use penholder::rusqlite::Connection;
use penholder::{Error, OpenOptions};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{plain_sqlite, requirement, wait};

const TIMEOUT: Duration = Duration::from_millis(300);

/// How the `sqlite3` shell gets the lock, and whom it keeps out.
struct Case {
    sql: &'static str,
    lock: SqliteLock,
    keeps_readers_out: bool,
}

const CASES: [Case; 8] = [
    Case {
        sql: "PRAGMA journal_mode=WAL; BEGIN IMMEDIATE;",
        lock: SqliteLock::Write,
        keeps_readers_out: false,
    },
    Case {
        sql: "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=WAL; INSERT INTO entry VALUES (1);",
        lock: SqliteLock::Exclusive,
        keeps_readers_out: true,
    },
    Case {
        sql: "PRAGMA journal_mode=WAL; INSERT INTO entry VALUES (1); PRAGMA locking_mode=EXCLUSIVE; INSERT INTO entry VALUES (1);",
        lock: SqliteLock::Exclusive,
        keeps_readers_out: true,
    },
    Case {
        sql: "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO entry VALUES (1);",
        lock: SqliteLock::Exclusive,
        keeps_readers_out: true,
    },
    Case {
        sql: "PRAGMA locking_mode=EXCLUSIVE; PRAGMA journal_mode=PERSIST; INSERT INTO entry VALUES (1);",
        lock: SqliteLock::Exclusive,
        keeps_readers_out: true,
    },
    Case {
        sql: "BEGIN IMMEDIATE; INSERT INTO entry VALUES (1);",
        lock: SqliteLock::Reserved,
        keeps_readers_out: false,
    },
    Case {
        sql: "BEGIN EXCLUSIVE;",
        lock: SqliteLock::Exclusive,
        keeps_readers_out: true,
    },
    Case {
        sql: "BEGIN; SELECT count(*) FROM entry;",
        lock: SqliteLock::Shared,
        keeps_readers_out: false,
    },
];

/// Creates a database that is not in WAL mode.
fn new_database() -> DatabaseFixture {
    let fixture = DatabaseFixture::new();
    let plain = plain_sqlite::open(&fixture.path());
    plain.execute_batch("CREATE TABLE entry(key)").unwrap();
    fixture
}

/// Lets the `sqlite3` shell run this SQL; returns `None` if it is not installed.
fn shell(fixture: &DatabaseFixture, sql: &str) -> Option<Peer> {
    let mut shell = plain_sqlite::shell(&fixture.path())?;
    shell.send(&format!("{sql} SELECT 'done';"));
    while shell.read_line() != "done" {}
    Some(shell)
}

fn write(fixture: &DatabaseFixture) -> Result<(), Error> {
    let db = OpenOptions::new().timeout(TIMEOUT).open(fixture.path())?;
    db.execute("INSERT INTO entry VALUES (2)", ()).map(drop)
}

fn read(fixture: &DatabaseFixture) -> Result<(), Error> {
    let options = OpenOptions::new().timeout(TIMEOUT).read_only(true);
    let db = options.open(fixture.path())?;
    db.query("SELECT * FROM entry", ()).map(drop)
}

/// Outside WAL mode an open connection can be kept out too.
#[test]
fn a_holder_is_named_to_readers_of_an_open_database() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = new_database();
    let options = OpenOptions::new().timeout(TIMEOUT).read_only(true);
    let db = options.open(fixture.path()).unwrap();
    let Some(holder) = shell(&fixture, "BEGIN EXCLUSIVE;") else {
        return;
    };
    let read = |connection: &Connection| {
        let sql = "SELECT count(*) FROM entry";
        Ok(connection.query_row(sql, [], |row| row.get::<_, i64>(0))?)
    };
    for failed in [
        db.query("SELECT * FROM entry", ()).map(drop),
        db.query_scalar::<i64>("SELECT count(*) FROM entry", ())
            .map(drop),
        db.read(read).map(drop),
    ] {
        assert_names(&failed.unwrap_err(), &holder, SqliteLock::Exclusive);
    }
}

#[track_caller]
fn assert_names(error: &Error, holder: &Peer, lock: SqliteLock) {
    assert!(error.is_sqlite_busy() && error.is_timeout(), "{error}");
    let found = error.sqlite_holder().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(
        (found.process.pid, found.lock),
        (holder.pid(), lock),
        "{error}"
    );
    let text = error.to_string();
    assert!(text.starts_with("database busy after 300ms: "), "{text}");
    assert!(
        text.contains(&format!("pid:{} (`sqlite3", holder.pid())),
        "{text}"
    );
    let is_writer = error.unlocked_writer().is_some();
    assert_eq!(is_writer, lock != SqliteLock::Shared, "{error}");
}

#[test]
fn a_holder_of_any_lock_is_named_to_writers() {
    if !requirement::names_holders() {
        return;
    }
    for case in CASES {
        let fixture = new_database();
        let Some(holder) = shell(&fixture, case.sql) else {
            return;
        };
        let error = write(&fixture).expect_err(case.sql);
        assert_names(&error, &holder, case.lock);
        // Opening the database failed before this process took the write lock.
        let is_locked = !case.keeps_readers_out;
        let text = error.to_string();
        assert_eq!(
            text.contains("the write lock was free"),
            is_locked,
            "{text}"
        );
        let claims = text.contains("without the write lock");
        assert_eq!(
            claims,
            is_locked && case.lock != SqliteLock::Shared,
            "{text}"
        );
    }
}

#[test]
fn a_holder_of_any_lock_is_named_to_readers() {
    if !requirement::names_holders() {
        return;
    }
    for case in CASES {
        let fixture = new_database();
        let Some(holder) = shell(&fixture, case.sql) else {
            return;
        };
        match read(&fixture) {
            Ok(()) => assert!(!case.keeps_readers_out, "{}", case.sql),
            Err(error) => {
                assert!(case.keeps_readers_out, "{}: {error}", case.sql);
                assert_names(&error, &holder, case.lock);
                // Nobody has looked whose the write lock is.
                assert!(!error.to_string().contains("the write lock"), "{error}");
            }
        }
    }
}

#[test]
fn a_writer_that_waits_for_readers_is_named() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = new_database();
    let Some(reader) = shell(&fixture, "BEGIN; SELECT count(*) FROM entry;") else {
        return;
    };
    let mut writer = shell(&fixture, "PRAGMA busy_timeout=60000;").unwrap();
    writer.send("INSERT INTO entry VALUES (1);");
    let mut error = None;
    wait::until("the writer waits for the reader", || {
        error = read(&fixture).err();
        error.is_some()
    });
    assert_names(&error.unwrap(), &writer, SqliteLock::Pending);
    assert_names(&write(&fixture).unwrap_err(), &writer, SqliteLock::Pending);
    drop(reader);
}

#[test]
fn a_holder_of_an_open_database_is_named() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = new_database();
    let db = OpenOptions::new().timeout(TIMEOUT).open(fixture.path());
    let db = db.unwrap();
    let Some(holder) = shell(&fixture, "BEGIN IMMEDIATE;") else {
        return;
    };
    for failed in [
        db.execute("INSERT INTO entry VALUES (1)", ()).map(drop),
        db.execute("CREATE TABLE other(a)", ()).map(drop),
        db.batch(["INSERT INTO entry VALUES (1)"]).map(drop),
        db.write(|_| Ok(())),
        db.vacuum(),
    ] {
        assert_names(&failed.unwrap_err(), &holder, SqliteLock::Write);
    }
}

// Windows does not tell which process holds a lock.
#[cfg(unix)]
#[test]
fn this_process_is_named_if_another_connection_of_it_is_in_the_way() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = new_database();
    let db = OpenOptions::new().timeout(TIMEOUT).open(fixture.path());
    let db = db.unwrap();
    let plain = plain_sqlite::open(&fixture.path());
    plain.execute_batch("BEGIN IMMEDIATE").unwrap();
    let error = db.execute("INSERT INTO entry VALUES (1)", ()).unwrap_err();
    let found = error.sqlite_holder().unwrap();
    assert_eq!(found.process.pid, std::process::id(), "{error}");
}
