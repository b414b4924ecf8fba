//! What is written in a lease, frames joined, is what SQLite was told to write: every kind of
//! transaction, page size, cache and connection. Each test ends with a check by plain SQLite, and
//! of what would be recovered if every process died.
#![cfg(test)]

use std::ffi::OsString;
use std::io::Read;
use std::time::{Duration, Instant};

use penholder_testkit::lease_fixture::{
    self, LeaseConnection, LeaseFixture, file_of, open_with, row_of,
};
use penholder_testkit::peer::{self, Peer};
use rusqlite::backup::Backup;
use rusqlite::{Connection, OpenFlags};

#[test]
fn peer() {
    peer::run_role(&[
        lease_fixture::OUTSIDER_ROLE,
        ("rewrite_and_die", rewrite_and_die),
    ]);
}

/// Fills the table `big` with this many blobs of 3,000 bytes.
fn fill(rows: u32) -> String {
    format!(
        "INSERT INTO big WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s
         WHERE i < {rows}) SELECT zeroblob(3000) FROM s",
    )
}

// ---- transactions ------------------------------------------------------------------------------

#[test]
fn frames_that_are_written_twice_are_recovered() {
    for synchronous in ["OFF", "NORMAL", "FULL"] {
        let fixture = LeaseFixture::new();
        let a = fixture.open();
        a.run(&format!(
            "PRAGMA synchronous = {synchronous}; PRAGMA cache_size = 10"
        ));
        a.begin_lease();
        for round in 0..3 {
            a.run("BEGIN IMMEDIATE");
            a.run(&fill(200));
            // Pages that were spilled change again, so that their frames are overwritten, and the
            // checksums of all frames after them.
            a.run(&format!(
                "UPDATE big SET x = zeroblob(30{round}1) WHERE rowid % 3 = 0"
            ));
            a.run("UPDATE big SET x = zeroblob(2999) WHERE rowid % 7 = 0; COMMIT");
            // It depends on the checksums of the last one.
            a.write();
            fixture.check();
        }
        a.file().end_lease();
        fixture.check();
    }
}

#[test]
fn a_process_that_dies_after_such_a_commit_loses_nothing() {
    let fixture = LeaseFixture::new();
    let mut writer = Peer::start("rewrite_and_die", [fixture.path()]);
    writer.expect("written");
    writer.kill();
    let mut outsider = fixture.outsider();
    assert_eq!(outsider.run("SELECT count(*) FROM big"), "200");
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "5");
    fixture.check();
}

fn rewrite_and_die(args: &[OsString]) {
    let a = LeaseConnection::open(&args[0]);
    a.begin_lease();
    a.run("PRAGMA cache_size = 10; BEGIN IMMEDIATE");
    a.run(&fill(200));
    a.run("UPDATE big SET x = zeroblob(3001) WHERE rowid % 3 = 0; COMMIT");
    (0..5).for_each(|_| a.write());
    peer::send("written");
    let _ = std::io::stdin().read(&mut [0]);
}

#[test]
fn savepoints_and_spills() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.run("PRAGMA cache_size = 10");
    a.begin_lease();
    a.run("BEGIN IMMEDIATE");
    a.run(&fill(500));
    a.run("SAVEPOINT s; INSERT INTO big SELECT x FROM big; ROLLBACK TO s");
    a.run("UPDATE big SET x = zeroblob(3001) WHERE rowid % 3 = 0");
    a.run("SAVEPOINT t; DELETE FROM big; ROLLBACK TO t; RELEASE t; RELEASE s");
    assert_eq!(outsider.run("SELECT count(*) FROM big"), "0");
    assert_eq!(a.row("SELECT count(*) FROM big"), "500");
    a.run("COMMIT");
    let sum = (500 * 3000 + 166).to_string();
    assert_eq!(outsider.run("SELECT sum(length(x)) FROM big"), sum);
    a.file().end_lease();
    fixture.check();
}

