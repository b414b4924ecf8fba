//! Reading the status disturbs no process that acquires the lock, and finds the holder
//! even if other locks are busy.
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
        ("read_status_often", read_status_often),
        ("acquire_often", acquire_often),
    ]);
}

/// Reads the status many times, and until the lock was both held and free.
fn read_status_often(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    let (mut reads, mut held, mut free) = (0, 0, 0);
    while reads < 200 || held == 0 || free == 0 {
        reads += 1;
        held += u32::from(locker.holder().unwrap().is_some());
        free += u32::from(locker.status().unwrap().state == LockState::Free);
    }
    peer::send(&format!("{reads} reads, held {held}, free {free}"));
}

#[test]
fn reading_the_status_disturbs_no_other_process() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let readers = [(); 2].map(|()| Peer::start("read_status_often", [directory.path()]));
    let mut reports = [None, None];
    let mut acquisitions = 0;
    let start = Instant::now();
    while reports.contains(&None) {
        for _ in 0..100 {
            let guard = locker.try_acquire().unwrap();
            guard
                .expect("no other process acquires it")
                .release()
                .unwrap();
            acquisitions += 1;
        }
        for (reader, report) in readers.iter().zip(&mut reports) {
            *report = report
                .take()
                .or_else(|| reader.read_line_within(Duration::ZERO));
        }
        assert!(start.elapsed() < wait::LIMIT);
    }
    eprintln!("{acquisitions} acquisitions; {reports:?}");
    // Few on a busy machine, but some beside the readers.
    assert!(acquisitions > 100, "{acquisitions}");
}

/// Acquires and releases a lock of its own until its input ends.
fn acquire_often(args: &[OsString]) {
    let locker = WriteLocker::at(&args[0]).unwrap();
    peer::send("ready");
    thread::spawn(|| peer::expect("never sent"));
    loop {
        drop(locker.acquire(LONG_TIMEOUT).unwrap());
    }
}

/// The kernel's table of locks changes while it is read.
#[test]
fn a_holder_is_found_among_busy_locks() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let busy =
        ["one", "two"].map(|name| Peer::start("acquire_often", [directory.path().join(name)]));
    for peer in &busy {
        peer.expect("ready");
    }
    let holder = LockPeer::holding(&path);
    let locker = WriteLocker::at(&path).unwrap();
    // Several hundred reads. On a busy machine each takes milliseconds.
    let start = Instant::now();
    let mut reads = 0;
    while reads < 3000 && start.elapsed() < Duration::from_secs(4) {
        reads += 1;
        let found = locker.holder().unwrap();
        let pid = found.and_then(|holder| holder.pid);
        assert_eq!(pid, Some(holder.pid()), "at read {reads}");
    }
    eprintln!("found by {reads} reads");
}
