//! Each row of the table in `locks.rs` with a real SQLite: what other connections and processes
//! can do while a lease stands, and when it ends.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::io::Read;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering::SeqCst};
use std::sync::mpsc::{self, TryRecvError};
use std::sync::{Arc, Barrier};
use std::thread;
use std::time::Duration;

use penholder_testkit::lease_fixture::{
    self, LeaseConnection, LeaseFixture, open_with, or_busy, row_of,
};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::raw_file;
use penholder_vfs::{Gap, MIRROR_WORDS, Mirror, set_mirror};

const CHECKPOINTS: [&str; 4] = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];

#[test]
fn peer() {
    peer::run_role(&[
        lease_fixture::OUTSIDER_ROLE,
        ("lease", lease_until_killed),
        ("open_at_once", open_at_once),
    ]);
}

#[test]
fn threads_that_open_the_first_connections_at_once_all_get_the_vfs() {
    let fixture = LeaseFixture::new();
    for _ in 0..30 {
        let mut peer = Peer::start("open_at_once", [fixture.path()]);
        peer.expect("open");
        assert!(peer.close().success());
    }
}

fn open_at_once(args: &[OsString]) {
    let barrier = Barrier::new(4);
    thread::scope(|scope| {
        for _ in 0..4 {
            scope.spawn(|| {
                barrier.wait();
                let connection = open_with(&args[0], Some(penholder_vfs::NAME)).unwrap();
                assert!(lease_fixture::file_of(&connection, c"main").is_some());
            });
        }
    });
    peer::send("open");
}

/// Writes in a lease, and then waits to be killed; with a second argument in the midst of a
/// transaction with spilled frames.
fn lease_until_killed(args: &[OsString]) {
    let connection = LeaseConnection::open(&args[0]);
    connection.begin_lease_and_write();
    if args.len() > 1 {
        connection.run("PRAGMA cache_size = 10; BEGIN IMMEDIATE");
        connection.run(&fill(300));
    }
    peer::send("written");
    let _ = std::io::stdin().read(&mut [0]);
}

/// Fills the table `big` with this many pages.
fn fill(rows: u32) -> String {
    format!(
        "INSERT INTO big WITH RECURSIVE s(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM s
         WHERE i < {rows}) SELECT zeroblob(3000) FROM s",
    )
}

// ---- WRITE --------------------------------------------------------------------------

#[test]
fn other_processes_read_but_do_not_write_until_the_lease_ends() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.begin_lease_and_write();
    assert!(!outsider.can_write());
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "1");
    a.write();
    a.write();
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "3");
    assert!(!outsider.can_write());
    a.file().end_lease();
    assert!(outsider.can_write());
    assert_eq!(outsider.run("INSERT INTO r VALUES (1)"), "ok");
    // Back with the row of the other one.
    a.begin_lease_and_write();
    assert_eq!(a.row("SELECT count(*) FROM r"), "5");
    a.file().end_lease();
    fixture.check();
}

#[test]
fn a_lease_that_ends_within_a_transaction_is_over_after_it() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.begin_lease();
    a.run("BEGIN IMMEDIATE; INSERT INTO r VALUES (1)");
    a.file().end_lease();
    assert!(!a.file().is_leased());
    assert!(!outsider.can_write());
    a.run("COMMIT");
    assert!(outsider.can_write());
    // As before a lease.
    a.write();
    assert!(outsider.can_write());
    fixture.check();
}

#[test]
fn a_sibling_that_writes_ends_a_lease_at_once() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    for _ in 0..3 {
        a.begin_lease_and_write();
        b.write();
        assert!(!a.file().is_leased());
        // And the other way round.
        b.begin_lease_and_write();
        a.write();
        assert!(!b.file().is_leased());
    }
    assert_eq!(a.row("SELECT count(*) FROM r"), "12");
    assert_eq!(b.row("SELECT count(*) FROM r"), "12");
    fixture.check();
}

#[test]
fn a_sibling_waits_for_an_open_transaction() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    a.begin_lease();
    a.run("BEGIN IMMEDIATE; INSERT INTO r VALUES (1)");
    assert_eq!(or_busy(row_of(&b, "BEGIN IMMEDIATE")), "busy");
    assert!(a.file().is_leased());
    a.run("COMMIT");
    b.run("BEGIN IMMEDIATE; INSERT INTO r VALUES (2); COMMIT");
    assert_eq!(a.row("SELECT count(*) FROM r"), "2");
    fixture.check();
}

