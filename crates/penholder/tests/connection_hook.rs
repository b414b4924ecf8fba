//! A hook sets up every connection that the program's statements run on, and no other.
#![cfg(test)]

use std::ffi::OsString;
use std::panic;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};

use penholder::rusqlite::functions::FunctionFlags;
use penholder::rusqlite::{self, Connection};
use penholder::{ConnectionRole, ErrorKind, OpenOptions, Result, Synchronous};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer};

fn add_twice(connection: &Connection) -> rusqlite::Result<()> {
    let flags = FunctionFlags::SQLITE_UTF8 | FunctionFlags::SQLITE_DETERMINISTIC;
    connection.create_scalar_function("twice", 1, flags, |context| Ok(2 * context.get::<i64>(0)?))
}

fn with_twice() -> OpenOptions {
    database_fixture::options().connection_hook(|connection, _| add_twice(connection))
}

/// What the errors of `execute` advise about pragmas that a database keeps.
#[test]
fn a_hook_decides_how_a_new_database_is_laid_out() {
    let fixture = DatabaseFixture::new();
    let path = fixture.path().with_file_name("new.db");
    let options = penholder::OpenOptions::new().connection_hook(|connection, role| {
        if role == penholder::ConnectionRole::Writer {
            connection.execute_batch("PRAGMA page_size=8192; PRAGMA encoding='UTF-16le'")?;
        }
        Ok(())
    });
    let db = options.open(path).unwrap();
    // SQLite stores the encoding with the first table.
    db.execute("CREATE TABLE t(a)", ()).unwrap();
    let page_size: i64 = db.query_scalar("PRAGMA page_size", ()).unwrap();
    let encoding: String = db.query_scalar("PRAGMA encoding", ()).unwrap();
    assert_eq!((page_size, &*encoding), (8192, "UTF-16le"));
}

#[test]
fn functions_of_a_hook_are_known_to_writers_and_readers() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let db = with_twice().open(fixture.path()).unwrap();
    db.execute("INSERT INTO entry VALUES (twice(21))", [])
        .unwrap();
    db.batch(["UPDATE entry SET key = twice(key)"]).unwrap();
    db.write(|tx| Ok(tx.execute("UPDATE entry SET key = twice(key)", [])?))
        .unwrap();
    assert_eq!(
        db.query_scalar::<i64>("SELECT twice(key) FROM entry", [])
            .unwrap(),
        336
    );
}

#[test]
fn each_connection_is_set_up_once_and_says_what_it_is_for() {
    let fixture = DatabaseFixture::new();
    let seen = Arc::new(Mutex::new(Vec::new()));
    let noted = Arc::clone(&seen);
    let options = database_fixture::options().max_readers(2);
    let db = options
        .connection_hook(move |_, role| {
            noted.lock().unwrap().push(role);
            Ok(())
        })
        .open(fixture.path())
        .unwrap();
    let roles = || seen.lock().unwrap().clone();
    assert_eq!(roles(), [ConnectionRole::Writer]);
    db.execute("CREATE TABLE entry(key)", []).unwrap();
    for _ in 0..3 {
        assert_eq!(database_fixture::count_entries(&db), 0);
    }
    assert_eq!(roles(), [ConnectionRole::Writer, ConnectionRole::Reader]);
    let both = db.read(|_| Ok(database_fixture::count_entries(&db)));
    assert_eq!(both.unwrap(), 0);
    assert_eq!(roles().len(), 3);
}

#[test]
fn several_hooks_run_in_order_and_pragmas_stay() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::options()
        .connection_hook(|connection, _| connection.pragma_update(None, "cache_size", 7))
        .connection_hook(|connection, _| {
            let before: i64 =
                connection.pragma_query_value(None, "cache_size", |row| row.get(0))?;
            connection.pragma_update(None, "cache_size", before * 11)
        })
        .open(fixture.path())
        .unwrap();
    let size = |connection: &Connection| -> Result<i64> {
        Ok(connection.pragma_query_value(None, "cache_size", |row| row.get(0))?)
    };
    assert_eq!(db.read(size).unwrap(), 77);
    assert_eq!(db.with_write_lock(size).unwrap(), 77);
}