#[test]
fn spilled_frames_that_are_rolled_back_are_gone() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    a.run("PRAGMA cache_size = 10");
    a.begin_lease();
    a.run(&fill(300));
    for _ in 0..3 {
        a.run("BEGIN IMMEDIATE; UPDATE big SET x = zeroblob(100); ROLLBACK");
        assert_eq!(a.row("SELECT sum(length(x)) FROM big"), "900000");
        a.write();
        fixture.check();
        // A statement that fails in its midst undoes itself only.
        a.run("BEGIN IMMEDIATE; INSERT INTO r VALUES (zeroblob(20))");
        let failing = "INSERT INTO big SELECT CASE WHEN rowid < 290 THEN zeroblob(3000)
            ELSE abs(-9223372036854775808) END FROM big ORDER BY rowid";
        assert!(a.execute_batch(failing).is_err());
        a.run("COMMIT");
        fixture.check();
    }
    assert_eq!(a.row("SELECT count(*) FROM big"), "300");
    a.file().end_lease();
    fixture.check();
}

#[test]
fn all_page_sizes() {
    for size in [512, 1024, 2048, 4096, 8192, 16384, 32768, 65536] {
        let fixture = LeaseFixture::with_page_size(size);
        let a = fixture.open();
        assert_eq!(a.row("PRAGMA page_size"), size.to_string());
        a.run("PRAGMA cache_size = 10");
        a.begin_lease();
        a.run(&fill(300));
        a.run("UPDATE big SET x = zeroblob(2000) WHERE rowid % 2 = 0");
        a.write();
        fixture.check();
        a.run("PRAGMA wal_checkpoint(PASSIVE)");
        a.write();
        a.file().end_lease();
        fixture.check();
    }
}

#[test]
fn a_disk_whose_writes_may_damage_their_neighbours() {
    // Commits are padded to whole sectors, and a sync splits a frame.
    for size in [512, 1024, 4096] {
        let fixture = LeaseFixture::with_page_size(size);
        let uri = format!("file:{}?psow=0", fixture.path().to_str().unwrap());
        let a = LeaseConnection::open(uri);
        a.run("PRAGMA synchronous = FULL; PRAGMA wal_autocheckpoint = 0");
        a.begin_lease();
        for round in 0..600 {
            a.write();
            if round % 100 == 0 {
                fixture.check();
            }
        }
        let rows = a.row("SELECT count(*), sum(length(x)) FROM r");
        assert_eq!(rows, "600|6000");
        a.file().end_lease();
        fixture.check();
    }
}

// ---- operations on the whole database ------------------------------------------------------------

#[test]
fn vacuum_in_a_lease() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.run(&fill(300));
    a.begin_lease_and_write();
    a.run("DELETE FROM big WHERE rowid % 2 = 0; VACUUM");
    let copy = fixture.other_path("copy.db");
    a.run(&format!("VACUUM INTO '{}'", copy.to_str().unwrap()));
    a.write();
    a.file().end_lease();
    assert_eq!(outsider.run("SELECT count(*) FROM big"), "150");
    fixture.check();
    let copy = open_with(copy, None).unwrap();
    assert_eq!(row_of(&copy, "PRAGMA integrity_check").unwrap(), "ok");
    assert_eq!(row_of(&copy, "SELECT count(*) FROM big").unwrap(), "150");
    // With incremental vacuum, and another page size, which WAL mode refuses.
    a.run("PRAGMA auto_vacuum = INCREMENTAL; PRAGMA page_size = 1024");
    a.begin_lease();
    a.run("VACUUM; DELETE FROM big; PRAGMA incremental_vacuum(50)");
    assert_eq!(a.row("PRAGMA page_size"), "4096");
    a.file().end_lease();
    fixture.check();
}

#[test]
fn backups_in_both_directions() {
    let (from, to) = (LeaseFixture::new(), LeaseFixture::new());
    let (a, mut b) = (from.open(), to.open());
    a.begin_lease();
    a.run(&fill(200));
    b.begin_lease_and_write();
    copy(&a, &mut b, || a.write());
    for connection in [&a, &b] {
        assert_eq!(connection.row("SELECT count(*) FROM big"), "200");
        connection.write();
        connection.file().end_lease();
    }
    from.check();
    to.check();
    // From and to a plain connection.
    let mut plain = open_with(from.other_path("plain.db"), None).unwrap();
    b.begin_lease_and_write();
    copy(&b, &mut plain, || b.write());
    plain
        .execute_batch("DELETE FROM big WHERE rowid > 100")
        .unwrap();
    let mut c = from.open();
    c.begin_lease_and_write();
    assert!(!a.file().is_leased());
    copy(&plain, &mut c, || ());
    assert_eq!(c.row("SELECT count(*) FROM big"), "100");
    c.begin_lease_and_write();
    c.file().end_lease();
    from.check();
    b.file().end_lease();
    to.check();
}

