//! A snapshot shows the holder, the queue and the events since an earlier snapshot from
//! the queue file alone. It never reads the kernel's table of locks.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_lock::{
    EventKind, Holder, LockState, ProcessState, QueueFileState, Snapshot, WriteLocker,
};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

const SNAPSHOTS: usize = 20;

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("take_snapshots", take_snapshots),
    ]);
}

fn snapshot(path: &Path) -> Snapshot {
    WriteLocker::at(path).unwrap().snapshot().unwrap()
}

fn holder(path: &Path) -> Option<Holder> {
    snapshot(path).status.holder
}

#[test]
fn a_snapshot_shows_the_holder_and_the_queue() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    assert_eq!(snapshot(&path).status.queue_file, QueueFileState::None);
    let mut holding = LockPeer::spawn(LockPeer::command(&path, &["label=nightly"]));
    holding.acquire();
    let [mut first, mut second] = [(); 2].map(|()| LockPeer::start(&path));
    first.enqueue(&path, LONG_TIMEOUT);
    second.enqueue(&path, LONG_TIMEOUT);
    let held = snapshot(&path);
    assert!(held.built().unwrap().elapsed().unwrap() < LONG_TIMEOUT);
    let status = held.status;
    assert_eq!(
        (status.state, status.queue_file),
        (LockState::Held, QueueFileState::InUse)
    );
    let holder = status.holder.unwrap();
    assert_eq!(holder.pid, Some(holding.pid()));
    assert_eq!(holder.label.as_deref(), Some("nightly"));
    assert!(holder.recorded && holder.held.unwrap() < LONG_TIMEOUT);
    assert!(holder.cmd.unwrap().contains("--nocapture"));
    let pids: Vec<u32> = status.queue.iter().map(|waiter| waiter.pid).collect();
    assert_eq!(pids, [first.pid(), second.pid()]);
    holding.peer.stop();
    let seen = snapshot(&path).status.holder.unwrap();
    assert_eq!(seen.state, ProcessState::Stopped);
    holding.peer.signal("CONT");
    holding.release();
    first.peer.expect("held");
    first.release();
    second.peer.expect("held");
    assert_eq!(self::holder(&path).unwrap().pid, Some(second.pid()));
    second.release();
    let free = snapshot(&path).status;
    assert_eq!((free.state, free.holder), (LockState::Free, None));
}

#[test]
fn a_snapshot_shows_no_killed_holder() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    assert_eq!(holder(&path).unwrap().pid, Some(holding.pid()));
    holding.peer.kill();
    assert!(lock_fixture::record_text(&path).contains("pid:"));
    assert_eq!(holder(&path), None);
}

#[test]
fn a_snapshot_shows_a_polling_holder_by_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    let mut polling = LockPeer::spawn(LockPeer::command(&path, &["queue-file=no"]));
    polling.acquire();
    assert_eq!(holder(&path).unwrap().pid, Some(polling.pid()));
    polling.release();
    assert_eq!(holder(&path), None);
}

/// Only the kernel's table lists such a lock, and a snapshot does not read it.
#[test]
fn a_snapshot_does_not_show_a_plain_lock_without_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    let plain = fs::File::open(&path).unwrap();
    plain.lock().unwrap();
    let locker = WriteLocker::at(&path).unwrap();
    // Wine does not show it at all.
    if cfg!(unix) {
        assert_eq!(locker.status().unwrap().state, LockState::Held);
    }
    assert_eq!(locker.snapshot().unwrap().status.state, LockState::Free);
}

