//! Many processes write at the same time: none fails, every row is in the database, and
//! SQLite finds nothing wrong.
#![cfg(test)]

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite};

/// Lets one test run at a time, so that each has the machine for itself.
static ALONE: Mutex<()> = Mutex::new(());

#[test]
fn peer() {
    peer::run_role(&[("open_and_write", open_and_write)]);
}

/// Opens the database on command, and writes its rows.
fn open_and_write(args: &[OsString]) {
    let [path, name, writes] = peer::text_args(args)[..] else {
        panic!("path, name and number of writes");
    };
    peer::send("ready");
    peer::expect("go");
    let db = database_fixture::open(Path::new(path));
    db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
        .unwrap();
    for number in 0..writes.parse().unwrap() {
        database_fixture::insert(&db, &format!("{name}-{number}")).unwrap();
    }
    peer::send("done");
}

/// Starts processes that write to a database that does not exist yet.
fn assert_no_row_is_lost(processes: usize, writes: usize) {
    let _alone = ALONE.lock().unwrap_or_else(PoisonError::into_inner);
    let fixture = DatabaseFixture::new();
    let start = |n: usize| {
        let path = fixture.path().to_str().unwrap().to_owned();
        Peer::start(
            "open_and_write",
            [path, format!("p{n}"), writes.to_string()],
        )
    };
    let mut peers: Vec<Peer> = (0..processes).map(start).collect();
    peers.iter().for_each(|peer| peer.expect("ready"));
    peers.iter_mut().for_each(|peer| peer.send("go"));
    for peer in &mut peers {
        peer.expect("done");
        assert!(peer.close().success());
    }
    let mut expected: Vec<String> = (0..processes)
        .flat_map(|n| (0..writes).map(move |number| format!("p{n}-{number}")))
        .collect();
    expected.sort();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        expected
    );
    plain_sqlite::assert_integrity(&fixture.path());
}

#[test]
fn eight_processes_lose_no_row() {
    assert_no_row_is_lost(8, 200);
}

#[test]
fn sixty_four_processes_lose_no_row() {
    assert_no_row_is_lost(64, 20);
}

/// Wine's server has no room for the files of more than a hundred.
#[test]
fn hundreds_of_processes_create_one_database() {
    assert_no_row_is_lost(if cfg!(windows) { 100 } else { 300 }, 1);
}
