//! Permissions: users of one group write one database; who may only read reads;
//! who may not is told why, and nothing is created.
//!
//! As root each user is a peer with that user's id; otherwise the tests that
//! need one user run as the user that runs them, and the others are skipped.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;

use peer::Peer;
use penholder::{Database, Options, Result};
use rustix::fs::Mode;
use site::Site;

/// Ids that nobody else has on most machines; they need no entry anywhere.
const ANN: u32 = 61_001;
const BOB: u32 = 61_002;
const GROUP: u32 = 61_000;

#[test]
fn peer() {
    peer::play(&[
        ("write and stay", write_and_stay),
        ("read", read),
        ("open", open),
    ]);
}

/// A peer of this user, if this is root.
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
    let db = site::open(Path::new(&args[0]));
    db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
        .unwrap();
    let user = rustix::process::geteuid().as_raw().to_string();
    site::insert(&db, &user).unwrap();
    peer::say("wrote");
    peer::hear("write");
    site::insert(&db, &user).unwrap();
    peer::say("wrote");
    peer::hear("end");
}

#[test]
fn users_of_one_group_write_together() {
    if !site::is_root() {
        return;
    }
    let site = Site::new();
    chmod(&site.folder(), 0o755);
    let folder = site.at("shared");
    fs::create_dir(&folder).unwrap();
    chown(&folder, None, Some(GROUP)).unwrap();
    chmod(&folder, 0o2775);
    let path = folder.join("x.db");
    fs::write(&path, "").unwrap();
    chown(&path, Some(ANN), Some(GROUP)).unwrap();
    chmod(&path, 0o664);
    let mut ann = start_as(ANN, "write and stay", &path);
    ann.expect("wrote");
    for name in ["x.db", "x.db-wal", "x.db-shm", "db.lock"] {
        let file = folder.join(name);
        assert_eq!(mode(&file), 0o664, "{name}");
        assert_eq!(fs::metadata(&file).unwrap().gid(), GROUP, "{name}");
    }
    let mut bob = start_as(BOB, "write and stay", &path);
    bob.expect("wrote");
    for peer in [&mut ann, &mut bob] {
        peer.tell("write");
        peer.expect("wrote");
        peer.tell("end");
        assert!(peer.end().success());
    }
    // Bob comes back after everybody has gone, and finds no sidecars.
    let bob = start_as(BOB, "write and stay", &path);
    bob.expect("wrote");
    drop(bob);
    let [ann, bob] = [ANN, BOB].map(|id| id.to_string());
    let wanted = [ann.clone(), ann, bob.clone(), bob.clone(), bob];
    assert_eq!(site::keys(&site::open(&path)), wanted);
    site::assert_whole(&path);
}

#[test]
fn sidecars_are_as_private_as_the_database() {
    let site = Site::new();
    let db = site.database();
    drop(db);
    fs::remove_file(site.at("db.lock")).unwrap();
    chmod(&site.path(), 0o600);
    let db = site.database();
    site::insert(&db, "1").unwrap();
    for name in ["x.db", "x.db-wal", "x.db-shm", "db.lock"] {
        assert_eq!(mode(&site.at(name)), 0o600, "{name}");
    }
}

/// Reads, tries to write, and says how that went.
fn read(args: &[OsString]) {
    let db = Database::open(&args[0]).unwrap();
    peer::say(&site::keys(&db).join(" "));
    let tries: [&dyn Fn() -> Result<()>; 3] = [
        &|| site::insert(&db, "no"),
        &|| db.batch(["INSERT INTO entry VALUES ('no')"]).map(drop),
        &|| db.write(|_| Ok(())),
    ];
    for attempt in tries {
        let error = attempt().unwrap_err();
        assert!(!error.is_timeout(), "{error}");
        peer::say(&error.to_string());
    }
}

/// Opens in both ways, and says how that went.
fn open(args: &[OsString]) {
    for options in [Options::new(), Options::new().read_only(true)] {
        match options.open(&args[0]) {
            Ok(db) => peer::say(&format!("opened: {}", site::keys(&db).join(" "))),
            Err(error) => peer::say(&error.to_string()),
        }
    }
}

