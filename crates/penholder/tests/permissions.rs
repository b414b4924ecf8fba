//! Users of one group write one database, a user with only read permission reads it, and
//! a user without permission gets an error, and nothing is created.
//!
//! If the tests run as root, each user is a peer with that user's id. Otherwise the tests
//! that need one user run as the current user, and the other tests are skipped.
#![cfg(test)]
#![cfg(unix)] // users and groups have no numbers on Windows

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
        ("lock", lock),
        ("try_to_write", try_to_write),
        ("examine", examine),
        ("lose", lose),
        ("use_without_lock", use_without_lock),
        ("wait_for_commits", wait_for_commits),
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

/// Waits for commits, and sends what becomes of that.
fn wait_for_commits(args: &[OsString]) {
    let db = OpenOptions::new().read_only(true).open(&args[0]).unwrap();
    match db.commits() {
        Ok(_) => peer::send("waits"),
        Err(error) => peer::send(&error.to_string()),
    }
}

#[test]
fn a_user_who_may_only_read_is_told_why_it_cannot_wait() {
    if !requirement::is_root() {
        return;
    }
    let fixture = database_of(BOB, 0o1777, "wal");
    for (user, words) in [(ANN, "write permission on the queue file"), (BOB, "waits")] {
        // The one with the database open keeps its `-shm`, which a reader needs.
        let mut owner = start_as(BOB, "write_and_stay", &fixture.path());
        owner.expect("wrote");
        let mut peer = start_as(user, "wait_for_commits", &fixture.path());
        let answer = peer.read_line();
        assert!(answer.contains(words), "{answer}");
        assert!(peer.close().success());
        owner.kill();
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

/// Makes a database of this owner in a directory with this mode, which nobody has open.
fn database_of(owner: u32, directory_mode: u32, journal_mode: &str) -> DatabaseFixture {
    let fixture = read_only_directory(0o644, journal_mode);
    chown(fixture.path(), Some(owner), Some(GROUP)).unwrap();
    chmod(&fixture.directory(), directory_mode);
    fixture
}

/// The user may not write the database, but every user may write the directory.
#[test]
fn a_database_without_write_permission_can_be_read() {
    if !requirement::is_root() {
        return;
    }
    let fixture = database_of(BOB, 0o777, "wal");
    let mut peer = start_as(ANN, "open", &fixture.path());
    let error = peer.read_line();
    assert!(error.contains("permission"), "{error}");
    peer.expect("opened: old");
    assert!(peer.close().success());
    assert_eq!(database_fixture::keys(&fixture.database()), ["old"]);
}

/// In a directory like `/tmp`, the owner of the database could not remove them.
#[test]
fn a_user_who_may_not_write_the_database_leaves_no_files_that_keep_its_owner_out() {
    if !requirement::is_root() {
        return;
    }
    for journal_mode in ["wal", "delete"] {
        let fixture = database_of(BOB, 0o1777, journal_mode);
        let mut peer = start_as(ANN, "open", &fixture.path());
        let error = peer.read_line();
        assert!(error.contains("no write permission"), "{error}");
        assert!(
            error.contains("user 61002") && error.contains("read_only"),
            "{error}"
        );
        let answer = peer.read_line();
        if journal_mode == "wal" {
            assert!(answer.contains("keeps every writer out"), "{answer}");
        } else {
            assert_eq!(answer, "opened: old");
        }
        assert!(peer.close().success());
        let mut peer = start_as(ANN, "lock", &fixture.path());
        let error = peer.read_line();
        assert!(error.contains("no write permission"), "{error}");
        assert!(peer.close().success());
        assert_eq!(fixture.file_names(), ["x.db"], "{journal_mode}");
        let mut bob = start_as(BOB, "try_to_write", &fixture.path());
        bob.expect("wrote");
        // While he has it open, she reads it.
        let mut ann = start_as(ANN, "open", &fixture.path());
        ann.read_line();
        ann.expect("opened: new old");
        assert!(ann.close().success());
        bob.send("end");
        assert!(bob.close().success());
    }
}

/// Takes the write lock alone, and sends the result.
fn lock(args: &[OsString]) {
    let locker = OpenOptions::new().locker(&args[0]).unwrap();
    match locker.acquire(penholder::lock::DEFAULT_TIMEOUT) {
        Ok(_guard) => peer::send("held"),
        Err(error) => peer::send(&error.to_string()),
    }
}

/// Writes if it can, and sends the result.
fn try_to_write(args: &[OsString]) {
    let db = OpenOptions::new().open(&args[0]);
    let written = db.and_then(|db| database_fixture::insert(&db, "new").map(|()| db));
    match &written {
        Ok(_db) => peer::send("wrote"),
        Err(error) => peer::send(&error.to_string()),
    }
    peer::expect("end");
}

/// Returns what Bob's attempt to write his database says.
fn bobs_answer(fixture: &DatabaseFixture) -> String {
    let mut bob = start_as(BOB, "try_to_write", &fixture.path());
    let answer = bob.read_line();
    bob.send("end");
    bob.close();
    answer
}

/// What is left by another user, or has a narrower mode, is named with its owner; the commands
/// in the text help.
#[test]
fn files_that_keep_the_owner_out_are_named_with_what_to_do() {
    if !requirement::is_root() {
        return;
    }
    let cases: [(&[&str], u32, u32, &str); 5] = [
        (
            &["x.db-wal", "x.db-shm"],
            ANN,
            0o644,
            "user 61001, mode 0644",
        ),
        (&["x.db-shm"], BOB, 0o444, "user 61002, mode 0444"),
        (
            &["x.db-wal", "x.db-shm"],
            0,
            0o600,
            "user root (0), mode 0600",
        ),
        (&["db.lock"], ANN, 0o644, "user 61001, mode 0644"),
        (&["db.lock"], BOB, 0o400, "user 61002, mode 0400"),
    ];
    for (names, owner, mode, whose) in cases {
        let fixture = database_of(BOB, 0o1777, "wal");
        for name in names {
            // SQLite corrects the mode of an empty file.
            fs::write(fixture.join(name), "x").unwrap();
            chown(fixture.join(name), Some(owner), Some(GROUP)).unwrap();
            chmod(&fixture.join(name), mode);
        }
        let error = bobs_answer(&fixture);
        for name in names {
            assert!(
                error.contains(&format!("{name} ({whose})")),
                "{names:?}: {error}"
            );
        }
        let doctor = penholder_doctor_as(BOB, &fixture.path());
        assert!(
            doctor.contains(&format!("{} ({whose})", names[0])),
            "{doctor}"
        );
        for command in error.split('`').skip(1).step_by(2) {
            let done = std::process::Command::new("sh")
                .args(["-c", command])
                .status();
            assert!(done.unwrap().success(), "{command}");
        }
        assert_eq!(bobs_answer(&fixture), "wrote", "{error}");
    }
}

/// As a set-user-ID program: what counts is the user that the process acts as.
#[test]
fn a_process_that_acts_as_another_user_writes_as_that_user() {
    if !requirement::is_root() || !requirement::has_program("setpriv") {
        return;
    }
    let fixture = database_of(0, 0o777, "wal");
    let command = Peer::command("try_to_write", [fixture.path()]);
    let bob = BOB.to_string();
    let wrapper = ["setpriv", "--ruid", &bob, "--clear-groups"];
    let mut peer = Peer::spawn(peer::wrapped(&wrapper, &command));
    assert_eq!(peer.read_line(), "wrote");
    peer.send("end");
    assert!(peer.close().success());
}

/// Writes, and again after the database was replaced.
fn lose(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, "first").unwrap();
    peer::send("wrote");
    peer::expect("write");
    let error = database_fixture::insert(&db, "lost").unwrap_err();
    assert!(error.is_file_replaced(), "{error}");
    peer::send("replaced");
    peer::expect("end");
}

/// Opens the database with SQLite alone.
fn use_without_lock(args: &[OsString]) {
    let plain = plain_sqlite::open(Path::new(&args[0]));
    let read = plain.query_row("SELECT count(*) FROM entry", [], |row| row.get::<_, i64>(0));
    read.unwrap();
    peer::send("open");
    peer::expect("end");
}

/// What another user has open is not in `/proc`, but its locks are.
#[test]
fn a_wal_that_another_user_uses_with_the_new_database_is_not_deleted() {
    if !requirement::names_holders() {
        return;
    }
    if !requirement::is_root() {
        return;
    }
    let (fixture, other) = (DatabaseFixture::new(), DatabaseFixture::new());
    chmod(&fixture.directory(), 0o777);
    for one in [&fixture, &other] {
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE entry(key)";
        plain_sqlite::open(&one.path()).execute_batch(sql).unwrap();
        chmod(&one.path(), 0o666);
    }
    let mut ann = start_as(ANN, "lose", &fixture.path());
    ann.expect("wrote");
    fs::rename(other.path(), fixture.path()).unwrap();
    let mut bob = start_as(BOB, "use_without_lock", &fixture.path());
    bob.expect("open");
    ann.send("write");
    ann.expect("replaced");
    let wal = database_fixture::with_suffix(&fixture.path(), "-wal");
    assert!(wal.exists());
    for one in [&mut ann, &mut bob] {
        one.send("end");
        assert!(one.close().success());
    }
}

/// Sends the findings of an examination as one line.
fn examine(args: &[OsString]) {
    let report = penholder::doctor::Doctor::new(OpenOptions::new()).examine(&args[0]);
    let findings: Vec<_> = report
        .unwrap()
        .findings
        .iter()
        .map(ToString::to_string)
        .collect();
    peer::send(&findings.join(" | ").replace('\n', " "));
}

fn penholder_doctor_as(user: u32, path: &Path) -> String {
    start_as(user, "examine", path).read_line()
}

/// The doctor names the owner of a queue file that is not used.
#[test]
fn a_queue_file_of_a_stranger_is_not_used_and_the_doctor_says_why() {
    if !requirement::is_root() {
        return;
    }
    let fixture = database_of(BOB, 0o1777, "wal");
    let queue_file = fixture.join("db.lockq");
    fs::write(&queue_file, vec![0; 118_784]).unwrap();
    chown(&queue_file, Some(ANN), Some(GROUP)).unwrap();
    chmod(&queue_file, 0o666);
    assert_eq!(bobs_answer(&fixture), "wrote");
    assert!(fs::read(&queue_file).unwrap().iter().all(|&byte| byte == 0));
    let doctor = penholder_doctor_as(BOB, &fixture.path());
    let expected = "db.lockq belongs to user 61001";
    assert!(
        doctor.contains(expected) && doctor.contains("rm -f -- "),
        "{doctor}"
    );
}
