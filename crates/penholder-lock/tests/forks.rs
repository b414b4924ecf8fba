//! A forked child does not hold what its parent holds, gives nothing of it
//! back, and waits for it like any other process; nor does any child, forked or
//! started, keep a lock whose holder was killed.
#![cfg(test)]
#![allow(unsafe_code, reason = "a test of fork has to fork")]

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::process::Command;
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
        ("drops", drops),
        ("waits", waits),
        ("leaves_a_fork", leaves_a_fork),
        ("leaves_a_program", leaves_a_program),
        ("forks_often", forks_often),
        ("waits_and_forks", waits_and_forks),
    ]);
}

/// Forks; the child does this and is gone, whatever happens in it.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: libc keeps its own locks (memory among them) whole across a fork;
    // the child takes no other that a thread of these peers may hold, and ends
    // by `_exit` below.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return pid;
    }
    let failed = catch_unwind(AssertUnwindSafe(child)).is_err();
    // SAFETY: ends this process; nothing of the parent's is run down.
    unsafe { libc::_exit(i32::from(failed)) }
}

/// Waits for a forked child, which must have ended well.
fn wait(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: `status` is ours, and all that is written to.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
}

fn locker(args: &[OsString]) -> WriteLocker {
    WriteLocker::new(&args[0]).unwrap()
}

/// Holds; its children try to give back what they inherited.
fn drops(args: &[OsString]) {
    let locker = locker(args);
    let mut guard = Some(locker.acquire(LONG_TIMEOUT).unwrap());
    let drops: fn(WriteGuard) = drop;
    let releases = |guard: WriteGuard| {
        assert!(guard.release().unwrap_err().is_forked());
    };
    let ways = [("dropped", drops), ("released", releases)];
    for (what, way) in ways {
        let child = fork(|| {
            way(guard.take().unwrap());
            peer::send(what);
            peer::expect("go on");
            // The locker that it inherited goes too.
            drop(locker.clone());
        });
        wait(child);
        peer::send("child gone");
    }
    peer::expect("release");
    guard.unwrap().release().unwrap();
    peer::send("released");
}

#[test]
fn a_forked_child_gives_nothing_back() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start("drops", [directory.path()]);
    let mut other = LockPeer::start(&lock_file(directory.path()));
    for way in ["dropped", "released"] {
        holder.expect(way);
        other.assert_blocked_by(holder.pid());
        holder.send("go on");
        holder.expect("child gone");
        other.assert_blocked_by(holder.pid());
    }
    holder.send("release");
    holder.expect("released");
    other.acquire();
}

/// Holds; its child waits for it, by the locker it inherited and by its own.
fn waits(args: &[OsString]) {
    let inherited = locker(args);
    let guard = inherited.acquire(LONG_TIMEOUT).unwrap();
    let parent = std::process::id();
    let generation = penholder_lock::fork_generation();
    let child = fork(|| {
        assert_ne!(generation, penholder_lock::fork_generation());
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
        peer::send("child had it");
    });
    peer::expect("release");
    guard.release().unwrap();
    wait(child);
    // The parent's own attachment has not suffered.
    drop(inherited.acquire(LONG_TIMEOUT).unwrap());
    peer::send("done");
}

#[test]
fn a_forked_child_waits_for_its_parent() {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start("waits", [directory.path()]);
    holder.expect("child timed out");
    LockPeer::start(&lock_file(directory.path())).assert_blocked_by(holder.pid());
    holder.send("release");
    holder.expect("child had it");
    holder.expect("done");
}

/// One thread waits in line while another forks; the child waits too.
fn waits_and_forks(args: &[OsString]) {
    let locker = locker(args);
    thread::scope(|scope| {
        let waiter = scope.spawn(|| locker.acquire(LONG_TIMEOUT).unwrap().release().unwrap());
        peer::expect("fork");
        let child = fork(|| {
            peer::send(&std::process::id().to_string());
            let guard = locker.acquire(LONG_TIMEOUT).unwrap();
            peer::send("child has it");
            peer::expect("end");
            drop(guard);
        });
        waiter.join().unwrap();
        peer::send("parent had it");
        wait(child);
    });
    peer::send("done");
}

/// Those that the page shows in line.
fn in_line(directory: &Path) -> Vec<u32> {
    let status = WriteLocker::new(directory).unwrap().status().unwrap();
    status.queue.iter().map(|waiter| waiter.pid).collect()
}