#[test]
fn a_hook_that_fails_fails_the_call() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let broken = |role| {
        database_fixture::options().connection_hook(move |connection, found| {
            if found == role {
                connection.execute_batch("SELECT absent()")
            } else {
                Ok(())
            }
        })
    };
    let error = broken(ConnectionRole::Writer)
        .open(fixture.path())
        .unwrap_err();
    let text = error.to_string();
    assert!(
        text.contains("connection hook") && text.contains("no such function"),
        "{text}"
    );
    let db = broken(ConnectionRole::Reader).open(fixture.path()).unwrap();
    database_fixture::insert(&db, "a").unwrap();
    let error = db.query("SELECT 1", []).unwrap_err();
    assert!(error.to_string().contains("connection hook"), "{error}");
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        ["a"]
    );
}

#[test]
fn a_hook_that_leaves_a_transaction_open_is_refused() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    for begin in ["BEGIN", "SAVEPOINT s"] {
        let options = database_fixture::options();
        let error = options
            .connection_hook(|connection, _| connection.execute_batch(begin))
            .open(fixture.path())
            .unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        assert!(
            error.to_string().contains("left a transaction open"),
            "{error}"
        );
    }
}

/// A panic costs no reader its place, and no task hangs.
#[test]
fn a_hook_that_panics_panics_the_call() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let panics = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&panics);
    let db = database_fixture::options()
        .max_readers(1)
        .connection_hook(move |_, _| {
            assert!(!switch.load(Relaxed), "on purpose");
            Ok(())
        })
        .open(fixture.path())
        .unwrap();
    panics.store(true, Relaxed);
    for _ in 0..3 {
        assert!(panic::catch_unwind(|| db.query("SELECT 1", [])).is_err());
    }
    panics.store(false, Relaxed);
    assert_eq!(db.query_scalar::<i64>("SELECT 1", []).unwrap(), 1);
}

/// Our own hooks are set after those of the program.
#[test]
fn a_hook_cannot_switch_checkpoints_off() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::options()
        .connection_hook(|connection, _| connection.pragma_update(None, "wal_autocheckpoint", 0))
        .open(fixture.path())
        .unwrap();
    db.execute("CREATE TABLE entry(key)", []).unwrap();
    for _ in 0..6000 {
        db.execute("INSERT INTO entry VALUES (randomblob(2000))", [])
            .unwrap();
    }
    let wal = database_fixture::with_suffix(&fixture.path(), "-wal");
    assert!(wal.metadata().unwrap().len() < 32 << 20);
}

/// Other processes would execute them with their own settings, here with foreign keys enforced.
#[test]
fn writes_on_a_changed_connection_stay_in_their_process() {
    let fixture = DatabaseFixture::new();
    let durable = || database_fixture::options().synchronous(Synchronous::Full);
    let db = durable().open(fixture.path()).unwrap();
    db.batch([
        "CREATE TABLE entry(key)",
        "CREATE TABLE owner(id INTEGER PRIMARY KEY)",
        "CREATE TABLE part(owner REFERENCES owner)",
    ])
    .unwrap();
    let writers = [(); 3].map(|()| Peer::start("write_durably", [fixture.path()]));
    writers.iter().for_each(|writer| writer.expect("writing"));
    let changed = durable()
        .connection_hook(|connection, _| connection.pragma_update(None, "foreign_keys", false))
        .open(fixture.path())
        .unwrap();
    for _ in 0..200 {
        changed.execute("INSERT INTO part VALUES (7)", []).unwrap();
    }
    drop(writers);
    let parts: i64 = db.query_scalar("SELECT count(*) FROM part", []).unwrap();
    assert_eq!(parts, 200);
    assert!(
        db.status().unwrap().counters.combined_writes > 0,
        "nothing was combined"
    );
}

/// A role: writes durably until killed, so that writes are combined.
fn write_durably(args: &[OsString]) {
    let options = database_fixture::options().synchronous(Synchronous::Full);
    let db = options.open(Path::new(&args[0])).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    peer::send("writing");
    loop {
        database_fixture::insert(&db, "more").unwrap();
    }
}

#[test]
fn peer() {
    peer::run_role(&[("write_durably", write_durably)]);
}
