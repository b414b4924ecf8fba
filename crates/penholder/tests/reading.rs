//! A read sees one snapshot, takes a connection from a bounded pool, and never takes the
//! write lock.
#![cfg(test)]

use std::sync::Barrier;
use std::thread;
use std::time::Duration;

use penholder::{Database, Error, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::{database_fixture, peer, wait};
use rusqlite::{Connection, ErrorCode};

#[test]
fn peer() {
    peer::run_role(&[("hold_transaction", database_fixture::hold_transaction)]);
}

fn count(connection: &Connection) -> Result<i64> {
    let sql = "SELECT count(*) FROM entry";
    Ok(connection.query_row(sql, [], |row| row.get(0))?)
}

#[test]
fn reads_do_not_wait_for_a_writer() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let options = OpenOptions::new().timeout(database_fixture::ENDLESS_TIMEOUT);
    let db = options.open(fixture.path()).unwrap();
    let _holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let (seen, took) = wait::timed(|| {
        (
            db.read(count).unwrap(),
            database_fixture::count_entries(&db),
        )
    });
    assert_eq!(seen, (0, 0));
    assert!(took < database_fixture::PROMPT, "{took:?}");
}

#[test]
fn a_read_sees_one_snapshot() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let seen = db.read(|connection| -> Result<(i64, i64)> {
        let before = count(connection)?;
        // A write inside a read works, and is not seen by it.
        database_fixture::insert(&db, "1")?;
        Ok((before, count(connection)?))
    });
    assert_eq!(seen.unwrap(), (0, 0));
    assert_eq!(db.read(count).unwrap(), 1, "the next read sees it");
}

#[test]
fn a_read_inside_a_write_sees_only_committed_rows() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let seen = db.write(|tx| -> Result<(i64, i64)> {
        tx.execute("INSERT INTO entry VALUES (1)", [])?;
        Ok((db.read(count)?, count(tx)?))
    });
    assert_eq!(seen.unwrap(), (0, 1));
}

#[test]
fn a_read_inside_a_read_takes_a_second_connection() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let seen = db.read(|outer| -> Result<(i64, i64)> {
        let before = count(outer)?;
        database_fixture::insert(&db, "1")?;
        Ok((before, db.read(count)?))
    });
    assert_eq!(seen.unwrap(), (0, 1));
}

#[test]
fn too_many_reads_time_out() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let timeout = Duration::from_millis(300);
    let options = OpenOptions::new().timeout(timeout).max_readers(1);
    let db = options.open(fixture.path()).unwrap();
    let done = db.read(|_| -> Result<(Error, Duration)> {
        let (inner, took) = wait::timed(|| db.read(count));
        Ok((inner.unwrap_err(), took))
    });
    let (error, took) = done.unwrap();
    assert!(error.is_timeout() && !error.is_sqlite_busy(), "{error}");
    assert!(error.lock_error().is_none() && error.sqlite_error().is_none());
    assert!(error.to_string().contains("the only reader"), "{error}");
    assert!(
        took >= timeout && took < database_fixture::PROMPT,
        "{took:?}"
    );
    assert_eq!(
        db.read(count).unwrap(),
        0,
        "the outer connection was returned"
    );
}

#[test]
fn a_read_waits_for_a_free_connection() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = database_fixture::options()
        .max_readers(1)
        .open(fixture.path())
        .unwrap();
    let barrier = Barrier::new(2);
    thread::scope(|scope| {
        scope.spawn(|| {
            let long = db.read(|connection| -> Result<()> {
                barrier.wait();
                for _ in 0..50 {
                    count(connection)?;
                    thread::yield_now();
                }
                Ok(())
            });
            long.unwrap();
        });
        barrier.wait();
        assert_eq!(db.read(count).unwrap(), 0);
    });
}

#[test]
fn connections_are_reused_after_errors() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = database_fixture::options()
        .max_readers(1)
        .open(fixture.path())
        .unwrap();
    for _ in 0..3 {
        let done: Result<()> = db.read(|connection| {
            count(connection)?;
            connection.execute("SELECT * FROM missing", [])?;
            Ok(())
        });
        assert!(done.unwrap_err().sqlite_error().is_some());
        db.query("SELECT * FROM missing", ()).unwrap_err();
        // Ends its own transaction and begins another one.
        let done: Result<()> = db.read(|connection| {
            connection.execute_batch("COMMIT; BEGIN; SELECT * FROM entry")?;
            Ok(())
        });
        done.unwrap();
        database_fixture::insert(&db, "1").unwrap();
    }
    assert_eq!(db.read(count).unwrap(), 3);
}

fn code(error: &Error) -> Option<ErrorCode> {
    error.sqlite_error()?.sqlite_error_code()
}

#[test]
fn readers_cannot_write() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for sql in [
        "INSERT INTO entry VALUES (1)",
        "CREATE TABLE no(a)",
        "DROP TABLE entry",
    ] {
        let error = db.query(sql, ()).unwrap_err();
        assert_eq!(code(&error), Some(ErrorCode::ReadOnly), "{sql}: {error}");
        assert!(error.to_string().contains("use `execute`"), "{error}");
    }
    assert_eq!(database_fixture::count_entries(&db), 0);
}

#[test]
fn rows_return_values_by_name_and_type() {
    let fixture = DatabaseFixture::new();
    let db = Database::open(fixture.path()).unwrap();
    let rows = db.query("SELECT 1 AS a, 'x' AS b", ()).unwrap();
    assert_eq!(rows.columns(), ["a", "b"]);
    let row = &rows[0];
    assert_eq!(row.get::<String>("b").unwrap(), "x");
    assert_eq!(row.get::<i64>(0).unwrap(), 1);
    assert!(rows.get(1).is_none());
    for error in [
        row.get::<i64>(2).unwrap_err(),
        row.get::<i64>("c").unwrap_err(),
        row.get::<i64>("b").unwrap_err(),
    ] {
        assert!(error.to_string().starts_with("read a row: "), "{error}");
    }
}
