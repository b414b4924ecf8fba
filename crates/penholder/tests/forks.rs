//! A forked child can use the parent's `Database`: it opens its own connections with
//! their own locks, so no process deletes the WAL that it uses. Transactions and
//! snapshots that were open at the fork stay with the parent.
#![cfg(test)]
#![cfg(unix)] // Windows has no forks
#![allow(unsafe_code, reason = "fork and _exit are what is tested")]

use std::ffi::OsString;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use penholder::{Database, Error, OpenOptions, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, portable, wait};

/// How many rows a process writes for each name.
const ROWS: usize = 40;

#[test]
fn peer() {
    peer::run_role(&[
        ("family", family),
        ("close_before_child", close_before_child),
        ("exit_before_child", exit_before_child),
        ("fork_inside_write", fork_inside_write),
        ("fork_inside_lock", fork_inside_lock),
        ("fork_inside_read", fork_inside_read),
        ("fork_with_spilled_pages", fork_with_spilled_pages),
        ("hold_in_child", hold_in_child),
        ("open_in_child", open_in_child),
        ("close_in_child", close_in_child),
        ("plain_transaction_in_child", plain_transaction_in_child),
    ]);
}

// ---- forking ---------------------------------------------------------------

/// Forks. Returns `None` in the child.
fn fork() -> Option<i32> {
    // SAFETY: a peer has only one thread, so the child is a complete copy.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    (pid > 0).then_some(pid)
}

/// Ends a child at once, without the test runner, which belongs to the parent.
fn exit(success: bool) -> ! {
    // SAFETY: ends the process, and nothing runs after it.
    unsafe { libc::_exit(i32::from(!success)) }
}

/// Runs `work` in a forked child, which succeeds if it does not panic.
fn child(work: impl FnOnce()) -> i32 {
    match fork() {
        Some(pid) => pid,
        None => {
            // The child does not outlive its test.
            portable::end_with_parent();
            exit(catch_unwind(AssertUnwindSafe(work)).is_ok())
        }
    }
}

/// Waits until a child exits, and asserts that it succeeded.
fn join(pid: i32) {
    let pid = rustix::process::Pid::from_raw(pid);
    let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    let (_, status) = ended.unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
}

/// A pipe between related processes. One waits for the other's signal.
struct Signal(PipeReader, PipeWriter);

impl Signal {
    fn new() -> Self {
        let (reader, writer) = std::io::pipe().unwrap();
        Self(reader, writer)
    }

    fn send(&self) {
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

/// Opens the database of a role and uses it.
fn database(args: &[OsString], first_key: &str) -> Database {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, first_key).unwrap();
    database_fixture::count_entries(&db);
    db
}

/// Asserts that the table has exactly these rows, and that SQLite finds nothing wrong.
fn assert_rows(fixture: &DatabaseFixture, names: &[&str], more: &[&str]) {
    let rows = |name: &&str| -> Vec<String> {
        (0..ROWS)
            .map(|number| format!("{name}-{number:02}"))
            .collect()
    };
    let mut expected: Vec<String> = names.iter().flat_map(rows).collect();
    expected.extend(more.iter().map(|&key| key.to_owned()));
    expected.sort();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&fixture.path())),
        expected
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
    let child_pid = child(|| {
        let grandchild_pid = child(|| {
            go.wait();
            write_rows(&db, "grandchild");
        });
        go.wait();
        write_rows(&db, "child");
        join(grandchild_pid);
        write_rows(&db, "child after join");
    });
    (0..2).for_each(|_| go.send());
    write_rows(&db, "parent");
    join(child_pid);
    write_rows(&db, "parent after join");
    peer::send("done");
}

#[test]
fn parent_child_and_grandchild_write_at_once() {
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
            "child after join",
            "parent",
            "parent after join",
        ],
        &["first"],
    );
}

// ---- no process closes as the last one by mistake ------------------------------

