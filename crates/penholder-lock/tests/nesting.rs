//! A thread that holds the lock and acquires it again gets an error at once, under every
//! name of the lock file.
#![cfg(test)]

use std::fs;
use std::time::{Duration, Instant};

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::{lock_fixture, peer, raw_file};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

fn assert_nested_at_once(locker: &WriteLocker) {
    let start = Instant::now();
    let error = locker.acquire(LONG_TIMEOUT).unwrap_err();
    assert!(start.elapsed() < Duration::from_secs(5), "it waited");
    assert!(error.is_nested() && !error.is_timeout(), "{error}");
    assert!(error.to_string().contains("this thread holds it already"));
    assert!(locker.try_acquire().unwrap_err().is_nested());
}

#[test]
fn a_nested_acquisition_fails_at_once_under_every_name() {
    let directory = tempfile::tempdir().unwrap();
    let real = directory.path().join("real");
    let alias = directory.path().join("alias");
    fs::create_dir(&real).unwrap();
    let has_links = raw_file::link(&real, &alias);
    let locker = WriteLocker::new(&real).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let hard_link = directory.path().join("hard.lock");
    fs::hard_link(lock_file(&real), &hard_link).unwrap();

    assert_nested_at_once(&locker);
    assert_nested_at_once(&locker.clone());
    assert_nested_at_once(&WriteLocker::new(&real).unwrap());
    if has_links {
        assert_nested_at_once(&WriteLocker::new(&alias).unwrap());
        assert_nested_at_once(&WriteLocker::at(alias.join("../real/db.lock")).unwrap());
    }
    assert_nested_at_once(&WriteLocker::at(&hard_link).unwrap());

    // The failed attempts did not affect the hold.
    let mut other = LockPeer::start(&lock_file(&real));
    other.assert_blocked_by(std::process::id());
    guard.release().unwrap();
    other.acquire();
    other.release();
    if has_links {
        let locker = WriteLocker::new(&alias).unwrap();
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}

/// A thread may hold two locks at once.
#[test]
fn another_lock_is_not_nested() {
    let directory = tempfile::tempdir().unwrap();
    let [one, other] = ["one.lock", "other.lock"]
        .map(|name| WriteLocker::at(directory.path().join(name)).unwrap());
    let _one = one.acquire(LONG_TIMEOUT).unwrap();
    let _other = other.acquire(LONG_TIMEOUT).unwrap();
}
