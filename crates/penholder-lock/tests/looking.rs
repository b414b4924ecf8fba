//! Looking at a lock disturbs nobody who takes it, and finds whoever holds it,
//! however busy other locks are.
#![cfg(test)]

use std::ffi::OsString;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{LockState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, wait};

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("look_often", look_often),
        ("bustle", bustle),
    ]);
}

/// Looks many times, and until the lock was seen both held and free.
fn look_often(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    let (mut looks, mut held, mut free) = (0, 0, 0);
    while looks < 200 || held == 0 || free == 0 {
        looks += 1;
        held += u32::from(locker.holder().unwrap().is_some());
        free += u32::from(locker.status().unwrap().state == LockState::Free);
    }
    peer::send(&format!("{looks} looks, held {held}, free {free}"));
}

#[test]
fn looking_disturbs_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let lookers = [(); 2].map(|()| Peer::start("look_often", [directory.path()]));
    let mut seen = [None, None];
    let mut taken = 0;
    let begun = Instant::now();
    while seen.contains(&None) {
        for _ in 0..100 {
            let guard = locker.try_acquire().unwrap();
            guard.expect("nobody else takes it").release().unwrap();
            taken += 1;
        }
        for (looker, seen) in lookers.iter().zip(&mut seen) {
            *seen = seen
                .take()
                .or_else(|| looker.read_line_within(Duration::ZERO));
        }
        assert!(begun.elapsed() < wait::LIMIT);
    }
    eprintln!("taken {taken} times; {seen:?}");
    assert!(taken > 1000, "{taken}");
}

/// Takes and gives back a lock of its own until its input ends.
fn bustle(args: &[OsString]) {
    let locker = WriteLocker::at(&args[0]).unwrap();
    peer::send("ready");
    thread::spawn(|| peer::expect("never said"));
    loop {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}

/// The kernel's table of locks changes while it is read.
#[test]
fn a_holder_is_seen_among_busy_locks() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let bustlers = ["one", "two"].map(|name| Peer::start("bustle", [directory.path().join(name)]));
    for bustler in &bustlers {
        bustler.expect("ready");
    }
    let holder = LockPeer::holding(&path);
    let locker = WriteLocker::at(&path).unwrap();
    // Some hundred looks; a busy machine takes milliseconds for each.
    let begun = Instant::now();
    let mut look = 0;
    while look < 3000 && begun.elapsed() < Duration::from_secs(4) {
        look += 1;
        let seen = locker.holder().unwrap();
        let pid = seen.and_then(|holder| holder.pid);
        assert_eq!(pid, Some(holder.pid()), "at look {look}");
    }
    eprintln!("seen at {look} looks");
}
