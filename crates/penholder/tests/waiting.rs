//! One deadline bounds all waits of a call, and the error names the process that it waited
//! for: the holder of the write lock, or an unlocked writer.
#![cfg(test)]

use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder::lock::ProcessState;
use penholder::rusqlite::Connection;
use penholder::{Database, Error, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, requirement, wait};

/// The timeout that these tests wait for.
const TIMEOUT: Duration = Duration::from_millis(500);
/// How late a call may return at the median: less than if it had waited twice.
const MAX_DELAY: Duration = Duration::from_millis(400);
/// How late a single call may return if other processes keep the machine busy.
const MAX_SINGLE_DELAY: Duration = Duration::from_secs(4);

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_transaction", database_fixture::hold_transaction),
        ("hold_lock", database_fixture::hold_lock),
    ]);
}

fn open_with_short_timeout(fixture: &DatabaseFixture) -> Database {
    OpenOptions::new()
        .timeout(TIMEOUT)
        .open(fixture.path())
        .unwrap()
}

/// Returns the errors of every way to write, which must take the timeout and not much more: at
/// the median, and at one of three attempts, because the machine may be busy.
fn failures_on_time(db: &Database) -> Vec<(Error, Duration)> {
    for attempt in 1.. {
        let failures = failures(db);
        let mut took: Vec<Duration> = failures.iter().map(|(_, took)| *took).collect();
        took.sort();
        assert!(took[0] + Duration::from_millis(5) >= TIMEOUT, "{took:?}");
        let longest = took[took.len() - 1];
        assert!(longest < TIMEOUT + MAX_SINGLE_DELAY, "{took:?}");
        if took[took.len() / 2] < TIMEOUT + MAX_DELAY {
            return failures;
        }
        assert!(attempt < 3, "{took:?}");
    }
    unreachable!("the third attempt returns or fails")
}

/// Returns the errors of every way to write, which must fail.
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
    assert!(error.is_timeout() && !error.is_sqlite_busy(), "{error}");
    assert!(error.lock_error().is_some() && error.sqlite_error().is_none());
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert!(error.unlocked_writer().is_none());
    let text = error.to_string();
    assert!(
        text.starts_with("write lock timeout after 500ms\n"),
        "{text}"
    );
    assert!(text.contains(&format!("pid:{}", holder.pid())), "{text}");
    assert!(text.contains(state), "{text}");
}

#[test]
fn a_timeout_names_the_holder() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = open_with_short_timeout(&fixture);
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let failures = failures_on_time(&db);
    for (error, _) in failures {
        // Wine does not tell that a process sleeps.
        assert_names(&error, &holder, if cfg!(windows) { "" } else { "sleeping" });
    }
    holder.send("release");
    holder.expect("released");
    assert_eq!(
        database_fixture::keys(&db),
        ["held"],
        "the failed writes left no row"
    );
    database_fixture::insert(&db, "now").unwrap();
}

#[test]
fn a_stopped_holder_is_named_and_keeps_the_lock() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = open_with_short_timeout(&fixture);
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    holder.signal("STOP");
    wait::until("the holder to stop", || {
        let status = db.status().unwrap();
        status.holder.unwrap().state == ProcessState::Stopped
    });
    let failures = failures_on_time(&db);
    for (error, _) in failures {
        assert_names(&error, &holder, "stopped");
    }
    holder.signal("CONT");
    holder.send("release");
    holder.expect("released");
    assert_eq!(database_fixture::keys(&db), ["held"]);
}

/// The kernel's table of locks changes while it is read, because other processes acquire
/// and release. Every read must find a holder that holds all the time.
#[test]
fn a_holder_is_found_among_busy_locks() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let stopped = AtomicBool::new(false);
    let missed = thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                let elsewhere = DatabaseFixture::new();
                let other = elsewhere.database();
                while !stopped.load(Ordering::Relaxed) {
                    database_fixture::insert(&other, "busy").unwrap();
                }
            });
        }
        let holder_pid = || db.status().unwrap().holder.and_then(|holder| holder.pid);
        let missed = (0..2000)
            .filter(|_| holder_pid() != Some(holder.pid()))
            .count();
        stopped.store(true, Ordering::Relaxed);
        missed
    });
    assert_eq!(missed, 0, "of 2000 reads");
}

