//! A timeout says how long was waited, who holds the lock, where, and what to
//! do; it comes when it was asked for, whoever holds and whatever the timeout.
#![cfg(test)]

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{LockError, ProcessState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

/// How late a timeout may come.
const LATE: Duration = Duration::from_millis(100);
/// How late a single one may come where others keep the machine busy.
const EVER: Duration = Duration::from_secs(2);

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

/// Times out, and says how late.
fn lateness(locker: &WriteLocker, timeout: Duration) -> (LockError, Duration) {
    let begun = Instant::now();
    let error = locker.acquire(timeout).unwrap_err();
    let excess = begun.elapsed().checked_sub(timeout).expect("not before");
    eprintln!("{excess:?} past the deadline of {timeout:?}");
    assert!(excess < EVER, "{excess:?} past the deadline");
    (error, excess)
}

/// Asserts that timeouts are not late. The median, for the machine is others' too.
fn assert_on_time(directory: &Path, timeout: Duration) {
    let locker = WriteLocker::new(directory).unwrap();
    let mut late = [(); 7].map(|()| lateness(&locker, timeout).1);
    late.sort();
    assert!(late[3] < LATE, "past the deadline: {late:?}");
}

/// Times out and checks everything of the error but the holder.
fn time_out(directory: &Path, timeout: Duration, first_line: &str) -> (LockError, String) {
    let locker = WriteLocker::new(directory).unwrap();
    let (error, _late) = lateness(&locker, timeout);

    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let lock_file = directory.canonicalize().unwrap().join("db.lock");
    assert!(error.is_timeout() && !error.is_nested());
    assert_eq!(lines.len(), 4, "{text}");
    assert_eq!(lines[0], first_line);
    assert!(lines[1].starts_with("  holder: "), "{text}");
    assert_eq!(lines[2], format!("  lock file: {}", lock_file.display()));
    assert_eq!(lines[3], "  try again or check if holder process is stuck");
    let holder = lines[1].to_owned();
    (error, holder)
}

#[test]
fn names_a_running_holder() {
    let directory = tempfile::tempdir().unwrap();
    let command = LockPeer::command(&lock_file(directory.path()), &["label=nightly import"]);
    let mut lock_peer = LockPeer::spawn(command);
    lock_peer.acquire();
    let half = Duration::from_millis(500);
    let (error, line) = time_out(directory.path(), half, "write lock timeout after 500ms");
    let named = format!("  holder: pid:{} since ", lock_peer.pid());
    assert!(line.starts_with(&named), "{line}");
    assert!(line.contains(", label: nightly import, "), "{line}");
    assert!(!line.contains("stopped"), "{line}");
    let holder = error.holder().unwrap();
    assert_eq!(holder.pid, Some(lock_peer.pid()));
    assert_eq!(holder.label.as_deref(), Some("nightly import"));
    assert!(holder.recorded && !holder.is_this_process());
    assert!(holder.held.unwrap() >= half);
}

#[test]
fn says_that_the_holder_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    lock_peer.peer.signal("STOP");
    let timeout = Duration::from_millis(1500);
    let (error, line) = time_out(directory.path(), timeout, "write lock timeout after 1.5s");
    assert!(line.starts_with(&format!("  holder: pid:{} since ", lock_peer.pid())));
    assert!(line.contains(", stopped, held "), "{line}");
    assert_eq!(error.holder().unwrap().state, ProcessState::Stopped);
    // It is still a holder like any other.
    lock_peer.peer.signal("CONT");
    lock_peer.release();
    drop(
        WriteLocker::new(directory.path())
            .unwrap()
            .acquire(LONG_TIMEOUT)
            .unwrap(),
    );
}

/// A foreign holder, which says `held …` and lets go at the end of its input.
fn foreign(program: &str, args: &[&str], directory: &Path) -> Peer {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory);
    Peer::spawn(command)
}

fn check_foreign(directory: &Path, timeout: Duration, first_line: &str, pid: u32) {
    let (error, line) = lock_fixture::until_named(|| {
        let (error, line) = time_out(directory, timeout, first_line);
        (error.holder().is_some(), (error, line))
    });
    assert!(
        line.starts_with(&format!("  holder: pid:{pid} (")),
        "{line}"
    );
    assert!(line.ends_with(", it left no record)"), "{line}");
    let holder = error.holder().unwrap();
    assert_eq!((holder.pid, holder.recorded), (Some(pid), false));
}

#[test]
fn names_a_flock_that_left_no_record() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    let flock = foreign("flock", &args, directory.path());
    flock.expect("held");
    let two = Duration::from_secs(2);
    check_foreign(
        directory.path(),
        two,
        "write lock timeout after 2s",
        flock.pid(),
    );
}

/// In `( flock 9; … ) 9>db.lock` the taker is gone and the shell holds on.
#[test]
fn names_the_shell_that_had_flock_take_the_lock() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // `read` opens its input in the subshell itself, so this is its pid.
    let script = "( flock 9; read pid rest </proc/self/stat; echo $pid; read line ) 9>db.lock";
    let shell = foreign("sh", &["-c", script], directory.path());
    let pid = shell.read_line().parse().unwrap();
    let timeout = Duration::from_millis(250);
    check_foreign(
        directory.path(),
        timeout,
        "write lock timeout after 250ms",
        pid,
    );
}

/// A shared lock keeps us out as well as an exclusive one.
#[test]
fn names_whoever_holds_a_shared_lock() {
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let args = ["--shared", "db.lock", "sh", "-c", "echo held; read line"];
    let flock = foreign("flock", &args, directory.path());
    flock.expect("held");
    let timeout = Duration::from_millis(250);
    check_foreign(
        directory.path(),
        timeout,
        "write lock timeout after 250ms",
        flock.pid(),
    );
}

/// Whoever holds: one that is known, a stopped one, and one that left no record and
/// has to be searched for.
#[test]
fn timeouts_come_in_time() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    for timeout in [0, 30, 300].map(Duration::from_millis) {
        assert_on_time(directory.path(), timeout);
    }
    lock_peer.peer.signal("STOP");
    assert_on_time(directory.path(), Duration::from_millis(30));
    lock_peer.peer.signal("CONT");
    lock_peer.release();
    if !requirement::has_program("flock") {
        return;
    }
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    let flock = foreign("flock", &args, directory.path());
    flock.expect("held");
    assert_on_time(directory.path(), Duration::from_millis(30));
}

#[test]
fn zero_tries_once() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    drop(locker.acquire(Duration::ZERO).unwrap());
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let begun = Instant::now();
    let error = locker.acquire(Duration::ZERO).unwrap_err();
    assert!(error.is_timeout() && begun.elapsed() < EVER);
    assert_eq!(error.holder().unwrap().pid, Some(lock_peer.pid()));
    assert!(locker.try_acquire().unwrap().is_none());
    lock_peer.release();
    drop(locker.acquire(Duration::ZERO).unwrap());
}

/// Free, behind another process, and behind another thread.
#[test]
fn for_ever_is_a_timeout_too() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    drop(locker.acquire(Duration::MAX).unwrap());
    thread::scope(|scope| {
        // In here, so that it ends and the waiters with it if something fails.
        let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
        let waiters =
            [(); 2].map(|()| scope.spawn(|| drop(locker.acquire(Duration::MAX).unwrap())));
        // Long enough for both to wait; if not, the test is only easier.
        thread::sleep(Duration::from_millis(50));
        lock_peer.release();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
