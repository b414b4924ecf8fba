//! SQLite's own locks stay in force: a process that has a database open never opens and
//! closes its files without SQLite, because that would drop its POSIX locks.
#![cfg(test)]
#![cfg(unix)] // they belong to a process only on Unix

use std::collections::{BTreeMap, BTreeSet};
use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::time::Duration;

use penholder::lock::{Process, WriteLocker};
use penholder::{Database, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::lock_fixture::{self, LONG_TIMEOUT, LockPeer};
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, requirement, wait};
use rusqlite::ErrorCode;

#[test]
fn peer() {
    peer::run_role(&[
        ("examine_in_transaction", examine_in_transaction),
        ("examine_at_rest", examine_at_rest),
        ("hold_transaction", database_fixture::hold_transaction),
        lock_fixture::LOCK_PEER_ROLE,
    ]);
}

/// Runs everything that examines a database or touches its files, except writing.
fn examine(db: &Database) {
    let path = db.path().to_owned();
    db.status().unwrap();
    assert!(db.warnings().is_empty());
    WriteLocker::at(db.lock_file()).unwrap().holder().unwrap();
    let _ = Process::with_posix_lock(&database_fixture::with_suffix(&path, "-shm"), 120);
    let link = path.with_file_name("link.db");
    let _ = fs::remove_file(&link);
    std::os::unix::fs::symlink(&path, &link).unwrap();
    for path in [&path, &link] {
        database_fixture::count_entries(&database_fixture::open(path));
        drop(Database::open(path).unwrap());
        let reader = OpenOptions::new().read_only(true).open(path).unwrap();
        database_fixture::count_entries(&reader);
    }
    Database::open(path.join("below")).unwrap_err();
    let copy = path.with_file_name("copy.db");
    let _ = fs::remove_file(&copy);
    db.backup_to(&copy).unwrap();
    db.backup_to(&copy).unwrap_err();
    db.backup_to(&path).unwrap_err();
    db.migrate(&[]).unwrap();
}

/// Examines the database inside a transaction, and then waits.
fn examine_in_transaction(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('ours')", [])?;
        examine(&db);
        // A nested write fails, and must not drop a lock either.
        database_fixture::insert(&db, "nested").unwrap_err();
        peer::send("examined");
        peer::expect("release");
        Ok(())
    });
    done.unwrap();
    peer::send("released");
    peer::expect("end");
}

/// The first byte that a connection locks in the database (`SHARED_FIRST`), and the byte
/// of the `-shm` file that shows that it is in use (`UNIX_SHM_DMS`).
const SHARED: u64 = 0x4000_0002;
const DMS: u64 = 128;

/// Returns whether the kernel lists a process's POSIX lock on a file from this byte on.
///
/// New versions of SQLite check only one of the two bytes, old ones only the other.
fn holds(peer: &Peer, path: &Path, byte: u64) -> bool {
    let inode = fs::metadata(path).unwrap().ino();
    let wanted = format!(" {} ", peer.pid());
    let place = format!(":{inode} {byte} ");
    // A read of the table may miss a line, but it never contains a wrong one.
    (0..200).any(|_| {
        let locks = fs::read_to_string("/proc/locks").unwrap();
        locks
            .lines()
            .any(|line| line.contains("POSIX") && line.contains(&wanted) && line.contains(&place))
    })
}

/// Asserts that plain SQLite in another process finds the write lock held.
fn assert_locked(path: &Path) {
    let plain = plain_sqlite::open(path);
    plain.busy_timeout(Duration::ZERO).unwrap();
    let error = plain.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    assert_eq!(error.sqlite_error_code(), Some(ErrorCode::DatabaseBusy));
    if let Some(mut shell) = plain_sqlite::shell(path) {
        shell.send("INSERT INTO entry VALUES ('theirs'); SELECT 'tried';");
        let error = shell.read_line();
        assert!(error.contains("locked"), "{error}");
    }
}

#[test]
fn examining_keeps_the_write_lock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = Peer::start("examine_in_transaction", [fixture.path()]);
    peer.expect("examined");
    let shm = database_fixture::with_suffix(&fixture.path(), "-shm");
    let owner = Process::with_posix_lock(&shm, 120).map(|owner| owner.pid);
    assert_eq!(owner, requirement::NAMES_HOLDERS.then_some(peer.pid()));
    assert_locked(&fixture.path());
    peer.send("release");
    peer.expect("released");
    let plain = plain_sqlite::open(&fixture.path());
    plain
        .execute_batch("INSERT INTO entry VALUES ('theirs')")
        .unwrap();
    drop(plain);
    peer.send("end");
    assert!(peer.close().success());
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        ["ours", "theirs"]
    );
    plain_sqlite::assert_integrity(&fixture.path());
}

