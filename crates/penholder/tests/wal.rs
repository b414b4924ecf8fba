//! The WAL stays short while processes write, and checkpoints block no reader, not even at
//! close.
#![cfg(test)]

use std::collections::BTreeSet;
use std::ffi::OsString;
use std::fs;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::Duration;

use penholder::{Database, OpenOptions, Query, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, raw_file, wait};

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_snapshot", hold_snapshot),
        ("read_often", read_often),
        ("write_rows", write_rows),
        ("write_and_close", write_and_close),
    ]);
}

/// Opens, writes and closes until killed.
fn write_and_close(args: &[OsString]) {
    peer::send("writing");
    loop {
        let db = database_fixture::open(Path::new(&args[0]));
        for _ in 0..400 {
            let row = "INSERT INTO entry VALUES (randomblob(4000))";
            db.execute(row, ()).unwrap();
        }
        db.execute("DELETE FROM entry", ()).unwrap();
    }
}

/// Holds a snapshot until killed.
fn hold_snapshot(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        peer::send("held");
        peer::expect("never sent");
        Ok(())
    });
    done.unwrap();
}

/// Opens, reads and closes until `stop`, and sends how often this failed.
fn read_often(args: &[OsString]) {
    let read = || -> Result<()> {
        let options = OpenOptions::new().timeout(Duration::from_millis(200));
        let db = options.read_only(true).open(Path::new(&args[0]))?;
        db.query("SELECT count(*) FROM entry", ()).map(drop)
    };
    read().unwrap();
    peer::send("ready");
    peer::expect("go");
    let stopped = AtomicBool::new(false);
    let (reads, failed) = thread::scope(|scope| {
        scope.spawn(|| {
            peer::expect("stop");
            stopped.store(true, Ordering::Relaxed);
        });
        let (mut reads, mut failed) = (0, 0);
        while !stopped.load(Ordering::Relaxed) {
            reads += 1;
            failed += u32::from(read().is_err());
        }
        (reads, failed)
    });
    eprintln!("{reads} reads");
    peer::send(&format!("{failed} failed"));
}

/// Writes this many small rows, and waits.
fn write_rows(args: &[OsString]) {
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
        let row = |_| Query::new("INSERT INTO entry VALUES (?1)", [vec![1u8; 100_000]]);
        db.batch((0..10).map(row)).unwrap();
    }
}

/// Leaves a long WAL behind, because a reader, which is then killed, prevents checkpoints.
fn leave_long_wal(fixture: &DatabaseFixture, db: &Database, megabytes: usize) {
    let mut reader = Peer::start("hold_snapshot", [fixture.path()]);
    reader.expect("held");
    fill(db, megabytes);
    reader.kill();
    assert!(
        size(&database_fixture::with_suffix(&fixture.path(), "-wal"))
            > megabytes as u64 * 1_000_000
    );
}

#[test]
fn closing_blocks_no_reader() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    leave_long_wal(&fixture, &db, 60);
    let mut reader = Peer::start("read_often", [fixture.path()]);
    reader.expect("ready");
    thread::scope(|scope| {
        let closing = scope.spawn(|| wait::timed(|| drop(db)).1);
        // During the close. If it is later, the test is only easier.
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

/// Each of these writes adds two or three pages to the WAL.
#[test]
fn the_wal_stays_short_while_many_processes_write() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let path = fixture.path().to_str().unwrap().to_owned();
    let mut peers = [(); 4].map(|()| Peer::start("write_rows", [path.clone(), "5000".into()]));
    peers.iter().for_each(|peer| peer.expect("ready"));
    peers.iter_mut().for_each(|peer| peer.send("go"));
    peers.iter().for_each(|peer| peer.expect("done"));
    let wal_size = size(&database_fixture::with_suffix(&fixture.path(), "-wal"));
    eprintln!("{wal_size} bytes of WAL");
    assert!(wal_size < 32_000_000, "{wal_size} bytes of WAL");
    assert_eq!(database_fixture::count_entries(&db), 20_000);
}

/// A single process checkpoints its own writes before it closes, by a thread while it writes on.
#[test]
fn the_wal_of_a_single_process_stays_short() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for _ in 0..20_000 {
        database_fixture::insert(&db, "small").unwrap();
    }
    let wal_size = size(&database_fixture::with_suffix(&fixture.path(), "-wal"));
    assert!(wal_size < 32_000_000, "{wal_size} bytes of WAL");
}

