//! The record in the lock file: it says who holds the lock and since when, is
//! blank after every way out, and is whole whenever somebody reads it.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::path::Path;
use std::thread;
use std::time::{Duration, SystemTime};

use penholder_lock::{LockError, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer};

#[test]
fn peer() {
    peer::run_role(&[("rewrite", rewrite)]);
}

fn is_blank(directory: &Path) -> bool {
    lock_fixture::record_text(&lock_file(directory))
        .trim()
        .is_empty()
}

fn time_of(line: &str) -> SystemTime {
    let time = line.strip_prefix("time:").expect(line);
    assert!(time.ends_with('Z'), "{time} is UTC");
    time.parse::<jiff::Timestamp>().unwrap().into()
}

#[test]
fn says_who_holds_and_since_when() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let before = SystemTime::now();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let after = SystemTime::now();
    let text = lock_fixture::record_text(&lock_file(directory.path()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("pid:{}", std::process::id()));
    // Milliseconds are written: rounded down, at most one early.
    let time = time_of(lines[1]) + Duration::from_millis(1);
    assert!(before <= time && time_of(lines[1]) <= after, "{text}");
    guard.release().unwrap();
    assert!(is_blank(directory.path()));
}

#[test]
fn is_blank_after_every_way_out() {
    fn returns_early(locker: &WriteLocker) -> Result<(), LockError> {
        let _guard = locker.acquire(LONG_TIMEOUT)?;
        locker.acquire(LONG_TIMEOUT)?.release()
    }

    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let was_held = || assert!(!is_blank(directory.path()));
    let is_out = || {
        assert!(is_blank(directory.path()));
        assert!(locker.holder().unwrap().is_none());
    };

    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    was_held();
    guard.release().unwrap();
    is_out();

    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    was_held();
    drop(guard);
    is_out();

    // By an error in the middle: a nested acquisition is one.
    assert!(returns_early(&locker).unwrap_err().is_nested());
    is_out();

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
        was_held();
        // A panic without its message on the screen.
        resume_unwind(Box::new("on purpose"));
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
    is_out();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}

/// Takes and gives back until its input ends; its label says its pid.
fn rewrite(args: &[OsString]) {
    let label = format!("of {}", std::process::id());
    let locker = WriteLocker::new(&args[0]).unwrap().label(label);
    peer::send("ready");
    thread::spawn(|| peer::expect("never said"));
    loop {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        // `holder()` is to meet a holder, and the other one to get in between.
        thread::sleep(Duration::from_micros(50));
        guard.release().unwrap();
        thread::yield_now();
    }
}

/// What one reading of the file gave.
enum Reading {
    Blank,
    Whole(u32),
    /// The kernel lets a reader see a write that is being copied: half a record, or,
    /// where one holder follows another, half of each.
    Half,
}

fn reading(text: &str) -> Reading {
    if text.trim().is_empty() {
        return Reading::Blank;
    }
    let lines: Vec<&str> = text.lines().collect();
    let find = |key| lines.iter().find_map(|line| line.strip_prefix(key));
    let (pid, label) = (find("pid:"), find("label:of "));
    match (pid, label, find("start:"), find("pidns:")) {
        (Some(pid), Some(label), Some(_), Some(_)) if pid == label => {
            time_of(lines[1]);
            Reading::Whole(pid.parse().unwrap())
        }
        _ => Reading::Half,
    }
}

/// Two processes that take turns, and what is seen of each.
struct Writers {
    peers: [Peer; 2],
    seen: [u32; 2],
}

impl Writers {
    fn start(directory: &Path) -> Self {
        let peers = [(); 2].map(|()| Peer::start("rewrite", [directory]));
        for peer in &peers {
            peer.expect("ready");
        }
        Self {
            peers,
            seen: [0; 2],
        }
    }

    fn note(&mut self, pid: u32) {
        let who = self.peers.iter().position(|peer| peer.pid() == pid);
        self.seen[who.expect("one of the two")] += 1;
    }
}

/// For readers of the text itself (`cat`, another language): half a record is rare,
/// and gone a moment later.
#[test]
fn no_reader_stays_with_half_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut writers = Writers::start(directory.path());
    let (mut halves, mut in_a_row) = (0, 0);
    for _ in 0..50_000 {
        in_a_row = match reading(&fs::read_to_string(&path).unwrap()) {
            Reading::Half => in_a_row + 1,
            Reading::Blank => 0,
            Reading::Whole(pid) => {
                writers.note(pid);
                0
            }
        };
        halves += u32::from(in_a_row > 0);
        assert!(in_a_row < 10_000, "half a record stands");
    }
    eprintln!("{halves} halves, {:?} whole", writers.seen);
    assert!(
        writers.seen.iter().all(|&seen| seen > 100),
        "{:?}",
        writers.seen
    );
    assert!(halves < 1000, "{halves}");
}

/// For readers through this crate there is not even half a record.
#[test]
fn a_holder_is_never_made_of_half_a_record() {
    let directory = tempfile::tempdir().unwrap();
    let mut writers = Writers::start(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    for _ in 0..5000 {
        let Some(holder) = locker.holder().unwrap().filter(|holder| holder.recorded) else {
            continue;
        };
        let pid = holder.pid.unwrap();
        assert_eq!(holder.label, Some(format!("of {pid}")));
        assert!(holder.since.is_some() && holder.cmd.is_some());
        writers.note(pid);
    }
    eprintln!("{:?} seen", writers.seen);
    assert!(writers.seen.iter().sum::<u32>() > 50, "{:?}", writers.seen);
}
