//! The same with connections that take penholder's write lock by themselves: whatever fails, lock and
//! database can be used afterwards.
//!
//! A process registers the VFS either with gates or without, so these tests have one of their own.

use std::ffi::OsString;
use std::time::Duration;

use penholder_core::Locker;
use penholder_testkit::lease_fixture::{self, LeaseFixture};
use penholder_testkit::peer::{self, Peer, Role};

use crate::{Setup, Writer, failing, fixture, layer, setup};

/// How soon the lock is free, on a loaded machine.
pub(crate) const SOON: Duration = Duration::from_secs(3);
pub(crate) const ROLE: Role = ("gates", play);

fn play(args: &[OsString]) {
    layer::install();
    lease_fixture::register_with_gates();
    let synchronous = if args[0] == "FULL" { "FULL" } else { "NORMAL" };
    let with_gates = Setup {
        has_gates: true,
        is_wal: args[2] == "wal",
        ..setup(true, false, synchronous)
    };
    let fixture = fixture();
    let writer = Writer::open(&fixture.path(), with_gates).unwrap();
    writer.run("INSERT INTO r VALUES (1)").unwrap();
    assert!(fixture.other_path("db.lock").exists(), "the lock was taken");
    drop((writer, fixture));
    failing::try_all(with_gates, args[1] == "lasts");
    peer::send("done");
}

/// Asserts that nothing is left that has the lock or waits for it.
pub(crate) fn check_lock_is_free(fixture: &LeaseFixture, context: &str) {
    let locker = Locker::at(&fixture.other_path("db.lock")).unwrap();
    let guard = locker.acquire(SOON);
    assert!(guard.is_ok(), "{context}: {guard:?}");
}

#[test]
fn connections_with_gates() {
    Peer::start(ROLE.0, ["NORMAL", "once", "wal"]).expect("done");
}

#[test]
fn connections_with_gates_and_each_commit_synced() {
    Peer::start(ROLE.0, ["FULL", "once", "wal"]).expect("done");
}

#[test]
fn connections_with_gates_on_a_disk_that_fails_for_good() {
    Peer::start(ROLE.0, ["FULL", "lasts", "wal"]).expect("done");
}

#[test]
fn connections_with_gates_and_a_rollback_journal() {
    // Not on a disk that fails for good: SQLite itself reports commits as failed after which it
    // cannot unlock the file.
    Peer::start(ROLE.0, ["FULL", "once", "delete"]).expect("done");
}