#[test]
fn a_sibling_in_an_older_snapshot_is_refused_as_ever() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    b.run("BEGIN");
    assert_eq!(b.row("SELECT count(*) FROM r"), "0");
    a.begin_lease_and_write();
    assert_eq!(or_busy(row_of(&b, "INSERT INTO r VALUES (1)")), "busy");
    assert_eq!(b.row("SELECT count(*) FROM r"), "0");
    b.run("ROLLBACK");
    b.write();
    fixture.check();
}

#[test]
fn a_plain_connection_of_the_process_is_an_outsider() {
    let fixture = LeaseFixture::new();
    let (a, plain) = (fixture.open(), fixture.open_plain());
    assert!(lease_fixture::file_of(&plain, c"main").is_none());
    a.begin_lease_and_write();
    assert_eq!(row_of(&plain, "SELECT count(*) FROM r").unwrap(), "1");
    assert_eq!(or_busy(row_of(&plain, "BEGIN IMMEDIATE")), "busy");
    a.file().end_lease();
    row_of(&plain, "INSERT INTO r VALUES (1)").unwrap();
    a.begin_lease_and_write();
    // Its close keeps the locks of the others.
    plain.close().unwrap();
    assert!(!fixture.outsider().can_write());
    a.file().end_lease();
    fixture.check();
}

#[test]
fn readers_beside_a_lease_keep_their_snapshots() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    let pool = [fixture.open(), fixture.open(), fixture.open()];
    let mut outsiders = [fixture.outsider(), fixture.outsider()];
    a.begin_lease();
    for round in 0..5 {
        let count = (round * 3).to_string();
        for reader in &pool {
            reader.run("BEGIN");
            assert_eq!(reader.row("SELECT count(*) FROM r"), count);
        }
        for outsider in &mut outsiders {
            assert_eq!(outsider.run("BEGIN"), "ok");
            assert_eq!(outsider.run("SELECT count(*) FROM r"), count);
        }
        (0..3).for_each(|_| a.write());
        for reader in &pool {
            assert_eq!(reader.row("SELECT count(*) FROM r"), count);
            reader.run("COMMIT");
        }
        for outsider in &mut outsiders {
            assert_eq!(outsider.run("SELECT count(*) FROM r"), count);
            assert_eq!(outsider.run("COMMIT"), "ok");
        }
    }
    assert!(a.file().is_leased());
    a.file().end_lease();
    fixture.check();
}

// ---- read marks and READ0 --------------------------------------------------------------

#[test]
fn a_parked_mark_holds_back_a_checkpoint_and_no_longer_than_the_lease() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.run("PRAGMA wal_checkpoint(TRUNCATE)");
    a.write();
    a.begin_lease();
    (0..10).for_each(|_| a.write());
    let frames = a.file().wal_frames();
    assert_eq!((frames.all, frames.uncopied), (11, 11));
    // Our mark stands where the lease began.
    assert_eq!(outsider.run("PRAGMA wal_checkpoint(PASSIVE)"), "0|11|1");
    assert_eq!(a.file().wal_frames().uncopied, 10);
    a.file().end_lease();
    assert_eq!(outsider.run("PRAGMA wal_checkpoint(PASSIVE)"), "0|11|11");
    assert_eq!(a.file().wal_frames().uncopied, 0);
    fixture.check();
}

#[test]
fn no_reader_of_the_database_file_alone_is_parked() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.run("PRAGMA wal_checkpoint(TRUNCATE)");
    a.begin_lease();
    // It reads with READ0.
    assert_eq!(a.row("SELECT count(*) FROM r"), "0");
    assert_eq!(outsider.run("INSERT INTO r VALUES (1)"), "ok");
    assert_eq!(outsider.run("PRAGMA wal_checkpoint(RESTART)"), "0|1|1");
    assert!(a.file().is_leased());
    a.write();
    assert_eq!(a.row("SELECT count(*) FROM r"), "2");
    a.file().end_lease();
    fixture.check();
}