/// A folder that nobody but root may write, with a database of plain SQLite.
fn read_only_folder(database_mode: u32, journal_mode: &str) -> Site {
    let site = Site::new();
    let connection = site::stranger(&site.path());
    connection
        .pragma_update_and_check(None, "journal_mode", journal_mode, |_| Ok(()))
        .unwrap();
    connection
        .execute_batch("CREATE TABLE entry(key); INSERT INTO entry VALUES ('old')")
        .unwrap();
    connection.close().unwrap();
    chmod(&site.path(), database_mode);
    chmod(&site.folder(), 0o555);
    assert_eq!(site.files(), ["x.db"]);
    site
}

/// Nothing was created; and the folder can be removed again.
fn assert_untouched(site: &Site, before: &[u8]) {
    assert_eq!(site.files(), ["x.db"]);
    chmod(&site.folder(), 0o755);
    chmod(&site.path(), 0o644);
    assert!(fs::read(site.path()).unwrap() == before, "it was changed");
}

#[test]
fn read_only_folder_can_be_read() {
    for database_mode in [0o444, 0o666] {
        let site = read_only_folder(database_mode, "delete");
        let before = fs::read(site.path()).unwrap();
        let mut peer = start_as(ANN, "read", &site.path());
        peer.expect("old");
        for _ in 0..3 {
            let complaint = peer.line();
            assert!(complaint.contains("permission"), "{complaint}");
            assert!(complaint.contains("db.lock"), "{complaint}");
        }
        assert!(peer.end().success());
        assert_untouched(&site, &before);
    }
}

#[test]
fn read_only_folder_with_a_log_says_why_not() {
    for database_mode in [0o444, 0o666] {
        let site = read_only_folder(database_mode, "wal");
        let before = fs::read(site.path()).unwrap();
        let mut peer = start_as(ANN, "open", &site.path());
        for _ in 0..2 {
            let answer = peer.line();
            assert!(
                answer.contains("-shm") && answer.contains("writable"),
                "{answer}"
            );
        }
        assert!(peer.end().success());
        assert_untouched(&site, &before);
    }
}

/// It is not even readable, so nobody is told that it is.
#[test]
fn unreadable_database_says_so() {
    let site = read_only_folder(0o000, "delete");
    let mut peer = start_as(ANN, "open", &site.path());
    for _ in 0..2 {
        let complaint = peer.line();
        assert!(complaint.contains("permission"), "{complaint}");
        assert!(!complaint.contains("it is readable"), "{complaint}");
    }
    assert!(peer.end().success());
    assert_eq!(site.files(), ["x.db"]);
    chmod(&site.folder(), 0o755);
}

#[test]
fn unwritable_folder_creates_no_database() {
    let site = Site::new();
    chmod(&site.folder(), 0o555);
    let mut peer = start_as(ANN, "open", &site.path());
    for _ in 0..2 {
        let complaint = peer.line();
        assert!(
            complaint.contains(site.path().to_str().unwrap()),
            "{complaint}"
        );
        assert!(complaint.starts_with("open database: "), "{complaint}");
    }
    assert!(peer.end().success());
    assert!(site.files().is_empty());
    chmod(&site.folder(), 0o755);
}

/// A database that only others may write, in a folder where everybody may.
#[test]
fn database_that_may_only_be_read() {
    if !site::is_root() {
        return;
    }
    let site = Site::new();
    site::insert(&site.database(), "old").unwrap();
    chmod(&site.path(), 0o644);
    chmod(&site.folder(), 0o777);
    let mut peer = start_as(ANN, "read", &site.path());
    peer.expect("old");
    for _ in 0..3 {
        let complaint = peer.line();
        assert!(complaint.contains("permission"), "{complaint}");
    }
    assert!(peer.end().success());
    assert_eq!(site::keys(&site.database()), ["old"]);
}