/// The parent closes its database while the child goes on.
fn close_before_child(args: &[OsString]) {
    let db = database(args, "first");
    let (wrote, closed) = (Signal::new(), Signal::new());
    let child_pid = child(|| {
        write_rows(&db, "before");
        wrote.send();
        closed.wait();
        peer::expect("write");
        write_rows(&db, "after");
        peer::send("child wrote");
        peer::expect("end");
    });
    wrote.wait();
    drop(db);
    peer::send("parent closed");
    closed.send();
    join(child_pid);
    peer::send("joined");
}

/// Returns the device and inode of a file, if it exists.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Opens, reads and closes with plain SQLite, which would delete the WAL if its
/// connection were the last one.
fn read_plain(path: &Path) -> i64 {
    let connection = plain_sqlite::open(path);
    let count = "SELECT count(*) FROM entry";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn the_wal_is_not_deleted_while_a_child_uses_it() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("close_before_child", &fixture);
    peer.expect("parent closed");
    let (wal, shm) = (
        database_fixture::with_suffix(&fixture.path(), "-wal"),
        database_fixture::with_suffix(&fixture.path(), "-shm"),
    );
    let before = (identity(&wal), identity(&shm));
    assert!(before.0.is_some() && before.1.is_some(), "{before:?}");
    // Other processes open and close, and none of them is the last one.
    assert_eq!(read_plain(&fixture.path()), 1 + 40);
    drop(database_fixture::open(&fixture.path()));
    assert_eq!((identity(&wal), identity(&shm)), before);
    peer.send("write");
    peer.expect("child wrote");
    assert_eq!((identity(&wal), identity(&shm)), before);
    assert_eq!(
        read_plain(&fixture.path()),
        1 + 80,
        "acknowledged rows are seen"
    );
    assert_eq!((identity(&wal), identity(&shm)), before);
    peer.send("end");
    peer.expect("joined");
    assert!(peer.close().success());
    assert_rows(&fixture, &["before", "after"], &["first"]);
}

/// The parent exits while the child goes on.
fn exit_before_child(args: &[OsString]) {
    let db = database(args, "first");
    let ready = Signal::new();
    if fork().is_some() {
        ready.wait();
        drop(db);
        exit(true);
    }
    let work = || {
        write_rows(&db, "before");
        ready.send();
        peer::expect("write");
        write_rows(&db, "after");
        peer::send("child wrote");
        peer::expect("end");
    };
    exit(catch_unwind(AssertUnwindSafe(work)).is_ok());
}

#[test]
fn a_child_goes_on_after_its_parent_exited() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("exit_before_child", &fixture);
    wait::until("the parent to end", || has_exited(peer.pid()));
    read_plain(&fixture.path());
    drop(database_fixture::open(&fixture.path()));
    peer.send("write");
    peer.expect("child wrote");
    assert_eq!(read_plain(&fixture.path()), 1 + 80);
    peer.send("end");
    assert!(peer.close().success());
    assert_rows(&fixture, &["before", "after"], &["first"]);
}

/// Returns whether a child of this process has exited, without collecting its status.
fn has_exited(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_none_or(|rest| rest.starts_with('Z'))
}

// ---- a child has locks of its own -------------------------------------------------

/// The child writes while its parent has the database open too.
fn hold_in_child(args: &[OsString]) {
    let db = database(args, "first");
    let child_pid = child(|| {
        let done = db.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('child')", [])?;
            peer::send(&format!("held by {}", std::process::id()));
            peer::expect("release");
            Ok(())
        });
        done.unwrap();
    });
    join(child_pid);
    peer::send(&format!("{}", database_fixture::count_entries(&db)));
}

#[test]
fn a_child_holds_locks_of_its_own() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("hold_in_child", &fixture);
    let line = peer.read_line();
    let pid: u32 = line.strip_prefix("held by ").unwrap().parse().unwrap();
    assert_ne!(pid, peer.pid());
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let error = database_fixture::insert(&options.open(fixture.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(pid), "{error}");
    let plain = plain_sqlite::open(&fixture.path());
    plain.busy_timeout(Duration::ZERO).unwrap();
    let busy = plain.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    drop(plain);
    peer.send("release");
    peer.expect("2");
    assert!(peer.close().success());
}

