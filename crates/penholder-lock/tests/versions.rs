//! Processes whose queue files have different versions live together: those of the version that came
//! first queue, and the others poll. A file of another version is replaced only if no living process
//! uses it.
#![cfg(test)]
#![allow(unsafe_code, reason = "a lock on one byte has no safe wrapper")]

use std::ffi::OsString;
use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use penholder_core::failpoint;
use penholder_lock::{QueueFileFault, QueueFileState, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::queue_file as layout;
use penholder_testkit::{lock_fixture, wait};

/// The first of the bytes whose locks say that processes use the file: of every version.
const LIVENESS: i64 = 1 << 62;
/// The length of a file of version 2.
const LENGTH_2: usize = 4_460_544;
/// After this time a process looks again whether it can use a queue file.
const RECHECK: Duration = Duration::from_millis(110);

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("occupy", occupy),
    ]);
}

fn queue_file(directory: &Path) -> PathBuf {
    directory.join("db.lockq")
}

/// Uses a queue file as every version does: with a lock on one of its last bytes.
fn occupy(args: &[OsString]) {
    let file = File::options().read(true).write(true).open(&args[0]);
    let file = file.unwrap();
    let mut lock = lock_of(LIVENESS + 3, 1);
    // SAFETY: the descriptor is open, and the call accesses only `lock`, which is ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    assert_eq!(done, 0);
    peer::send("ready");
    peer::expect("go");
}

fn lock_of(first: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
        l_start: first,
        l_len: length,
        l_pid: 0,
    }
}

/// Returns what version 2 makes of the queue file: whether it is of another version, whole, and in
/// use, so that version 2 leaves it alone.
fn version_2_leaves(queue_file: &Path) -> bool {
    let bytes = fs::read(queue_file).unwrap();
    let word = |at: usize| u64::from_ne_bytes(bytes[at..at + 8].try_into().unwrap());
    let is_other = bytes.starts_with(b"penhold\n") && word(8) != 2;
    let is_whole = word(24) == bytes.len() as u64;
    let file = File::options().read(true).write(true).open(queue_file);
    let file = file.unwrap();
    // All bytes from the first one on.
    let mut lock = lock_of(LIVENESS, LIVENESS);
    // SAFETY: the descriptor is open, and the call accesses only `lock`, which is ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(done, 0);
    is_other && is_whole && lock.l_type != libc::c_short::try_from(libc::F_UNLCK).unwrap()
}

fn boot() -> u64 {
    let id = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
    let id = id.trim().replace('-', "");
    let half = |text| u64::from_str_radix(text, 16).unwrap();
    half(&id[..16]) ^ half(&id[16..])
}

/// Makes a queue file of another version, of which only the first words are known.
fn build(path: &Path, version: u64, says: u64, length: usize) {
    let mut bytes = vec![0; length];
    let words = [
        u64::from_ne_bytes(*b"penhold\n"),
        version,
        512,
        says,
        boot(),
        1,
    ];
    for (to, word) in bytes.chunks_exact_mut(8).zip(words) {
        to.copy_from_slice(&word.to_ne_bytes());
    }
    fs::write(path, bytes).unwrap();
}

fn start_counting(directory: &Path, version: Option<u64>, times: &str) -> Peer {
    let args = [directory.as_os_str(), times.as_ref()];
    let mut command = Peer::command(lock_fixture::COUNT_ROLE.0, args);
    if let Some(version) = version {
        command.env(failpoint::VERSION_VARIABLE, version.to_string());
    }
    Peer::spawn(command)
}