/// On macOS one table has all locks on a file, so such a file could not be locked there: see
/// `sys/macos_rules` of `penholder-core`, which runs the other tests with one table.
#[test]
fn no_file_has_a_flock_and_a_lock_on_its_bytes() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    database_fixture::insert(&db, "first").unwrap();
    let lock_file = db.lock_file();
    let mut lender = LockPeer::holding(&lock_file);
    let mut child = lender.lend();
    child.acquire();
    let mut waiter = LockPeer::start(&lock_file);
    waiter.enqueue(&lock_file, LONG_TIMEOUT);
    let (mut seen, mut readings) = (BTreeMap::<String, BTreeSet<String>>::new(), 0);
    let is_complete = || {
        readings += 1;
        add_locks(&fixture, &mut seen);
        let kinds: BTreeSet<_> = seen.values().flatten().map(String::as_str).collect();
        // A read of the table may miss a line.
        readings > 20 && kinds == BTreeSet::from(["FLOCK", "OFDLCK", "POSIX"])
    };
    wait::until("each kind of lock is seen", is_complete);
    let suffixes = ["lock", "lockh", "lockq", "-shm"];
    let is_seen = |suffix: &&str| seen.keys().any(|file| file.ends_with(suffix));
    assert!(suffixes.iter().all(is_seen), "{seen:?}");
    for (file, kinds) in &seen {
        assert!(
            !kinds.contains("FLOCK") || kinds.len() == 1,
            "{file}: {seen:?}"
        );
    }
}

/// Adds the kinds of the locks that are on the files of a directory now.
fn add_locks(fixture: &DatabaseFixture, seen: &mut BTreeMap<String, BTreeSet<String>>) {
    let table = fs::read_to_string("/proc/locks").unwrap();
    for entry in fixture
        .path()
        .parent()
        .unwrap()
        .read_dir()
        .unwrap()
        .flatten()
    {
        let inode = format!(":{} ", entry.metadata().unwrap().ino());
        for line in table.lines().filter(|line| line.contains(&inode)) {
            let kind = line
                .split_ascii_whitespace()
                .find(|word| word.ends_with("LCK") || word.ends_with("LOCK") || *word == "POSIX");
            let name = entry.file_name().to_string_lossy().into_owned();
            seen.entry(name)
                .or_default()
                .extend(kind.map(str::to_owned));
        }
    }
}

/// Keeps the database open without a transaction, and examines it.
fn examine_at_rest(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, "before").unwrap();
    examine(&db);
    peer::send("examined");
    peer::expect("write");
    database_fixture::insert(&db, "after").unwrap();
    peer::send("wrote");
    peer::expect("end");
}

#[test]
fn examining_keeps_the_wal() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = Peer::start("examine_at_rest", [fixture.path()]);
    peer.expect("examined");
    let wal = database_fixture::with_suffix(&fixture.path(), "-wal");
    let inode = fs::metadata(&wal).unwrap().ino();
    assert!(holds(&peer, &fixture.path(), SHARED), "on the database");
    assert!(holds(
        &peer,
        &database_fixture::with_suffix(&fixture.path(), "-shm"),
        DMS
    ));
    // If the plain connection were the only one, it would switch to another journal, and
    // its close would delete the WAL.
    let plain = plain_sqlite::open(&fixture.path());
    plain.busy_timeout(Duration::ZERO).unwrap();
    let switch = plain.pragma_update_and_check(None, "journal_mode", "DELETE", |row| {
        row.get::<_, String>(0)
    });
    assert!(switch.is_err(), "{switch:?}");
    drop(plain);
    assert_eq!(fs::metadata(&wal).unwrap().ino(), inode);
    peer.send("write");
    peer.expect("wrote");
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        ["after", "before"]
    );
    peer.send("end");
    assert!(peer.close().success());
}

#[test]
fn the_last_close_removes_the_wal() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let second = fixture.database();
    database_fixture::insert(&db, "1").unwrap();
    drop(db);
    assert!(fixture.file_names().contains(&"x.db-wal".to_owned()));
    drop(second);
    assert_eq!(fixture.file_names(), ["db.lock", "db.lockq", "x.db"]);
    assert_eq!(database_fixture::keys(&fixture.database()), ["1"]);
}

#[test]
fn closing_does_not_wait_for_a_holder() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    database_fixture::insert(&db, "1").unwrap();
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let ((), took) = wait::timed(|| drop(db));
    assert!(took < database_fixture::PROMPT, "{took:?}");
    holder.send("release");
    holder.expect("released");
    holder.send("end");
    assert!(holder.close().success());
    assert_eq!(database_fixture::keys(&fixture.database()), ["1", "held"]);
}