/// The child opens a `Database` of its own by the path, and does not use its parent's.
fn open_in_child(args: &[OsString]) {
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
fn a_child_may_open_a_database_of_its_own() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("open_in_child", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &["child", "child again", "parent"], &["first"]);
}

/// The child has a plain connection of its own in a transaction, and opens and
/// closes a `Database` on the same file.
fn plain_transaction_in_child(args: &[OsString]) {
    let path = Path::new(&args[0]);
    // Another database, so that the parent has used the library but not this file.
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
fn locks_of_plain_connections_in_a_child_are_kept() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("plain_transaction_in_child", &fixture);
    peer.expect("held");
    let plain = plain_sqlite::open(&fixture.path());
    plain.busy_timeout(Duration::ZERO).unwrap();
    let busy = plain.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    peer.send("commit");
    peer.expect("done");
    assert!(peer.close().success());
    drop(plain);
    assert_rows(&fixture, &[], &["plain"]);
}

/// The children close the database that they inherited, used or not. The parent's locks
/// stay.
fn close_in_child(args: &[OsString]) {
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
fn children_that_close_do_not_drop_the_parents_locks() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("close_in_child", &fixture);
    peer.expect("children closed");
    let plain = plain_sqlite::open(&fixture.path());
    plain.busy_timeout(Duration::ZERO).unwrap();
    assert!(plain.execute_batch("BEGIN IMMEDIATE").is_err());
    drop(plain);
    let options = OpenOptions::new().timeout(Duration::from_millis(100));
    let error = database_fixture::insert(&options.open(fixture.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(peer.pid()), "{error}");
    peer.send("release");
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &[], &["first", "parent"]);
}

// ---- forks inside a write or a read ---------------------------------------------

/// Asserts that the child gets an error, and that it has no part in the transaction.
fn assert_not_in_transaction(db: &Database, parent: u32, done: &Result<(), Error>) {
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

fn open_with_short_timeout(args: &[OsString]) -> Database {
    let options = OpenOptions::new().timeout(Duration::from_millis(300));
    let db = options.open(&args[0]).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    db
}

fn fork_inside_write(args: &[OsString]) {
    let db = open_with_short_timeout(args);
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
        let check = || assert_not_in_transaction(&db, parent, &done);
        exit(catch_unwind(AssertUnwindSafe(check)).is_ok());
    }
    done.unwrap();
    database_fixture::insert(&db, "parent again").unwrap();
    peer::send("done");
}

fn fork_inside_lock(args: &[OsString]) {
    let db = open_with_short_timeout(args);
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
        let check = || assert_not_in_transaction(&db, parent, &done);
        exit(catch_unwind(AssertUnwindSafe(check)).is_ok());
    }
    done.unwrap();
    database_fixture::insert(&db, "parent again").unwrap();
    peer::send("done");
}

#[test]
fn a_transaction_stays_with_the_parent() {
    for role in ["fork_inside_write", "fork_inside_lock"] {
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

/// A transaction that has outgrown the cache is partly in the WAL. A child that rolled it
/// back, or closed the connection, would undo it there.
fn fork_with_spilled_pages(args: &[OsString]) {
    let db = open_with_short_timeout(args);
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
        // The child drops the parent's database.
        drop(db);
        exit(done.is_err_and(|error| error.is_forked()));
    }
    done.unwrap();
    peer::send("done");
}

#[test]
fn a_child_does_not_undo_what_is_in_the_wal() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("fork_with_spilled_pages", &fixture);
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
    assert_eq!(read.unwrap(), 1, "the parent keeps its snapshot");
    write_rows(&db, "parent");
    peer::send("done");
}

#[test]
fn a_snapshot_stays_with_the_parent() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut peer = start("fork_inside_read", &fixture);
    peer.expect("done");
    assert!(peer.close().success());
    assert_rows(&fixture, &["child", "parent"], &["first"]);
}
