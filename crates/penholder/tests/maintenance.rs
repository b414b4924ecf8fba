//! Checkpoint, vacuum and migration take the write lock and wait for no reader. A backup
//! takes no lock and is a consistent snapshot.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::Path;
use std::time::Duration;

use penholder::{Database, Migrated, OpenOptions, Query, Result, params};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::tmpfs;
use penholder_testkit::{database_fixture, peer, plain_sqlite, requirement, wait};

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_transaction", database_fixture::hold_transaction),
        ("hold_snapshot", hold_snapshot),
        ("write_pairs", write_pairs),
        #[cfg(unix)]
        ("back_up_to_a_small_disk", back_up_to_a_small_disk),
        ("migrate", migrate),
    ]);
}

/// Holds a snapshot until `release`.
fn hold_snapshot(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        peer::send("held");
        peer::expect("release");
        Ok(())
    });
    done.unwrap();
    peer::send("released");
}

fn size(path: &Path) -> u64 {
    fs::metadata(path).unwrap().len()
}

fn fill(db: &Database, rows: usize) {
    let row = |_| Query::new("INSERT INTO entry VALUES (?1)", [vec![1u8; 1000]]);
    db.batch((0..rows).map(row)).unwrap();
}

// ---- checkpoint ------------------------------------------------------------------

#[test]
fn a_checkpoint_truncates_the_wal() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let wal = database_fixture::with_suffix(&fixture.path(), "-wal");
    for _ in 0..2 {
        fill(&db, 20);
        assert!(size(&wal) > 20_000);
        let done = db.checkpoint().unwrap();
        assert!(done.truncated && done.wal_frames > 5, "{done:?}");
        assert_eq!(done.checkpointed_frames, done.wal_frames);
        assert_eq!(size(&wal), 0);
    }
    let nothing = db.checkpoint().unwrap();
    assert!(nothing.truncated && nothing.wal_frames == 0, "{nothing:?}");
    assert_eq!(database_fixture::count_entries(&db), 40);
}

/// Asserts that a checkpoint returns at once if the WAL is in use.
fn assert_checkpoint_does_not_wait(fixture: &DatabaseFixture) {
    let db = OpenOptions::new()
        .timeout(database_fixture::ENDLESS_TIMEOUT)
        .open(fixture.path());
    let db = db.unwrap();
    fill(&db, 20);
    let (done, took) = wait::timed(|| db.checkpoint());
    let done = done.unwrap();
    assert!(!done.truncated && done.wal_frames > 0, "{done:?}");
    assert!(took < database_fixture::PROMPT, "{took:?}");
    assert!(size(&database_fixture::with_suffix(&fixture.path(), "-wal")) > 0);
    // Writing goes on, with the same busy timeout as before.
    database_fixture::insert(&db, "after").unwrap();
}

#[test]
fn a_checkpoint_waits_for_no_reader() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    fill(&db, 20);
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        fill(&db, 1);
        assert_checkpoint_does_not_wait(&fixture);
        Ok(())
    });
    done.unwrap();
    assert!(db.checkpoint().unwrap().truncated);
    let mut reader = database_fixture::start_holder("hold_snapshot", &fixture.path());
    assert_checkpoint_does_not_wait(&fixture);
    reader.send("release");
    reader.expect("released");
    assert!(reader.close().success());
    assert!(db.checkpoint().unwrap().truncated);
}

#[test]
fn maintenance_waits_for_the_write_lock() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(fixture.path()).unwrap();
    let holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let ways: [&dyn Fn() -> Result<()>; 3] =
        [&|| db.checkpoint().map(drop), &|| db.vacuum(), &|| {
            db.migrate(&["CREATE TABLE no(a)"]).map(drop)
        }];
    for way in ways {
        let error = way().unwrap_err();
        assert!(error.is_timeout(), "{error}");
        assert_eq!(error.holder().unwrap().pid, Some(holder.pid()), "{error}");
    }
}

#[test]
fn maintenance_names_an_unlocked_writer() {
    if !requirement::names_holders() {
        return;
    }
    let fixture = DatabaseFixture::new();
    database_fixture::insert(&fixture.database(), "1").unwrap();
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(fixture.path()).unwrap();
    let Some(unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    let error = db.vacuum().unwrap_err();
    assert!(error.is_sqlite_busy(), "{error}");
    assert_eq!(
        error.unlocked_writer().unwrap().pid,
        unlocked_writer.pid(),
        "{error}"
    );
    // The WAL is in use by a writer, which is a result and not an error.
    assert!(!db.checkpoint().unwrap().truncated);
}

// ---- vacuum ----------------------------------------------------------------------

#[test]
fn vacuum_shrinks_the_file() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    fill(&db, 2000);
    db.checkpoint().unwrap();
    let full = size(&fixture.path());
    db.execute("DELETE FROM entry WHERE rowid > 10", ())
        .unwrap();
    db.vacuum().unwrap();
    db.checkpoint().unwrap();
    let small = size(&fixture.path());
    assert!(small * 10 < full, "{full} to {small}");
    assert_eq!(database_fixture::count_entries(&db), 10);
    assert!(db.status().unwrap().holder.is_none());
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}

