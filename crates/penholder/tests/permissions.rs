//! Users of one group write one database, a user with only read permission reads it, and
//! a user without permission gets an error, and nothing is created.
//!
//! If the tests run as root, each user is a peer with that user's id. Otherwise the tests
//! that need one user run as the current user, and the other tests are skipped.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use penholder::{Database, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, requirement};
use rustix::fs::Mode;

/// Ids that are unused on most machines. They need no entry in `/etc/passwd`.
const ANN: u32 = 61_001;
const BOB: u32 = 61_002;
const GROUP: u32 = 61_000;

#[test]
fn peer() {
    peer::run_role(&[
        ("write_and_stay", write_and_stay),
        ("read", read),
        ("open", open),
    ]);
}

/// Starts a peer of this user if the test runs as root.
fn start_as(user: u32, role: &str, path: &Path) -> Peer {
    let mut command = Peer::command(role, [path]);
    if rustix::process::geteuid().is_root() {
        command.uid(user).gid(GROUP);
    }
    Peer::spawn(command)
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().mode() & 0o7777
}

/// Writes under the strictest umask, and keeps the database open.
fn write_and_stay(args: &[OsString]) {
    rustix::process::umask(Mode::from_raw_mode(0o077));
    let db = database_fixture::open(Path::new(&args[0]));
    db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
        .unwrap();
    let user = rustix::process::geteuid().as_raw().to_string();
    database_fixture::insert(&db, &user).unwrap();
    peer::send("wrote");
    peer::expect("write");
    database_fixture::insert(&db, &user).unwrap();
    peer::send("wrote");
    peer::expect("end");
}

#[test]
fn users_of_one_group_write_together() {
    if !requirement::is_root() {
        return;
    }
    let fixture = DatabaseFixture::new();
    chmod(&fixture.directory(), 0o755);
    let directory = fixture.join("shared");
    fs::create_dir(&directory).unwrap();
    chown(&directory, None, Some(GROUP)).unwrap();
    chmod(&directory, 0o2775);
    let path = directory.join("x.db");
    fs::write(&path, "").unwrap();
    chown(&path, Some(ANN), Some(GROUP)).unwrap();
    chmod(&path, 0o664);
    let mut ann = start_as(ANN, "write_and_stay", &path);
    ann.expect("wrote");
    for name in ["x.db", "x.db-wal", "x.db-shm", "db.lock"] {
        let file = directory.join(name);
        assert_eq!(mode(&file), 0o664, "{name}");
        assert_eq!(fs::metadata(&file).unwrap().gid(), GROUP, "{name}");
    }
    let mut bob = start_as(BOB, "write_and_stay", &path);
    bob.expect("wrote");
    for peer in [&mut ann, &mut bob] {
        peer.send("write");
        peer.expect("wrote");
        peer.send("end");
        assert!(peer.close().success());
    }
    // Bob returns after all processes have closed, and finds no -wal and -shm files.
    let bob = start_as(BOB, "write_and_stay", &path);
    bob.expect("wrote");
    drop(bob);
    let [ann, bob] = [ANN, BOB].map(|id| id.to_string());
    let expected = [ann.clone(), ann, bob.clone(), bob.clone(), bob];
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&path)),
        expected
    );
    plain_sqlite::assert_integrity(&path);
}

#[test]
fn wal_shm_and_lock_files_are_as_private_as_the_database() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    drop(db);
    fs::remove_file(fixture.join("db.lock")).unwrap();
    chmod(&fixture.path(), 0o600);
    let db = fixture.database();
    database_fixture::insert(&db, "1").unwrap();
    for name in ["x.db", "x.db-wal", "x.db-shm", "db.lock"] {
        assert_eq!(mode(&fixture.join(name)), 0o600, "{name}");
    }
}

/// Reads, tries to write, and sends the results.
fn read(args: &[OsString]) {
    let db = Database::open(&args[0]).unwrap();
    peer::send(&database_fixture::keys(&db).join(" "));
    let tries: [&dyn Fn() -> Result<()>; 3] = [
        &|| database_fixture::insert(&db, "no"),
        &|| db.batch(["INSERT INTO entry VALUES ('no')"]).map(drop),
        &|| db.write(|_| Ok(())),
    ];
    for attempt in tries {
        let error = attempt().unwrap_err();
        assert!(!error.is_timeout(), "{error}");
        peer::send(&error.to_string());
    }
}

