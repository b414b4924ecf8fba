//! The log (`-wal`) stays short while processes write, and moving it into the
//! database keeps nobody out: not a reader, not even at the close.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder::{Database, Options, Result, Statement};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

#[test]
fn peer() {
    peer::run_role(&[("pin", pin), ("poll", poll), ("write", write)]);
}

/// Holds a snapshot until killed.
fn pin(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        peer::send("held");
        peer::expect("never");
        Ok(())
    });
    done.unwrap();
}

/// Opens, reads and closes until told to stop; says how often it failed.
fn poll(args: &[OsString]) {
    let read = || -> Result<()> {
        let options = Options::new().timeout(Duration::from_millis(200));
        let db = options.read_only(true).open(Path::new(&args[0]))?;
        db.query("SELECT count(*) FROM entry", ()).map(drop)
    };
    read().unwrap();
    peer::send("ready");
    peer::expect("go");
    let over = AtomicBool::new(false);
    let (polls, failed) = thread::scope(|scope| {
        scope.spawn(|| {
            peer::expect("stop");
            over.store(true, Ordering::Relaxed);
        });
        let (mut polls, mut failed) = (0, 0);
        while !over.load(Ordering::Relaxed) {
            polls += 1;
            failed += u32::from(read().is_err());
        }
        (polls, failed)
    });
    eprintln!("{polls} polls");
    peer::send(&format!("{failed} failed"));
}

/// Writes so many small rows, and waits.
fn write(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    peer::send("ready");
    peer::expect("go");
    for _ in 0..args[1].to_str().unwrap().parse().unwrap() {
        database_fixture::insert(&db, "small").unwrap();
    }
    peer::send("done");
    peer::expect("end");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).map_or(0, |meta| meta.len())
}

fn fill(db: &Database, megabytes: usize) {
    for _ in 0..megabytes {
        let row = |_| Statement::new("INSERT INTO entry VALUES (?1)", [vec![1u8; 100_000]]);
        db.batch((0..10).map(row)).unwrap();
    }
}

/// Leaves a log behind that nobody could move: a reader, which was killed, was in
/// the way.
fn leave_log(fixture: &DatabaseFixture, db: &Database, megabytes: usize) {
    let mut reader = Peer::start("pin", [fixture.path()]);
    reader.expect("held");
    fill(db, megabytes);
    reader.kill();
    assert!(
        size(&database_fixture::with_suffix(&fixture.path(), "-wal"))
            > megabytes as u64 * 1_000_000
    );
}

#[test]
fn closing_keeps_no_reader_out() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    leave_log(&fixture, &db, 60);
    let mut reader = Peer::start("poll", [fixture.path()]);
    reader.expect("ready");
    thread::scope(|scope| {
        let closing = scope.spawn(|| wait::timed(|| drop(db)).1);
        // Into the middle of it; later, and the test is only easier.
        thread::sleep(Duration::from_millis(5));
        reader.send("go");
        eprintln!("closing took {:?}", closing.join().unwrap());
    });
    reader.send("stop");
    reader.expect("0 failed");
    drop(fixture.database());
    assert_eq!(
        database_fixture::count_entries(&database_fixture::open(&fixture.path())),
        600
    );
    plain_sqlite::assert_integrity(&fixture.path());
}

/// However many write: each of these writes adds two or three pages to the log.
#[test]
fn log_stays_short_while_many_write() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let path = fixture.path().to_str().unwrap().to_owned();
    let mut peers = [(); 4].map(|()| Peer::start("write", [path.clone(), "5000".into()]));
    peers.iter().for_each(|peer| peer.expect("ready"));
    peers.iter_mut().for_each(|peer| peer.send("go"));
    peers.iter().for_each(|peer| peer.expect("done"));
    let log = size(&database_fixture::with_suffix(&fixture.path(), "-wal"));
    eprintln!("{log} bytes of log");
    assert!(log < 32_000_000, "{log} bytes of log");
    assert_eq!(database_fixture::count_entries(&db), 20_000);
}

/// A process alone moves what it wrote, though it never closes.
#[test]
fn log_of_a_single_process_stays_short() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for _ in 0..5000 {
        database_fixture::insert(&db, "small").unwrap();
    }
    let log = size(&database_fixture::with_suffix(&fixture.path(), "-wal"));
    assert!(log < 6_000_000, "{log} bytes of log");
}

/// While a reader keeps the log from being started anew it grows; afterwards it is
/// used again from its beginning.
#[test]
fn log_is_used_again_after_the_reader() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    leave_log(&fixture, &db, 20);
    let log = database_fixture::with_suffix(&fixture.path(), "-wal");
    let before = size(&log);
    fill(&db, 20);
    let after = size(&log);
    assert!(after < before + 6_000_000, "{before} to {after}");
}
