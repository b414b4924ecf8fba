//! If the database, its WAL or its index is replaced or deleted while it is open, the next write
//! fails, nothing that was acknowledged is lost that can be saved, and the call after it works
//! with what is there then.
#![cfg(test)]
#![cfg(unix)] // on Windows the files that SQLite has open are not deleted or replaced

use std::ffi::OsString;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use penholder::{Database, Error, ErrorKind, OpenOptions, Result};
use penholder_core::{Process, failpoint};
use penholder_testkit::database_fixture::{self, DatabaseFixture, with_suffix};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::recorder::Recorder;
use penholder_testkit::{requirement, wait};
use rusqlite::Connection;

#[test]
fn peer() {
    peer::run_role(&[("serve", serve), ("hold_snapshot", hold_snapshot)]);
}

/// Runs commands on one handle until the parent closes the pipe.
fn serve(args: &[OsString]) {
    let db = match database_fixture::options().open(Path::new(&args[0])) {
        Ok(db) => db,
        Err(error) => return peer::send(&say(&error)),
    };
    peer::send("ready");
    while let Some(line) = next_line() {
        let (command, rest) = line.split_once(' ').unwrap_or((&line, ""));
        let answer = match command {
            "insert" => database_fixture::insert(&db, rest).map(|()| "done".to_owned()),
            "batch" => db
                .batch([("INSERT INTO entry VALUES (?1)", [rest])])
                .map(|_| "done".to_owned()),
            "slow" => insert_slowly(&db, rest).map(|()| "done".to_owned()),
            "keys" => read_keys(&db),
            other => panic!("{other}"),
        };
        peer::send(&answer.unwrap_or_else(|error| say(&error)));
    }
}

fn next_line() -> Option<String> {
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).unwrap();
    line.strip_suffix('\n').map(str::to_owned)
}

/// Inserts a key, and commits only after the parent has seen that the lock is held.
fn insert_slowly(db: &Database, key: &str) -> Result<()> {
    db.write(|tx| {
        tx.execute("INSERT INTO entry VALUES (?1)", [key])?;
        peer::send("inside");
        peer::expect("go on");
        Ok(())
    })
}

fn read_keys(db: &Database) -> Result<String> {
    let keys = db.query_as::<(String,)>("SELECT key FROM entry ORDER BY key", ())?;
    let keys: Vec<String> = keys.into_iter().map(|(key,)| key).collect();
    Ok(format!("[{}]", keys.join(" ")))
}

