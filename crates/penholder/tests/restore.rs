//! A restore replaces the whole content in one transaction: processes that have the database
//! open go on with it, and a kill or a full disk leaves the old content or the new. A backup
//! that is no good is refused before anything changes.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use penholder::{Database, OpenOptions, Query, Result, params};
use penholder_core::failpoint;
use penholder_testkit::database_fixture::{self, DatabaseFixture};
use penholder_testkit::peer::{self, Peer};
#[cfg(unix)]
use penholder_testkit::tmpfs;
use penholder_testkit::{plain_sqlite, raw_file, requirement, wait};
use rusqlite::Connection;

#[test]
fn peer() {
    peer::run_role(&[
        ("go_on", go_on),
        ("hold_snapshot", hold_snapshot),
        ("hold_transaction", database_fixture::hold_transaction),
        ("restore", restore),
        #[cfg(unix)]
        ("restore_on_a_small_disk", restore_on_a_small_disk),
        #[cfg(unix)]
        (
            "restore_without_room_for_the_copy",
            restore_without_room_for_the_copy,
        ),
        ("restore_repeatedly", restore_repeatedly),
        ("write_pairs", write_pairs),
    ]);
}

/// Returns how many rows the table `entry` has with this key.
fn count(db: &Database, key: i64) -> i64 {
    db.query_scalar("SELECT count(*) FROM entry WHERE key = ?1", [key])
        .unwrap()
}

/// Replaces the rows of the table `entry` by rows with one key, of about a kilobyte each.
fn fill(db: &Database, key: i64, rows: i64) {
    let delete = std::iter::once(Query::new("DELETE FROM entry", ()));
    let insert = "INSERT INTO entry(key, text) VALUES (?1, ?2)";
    let inserts = (0..rows).map(|_| Query::new(insert, params![key, "x".repeat(1000)]));
    db.batch(delete.chain(inserts)).unwrap();
}

/// A database with rows of key 1, and a backup `backup.db` with rows of key 2.
struct Stage {
    fixture: DatabaseFixture,
    db: Database,
}

/// A part of the time that a restore takes, in milliseconds.
const RESTORE_STEP: u64 = if cfg!(windows) { 150 } else { 37 };
const OLD_ROWS: i64 = 3000;
const NEW_ROWS: i64 = 10_000;

impl Stage {
    fn new() -> Self {
        let fixture = DatabaseFixture::new();
        let db = database_fixture::open(&fixture.path());
        db.execute("CREATE TABLE entry(key, text)", ()).unwrap();
        fill(&db, 2, NEW_ROWS);
        db.backup_to(fixture.join("backup.db")).unwrap();
        fill(&db, 1, OLD_ROWS);
        db.checkpoint().unwrap();
        Self { fixture, db }
    }

    fn backup(&self) -> PathBuf {
        self.fixture.join("backup.db")
    }

    fn args(&self) -> [PathBuf; 2] {
        [self.fixture.path(), self.backup()]
    }

    /// Asserts that the content is the old one or the new one; returns whether it is the new.
    #[track_caller]
    fn is_new(&self) -> bool {
        let rows = (count(&self.db, 1), count(&self.db, 2));
        assert!(rows == (OLD_ROWS, 0) || rows == (0, NEW_ROWS), "{rows:?}");
        let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check != 'ok'";
        assert_eq!(database_fixture::number(&self.db, sql), 0);
        rows.1 > 0
    }
}

// ---- processes that have it open ---------------------------------------------------

/// Writes before a restore and after it, with one handle.
fn go_on(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    db.execute("INSERT INTO entry(key) VALUES (7)", ()).unwrap();
    peer::send("wrote");
    peer::expect("go on");
    assert_eq!((count(&db, 7), count(&db, 2)), (0, NEW_ROWS));
    db.execute("INSERT INTO entry(key) VALUES (8)", ()).unwrap();
    db.write(|tx| Ok(tx.execute("INSERT INTO entry(key) VALUES (9)", ())?))
        .unwrap();
    assert!(count(&db, 8) > 0 && count(&db, 9) > 0);
    peer::send("went on");
}

/// Keeps one snapshot from before a restore until after it.
fn hold_snapshot(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let rows = |connection: &Connection| -> Result<i64> {
        let sql = "SELECT count(*) FROM entry WHERE key = 1";
        Ok(connection.query_row(sql, [], |row| row.get(0))?)
    };
    let done = db.read(|connection| {
        assert_eq!(rows(connection)?, OLD_ROWS);
        peer::send("held");
        peer::expect("look again");
        assert_eq!(rows(connection)?, OLD_ROWS);
        Ok(())
    });
    done.unwrap();
    assert_eq!(db.read(rows).unwrap(), 0);
    peer::send("looked");
}

