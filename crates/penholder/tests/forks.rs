//! Forks: a child uses the parent's `Database` and opens its own connections,
//! with locks of its own, so that nobody deletes the log under it; what the
//! parent was in the middle of stays the parent's.
#![cfg(test)]
#![allow(unsafe_code, reason = "fork and _exit are what is tested")]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::OsString;
use std::fs;
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::os::unix::fs::MetadataExt;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::time::Duration;

use peer::Peer;
use penholder::{Database, Error, Options, Result};
use site::Site;

/// How many rows each process of a family writes.
const ROWS: usize = 40;

#[test]
fn peer() {
    peer::play(&[
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
        site::insert(db, &format!("{name}-{number:02}")).unwrap();
    }
}

/// The database of a role, open and in use.
fn database(args: &[OsString], first_key: &str) -> Database {
    let db = site::open(Path::new(&args[0]));
    site::insert(&db, first_key).unwrap();
    site::entries(&db);
    db
}

/// Asserts that these are the rows, and that SQLite finds nothing wrong.
fn assert_rows(site: &Site, names: &[&str], more: &[&str]) {
    let rows = |name: &&str| -> Vec<String> {
        (0..ROWS)
            .map(|number| format!("{name}-{number:02}"))
            .collect()
    };
    let mut wanted: Vec<String> = names.iter().flat_map(rows).collect();
    wanted.extend(more.iter().map(|&key| key.to_owned()));
    wanted.sort();
    assert_eq!(site::keys(&site::open(&site.path())), wanted);
    site::assert_whole(&site.path());
}

fn start(role: &str, site: &Site) -> Peer {
    Peer::start(role, [site.path()])
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
    peer::say("done");
}

#[test]
fn relatives_write_at_once() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("family", &site);
    peer.expect("done");
    assert!(peer.end().success());
    assert_rows(
        &site,
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
        peer::hear("write");
        write_rows(&db, "after");
        peer::say("child wrote");
        peer::hear("end");
    });
    wrote.wait();
    drop(db);
    peer::say("parent closed");
    closed.give();
    join(son);
    peer::say("joined");
}

/// The device and inode of a file, if there is one.
fn identity(path: &Path) -> Option<(u64, u64)> {
    let meta = fs::metadata(path).ok()?;
    Some((meta.dev(), meta.ino()))
}

/// Plain SQLite opens, reads and closes: if it were the last one, it would
/// delete the log.
fn visit(path: &Path) -> i64 {
    let connection = site::stranger(path);
    let count = "SELECT count(*) FROM entry";
    connection.query_row(count, [], |row| row.get(0)).unwrap()
}

#[test]
fn log_is_not_deleted_under_a_child() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("deserter", &site);
    peer.expect("parent closed");
    let (log, shm) = (
        site::beside(&site.path(), "-wal"),
        site::beside(&site.path(), "-shm"),
    );
    let before = (identity(&log), identity(&shm));
    assert!(before.0.is_some() && before.1.is_some(), "{before:?}");
    // Everybody else opens and closes: not one of them is the last.
    assert_eq!(visit(&site.path()), 1 + 40);
    drop(site::open(&site.path()));
    assert_eq!((identity(&log), identity(&shm)), before);
    peer.tell("write");
    peer.expect("child wrote");
    assert_eq!((identity(&log), identity(&shm)), before);
    assert_eq!(visit(&site.path()), 1 + 80, "acknowledged, so it is seen");
    assert_eq!((identity(&log), identity(&shm)), before);
    peer.tell("end");
    peer.expect("joined");
    assert!(peer.end().success());
    assert_rows(&site, &["before", "after"], &["first"]);
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
        peer::hear("write");
        write_rows(&db, "after");
        peer::say("orphan wrote");
        peer::hear("end");
    };
    exit(catch_unwind(AssertUnwindSafe(work)).is_ok());
}

#[test]
fn orphan_goes_on() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("orphan", &site);
    peer::until("the parent to end", || is_gone(peer.pid()));
    visit(&site.path());
    drop(site::open(&site.path()));
    peer.tell("write");
    peer.expect("orphan wrote");
    assert_eq!(visit(&site.path()), 1 + 80);
    peer.tell("end");
    assert!(peer.end().success());
    assert_rows(&site, &["before", "after"], &["first"]);
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
            peer::say(&format!("held by {}", std::process::id()));
            peer::hear("release");
            Ok(())
        });
        done.unwrap();
    });
    join(son);
    peer::say(&format!("{}", site::entries(&db)));
}