fn say(error: &Error) -> String {
    match error.kind() {
        ErrorKind::FileReplaced => {
            let text = error.to_string();
            assert!(
                text.contains("the database file was replaced or deleted"),
                "{text}"
            );
            "replaced".to_owned()
        }
        ErrorKind::Refused => format!("refused {error}"),
        kind => format!("{kind:?} {error}"),
    }
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

/// A process that serves one handle on a database with the key `first`.
struct Scene {
    fixture: DatabaseFixture,
    peer: Peer,
}

impl Scene {
    fn new() -> Self {
        let fixture = DatabaseFixture::new();
        database_fixture::insert(&fixture.database(), "first").unwrap();
        let peer = Self::start(&fixture);
        Self { fixture, peer }
    }

    fn start(fixture: &DatabaseFixture) -> Peer {
        let peer = Peer::start("serve", [fixture.path()]);
        peer.expect("ready");
        peer
    }

    fn file(&self, suffix: &str) -> PathBuf {
        with_suffix(&self.fixture.path(), suffix)
    }

    fn delete(&self, suffix: &str) {
        fs::remove_file(self.file(suffix)).unwrap();
    }

    /// Makes a database with the key `backup`, to be moved over the one that is open.
    fn backup(&self) -> PathBuf {
        let other = DatabaseFixture::new();
        let db = other.database();
        database_fixture::insert(&db, "backup").unwrap();
        let backup = self.fixture.join("backup.db");
        db.backup_to(&backup).unwrap();
        backup
    }

    /// Moves a backup over the database, as `mv` does.
    fn replace(&self) {
        fs::rename(self.backup(), self.fixture.path()).unwrap();
    }

    #[track_caller]
    fn ask(&mut self, command: &str, answer: &str) {
        self.peer.send(command);
        assert_eq!(self.peer.read_line(), answer, "{command}");
    }

    /// Asserts what another process finds, which opens the database now.
    #[track_caller]
    fn assert_keys(&self, keys: &str) {
        let mut other = Self::start(&self.fixture);
        other.send("keys");
        assert_eq!(other.read_line(), keys);
    }
}

#[test]
fn a_write_after_a_replacement_fails_and_the_next_one_goes_to_the_new_file() {
    for command in ["insert", "batch"] {
        let mut scene = Scene::new();
        scene.ask("insert second", "done");
        scene.replace();
        scene.delete("-wal");
        scene.delete("-shm");
        scene.ask(&format!("{command} lost"), "replaced");
        scene.ask(&format!("{command} third"), "done");
        scene.ask("keys", "[backup third]");
        scene.assert_keys("[backup third]");
    }
}

#[test]
fn a_replacement_that_leaves_the_wal_does_not_mix_the_two() {
    let mut scene = Scene::new();
    scene.ask("insert second", "done");
    scene.replace();
    scene.ask("insert lost", "replaced");
    scene.ask("insert third", "done");
    scene.ask("keys", "[backup third]");
    drop(scene.peer);
    let scene = Scene {
        peer: Scene::start(&scene.fixture),
        fixture: scene.fixture,
    };
    scene.assert_keys("[backup third]");
}

#[test]
fn a_file_that_is_moved_aside_keeps_what_was_acknowledged() {
    let mut scene = Scene::new();
    scene.ask("insert second", "done");
    let backup = scene.backup();
    fs::rename(scene.fixture.path(), scene.fixture.join("old.db")).unwrap();
    fs::rename(backup, scene.fixture.path()).unwrap();
    scene.ask("insert lost", "replaced");
    scene.ask("insert third", "done");
    scene.assert_keys("[backup third]");
    let old = database_fixture::open(&scene.fixture.join("old.db"));
    assert_eq!(database_fixture::keys(&old), ["first", "second"]);
}

#[test]
fn a_read_notices_too() {
    let mut scene = Scene::new();
    scene.ask("keys", "[first]");
    scene.replace();
    scene.delete("-wal");
    scene.delete("-shm");
    scene.ask("keys", "replaced");
    scene.ask("keys", "[backup]");
}

#[test]
fn what_is_in_a_deleted_wal_is_saved() {
    for deleted in [
        &["-wal"][..],
        &["-shm"],
        &["-wal", "-shm"],
        &["-shm", "-wal"],
    ] {
        let mut scene = Scene::new();
        scene.ask("insert second", "done");
        for suffix in deleted {
            scene.delete(suffix);
        }
        scene.ask("insert lost", "replaced");
        scene.ask("insert third", "done");
        scene.ask("keys", "[first second third]");
        scene.assert_keys("[first second third]");
    }
}

#[test]
fn what_is_in_a_deleted_wal_is_saved_by_another_process_too() {
    let mut scene = Scene::new();
    let mut other = Scene {
        peer: Scene::start(&scene.fixture),
        fixture: DatabaseFixture::new(),
    };
    other.ask("insert second", "done");
    scene.ask("insert third", "done");
    scene.delete("-wal");
    scene.delete("-shm");
    scene.ask("insert lost", "replaced");
    scene.ask("insert fourth", "done");
    other.ask("insert lost", "replaced");
    other.ask("insert fifth", "done");
    scene.ask("keys", "[fifth first fourth second third]");
}

#[test]
fn a_deleted_wal_is_saved_although_another_process_has_made_a_new_one() {
    let mut scene = Scene::new();
    scene.ask("insert second", "done");
    scene.delete("-wal");
    fs::write(scene.file("-wal"), "").unwrap();
    scene.ask("insert lost", "replaced");
    scene.ask("insert third", "done");
    scene.assert_keys("[first second third]");
}

#[test]
fn a_database_is_not_opened_beside_a_process_with_a_deleted_wal() {
    for deleted in [&["-wal"][..], &["-wal", "-shm"]] {
        let mut scene = Scene::new();
        scene.ask("insert second", "done");
        for suffix in deleted {
            scene.delete(suffix);
        }
        let error = Database::open(scene.fixture.path()).unwrap_err();
        let pid = format!("pid:{} ", scene.peer.pid());
        assert!(
            error.is_refused() && error.to_string().contains(&pid),
            "{error}"
        );
        assert!(
            error.to_string().contains("x.db-wal was deleted"),
            "{error}"
        );
        assert!(!scene.file("-wal").exists(), "nothing was created");
        // That process saves what it has, and stays; then others may come.
        scene.ask("insert lost", "replaced");
        scene.ask("insert third", "done");
        scene.assert_keys("[first second third]");
    }
}

/// A process that has been idle since keeps nobody out once another has saved what was there.
#[test]
fn an_idle_process_with_a_deleted_wal_that_was_saved_is_not_in_the_way() {
    let mut scene = Scene::new();
    let mut idle = Scene {
        peer: Scene::start(&scene.fixture),
        fixture: DatabaseFixture::new(),
    };
    scene.ask("insert second", "done");
    scene.delete("-wal");
    scene.delete("-shm");
    scene.ask("insert lost", "replaced");
    scene.ask("insert third", "done");
    scene.assert_keys("[first second third]");
    scene.peer.kill();
    scene.assert_keys("[first second third]");
    idle.ask("insert lost", "replaced");
    idle.ask("insert fourth", "done");
    scene.assert_keys("[first fourth second third]");
}

#[test]
fn a_database_is_not_opened_with_the_wal_of_the_one_that_was_there_before() {
    let mut scene = Scene::new();
    scene.ask("insert second", "done");
    scene.replace();
    let error = Database::open(scene.fixture.path()).unwrap_err();
    assert!(
        error.is_refused() && error.to_string().contains("would mix"),
        "{error}"
    );
    scene.ask("insert lost", "replaced");
    scene.assert_keys("[backup]");
}

/// A plain SQLite process with another index knows nothing of what is written here, and deletes the
/// WAL as it closes.
#[test]
fn a_database_is_not_opened_beside_a_plain_process_with_another_index() {
    if !requirement::has_program("python3") {
        return;
    }
    let ways: [&[(&str, Option<&str>)]; 3] = [
        &[("-shm", None)],
        &[("-shm", Some("moved"))],
        &[("-wal", Some("moved-wal"))],
    ];
    for way in ways {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let script = "import sqlite3, sys\nc = sqlite3.connect(sys.argv[1])\n\
                      c.execute('SELECT * FROM entry').fetchall()\nprint('up', flush=True)\ninput()";
        let mut command = Command::new("python3");
        command.args(["-c", script]).arg(fixture.path());
        let mut other = Peer::spawn(command);
        other.expect("up");
        for (suffix, target) in way {
            let file = with_suffix(&fixture.path(), suffix);
            match target {
                None => fs::remove_file(file).unwrap(),
                Some(name) => fs::rename(file, fixture.join(name)).unwrap(),
            }
        }
        let error = Database::open(fixture.path()).unwrap_err();
        let pid = format!("pid:{} ", other.pid());
        assert!(
            error.is_refused() && error.to_string().contains(&pid),
            "{way:?}: {error}"
        );
        other.send("end");
        other.wait();
        let db = fixture.database();
        database_fixture::insert(&db, "kept").unwrap();
        drop(db);
        assert_eq!(database_fixture::keys(&fixture.database()), ["kept"]);
    }
}

/// The number of a file is used again for another, once it has no name and is not open any more.
#[test]
fn a_new_index_with_the_number_of_the_former_one_is_not_taken_for_it() {
    let mut scene = Scene::new();
    scene.ask("insert second", "done");
    let former = fs::metadata(scene.file("-shm")).unwrap().ino();
    scene.replace();
    scene.delete("-wal");
    scene.delete("-shm");
    scene.ask("insert lost", "replaced");
    let number_of = |path: &PathBuf| fs::metadata(path).unwrap().ino();
    let made = (0..1000).map(|number| {
        let path = scene.fixture.join(&format!("file{number}"));
        fs::write(&path, "").unwrap();
        path
    });
    let Some(same) = made.into_iter().find(|path| number_of(path) == former) else {
        requirement::skip("a file system that uses inode numbers again at once");
        return;
    };
    fs::rename(same, scene.file("-shm")).unwrap();
    scene.ask("insert third", "done");
    scene.assert_keys("[backup third]");
}

/// The files are deleted while another process is between looking for former users and opening.
#[test]
fn a_wal_that_is_deleted_while_another_process_opens_the_database_is_saved() {
    for deleted in [
        &["-wal"][..],
        &["-shm"],
        &["-wal", "-shm"],
        &["-shm", "-wal"],
    ] {
        let mut scene = Scene::new();
        scene.ask("insert second", "done");
        let mut command = Peer::command("serve", [scene.fixture.path()]);
        command.env(failpoint::VARIABLE, "former_users_looked_for STOP 1");
        let other = Peer::spawn(command);
        wait::until("it is stopped", || {
            Process::with_id(other.pid())
                .to_string()
                .contains("stopped")
        });
        for suffix in deleted {
            scene.delete(suffix);
        }
        other.signal("CONT");
        let line = other.read_line();
        let is_refused = line.starts_with("refused") && line.contains(" was deleted ");
        assert!(is_refused, "{deleted:?}: {line}");
        scene.ask("insert lost", "replaced");
        scene.ask("insert third", "done");
        scene.ask("keys", "[first second third]");
        scene.assert_keys("[first second third]");
    }
}

/// It looks on behalf of those that come, who wait for it only for a while.
#[test]
fn a_process_that_is_stopped_or_killed_while_it_looks_keeps_nobody_out() {
    let scene = Scene::new();
    let start = |failpoint: Option<&str>| {
        let mut command = Peer::command("serve", [scene.fixture.path()]);
        if let Some(failpoint) = failpoint {
            command.env(failpoint::VARIABLE, failpoint);
        }
        Peer::spawn(command)
    };
    // The mark of the one that opened the database before is used for a second.
    thread::sleep(Duration::from_millis(1200));
    let stopped = start(Some("examining STOP 1"));
    wait::until("it is stopped", || {
        Process::with_id(stopped.pid())
            .to_string()
            .contains("stopped")
    });
    start(None).expect("ready");
    stopped.signal("CONT");
    stopped.expect("ready");
    thread::sleep(Duration::from_millis(1200));
    let mut killed = start(Some("examining KILL 1"));
    killed.wait();
    start(None).expect("ready");
}

#[test]
fn a_deleted_database_is_never_created_again() {
    let mut scene = Scene::new();
    fs::remove_file(scene.fixture.path()).unwrap();
    scene.ask("insert lost", "replaced");
    scene.peer.send("insert lost");
    let answer = scene.peer.read_line();
    assert!(
        answer.starts_with("refused") && answer.contains("no such database"),
        "{answer}"
    );
    assert!(!scene.fixture.path().exists());
    scene.delete("-wal");
    scene.delete("-shm");
    scene.replace();
    scene.ask("insert third", "done");
    scene.ask("keys", "[backup third]");
}

#[test]
fn a_replacement_during_a_write_is_noticed_before_it_is_acknowledged() {
    let mut scene = Scene::new();
    scene.ask("slow second", "inside");
    scene.replace();
    scene.delete("-wal");
    scene.delete("-shm");
    thread::sleep(Duration::from_millis(5));
    scene.ask("go on", "replaced");
    scene.ask("insert third", "done");
    scene.assert_keys("[backup third]");
}

#[test]
fn a_snapshot_of_another_process_does_not_keep_a_deleted_wal_from_being_saved() {
    let mut scene = Scene::new();
    let reader = database_fixture::start_holder("hold_snapshot", &scene.fixture.path());
    scene.ask("insert second", "done");
    scene.delete("-wal");
    scene.delete("-shm");
    let releasing = thread::spawn(move || {
        thread::sleep(Duration::from_millis(300));
        let mut reader = reader;
        reader.send("release");
        reader.expect("released");
    });
    scene.ask("insert lost", "replaced");
    scene.ask("insert third", "done");
    scene.assert_keys("[first second third]");
    releasing.join().unwrap();
}

/// One process with two handles, of which one has a snapshot of the former files.
#[test]
fn an_open_snapshot_of_this_process_postpones_the_reopening() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    // The calls that fail wait for the snapshot as long as they may.
    let options = OpenOptions::new().timeout(Duration::from_millis(300));
    let db = options.open(fixture.path()).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        fs::remove_file(with_suffix(&fixture.path(), "-wal")).unwrap();
        fs::remove_file(with_suffix(&fixture.path(), "-shm")).unwrap();
        thread::scope(|scope| {
            let write = || database_fixture::insert(&db, "lost").unwrap_err().kind();
            let write = || scope.spawn(write).join().unwrap();
            assert_eq!(write(), ErrorKind::FileReplaced);
            assert_eq!(write(), ErrorKind::FileReplaced, "not safe yet");
        });
        Ok(())
    });
    done.unwrap();
    database_fixture::insert(&db, "second").unwrap();
    assert_eq!(database_fixture::keys(&db), ["first", "second"]);
}

