//! Forks: a child uses the parent's `Database` and opens its own connections,
//! with locks of its own, so that nobody deletes the log under it; what the
//! parent was in the middle of stays the parent's.
#![cfg(test)]
#![allow(unsafe_code, reason = "fork and _exit are what is tested")]

use std::ffi::OsString;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use penholder::{Database, Error, Options, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

/// How many rows each process of a family writes.
const ROWS: usize = 40;

#[test]
fn peer() {
    peer::run_role(&[
        ("family", family),
        ("deserter", deserter),
        ("orphan", orphan),
        ("fork inside write", fork_inside_write),
        ("fork inside lock", fork_inside_lock),
        ("fork inside read", fork_inside_read),
        ("fork with spilt pages", fork_with_spilt_pages),
        ("child holds", child_holds),
        ("child opens anew", child_opens_anew),
        ("child closes", child_closes),
        ("child beside plain SQLite", child_beside_plain_sqlite),
    ]);
}

// ---- forking ---------------------------------------------------------------

/// Forks; `None` is the child.
fn fork() -> Option<i32> {
    // SAFETY: a peer has one thread, so its child lacks nothing that it had.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    (pid > 0).then_some(pid)
}

/// Ends a child at once, past the test runner, which is its parent's.
fn exit(well: bool) -> ! {
    // SAFETY: ends the process; nothing of it is used afterwards.
    unsafe { libc::_exit(i32::from(!well)) }
}

/// Runs something in a forked child, which ends well if it does not panic.
fn child(work: impl FnOnce()) -> i32 {
    match fork() {
        Some(pid) => pid,
        None => {
            // So that none outlives its test, whatever happens.
            let kill = Some(rustix::process::Signal::KILL);
            rustix::process::set_parent_process_death_signal(kill).unwrap();
            exit(catch_unwind(AssertUnwindSafe(work)).is_ok())
        }
    }
}

/// Waits for the end of a child, and asserts that it went well.
fn join(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid);
    let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    let (_, status) = ended.unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
}

/// A pipe between relatives: one waits for what the other says.
struct Signal(PipeReader, PipeWriter);

impl Signal {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self(reader, writer)
    }

    fn give(&self) {
        (&self.1).write_all(b"!").unwrap();
    }

    fn wait(&self) {
        (&self.0).read_exact(&mut [0]).unwrap();
    }
}

fn write_rows(db: &Database, name: &str) {
    for number in 0..ROWS {
        database_fixture::insert(db, &format!("{name}-{number:02}")).unwrap();
    }
}

/// The database of a role, open and in use.
fn database(args: &[OsString], first_key: &str) -> Database {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, first_key).unwrap();
    database_fixture::count_entries(&db);
    db
}

/// Asserts that these are the rows, and that SQLite finds nothing wrong.
fn assert_rows(fixture: &DatabaseFixture, names: &[&str], more: &[&str]) {
    let rows = |name: &&str| -> Vec<String> {
        (0..ROWS)
            .map(|number| format!("{name}-{number:02}"))
            .collect()
    };
    let mut wanted: Vec<String> = names.iter().flat_map(rows).collect();
    wanted.extend(more.iter().map(|&key| key.to_owned()));
    wanted.sort();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        wanted
    );
    plain_sqlite::assert_integrity(&fixture.path());
}

fn start(role: &str, fixture: &DatabaseFixture) -> Peer {
    Peer::start(role, [fixture.path()])
}

// ---- parent, child and grandchild write at once ------------------------------

fn family(args: &[OsString]) {
    let db = database(args, "first");
    let go = Signal::new();
    let son = child(|| {
        let grandson = child(|| {
            go.wait();
            write_rows(&db, "grandchild");
        });
        go.wait();
        write_rows(&db, "child");
        join(grandson);
        write_rows(&db, "bereft child");
    });
    (0..2).for_each(|_| go.give());
    write_rows(&db, "parent");
    join(son);
    write_rows(&db, "childless parent");
    peer::send("done");
}

