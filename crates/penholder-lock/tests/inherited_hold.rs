//! A child that a lock is lent to joins its parent's hold and does not wait, and such
//! children exclude one another. The environment variable counts only for descendants, and
//! only while the lender lives and holds the lock.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::ffi::OsString;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use penholder_lock::{WriteGuard, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::wait;
use penholder_testkit::{lock_fixture, peer};

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        lock_fixture::COUNT_ROLE,
        ("lend_again", lend_again),
    ]);
}

/// Starts a lock peer with an environment variable (`NAME value`).
fn lock_peer_with(directory: &Path, variable: &str) -> LockPeer {
    let (name, value) = variable.split_once(' ').unwrap();
    let mut command = LockPeer::command(&lock_file(directory), &[]);
    command.env(name, value);
    LockPeer::spawn(command)
}

#[test]
fn a_child_joins_and_an_unrelated_process_waits() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let mut command = LockPeer::command(&path, &[]);
    guard.lend_to(&mut command);
    let mut child = LockPeer::spawn(command);
    for _ in 0..3 {
        child.acquire();
        // Other processes see the lender as the holder, whether the child holds or not.
        LockPeer::start(&path).assert_blocked_by(std::process::id());
        child.release();
    }
    LockPeer::start(&path).assert_blocked_by(std::process::id());
    guard.release().unwrap();
    // Nothing is lent any more, so the child acquires the lock itself.
    child.acquire();
    LockPeer::start(&path).assert_blocked_by(child.pid());
    assert!(locker.try_acquire().unwrap().is_none());
}

/// On some systems the `flock` of the lender would exclude a lock on a byte of the same file.
#[cfg(target_os = "linux")]
#[test]
fn a_child_locks_a_byte_of_a_file_of_its_own() {
    use std::fs::{self, Permissions};
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    if !penholder_testkit::requirement::names_holders() {
        return;
    }
    let byte_locks = |path: &Path| {
        let file = format!(":{} ", fs::metadata(path).unwrap().ino());
        let table = fs::read_to_string("/proc/locks").unwrap();
        let is_of_file = |line: &&str| line.contains("OFDLCK") && line.contains(&file);
        table.lines().filter(is_of_file).count()
    };
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    let hold_file = locker.hold_file();
    let mut lender = LockPeer::holding(&path);
    fs::set_permissions(&path, Permissions::from_mode(0o640)).unwrap();
    let mut child = lender.lend();
    assert!(!hold_file.exists(), "created before it is needed");
    child.acquire();
    // The kernel gives a long table in parts, and a lock may be missing between them.
    wait::until("the byte is seen", || byte_locks(&hold_file) == 1);
    assert_eq!(byte_locks(&path), 0);
    assert_eq!(fs::metadata(&hold_file).unwrap().mode() & 0o777, 0o640);
    child.release();
    assert_eq!((byte_locks(&path), byte_locks(&hold_file)), (0, 0));
    assert!(hold_file.exists(), "it stays");
    // It is deleted, and the next one follows its path.
    fs::remove_file(&hold_file).unwrap();
    child.acquire();
    lender.lend().assert_blocked_by(child.pid());
}

#[test]
fn children_exclude_one_another() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let mut children = [(); 3].map(|()| {
        let args = [directory.path().as_os_str(), "500".as_ref()];
        let mut command = Peer::command(lock_fixture::COUNT_ROLE.0, args);
        guard.lend_to(&mut command);
        Peer::spawn(command)
    });
    lock_fixture::run_together(&mut children);
    assert_eq!(counter.read(), 3 * 500);
    guard.release().unwrap();
}

#[test]
fn a_child_that_times_out_names_its_sibling() {
    let directory = tempfile::tempdir().unwrap();
    let mut lender = LockPeer::holding(&lock_file(directory.path()));
    let [mut first, mut second] = [(); 2].map(|()| lender.lend());
    first.acquire();
    second.assert_blocked_by(first.pid());
    first.peer.kill();
    second.acquire();
}

/// Acquires the lock under its parent's hold and lends it to two children that count.
fn lend_again(args: &[OsString]) {
    let locker = WriteLocker::new(&args[0]).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let mut grandchildren = [(); 2].map(|()| {
        let mut command = Peer::command(lock_fixture::COUNT_ROLE.0, args);
        guard.lend_to(&mut command);
        Peer::spawn(command)
    });
    peer::send("ready");
    peer::expect("go");
    lock_fixture::run_together(&mut grandchildren);
    guard.release().unwrap();
    peer::send("done");
}

/// Two children that lend again exclude one another, and so do all four grandchildren.
#[test]
fn grandchildren_join_too() {
    let directory = tempfile::tempdir().unwrap();
    let counter = Counter::new(directory.path());
    let locker = WriteLocker::new(directory.path()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    for _ in 0..2 {
        let args = [directory.path().as_os_str(), "300".as_ref()];
        let mut command = Peer::command("lend_again", args);
        guard.lend_to(&mut command);
        lock_fixture::run_together(&mut [Peer::spawn(command)]);
    }
    assert_eq!(counter.read(), 2 * 2 * 300);
    guard.release().unwrap();
}

#[test]
fn a_variable_of_a_killed_lender_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut lender = LockPeer::holding(&path);
    let mut child = lender.lend();
    child.acquire();
    child.release();
    lender.peer.kill();
    let mut other = LockPeer::holding(&path);
    child.assert_blocked_by(other.pid());
    other.release();
    child.acquire();
    other.assert_blocked_by(child.pid());
}