#[test]
fn an_unlocked_writer_is_named() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = open_with_short_timeout(&fixture);
    let Some(mut unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let mut failures = failures_on_time(&db);
    // A statement in `with_write_lock` gets SQLite's error unchanged.
    let (error, _) = failures.pop().unwrap();
    assert!(error.is_sqlite_busy() && error.is_timeout(), "{error}");
    for (error, _) in failures {
        assert!(error.is_sqlite_busy() && error.is_timeout(), "{error}");
        assert!(error.lock_error().is_none() && error.holder().is_none());
        assert_eq!(
            error.unlocked_writer().unwrap().pid,
            unlocked_writer.pid(),
            "{error}"
        );
        let text = error.to_string();
        assert!(text.starts_with("database busy after 500ms"), "{text}");
        assert!(text.contains(&unlocked_writer.pid().to_string()), "{text}");
        assert!(text.contains("without the write lock"), "{text}");
    }
    unlocked_writer.send("COMMIT; SELECT 'done';");
    unlocked_writer.expect("done");
    assert_eq!(database_fixture::count_entries(&db), 0);
    database_fixture::insert(&db, "now").unwrap();
}

#[test]
fn a_write_waits_for_an_unlocked_writer() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let Some(mut unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    thread::scope(|scope| {
        let writer = scope.spawn(|| database_fixture::insert(&db, "ours"));
        // It holds the write lock, so it waits for SQLite's lock.
        wait::until("the writer to hold", || {
            db.status().unwrap().holder.is_some()
        });
        unlocked_writer.send("INSERT INTO entry VALUES ('theirs'); COMMIT;");
        writer.join().unwrap().unwrap();
    });
    assert_eq!(database_fixture::keys(&db), ["ours", "theirs"]);
}

/// The write lock is held for most of the timeout, and then an unlocked writer holds
/// SQLite's lock. Together they take one timeout, not two.
#[test]
fn waits_do_not_add_up() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let (timeout, held) = (Duration::from_secs(3), Duration::from_millis(2500));
    let db = OpenOptions::new()
        .timeout(timeout)
        .open(fixture.path())
        .unwrap();
    let Some(_unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let (done, took) = thread::scope(|scope| {
        let writer = scope.spawn(|| wait::timed(|| database_fixture::insert(&db, "no")));
        // This time is part of the measurement.
        thread::sleep(held);
        holder.send("release");
        writer.join().unwrap()
    });
    let error = done.unwrap_err();
    assert!(
        error.is_sqlite_busy() && error.lock_error().is_none(),
        "{error}"
    );
    assert!(took + Duration::from_millis(5) >= timeout, "{took:?}");
    assert!(took < timeout + held / 2, "{took:?}");
}

/// All steps of a migration share one timeout. Between any two steps another thread holds
/// the lock for less than the timeout.
#[test]
fn waits_of_a_migration_do_not_add_up() {
    let fixture = DatabaseFixture::new();
    let other = fixture.database();
    let timeout = Duration::from_secs(1);
    let db = OpenOptions::new()
        .timeout(timeout)
        .open(fixture.path())
        .unwrap();
    let steps: Vec<String> = (0..12)
        .map(|number| format!("CREATE TABLE step{number}(a)"))
        .collect();
    let steps: Vec<&str> = steps.iter().map(String::as_str).collect();
    let stopped = AtomicBool::new(false);
    let hold = || {
        while !stopped.load(Ordering::Relaxed) {
            let hold = |_: &Connection| -> Result<()> {
                thread::sleep(Duration::from_millis(300));
                Ok(())
            };
            other.with_write_lock(hold).unwrap();
        }
    };
    let done = thread::scope(|scope| {
        // Two threads, so that one is in the queue when the other releases.
        scope.spawn(hold);
        scope.spawn(hold);
        wait::until("the first to hold", || {
            db.status().unwrap().holder.is_some()
        });
        // Long enough for the second to queue. If it is not, it queues at the next turn.
        thread::sleep(Duration::from_millis(100));
        let done = db.migrate(&steps);
        stopped.store(true, Ordering::Relaxed);
        done
    });
    let error = done.unwrap_err();
    assert!(error.is_timeout(), "{error}");
}

#[test]
fn a_timeout_of_zero_tries_once() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = OpenOptions::new()
        .timeout(Duration::ZERO)
        .open(fixture.path())
        .unwrap();
    database_fixture::insert(&db, "free").unwrap();
    let holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let (done, took) = wait::timed(|| database_fixture::insert(&db, "no"));
    let error = done.unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert!(took < MAX_SINGLE_DELAY, "{took:?}");
}

#[test]
fn an_unlimited_timeout_works() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let db = OpenOptions::new()
        .timeout(Duration::MAX)
        .open(fixture.path());
    let db = db.unwrap();
    database_fixture::insert(&db, "1").unwrap();
    assert_eq!(database_fixture::keys(&db), ["1"]);
}