#[test]
fn processes_go_on_with_the_restored_content() {
    let stage = Stage::new();
    let mut writers: Vec<Peer> = (0..2)
        .map(|_| Peer::start("go_on", [stage.fixture.path()]))
        .collect();
    writers.iter().for_each(|peer| peer.expect("wrote"));
    let mut reader = database_fixture::start_holder("hold_snapshot", &stage.fixture.path());
    stage.db.restore_from(stage.backup()).unwrap();
    assert!(stage.is_new());
    assert!(stage.db.status().unwrap().holder.is_none());
    for writer in &mut writers {
        writer.send("go on");
    }
    writers.iter().for_each(|peer| peer.expect("went on"));
    reader.send("look again");
    reader.expect("looked");
    assert_eq!((count(&stage.db, 8), count(&stage.db, 9)), (2, 2));
    for mut peer in writers.into_iter().chain([reader]) {
        assert!(peer.close().success());
    }
}

/// Writes pairs, two rows in each transaction, until it is killed.
fn write_pairs(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    for number in 100.. {
        let pair = |key: i64| Query::new("INSERT INTO entry(key) VALUES (?1)", [key]);
        db.batch([pair(number), pair(-number)]).unwrap();
    }
}

#[test]
fn writers_go_on_while_it_is_restored() {
    let stage = Stage::new();
    let _peers: Vec<Peer> = (0..3)
        .map(|_| Peer::start("write_pairs", [stage.fixture.path()]))
        .collect();
    let sql = "SELECT count(*) FROM entry WHERE abs(key) >= 100";
    let pairs = || database_fixture::number(&stage.db, sql);
    for _ in 0..6 {
        wait::until("the writers", || pairs() > 200);
        stage.db.restore_from(stage.backup()).unwrap();
        let sum = "SELECT coalesce(sum(key), 0) FROM entry WHERE abs(key) >= 100";
        assert_eq!(database_fixture::number(&stage.db, sum), 0);
        assert_eq!((count(&stage.db, 1), count(&stage.db, 2)), (0, NEW_ROWS));
    }
    wait::until("the writers", || pairs() > 200);
    plain_sqlite::assert_integrity(&stage.fixture.path());
}

// ---- whatever ends it early --------------------------------------------------------

fn restore(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    peer::send("begins");
    db.restore_from(Path::new(&args[1])).unwrap();
    peer::send("restored");
}

/// Restores one backup and another, over and over.
fn restore_repeatedly(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    peer::send("begins");
    loop {
        for backup in &args[1..] {
            db.restore_from(Path::new(backup)).unwrap();
        }
    }
}

fn start_with_fault(stage: &Stage, fault: &str) -> Peer {
    let mut command = Peer::command("restore", stage.args());
    command.env(failpoint::VARIABLE, fault);
    let peer = Peer::spawn(command);
    peer.expect("begins");
    peer
}

/// Waits until the process that holds the write lock is stopped.
fn wait_until_stopped(stage: &Stage, peer: &Peer) {
    wait::until("the holder is stopped", || {
        let holder = stage.db.status().unwrap().holder;
        // On Windows only the thread at the failpoint is stopped.
        let is_stopped = cfg!(windows) && peer.has_stopped();
        holder.is_some_and(|holder| is_stopped || holder.to_string().contains("stopped"))
    });
}

#[test]
fn a_kill_at_any_step_leaves_the_old_content_or_the_new() {
    let stage = Stage::new();
    for (step, is_new) in [
        ("restore_carried_over KILL 1", false),
        ("restore_copying KILL 1", false),
        ("restore_copying KILL 2", false),
        ("restored KILL 1", true),
    ] {
        let mut peer = start_with_fault(&stage, step);
        assert!(!peer.wait().success());
        assert_eq!(stage.is_new(), is_new, "{step}");
        fill(&stage.db, 1, OLD_ROWS);
    }
}