#[test]
fn relatives_write_at_once() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("family", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(
        &fixture,
        &[
            "grandchild",
            "child",
            "bereft child",
            "parent",
            "childless parent",
        ],
        &["first"],
    );
}

// ---- the last one that closes must not be mistaken -----------------------------

/// The parent closes its database while the child goes on.
fn deserter(args: &[OsString]) {
    let db = database(args, "first");
    let (wrote, closed) = (Signal::new(), Signal::new());
    let son = child(|| {
        write_rows(&db, "before");
        wrote.give();
        closed.wait();
        peer::expect("write");
        write_rows(&db, "after");
        peer::send("child wrote");
        peer::expect("end");
    });
    wrote.wait();
    drop(db);
    peer::send("parent closed");
    closed.give();
    join(son);
    peer::send("joined");
}

/// The device and inode of a file, if there is one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Plain SQLite opens, reads and closes: if it were the last one, it would
/// delete the log.
fn visit(path: &Path) -> i64 {
    let connection = plain_sqlite::open(path);
    let count = "SELECT count(*) FROM entry";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn log_is_not_deleted_under_a_child() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("deserter", &fixture);
    peer.expect("parent closed");
    let (log, shm) = (
        database_fixture::with_suffix(&fixture.path(), "-wal"),
        database_fixture::with_suffix(&fixture.path(), "-shm"),
    );
    let before = (identity(&log), identity(&shm));
    assert!(before.0.is_some() && before.1.is_some(), "{before:?}");
    // Everybody else opens and closes: not one of them is the last.
    assert_eq!(visit(&fixture.path()), 1 + 40);
    drop(database_fixture::open(&fixture.path()));
    assert_eq!((identity(&log), identity(&shm)), before);
    peer.send("write");
    peer.expect("child wrote");
    assert_eq!((identity(&log), identity(&shm)), before);
    assert_eq!(
        visit(&fixture.path()),
        1 + 80,
        "acknowledged, so it is seen"
    );
    assert_eq!((identity(&log), identity(&shm)), before);
    peer.send("end");
    peer.expect("joined");
    assert!(peer.close().success());
    assert_rows(&fixture, &["before", "after"], &["first"]);
}

/// The parent ends altogether while the child goes on.
fn orphan(args: &[OsString]) {
    let db = database(args, "first");
    let ready = Signal::new();
    if fork().is_some() {
        ready.wait();
        drop(db);
        exit(true);
    }
    let work = || {
        write_rows(&db, "before");
        ready.give();
        peer::expect("write");
        write_rows(&db, "after");
        peer::send("orphan wrote");
        peer::expect("end");
    };
    exit(catch_unwind(AssertUnwindSafe(work)).is_ok());
}

#[test]
fn orphan_goes_on() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("orphan", &fixture);
    wait::until("the parent to end", || is_gone(peer.pid()));
    visit(&fixture.path());
    drop(database_fixture::open(&fixture.path()));
    peer.send("write");
    peer.expect("orphan wrote");
    assert_eq!(visit(&fixture.path()), 1 + 80);
    peer.send("end");
    assert!(peer.close().success());
    assert_rows(&fixture, &["before", "after"], &["first"]);
}

/// Whether a child of ours has ended, without taking its status.
fn is_gone(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_none_or(|rest| rest.starts_with('Z'))
}

// ---- the locks of a child are real -----------------------------------------------

/// The child writes, while its parent has the database open, too.
fn child_holds(args: &[OsString]) {
    let db = database(args, "first");
    let son = child(|| {
        let done = db.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('child')", [])?;
            peer::send(&format!("held by {}", std::process::id()));
            peer::expect("release");
            Ok(())
        });
        done.unwrap();
    });
    join(son);
    peer::send(&format!("{}", database_fixture::count_entries(&db)));
}