/// What the snapshot keeps from being copied is only in the former files.
#[test]
fn a_commit_that_an_open_snapshot_keeps_from_being_saved_is_not_lost() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().timeout(Duration::from_millis(300));
    let db = options.open(fixture.path()).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    let done = db.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        database_fixture::insert(&db, "second")?;
        fs::remove_file(with_suffix(&fixture.path(), "-wal")).unwrap();
        fs::remove_file(with_suffix(&fixture.path(), "-shm")).unwrap();
        for _ in 0..2 {
            let error = database_fixture::insert(&db, "lost").unwrap_err();
            assert!(error.is_file_replaced(), "{error}");
        }
        Ok(())
    });
    done.unwrap();
    database_fixture::insert(&db, "third").unwrap();
    assert_eq!(database_fixture::keys(&db), ["first", "second", "third"]);
}

/// Closing the connections needs the write lock, which a closure has that reads.
#[test]
fn a_read_inside_a_hold_does_not_wait_for_one_outside_that_waits_for_the_hold() {
    let fixture = DatabaseFixture::new();
    fixture.database();
    let options = OpenOptions::new().timeout(Duration::from_secs(120));
    let db = options.open(fixture.path()).unwrap();
    let read = || db.query("SELECT 1", ()).unwrap_err();
    thread::scope(|scope| {
        let mut outside = None;
        let held = db.with_write_lock(|_| {
            fs::remove_file(with_suffix(&fixture.path(), "-wal")).unwrap();
            outside = Some(scope.spawn(read));
            // Time to find out and to wait for the lock.
            thread::sleep(Duration::from_millis(300));
            let begun = Instant::now();
            assert!(read().is_nested());
            assert!(begun.elapsed() < Duration::from_secs(60));
            Ok(())
        });
        assert!(held.unwrap_err().is_file_replaced());
        assert!(outside.unwrap().join().unwrap().is_file_replaced());
    });
    assert_eq!(database_fixture::keys(&db), Vec::<String>::new());
}