#[test]
fn a_kill_at_a_random_moment_leaves_the_old_content_or_the_new() {
    let stage = Stage::new();
    let old = stage.fixture.join("old.db");
    stage.db.backup_to(&old).unwrap();
    let mut seen = [false; 2];
    for round in 0..20 {
        let args = [stage.fixture.path(), stage.backup(), old.clone()];
        let mut peer = Peer::start("restore_repeatedly", args);
        peer.expect("begins");
        thread::sleep(Duration::from_millis(RESTORE_STEP * (round % 10) + 11));
        peer.kill();
        seen[usize::from(stage.is_new())] = true;
        database_fixture::open(&stage.fixture.path())
            .execute("UPDATE entry SET text = text WHERE rowid = 1", ())
            .unwrap();
    }
    assert_eq!(seen, [true; 2], "both contents are seen");
}

#[test]
fn others_read_the_old_content_while_it_is_stopped() {
    let stage = Stage::new();
    let peer = start_with_fault(&stage, "restore_copying STOP 1");
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(stage.fixture.path()).unwrap();
    wait_until_stopped(&stage, &peer);
    let pid = db.status().unwrap().holder.unwrap().pid;
    assert_eq!(pid, Some(peer.pid()));
    assert!(!stage.is_new());
    let error = db.execute("DELETE FROM entry", ()).unwrap_err();
    assert!(error.is_timeout() && error.holder().is_some(), "{error}");
    peer.signal("CONT");
    peer.expect("restored");
    assert!(stage.is_new());
    database_fixture::open(&stage.fixture.path())
        .execute("DELETE FROM entry", ())
        .unwrap();
}

#[cfg(unix)]
#[test]
fn a_database_that_is_replaced_meanwhile_is_not_called_restored() {
    let stage = Stage::new();
    let other = stage.fixture.join("other.db");
    make(&other, "CREATE TABLE other(a)");
    let mut peer = start_with_fault(&stage, "restore_copying STOP 1");
    wait_until_stopped(&stage, &peer);
    raw_file::replace(&stage.fixture.path(), &other);
    peer.signal("CONT");
    assert!(!peer.wait().success());
}

