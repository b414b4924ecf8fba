//! A fork in every state of a lease: the child writes on a connection of its own, with plain
//! SQLite and through the VFS, and the parent goes on.
#![cfg(test)]
#![cfg(unix)] // Windows has no forks
#![allow(unsafe_code, reason = "a test of fork has to fork")]

use std::ffi::OsString;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::thread;
use std::time::Duration;

use penholder_testkit::lease_fixture::{self, LeaseConnection, LeaseFixture, open_with};
use penholder_testkit::peer::{self, Peer};

#[test]
fn peer() {
    peer::run_role(&[
        lease_fixture::OUTSIDER_ROLE,
        ("fork_in_lease", fork_in_lease),
        ("fork_in_transaction", fork_in_transaction),
        ("fork_among_threads", fork_among_threads),
        ("fork_beside_background_work", fork_beside_background_work),
    ]);
}

/// Forks. The child runs the closure and always exits.
fn fork(child: impl FnOnce()) -> libc::pid_t {
    // SAFETY: libc keeps its own locks, such as the allocator's, valid across a fork. The child
    // waits for no other lock that a thread of these peers may hold, and ends with `_exit`.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork");
    if pid > 0 {
        return pid;
    }
    let failed = catch_unwind(AssertUnwindSafe(child)).is_err();
    // SAFETY: ends this process without running the parent's destructors.
    unsafe { libc::_exit(i32::from(failed)) }
}

/// A fork while a thread of penholder is inside SQLite waits until it has come out.
fn fork_beside_background_work(_: &[OsString]) {
    lease_fixture::register();
    let (begun, is_over) = (AtomicBool::new(false), AtomicBool::new(false));
    thread::scope(|scope| {
        scope.spawn(|| {
            penholder_vfs::in_background(|| {
                begun.store(true, SeqCst);
                thread::sleep(Duration::from_millis(300));
                is_over.store(true, SeqCst);
            });
        });
        while !begun.load(SeqCst) {
            thread::yield_now();
        }
        let child = fork(|| assert!(is_over.load(SeqCst), "forked in the middle"));
        assert!(is_over.load(SeqCst), "forked in the middle");
        wait(child);
    });
    // Work that forks itself does not wait for itself, and the gate is open afterwards.
    penholder_vfs::in_background(|| wait(fork(|| {})));
    wait(fork(|| penholder_vfs::in_background(|| {})));
}

#[test]
fn a_fork_waits_for_work_in_the_background() {
    assert!(
        Peer::start("fork_beside_background_work", [""; 0])
            .close()
            .success()
    );
}

/// Waits for a forked child, which must have succeeded.
fn wait(pid: libc::pid_t) {
    let mut status = 0;
    // SAFETY: the call writes only to `status`, which is ours.
    let waited = unsafe { libc::waitpid(pid, &raw mut status, 0) };
    assert_eq!((waited, status), (pid, 0));
}

/// What a child does: it writes, waiting for locks, on a connection of its own.
fn write_in_child(path: &Path, through_vfs: bool) {
    let vfs = through_vfs.then_some(penholder_vfs::NAME);
    let connection = open_with(path, vfs).unwrap();
    connection.busy_timeout(Duration::from_secs(30)).unwrap();
    for _ in 0..10 {
        if let Some(file) = lease_fixture::file_of(&connection, c"main") {
            file.join_frames();
            file.begin_lease();
        }
        connection
            .execute_batch("INSERT INTO r VALUES (zeroblob(20))")
            .unwrap();
    }
    connection.close().unwrap();
}

#[test]
fn the_child_writes_and_the_parent_goes_on() {
    for state in ["idle", "parked", "reading", "ended", "closed"] {
        let fixture = LeaseFixture::new();
        let path = fixture.path();
        let mut parent = Peer::start("fork_in_lease", [path.as_os_str(), state.as_ref()]);
        parent.expect("done");
        assert!(parent.close().success(), "{state}");
        let mut outsider = fixture.outsider();
        // Two children with ten rows each, and six or more of the parent.
        let rows: u32 = outsider.run("SELECT count(*) FROM r").parse().unwrap();
        assert!(rows >= 26, "{state}: {rows}");
        fixture.check();
    }
}

fn fork_in_lease(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let state = args[1].to_str().unwrap();
    let mut connection = Some(LeaseConnection::open(path));
    for through_vfs in [false, true] {
        let a = connection.get_or_insert_with(|| LeaseConnection::open(path));
        a.busy_timeout(Duration::from_secs(30)).unwrap();
        a.file().end_lease();
        a.write();
        match state {
            "idle" => a.begin_lease(),
            "parked" => a.begin_lease_and_write(),
            "reading" => {
                a.begin_lease_and_write();
                a.run("BEGIN");
                a.row("SELECT count(*) FROM r");
            }
            "ended" => {
                a.begin_lease_and_write();
                a.file().end_lease();
            }
            _ => connection.take().unwrap().close(),
        }
        let child = fork(|| write_in_child(path, through_vfs));
        wait(child);
        if let Some(a) = &connection {
            if state == "reading" {
                a.run("COMMIT");
            }
            assert!(!a.file().is_leased(), "the fork has ended it");
            a.begin_lease_and_write();
            a.write();
        } else {
            let a = connection.insert(LeaseConnection::open(path));
            (0..2).for_each(|_| a.begin_lease_and_write());
        }
    }
    peer::send("done");
}

/// Another thread may end its transaction at any moment of a fork.
#[test]
fn a_transaction_that_is_open_at_a_fork_parks_nothing() {
    let fixture = LeaseFixture::new();
    let mut parent = Peer::start("fork_in_transaction", [fixture.path()]);
    parent.expect("done");
    assert!(parent.close().success());
}

fn fork_in_transaction(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let a = LeaseConnection::open(path);
    a.begin_lease();
    a.run("BEGIN IMMEDIATE; INSERT INTO r VALUES (1)");
    wait(fork(|| ()));
    a.run("COMMIT");
    let other = open_with(path, None).unwrap();
    other.execute_batch("INSERT INTO r VALUES (2)").unwrap();
    peer::send("done");
}

#[test]
fn forks_among_threads_that_write() {
    let fixture = LeaseFixture::new();
    let mut parent = Peer::start("fork_among_threads", [fixture.path()]);
    parent.expect("done");
    assert!(parent.close().success());
    let rows = fixture.outsider().run("SELECT count(*) FROM r");
    assert_eq!(rows, (2 * 200).to_string());
    fixture.check();
}

/// Forks while other threads write: each child must find the list of files free. It has no
/// memory that such a thread may be changing, so it opens nothing.
fn fork_among_threads(args: &[OsString]) {
    let path = Path::new(&args[0]);
    thread::scope(|scope| {
        for _ in 0..2 {
            scope.spawn(|| {
                let a = LeaseConnection::open(path);
                a.busy_timeout(Duration::from_secs(30)).unwrap();
                for _ in 0..200 {
                    a.begin_lease_and_write();
                    a.file().end_lease();
                }
            });
        }
        for _ in 0..50 {
            // Forks again in the child, with the handlers of this crate.
            wait(fork(|| wait(fork(|| ()))));
            thread::sleep(Duration::from_millis(1));
        }
    });
    peer::send("done");
}
