//! Many threads may share, clone, write and read one `Database` at the same time.
#![cfg(test)]

use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder::{Database, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::{database_fixture, plain_sqlite};

const THREADS: usize = 16;
const WRITES: i64 = 30;

/// Increments the counter in two steps, so that a write in between would show.
fn increment(db: &Database) -> Result<()> {
    db.write(|tx| {
        let n: i64 = tx.query_row("SELECT n FROM counter", [], |row| row.get(0))?;
        tx.execute("UPDATE counter SET n = ?1", [n + 1])?;
        tx.execute("INSERT INTO entry VALUES (?1)", [n + 1])?;
        Ok(())
    })
}

/// Asserts that the counter and the number of entries agree in one snapshot.
fn assert_consistent(db: &Database) {
    let seen = db.read(|connection| -> Result<(i64, i64)> {
        let n = connection.query_row("SELECT n FROM counter", [], |row| row.get(0))?;
        let entries = "SELECT count(*) FROM entry";
        Ok((n, connection.query_row(entries, [], |row| row.get(0))?))
    });
    let (n, entries) = seen.unwrap();
    assert_eq!(n, entries);
}

fn create_counter(fixture: &DatabaseFixture) -> Database {
    let db = fixture.database();
    db.batch(["CREATE TABLE counter(n)", "INSERT INTO counter VALUES (0)"])
        .unwrap();
    db
}

fn assert_counts(databases: &[Database]) {
    let start = Barrier::new(databases.len());
    thread::scope(|scope| {
        for db in databases {
            scope.spawn(|| {
                start.wait();
                for _ in 0..WRITES {
                    increment(db).unwrap();
                    assert_consistent(db);
                }
            });
        }
    });
    let db = &databases[0];
    let all = i64::try_from(databases.len()).unwrap() * WRITES;
    assert_eq!(database_fixture::number(db, "SELECT n FROM counter"), all);
    assert_eq!(
        database_fixture::number(db, "SELECT count(DISTINCT key) FROM entry"),
        all
    );
}

#[test]
fn threads_may_share_clones() {
    let fixture = DatabaseFixture::new();
    let db = create_counter(&fixture);
    assert_counts(&vec![db; THREADS]);
    plain_sqlite::assert_integrity(&fixture.path());
}

#[test]
fn threads_may_open_databases_of_their_own() {
    let fixture = DatabaseFixture::new();
    drop(create_counter(&fixture));
    let own = |_| database_fixture::open(&fixture.path());
    assert_counts(&(0..THREADS).map(own).collect::<Vec<_>>());
    plain_sqlite::assert_integrity(&fixture.path());
}

#[test]
fn readers_see_consistent_snapshots_while_others_write() {
    let fixture = DatabaseFixture::new();
    let db = create_counter(&fixture);
    let stopped = AtomicBool::new(false);
    thread::scope(|scope| {
        let readers: Vec<_> = (0..THREADS / 2)
            .map(|_| {
                scope.spawn(|| {
                    while !stopped.load(Ordering::Relaxed) {
                        assert_consistent(&db);
                    }
                })
            })
            .collect();
        for _ in 0..300 {
            increment(&db).unwrap();
        }
        stopped.store(true, Ordering::Relaxed);
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    });
}

#[test]
fn a_waiting_thread_names_its_own_process() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(fixture.path()).unwrap();
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('first')", [])?;
        let second =
            thread::scope(|scope| scope.spawn(|| database_fixture::insert(&db, "no")).join());
        let error = second.unwrap().unwrap_err();
        assert!(error.is_timeout() && !error.lock_error().unwrap().is_nested());
        assert!(error.holder().unwrap().is_this_process(), "{error}");
        Ok(())
    });
    done.unwrap();
    assert_eq!(database_fixture::keys(&db), ["first"]);
}

#[test]
fn handles_may_move_and_be_dropped_on_any_thread() {
    fn assert_shared<T: Send + Sync + Clone>(_: &T) {}
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    assert_shared(&db);
    let clone = db.clone();
    thread::spawn(move || drop(db)).join().unwrap();
    let written = thread::spawn(move || {
        database_fixture::insert(&clone, "1").unwrap();
        clone
    });
    assert_eq!(database_fixture::keys(&written.join().unwrap()), ["1"]);
}
