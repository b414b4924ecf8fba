//! A full disk: writes fail with SQLite's error and what to do, nothing is half
//! written, the lock is free, and with room again writing goes on.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::process::Command;

use peer::Peer;
use penholder::{Database, Error, Result, Statement};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use site::{Site, Tmpfs};

#[test]
fn peer() {
    peer::play(&[("limited", limited), ("hold pen", site::hold_pen)]);
}

/// Two rows of one transaction, the second of them large.
fn write_pair(db: &Database, key: u32) -> Result<()> {
    db.batch([
        Statement::new("INSERT INTO entry VALUES (?1)", [key]),
        Statement::new("INSERT INTO entry VALUES (?1)", [vec![7u8; 20_000]]),
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

/// Asserts that no pair is there by half, and counts them.
fn assert_pairs(db: &Database) -> i64 {
    let keys = site::number(
        db,
        "SELECT count(*) FROM entry WHERE typeof(key) = 'integer'",
    );
    assert_eq!(site::entries(db), 2 * keys);
    keys
}

/// Writes until there is no room; how many pairs there were and the error.
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

fn assert_says_what_to_do(error: &Error) {
    assert!(error.sqlite_error().is_some(), "{error}");
    assert!(error.lock_error().is_none() && !error.is_timeout());
    assert!(error.to_string().contains("make room"), "{error}");
}

/// Asserts that the disk is full for every way to write, and that nothing else
/// is wrong.
fn assert_full(db: &Database) {
    let before = assert_pairs(db);
    for _ in 0..3 {
        assert_says_what_to_do(&write_pair(db, 0).unwrap_err());
        let error = by_closure(db).unwrap_err();
        assert!(error.sqlite_error().is_some(), "{error}");
        assert!(db.status().unwrap().holder.is_none());
        assert_eq!(assert_pairs(db), before);
    }
}

#[test]
fn full_disk_is_survived() {
    let Some(small) = Tmpfs::mount("2m") else {
        return;
    };
    let path = small.at("x.db");
    let db = site::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    fs::write(small.at("ballast"), vec![1; 600_000]).unwrap();
    let (written, error) = write_until_full(&db);
    assert!(written > 5);
    assert_says_what_to_do(&error);
    assert_full(&db);
    assert_eq!(assert_pairs(&db), i64::from(written));
    let mut other = Peer::start("hold pen", [small.at("")]);
    other.expect("held");
    other.tell("release");
    other.expect("released");
    assert!(other.end().success());
    fs::remove_file(small.at("ballast")).unwrap();
    write_pair(&db, 1).unwrap();
    by_closure(&db).unwrap();
    assert_eq!(assert_pairs(&db), i64::from(written) + 2);
    drop(db);
    site::assert_whole(&path);
}

/// Not a byte is free, not even for the record in the lock file: who holds is
/// not written down, but what fails is SQLite, not the lock.
#[test]
fn disk_without_a_free_byte() {
    let Some(small) = Tmpfs::mount("1m") else {
        return;
    };
    let path = small.at("x.db");
    let db = site::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    drop(db);
    fs::remove_file(small.at("db.lock")).unwrap();
    small.fill("ballast");
    let opened = site::patient().open(&path);
    if let Err(error) = &opened {
        // There is no room for SQLite's own sidecars.
        assert!(error.sqlite_error().is_some(), "{error}");
        assert!(error.to_string().contains("room"), "{error}");
    }
    if let Ok(db) = &opened {
        assert_full(db);
    }
    drop(opened);
    fs::remove_file(small.at("ballast")).unwrap();
    let db = site::open(&path);
    write_pair(&db, 1).unwrap();
    assert_eq!(assert_pairs(&db), 1);
}

#[test]
fn disk_too_full_to_create_a_database() {
    let Some(small) = Tmpfs::mount("1m") else {
        return;
    };
    small.fill("ballast");
    let path = small.at("x.db");
    let error = site::patient().open(&path).unwrap_err();
    assert!(error.to_string().contains("room"), "{error}");
    fs::remove_file(small.at("ballast")).unwrap();
    let db = site::open(&path);
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    write_pair(&db, 1).unwrap();
    drop(db);
    site::assert_whole(&path);
}

// ---- a limit for each file: the same without root, by another error ------------

fn set_limit(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

/// Writes up to the limit, and on after it was lifted.
fn limited(args: &[OsString]) {
    let db = site::open(Path::new(&args[0]));
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    set_limit(Some(500_000));
    let (written, error) = write_until_full(&db);
    peer::say(&error.to_string());
    assert!(error.sqlite_error().is_some() && error.lock_error().is_none());
    for _ in 0..3 {
        write_pair(&db, 0).unwrap_err();
        by_closure(&db).unwrap_err();
        assert!(db.status().unwrap().holder.is_none());
    }
    assert_eq!(assert_pairs(&db), i64::from(written));
    set_limit(None);
    write_pair(&db, 1).unwrap();
    by_closure(&db).unwrap();
    assert_eq!(assert_pairs(&db), i64::from(written) + 2);
    peer::say("done");
}

#[test]
fn file_size_limit_is_survived() {
    let site = Site::new();
    let role = Peer::command("limited", [site.path()]);
    // What the shell ignores stays ignored: the write fails, and kills nobody.
    let mut command = Command::new("sh");
    command.args(["-c", "trap '' XFSZ; exec \"$0\" \"$@\""]);
    command.arg(role.get_program()).args(role.get_args());
    command.envs(
        role.get_envs()
            .filter_map(|(name, value)| Some((name, value?))),
    );
    let mut peer = Peer::spawn(command);
    let complaint = peer.line();
    peer.expect("done");
    assert!(peer.end().success());
    site::assert_whole(&site.path());
    // That is SQLite's text; what to do is to follow, as for a full disk.
    assert!(!complaint.ends_with("disk I/O error"), "{complaint}");
}