#[test]
fn a_file_of_another_version_is_left_alone_while_a_process_uses_it() {
    let genuine = (2, LENGTH_2 as u64, LENGTH_2);
    // One that is being lengthened, and one that is shorter than a file of this version.
    let later = [(4, 131_072, 196_608), (77, 64, 4096)];
    for (version, says, length) in [genuine].into_iter().chain(later) {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let queue_file = queue_file(directory);
        let counter = Counter::new(directory);
        build(&queue_file, version, says, length);
        let before = fs::read(&queue_file).unwrap();
        let ino = fs::metadata(&queue_file).unwrap().ino();
        let mut user = Peer::start("occupy", [&queue_file]);
        user.expect("ready");

        let mut peers = [(); 3].map(|()| start_counting(directory, None, "200"));
        lock_fixture::run_together(&mut peers);
        assert_eq!(counter.read(), 3 * 200);
        let mut waiting = LockPeer::start(&lock_file(directory));
        waiting.acquire();
        waiting.release();
        thread::sleep(RECHECK);
        waiting.acquire();
        waiting.release();
        assert_eq!(fs::metadata(&queue_file).unwrap().ino(), ino);
        assert!(fs::read(&queue_file).unwrap() == before, "it was written");
        let locker = WriteLocker::new(directory).unwrap();
        let fault = locker.status().unwrap().queue_file_fault;
        assert_eq!(fault, Some(QueueFileFault::OtherVersion(version)));

        user.kill();
        thread::sleep(RECHECK);
        waiting.acquire();
        assert_eq!(locker.status().unwrap().queue_file, QueueFileState::InUse);
    }
}

/// Of a file of another version that is shorter than it says, nobody can use what is not there.
#[test]
fn a_damaged_file_of_another_version_is_replaced() {
    let directory = tempfile::tempdir().unwrap();
    let directory = directory.path();
    let queue_file = queue_file(directory);
    for (says, length) in [(LENGTH_2 as u64, 100_000), (0, LENGTH_2)] {
        build(&queue_file, 2, says, length);
        let user = Peer::start("occupy", [&queue_file]);
        user.expect("ready");
        drop(LockPeer::holding(&lock_file(directory)));
        let status = WriteLocker::new(directory).unwrap().status().unwrap();
        assert_eq!(status.queue_file, QueueFileState::InUse, "{says}");
    }
}

#[test]
fn version_2_leaves_our_file_alone_while_a_process_uses_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let queue_file = queue_file(directory.path());
    let mut holder = LockPeer::holding(&path);
    assert!(version_2_leaves(&queue_file));
    let mut waiters = [(); 12].map(|()| LockPeer::start(&path));
    for waiter in &mut waiters {
        waiter.enqueue(&path, LONG_TIMEOUT);
    }
    assert!(fs::metadata(&queue_file).unwrap().len() > layout::length(1));
    assert!(version_2_leaves(&queue_file), "after it has grown");
    drop(waiters);
    holder.release();
    assert!(
        version_2_leaves(&queue_file),
        "a process that neither holds nor waits"
    );
    holder.peer.kill();
    wait::until("it is not in use any more", || {
        !version_2_leaves(&queue_file)
    });
}

/// Whichever came first queues; neither replaces the other's file, and each makes progress.
#[test]
fn processes_of_two_versions_make_progress_together() {
    for ours_first in [true, false] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let counter = Counter::new(directory);
        let queue_file = queue_file(directory);
        let mut first = LockPeer::command(&lock_file(directory), &[]);
        if !ours_first {
            first.env(failpoint::VERSION_VARIABLE, "4");
        }
        let mut first = LockPeer::spawn(first);
        first.acquire();
        first.release();
        let ino = fs::metadata(&queue_file).unwrap().ino();
        let versions = [None, Some(4), None, Some(4), None, Some(4)];
        let mut peers = versions.map(|version| start_counting(directory, version, "150"));
        lock_fixture::run_together(&mut peers);
        for peer in &mut peers {
            assert!(peer.close().success());
        }
        assert_eq!(counter.read(), 6 * 150);
        assert_eq!(fs::metadata(&queue_file).unwrap().ino(), ino);
        let status = WriteLocker::new(directory).unwrap().status().unwrap();
        let fault = (!ours_first).then_some(QueueFileFault::OtherVersion(4));
        assert_eq!(status.queue_file_fault, fault);
        // The other version takes over when the first has left.
        first.peer.kill();
        let mut next = LockPeer::command(&lock_file(directory), &[]);
        if ours_first {
            next.env(failpoint::VERSION_VARIABLE, "4");
        }
        let mut next = LockPeer::spawn(next);
        next.acquire();
        assert_ne!(fs::metadata(&queue_file).unwrap().ino(), ino);
    }
}
