//! On Windows: programs that load `penholder.dll` take their turns with penholder's writers.
#![cfg(test)]
#![cfg(windows)] // `driver` has more of it, with programs that Windows does not have
#![allow(unsafe_code, reason = "the library is loaded")]

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use penholder_testkit::database_fixture::{self, DatabaseFixture};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::{extension_fixture, plain_sqlite, requirement, wait};
use rusqlite::Connection;

const WRITERS: usize = 3;
const WRITES: usize = 30;

#[test]
fn peer() {
    peer::run_role(&[("write", write)]);
}

/// Loads the library, and writes a row each time that it is asked to.
fn write(args: &[OsString]) {
    let loader = Connection::open_in_memory().unwrap();
    // SAFETY: nothing else uses the connection, and the library is the one under test.
    let guard = unsafe { rusqlite::LoadExtensionGuard::new(&loader) }.unwrap();
    // SAFETY: as above.
    unsafe { loader.load_extension(Path::new(&args[0]), Some("sqlite3_penholder_default_init")) }
        .unwrap();
    drop(guard);
    let timeout: u64 = args[2].to_str().unwrap().parse().unwrap();
    let connection = Connection::open(Path::new(&args[1])).unwrap();
    connection
        .busy_timeout(Duration::from_millis(timeout))
        .unwrap();
    peer::send("ready");
    for line in std::io::stdin().lines().map_while(Result::ok) {
        for _ in 0..line.trim().parse().unwrap() {
            let done = connection.execute("INSERT INTO entry VALUES ('loaded')", []);
            match done {
                Ok(_) => {}
                Err(error) => return peer::send(&error.to_string()),
            }
        }
        peer::send("done");
    }
}

/// Starts one; `None`, after saying so, if the library is not built.
fn start(fixture: &DatabaseFixture, timeout: Duration) -> Option<Peer> {
    let Some(library) = extension_fixture::built_library() else {
        requirement::skip("penholder.dll, which `cargo build --package penholder-extension` makes");
        return None;
    };
    let timeout = timeout.as_millis().to_string().into();
    let args = [library.into_os_string(), fixture.path().into(), timeout];
    let peer = Peer::start("write", args);
    peer.expect("ready");
    Some(peer)
}

#[test]
fn programs_that_load_the_library_lose_no_write_beside_penholders() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut writers = Vec::new();
    for _ in 0..WRITERS {
        let Some(writer) = start(&fixture, wait::LIMIT) else {
            return;
        };
        writers.push(writer);
    }
    for writer in &mut writers {
        writer.send(&WRITES.to_string());
    }
    for _ in 0..WRITES {
        database_fixture::insert(&db, "own").unwrap();
    }
    writers.iter().for_each(|writer| writer.expect("done"));
    let rows = i64::try_from((WRITERS + 1) * WRITES).unwrap();
    assert_eq!(database_fixture::count_entries(&db), rows);
    drop((writers, db));
    plain_sqlite::assert_integrity(&fixture.path());
}

#[test]
fn a_write_of_a_program_that_loads_the_library_waits_for_the_lock() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let locker = database_fixture::options().locker(fixture.path()).unwrap();
    let guard = locker.acquire(wait::LIMIT).unwrap();
    let Some(mut impatient) = start(&fixture, Duration::from_millis(200)) else {
        return;
    };
    impatient.send("1");
    let error = impatient.read_line();
    assert!(error.contains("database is locked"), "{error}");
    let Some(mut patient) = start(&fixture, wait::LIMIT) else {
        return;
    };
    patient.send("1");
    assert_eq!(patient.read_line_within(Duration::from_millis(500)), None);
    guard.release().unwrap();
    patient.expect("done");
    assert_eq!(database_fixture::count_entries(&db), 1);
}