/// The application's own connection, which has the former files open.
#[test]
fn a_handle_is_not_opened_beside_a_plain_connection_with_former_files() {
    let mut scene = Scene::new();
    scene.peer.kill();
    let path = scene.fixture.path();
    let plain = Connection::open(&path).unwrap();
    database_fixture::insert(&scene.fixture.database(), "second").unwrap();
    plain
        .execute("INSERT INTO entry VALUES ('plain')", ())
        .unwrap();
    scene.delete("-wal");
    let error = Database::open(&path).unwrap_err();
    let advice = "close the connections that are";
    assert!(
        error.is_refused() && error.to_string().contains(advice),
        "{error}"
    );
}

#[test]
fn a_second_handle_of_this_process_is_opened_with_the_files_that_are_there_now() {
    let mut scene = Scene::new();
    scene.peer.kill();
    let path = scene.fixture.path();
    let db = scene.fixture.database();
    database_fixture::insert(&db, "second").unwrap();
    scene.replace();
    let second = Database::open(&path).unwrap();
    database_fixture::insert(&second, "third").unwrap();
    database_fixture::insert(&db, "fourth").unwrap();
    for handle in [&db, &second] {
        assert_eq!(
            database_fixture::keys(handle),
            ["backup", "fourth", "third"]
        );
    }
}

