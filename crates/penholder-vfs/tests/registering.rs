//! Registering the VFS next to another one.
#![cfg(test)]
#![allow(unsafe_code, reason = "a VFS of SQLite is a table of C functions")]

use std::ffi::OsString;
use std::ptr;

use penholder_testkit::lease_fixture::{self, LeaseFixture, open_with};
use penholder_testkit::peer::{self, Peer};
use penholder_vfs::{NAME, RegisterError};
use rusqlite::ffi;

#[test]
fn peer() {
    peer::run_role(&[("change_default", change_default)]);
}

fn change_default(args: &[OsString]) {
    let connection = open_with(&args[0], Some(NAME)).unwrap();
    // SAFETY: null asks for the default, which stays registered.
    let unix = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: as above.
    let mut other = Box::new(unsafe { *unix });
    other.zName = c"other".as_ptr();
    let other = Box::into_raw(other);
    // SAFETY: it is never freed, and its methods are those of SQLite's own.
    assert_eq!(unsafe { ffi::sqlite3_vfs_register(other, 1) }, 0);
    let refused = penholder_vfs::register(&lease_fixture::api());
    assert_eq!(refused, Err(RegisterError::OtherVfs));
    // SAFETY: registered above.
    assert_eq!(unsafe { ffi::sqlite3_vfs_register(unix, 1) }, 0);
    assert_eq!(penholder_vfs::register(&lease_fixture::api()), Ok(()));
    connection.close().unwrap();
    peer::send("done");
}

/// In a process of its own, because all of it has one default.
#[test]
fn a_default_that_is_changed_later_is_respected() {
    let fixture = LeaseFixture::new();
    let mut peer = Peer::start("change_default", [fixture.path()]);
    peer.expect("done");
    assert!(peer.close().success());
}
