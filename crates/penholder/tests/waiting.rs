//! One deadline bounds everything that a call waits for, and the error says who
//! was in the way: the holder of the write lock, or an outsider that writes
//! without it.
#![cfg(test)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder::lock::ProcessState;
use penholder::rusqlite::Connection;
use penholder::{Database, Error, Options, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

/// The timeout that these tests wait for.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How late an answer may come.
const LATE: Duration = Duration::from_millis(100);
/// How late a single one may come where others keep the machine busy.
const EVER: Duration = Duration::from_secs(4);

#[test]
fn peer() {
    peer::run_role(&[
        ("hold", database_fixture::hold_transaction),
        ("hold pen", database_fixture::hold_lock),
    ]);
}

fn impatient(fixture: &DatabaseFixture) -> Database {
    Options::new()
        .timeout(TIMEOUT)
        .open(fixture.path())
        .unwrap()
}

/// Asserts that these took the timeout, and not much more. The median, for the
/// machine is others' too.
fn assert_on_time(mut took: Vec<Duration>) {
    took.sort();
    assert!(took[0] + Duration::from_millis(5) >= TIMEOUT, "{took:?}");
    assert!(took[took.len() / 2] < TIMEOUT + LATE, "{took:?}");
    assert!(took[took.len() - 1] < TIMEOUT + EVER, "{took:?}");
}

fn times(failures: &[(Error, Duration)]) -> Vec<Duration> {
    failures.iter().map(|(_, took)| *took).collect()
}

/// Every way to write fails in the same way.
fn failures(db: &Database) -> Vec<(Error, Duration)> {
    let ways: [&dyn Fn() -> Result<()>; 5] = [
        &|| database_fixture::insert(db, "no"),
        &|| db.batch(["INSERT INTO entry VALUES ('no')"]).map(drop),
        &|| db.execute("CREATE TABLE no(a)", ()).map(drop),
        &|| {
            db.write(|tx| {
                tx.execute("INSERT INTO entry VALUES ('no')", [])?;
                Ok(())
            })
        },
        &|| {
            db.with_write_lock(|connection| {
                connection.execute("INSERT INTO entry VALUES ('no')", [])?;
                Ok(())
            })
        },
    ];
    ways.iter()
        .map(|way| {
            let (done, took) = wait::timed(way);
            (done.unwrap_err(), took)
        })
        .collect()
}

fn assert_names(error: &Error, holder: &Peer, state: &str) {
    assert!(error.is_timeout() && !error.is_busy(), "{error}");
    assert!(error.lock_error().is_some() && error.sqlite_error().is_none());
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert!(error.outsider().is_none());
    let text = error.to_string();
    assert!(
        text.starts_with("write lock timeout after 500ms\n"),
        "{text}"
    );
    assert!(text.contains(&format!("pid:{}", holder.pid())), "{text}");
    assert!(text.contains(state), "{text}");
}

#[test]
fn timeout_names_the_process_that_holds() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = impatient(&fixture);
    let mut holder = database_fixture::start_holder("hold", &fixture.path());
    let failures = failures(&db);
    assert_on_time(times(&failures));
    for (error, _) in failures {
        assert_names(&error, &holder, "sleeping");
    }
    holder.send("release");
    holder.expect("released");
    assert_eq!(
        database_fixture::keys(&db),
        ["held"],
        "nothing of ours was written"
    );
    database_fixture::insert(&db, "now").unwrap();
}

#[test]
fn stopped_holder_is_named_and_not_robbed() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = impatient(&fixture);
    let mut holder = database_fixture::start_holder("hold", &fixture.path());
    holder.signal("STOP");
    wait::until("the holder to stop", || {
        let status = db.status().unwrap();
        status.holder.unwrap().state == ProcessState::Stopped
    });
    let failures = failures(&db);
    assert_on_time(times(&failures));
    for (error, _) in failures {
        assert_names(&error, &holder, "stopped");
    }
    holder.signal("CONT");
    holder.send("release");
    holder.expect("released");
    assert_eq!(database_fixture::keys(&db), ["held"]);
}

/// The kernel's table of locks changes while it is read, because others take
/// and give back theirs; a holder that holds all the time is seen all the time.
#[test]
fn holder_is_seen_whatever_others_do() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let holder = database_fixture::start_holder("hold", &fixture.path());
    let over = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let elsewhere = DatabaseFixture::new();
                let other = elsewhere.database();
                while !over.load(Ordering::Relaxed) {
                    database_fixture::insert(&other, "busy").unwrap();
                }
            });
        }
        let look = || db.status().unwrap().holder.and_then(|holder| holder.pid);
        let missed = (0..2000).filter(|_| look() != Some(holder.pid())).count();
        over.store(true, Ordering::Relaxed);
        missed
    });
    assert_eq!(missed, 0, "of 2000 looks");
}

