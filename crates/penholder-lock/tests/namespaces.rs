//! Processes in different pid namespaces, as in containers, exclude one another and see
//! each other as holders and waiters. The tests need root to create the namespaces.
#![cfg(test)]
#![cfg(unix)] // pid namespaces

use std::fs;
use std::path::Path;

use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::{lock_fixture, peer, requirement, wait};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

const CONTAINER: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_create_namespaces() -> bool {
    requirement::is_root()
        && requirement::is_first_pid_namespace()
        && requirement::has_program("unshare")
}

/// Starts a lock peer as the first process of a pid namespace of its own.
fn start_contained(path: &Path) -> LockPeer {
    LockPeer::spawn(peer::wrapped(&CONTAINER, &LockPeer::command(path, &[])))
}

/// Returns the pid, in this namespace, of the process that `unshare` started.
fn outer_pid(unshare: u32) -> u32 {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_holder_inside_is_named_from_outside() {
    if !requirement::names_holders() {
        return;
    }
    if !can_create_namespaces() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut contained = start_contained(&path);
    contained.acquire();
    assert!(
        lock_fixture::record_text(&path).starts_with("pid:1\n"),
        "its pid in its own namespace"
    );
    let pid = outer_pid(contained.pid());
    let mut outside = LockPeer::start(&path);
    outside.assert_blocked_by(pid);
    let seen = outside.status();
    assert_eq!(seen, format!("Held pid:{pid} Sleeping recorded:true"));
    peer::signal(pid, "STOP");
    wait::until("the status shows it stopped", || {
        outside.status().contains(" Stopped ")
    });

    // After it is killed, the status shows no holder although its record remains.
    contained.peer.kill();
    outside.acquire();
    outside.release();
    assert_eq!(outside.status(), "Free");
}

#[test]
fn a_holder_outside_is_seen_from_inside() {
    if !can_create_namespaces() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut outside = LockPeer::holding(&path);
    let mut contained = start_contained(&path);
    contained.assert_blocked_by(outside.pid());
    let expected = format!("Held pid:{} OtherNamespace recorded:true", outside.pid());
    assert_eq!(contained.status(), expected);
    outside.release();
    assert_eq!(contained.status(), "Free");
    contained.acquire();
    assert_eq!(contained.status().split(' ').nth(1), Some("pid:1"));
}

#[test]
fn two_containers_exclude_one_another() {
    if !can_create_namespaces() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let [mut first, mut second] = [(); 2].map(|()| start_contained(&path));
    first.acquire();
    // Each is process 1 of its namespace, so the pid alone would mean the caller itself.
    second.assert_blocked_by(1);
    assert_eq!(second.status(), "Held pid:1 OtherNamespace recorded:true");
    first.release();
    second.acquire();
}

/// `flock` acquires the lock and exits, and the shell, which has become `sleep`, holds it.
/// It ends with the first process of the namespace, which is the lock peer.
const IDIOM: &str = r#"
mkfifo fifo
( flock 9; read pid rest </proc/self/stat; echo $pid >fifo; exec sleep 60 ) 9>db.lock &
read pid <fifo
echo $pid >pid
exec "$@"
"#;

#[test]
fn a_shell_that_used_flock_to_acquire_is_named_inside() {
    if !can_create_namespaces() || !requirement::has_program("flock") {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let lock_peer = LockPeer::command(&lock_file(directory.path()), &[]);
    let lock_peer = peer::wrapped(&["sh", "-c", IDIOM, "sh"], &lock_peer);
    let mut command = peer::wrapped(&CONTAINER, &lock_peer);
    command.current_dir(directory.path());
    let mut contained = LockPeer::spawn(command);
    let pid = fs::read_to_string(directory.path().join("pid")).unwrap_or_default();
    contained.assert_blocked_by(pid.trim().parse().unwrap());
}

/// The pids are the same in each namespace, and a process cannot see into another one.
/// Only the kernel's lock on a slot of the queue file shows whether a waiter lives.
#[test]
fn containers_and_other_processes_share_a_queue() {
    if !can_create_namespaces() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut outside = LockPeer::holding(&path);
    let locker = penholder_lock::WriteLocker::at(&path).unwrap();
    let queue = || locker.status().unwrap().queue;
    let [mut first, mut second] = [(); 2].map(|()| start_contained(&path));
    for (place, contained) in [&mut first, &mut second].into_iter().enumerate() {
        contained.start_acquire(LONG_TIMEOUT);
        wait::until("it is queued", || queue().len() == place + 1);
    }
    let states = queue().into_iter().map(|waiter| (waiter.pid, waiter.state));
    let other_namespace = penholder_lock::ProcessState::OtherNamespace;
    assert_eq!(states.collect::<Vec<_>>(), [(1, other_namespace); 2]);
    // The first waiter is killed, and the second acquires the lock.
    first.peer.kill();
    outside.release();
    second.peer.expect("held");
    let counters = locker.status().unwrap().counters;
    assert_eq!((counters.contended, counters.timeouts), (1, 0));
    second.release();
    outside.acquire();
}