/// Opens for writing and for reading, and sends the results.
fn open(args: &[OsString]) {
    for options in [OpenOptions::new(), OpenOptions::new().read_only(true)] {
        match options.open(&args[0]) {
            Ok(db) => peer::send(&format!(
                "opened: {}",
                database_fixture::keys(&db).join(" ")
            )),
            Err(error) => peer::send(&error.to_string()),
        }
    }
}

/// Creates a directory that only root may write, with a database by plain SQLite.
fn read_only_directory(database_mode: u32, journal_mode: &str) -> DatabaseFixture {
    let fixture = DatabaseFixture::new();
    let connection = plain_sqlite::open(&fixture.path());
    connection
        .pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(()))
        .unwrap();
    connection
        .execute_batch("CREATE TABLE entry(key); INSERT INTO entry VALUES ('old')")
        .unwrap();
    connection.close().unwrap();
    chmod(&fixture.path(), database_mode);
    chmod(&fixture.directory(), 0o555);
    assert_eq!(fixture.file_names(), ["x.db"]);
    fixture
}

/// Asserts that nothing was created or changed, and makes the directory removable.
fn assert_untouched(fixture: &DatabaseFixture, before: &[u8]) {
    assert_eq!(fixture.file_names(), ["x.db"]);
    chmod(&fixture.directory(), 0o755);
    chmod(&fixture.path(), 0o644);
    assert!(
        fs::read(fixture.path()).unwrap() == before,
        "it was changed"
    );
}

#[test]
fn a_database_in_a_read_only_directory_can_be_read() {
    for database_mode in [0o444, 0o666] {
        let fixture = read_only_directory(database_mode, "delete");
        let before = fs::read(fixture.path()).unwrap();
        let mut peer = start_as(ANN, "read", &fixture.path());
        peer.expect("old");
        for _ in 0..3 {
            let error = peer.read_line();
            assert!(error.contains("permission"), "{error}");
            assert!(error.contains("db.lock"), "{error}");
        }
        assert!(peer.close().success());
        assert_untouched(&fixture, &before);
    }
}

#[test]
fn a_wal_database_in_a_read_only_directory_gives_the_reason() {
    for database_mode in [0o444, 0o666] {
        let fixture = read_only_directory(database_mode, "wal");
        let before = fs::read(fixture.path()).unwrap();
        let mut peer = start_as(ANN, "open", &fixture.path());
        for _ in 0..2 {
            let answer = peer.read_line();
            assert!(
                answer.contains("-shm") && answer.contains("writable"),
                "{answer}"
            );
        }
        assert!(peer.close().success());
        assert_untouched(&fixture, &before);
    }
}

/// The error must not claim that the database is readable.
#[test]
fn an_unreadable_database_is_reported() {
    let fixture = read_only_directory(0o000, "delete");
    let mut peer = start_as(ANN, "open", &fixture.path());
    for _ in 0..2 {
        let error = peer.read_line();
        assert!(error.contains("permission"), "{error}");
        assert!(!error.contains("it is readable"), "{error}");
    }
    assert!(peer.close().success());
    assert_eq!(fixture.file_names(), ["x.db"]);
    chmod(&fixture.directory(), 0o755);
}

#[test]
fn no_database_is_created_in_an_unwritable_directory() {
    let fixture = DatabaseFixture::new();
    chmod(&fixture.directory(), 0o555);
    let mut peer = start_as(ANN, "open", &fixture.path());
    for _ in 0..2 {
        let error = peer.read_line();
        assert!(error.contains(fixture.path().to_str().unwrap()), "{error}");
        assert!(error.starts_with("open database: "), "{error}");
    }
    assert!(peer.close().success());
    assert!(fixture.file_names().is_empty());
    chmod(&fixture.directory(), 0o755);
}

/// The user may not write the database, but every user may write the directory.
#[test]
fn a_database_without_write_permission_can_be_read() {
    if !requirement::is_root() {
        return;
    }
    let fixture = DatabaseFixture::new();
    database_fixture::insert(&fixture.database(), "old").unwrap();
    chmod(&fixture.path(), 0o644);
    chmod(&fixture.directory(), 0o777);
    let mut peer = start_as(ANN, "read", &fixture.path());
    peer.expect("old");
    for _ in 0..3 {
        let error = peer.read_line();
        assert!(error.contains("permission"), "{error}");
    }
    assert!(peer.close().success());
    assert_eq!(database_fixture::keys(&fixture.database()), ["old"]);
}
