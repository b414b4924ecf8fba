//! A glance says who holds and who waits from the page alone, and what happened since
//! the one before; it never asks for the kernel's table of locks.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder_lock::{EventKind, Glance, Holder, LockState, PageState, ProcessState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

const LOOKS: usize = 20;

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE, ("glance_often", glance_often)]);
}

fn glance(path: &Path) -> Glance {
    WriteLocker::at(path).unwrap().glance().unwrap()
}

fn holder(path: &Path) -> Option<Holder> {
    glance(path).status.holder
}

#[test]
fn the_holder_and_the_queue_stand_in_the_page() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    assert_eq!(glance(&path).status.page, PageState::None);
    let mut holding = LockPeer::spawn(LockPeer::command(&path, &["label=nightly"]));
    holding.acquire();
    let [mut first, mut second] = [(); 2].map(|()| LockPeer::start(&path));
    first.enqueue(&path, LONG_TIMEOUT);
    second.enqueue(&path, LONG_TIMEOUT);
    let seen = glance(&path);
    assert!(seen.built().unwrap().elapsed().unwrap() < LONG_TIMEOUT);
    let status = seen.status;
    assert_eq!(
        (status.state, status.page),
        (LockState::Held, PageState::InUse)
    );
    let holder = status.holder.unwrap();
    assert_eq!(holder.pid, Some(holding.pid()));
    assert_eq!(holder.label.as_deref(), Some("nightly"));
    assert!(holder.recorded && holder.held.unwrap() < LONG_TIMEOUT);
    assert!(holder.cmd.unwrap().contains("--nocapture"));
    let pids: Vec<u32> = status.queue.iter().map(|waiter| waiter.pid).collect();
    assert_eq!(pids, [first.pid(), second.pid()]);
    holding.peer.stop();
    let seen = glance(&path).status.holder.unwrap();
    assert_eq!(seen.state, ProcessState::Stopped);
    holding.peer.signal("CONT");
    holding.release();
    first.peer.expect("held");
    first.release();
    second.peer.expect("held");
    assert_eq!(self::holder(&path).unwrap().pid, Some(second.pid()));
    second.release();
    let free = glance(&path).status;
    assert_eq!((free.state, free.holder), (LockState::Free, None));
}

#[test]
fn the_dead_hold_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    assert_eq!(holder(&path).unwrap().pid, Some(holding.pid()));
    holding.peer.kill();
    assert!(lock_fixture::record_text(&path).contains("pid:"));
    assert_eq!(holder(&path), None);
}

#[test]
fn who_polls_is_known_by_its_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    let mut polling = LockPeer::spawn(LockPeer::command(&path, &["queue-file=no"]));
    polling.acquire();
    assert_eq!(holder(&path).unwrap().pid, Some(polling.pid()));
    polling.release();
    assert_eq!(holder(&path), None);
}

/// Only the kernel's table knows of it, and a glance does not look there.
#[test]
fn a_plain_lock_without_a_record_is_not_seen() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    LockPeer::holding(&path).release();
    let plain = fs::File::open(&path).unwrap();
    plain.lock().unwrap();
    let locker = WriteLocker::at(&path).unwrap();
    assert_eq!(locker.status().unwrap().state, LockState::Held);
    assert_eq!(locker.glance().unwrap().status.state, LockState::Free);
}

#[test]
fn what_happened_since_the_last_glance_is_told_once() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    let mut hasty = LockPeer::start(&path);
    let begin = glance(&path);
    hasty.acquire_within(Duration::from_millis(20));
    let one = glance(&path);
    assert_eq!(one.counted_since(&begin).timeouts, 1);
    let news = one.news_since(&begin);
    assert_eq!((news.events.len(), news.missed), (1, 0));
    assert_eq!(news.events[0].kind, EventKind::Timeout);
    assert_eq!(one.news_since(&one).events, []);
    for _ in 0..3 {
        hasty.acquire_within(Duration::from_millis(1));
    }
    let four = glance(&path);
    let news = four.news_since(&one);
    let numbers: Vec<u64> = news.events.iter().map(|event| event.number).collect();
    assert_eq!(numbers, [2, 3, 4]);
    for _ in 0..70 {
        hasty.acquire_within(Duration::from_millis(1));
    }
    let many = glance(&path);
    let news = many.news_since(&four);
    assert_eq!((news.events.len(), news.missed), (64, 6));
    assert_eq!(many.counted_since(&four).timeouts, 70);
    holding.release();
    assert_eq!(many.waits_since(&four).count, 0);
    let mut waited = LockPeer::holding(&path);
    hasty.enqueue(&path, LONG_TIMEOUT);
    thread::sleep(Duration::from_millis(30));
    waited.release();
    hasty.peer.expect("held");
    let waits = glance(&path).waits_since(&many);
    assert_eq!(waits.count, 2);
    assert!(waits.max >= Duration::from_millis(30) && waits.max < LONG_TIMEOUT);
}

#[test]
fn a_page_built_anew_begins_anew() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    LockPeer::start(&path).acquire_within(Duration::from_millis(1));
    holding.release();
    let old = glance(&path);
    fs::remove_file(path.with_extension("lockq")).unwrap();
    LockPeer::holding(&path).release();
    let new = glance(&path);
    assert_eq!(new.counted_since(&old).acquisitions, 1);
    assert_eq!(new.news_since(&old).events, []);
    assert_eq!(new.waits_since(&old).count, 1);
}

fn glance_often(args: &[OsString]) {
    let locker = WriteLocker::at(&args[0]).unwrap();
    for _ in 0..LOOKS {
        assert_eq!(locker.glance().unwrap().status.queue.len(), 1);
    }
    peer::send("glanced");
}

/// What it opens, as the kernel sees it; and that it locks and probes nothing.
#[test]
fn nothing_but_the_page_the_record_and_the_processes_is_opened() {
    if !requirement::has_program("strace") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut holding = LockPeer::holding(&path);
    let mut waiting = LockPeer::start(&path);
    waiting.enqueue(&path, LONG_TIMEOUT);
    let traced = directory.path().join("traced");
    let wrapper = [
        "strace",
        "-f",
        "-e",
        "trace=open,openat,flock,fcntl",
        "-o",
        traced.to_str().unwrap(),
    ];
    let looking = Peer::command("glance_often", [&path]);
    let mut looker = Peer::spawn(peer::wrapped(&wrapper, &looking));
    looker.expect("glanced");
    assert!(looker.close().success());
    let traced = fs::read_to_string(traced).unwrap();
    let opened = |name: &str| traced.matches(&format!("{name}\"")).count();
    assert_eq!(opened("/db.lockq"), LOOKS, "{traced}");
    assert_eq!(opened("/db.lock"), LOOKS, "{traced}");
    for pid in [holding.pid(), waiting.pid()] {
        assert_eq!(opened(&format!("/proc/{pid}/stat")), LOOKS, "{traced}");
    }
    for never in [
        "/proc/locks",
        "mountinfo",
        "fdinfo",
        "flock(",
        "_SETLK",
        "_GETLK",
        "O_RDWR",
    ] {
        assert!(!traced.contains(never), "{never}: {traced}");
    }
    holding.release();
    waiting.peer.expect("held");
    waiting.release();
}