/// Copies a database in steps, with something done once between them.
fn copy(from: &Connection, to: &mut Connection, between: impl FnOnce()) {
    let backup = Backup::new(from, to).unwrap();
    backup.step(5).unwrap();
    between();
    backup.run_to_completion(50, Duration::ZERO, None).unwrap();
}

#[test]
fn mapped_databases() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    for connection in [&a, &b] {
        assert_ne!(connection.row("PRAGMA mmap_size = 100000000"), "0");
    }
    for _ in 0..3 {
        a.begin_lease();
        a.run(&fill(100));
        a.run("PRAGMA wal_checkpoint(PASSIVE)");
        let sums = a.row("SELECT count(*), sum(length(x)) FROM big");
        assert_eq!(b.row("SELECT count(*), sum(length(x)) FROM big"), sums);
        a.run("DELETE FROM big WHERE rowid % 2 = 0");
        b.begin_lease_and_write();
        assert!(!a.file().is_leased());
        b.run("PRAGMA wal_checkpoint(TRUNCATE)");
        b.file().end_lease();
        fixture.check();
    }
}

// ---- kinds of files and connections ---------------------------------------------------------------

#[test]
fn attached_databases_have_leases_of_their_own() {
    let (fixture, other) = (LeaseFixture::new(), LeaseFixture::new());
    let (mut outsider, mut other_outsider) = (fixture.outsider(), other.outsider());
    let a = fixture.open();
    a.run(&format!(
        "ATTACH '{}' AS other",
        other.path().to_str().unwrap()
    ));
    assert_eq!(a.row("SELECT count(*) FROM other.r"), "0");
    let attached = file_of(&a, c"other").unwrap();
    attached.join_frames();
    let both = "BEGIN IMMEDIATE; INSERT INTO main.r VALUES (1);
        INSERT INTO other.r VALUES (1); COMMIT";
    // One of them only.
    a.begin_lease();
    a.run(both);
    assert!(!outsider.can_write() && other_outsider.can_write());
    // Both.
    assert!(attached.begin_lease());
    a.run(both);
    assert!(!outsider.can_write() && !other_outsider.can_write());
    attached.end_lease();
    assert!(!outsider.can_write() && other_outsider.can_write());
    a.run(both);
    assert!(attached.begin_lease());
    a.run(both);
    a.run("DETACH other");
    assert!(!attached.is_leased() && other_outsider.can_write());
    assert!(a.file().is_leased());
    a.file().end_lease();
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "4");
    assert_eq!(other_outsider.run("SELECT count(*) FROM r"), "4");
    fixture.check();
    other.check();
}

#[test]
fn a_shared_cache_has_one_file_and_one_lease() {
    let fixture = LeaseFixture::new();
    let uri = format!("file:{}?cache=shared", fixture.path().to_str().unwrap());
    let a = LeaseConnection::open(&uri);
    let b = LeaseConnection::open(&uri);
    assert!(std::sync::Arc::ptr_eq(a.file(), b.file()));
    let mut outsider = fixture.outsider();
    a.begin_lease_and_write();
    b.write();
    assert!(!outsider.can_write());
    assert_eq!(b.row("SELECT count(*) FROM r"), "2");
    a.close();
    b.write();
    assert!(!outsider.can_write());
    b.file().end_lease();
    assert!(outsider.can_write());
    fixture.check();
}