#[test]
fn the_wal_is_restarted_in_a_lease() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    a.begin_lease();
    let mut longest = 0;
    for _ in 0..20 {
        (0..10).for_each(|_| a.write());
        a.run("PRAGMA wal_checkpoint(PASSIVE)");
        longest = longest.max(a.file().wal_frames().all);
        assert!(a.file().is_leased());
    }
    assert!(longest <= 12, "{longest} frames");
    // A sibling copies all but what the parked mark holds back.
    for _ in 0..5 {
        (0..10).for_each(|_| a.write());
        b.run("PRAGMA wal_checkpoint(PASSIVE)");
    }
    assert_eq!(a.row("SELECT count(*) FROM r"), "250");
    a.file().end_lease();
    fixture.check();
}

// ---- checkpoints -----------------------------------------------------------------------------

#[test]
fn its_own_checkpoints_are_complete() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    for mode in CHECKPOINTS {
        a.begin_lease();
        (0..5).for_each(|_| a.write());
        let [busy, frames, copied] = checkpoint(&a, mode);
        assert_eq!((busy, frames), (0, copied), "{mode}");
        // It goes on with the lease.
        a.write();
        assert!(!outsider.can_write(), "{mode}");
        a.file().end_lease();
        assert!(outsider.can_write(), "{mode}");
    }
    fixture.check();
}

#[test]
fn a_siblings_checkpoints_end_the_lease_where_they_need_more() {
    let fixture = LeaseFixture::new();
    let (a, b) = (fixture.open(), fixture.open());
    for mode in CHECKPOINTS {
        a.begin_lease();
        (0..5).for_each(|_| a.write());
        let [busy, frames, copied] = checkpoint(&b, mode);
        let is_passive = mode == "PASSIVE";
        assert_eq!((busy, frames == copied), (0, !is_passive), "{mode}");
        assert_eq!(a.file().is_leased(), is_passive, "{mode}");
        a.file().end_lease();
    }
    fixture.check();
}

#[test]
fn checkpoints_of_other_processes_wait_for_the_end_of_the_lease() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    for mode in CHECKPOINTS {
        a.begin_lease();
        (0..5).for_each(|_| a.write());
        let sql = format!("PRAGMA wal_checkpoint({mode})");
        let early = outsider.run(&sql);
        let is_passive = mode == "PASSIVE";
        assert_eq!(early.starts_with("0|"), is_passive, "{mode}: {early}");
        a.write();
        a.file().end_lease();
        let late = outsider.run(&sql);
        let numbers: Vec<_> = late.split('|').collect();
        assert_eq!((numbers[0], numbers[1]), ("0", numbers[2]), "{mode}");
    }
    fixture.check();
}

fn checkpoint(connection: &LeaseConnection, mode: &str) -> [i32; 3] {
    let sql = format!("PRAGMA wal_checkpoint({mode})");
    let row = |row: &rusqlite::Row<'_>| Ok([row.get(0)?, row.get(1)?, row.get(2)?]);
    connection.query_row(&sql, [], row).unwrap()
}

// ---- recovery -----------------------------------------------------------------------------------

#[test]
fn a_killed_writer_leaves_what_it_committed_and_no_lock() {
    for in_transaction in [false, true] {
        let fixture = LeaseFixture::new();
        let mut args = vec![fixture.path().into_os_string()];
        args.extend(in_transaction.then(|| "in transaction".into()));
        let mut writer = Peer::start("lease", &args);
        writer.expect("written");
        let mut outsider = fixture.outsider();
        assert!(!outsider.can_write());
        writer.kill();
        assert!(outsider.can_write());
        assert_eq!(outsider.run("SELECT count(*) FROM r"), "1");
        assert_eq!(outsider.run("SELECT count(*) FROM big"), "0");
        let a = fixture.open();
        a.begin_lease_and_write();
        a.file().end_lease();
        fixture.check();
    }
}