/// What a closure committed before it panicked is checkpointed as any other write.
#[test]
fn the_wal_stays_short_if_every_closure_panics() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for _ in 0..30 {
        let write_and_panic = panic::AssertUnwindSafe(|| {
            db.with_write_lock(|connection| -> Result<()> {
                connection.execute("INSERT INTO entry VALUES (zeroblob(1000000))", [])?;
                panic::resume_unwind(Box::new("on purpose"))
            })
        });
        assert!(panic::catch_unwind(write_and_panic).is_err());
    }
    assert_eq!(database_fixture::count_entries(&db), 30);
    let wal_size = size(&database_fixture::with_suffix(&fixture.path(), "-wal"));
    assert!(wal_size < 20_000_000, "{wal_size} bytes of WAL");
}

/// The WAL grows while a reader prevents its restart. Afterwards it is reused from the
/// beginning.
#[test]
fn the_wal_is_reused_after_a_reader() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    leave_long_wal(&fixture, &db, 20);
    let wal = database_fixture::with_suffix(&fixture.path(), "-wal");
    let before = size(&wal);
    fill(&db, 20);
    let after = size(&wal);
    assert!(after < before + 6_000_000, "{before} to {after}");
}

/// Returns how many frames of the WAL are in the database file. The test has the database not
/// open: closing the file would drop SQLite's locks.
fn backfilled(shm: &Path) -> Option<u32> {
    // `WalCkptInfo.nBackfill`, after two headers of 48 bytes (`walformat.html`, section 2.1).
    let mut word = [0; 4];
    let file = fs::File::open(shm).ok()?;
    raw_file::read_at(&file, &mut word, 96).ok()?;
    Some(u32::from_ne_bytes(word))
}

/// With the WAL-reset bug, a checkpoint at the same time as a write of another process may
/// corrupt the database. `.ci/run` runs this with such a SQLite.
#[test]
fn with_the_wal_reset_bug_every_checkpoint_runs_under_the_lock() {
    if !penholder::internals::has_wal_reset_bug() {
        let version = penholder::sqlite_version();
        println!("SKIPPED: SQLite {version} does not have the WAL-reset bug");
        return;
    }
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let path = fixture.path();
    let writers = [(); 3].map(|()| Peer::start("write_and_close", [&path]));
    writers.iter().for_each(|writer| writer.expect("writing"));
    let locker = penholder::lock::WriteLocker::new(fixture.directory()).unwrap();
    let [wal, shm] = ["-wal", "-shm"].map(|suffix| database_fixture::with_suffix(&path, suffix));
    let (mut seen, mut begun) = (BTreeSet::new(), 0);
    while seen.len() < 20 || begun < 300 {
        begun += 1;
        assert!(begun < 10_000, "{seen:?}");
        let guard = locker.acquire(database_fixture::LONG_TIMEOUT).unwrap();
        let (length, before) = (size(&wal), backfilled(&shm));
        thread::sleep(Duration::from_millis(2));
        let after = backfilled(&shm);
        // A process that opens the database after all have closed it empties the index, counts
        // from zero, and leaves the WAL as it is. A checkpoint counts up, or empties the WAL.
        let is_recovered = after.unwrap_or(0) == 0 && size(&wal) == length;
        assert!(
            after == before || is_recovered,
            "a checkpoint ran without the lock: {before:?} to {after:?}"
        );
        guard.release().unwrap();
        seen.extend(before);
    }
    drop(writers);
    plain_sqlite::assert_integrity(&path);
}