// ---- backup ----------------------------------------------------------------------

/// Writes pairs, two rows in each transaction, until it is killed.
fn write_pairs(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    for number in 0.. {
        let pair = |key| Query::new("INSERT INTO entry VALUES (?1)", params![key]);
        db.batch([pair(number), pair(-number)]).unwrap();
        if number == 20 {
            peer::send("writing");
        }
    }
}

/// Asserts that a backup is a consistent snapshot, and counts its rows.
fn count_pairs(copy: &Path) -> i64 {
    plain_sqlite::assert_integrity(copy);
    let connection = plain_sqlite::open(copy);
    let sql = "SELECT count(*), coalesce(sum(key), 0) FROM entry WHERE typeof(key) = 'integer'";
    let (rows, sum): (i64, i64) = connection
        .query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?)))
        .unwrap();
    assert_eq!((rows % 2, sum), (0, 0));
    rows
}

#[test]
fn a_backup_is_a_snapshot_while_other_processes_write() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    // Large enough for several steps of a backup.
    fill(&db, 6000);
    let peers: Vec<Peer> = (0..2)
        .map(|_| Peer::start("write_pairs", [fixture.path()]))
        .collect();
    peers.iter().for_each(|peer| peer.expect("writing"));
    let mut last = 0;
    for number in 0..4 {
        let copy = fixture.join(&format!("copy{number}.db"));
        db.backup_to(&copy).unwrap();
        let rows = count_pairs(&copy);
        assert!(rows > last, "the writers go on: {last} to {rows}");
        last = rows;
        let before = database_fixture::count_entries(&db);
        wait::until("the writers", || {
            database_fixture::count_entries(&db) > before
        });
    }
}

#[test]
fn a_backup_takes_no_lock() {
    let fixture = DatabaseFixture::new();
    database_fixture::insert(&fixture.database(), "committed").unwrap();
    let db = OpenOptions::new()
        .timeout(database_fixture::ENDLESS_TIMEOUT)
        .open(fixture.path());
    let db = db.unwrap();
    let _holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let (done, took) = wait::timed(|| db.backup_to(fixture.join("copy.db")));
    done.unwrap();
    assert!(took < database_fixture::PROMPT, "{took:?}");
    // In another directory, because in this one the lock is held.
    let elsewhere = DatabaseFixture::new();
    fs::copy(fixture.join("copy.db"), elsewhere.path()).unwrap();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&elsewhere.path())),
        ["committed"]
    );
}

#[test]
fn a_backup_may_run_inside_a_write() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('not yet')", [])?;
        db.backup_to(fixture.join("copy.db"))
    });
    done.unwrap();
    assert_eq!(
        database_fixture::count_entries(&database_fixture::open(&fixture.join("copy.db"))),
        0
    );
}

#[test]
fn a_backup_replaces_no_file() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let target = fixture.join("existing");
    fs::write(&target, "existing").unwrap();
    for existing in [
        &target,
        &fixture.path(),
        &database_fixture::with_suffix(&fixture.path(), "-wal"),
    ] {
        let before = fs::read(existing).unwrap();
        let error = db.backup_to(existing).unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(error.to_string().contains("exists"), "{error}");
        assert!(error.to_string().starts_with("back up: "), "{error}");
        assert_eq!(fs::read(existing).unwrap(), before);
    }
    let error = db.backup_to(fixture.join("missing/copy.db")).unwrap_err();
    assert!(error.to_string().contains("missing"), "{error}");
    db.backup_to(fixture.directory()).unwrap_err();
    let all = [
        "db.lock", "db.lockq", "existing", "x.db", "x.db-shm", "x.db-wal",
    ];
    assert_eq!(fixture.file_names(), all);
}

#[cfg(unix)]
#[test]
fn a_backup_is_as_private_as_the_database() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    for mode in [0o600, 0o640, 0o664] {
        fs::set_permissions(fixture.path(), fs::Permissions::from_mode(mode)).unwrap();
        let copy = fixture.join(&format!("copy{mode:o}.db"));
        db.backup_to(&copy).unwrap();
        assert_eq!(fs::metadata(&copy).unwrap().mode() & 0o777, mode);
    }
}

