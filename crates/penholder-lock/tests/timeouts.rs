//! A timeout reports how long the caller waited, the holder, the lock file and what to
//! do. It comes on time for every kind of holder and every timeout.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder_lock::{LockError, ProcessState, WriteLocker};
use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, requirement};

/// How late a timeout may be at the median.
const MAX_DELAY: Duration = Duration::from_millis(100);
/// How late a single timeout may be if other processes keep the machine busy.
const MAX_SINGLE_DELAY: Duration = Duration::from_secs(2);

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

/// Waits until the timeout and returns the error and how late it came.
fn measure_delay(locker: &WriteLocker, timeout: Duration) -> (LockError, Duration) {
    let start = Instant::now();
    let error = locker.acquire(timeout).unwrap_err();
    let delay = start.elapsed().checked_sub(timeout).expect("not before");
    eprintln!("{delay:?} past the deadline of {timeout:?}");
    assert!(delay < MAX_SINGLE_DELAY, "{delay:?} past the deadline");
    (error, delay)
}

/// Asserts that timeouts are not late, at the median because the machine may be busy.
fn assert_on_time(directory: &Path, timeout: Duration) {
    let locker = WriteLocker::new(directory).unwrap();
    let mut delays = [(); 7].map(|()| measure_delay(&locker, timeout).1);
    delays.sort();
    assert!(delays[3] < MAX_DELAY, "past the deadline: {delays:?}");
}

/// Waits until the timeout and checks everything in the error except the holder.
fn time_out(directory: &Path, timeout: Duration, first_line: &str) -> (LockError, String) {
    let locker = WriteLocker::new(directory).unwrap();
    let (error, _delay) = measure_delay(&locker, timeout);

    let text = error.to_string();
    let lines: Vec<&str> = text.lines().collect();
    let lock_file = penholder_core::canonicalize(directory).unwrap();
    let lock_file = lock_file.join("db.lock");
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
fn a_timeout_names_a_running_holder() {
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
fn a_timeout_reports_that_the_holder_is_stopped() {
    let directory = tempfile::tempdir().unwrap();
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    lock_peer.peer.signal("STOP");
    let timeout = Duration::from_millis(1500);
    let (error, line) = time_out(directory.path(), timeout, "write lock timeout after 1.5s");
    assert!(line.starts_with(&format!("  holder: pid:{} since ", lock_peer.pid())));
    assert!(line.contains(", stopped, held "), "{line}");
    assert_eq!(error.holder().unwrap().state, ProcessState::Stopped);
    // After it continues, it can release the lock.
    lock_peer.peer.signal("CONT");
    lock_peer.release();
    drop(
        WriteLocker::new(directory.path())
            .unwrap()
            .acquire(LONG_TIMEOUT)
            .unwrap(),
    );
}

/// Starts a holder that does not use this crate. It sends `held` or its pid, and
/// releases at the end of its input.
fn start_foreign_holder(program: &str, args: &[&str], directory: &Path) -> Peer {
    let mut command = Command::new(program);
    command.args(args).current_dir(directory);
    Peer::spawn(command)
}

fn assert_names_foreign_holder(directory: &Path, timeout: Duration, first_line: &str, pid: u32) {
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
fn a_timeout_names_a_flock_that_left_no_record() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let args = ["db.lock", "sh", "-c", "echo held; read line"];
    let flock = start_foreign_holder("flock", &args, directory.path());
    flock.expect("held");
    let two = Duration::from_secs(2);
    assert_names_foreign_holder(
        directory.path(),
        two,
        "write lock timeout after 2s",
        flock.pid(),
    );
}

/// In `( flock 9; … ) 9>db.lock`, `flock` acquires the lock and exits, and the shell holds it.
#[test]
fn a_timeout_names_the_shell_that_used_flock_to_acquire() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    // `read` opens its input in the subshell itself, so this is its pid.
    let script = "( flock 9; read pid rest </proc/self/stat; echo $pid; read line ) 9>db.lock";
    let shell = start_foreign_holder("sh", &["-c", script], directory.path());
    let pid = shell.read_line().parse().unwrap();
    let timeout = Duration::from_millis(250);
    assert_names_foreign_holder(
        directory.path(),
        timeout,
        "write lock timeout after 250ms",
        pid,
    );
}

/// A shared lock blocks a writer just as an exclusive lock does.
#[test]
fn a_timeout_names_the_holder_of_a_shared_lock() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let args = ["--shared", "db.lock", "sh", "-c", "echo held; read line"];
    let flock = start_foreign_holder("flock", &args, directory.path());
    flock.expect("held");
    let timeout = Duration::from_millis(250);
    assert_names_foreign_holder(
        directory.path(),
        timeout,
        "write lock timeout after 250ms",
        flock.pid(),
    );
}

/// The holders are a known one, a stopped one, and one without a record, which is
/// searched for.
#[test]
fn timeouts_are_on_time_for_every_kind_of_holder() {
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
    let flock = start_foreign_holder("flock", &args, directory.path());
    flock.expect("held");
    assert_on_time(directory.path(), Duration::from_millis(30));
}

#[test]
fn a_timeout_of_zero_tries_once() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    drop(locker.acquire(Duration::ZERO).unwrap());
    let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
    let start = Instant::now();
    let error = locker.acquire(Duration::ZERO).unwrap_err();
    assert!(error.is_timeout() && start.elapsed() < MAX_SINGLE_DELAY);
    assert_eq!(error.holder().unwrap().pid, Some(lock_peer.pid()));
    assert!(locker.try_acquire().unwrap().is_none());
    lock_peer.release();
    drop(locker.acquire(Duration::ZERO).unwrap());
}

/// With a free lock, behind another process, and behind another thread.
#[test]
fn an_unlimited_timeout_works() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    drop(locker.acquire(Duration::MAX).unwrap());
    thread::scope(|scope| {
        // Inside the scope, so that a failure drops it and the waiters end.
        let mut lock_peer = LockPeer::holding(&lock_file(directory.path()));
        let waiters =
            [(); 2].map(|()| scope.spawn(|| drop(locker.acquire(Duration::MAX).unwrap())));
        // Long enough for both to wait. If it is not, the test is only easier.
        thread::sleep(Duration::from_millis(50));
        lock_peer.release();
        for waiter in waiters {
            waiter.join().unwrap();
        }
    });
}