#[test]
fn a_lost_or_damaged_index_is_recovered_in_a_lease() {
    for garbage in [None, Some(vec![0x5A; 32768]), Some(vec![0; 136])] {
        let fixture = LeaseFixture::new();
        let mut writer = Peer::start("lease", [fixture.path()]);
        writer.expect("written");
        writer.kill();
        let index = fixture.other_path("lease.db-shm");
        match &garbage {
            None => fs::remove_file(&index).unwrap(),
            Some(garbage) => fs::write(&index, garbage).unwrap(),
        }
        let a = fixture.open();
        assert_eq!(a.row("SELECT count(*) FROM r"), "1");
        a.begin_lease_and_write();
        a.file().end_lease();
        fixture.check();
    }
}

#[test]
fn a_header_that_is_damaged_during_a_lease_is_recovered_by_the_leaseholder() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    a.begin_lease();
    (0..3).for_each(|_| a.write());
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "3");
    let index = fixture.other_path("lease.db-shm");
    let index = fs::OpenOptions::new().write(true).open(index).unwrap();
    raw_file::write_at(&index, &[0x5A; 96], 0).unwrap();
    // Others would wait for the end of the lease.
    a.write();
    assert_eq!(a.row("SELECT count(*) FROM r"), "4");
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "4");
    a.file().end_lease();
    assert!(outsider.can_write());
    // And by another process, once the lease has ended.
    raw_file::write_at(&index, &[0x5A; 96], 0).unwrap();
    assert_eq!(outsider.run("INSERT INTO r VALUES (1)"), "ok");
    a.begin_lease_and_write();
    a.file().end_lease();
    fixture.check();
}

// ---- the database file's own locks ----------------------------------------------------------------

#[test]
fn the_journal_mode_is_switched_in_a_lease_and_back() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    for _ in 0..3 {
        a.begin_lease_and_write();
        assert_eq!(a.row("PRAGMA journal_mode = DELETE"), "delete");
        assert!(!a.file().is_leased());
        assert!(!fixture.other_path("lease.db-wal").exists());
        // Without an index of a WAL, there is no lease.
        assert!(!a.file().begin_lease());
        assert_eq!(a.file().wal_frames().all, 0);
        a.write();
        assert!(fixture.outsider().can_write());
        assert_eq!(a.row("PRAGMA journal_mode = WAL"), "wal");
        // The first transaction opens the WAL.
        assert!(!a.file().begin_lease());
        a.write();
        a.begin_lease_and_write();
        assert!(!fixture.outsider().can_write());
    }
    a.file().end_lease();
    fixture.check();
}

#[test]
fn the_journal_mode_is_not_switched_while_others_have_the_database_open() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "0");
    a.begin_lease_and_write();
    assert_eq!(or_busy(row_of(&a, "PRAGMA journal_mode = DELETE")), "busy");
    a.begin_lease_and_write();
    a.file().end_lease();
    assert!(outsider.can_write());
    fixture.check();
}

#[test]
fn exclusive_mode_begins_in_a_lease_and_ends() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    a.begin_lease_and_write();
    a.run("PRAGMA locking_mode = EXCLUSIVE");
    a.write();
    assert!(!a.file().is_leased());
    // It may have a lease, with nothing in it.
    a.begin_lease_and_write();
    let mut outsider = fixture.outsider();
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "busy");
    a.run("PRAGMA locking_mode = NORMAL");
    a.write();
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "4");
    a.file().end_lease();
    assert!(outsider.can_write());
    a.begin_lease_and_write();
    assert!(!outsider.can_write());
    a.file().end_lease();
    fixture.check();
}

#[test]
fn exclusive_mode_is_refused_while_others_have_the_database_open() {
    let fixture = LeaseFixture::new();
    let (a, mut outsider) = (fixture.open(), fixture.outsider());
    assert_eq!(outsider.run("SELECT count(*) FROM r"), "0");
    a.begin_lease_and_write();
    a.run("PRAGMA locking_mode = EXCLUSIVE");
    let refused = or_busy(row_of(&a, "INSERT INTO r VALUES (1)"));
    assert_eq!(refused, "busy");
    a.run("PRAGMA locking_mode = NORMAL");
    assert_eq!(a.row("SELECT count(*) FROM r"), "1");
    assert!(outsider.can_write());
    a.begin_lease_and_write();
    a.file().end_lease();
    // SQLite 3.40 keeps new connections out until this one is closed.
    a.close();
    fixture.check();
}