#[cfg(unix)]
fn restore_on_a_small_disk(args: &[OsString]) {
    let stage = Stage::new();
    let path = Path::new(&args[0]).join("x.db");
    let db = database_fixture::open(&path);
    db.execute("CREATE TABLE entry(key, text)", ()).unwrap();
    fill(&db, 1, 100);
    let error = db.restore_from(stage.backup()).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert_eq!((count(&db, 1), count(&db, 2)), (100, 0));
    assert!(db.status().unwrap().holder.is_none());
    fill(&db, 3, 100);
    assert_eq!(count(&db, 3), 100);
    drop(db);
    plain_sqlite::assert_integrity(&path);
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_full_disk_leaves_the_old_content() {
    tmpfs::play("restore_on_a_small_disk", "6m");
}

#[cfg(unix)]
fn restore_without_room_for_the_copy(args: &[OsString]) {
    let stage = Stage::new();
    let mut command = Peer::command("restore", stage.args());
    command
        .env("TMPDIR", &args[0])
        .env("SQLITE_TMPDIR", &args[0]);
    let output = command.output().unwrap();
    let text = [output.stdout, output.stderr].concat();
    let text = String::from_utf8_lossy(&text);
    assert!(
        text.contains("set TMPDIR to a directory with room"),
        "{text}"
    );
    assert!(!stage.is_new());
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn no_room_for_the_copy_is_said() {
    tmpfs::play("restore_without_room_for_the_copy", "1m");
}

// ---- waiting -----------------------------------------------------------------------

#[test]
fn it_waits_for_the_write_lock() {
    let stage = Stage::new();
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(stage.fixture.path()).unwrap();
    let locker = OpenOptions::new().locker(stage.fixture.path()).unwrap();
    let guard = locker.acquire(database_fixture::LONG_TIMEOUT).unwrap();
    // On another thread, because on this one it would be nested.
    let error = thread::scope(|scope| {
        let restoring = scope.spawn(|| db.restore_from(stage.backup()));
        restoring.join().unwrap().unwrap_err()
    });
    assert!(error.is_timeout(), "{error}");
    assert!(error.to_string().contains("after 200ms"), "{error}");
    guard.release().unwrap();
    db.restore_from(stage.backup()).unwrap();
}

#[test]
fn it_waits_for_a_writer_without_the_lock() {
    if !requirement::names_holders() {
        return;
    }
    let stage = Stage::new();
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(stage.fixture.path()).unwrap();
    let Some(outsider) = plain_sqlite::outsider(&stage.fixture.path()) else {
        return;
    };
    let error = db.restore_from(stage.backup()).unwrap_err();
    assert!(error.is_sqlite_busy(), "{error}");
    assert_eq!(error.unlocked_writer().unwrap().pid, outsider.pid());
    assert!(!stage.is_new());
}

#[test]
fn it_does_not_nest() {
    let stage = Stage::new();
    let nested = stage.db.write(|_| stage.db.restore_from(stage.backup()));
    assert!(nested.unwrap_err().is_nested());
    let read_only = database_fixture::options().read_only(true);
    let read_only = read_only.open(stage.fixture.path()).unwrap();
    read_only.restore_from(stage.backup()).unwrap_err();
    assert!(!stage.is_new());
}

// ---- the batch table ---------------------------------------------------------------

const CREATE_BATCHES: &str = "CREATE TABLE _penholder_batch(\
     seq INTEGER PRIMARY KEY, id BLOB NOT NULL, carried BLOB NOT NULL)";

fn batches(db: &Database) -> Vec<i64> {
    let rows = db.query_as::<(i64,)>("SELECT seq FROM _penholder_batch ORDER BY seq", ());
    rows.unwrap().into_iter().map(|(seq,)| seq).collect()
}

fn add_batch(db: &Database, seq: i64) {
    let sql = "INSERT INTO _penholder_batch VALUES (?1, x'01', x'02')";
    db.execute(sql, [seq]).unwrap();
}

#[test]
fn the_batch_table_does_not_go_back_in_time() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.execute(CREATE_BATCHES, ()).unwrap();
    let add = |seq| add_batch(&db, seq);
    add(1);
    db.backup_to(fixture.join("one.db")).unwrap();
    (2..=40).for_each(add);
    db.execute("DELETE FROM _penholder_batch WHERE seq <= 3", ())
        .unwrap();
    db.restore_from(fixture.join("one.db")).unwrap();
    assert_eq!(batches(&db), (4..=40).collect::<Vec<_>>());
    // Without one, the rows of the backup mean nothing.
    db.execute("DROP TABLE _penholder_batch", ()).unwrap();
    db.restore_from(fixture.join("one.db")).unwrap();
    let sql = "SELECT count(*) FROM sqlite_schema WHERE name = '_penholder_batch'";
    assert_eq!(database_fixture::number(&db, sql), 0);
    db.backup_to(fixture.join("none.db")).unwrap();
    db.execute(CREATE_BATCHES, ()).unwrap();
    add(9);
    db.restore_from(fixture.join("none.db")).unwrap();
    assert_eq!(batches(&db), [9]);
}

/// A process that does not know of the lock, because `db.lock` was deleted, may execute requests
/// until SQLite's own lock is taken.
#[test]
fn a_batch_of_the_last_moment_is_not_forgotten() {
    let stage = Stage::new();
    stage.db.execute(CREATE_BATCHES, ()).unwrap();
    add_batch(&stage.db, 1);
    let peer = start_with_fault(&stage, "restore_carried_over STOP 1");
    wait_until_stopped(&stage, &peer);
    // Another process, because closing this connection would drop our locks.
    let Some(mut shell) = plain_sqlite::shell(&stage.fixture.path()) else {
        return;
    };
    shell.send("INSERT INTO _penholder_batch VALUES (2, x'01', x'02') RETURNING 'added';");
    shell.expect("added");
    peer.signal("CONT");
    peer.expect("restored");
    assert!(stage.is_new());
    assert_eq!(batches(&stage.db), [1, 2]);
}

#[test]
fn requests_before_a_lost_batch_table_are_unknown() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.backup_to(fixture.join("backup.db")).unwrap();
    db.execute(CREATE_BATCHES, ()).unwrap();
    add_batch(&db, 5);
    let sql = "SELECT rootpage FROM sqlite_schema WHERE name = '_penholder_batch'";
    let page = database_fixture::number(&db, sql);
    drop(db);
    let mut bytes = fs::read(fixture.path()).unwrap();
    let start = (usize::try_from(page).unwrap() - 1) * 4096;
    bytes[start..start + 4096].fill(0xff);
    fs::write(fixture.path(), bytes).unwrap();
    let db = database_fixture::open(&fixture.path());
    db.restore_from(fixture.join("backup.db")).unwrap();
    let [number] = batches(&db)[..] else {
        panic!("{:?}", batches(&db));
    };
    assert!(number > 1_000_000_000_000_000_000, "{number}");
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}

// ---- what comes over ---------------------------------------------------------------

/// Makes a database with plain SQLite.
fn make(path: &Path, sql: &str) {
    plain_sqlite::open(path).execute_batch(sql).unwrap();
}

