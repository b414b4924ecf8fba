//! Three hundred processes acquire the lock at the same time. None fails, and no two are
//! in the critical section at once.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use penholder_lock::WriteLocker;
use penholder_testkit::lock_fixture::Counter;
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};

// Wine's server keeps each file open that has locks, as often as it was opened.
const PROCESSES: u64 = if cfg!(windows) { 100 } else { 300 };

#[test]
fn peer() {
    peer::run_role(&[("acquire_once", acquire_once)]);
}

/// Acquires once, and fails if another process is in the critical section.
fn acquire_once(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = WriteLocker::new(directory).unwrap();
    peer::send("ready");
    peer::expect("go");
    let guard = locker.acquire(Duration::from_secs(30)).unwrap();
    // Fails if another process is in the critical section.
    let marker = directory.join("marker");
    fs::File::create_new(&marker).unwrap();
    Counter::open(directory).increment();
    fs::remove_file(&marker).unwrap();
    guard.release().unwrap();
    peer::send("done");
    peer::expect("end");
}

#[test]
fn hundreds_of_processes_acquire_one_at_a_time() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let start = |_| Peer::start("acquire_once", [directory.path()]);
    let mut peers: Vec<Peer> = (0..PROCESSES).map(start).collect();
    lock_fixture::run_together(&mut peers);
    assert_eq!(counter.read(), PROCESSES);
    // All processes stay attached until the last one is done.
    let status = WriteLocker::new(directory.path())
        .unwrap()
        .status()
        .unwrap();
    assert_eq!(
        status.counters.acquisitions, PROCESSES,
        "each process had a slot"
    );
    for peer in &mut peers {
        peer.send("end");
        assert!(peer.close().success());
    }
}
