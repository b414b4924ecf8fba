//! The record in the lock file names the holder and the time of the acquisition. It is
//! blank after every kind of release, and readers see whole records.
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
    peer::run_role(&[("acquire_often", acquire_often)]);
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
fn the_record_names_the_holder_and_the_time() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let before = SystemTime::now();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let after = SystemTime::now();
    let text = lock_fixture::record_text(&lock_file(directory.path()));
    let lines: Vec<&str> = text.lines().collect();
    assert_eq!(lines[0], format!("pid:{}", std::process::id()));
    // The time is rounded down to milliseconds, so it is at most one too early.
    let time = time_of(lines[1]) + Duration::from_millis(1);
    assert!(before <= time && time_of(lines[1]) <= after, "{text}");
    guard.release().unwrap();
    assert!(is_blank(directory.path()));
}

#[test]
fn the_record_is_blank_after_every_kind_of_release() {
    fn fails_while_holding(locker: &WriteLocker) -> Result<(), LockError> {
        let _guard = locker.acquire(LONG_TIMEOUT)?;
        locker.acquire(LONG_TIMEOUT)?.release()
    }

    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let assert_held = || assert!(!is_blank(directory.path()));
    let assert_released = || {
        assert!(is_blank(directory.path()));
        assert!(locker.holder().unwrap().is_none());
    };

    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    assert_held();
    guard.release().unwrap();
    assert_released();

    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    assert_held();
    drop(guard);
    assert_released();

    // By an error while the lock is held, here a nested acquisition.
    assert!(fails_while_holding(&locker).unwrap_err().is_nested());
    assert_released();

    let panicked = catch_unwind(AssertUnwindSafe(|| {
        let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
        assert_held();
        // A panic that prints no message.
        resume_unwind(Box::new("on purpose"));
    }));
    assert_eq!(panicked.unwrap_err().downcast_ref(), Some(&"on purpose"));
    assert_released();
    drop(locker.acquire(LONG_TIMEOUT).unwrap());
}

/// Acquires and releases until its input ends. Its label contains its pid.
fn acquire_often(args: &[OsString]) {
    let label = format!("of {}", std::process::id());
    let locker = WriteLocker::new(&args[0]).unwrap().label(label);
    peer::send("ready");
    thread::spawn(|| peer::expect("never sent"));
    loop {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        // Gives `holder()` a chance to see a holder, and the other process to acquire.
        thread::sleep(Duration::from_micros(50));
        guard.release().unwrap();
        thread::yield_now();
    }
}

/// What one read of the file returned.
enum Reading {
    Blank,
    Whole(u32),
    /// A reader may see a write that the kernel is copying: half a record, or half of each
    /// of two successive records.
    Half,
}

fn parse(text: &str) -> Reading {
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

/// Two processes that take turns, and how often each was seen as the holder.
struct Writers {
    peers: [Peer; 2],
    seen: [u32; 2],
}

impl Writers {
    fn start(directory: &Path) -> Self {
        let peers = [(); 2].map(|()| Peer::start("acquire_often", [directory]));
        for peer in &peers {
            peer.expect("ready");
        }
        Self {
            peers,
            seen: [0; 2],
        }
    }

    fn count(&mut self, pid: u32) {
        let index = self.peers.iter().position(|peer| peer.pid() == pid);
        self.seen[index.expect("one of the two")] += 1;
    }
}

/// A reader of the text itself, such as `cat`, seldom sees half a record, and only for a
/// moment.
#[test]
fn half_a_record_is_rare_and_brief() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut writers = Writers::start(directory.path());
    let (mut halves, mut in_a_row) = (0, 0);
    // Opening a file takes long under Wine.
    let readings = if cfg!(windows) { 10_000 } else { 50_000 };
    for _ in 0..readings {
        in_a_row = match parse(&fs::read_to_string(&path).unwrap()) {
            Reading::Half => in_a_row + 1,
            Reading::Blank => 0,
            Reading::Whole(pid) => {
                writers.count(pid);
                0
            }
        };
        halves += u32::from(in_a_row > 0);
        assert!(in_a_row < 10_000, "half a record stays");
    }
    eprintln!("{halves} halves, {:?} whole", writers.seen);
    assert!(
        writers.seen.iter().all(|&seen| seen > 100),
        "{:?}",
        writers.seen
    );
    assert!(halves < 1000, "{halves}");
}

/// A reader that uses this crate never sees half a record.
#[test]
fn a_holder_is_never_built_from_half_a_record() {
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
        writers.count(pid);
    }
    eprintln!("{:?} seen", writers.seen);
    assert!(writers.seen.iter().sum::<u32>() > 50, "{:?}", writers.seen);
}
