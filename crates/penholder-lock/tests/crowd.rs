//! Three hundred processes at once: none fails, no two are inside together.
#![cfg(test)]

mod peer;
mod stage;

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::time::Duration;

use peer::Peer;
use penholder_lock::WriteLocker;
use stage::Counter;

const PROCESSES: u64 = 300;

#[test]
fn peer() {
    peer::play(&[("enter", enter)]);
}

/// Is inside once, alone.
fn enter(args: &[OsString]) {
    let folder = Path::new(&args[0]);
    let locker = WriteLocker::new(folder).unwrap();
    peer::say("ready");
    peer::hear("go");
    let guard = locker.acquire(Duration::from_secs(30)).unwrap();
    // Fails if somebody else is inside.
    let inside = folder.join("inside");
    fs::File::create_new(&inside).unwrap();
    Counter::of(folder).add_one();
    fs::remove_file(&inside).unwrap();
    guard.release().unwrap();
    peer::say("done");
    peer::hear("end");
}

#[test]
fn three_hundred_processes_all_get_in_one_by_one() {
    let folder = tempfile::tempdir().unwrap();
    let counter = Counter::new(folder.path());
    let start = |_| Peer::start("enter", [folder.path()]);
    let mut peers: Vec<Peer> = (0..PROCESSES).map(start).collect();
    stage::race(&mut peers);
    assert_eq!(counter.read(), PROCESSES);
    // All stay attached until the last is done.
    let status = WriteLocker::new(folder.path()).unwrap().status().unwrap();
    assert_eq!(status.counters.acquisitions, PROCESSES, "each had a slot");
    for peer in &mut peers {
        peer.tell("end");
        assert!(peer.end().success());
    }
}
