//! Opening a database in WAL mode takes no write lock, and the switch to WAL takes it.
//! Every connection gets the settings of the options.
#![cfg(test)]

use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder::{Database, OpenOptions, Result, Synchronous};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};
use rusqlite::Connection;

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_transaction", database_fixture::hold_transaction),
        ("hold_lock", database_fixture::hold_lock),
    ]);
}

/// Creates a database in rollback mode with one row, as plain SQLite does.
fn create_in_rollback_mode(path: &Path) {
    let connection = plain_sqlite::open(path);
    connection
        .execute_batch("CREATE TABLE entry(key); INSERT INTO entry VALUES ('old')")
        .unwrap();
}

fn journal_mode(path: &Path) -> String {
    pragma(&plain_sqlite::open(path), "journal_mode")
}

fn pragma(connection: &Connection, name: &str) -> String {
    connection
        .pragma_query_value(None, name, |row| row.get::<_, rusqlite::types::Value>(0))
        .map(|value| match value {
            rusqlite::types::Value::Integer(value) => value.to_string(),
            rusqlite::types::Value::Text(value) => value,
            other => panic!("{other:?}"),
        })
        .unwrap()
}

#[test]
fn a_wal_database_opens_while_another_process_writes() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    database_fixture::insert(&db, "before").unwrap();
    drop(db);
    let holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let options = OpenOptions::new().timeout(database_fixture::ENDLESS_TIMEOUT);
    for options in [options.clone(), options.read_only(true)] {
        let (keys, took) = wait::timed(|| {
            let db = options.open(fixture.path()).unwrap();
            let seen = db.status().unwrap().holder.unwrap();
            assert_eq!(seen.pid, Some(holder.pid()));
            database_fixture::keys(&db)
        });
        assert_eq!(keys, ["before"], "uncommitted rows are not seen");
        assert!(took < database_fixture::PROMPT, "{took:?}");
    }
}

#[test]
fn a_rollback_database_is_switched_under_the_lock() {
    let fixture = DatabaseFixture::new();
    create_in_rollback_mode(&fixture.path());
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let options = OpenOptions::new().timeout(Duration::from_millis(300));
    let error = options.clone().open(fixture.path()).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert_eq!(journal_mode(&fixture.path()), "delete");
    holder.send("release");
    holder.expect("released");
    let db = options.open(fixture.path()).unwrap();
    assert_eq!(database_fixture::keys(&db), ["old"]);
    assert!(db.status().unwrap().holder.is_none(), "released");
    drop(db);
    assert_eq!(journal_mode(&fixture.path()), "wal");
}

#[test]
fn the_switch_waits_for_an_unlocked_writer_until_the_deadline() {
    let fixture = DatabaseFixture::new();
    create_in_rollback_mode(&fixture.path());
    let Some(mut unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let options = OpenOptions::new().timeout(Duration::from_millis(300));
    let (opened, took) = wait::timed(|| options.clone().open(fixture.path()));
    let error = opened.unwrap_err();
    assert!(error.is_sqlite_busy() && error.is_timeout(), "{error}");
    assert!(took < database_fixture::PROMPT, "{took:?}");
    unlocked_writer.send("COMMIT; SELECT 'done';");
    unlocked_writer.expect("done");
    assert_eq!(
        database_fixture::keys(&options.open(fixture.path()).unwrap()),
        ["old"]
    );
}

#[test]
fn opening_read_only_changes_nothing() {
    let fixture = DatabaseFixture::new();
    create_in_rollback_mode(&fixture.path());
    let holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let options = OpenOptions::new()
        .timeout(database_fixture::ENDLESS_TIMEOUT)
        .read_only(true);
    let (keys, took) = wait::timed(|| {
        let db = options.clone().open(fixture.path()).unwrap();
        database_fixture::keys(&db)
    });
    assert_eq!(keys, ["old"]);
    assert!(took < database_fixture::PROMPT, "{took:?}");
    drop(holder);
    let db = options.open(fixture.path()).unwrap();
    let error = database_fixture::insert(&db, "no").unwrap_err();
    assert!(error.to_string().contains("reading only"), "{error}");
    drop(db);
    assert_eq!(fixture.file_names(), ["db.lock", "db.lockq", "x.db"]);
    assert_eq!(journal_mode(&fixture.path()), "delete");
}

#[test]
fn a_missing_database_is_created_only_if_requested() {
    let fixture = DatabaseFixture::new();
    for options in [
        OpenOptions::new().create(false),
        OpenOptions::new().read_only(true),
        OpenOptions::new().create(true).read_only(true),
    ] {
        let error = options.open(fixture.path()).unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(error.to_string().contains("no such database"), "{error}");
        assert!(
            fixture.file_names().is_empty(),
            "{:?}",
            fixture.file_names()
        );
    }
    drop(Database::open(fixture.path()).unwrap());
    assert_eq!(journal_mode(&fixture.path()), "wal");
    OpenOptions::new()
        .create(false)
        .open(fixture.path())
        .unwrap();
}

/// Asserts the settings of a writing connection, inside and outside a transaction.
fn assert_writer(db: &Database, timeout: Duration, synchronous: &str) {
    let check = |connection: &Connection| {
        assert_eq!(pragma(connection, "journal_mode"), "wal");
        assert_eq!(pragma(connection, "synchronous"), synchronous);
        assert_eq!(pragma(connection, "query_only"), "0");
        let busy_timeout: u128 = pragma(connection, "busy_timeout").parse().unwrap();
        // The time until the deadline, which has hardly passed.
        assert!(
            busy_timeout <= timeout.as_millis() && busy_timeout * 2 > timeout.as_millis(),
            "{busy_timeout}"
        );
    };
    let in_transaction = db.write(|tx| -> Result<()> {
        check(tx);
        Ok(())
    });
    in_transaction.unwrap();
    let outside = db.with_write_lock(|connection| -> Result<()> {
        check(connection);
        Ok(())
    });
    outside.unwrap();
}

/// Asserts the settings of a reading connection.
fn assert_reader(db: &Database, timeout: Duration) {
    let read = db.read(|connection| -> Result<()> {
        assert_eq!(pragma(connection, "journal_mode"), "wal");
        assert_eq!(pragma(connection, "query_only"), "1");
        let busy_timeout: u128 = pragma(connection, "busy_timeout").parse().unwrap();
        assert!(
            busy_timeout <= timeout.as_millis() && busy_timeout * 2 > timeout.as_millis(),
            "{busy_timeout}"
        );
        connection
            .execute("INSERT INTO entry VALUES ('no')", [])
            .unwrap_err();
        connection
            .pragma_update(None, "query_only", false)
            .and_then(|()| connection.execute("INSERT INTO entry VALUES ('no')", []))
            .unwrap_err();
        connection.pragma_update(None, "query_only", true)?;
        Ok(())
    });
    read.unwrap();
    assert_eq!(database_fixture::count_entries(db), 0);
}

#[test]
fn settings_apply_at_every_open() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let timeout = Duration::from_secs(30);
    for (synchronous, value) in [
        (Synchronous::Normal, "1"),
        (Synchronous::Full, "2"),
        (Synchronous::Normal, "1"),
    ] {
        let options = OpenOptions::new().timeout(timeout).synchronous(synchronous);
        let db = options.open(fixture.path()).unwrap();
        for _ in 0..2 {
            assert_writer(&db, timeout, value);
            assert_reader(&db, timeout);
        }
    }
}