#[test]
fn a_variable_of_a_lender_that_released_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut lender = LockPeer::holding(&path);
    let mut child = lender.lend();
    lender.release();
    let other = LockPeer::holding(&path);
    child.assert_blocked_by(other.pid());
}

/// The children of this process, which holds the lock, are given forged variables.
#[test]
fn a_forged_variable_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let variable = variable_of(&guard);
    let (name, value) = variable.split_once(' ').unwrap();
    let (file, process) = value.split_once('=').unwrap();
    let (pid, start) = process.split_once('@').unwrap();
    for forged in [
        format!("{file}={pid}@1"),
        format!("{file}={pid}@{start}1"),
        format!("{file}=1@{start}"),
        format!("{file}={pid}"),
        format!("1-{file}={process}"),
        format!("1-1={process}"),
        format!("{file}="),
        ";;=;@/-".to_owned(),
        "x".repeat(10_000),
        format!("{file}={}", vec![process; 1000].join("/")),
    ] {
        let mut forger = lock_peer_with(directory.path(), &format!("{name} {forged}"));
        forger.assert_blocked_by(std::process::id());
    }
    // The real variable works, otherwise this test would prove nothing.
    lock_peer_with(directory.path(), &variable).acquire();
    guard.release().unwrap();
}

fn variable_of(guard: &WriteGuard) -> String {
    let mut child = Command::new("true");
    guard.lend_to(&mut child);
    let (name, value) = child.get_envs().next().unwrap();
    format!("{} {}", name.display(), value.unwrap().display())
}

/// Whatever the variable says can be found out by every process of the same user.
#[test]
fn a_variable_that_a_stranger_copied_is_ignored() {
    let directory = tempfile::tempdir().unwrap();
    let mut lender = LockPeer::holding(&lock_file(directory.path()));
    let variable = lender.ask("lend");
    let mut stranger = lock_peer_with(directory.path(), &variable);
    stranger.assert_blocked_by(lender.pid());
    // A descendant of the lender is believed.
    let mut child = lender.lend();
    child.acquire();
    stranger.assert_blocked_by(lender.pid());

    // A child of the outermost process that copies what its sibling lends waits for the
    // sibling.
    let below = child.ask("lend");
    let locker = WriteLocker::new(directory.path()).unwrap();
    assert!(locker.try_acquire().unwrap().is_none());
    child.release();
    lender.release();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let mut sibling = lock_peer_with(directory.path(), &variable_of(&guard));
    sibling.acquire();
    let of_sibling = sibling.ask("lend");
    assert!(of_sibling.matches('/').count() == 1, "{of_sibling} {below}");
    lock_peer_with(directory.path(), &of_sibling).assert_blocked_by(sibling.pid());
    sibling.release();
    lock_peer_with(directory.path(), &of_sibling).acquire();
    guard.release().unwrap();
}

/// A process stays below the lender if its own parent ends, but the kernel knows it as a
/// descendant only until then. It must have used the lock before, unless the lender adopts
/// orphans as `penholder run` does.
#[cfg(unix)]
#[test]
fn an_orphan_joins_if_it_was_known_before() {
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut lender = LockPeer::holding(&path);
    let [mut known, mut unknown] = [(); 2].map(|()| lender.lend_below_shell());
    known.acquire();
    known.release();
    for orphan in [&known, &unknown] {
        let shell = peer::parent(orphan.pid());
        assert_eq!(peer::parent(shell), lender.pid());
        peer::signal(shell, "KILL");
        wait::until("it is an orphan", || peer::parent(orphan.pid()) != shell);
    }
    known.acquire();
    known.release();
    unknown.assert_blocked_by(lender.pid());
    // Like any process, it gets the lock when it is free.
    lender.release();
    unknown.acquire();
}

/// If the middle process of a chain dies, the grandchild joins the process above it.
#[test]
fn a_grandchild_outlives_the_child_that_lent() {
    let directory = tempfile::tempdir().unwrap();
    let mut lender = LockPeer::holding(&lock_file(directory.path()));
    let mut child = lender.lend();
    child.acquire();
    let mut grandchild = child.lend();
    grandchild.acquire();
    grandchild.release();
    child.peer.kill();
    grandchild.acquire();
    // The grandchild now counts as a child, and its siblings wait for it.
    let mut sibling = lender.lend();
    sibling.assert_blocked_by(grandchild.pid());
    let timeout = Duration::from_millis(200).as_millis();
    assert!(
        grandchild
            .ask(&format!("acquire {timeout}"))
            .contains("holds it already")
    );
}
