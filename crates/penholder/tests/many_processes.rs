//! Many processes that write at once: every row of every one is there, nobody
//! fails, and SQLite finds the database whole.
#![cfg(test)]

use std::ffi::OsString;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite};

/// One storm at a time: each is to have the machine for itself.
static STORM: Mutex<()> = Mutex::new(());

#[test]
fn peer() {
    peer::run_role(&[("write", write)]);
}

/// Opens the database when told, and writes its rows.
fn write(args: &[OsString]) {
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

/// Starts this many processes on a database that does not exist yet.
fn storm(processes: usize, writes: usize) {
    let _alone = STORM.lock().unwrap_or_else(PoisonError::into_inner);
    let fixture = DatabaseFixture::new();
    let start = |n: usize| {
        let path = fixture.path().to_str().unwrap().to_owned();
        Peer::start("write", [path, format!("p{n}"), writes.to_string()])
    };
    let mut peers: Vec<Peer> = (0..processes).map(start).collect();
    peers.iter().for_each(|peer| peer.expect("ready"));
    peers.iter_mut().for_each(|peer| peer.send("go"));
    for peer in &mut peers {
        peer.expect("done");
        assert!(peer.close().success());
    }
    let mut wanted: Vec<String> = (0..processes)
        .flat_map(|n| (0..writes).map(move |number| format!("p{n}-{number}")))
        .collect();
    wanted.sort();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        wanted
    );
    plain_sqlite::assert_integrity(&fixture.path());
}

#[test]
fn eight_processes_lose_nothing() {
    storm(8, 200);
}

#[test]
fn sixty_four_processes_lose_nothing() {
    storm(64, 20);
}

#[test]
fn three_hundred_processes_create_one_database() {
    storm(300, 1);
}