#[test]
fn temporary_and_other_files_pass_through() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    a.begin_lease_and_write();
    a.run("PRAGMA temp_store = FILE; PRAGMA cache_size = 10; PRAGMA temp.cache_size = 10");
    a.run("CREATE TEMP TABLE t AS SELECT randomblob(100) AS x FROM r");
    for _ in 0..10 {
        a.run("INSERT INTO t SELECT randomblob(500) FROM t");
    }
    // A sorter with files of its own, and an index of a materialised view.
    a.run("INSERT INTO r SELECT x FROM (SELECT x FROM t ORDER BY x) LIMIT 5");
    a.write();
    assert_eq!(a.row("SELECT count(*) FROM r"), "7");
    assert_eq!(a.row("SELECT count(*) FROM t"), "1024");
    a.run("ATTACH '' AS temporary; CREATE TABLE temporary.t2 AS SELECT * FROM t");
    a.run("ATTACH ':memory:' AS memory; CREATE TABLE memory.t3 AS SELECT * FROM t");
    assert!(file_of(&a, c"temporary").is_none_or(|file| !file.begin_lease()));
    assert!(file_of(&a, c"memory").is_none_or(|file| !file.begin_lease()));
    a.file().end_lease();
    fixture.check();
    for name in ["", ":memory:"] {
        let other = open_with(name, Some(penholder_vfs::NAME)).unwrap();
        other.execute_batch("CREATE TABLE t (x)").unwrap();
        assert!(file_of(&other, c"main").is_none());
    }
}

#[test]
fn a_database_in_rollback_mode_has_no_lease() {
    let fixture = LeaseFixture::new();
    let path = fixture.other_path("rollback.db");
    let a = open_with(&path, Some(penholder_vfs::NAME)).unwrap();
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY", "OFF"] {
        row_of(&a, &format!("PRAGMA journal_mode = {mode}")).unwrap();
        a.execute_batch("CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)")
            .unwrap();
        assert!(!file_of(&a, c"main").unwrap().begin_lease(), "{mode}");
    }
    let plain = open_with(&path, None).unwrap();
    assert_eq!(row_of(&plain, "SELECT count(*) FROM t").unwrap(), "5");
    assert_eq!(row_of(&plain, "PRAGMA integrity_check").unwrap(), "ok");
}

#[test]
fn connections_that_only_read() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    a.begin_lease_and_write();
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_URI;
    let name = penholder_vfs::NAME;
    let reader = Connection::open_with_flags_and_vfs(fixture.path(), flags, name).unwrap();
    assert_eq!(row_of(&reader, "SELECT count(*) FROM r").unwrap(), "1");
    // It cannot write; what it parks are marks.
    let file = file_of(&reader, c"main").unwrap();
    assert!(file.begin_lease());
    for count in 2..10 {
        a.write();
        let row = row_of(&reader, "SELECT count(*) FROM r").unwrap();
        assert_eq!(row, count.to_string());
    }
    a.file().end_lease();
    assert!(fixture.outsider().can_write());
    drop(reader);
    // Without locks, and so without a WAL that others use.
    a.run("PRAGMA wal_checkpoint(TRUNCATE)");
    let path = fixture.path();
    for option in ["immutable=1", "nolock=1&immutable=1"] {
        let uri = format!("file:{}?{option}", path.to_str().unwrap());
        let frozen = Connection::open_with_flags_and_vfs(uri, flags, name).unwrap();
        assert_eq!(row_of(&frozen, "SELECT count(*) FROM r").unwrap(), "9");
        assert!(!file_of(&frozen, c"main").unwrap().begin_lease());
    }
    fixture.check();
}

#[test]
fn two_writers_in_turn_and_a_pool_of_readers() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    for writer in [&a, &b] {
        // A reader that finds the header half written takes WRITE for a moment.
        writer.busy_timeout(Duration::from_secs(30)).unwrap();
    }
    let limit = Instant::now() + Duration::from_secs(60);
    std::thread::scope(|scope| {
        let readers: Vec<_> = (0..3)
            .map(|_| {
                let reader = fixture.open();
                scope.spawn(move || {
                    let mut last = 0;
                    while last < 400 {
                        let row = reader.row("SELECT count(*) FROM r");
                        let count: u32 = row.parse().unwrap();
                        assert!(count >= last);
                        assert!(Instant::now() < limit, "{count} rows");
                        last = count;
                    }
                })
            })
            .collect();
        for _ in 0..100 {
            a.begin_lease_and_write();
            a.write();
            b.begin_lease_and_write();
            b.write();
        }
        readers
            .into_iter()
            .for_each(|reader| reader.join().unwrap());
    });
    a.file().end_lease();
    b.file().end_lease();
    fixture.check();
}