#[test]
fn settings_in_the_file_come_over() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let other = fixture.join("other.db");
    for page_size in [4096, 1024, 65_536] {
        make(
            &other,
            &format!(
                "PRAGMA page_size={page_size}; PRAGMA auto_vacuum=INCREMENTAL; \
                 CREATE TABLE entry(key); CREATE INDEX by_key ON entry(key); \
                 PRAGMA application_id=77; PRAGMA user_version=5; \
                 WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 5000) \
                 INSERT INTO entry SELECT a FROM n"
            ),
        );
        db.restore_from(&other).unwrap();
        let pragma = |name: &str| database_fixture::number(&db, &format!("PRAGMA {name}"));
        assert_eq!(pragma("application_id"), 77);
        assert_eq!(pragma("user_version"), 5);
        assert_eq!(pragma("auto_vacuum"), 2);
        assert_eq!(pragma("page_size"), 4096);
        assert_eq!(database_fixture::count_entries(&db), 5000);
        // The connection that was open keeps what auto_vacuum needs.
        db.execute("DELETE FROM entry WHERE key % 3", ()).unwrap();
        db.execute(
            "INSERT INTO entry SELECT hex(randomblob(500)) FROM entry",
            (),
        )
        .unwrap();
        let sql = "SELECT count(*) FROM pragma_integrity_check WHERE integrity_check != 'ok'";
        assert_eq!(database_fixture::number(&db, sql), 0);
        fs::remove_file(&other).unwrap();
    }
    let backups = fixture.file_names().into_iter();
    assert_eq!(backups.filter(|name| name.contains("restore-")).count(), 0);
}

#[test]
fn another_encoding_needs_an_empty_database() {
    let fixture = DatabaseFixture::new();
    let other = fixture.join("other.db");
    make(
        &other,
        "PRAGMA encoding='UTF-16le'; CREATE TABLE entry(key); INSERT INTO entry VALUES ('ü')",
    );
    let db = database_fixture::open(&fixture.path());
    let open_too = database_fixture::open(&fixture.path());
    db.restore_from(&other).unwrap();
    assert_eq!(database_fixture::keys(&open_too), ["ü"]);
    database_fixture::insert(&open_too, "ö").unwrap();
    db.restore_from(&other).unwrap();
    assert_eq!(database_fixture::keys(&open_too), ["ü"]);
    let utf8 = fixture.join("utf8.db");
    make(&utf8, "CREATE TABLE entry(key)");
    let error = db.restore_from(&utf8).unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(error.to_string().contains("UTF-16le"), "{error}");
    assert_eq!(database_fixture::keys(&db), ["ü"]);
}

#[test]
fn the_wal_of_a_backup_is_read_with_it() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let other = DatabaseFixture::new();
    let source = other.database();
    source.checkpoint().unwrap();
    database_fixture::insert(&source, "in the WAL").unwrap();
    db.restore_from(other.path()).unwrap();
    assert_eq!(database_fixture::keys(&db), ["in the WAL"]);
}

#[cfg(unix)]
#[test]
fn a_missing_database_is_created() {
    let stage = Stage::new();
    let path = stage.fixture.join("new.db");
    let restore = || database_fixture::options().restore(&path, stage.fixture.join("nothing.db"));
    assert!(restore().unwrap_err().is_refused());
    assert!(!path.exists(), "nothing is created");
    // The backup is protected against its own owner.
    for (backup_mode, expected) in [(0o640, 0o640), (0o440, 0o640)] {
        let permissions = fs::Permissions::from_mode(backup_mode);
        fs::set_permissions(stage.backup(), permissions).unwrap();
        let db = database_fixture::options().restore(&path, stage.backup());
        let db = db.unwrap();
        assert_eq!(count(&db, 2), NEW_ROWS);
        for suffix in ["", "-wal", "-shm"] {
            let file = database_fixture::with_suffix(&path, suffix);
            let mode = fs::metadata(file).unwrap().mode() & 0o777;
            assert_eq!(mode, expected, "as private as the backup: {suffix}");
        }
        drop(db);
        fs::remove_file(&path).unwrap();
    }
    let db = database_fixture::options().restore(stage.fixture.path(), stage.backup());
    assert_eq!(count(&db.unwrap(), 2), NEW_ROWS);
}