#[test]
fn locks_of_a_child_are_real() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("child holds", &site);
    let said = peer.line();
    let pid: u32 = said.strip_prefix("held by ").unwrap().parse().unwrap();
    assert_ne!(pid, peer.pid());
    let options = Options::new().timeout(Duration::from_millis(200));
    let error = site::insert(&options.open(site.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(pid), "{error}");
    let stranger = site::stranger(&site.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    let busy = stranger.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    drop(stranger);
    peer.tell("release");
    peer.expect("2");
    assert!(peer.end().success());
}

/// The child opens a `Database` of its own by the path, and leaves its
/// parent's alone.
fn child_opens_anew(args: &[OsString]) {
    let db = database(args, "first");
    join(child(|| {
        let own = site::open(Path::new(&args[0]));
        write_rows(&own, "child");
        drop(own);
        write_rows(&site::open(Path::new(&args[0])), "child again");
    }));
    write_rows(&db, "parent");
    peer::say("done");
}

#[test]
fn child_opens_a_database_of_its_own() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("child opens anew", &site);
    peer.expect("done");
    assert!(peer.end().success());
    assert_rows(&site, &["child", "child again", "parent"], &["first"]);
}

/// The child has a plain connection of its own in a transaction, and opens and
/// closes a `Database` on the same file.
fn child_beside_plain_sqlite(args: &[OsString]) {
    let path = Path::new(&args[0]);
    // Another database, so that only the library is known to the parent.
    drop(site::open(&path.with_file_name("other.db")));
    join(child(|| {
        let plain = site::stranger(path);
        plain
            .execute_batch("BEGIN IMMEDIATE; INSERT INTO entry VALUES ('plain')")
            .unwrap();
        drop(site::open(path));
        peer::say("held");
        peer::hear("commit");
        plain.execute_batch("COMMIT").unwrap();
    }));
    peer::say("done");
}

#[test]
fn locks_of_plain_connections_in_a_child_stay() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("child beside plain SQLite", &site);
    peer.expect("held");
    let stranger = site::stranger(&site.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    let busy = stranger.execute_batch("BEGIN IMMEDIATE").unwrap_err();
    let code = busy.sqlite_error_code();
    assert_eq!(code, Some(rusqlite::ErrorCode::DatabaseBusy), "{busy}");
    peer.tell("commit");
    peer.expect("done");
    assert!(peer.end().success());
    drop(stranger);
    assert_rows(&site, &[], &["plain"]);
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
            site::entries(&db);
            drop(site::open(Path::new(&args[0])));
        }));
        peer::say("children closed");
        peer::hear("release");
        Ok(())
    });
    done.unwrap();
    peer::say("done");
}

#[test]
fn children_that_close_do_not_unlock() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("child closes", &site);
    peer.expect("children closed");
    let stranger = site::stranger(&site.path());
    stranger.busy_timeout(Duration::ZERO).unwrap();
    assert!(stranger.execute_batch("BEGIN IMMEDIATE").is_err());
    drop(stranger);
    let options = Options::new().timeout(Duration::from_millis(100));
    let error = site::insert(&options.open(site.path()).unwrap(), "no").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(peer.pid()), "{error}");
    peer.tell("release");
    peer.expect("done");
    assert!(peer.end().success());
    assert_rows(&site, &[], &["first", "parent"]);
}

// ---- forked in the middle of something -----------------------------------------

/// What the child of a closure must get, and must not be able to do.
fn assert_outside(db: &Database, parent: u32, done: &Result<(), Error>) {
    let error = done.as_ref().unwrap_err();
    assert!(error.is_forked(), "{error}");
    assert!(!error.is_timeout());
    let error = site::insert(db, "child").unwrap_err();
    assert_eq!(error.holder().unwrap().pid, Some(parent), "{error}");
    assert_eq!(site::keys(db), ["first"], "not the parent's transaction");
}

fn impatient(args: &[OsString]) -> Database {
    let options = Options::new().timeout(Duration::from_millis(300));
    let db = options.open(&args[0]).unwrap();
    site::insert(&db, "first").unwrap();
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
    site::insert(&db, "parent again").unwrap();
    peer::say("done");
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
    site::insert(&db, "parent again").unwrap();
    peer::say("done");
}

#[test]
fn transaction_stays_with_the_parent() {
    for role in ["fork inside write", "fork inside lock"] {
        let site = Site::new();
        drop(site.database());
        let mut peer = start(role, &site);
        peer.expect("done");
        assert!(peer.end().success());
        assert_rows(
            &site,
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
    peer::say("done");
}

#[test]
fn child_does_not_undo_what_stands_in_the_log() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("fork with spilt pages", &site);
    peer.expect("done");
    assert!(peer.end().success());
    assert_rows(&site, &[], &["first", "parent"]);
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
    peer::say("done");
}

#[test]
fn snapshot_stays_with_the_parent() {
    let site = Site::new();
    drop(site.database());
    let mut peer = start("fork inside read", &site);
    peer.expect("done");
    assert!(peer.end().success());
    assert_rows(&site, &["child", "parent"], &["first"]);
}