#[test]
fn locks_of_a_child_are_real() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("child holds", &fixture);
    let said = peer.read_line();
    let pid: u32 = said.strip_prefix("held by ").unwrap().parse().unwrap();
    assert_ne!(pid, peer.pid());
    let options = Options::new().timeout(Duration::from_millis(200));
    let error = database_fixture::insert(&options.open(fixture.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(pid), "{error}");
    let stranger = plain_sqlite::open(&fixture.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    let busy = stranger.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    drop(stranger);
    peer.send("release");
    peer.expect("2");
    assert!(peer.close().success());
}

/// The child opens a `Database` of its own by the path, and leaves its
/// parent's alone.
fn child_opens_anew(args: &[OsString]) {
    let db = database(args, "first");
    join(child(|| {
        let own = database_fixture::open(Path::new(&args[0]));
        write_rows(&own, "child");
        drop(own);
        write_rows(&database_fixture::open(Path::new(&args[0])), "child again");
    }));
    write_rows(&db, "parent");
    peer::send("done");
}

#[test]
fn child_opens_a_database_of_its_own() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("child opens anew", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &["child", "child again", "parent"], &["first"]);
}

/// The child has a plain connection of its own in a transaction, and opens and
/// closes a `Database` on the same file.
fn child_beside_plain_sqlite(args: &[OsString]) {
    let path = Path::new(&args[0]);
    // Another database, so that only the library is known to the parent.
    drop(database_fixture::open(&path.with_file_name("other.db")));
    join(child(|| {
        let plain = plain_sqlite::open(path);
        plain
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO entry VALUES ('plain')")
            .unwrap();
        drop(database_fixture::open(path));
        peer::send("held");
        peer::expect("commit");
        plain.execute_batch("COMMIT").unwrap();
    }));
    peer::send("done");
}

#[test]
fn locks_of_plain_connections_in_a_child_stay() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("child beside plain SQLite", &fixture);
    peer.expect("held");
    let stranger = plain_sqlite::open(&fixture.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    let busy = stranger.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    peer.send("commit");
    peer.expect("done");
    assert!(peer.close().success());
    drop(stranger);
    assert_rows(&fixture, &[], &["plain"]);
}

/// The child closes what it inherited, used or not; the parent's locks stay.
fn child_closes(args: &[OsString]) {
    let db = database(args, "first");
    let Some(pid) = fork() else {
        drop(db);
        exit(true);
    };
    join(pid);
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('parent')", [])?;
        let unused = db.clone();
        join(child(|| drop(unused)));
        join(child(|| {
            database_fixture::count_entries(&db);
            drop(database_fixture::open(Path::new(&args[0])));
        }));
        peer::send("children closed");
        peer::expect("release");
        Ok(())
    });
    done.unwrap();
    peer::send("done");
}

#[test]
fn children_that_close_do_not_unlock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("child closes", &fixture);
    peer.expect("children closed");
    let stranger = plain_sqlite::open(&fixture.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    assert!(stranger.execute_batch("BEGIN IMMEDIATE").is_err());
    drop(stranger);
    let options = Options::new().timeout(Duration::from_millis(100));
    let error = database_fixture::insert(&options.open(fixture.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(peer.pid()), "{error}");
    peer.send("release");
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &[], &["first", "parent"]);
}

// ---- forked in the middle of something -----------------------------------------

/// What the child of a closure must get, and must not be able to do.
fn assert_outside(db: &Database, parent: u32, done: &Result<(), Error>) {
    let error = done.as_ref().unwrap_err();
    assert!(error.is_forked(), "{error}");
    assert!(!error.is_timeout());
    let error = database_fixture::insert(db, "child").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(parent), "{error}");
    assert_eq!(
        database_fixture::keys(db),
        ["first"],
        "not the parent's transaction"
    );
}

fn impatient(args: &[OsString]) -> Database {
    let options = Options::new().timeout(Duration::from_millis(300));
    let db = options.open(&args[0]).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    db
}

