//! Three hundred processes at once: none fails, no two are inside together.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::Counter;
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};

const PROCESSES: u64 = 300;

#[test]
fn peer() {
    peer::run_role(&[("enter", enter)]);
}

/// Is inside once, alone.
fn enter(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    peer::send("ready");
    peer::expect("go");
    let guard = locker.acquire(Duration::from_secs(30)).unwrap();
    // Fails if somebody else is inside.
    let inside = directory.join("inside");
    fs::File::create_new(&inside).unwrap();
    Counter::open(directory).increment();
    fs::remove_file(&inside).unwrap();
    guard.release().unwrap();
    peer::send("done");
    peer::expect("end");
}

#[test]
fn three_hundred_processes_all_get_in_one_by_one() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let start = |_| Peer::start("enter", [directory.path()]);
    let mut peers: Vec<Peer> = (0..PROCESSES).map(start).collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), PROCESSES);
    // All stay attached until the last is done.
    let status = WriteLocker::new(directory.path())
        .unwrap()
        .status()
        .unwrap();
    assert_eq!(status.counters.acquisitions, PROCESSES, "each had a slot");
    for peer in &mut peers {
        peer.send("end");
        assert!(peer.close().success());
    }
}