#[cfg(unix)]
fn back_up_to_a_small_disk(args: &[OsString]) {
    let fixture = DatabaseFixture::new();
    let small = Path::new(&args[0]);
    let db = fixture.database();
    fill(&db, 1000);
    let error = db.backup_to(small.join("copy.db")).unwrap_err();
    assert!(error.to_string().contains("full"), "{error}");
    assert!(error.to_string().contains("copy.db"), "{error}");
    assert!(database_fixture::file_names(small).is_empty());
    // The connection that it used still works.
    assert_eq!(database_fixture::count_entries(&db), 1000);
    db.execute("DELETE FROM entry", ()).unwrap();
    db.vacuum().unwrap();
    db.backup_to(small.join("copy.db")).unwrap();
    assert_eq!(database_fixture::file_names(small), ["copy.db"]);
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_failed_backup_leaves_no_file() {
    tmpfs::play("back_up_to_a_small_disk", "256k");
}

// ---- migration -------------------------------------------------------------------

/// Each step fails or is visible if it runs twice.
const STEPS: [&str; 4] = [
    "CREATE TABLE step(number)",
    "INSERT INTO step VALUES (2); CREATE TABLE second(a)",
    "INSERT INTO step VALUES (3); ALTER TABLE second ADD COLUMN b",
    "INSERT INTO step VALUES (4); CREATE INDEX by_b ON second(b)",
];

fn migrate(args: &[OsString]) {
    peer::send("ready");
    peer::expect("go");
    let db = database_fixture::open(Path::new(&args[0]));
    let (before, after) = versions(db.migrate(&STEPS).unwrap());
    assert!(before <= after && after == STEPS.len());
    peer::send("done");
}

#[test]
fn each_step_runs_in_only_one_of_many_processes() {
    for _ in 0..3 {
        let fixture = DatabaseFixture::new();
        let start = |_| Peer::start("migrate", [fixture.path()]);
        let mut peers: Vec<Peer> = (0..8).map(start).collect();
        peers.iter().for_each(|peer| peer.expect("ready"));
        peers.iter_mut().for_each(|peer| peer.send("go"));
        for peer in &mut peers {
            peer.expect("done");
            assert!(peer.close().success());
        }
        let db = database_fixture::open(&fixture.path());
        let sql = "SELECT number FROM step ORDER BY rowid";
        let steps: Vec<i64> = db.query_as(sql, ()).unwrap();
        assert_eq!(steps, [2, 3, 4]);
        assert_eq!(version(&db), 4);
    }
}

fn versions(done: Migrated) -> (usize, usize) {
    (done.from, done.to)
}

fn version(db: &Database) -> i64 {
    database_fixture::number(db, "PRAGMA user_version")
}

#[test]
fn a_migration_continues_after_the_last_step() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    assert_eq!(versions(db.migrate(&[]).unwrap()), (0, 0));
    assert_eq!(versions(db.migrate(&STEPS[..2]).unwrap()), (0, 2));
    assert_eq!(versions(db.migrate(&STEPS).unwrap()), (2, 4));
    assert_eq!(versions(db.migrate(&STEPS).unwrap()), (4, 4));
}

#[test]
fn a_newer_database_is_an_error() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    db.migrate(&STEPS).unwrap();
    let error = db.migrate(&STEPS[..3]).unwrap_err();
    assert!(error.is_refused(), "{error}");
    assert!(error.to_string().contains("version is 4"), "{error}");
    assert!(error.to_string().contains("newer version"), "{error}");
    assert_eq!(version(&db), 4);
    db.execute("PRAGMA user_version = -1", ()).unwrap();
    db.migrate(&STEPS).unwrap_err();
}

#[test]
fn a_failed_step_has_no_effect() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    let mut steps = STEPS;
    steps[2] = "INSERT INTO step VALUES (3); CREATE TABLE third(a); INSERT INTO missing VALUES (1)";
    let error = db.migrate(&steps).unwrap_err();
    assert!(error.sqlite_error().is_some(), "{error}");
    assert!(error.to_string().contains("missing"), "{error}");
    assert_eq!(version(&db), 2);
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM step"),
        1
    );
    assert_eq!(versions(db.migrate(&STEPS).unwrap()), (2, 4));
}

/// A step that ends its transaction fails, and a failed step has no effect.
#[test]
fn a_step_that_commits_has_no_effect() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    db.migrate(&["CREATE TABLE a(a); COMMIT"]).unwrap_err();
    let made = "SELECT count(*) FROM sqlite_schema WHERE name = 'a'";
    assert_eq!((version(&db), database_fixture::number(&db, made)), (0, 0));
}