fn fork_inside_write(args: &[OsString]) {
    let db = impatient(args);
    let parent = std::process::id();
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('parent')", [])?;
        if let Some(pid) = fork() {
            join(pid);
            tx.execute("INSERT INTO entry VALUES ('parent too')", [])?;
        }
        Ok(())
    });
    if std::process::id() != parent {
        let check = || assert_outside(&db, parent, &done);
        exit(catch_unwind(AssertUnwindSafe(check)).is_ok());
    }
    done.unwrap();
    database_fixture::insert(&db, "parent again").unwrap();
    peer::send("done");
}

fn fork_inside_lock(args: &[OsString]) {
    let db = impatient(args);
    let parent = std::process::id();
    let done = db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch("BEGIN; INSERT INTO entry VALUES ('parent')")?;
        if let Some(pid) = fork() {
            join(pid);
            connection.execute_batch("INSERT INTO entry VALUES ('parent too'); COMMIT")?;
        }
        Ok(())
    });
    if std::process::id() != parent {
        let check = || assert_outside(&db, parent, &done);
        exit(catch_unwind(AssertUnwindSafe(check)).is_ok());
    }
    done.unwrap();
    database_fixture::insert(&db, "parent again").unwrap();
    peer::send("done");
}

#[test]
fn transaction_stays_with_the_parent() {
    for role in ["fork inside write", "fork inside lock"] {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let mut peer = start(role, &fixture);
        peer.expect("done");
        assert!(peer.close().success());
        assert_rows(
            &fixture,
            &[],
            &["first", "parent", "parent again", "parent too"],
        );
    }
}

/// A transaction that has outgrown the cache stands in the log already: a child
/// that rolled it back, or closed the connection, would undo it there.
fn fork_with_spilt_pages(args: &[OsString]) {
    let db = impatient(args);
    let parent = std::process::id();
    let sum = "SELECT sum(length(key)) FROM entry WHERE typeof(key) = 'blob'";
    let done = db.write(|tx| -> Result<()> {
        tx.pragma_update(None, "cache_size", 5)?;
        for _ in 0..500 {
            tx.execute("INSERT INTO entry VALUES (zeroblob(3000))", [])?;
        }
        if let Some(pid) = fork() {
            join(pid);
            let sum: i64 = tx.query_row(sum, [], |row| row.get(0))?;
            assert_eq!(sum, 500 * 3000);
            tx.execute("DELETE FROM entry WHERE typeof(key) = 'blob'", [])?;
            tx.execute("INSERT INTO entry VALUES ('parent')", [])?;
        }
        Ok(())
    });
    if std::process::id() != parent {
        // Whatever it drops now, it is the parent's.
        drop(db);
        exit(done.is_err_and(|error| error.is_forked()));
    }
    done.unwrap();
    peer::send("done");
}

#[test]
fn child_does_not_undo_what_stands_in_the_log() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("fork with spilt pages", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &[], &["first", "parent"]);
}

fn fork_inside_read(args: &[OsString]) {
    let db = database(args, "first");
    let parent = std::process::id();
    let read = db.read(|connection| -> Result<i64> {
        let count = "SELECT count(*) FROM entry";
        connection.query_row(count, [], |_| Ok(()))?;
        if let Some(pid) = fork() {
            join(pid);
        }
        if std::process::id() == parent {
            return Ok(connection.query_row(count, [], |row| row.get(0))?);
        }
        Ok(0)
    });
    if std::process::id() != parent {
        let check = || {
            assert!(read.unwrap_err().is_forked());
            write_rows(&db, "child");
        };
        exit(catch_unwind(AssertUnwindSafe(check)).is_ok());
    }
    assert_eq!(read.unwrap(), 1, "the parent's snapshot stands");
    write_rows(&db, "parent");
    peer::send("done");
}

#[test]
fn snapshot_stays_with_the_parent() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("fork inside read", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &["child", "parent"], &["first"]);
}
