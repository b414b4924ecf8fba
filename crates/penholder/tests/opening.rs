//! Opening: no write lock for a database that is in WAL mode already, the switch
//! to WAL under the lock, and the settings of every connection.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder::{Database, Options, Result, Synchronous};
use rusqlite::Connection;
use site::Site;

#[test]
fn peer() {
    peer::play(&[("hold", site::hold), ("hold pen", site::hold_pen)]);
}

/// A database as plain SQLite makes it, in rollback mode, with one row.
fn rollback_mode(path: &Path) {
    let connection = site::stranger(path);
    connection
        .execute_batch("CREATE TABLE entry(key); INSERT INTO entry VALUES ('old')")
        .unwrap();
}

fn mode_in_file(path: &Path) -> String {
    pragma(&site::stranger(path), "journal_mode")
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
fn wal_database_opens_while_another_process_writes() {
    let site = Site::new();
    let db = site.database();
    site::insert(&db, "before").unwrap();
    drop(db);
    let holder = site::holder("hold", &site.path());
    let options = Options::new().timeout(site::ENDLESS);
    for options in [options.clone(), options.read_only(true)] {
        let (keys, took) = site::timed(|| {
            let db = options.open(site.path()).unwrap();
            let seen = db.status().unwrap().holder.unwrap();
            assert_eq!(seen.pid, Some(holder.pid()));
            site::keys(&db)
        });
        assert_eq!(keys, ["before"], "what is not committed is not seen");
        assert!(took < site::PROMPT, "{took:?}");
    }
}

#[test]
fn rollback_database_is_switched_under_the_lock() {
    let site = Site::new();
    rollback_mode(&site.path());
    let mut holder = site::holder("hold pen", &site.folder());
    let options = Options::new().timeout(Duration::from_millis(300));
    let error = options.clone().open(site.path()).unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    assert_eq!(mode_in_file(&site.path()), "delete");
    holder.tell("release");
    holder.expect("released");
    let db = options.open(site.path()).unwrap();
    assert_eq!(site::keys(&db), ["old"]);
    assert!(db.status().unwrap().holder.is_none(), "given back");
    drop(db);
    assert_eq!(mode_in_file(&site.path()), "wal");
}

#[test]
fn switch_waits_for_an_outsider_until_the_deadline() {
    let site = Site::new();
    rollback_mode(&site.path());
    let Some(mut outsider) = site::outsider(&site.path()) else {
        return;
    };
    let options = Options::new().timeout(Duration::from_millis(300));
    let (opened, took) = site::timed(|| options.clone().open(site.path()));
    let error = opened.unwrap_err();
    assert!(error.is_busy() && error.is_timeout(), "{error}");
    assert!(took < site::PROMPT, "{took:?}");
    outsider.tell("COMMIT; SELECT 'done';");
    outsider.expect("done");
    assert_eq!(site::keys(&options.open(site.path()).unwrap()), ["old"]);
}

#[test]
fn read_only_leaves_everything_as_it_is() {
    let site = Site::new();
    rollback_mode(&site.path());
    let holder = site::holder("hold pen", &site.folder());
    let options = Options::new().timeout(site::ENDLESS).read_only(true);
    let (keys, took) = site::timed(|| {
        let db = options.clone().open(site.path()).unwrap();
        site::keys(&db)
    });
    assert_eq!(keys, ["old"]);
    assert!(took < site::PROMPT, "{took:?}");
    drop(holder);
    let db = options.open(site.path()).unwrap();
    let error = site::insert(&db, "no").unwrap_err();
    assert!(error.to_string().contains("reading only"), "{error}");
    drop(db);
    assert_eq!(site.files(), ["db.lock", "db.lockq", "x.db"]);
    assert_eq!(mode_in_file(&site.path()), "delete");
}

#[test]
fn missing_database_is_created_only_if_wanted() {
    let site = Site::new();
    for options in [
        Options::new().create(false),
        Options::new().read_only(true),
        Options::new().create(true).read_only(true),
    ] {
        let error = options.open(site.path()).unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(error.to_string().contains("no such database"), "{error}");
        assert!(site.files().is_empty(), "{:?}", site.files());
    }
    drop(Database::open(site.path()).unwrap());
    assert_eq!(mode_in_file(&site.path()), "wal");
    Options::new().create(false).open(site.path()).unwrap();
}

/// What each writing connection must have, in a transaction and outside.
fn assert_writer(db: &Database, timeout: Duration, synchronous: &str) {
    let check = |connection: &Connection| {
        assert_eq!(pragma(connection, "journal_mode"), "wal");
        assert_eq!(pragma(connection, "synchronous"), synchronous);
        assert_eq!(pragma(connection, "query_only"), "0");
        let patience: u128 = pragma(connection, "busy_timeout").parse().unwrap();
        // What is left of the deadline, so hardly less.
        assert!(
            patience <= timeout.as_millis() && patience * 2 > timeout.as_millis(),
            "{patience}"
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

/// What each reading connection must have.
fn assert_reader(db: &Database, timeout: Duration) {
    let read = db.read(|connection| -> Result<()> {
        assert_eq!(pragma(connection, "journal_mode"), "wal");
        assert_eq!(pragma(connection, "query_only"), "1");
        let patience: u128 = pragma(connection, "busy_timeout").parse().unwrap();
        assert!(
            patience <= timeout.as_millis() && patience * 2 > timeout.as_millis(),
            "{patience}"
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
    assert_eq!(site::entries(db), 0);
}

#[test]
fn settings_hold_at_every_open() {
    let site = Site::new();
    site.database();
    let timeout = Duration::from_secs(30);
    for (synchronous, value) in [
        (Synchronous::Normal, "1"),
        (Synchronous::Full, "2"),
        (Synchronous::Normal, "1"),
    ] {
        let options = Options::new().timeout(timeout).synchronous(synchronous);
        let db = options.open(site.path()).unwrap();
        for _ in 0..2 {
            assert_writer(&db, timeout, value);
            assert_reader(&db, timeout);
        }
    }
}

#[test]
fn default_timeout_is_half_a_second() {
    let site = Site::new();
    let db = Database::open(site.path()).unwrap();
    let patience = db.with_write_lock(|connection| -> Result<u64> {
        Ok(pragma(connection, "busy_timeout").parse().unwrap())
    });
    let patience = patience.unwrap();
    assert!((1..=500).contains(&patience), "{patience}");
}

#[test]
fn settings_hold_for_a_new_database() {
    let site = Site::new();
    let timeout = Duration::from_secs(20);
    let options = Options::new()
        .timeout(timeout)
        .synchronous(Synchronous::Full);
    let db = options.open(site.path()).unwrap();
    assert_writer(&db, timeout, "2");
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    assert_reader(&db, timeout);
}

#[test]
fn patience_is_what_is_left_of_the_deadline() {
    let site = Site::new();
    let db = site.database();
    let mut holder = site::holder("hold", &site.path());
    let left = std::thread::scope(|scope| {
        let writer = scope.spawn(|| {
            db.with_write_lock(|connection| -> Result<u64> {
                Ok(pragma(connection, "busy_timeout").parse().unwrap())
            })
        });
        // The time that is spent waiting is what is measured.
        std::thread::sleep(Duration::from_millis(300));
        holder.tell("release");
        writer.join().unwrap()
    });
    let left = left.unwrap();
    let most = u64::try_from(site::PATIENT.as_millis()).unwrap() - 250;
    assert!(left > 0 && left <= most, "{left}");
}

#[test]
fn label_is_shown_to_whoever_waits() {
    let site = Site::new();
    let db = Options::new().label("nightly sync").open(site.path());
    let db = db.unwrap();
    let seen = db.write(|_| -> Result<_> { db.status() }).unwrap();
    assert_eq!(seen.holder.unwrap().label.unwrap(), "nightly sync");
    assert_eq!(seen.lock_file, db.lock_file());
    assert!(db.status().unwrap().holder.is_none());
}

/// First the write lock is held for most of the timeout, then an outsider has
/// the whole database: together they take one timeout, and the error says so.
#[test]
fn waits_of_opening_do_not_add_up() {
    let site = Site::new();
    let stranger = site::stranger(&site.path());
    stranger.execute_batch("CREATE TABLE entry(key)").unwrap();
    drop(stranger);
    let Some(mut shell) = site::shell(&site.path()) else {
        return;
    };
    let (timeout, held) = (Duration::from_secs(3), Duration::from_millis(2500));
    let mut holder = site::holder("hold pen", &site.folder());
    let (done, took) = thread::scope(|scope| {
        let options = Options::new().timeout(timeout);
        let opener = scope.spawn(|| site::timed(|| options.open(site.path())));
        // Part of what is measured: by then the opener waits for the write lock.
        thread::sleep(held / 2);
        shell.tell("BEGIN EXCLUSIVE; SELECT 'alone';");
        shell.expect("alone");
        thread::sleep(held / 2);
        holder.tell("release");
        opener.join().unwrap()
    });
    let error = done.unwrap_err();
    assert!(error.is_busy() && error.is_timeout(), "{error}");
    assert!(took < timeout + held / 2, "{took:?}");
}