#[test]
fn the_default_timeout_is_half_a_second() {
    let fixture = DatabaseFixture::new();
    let db = Database::open(fixture.path()).unwrap();
    let busy_timeout = db.with_write_lock(|connection| -> Result<u64> {
        Ok(pragma(connection, "busy_timeout").parse().unwrap())
    });
    let busy_timeout = busy_timeout.unwrap();
    assert!((1..=500).contains(&busy_timeout), "{busy_timeout}");
}

#[test]
fn settings_apply_to_a_new_database() {
    let fixture = DatabaseFixture::new();
    let timeout = Duration::from_secs(20);
    let options = OpenOptions::new()
        .timeout(timeout)
        .synchronous(Synchronous::Full);
    let db = options.open(fixture.path()).unwrap();
    assert_writer(&db, timeout, "2");
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_reader(&db, timeout);
}

#[test]
fn the_busy_timeout_is_the_time_until_the_deadline() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let left = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            db.with_write_lock(|connection| -> Result<u64> {
                Ok(pragma(connection, "busy_timeout").parse().unwrap())
            })
        });
        // This time counts against the deadline.
        std::thread::sleep(Duration::from_millis(300));
        holder.send("release");
        writer.join().unwrap()
    });
    let left = left.unwrap();
    let most = u64::try_from(database_fixture::LONG_TIMEOUT.as_millis()).unwrap() - 250;
    assert!(left > 0 && left <= most, "{left}");
}

#[test]
fn the_label_is_shown_in_the_status() {
    let fixture = DatabaseFixture::new();
    let db = OpenOptions::new()
        .label("nightly sync")
        .open(fixture.path());
    let db = db.unwrap();
    let seen = db.write(|_| -> Result<_> { db.status() }).unwrap();
    assert_eq!(seen.holder.unwrap().label.unwrap(), "nightly sync");
    assert_eq!(seen.lock_file, db.lock_file());
    assert!(db.status().unwrap().holder.is_none());
}

/// The write lock is held for most of the timeout, and then an unlocked writer holds the
/// whole database. Together they take one timeout, and the error says so.
#[test]
fn waits_while_opening_do_not_add_up() {
    let fixture = DatabaseFixture::new();
    let plain = plain_sqlite::open(&fixture.path());
    plain.execute_batch("CREATE TABLE entry(key)").unwrap();
    drop(plain);
    let Some(mut shell) = plain_sqlite::shell(&fixture.path()) else {
        return;
    };
    let (timeout, held) = (Duration::from_secs(3), Duration::from_millis(2500));
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let (done, took) = thread::scope(|scope| {
        let options = OpenOptions::new().timeout(timeout);
        let opener = scope.spawn(|| wait::timed(|| options.open(fixture.path())));
        // This time is part of the measurement. After it the opener waits for the write lock.
        thread::sleep(held / 2);
        shell.send("BEGIN EXCLUSIVE; SELECT 'alone';");
        shell.expect("alone");
        thread::sleep(held / 2);
        holder.send("release");
        opener.join().unwrap()
    });
    let error = done.unwrap_err();
    assert!(error.is_sqlite_busy() && error.is_timeout(), "{error}");
    assert!(took < timeout + held / 2, "{took:?}");
}