/// As everywhere else, such an object is not in the way.
#[test]
fn another_object_with_the_name_of_the_batch_table_is_no_obstacle() {
    for sql in [
        "CREATE VIEW _penholder_batch AS SELECT 1 AS one",
        "CREATE TABLE _penholder_batch(seq INTEGER PRIMARY KEY, id TEXT, carried UNIQUE)",
        "CREATE TABLE _penholder_batch(seq INTEGER PRIMARY KEY, id BLOB NOT NULL, carried BLOB NOT NULL); \
         INSERT INTO _penholder_batch VALUES (1, 'text', 7)",
    ] {
        for is_in_backup in [false, true] {
            let stage = Stage::new();
            if is_in_backup {
                plain_sqlite::open(&stage.backup())
                    .execute_batch(sql)
                    .unwrap();
            } else {
                let write = |connection: &Connection| Ok(connection.execute_batch(sql)?);
                stage.db.with_write_lock(write).unwrap();
            }
            stage.db.restore_from(stage.backup()).unwrap();
            assert_eq!(count(&stage.db, 2), NEW_ROWS, "{sql}");
        }
    }
}

#[test]
fn functions_of_the_program_are_used_for_the_check() {
    let fixture = DatabaseFixture::new();
    let hook =
        |connection: &Connection, _| connection.create_collation("reversed", |a, b| b.cmp(a));
    let options = || database_fixture::options().connection_hook(hook);
    let db = options().open(fixture.path()).unwrap();
    db.execute("CREATE TABLE entry(key COLLATE reversed PRIMARY KEY)", ())
        .unwrap();
    database_fixture::insert(&db, "a").unwrap();
    database_fixture::insert(&db, "b").unwrap();
    let backup = fixture.join("backup.db");
    db.backup_to(&backup).unwrap();
    db.execute("DELETE FROM entry", ()).unwrap();
    let without = database_fixture::open(&fixture.path());
    let error = without.restore_from(&backup).unwrap_err();
    assert!(error.to_string().contains("reversed"), "{error}");
    assert!(error.to_string().contains("connection_hook"), "{error}");
    assert_eq!(database_fixture::count_entries(&db), 0);
    db.restore_from(&backup).unwrap();
    assert_eq!(database_fixture::count_entries(&db), 2);
}

// ---- what is refused ---------------------------------------------------------------

#[test]
fn a_backup_that_is_no_good_is_refused() {
    let stage = Stage::new();
    let good = fs::read(stage.backup()).unwrap();
    let file = |name: &str, bytes: &[u8]| {
        let path = stage.fixture.join(name);
        fs::write(&path, bytes).unwrap();
        path
    };
    let mut corrupt = good.clone();
    corrupt[3 * 4096..5 * 4096].fill(0x5a);
    let path = stage.fixture.path();
    let [link, hard_link] = ["link.db", "hard.db"].map(|name| stage.fixture.join(name));
    let is_linked = raw_file::link(&path, &link);
    let wal = database_fixture::with_suffix(&path, "-wal");
    let shm = database_fixture::with_suffix(&path, "-shm");
    for (backup, why) in [
        (stage.fixture.join("nothing.db"), "there is no such file"),
        (stage.fixture.directory(), "it is a directory"),
        (file("empty.db", b""), "it is empty"),
        (
            file("text.db", &b"no database ".repeat(1000)),
            "it is not a database",
        ),
        (
            file("half.db", &good[..good.len() / 2 / 4096 * 4096]),
            "it is corrupt",
        ),
        (file("cut.db", &good[..good.len() - 100]), "it is cut off"),
        (file("corrupt.db", &corrupt), "it is corrupt"),
        (path.clone(), "it is the database itself"),
        (link, "it is the database itself"),
        (wal, "it belongs to the database"),
        (shm, "it belongs to the database"),
        (":memory:".into(), "a database in memory"),
        ("".into(), "the name is empty"),
    ] {
        if !is_linked && backup.ends_with("link.db") {
            continue;
        }
        let error = stage.db.restore_from(&backup).unwrap_err();
        assert!(error.is_refused(), "{backup:?}: {error}");
        let text = error.to_string();
        assert!(
            text.starts_with("restore: ") && text.contains(why),
            "{text}"
        );
        assert!(!stage.is_new());
    }
    fs::hard_link(&path, &hard_link).unwrap();
    let error = stage.db.restore_from(&hard_link).unwrap_err();
    assert!(
        error.to_string().contains("it is the database itself"),
        "{error}"
    );
    stage
        .db
        .execute("INSERT INTO entry(key) VALUES (1)", ())
        .unwrap();
}
