//! A forked child does not hold its parent's lock, cannot release it, and waits for it
//! like any other process. No child, forked or started, keeps the lock of a killed holder.
#![cfg(test)]
#![allow(unsafe_code, reason = "a test of fork has to fork")]
#![cfg(unix)] // Windows has no forks

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder_lock::{LockState, WriteGuard, WriteLocker};
use penholder_testkit::lock_fixture::{Counter, LONG_TIMEOUT, LockPeer, lock_file};
use penholder_testkit::peer::Peer;
use penholder_testkit::{lock_fixture, peer, wait};

#[test]
fn peer() {
    peer::run_role(&[
        lock_fixture::LOCK_PEER_ROLE,
        ("drop_in_child", drop_in_child),
        ("wait_in_child", wait_in_child),
        ("hold_with_fork", hold_with_fork),
        ("hold_with_program", hold_with_program),
        ("fork_often", fork_often),
        ("fork_at_first_use", fork_at_first_use),
        ("queue_and_fork", queue_and_fork),
    ]);
}

/// Forks. The child runs the closure and always exits.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: libc keeps its own locks, such as the allocator's, valid across a fork. The
    // child acquires no other lock that a thread of these peers may hold, and ends with
    // `_exit` below.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return pid;
    }
    let failed = catch_unwind(AssertUnwindSafe(child)).is_err();
    // SAFETY: ends this process without running the parent's destructors.
    unsafe { libc::_exit(i32::from(failed)) }
}

/// Waits for a forked child, which must have succeeded.
fn wait(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the call writes only to `status`, which is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
}

fn locker(args: &[OsString]) -> WriteLocker {
    WriteLocker::new(&args[0]).unwrap()
}

/// Holds the lock. Its children try to release the guard that they inherited.
fn drop_in_child(args: &[OsString]) {
    let locker = locker(args);
    let mut guard = Some(locker.acquire(LONG_TIMEOUT).unwrap());
    let drop_guard: fn(WriteGuard) = drop;
    let release_guard = |guard: WriteGuard| {
        assert!(guard.release().unwrap_err().is_forked());
    };
    let ways = [("dropped", drop_guard), ("released", release_guard)];
    for (what, way) in ways {
        let child = fork(|| {
            way(guard.take().unwrap());
            peer::send(what);
            peer::expect("continue");
            // The inherited locker is dropped too.
            drop(locker.clone());
        });
        wait(child);
        peer::send("child exited");
    }
    peer::expect("release");
    guard.unwrap().release().unwrap();
    peer::send("released");
}

#[test]
fn a_forked_child_cannot_release() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start("drop_in_child", [directory.path()]);
    let mut other = LockPeer::start(&lock_file(directory.path()));
    for way in ["dropped", "released"] {
        holder.expect(way);
        other.assert_blocked_by(holder.pid());
        holder.send("continue");
        holder.expect("child exited");
        other.assert_blocked_by(holder.pid());
    }
    holder.send("release");
    holder.expect("released");
    other.acquire();
}

/// Holds the lock. Its child waits with the inherited locker and with its own.
fn wait_in_child(args: &[OsString]) {
    let inherited = locker(args);
    let guard = inherited.acquire(LONG_TIMEOUT).unwrap();
    let parent = std::process::id();
    let generation = penholder_core::fork_generation();
    let child = fork(|| {
        assert_ne!(generation, penholder_core::fork_generation());
        for locker in [&inherited, &locker(args), &inherited.clone()] {
            let error = locker.acquire(Duration::from_millis(100)).unwrap_err();
            assert!(error.is_timeout(), "{error}");
            let holder = error.holder().unwrap();
            assert_eq!(holder.pid, Some(parent));
            assert!(!holder.is_this_process());
        }
        peer::send("child timed out");
        for locker in [&inherited, &locker(args)] {
            let guard = locker.acquire(LONG_TIMEOUT).unwrap();
            let holder = locker.holder().unwrap().unwrap();
            assert_eq!(holder.pid, Some(std::process::id()));
            assert!(holder.recorded);
            guard.release().unwrap();
        }
        peer::send("child acquired");
    });
    peer::expect("release");
    guard.release().unwrap();
    wait(child);
    // The parent's own attachment still works.
    drop(inherited.acquire(LONG_TIMEOUT).unwrap());
    peer::send("done");
}

#[test]
fn a_forked_child_waits_for_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start("wait_in_child", [directory.path()]);
    holder.expect("child timed out");
    LockPeer::start(&lock_file(directory.path())).assert_blocked_by(holder.pid());
    holder.send("release");
    holder.expect("child acquired");
    holder.expect("done");
}

/// One thread is queued while another forks. The child queues too.
fn queue_and_fork(args: &[OsString]) {
    let locker = locker(args);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| locker.acquire(LONG_TIMEOUT).unwrap().release().unwrap());
        peer::expect("fork");
        let child = fork(|| {
            peer::send(&std::process::id().to_string());
            let guard = locker.acquire(LONG_TIMEOUT).unwrap();
            peer::send("child holds");
            peer::expect("end");
            drop(guard);
        });
        waiter.join().unwrap();
        peer::send("parent acquired");
        wait(child);
    });
    peer::send("done");
}

