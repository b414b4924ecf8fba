//! A platform that is not supported yet: every operation returns an error that says
//! so, and none panics. Compiled only with `RUSTFLAGS='--cfg penholder_unsupported'`.

#![cfg(penholder_unsupported)]

use std::fs;
use std::io;
use std::time::Duration;

use penholder_lock::{
    LockError, LockState, Openers, Process, ProcessState, QueueFileState, WriteLocker,
    network_file_system,
};

const REASON: &str = "not supported on this platform (penholder runs on Linux only so far)";

fn assert_unsupported(error: &LockError) {
    let text = error.to_string();
    assert!(text.contains(REASON), "{text}");
    assert!(text.ends_with("(`docs/platforms.md`)"), "{text}");
    assert!(!error.is_timeout() && !error.is_nested(), "{error:?}");
}

#[test]
fn acquiring_fails_and_creates_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let local = WriteLocker::new(directory.path())
        .unwrap()
        .allow_network_fs(true);
    for locker in [&locker, &local] {
        assert_unsupported(&locker.acquire(Duration::from_secs(9)).unwrap_err());
        assert_unsupported(&locker.try_acquire().unwrap_err());
        assert!(!locker.is_held_by_this_thread());
    }
    assert_eq!(fs::read_dir(directory.path()).unwrap().count(), 0);
}

#[tokio::test]
async fn acquiring_as_a_future_fails() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let error = locker.acquire_async(Duration::from_secs(9)).await;
    assert_unsupported(&error.unwrap_err());
}

#[test]
fn looking_finds_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    assert_eq!(locker.holder().unwrap(), None);
    let status = locker.status().unwrap();
    assert_eq!(
        (status.state, status.queue_file),
        (LockState::Free, QueueFileState::None)
    );
    assert!(status.queue.is_empty() && status.events.is_empty());
    assert_eq!(locker.snapshot().unwrap().status.holder, None);
    assert_eq!(locker.queue_file_header().unwrap(), None);
}

#[test]
fn record_of_another_program_is_shown_without_its_state() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    fs::write(locker.lock_file(), "pid:7\ntime:2026-01-15T10:30:45Z\n").unwrap();
    fs::write(locker.queue_file(), [7; 400_000]).unwrap();
    for holder in [
        locker.holder().unwrap(),
        locker.snapshot().unwrap().status.holder,
    ] {
        let holder = holder.unwrap();
        assert_eq!((holder.pid, holder.state), (Some(7), ProcessState::Unknown));
    }
    assert_eq!(
        locker.status().unwrap().queue_file,
        QueueFileState::Unusable
    );
    assert!(locker.queue_file_header().unwrap().unwrap().fault.is_some());
}

#[test]
fn other_processes_and_file_systems_are_unknown() {
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("file");
    fs::write(&file, "x").unwrap();
    let openers = Openers::of(std::slice::from_ref(&file), Duration::from_secs(1));
    assert!(openers.found.is_empty() && !openers.complete);
    assert_eq!(Process::with_posix_lock(&file, 120), None);
    assert_eq!(Process::with_shared_posix_lock(&file, &(123..=127)), []);
    let error = network_file_system(directory.path()).unwrap_err();
    assert_eq!(error.kind(), io::ErrorKind::Unsupported);
    assert!(error.to_string().contains(REASON), "{error}");
}