/// SQLite shares the index among all connections of a process.
#[test]
fn a_deleted_wal_is_given_up_by_all_handles_of_a_process() {
    for deleted in [&["-wal"][..], &["-shm"], &["-wal", "-shm"]] {
        let mut scene = Scene::new();
        scene.peer.kill();
        let (one, other) = (scene.fixture.database(), scene.fixture.database());
        database_fixture::insert(&one, "one").unwrap();
        database_fixture::insert(&other, "other").unwrap();
        assert_eq!(database_fixture::keys(&other).len(), 3);
        deleted.iter().for_each(|suffix| scene.delete(suffix));
        let error = database_fixture::insert(&one, "lost").unwrap_err();
        assert!(error.is_file_replaced(), "{deleted:?}: {error}");
        database_fixture::insert(&one, "third").unwrap();
        // It was given up with the other, and its next call uses what is there now.
        database_fixture::insert(&other, "fourth").unwrap();
        let third = scene.fixture.database();
        for handle in [&one, &other, &third] {
            let keys = database_fixture::keys(handle);
            assert_eq!(keys, ["first", "fourth", "one", "other", "third"]);
        }
    }
}

/// A read of one handle keeps the others from being opened again, and from nothing else.
#[test]
fn a_read_of_another_handle_postpones_the_reopening() {
    let mut scene = Scene::new();
    scene.peer.kill();
    let (one, other) = (scene.fixture.database(), scene.fixture.database());
    database_fixture::insert(&one, "one").unwrap();
    let read = other.read(|connection| -> Result<()> {
        connection.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        scene.delete("-wal");
        for _ in 0..2 {
            let error = database_fixture::insert(&one, "lost").unwrap_err();
            assert!(error.is_file_replaced(), "{error}");
        }
        Ok(())
    });
    read.unwrap();
    database_fixture::insert(&one, "second").unwrap();
    database_fixture::insert(&other, "third").unwrap();
    assert_eq!(
        database_fixture::keys(&scene.fixture.database()),
        ["first", "one", "second", "third"]
    );
}

