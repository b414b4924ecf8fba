//! On a full disk, writes fail with SQLite's error and advice, nothing is partly written,
//! and the lock is released. Writing works again after there is space.
#![cfg(test)]
#![cfg(unix)] // a limit on the size of files, and tmpfs

use std::ffi::OsString;
use std::fs;
use std::path::Path;

use penholder::{Database, Error, Query, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, file_size_limit, peer, plain_sqlite, tmpfs};

#[test]
fn peer() {
    peer::run_role(&[
        ("write_after_a_full_disk", write_after_a_full_disk),
        ("open_without_a_free_byte", open_without_a_free_byte),
        ("create_on_a_full_disk", create_on_a_full_disk),
        ("write_to_limit", write_to_limit),
        ("hold_lock", database_fixture::hold_lock),
    ]);
}

/// Writes two rows in one transaction. The second one is large.
fn write_pair(db: &Database, key: u32) -> Result<()> {
    db.batch([
        Query::new("INSERT INTO entry VALUES (?1)", [key]),
        Query::new("INSERT INTO entry VALUES (?1)", [vec![7u8; 20_000]]),
    ])
    .map(drop)
}

fn by_closure(db: &Database) -> Result<()> {
    db.write(|tx| {
        tx.execute("INSERT INTO entry VALUES (0)", [])?;
        tx.execute("INSERT INTO entry VALUES (zeroblob(20000))", [])?;
        Ok(())
    })
}

/// Asserts that every pair is complete, and counts the pairs.
fn assert_pairs(db: &Database) -> i64 {
    let keys = database_fixture::number(
        db,
        "SELECT count(*) FROM entry WHERE typeof(key) = 'integer'",
    );
    assert_eq!(database_fixture::count_entries(db), 2 * keys);
    keys
}

/// Writes until the disk is full. Returns the number of pairs and the error.
fn write_until_full(db: &Database) -> (u32, Error) {
    let mut written = 0;
    loop {
        match write_pair(db, written) {
            Ok(()) => written += 1,
            Err(error) => return (written, error),
        }
        assert!(written < 10_000, "the disk does not get full");
    }
}

fn assert_gives_advice(error: &Error) {
    assert!(error.sqlite_error().is_some(), "{error}");
    assert!(error.lock_error().is_none() && !error.is_timeout());
    assert!(error.to_string().contains("make room"), "{error}");
}

/// Asserts that every way to write reports a full disk, and that nothing else fails.
fn assert_full(db: &Database) {
    let before = assert_pairs(db);
    for _ in 0..3 {
        assert_gives_advice(&write_pair(db, 0).unwrap_err());
        let error = by_closure(db).unwrap_err();
        assert!(error.sqlite_error().is_some(), "{error}");
        assert!(db.status().unwrap().holder.is_none());
        assert_eq!(assert_pairs(db), before);
    }
}

fn write_after_a_full_disk(args: &[OsString]) {
    let small = Path::new(&args[0]);
    let path = small.join("x.db");
    let db = database_fixture::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    fs::write(small.join("ballast"), vec![1; 600_000]).unwrap();
    let (written, error) = write_until_full(&db);
    assert!(written > 5);
    assert_gives_advice(&error);
    assert_full(&db);
    assert_eq!(assert_pairs(&db), i64::from(written));
    let mut other = Peer::start("hold_lock", [small]);
    other.expect("held");
    other.send("release");
    other.expect("released");
    assert!(other.close().success());
    fs::remove_file(small.join("ballast")).unwrap();
    write_pair(&db, 1).unwrap();
    by_closure(&db).unwrap();
    assert_eq!(assert_pairs(&db), i64::from(written) + 2);
    drop(db);
    plain_sqlite::assert_integrity(&path);
    peer::send("done");
}

#[test]
fn writing_continues_after_a_full_disk() {
    tmpfs::play("write_after_a_full_disk", "2m");
}

fn open_without_a_free_byte(args: &[OsString]) {
    let small = Path::new(&args[0]);
    let path = small.join("x.db");
    let db = database_fixture::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    drop(db);
    fs::remove_file(small.join("db.lock")).unwrap();
    tmpfs::fill(&small.join("ballast"));
    let opened = database_fixture::options().open(&path);
    if let Err(error) = &opened {
        // There is no space for SQLite's own -wal and -shm files.
        assert!(error.sqlite_error().is_some(), "{error}");
        assert!(error.to_string().contains("room"), "{error}");
    }
    if let Ok(db) = &opened {
        assert_full(db);
    }
    drop(opened);
    fs::remove_file(small.join("ballast")).unwrap();
    let db = database_fixture::open(&path);
    write_pair(&db, 1).unwrap();
    assert_eq!(assert_pairs(&db), 1);
    peer::send("done");
}

/// There is no space for the record in the lock file either. SQLite fails, but the lock
/// does not.
#[test]
fn a_disk_without_a_free_byte_fails_sqlite_and_not_the_lock() {
    tmpfs::play("open_without_a_free_byte", "1m");
}

fn create_on_a_full_disk(args: &[OsString]) {
    let small = Path::new(&args[0]);
    tmpfs::fill(&small.join("ballast"));
    let path = small.join("x.db");
    let error = database_fixture::options().open(&path).unwrap_err();
    assert!(error.to_string().contains("room"), "{error}");
    fs::remove_file(small.join("ballast")).unwrap();
    let db = database_fixture::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    write_pair(&db, 1).unwrap();
    drop(db);
    plain_sqlite::assert_integrity(&path);
    peer::send("done");
}

#[test]
fn a_disk_too_full_to_create_a_database_is_reported() {
    tmpfs::play("create_on_a_full_disk", "1m");
}

// ---- a limit on the file size: a similar test that needs no root ----------------

/// Writes up to the limit, and again after the limit is lifted.
fn write_to_limit(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    file_size_limit::set(Some(500_000));
    let (written, error) = write_until_full(&db);
    peer::send(&error.to_string());
    assert!(error.sqlite_error().is_some() && error.lock_error().is_none());
    for _ in 0..3 {
        write_pair(&db, 0).unwrap_err();
        by_closure(&db).unwrap_err();
        assert!(db.status().unwrap().holder.is_none());
    }
    assert_eq!(assert_pairs(&db), i64::from(written));
    file_size_limit::set(None);
    write_pair(&db, 1).unwrap();
    by_closure(&db).unwrap();
    assert_eq!(assert_pairs(&db), i64::from(written) + 2);
    peer::send("done");
}

#[test]
fn writing_continues_after_a_file_size_limit() {
    let fixture = DatabaseFixture::new();
    let role = Peer::command("write_to_limit", [fixture.path()]);
    let mut peer = Peer::spawn(file_size_limit::with_signal_ignored(&role));
    let error = peer.read_line();
    peer.expect("done");
    assert!(peer.close().success());
    plain_sqlite::assert_integrity(&fixture.path());
    // SQLite's text is followed by advice, as for a full disk.
    assert!(!error.ends_with("disk I/O error"), "{error}");
}