#[test]
fn a_fork_leaves_its_parent_its_place_in_line() {
    for killed in [false, true] {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path();
        let mut holder = LockPeer::holding(&lock_file(directory));
        let mut parent = Peer::start("waits_and_forks", [directory]);
        let first = parent.pid();
        wait::until("the parent stands in line", || {
            in_line(directory) == [first]
        });
        parent.send("fork");
        let child: u32 = parent.read_line().parse().unwrap();
        wait::until("the child does too", || {
            in_line(directory) == [first, child]
        });
        if killed {
            parent.kill();
            // Its place is not kept by the child, which is next.
            wait::until("it is gone", || in_line(directory) == [child]);
            holder.release();
            parent.expect("child has it");
            let status = WriteLocker::new(directory).unwrap().status().unwrap();
            assert_eq!(status.holder.unwrap().pid, Some(child));
            assert_eq!(status.counters.passed_over, 0, "the dead is not waited for");
            continue;
        }
        holder.release();
        let mut said = [parent.read_line(), parent.read_line()];
        said.sort_unstable();
        assert_eq!(said, ["child has it", "parent had it"]);
        parent.send("end");
        parent.expect("done");
    }
}

/// Holds, with a forked child that lives on.
fn leaves_a_fork(args: &[OsString]) {
    let locker = locker(args);
    let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
    let child = fork(|| {
        peer::send(&std::process::id().to_string());
        peer::expect("end");
    });
    wait(child);
}

/// Holds, with another program running that was started meanwhile.
fn leaves_a_program(args: &[OsString]) {
    let locker = locker(args);
    let _guard = locker.acquire(LONG_TIMEOUT).unwrap();
    // It inherits our input, so it ends with the test.
    let mut child = Command::new("sh")
        .args(["-c", "read line"])
        .spawn()
        .unwrap();
    peer::send(&child.id().to_string());
    child.wait().unwrap();
}

/// The holder is killed; its child, which lives, has not kept the lock.
fn does_not_keep_it(role: &str) {
    let directory = tempfile::tempdir().unwrap();
    let mut holder = Peer::start(role, [directory.path()]);
    let child: u32 = holder.read_line().parse().unwrap();
    let locker = WriteLocker::new(directory.path()).unwrap();
    let seen = locker.holder().unwrap().unwrap();
    assert_eq!(seen.pid, Some(holder.pid()));
    holder.kill();
    assert_eq!(locker.status().unwrap().state, LockState::Free);
    drop(locker.acquire(Duration::ZERO).expect("free at once"));
    assert!(lives(child), "else this test shows nothing");
    // The end of its input ends the child.
    holder.close();
    wait::until("the child is gone", || !lives(child));
}

fn lives(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.contains(") Z "))
}

#[test]
fn a_forked_child_does_not_keep_the_lock_of_a_killed_parent() {
    does_not_keep_it("leaves_a_fork");
}

#[test]
fn a_started_program_does_not_keep_the_lock_of_a_killed_parent() {
    does_not_keep_it("leaves_a_program");
}

/// Forks again and again while its other threads take and give back the lock;
/// everybody counts.
fn forks_often(args: &[OsString]) {
    let directory = Path::new(&args[0]);
    let locker = locker(args);
    let counter = Counter::new(directory);
    let over = AtomicBool::new(false);
    let add_one = || {
        let guard = locker.acquire(LONG_TIMEOUT).unwrap();
        counter.increment();
        guard.release().unwrap();
    };
    let by_threads: u64 = thread::scope(|scope| {
        let work = || {
            let mut times = 0;
            while !over.load(Ordering::Relaxed) {
                add_one();
                // The children are to get in between.
                thread::sleep(Duration::from_millis(1));
                times += 1;
            }
            times
        };
        let threads = [(); 3].map(|()| scope.spawn(work));
        for _ in 0..20 {
            // Each has a child of its own.
            let children = [(); 4].map(|()| fork(|| adds_two(&add_one)));
            children.into_iter().for_each(wait);
        }
        over.store(true, Ordering::Relaxed);
        threads.map(|thread| thread.join().unwrap()).iter().sum()
    });
    assert_eq!(counter.read(), by_threads + 20 * 4 * 2);
    peer::send("done");
}

/// In a forked child: one itself, one by a child of its own.
fn adds_two(add_one: &impl Fn()) {
    add_one();
    wait(fork(add_one));
}

#[test]
fn forks_in_the_middle_of_work_disturb_neither_side() {
    let directory = tempfile::tempdir().unwrap();
    Peer::start("forks_often", [directory.path()]).expect("done");
}
