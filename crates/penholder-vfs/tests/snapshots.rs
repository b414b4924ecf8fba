//! `sqlite3_snapshot_open` next to leases. Only a SQLite that is built for it has the function, so
//! this is compiled by `.ci/sqlite-options` only.
#![cfg(all(test, penholder_snapshots))]
#![allow(unsafe_code, reason = "rusqlite has no snapshots")]

use std::ptr;

use penholder_testkit::lease_fixture::{self, LeaseConnection, LeaseFixture, row_of};
use penholder_testkit::peer;
use rusqlite::{Connection, ffi};

#[test]
fn peer() {
    peer::run_role(&[lease_fixture::OUTSIDER_ROLE]);
}

const COUNT: &str = "SELECT count(*) FROM r";

/// A snapshot of `main`, which SQLite frees.
struct Snapshot(*mut ffi::sqlite3_snapshot);

impl Snapshot {
    /// Takes the snapshot that a connection reads now: with one row.
    fn of(connection: &LeaseConnection) -> Self {
        let mut snapshot = ptr::null_mut();
        connection.run("BEGIN");
        assert_eq!(connection.row(COUNT), "1");
        // SAFETY: it is not closed here.
        let handle = unsafe { connection.handle() };
        // SAFETY: the handle is open, and the name is C text.
        let code =
            unsafe { ffi::sqlite3_snapshot_get(handle, c"main".as_ptr(), &raw mut snapshot) };
        assert_eq!(code, ffi::SQLITE_OK);
        connection.run("COMMIT");
        Self(snapshot)
    }

    /// Begins a transaction that reads this snapshot; returns SQLite's code.
    fn open(&self, connection: &Connection) -> i32 {
        connection.execute_batch("BEGIN").unwrap();
        // SAFETY: it is not closed here.
        let handle = unsafe { connection.handle() };
        // SAFETY: the handle is open, and the snapshot is not freed yet.
        unsafe { ffi::sqlite3_snapshot_open(handle, c"main".as_ptr(), self.0) }
    }
}

impl Drop for Snapshot {
    fn drop(&mut self) {
        // SAFETY: SQLite made it, and nothing uses it any more.
        unsafe { ffi::sqlite3_snapshot_free(self.0) };
    }
}

#[test]
fn every_connection_opens_an_older_snapshot_during_a_lease() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    a.begin_lease_and_write();
    let snapshot = Snapshot::of(&b);
    for written in 2..20 {
        a.write();
        // The leaseholder itself, whose read mark is parked, and another one.
        for connection in [&a, &b] {
            assert_eq!(snapshot.open(connection), ffi::SQLITE_OK);
            assert_eq!(connection.row(COUNT), "1");
            connection.run("COMMIT");
            assert_eq!(connection.row(COUNT), written.to_string());
        }
    }
    a.file().end_lease();
    fixture.check();
}

#[test]
fn a_snapshot_is_gone_once_the_wal_was_restarted_in_a_lease() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    a.begin_lease_and_write();
    let snapshot = Snapshot::of(&b);
    a.file().end_lease();
    row_of(&a, "PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
    a.begin_lease_and_write();
    for connection in [&a, &b] {
        let code = snapshot.open(connection);
        assert_eq!(code, ffi::SQLITE_ERROR_SNAPSHOT);
        connection.run("ROLLBACK");
        assert_eq!(connection.row(COUNT), "2");
    }
    a.write();
    fixture.check();
}