#[test]
fn outsider_is_named() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = impatient(&fixture);
    let Some(mut outsider) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let mut failures = failures(&db);
    assert_on_time(times(&failures));
    // A statement of one's own, under the bare lock, gets SQLite's error as it is.
    let (error, _) = failures.pop().unwrap();
    assert!(error.is_busy() && error.is_timeout(), "{error}");
    for (error, _) in failures {
        assert!(error.is_busy() && error.is_timeout(), "{error}");
        assert!(error.lock_error().is_none() && error.holder().is_none());
        assert_eq!(error.outsider().unwrap().pid, outsider.pid(), "{error}");
        let text = error.to_string();
        assert!(text.starts_with("database busy after 500ms"), "{text}");
        assert!(text.contains(&outsider.pid().to_string()), "{text}");
        assert!(text.contains("without the write lock"), "{text}");
    }
    outsider.send("COMMIT; SELECT 'done';");
    outsider.expect("done");
    assert_eq!(database_fixture::count_entries(&db), 0);
    database_fixture::insert(&db, "now").unwrap();
}

#[test]
fn outsider_is_waited_for() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let Some(mut outsider) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| database_fixture::insert(&db, "ours"));
        // It holds the write lock, so it is at SQLite's.
        wait::until("the writer to hold", || {
            db.status().unwrap().holder.is_some()
        });
        outsider.send("INSERT INTO entry VALUES ('theirs'); COMMIT;");
        writer.join().unwrap().unwrap();
    });
    assert_eq!(database_fixture::keys(&db), ["ours", "theirs"]);
}

/// First the write lock is held for most of the timeout, then an outsider holds
/// SQLite's own: together they take one timeout, not two waits in a row.
#[test]
fn waits_do_not_add_up() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let (timeout, held) = (Duration::from_secs(3), Duration::from_millis(2500));
    let db = Options::new()
        .timeout(timeout)
        .open(fixture.path())
        .unwrap();
    let Some(_outsider) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let mut holder = database_fixture::start_holder("hold pen", &fixture.directory());
    let (done, took) = thread::scope(|scope| {
        let writer = scope.spawn(|| wait::timed(|| database_fixture::insert(&db, "no")));
        // Part of what is measured.
        thread::sleep(held);
        holder.send("release");
        writer.join().unwrap()
    });
    let error = done.unwrap_err();
    assert!(error.is_busy() && error.lock_error().is_none(), "{error}");
    assert!(took + Duration::from_millis(5) >= timeout, "{took:?}");
    assert!(took < timeout + held / 2, "{took:?}");
}

/// The steps of a migration wait together: here somebody else has the lock between
/// any two, for less than the timeout.
#[test]
fn waits_of_a_migration_do_not_add_up() {
    let fixture = DatabaseFixture::new();
    let other = fixture.database();
    let timeout = Duration::from_secs(1);
    let db = Options::new()
        .timeout(timeout)
        .open(fixture.path())
        .unwrap();
    let steps: Vec<String> = (0..12)
        .map(|number| format!("CREATE TABLE step{number}(a)"))
        .collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let over = AtomicBool::new(false);
    let hold = || {
        while !over.load(Ordering::Relaxed) {
            let hold = |_: &Connection| -> Result<()> {
                thread::sleep(Duration::from_millis(300));
                Ok(())
            };
            other.with_write_lock(hold).unwrap();
        }
    };
    let done = thread::scope(|scope| {
        // Two, so that one is in the queue whenever the other has held.
        scope.spawn(hold);
        scope.spawn(hold);
        wait::until("the first to hold", || {
            db.status().unwrap().holder.is_some()
        });
        // Long enough for the second to queue; if not, it does at the next turn.
        thread::sleep(Duration::from_millis(100));
        let done = db.migrate(&steps);
        over.store(true, Ordering::Relaxed);
        done
    });
    let error = done.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn zero_timeout_tries_once() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = Options::new()
        .timeout(Duration::ZERO)
        .open(fixture.path())
        .unwrap();
    database_fixture::insert(&db, "free").unwrap();
    let holder = database_fixture::start_holder("hold", &fixture.path());
    let (done, took) = wait::timed(|| database_fixture::insert(&db, "no"));
    let error = done.unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert!(took < EVER, "{took:?}");
}

#[test]
fn endless_timeout_is_taken() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = Options::new().timeout(Duration::MAX).open(fixture.path());
    let db = db.unwrap();
    database_fixture::insert(&db, "1").unwrap();
    assert_eq!(database_fixture::keys(&db), ["1"]);
}