#[test]
fn a_connection_that_opens_in_exclusive_mode_has_no_lease() {
    let fixture = LeaseFixture::new();
    let connection = open_with(fixture.path(), Some(penholder_vfs::NAME)).unwrap();
    row_of(&connection, "PRAGMA locking_mode = EXCLUSIVE").unwrap();
    // The index of the WAL is in memory of its own.
    let a = LeaseConnection::new(connection);
    assert!(!a.file().begin_lease());
    a.write();
    a.run("PRAGMA locking_mode = NORMAL");
    a.close();
    fixture.check();
}

#[test]
fn an_index_that_can_only_be_read_gives_no_lease() {
    let fixture = LeaseFixture::new();
    let mut outsider = fixture.outsider();
    assert_eq!(outsider.run("INSERT INTO r VALUES (1)"), "ok");
    let uri = format!("file:{}?readonly_shm=1", fixture.path().to_str().unwrap());
    let reader = LeaseConnection::new(open_with(uri, Some(penholder_vfs::NAME)).unwrap());
    assert_eq!(reader.row("SELECT count(*) FROM r"), "1");
    assert!(!reader.file().begin_lease());
    assert_eq!(outsider.run("INSERT INTO r VALUES (1)"), "ok");
    assert_eq!(reader.row("SELECT count(*) FROM r"), "2");
    assert!(!reader.file().begin_lease());
    fixture.check();
}

// ---- closing ------------------------------------------------------------------------------------------

#[test]
fn a_close_ends_the_lease_and_removes_the_wal() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    let file = a.file().clone();
    a.begin_lease_and_write();
    a.close();
    assert!(!file.is_leased());
    assert!(!fixture.other_path("lease.db-wal").exists());
    // The file may be asked until it is dropped.
    assert!(!file.begin_lease());
    file.end_lease();
    assert_eq!(file.wal_frames().all, 0);
    let gap = file.listen_for_outsiders(Duration::from_millis(2), 1);
    assert_eq!(gap, Gap::default());
    assert!(fixture.outsider().can_write());
    fixture.check();
}

#[test]
fn a_close_beside_others_leaves_them_the_locks() {
    let fixture = LeaseFixture::new();
    let (a, b, mut outsider) = (fixture.open(), fixture.open(), fixture.outsider());
    a.begin_lease_and_write();
    a.close();
    assert!(outsider.can_write());
    b.begin_lease_and_write();
    assert!(!outsider.can_write());
    fixture.open().close();
    assert!(!outsider.can_write());
    b.close();
    assert!(outsider.can_write());
    fixture.check();
}

#[test]
fn ends_from_another_thread_come_between_any_two_calls() {
    let fixture = LeaseFixture::new();
    let a = fixture.open();
    let file = a.file().clone();
    let writes = thread::scope(|scope| {
        let (stop, stopped) = mpsc::channel::<()>();
        scope.spawn(move || {
            while stopped.try_recv() != Err(TryRecvError::Disconnected) {
                file.end_lease();
                thread::sleep(Duration::from_micros(50));
            }
        });
        for _ in 0..2000 {
            a.begin_lease_and_write();
        }
        drop(stop);
        a.row("SELECT count(*) FROM r")
    });
    assert_eq!(writes, "2000");
    a.file().end_lease();
    assert!(fixture.outsider().can_write());
    fixture.check();
}

#[test]
fn a_close_does_not_unmap_what_another_thread_looks_at() {
    let fixture = LeaseFixture::new();
    for _ in 0..20 {
        let a = fixture.open();
        let words: Vec<_> = (0..MIRROR_WORDS).map(|_| AtomicU64::new(0)).collect();
        set_mirror(a.file(), &Mirror::new(Arc::new(words)).unwrap());
        a.begin_lease_and_write();
        a.file().end_lease();
        let (file, is_closed) = (a.file().clone(), AtomicBool::new(false));
        thread::scope(|scope| {
            scope.spawn(|| {
                let mut now = 1;
                while !is_closed.load(SeqCst) {
                    // Long slices, so that gaps are due.
                    file.listen_for_outsiders(Duration::from_secs(1), now);
                    let _ = file.wal_frames();
                    now += 1_000_000_000;
                }
            });
            thread::sleep(Duration::from_millis(3));
            a.close();
            is_closed.store(true, SeqCst);
        });
    }
    fixture.check();
}