#[test]
fn events_since_the_last_snapshot_are_reported_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    let mut hasty = LockPeer::start(&path);
    let begin = snapshot(&path);
    hasty.acquire_within(Duration::from_millis(20));
    let one = snapshot(&path);
    assert_eq!(one.counted_since(&begin).timeouts, 1);
    let events = one.events_since(&begin);
    assert_eq!((events.events.len(), events.missed), (1, 0));
    assert_eq!(events.events[0].kind, EventKind::Timeout);
    assert_eq!(one.events_since(&one).events, []);
    for _ in 0..3 {
        hasty.acquire_within(Duration::from_millis(1));
    }
    let four = snapshot(&path);
    let events = four.events_since(&one);
    let counts = events
        .events
        .iter()
        .map(|event| (event.number, event.count));
    assert_eq!(counts.collect::<Vec<_>>(), [(4, 4)]);
    assert_eq!(events.missed, 0);
    for _ in 0..70 {
        hasty.acquire_within(Duration::from_millis(1));
    }
    let many = snapshot(&path);
    let events = many.events_since(&four);
    assert_eq!((events.events.len(), events.missed), (1, 0));
    assert_eq!(events.events[0].count, 74);
    assert_eq!(many.counted_since(&four).timeouts, 70);
    holding.release();
    assert_eq!(many.waits_since(&four).count, 0);
    let mut waited = LockPeer::holding(&path);
    hasty.enqueue(&path, LONG_TIMEOUT);
    thread::sleep(Duration::from_millis(30));
    waited.release();
    hasty.peer.expect("held");
    let waits = snapshot(&path).waits_since(&many);
    assert_eq!(waits.count, 2);
    assert!(waits.max >= Duration::from_millis(30) && waits.max < LONG_TIMEOUT);
}

#[test]
fn events_that_gave_way_to_later_ones_are_missed() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let _holding = LockPeer::holding(&path);
    let time_out = |label: &str| {
        let locker = WriteLocker::at(&path).unwrap().label(label);
        let timeout = Duration::from_millis(1);
        assert!(locker.acquire(timeout).unwrap_err().is_timeout());
    };
    time_out("first");
    let begin = snapshot(&path);
    // Timeouts with different labels are different events; of one that happens again, only the
    // last number is kept.
    for number in 0..70 {
        time_out(&number.to_string());
        time_out("again");
    }
    let events = snapshot(&path).events_since(&begin);
    let times: u32 = events.events.iter().map(|event| event.count).sum();
    assert_eq!((events.events.len(), times), (64, 63 + 70));
    assert_eq!(events.missed, 140 - u64::from(times));
}

#[test]
fn counts_start_again_with_a_rebuilt_queue_file() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    LockPeer::start(&path).acquire_within(Duration::from_millis(1));
    holding.release();
    let old = snapshot(&path);
    fs::remove_file(path.with_extension("lockq")).unwrap();
    LockPeer::holding(&path).release();
    let new = snapshot(&path);
    assert_eq!(new.counted_since(&old).acquisitions, 1);
    assert_eq!(new.events_since(&old).events, []);
    assert_eq!(new.waits_since(&old).count, 1);
}

fn take_snapshots(args: &[OsString]) {
    let locker = WriteLocker::at(&args[0]).unwrap();
    for _ in 0..SNAPSHOTS {
        assert_eq!(locker.snapshot().unwrap().status.queue.len(), 1);
    }
    peer::send("done");
}

/// The trace shows which files a snapshot opens, and that it locks and probes nothing.
#[test]
fn a_snapshot_opens_only_the_queue_file_the_record_and_the_processes() {
    if !requirement::has_program("strace") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    let mut waiting = LockPeer::start(&path);
    waiting.enqueue(&path, LONG_TIMEOUT);
    let trace = directory.path().join("trace");
    let wrapper = [
        "strace",
        "-f",
        "-e",
        "trace=open,openat,flock,fcntl",
        "-o",
        trace.to_str().unwrap(),
    ];
    let command = Peer::command("take_snapshots", [&path]);
    let mut reader = Peer::spawn(peer::wrapped(&wrapper, &command));
    reader.expect("done");
    assert!(reader.close().success());
    let trace = fs::read_to_string(trace).unwrap();
    let opened = |name: &str| trace.matches(&format!("{name}\"")).count();
    assert_eq!(opened("/db.lockq"), SNAPSHOTS, "{trace}");
    assert_eq!(opened("/db.lock"), SNAPSHOTS, "{trace}");
    for pid in [holding.pid(), waiting.pid()] {
        assert_eq!(opened(&format!("/proc/{pid}/stat")), SNAPSHOTS, "{trace}");
    }
    for forbidden in [
        "/proc/locks",
        "mountinfo",
        "fdinfo",
        "flock(",
        "_SETLK",
        "_GETLK",
        "O_RDWR",
    ] {
        assert!(!trace.contains(forbidden), "{forbidden}: {trace}");
    }
    holding.release();
    waiting.peer.expect("held");
    waiting.release();
}
