//! A slow statement is not taken for a slow disk: only the time of a commit counts in the
//! statistics that decide whether writes of other processes are combined.
#![cfg(test)]

use std::thread;
use std::time::{Duration, Instant};

use penholder::Database;
use penholder_core::Locker;
use penholder_testkit::database_fixture::{DatabaseFixture, LONG_TIMEOUT};
use penholder_testkit::lock_fixture::{self, LockPeer};
use penholder_testkit::{peer, wait};

/// Takes some hundred milliseconds in SQLite's virtual machine.
const SLOW: &str = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n \
                    WHERE i < 2000000) ";

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

/// Runs one statement while another process waits for the lock. Returns how long the call took
/// and what the statistics say of commits afterwards.
fn run_contended(sql: &str, succeeds: bool) -> (Duration, Duration) {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.batch([
        "CREATE TABLE item(key PRIMARY KEY)",
        "INSERT INTO item VALUES ('first')",
    ])
    .unwrap();
    let lock_file = db.lock_file();
    let mut holder = LockPeer::holding(&lock_file);
    let mut waiter = LockPeer::start(&lock_file);
    let took = thread::scope(|scope| {
        let writer = scope.spawn(|| execute(&db, sql, succeeds));
        let waiting = |count| wait::until("they wait", || queue_length(&db) == count);
        waiting(1);
        waiter.start_acquire(LONG_TIMEOUT);
        waiting(2);
        holder.release();
        writer.join().unwrap()
    });
    waiter.peer.expect("held");
    waiter.release();
    let locker = Locker::in_directory(&fixture.directory()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    (took, guard.commit_stats().unwrap().commit_time())
}

fn queue_length(db: &Database) -> usize {
    db.status().unwrap().queue.len()
}

fn execute(db: &Database, sql: &str, succeeds: bool) -> Duration {
    let begun = Instant::now();
    assert_eq!(db.execute(sql, ()).is_ok(), succeeds, "{sql}");
    begun.elapsed()
}

#[test]
fn the_time_of_a_slow_statement_is_not_that_of_its_commit() {
    let sql = format!("INSERT INTO item {SLOW} SELECT max(i) FROM n");
    let (took, commit_time) = run_contended(&sql, true);
    assert!(!commit_time.is_zero(), "the commit was timed");
    assert!(commit_time < took / 4, "{commit_time:?} of {took:?}");
}

#[test]
fn a_statement_that_fails_says_nothing_of_commits() {
    // The first row is inserted, and the last one violates the constraint.
    let sql = format!(
        "INSERT INTO item {SLOW} SELECT CASE i WHEN 1 THEN 'new' ELSE 'first' END FROM n \
         WHERE i IN (1, 2000000)"
    );
    let (_, commit_time) = run_contended(&sql, false);
    assert_eq!(commit_time, Duration::ZERO);
}