/// Returns the process ids in the queue.
fn queued(directory: &Path) -> Vec<u32> {
    let status = WriteLocker::new(directory).unwrap().status().unwrap();
    status.queue.iter().map(|waiter| waiter.pid).collect()
}

#[test]
fn a_fork_keeps_its_parents_place_in_the_queue() {
    for killed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut holder = LockPeer::holding(&lock_file(directory));
        let mut parent = Peer::start("queue_and_fork", [directory]);
        let first = parent.pid();
        wait::until("the parent is queued", || queued(directory) == [first]);
        parent.send("fork");
        let child: u32 = parent.read_line().parse().unwrap();
        wait::until("the child is queued", || {
            queued(directory) == [first, child]
        });
        if killed {
            parent.kill();
            // The child does not keep the parent's place, so it is next.
            wait::until("the parent has left the queue", || {
                queued(directory) == [child]
            });
            holder.release();
            parent.expect("child holds");
            let status = WriteLocker::new(directory).unwrap().status().unwrap();
            assert_eq!(status.holder.unwrap().pid, Some(child));
            assert_eq!(
                status.counters.passed_over, 0,
                "the killed parent caused no wait"
            );
            continue;
        }
        holder.release();
        let mut lines = [parent.read_line(), parent.read_line()];
        lines.sort_unstable();
        assert_eq!(lines, ["child holds", "parent acquired"]);
        parent.send("end");
        parent.expect("done");
    }
}

/// Holds the lock, with a forked child that outlives it.
fn hold_with_fork(args: &[OsString]) {
    let locker = locker(args);
    let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let child = fork(|| {
        peer::send(&std::process::id().to_string());
        peer::expect("end");
    });
    wait(child);
}

/// Holds the lock, with another program that was started meanwhile.
fn hold_with_program(args: &[OsString]) {
    let locker = locker(args);
    let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
    // It inherits this process's input, so it ends with the test.
    let mut child = Command::new("sh")
        .args(["-c", "read line"])
        .spawn()
        .unwrap();
    peer::send(&child.id().to_string());
    child.wait().unwrap();
}

/// Asserts that the child of a killed holder is alive and has not kept the lock.
fn assert_child_does_not_keep_the_lock(role: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start(role, [directory.path()]);
    let child: u32 = holder.read_line().parse().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let seen = locker.holder().unwrap().unwrap();
    assert_eq!(seen.pid, Some(holder.pid()));
    holder.kill();
    assert_eq!(locker.status().unwrap().state, LockState::Free);
    drop(locker.acquire(Duration::ZERO).expect("free at once"));
    assert!(is_alive(child), "otherwise this test proves nothing");
    // The end of its input ends the child.
    holder.close();
    wait::until("the child exits", || !is_alive(child));
}

fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_forked_child_does_not_keep_the_lock_of_a_killed_parent() {
    assert_child_does_not_keep_the_lock("hold_with_fork");
}

#[test]
fn a_started_program_does_not_keep_the_lock_of_a_killed_parent() {
    assert_child_does_not_keep_the_lock("hold_with_program");
}

/// Forks repeatedly while other threads acquire and release the lock. All processes and
/// threads count.
fn fork_often(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = locker(args);
    let counter = Counter::new(directory);
    let stopped = AtomicBool::new(false);
    let add_one = || {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
    };
    let by_threads: u64 = thread::scope(|scope| {
        let work = || {
            let mut times = 0;
            while !stopped.load(Ordering::Relaxed) {
                add_one();
                // Gives the children a chance to acquire.
                thread::sleep(Duration::from_millis(1));
                times += 1;
            }
            times
        };
        let threads = [(); 3].map(|()| scope.spawn(work));
        for _ in 0..20 {
            // Each child forks a child of its own.
            let children = [(); 4].map(|()| fork(|| add_two(&add_one)));
            children.into_iter().for_each(wait);
        }
        stopped.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    assert_eq!(counter.read(), by_threads + 20 * 4 * 2);
    peer::send("done");
}

/// Adds one in a forked child, and one in a child of that child.
fn add_two(add_one: &impl Fn()) {
    add_one();
    wait(fork(add_one));
}

/// Forks while other threads use penholder for the first time in this process.
fn fork_at_first_use(args: &[OsString]) {
    let counter = Counter::new(Path::new(&args[0]));
    let begin = Barrier::new(4);
    let add_one = || {
        let guard = locker(args).acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
    };
    thread::scope(|scope| {
        for _ in 0..3 {
            scope.spawn(|| {
                begin.wait();
                add_one();
            });
        }
        begin.wait();
        let children = [(); 4].map(|()| fork(add_one));
        children.into_iter().for_each(wait);
    });
    assert_eq!(counter.read(), 3 + 4);
    peer::send("done");
}

#[test]
fn a_fork_during_the_first_use_disturbs_neither_parent_nor_child() {
    for _ in 0..60 {
        let directory = tempfile::tempdir().unwrap();
        Peer::start("fork_at_first_use", [directory.path()]).expect("done");
    }
}

#[test]
fn forks_during_work_disturb_neither_parent_nor_child() {
    let directory = tempfile::tempdir().unwrap();
    Peer::start("fork_often", [directory.path()]).expect("done");
}