#[test]
fn events_say_that_a_file_was_replaced_and_that_the_database_was_opened_again() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    fs::remove_file(with_suffix(&fixture.path(), "-wal")).unwrap();
    let heard = Recorder::record(|| {
        let error = database_fixture::insert(&db, "lost").unwrap_err();
        assert!(error.is_file_replaced(), "{error}");
        database_fixture::insert(&db, "kept").unwrap();
    });
    for event in [
        "a file of the database was replaced or deleted",
        "opened the files that are there now",
    ] {
        assert!(heard.text().contains(event), "{event}: {}", heard.text());
    }
}

/// Each process has the same WAL, and another index.
#[test]
fn a_process_with_a_former_index_does_not_spoil_the_wal_of_another() {
    let mut scene = Scene::new();
    let mut other = Scene {
        peer: Scene::start(&scene.fixture),
        fixture: DatabaseFixture::new(),
    };
    other.ask("insert second", "done");
    scene.delete("-shm");
    other.ask("insert lost", "replaced");
    other.ask("insert third", "done");
    scene.delete("-wal");
    scene.delete("-shm");
    scene.ask("insert lost", "replaced");
    other.ask("insert lost", "replaced");
    other.ask("insert fourth", "done");
    other.ask("keys", "[first fourth second third]");
}
