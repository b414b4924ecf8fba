//! A holder that is killed blocks nobody, and the record it leaves behind is
//! not taken for a holder.
#![cfg(test)]

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{LockState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};

/// What "at once" may take on a busy machine. A waiter looks every 50 ms.
const AT_ONCE: Duration = Duration::from_secs(1);

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, ("work", work)]);
}

/// Takes the lock again and again, most of the time holding it.
fn work(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    thread::spawn(|| peer::expect("never said"));
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
    peer::send("working");
    loop {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_micros(20) {}
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
        // Any moment of its work; a linear congruence is random enough.
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
    assert!(stale > 10, "only {stale} were killed while they held");
}

#[test]
fn a_waiter_gets_the_lock_of_a_killed_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    for stopped in [false, true] {
        let mut holder = LockPeer::holding(&path);
        let mut waiter = LockPeer::start(&path);
        waiter.start_acquire(LONG_TIMEOUT);
        // It waits, and does not get what is held.
        assert_eq!(
            waiter.peer.read_line_within(Duration::from_millis(150)),
            None
        );
        if stopped {
            holder.peer.signal("STOP");
        }
        let begun = Instant::now();
        holder.peer.kill();
        waiter.peer.expect("held");
        let waited = begun.elapsed();
        eprintln!("{waited:?} after the kill");
        assert!(waited < AT_ONCE, "{waited:?}");
        waiter.release();
    }
}
