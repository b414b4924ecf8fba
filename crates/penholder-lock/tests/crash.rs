//! A killed holder blocks no other process, and the record that it leaves behind is not
//! taken for a holder.
#![cfg(test)]

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{LockState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};

/// The longest time for an immediate step on a busy machine. A waiter probes every 50 ms.
const PROMPT: Duration = Duration::from_secs(1);

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, ("work", work)]);
}

/// Acquires repeatedly and holds the lock most of the time.
fn work(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    thread::spawn(|| peer::expect("never sent"));
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    peer::send("working");
    loop {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        let start = Instant::now();
        while start.elapsed() < Duration::from_micros(20) {}
        drop(guard);
    }
}

#[test]
fn a_hundred_killed_holders_leave_a_free_lock() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let mut stale = 0;
    let mut random = u64::from(std::process::id());
    for _ in 0..100 {
        let mut worker = Peer::start("work", [directory.path()]);
        worker.expect("working");
        // At a random moment. A linear congruential generator is random enough.
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        thread::sleep(Duration::from_micros(random >> 52));
        worker.kill();

        let left = lock_fixture::record_text(&lock_file(directory.path()));
        stale += u32::from(left.starts_with(&format!("pid:{}\n", worker.pid())));
        assert_eq!(locker.holder().unwrap(), None, "{left}");
        assert_eq!(locker.status().unwrap().state, LockState::Free);
        let guard = locker.acquire(Duration::ZERO).expect("free at once");
        assert_eq!(
            locker.holder().unwrap().unwrap().pid,
            Some(std::process::id())
        );
        guard.release().unwrap();
    }
    eprintln!("{stale} of 100 left a stale record");
    // Taking the lock takes much longer under Wine than holding it for so short a time.
    let expected = if cfg!(windows) { 1 } else { 10 };
    assert!(
        stale >= expected,
        "only {stale} were killed while they held"
    );
}

#[test]
fn a_waiter_gets_the_lock_of_a_killed_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    for stopped in [false, true] {
        let mut holder = LockPeer::holding(&path);
        let mut waiter = LockPeer::start(&path);
        waiter.start_acquire(LONG_TIMEOUT);
        // It waits while the lock is held.
        assert_eq!(
            waiter.peer.read_line_within(Duration::from_millis(150)),
            None
        );
        if stopped {
            holder.peer.signal("STOP");
        }
        let start = Instant::now();
        holder.peer.kill();
        waiter.peer.expect("held");
        let waited = start.elapsed();
        eprintln!("{waited:?} after the kill");
        assert!(waited < PROMPT, "{waited:?}");
        waiter.release();
    }
}
