//! Containers: a holder in another pid namespace is named from outside, and one
//! outside is seen from inside. Needs root, to make the namespaces.
#![cfg(test)]

use std::fs;
use std::path::Path;

use penholder_testkit::lock_fixture::{LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::{lock_fixture, peer, requirement, wait};

#[test]
fn peer() {
    peer::run_role(&[lock_fixture::LOCK_PEER_ROLE]);
}

const CONTAINER: [&str; 5] = ["unshare", "--pid", "--fork", "--kill-child", "--mount-proc"];

fn can_contain() -> bool {
    requirement::is_root()
        && requirement::is_first_pid_namespace()
        && requirement::has_program("unshare")
}

/// Starts a lock peer that is the first process of a pid namespace of its own.
fn inside(path: &Path) -> LockPeer {
    LockPeer::spawn(peer::wrapped(&CONTAINER, &LockPeer::command(path, &[])))
}

/// Out here, the pid of the one process that `unshare` started.
fn pid_out_here(unshare: u32) -> u32 {
    let children = format!("/proc/{unshare}/task/{unshare}/children");
    fs::read_to_string(children)
        .unwrap()
        .trim()
        .parse()
        .unwrap()
}

#[test]
fn a_holder_inside_is_named_from_outside() {
    if !can_contain() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut contained = inside(&path);
    contained.acquire();
    assert!(
        lock_fixture::record_text(&path).starts_with("pid:1\n"),
        "its pid in there"
    );
    let pid = pid_out_here(contained.pid());
    let mut outside = LockPeer::start(&path);
    outside.assert_blocked_by(pid);
    let seen = outside.status();
    assert_eq!(seen, format!("Held pid:{pid} Sleeping recorded:true"));
    peer::signal(pid, "STOP");
    wait::until("it is seen stopped", || {
        outside.status().contains(" Stopped ")
    });

    // Killed in there, it is gone out here, whatever its record says.
    contained.peer.kill();
    outside.acquire();
    outside.release();
    assert_eq!(outside.status(), "Free");
}

#[test]
fn a_holder_outside_is_seen_from_inside() {
    if !can_contain() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut outside = LockPeer::holding(&path);
    let mut contained = inside(&path);
    contained.assert_blocked_by(outside.pid());
    let there = format!("Held pid:{} OtherNamespace recorded:true", outside.pid());
    assert_eq!(contained.status(), there);
    outside.release();
    assert_eq!(contained.status(), "Free");
    contained.acquire();
    assert_eq!(contained.status().split(' ').nth(1), Some("pid:1"));
}

#[test]
fn two_containers_exclude_one_another() {
    if !can_contain() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let [mut one, mut other] = [(); 2].map(|()| inside(&path));
    one.acquire();
    // Both are the first process in there: the pid alone would say "you".
    other.assert_blocked_by(1);
    assert_eq!(other.status(), "Held pid:1 OtherNamespace recorded:true");
    one.release();
    other.acquire();
}

/// In a container as elsewhere: the taker is gone, the shell (`sleep` by then)
/// holds on. Ends with the first process in there, which is the lock peer.
const IDIOM: &str = r#"
mkfifo fifo
( flock 9; read pid rest </proc/self/stat; echo $pid >fifo; exec sleep 60 ) 9>db.lock &
read pid <fifo
echo $pid >pid
exec "$@"
"#;

#[test]
fn a_shell_that_had_flock_take_the_lock_is_named_inside() {
    if !can_contain() || !requirement::has_program("flock") {
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

/// The same pid in each namespace, and no way to look into the other: whether a
/// waiter lives is the kernel's word, by its lock on the page.
#[test]
fn containers_queue_with_everybody_else() {
    if !can_contain() {
        return;
    }
    let directory = tempfile::tempdir().unwrap();
    let path = lock_file(directory.path());
    let mut outside = LockPeer::holding(&path);
    let locker = penholder_lock::WriteLocker::at(&path).unwrap();
    let queue = || locker.status().unwrap().queue;
    let [mut first, mut second] = [(); 2].map(|()| inside(&path));
    for (place, contained) in [&mut first, &mut second].into_iter().enumerate() {
        contained.start_acquire(LONG_TIMEOUT);
        wait::until("it stands in line", || queue().len() == place + 1);
    }
    let states = queue().into_iter().map(|waiter| (waiter.pid, waiter.state));
    let elsewhere = penholder_lock::ProcessState::OtherNamespace;
    assert_eq!(states.collect::<Vec<_>>(), [(1, elsewhere); 2]);
    // The first is killed where it stands: the second is served.
    first.peer.kill();
    outside.release();
    second.peer.expect("held");
    let counters = locker.status().unwrap().counters;
    assert_eq!((counters.contended, counters.timeouts), (1, 0));
    second.release();
    outside.acquire();
}
