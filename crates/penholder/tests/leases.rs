//! A process that keeps the lock and SQLite's locks from one write to the next delays others no
//! more than a process inside a write does: stopped, forked, ended or failed in any state, and
//! with others in the same process that want the lock.
#![cfg(test)]
#![allow(unsafe_code, reason = "fork and _exit are what is tested")]

use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::io::{PipeReader, PipeWriter, Read, Write};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::thread;
use std::time::Duration;

use penholder::lock::WriteLocker;
use penholder::{Database, OpenOptions, Query, Result};
use penholder_core::{DatabaseWord, Locker, failpoint};
use penholder_testkit::database_fixture::{self, DatabaseFixture, insert};
use penholder_testkit::numbered_writes::{self, Kind};
use penholder_testkit::peer::{self, Peer};
#[cfg(unix)]
use penholder_testkit::{file_size_limit, portable};
use penholder_testkit::{plain_sqlite, raw_file, requirement, wait};
#[cfg(unix)]
use rustix::process::{Pid, Signal as ProcessSignal, WaitOptions};

/// Writes that follow each other at once.
const BURST: usize = 20;

#[test]
fn peer() {
    peer::run_role(&[
        numbered_writes::ROLE,
        ("probe", probe),
        ("write_in_bursts", write_in_bursts),
        #[cfg(unix)]
        ("fork_in_every_state", fork_in_every_state),
        #[cfg(unix)]
        ("die_before_child", die_before_child),
        #[cfg(unix)]
        ("fork_beside_threads", fork_beside_threads),
        ("exit_without_close", exit_without_close),
        ("close_after_burst", close_after_burst),
        ("fail_after_burst", fail_after_burst),
        #[cfg(unix)]
        ("fill_the_disk", fill_the_disk),
        ("fill_the_wal", fill_the_wal),
        #[cfg(unix)]
        ("write_until_replaced", write_until_replaced),
        ("write_without_lease", write_without_lease),
        ("two_handles", two_handles),
        ("two_databases", two_databases),
        ("lock_beside_writer", lock_beside_writer),
        ("own_connection", own_connection),
        ("attached_database", attached_database),
        ("tasks", tasks),
        ("run_shell_under_lock", run_shell_under_lock),
    ]);
}

// ---- bursts ------------------------------------------------------------------------

/// Starts a peer that counts as quick on any machine.
fn start<A: AsRef<std::ffi::OsStr>>(role: &str, args: impl IntoIterator<Item = A>) -> Peer {
    let mut command = Peer::command(role, args);
    command.env(failpoint::ALL_QUICK, "1");
    Peer::spawn(command)
}

/// Runs a role to its end.
#[track_caller]
fn run(role: &str, fixture: &DatabaseFixture) {
    let mut peer = start(role, [fixture.path()]);
    peer.expect("done");
    assert!(peer.close().success());
}

fn start_numbered(fixture: &DatabaseFixture, kind: Kind, number: i64, fault: Option<&str>) -> Peer {
    let mut command = numbered_writes::command(kind, &fixture.path(), number);
    command.env(failpoint::ALL_QUICK, "1");
    if let Some(fault) = fault {
        command.env(failpoint::VARIABLE, fault);
    }
    Peer::spawn(command)
}

fn burst(db: &Database) {
    for _ in 0..BURST {
        insert(db, "burst").unwrap();
    }
}

/// Writes in bursts until the lock is seen to be kept right after one.
fn burst_until_kept(db: &Database) {
    for _ in 0..500 {
        burst(db);
        if !is_lock_free(db.path()) {
            return;
        }
    }
    panic!("no lease keeps the lock");
}

/// Returns whether the lock is free at this moment, without waiting.
fn is_lock_free(database: &Path) -> bool {
    let lock = fs::File::open(database.with_file_name("db.lock")).unwrap();
    lock.try_lock().is_ok()
}

/// Returns how many leases on the database have ended.
fn leases(database: &Path) -> u64 {
    let locker = Locker::in_directory(database.parent().unwrap()).unwrap();
    let guard = locker.acquire(database_fixture::LONG_TIMEOUT).unwrap();
    let words = guard.database_words(database).unwrap();
    words.word(DatabaseWord::Leases).load(Relaxed)
}

/// A role: says whether SQLite's write lock is free, to a program without penholder.
fn probe(args: &[OsString]) {
    let connection = plain_sqlite::open(Path::new(&args[0]));
    connection.busy_timeout(Duration::ZERO).unwrap();
    loop {
        peer::expect("try");
        let is_free = connection
            .execute_batch("BEGIN IMMEDIATE; ROLLBACK")
            .is_ok();
        peer::send(if is_free { "free" } else { "busy" });
    }
}

struct Probe(Peer);

impl Probe {
    fn start(fixture: &DatabaseFixture) -> Self {
        Self(Peer::start("probe", [fixture.path()]))
    }

    fn is_free(&mut self) -> bool {
        self.0.send("try");
        self.0.read_line() == "free"
    }
}

// ---- stopped processes -----------------------------------------------------------

fn write_in_bursts(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    peer::send("ready");
    loop {
        peer::expect("burst");
        burst_until_kept(&db);
        thread::sleep(Duration::from_millis(3));
        peer::send("quiet");
    }
}

#[test]
fn a_process_that_is_stopped_soon_after_its_last_write_blocks_nobody() {
    const ROUNDS: usize = 20;
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut writer = start("write_in_bursts", [fixture.path()]);
    let mut probe = Probe::start(&fixture);
    let options = OpenOptions::new().timeout(Duration::from_millis(200));
    let db = options.open(fixture.path()).unwrap();
    writer.expect("ready");
    let mut blocked = 0;
    for _ in 0..ROUNDS {
        writer.send("burst");
        writer.expect("quiet");
        writer.stop();
        blocked += usize::from(!probe.is_free() || insert(&db, "next").is_err());
        writer.signal("CONT");
    }
    // On a loaded machine its thread that ends leases may be late.
    assert!(blocked * 4 <= ROUNDS, "blocked {blocked} of {ROUNDS} times");
}

/// At these steps a process has the lock: the second says whether it has SQLite's too.
const STEPS: [(&str, bool); 5] = [
    ("lease_begun", false),
    ("lease_kept", true),
    ("lease_resumed", true),
    ("lease_ending", true),
    ("lease_released", false),
];

#[test]
fn a_process_that_is_stopped_during_a_lease_is_named() {
    for (step, has_sqlite_lock) in STEPS {
        let fixture = DatabaseFixture::new();
        let db = OpenOptions::new().timeout(Duration::from_millis(300));
        let db = db.open(fixture.path()).unwrap();
        numbered_writes::create_tables(&db);
        let mut probe = Probe::start(&fixture);
        let fault = format!("{step} STOP 5");
        let mut writer = start_numbered(&fixture, Kind::Writer, 1, Some(&fault));
        wait::until("the writer to stop", || writer.has_stopped());
        for _ in 0..2 {
            let error = db.execute("INSERT INTO numbered VALUES (9, 0)", ());
            let error = error.unwrap_err();
            assert!(error.is_timeout(), "{step}: {error}");
            let holder = error.holder().and_then(|holder| holder.pid);
            assert_eq!(holder, Some(writer.pid()), "{step}: {error}");
            // Windows does not tell of it.
            let tells_of_it = error.to_string().contains("stopped");
            assert!(tells_of_it || cfg!(windows), "{step}: {error}");
        }
        assert_eq!(probe.is_free(), !has_sqlite_lock, "{step}");
        let record = fs::read_to_string(fixture.join("db.lock")).unwrap();
        let pid = format!("pid:{}\n", writer.pid());
        assert!(record.starts_with(&pid), "{step}: {record:?}");
        let holder = db.status().unwrap().holder.unwrap();
        assert_eq!(holder.pid, Some(writer.pid()));
        writer.signal("CONT");
        let others = database_fixture::open(&fixture.path());
        for number in 0..20 {
            let sql = "INSERT INTO numbered VALUES (9, ?1)";
            others.execute(sql, [number]).unwrap();
        }
        numbered_writes::finish(&fixture.path());
        writer.expect("done");
        assert!(writer.wait().success());
        drop((db, others));
        numbered_writes::check(&fixture.path());
    }
}

#[test]
fn a_stopped_heir_is_passed_over_while_another_process_has_leases() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    numbered_writes::create_tables(&db);
    let busy = start_numbered(&fixture, Kind::Writer, 1, None);
    wait::until("the first writes", || numbered_writes::count(&db) > 0);
    let heir = start_numbered(&fixture, Kind::Writer, 2, Some("queued STOP 1"));
    wait::until("the heir to stop", || heir.has_stopped());
    for number in 0..50 {
        let sql = "INSERT INTO numbered VALUES (9, ?1)";
        let (done, took) = wait::timed(|| db.execute(sql, [number]));
        done.unwrap();
        assert!(took < database_fixture::PROMPT, "{took:?}");
    }
    heir.signal("CONT");
    let of_heir = "SELECT count(*) FROM numbered WHERE writer = 2";
    wait::until("the heir to write", || {
        database_fixture::number(&db, of_heir) > 0
    });
    numbered_writes::finish(&fixture.path());
    for mut writer in [busy.expect_done(), heir.expect_done()] {
        assert!(writer.wait().success());
    }
    assert!(leases(&fixture.path()) > 0);
    drop(db);
    numbered_writes::check(&fixture.path());
}

// ---- what others see --------------------------------------------------------------

#[test]
fn the_record_stands_for_a_lease_and_is_blank_soon_after() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut writer = start("write_in_bursts", [fixture.path()]);
    writer.expect("ready");
    let record = || fs::read_to_string(fixture.join("db.lock")).unwrap();
    let own = format!("pid:{}\n", writer.pid());
    let mut seen = 0;
    for _ in 0..20 {
        writer.send("burst");
        let quiet = loop {
            let text = record();
            if text.starts_with(&own) {
                seen += 1;
            } else {
                assert_eq!(text.trim(), "", "no part of a record");
            }
            if let Some(holder) = db.status().unwrap().holder {
                let is_unnamed = !requirement::NAMES_HOLDERS && holder.pid.is_none();
                let is_writer = holder.pid == Some(writer.pid());
                assert!(is_writer || is_unnamed, "{holder:?}");
            }
            if let Some(line) = writer.read_line_within(Duration::ZERO) {
                break line;
            }
        };
        assert_eq!(quiet, "quiet");
        wait::until("a blank record", || record().trim().is_empty());
        assert!(db.status().unwrap().holder.is_none());
    }
    assert!(seen > 0, "the record was never seen");
}

#[test]
fn a_lock_file_that_is_deleted_or_replaced_during_leases_costs_no_write() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    numbered_writes::create_tables(&db);
    let kinds = [Kind::Writer, Kind::Threads, Kind::Writer, Kind::Writer];
    let start = |(number, kind): (i64, Kind)| start_numbered(&fixture, kind, 10 * number, None);
    let writers: Vec<Peer> = (1..).zip(kinds).map(start).collect();
    let lock = fixture.join("db.lock");
    for round in 0..80 {
        let before = numbered_writes::count(&db);
        match round % 4 {
            0 => raw_file::remove_if_there(&lock),
            1 => {
                fs::write(fixture.join("new"), "").unwrap();
                raw_file::replace(&lock, &fixture.join("new"));
            }
            2 => fs::write(&lock, "").unwrap(),
            _ => fs::rename(&lock, fixture.join("former.lock")).unwrap_or_default(),
        }
        wait::until("progress", || numbered_writes::count(&db) > before);
    }
    numbered_writes::finish(&fixture.path());
    for writer in writers {
        assert!(writer.expect_done().wait().success());
    }
    drop(db);
    numbered_writes::check(&fixture.path());
}

trait ExpectDone {
    fn expect_done(self) -> Self;
}

impl ExpectDone for Peer {
    #[track_caller]
    fn expect_done(self) -> Self {
        self.expect("done");
        self
    }
}

// ---- forks -----------------------------------------------------------------------

/// Forks. Returns `None` in the child.
#[cfg(unix)]
fn fork() -> Option<i32> {
    // SAFETY: the child uses what POSIX allows it to: everything, if its parent has no other
    // threads that use this program; otherwise it only sleeps and ends.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0, "fork failed");
    (pid > 0).then_some(pid)
}

/// Ends a process at once, without the test runner.
#[cfg(unix)]
fn exit(success: bool) -> ! {
    // SAFETY: ends the process, and nothing runs after it.
    unsafe { libc::_exit(i32::from(!success)) }
}

/// Runs `work` in a forked child, which succeeds if it does not panic.
#[cfg(unix)]
fn child(work: impl FnOnce()) -> i32 {
    fork().unwrap_or_else(|| {
        // The child does not outlive its test.
        portable::end_with_parent();
        exit(catch_unwind(AssertUnwindSafe(work)).is_ok())
    })
}

#[cfg(unix)]
fn join(pid: i32) {
    let ended = rustix::process::waitpid(Pid::from_raw(pid), WaitOptions::empty());
    let (_, status) = ended.unwrap().unwrap();
    assert_eq!(status.exit_status(), Some(0), "{status:?}");
}

/// A pipe between related processes. One waits for the other's signal.
#[cfg(unix)]
struct Go(PipeReader, PipeWriter);

#[cfg(unix)]
impl Go {
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

#[cfg(unix)]
fn write_named(db: &Database, name: &str) {
    for _ in 0..BURST {
        insert(db, name).unwrap();
    }
}

#[cfg(unix)]
fn fork_in_every_state(args: &[OsString]) {
    let db = database_fixture::options().open(&args[0]).unwrap();
    for _ in 0..10 {
        // Between two writes, with the locks kept.
        burst_until_kept(&db);
        let pid = child(|| write_named(&db, "between"));
        burst(&db);
        join(pid);
        // Inside a write that goes on with a lease.
        burst_until_kept(&db);
        let go = Go::new();
        let mut pid = 0;
        db.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('parent')", [])?;
            pid = child(|| {
                go.wait();
                write_named(&db, "inside");
            });
            Ok(())
        })
        .unwrap();
        go.send();
        burst(&db);
        join(pid);
        // Under the lock.
        burst_until_kept(&db);
        db.with_write_lock(|connection| -> Result<()> {
            pid = child(|| {
                go.wait();
                write_named(&db, "under");
            });
            connection.execute("INSERT INTO entry VALUES ('parent')", [])?;
            Ok(())
        })
        .unwrap();
        go.send();
        burst(&db);
        join(pid);
    }
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_child_that_is_forked_in_any_state_of_a_lease_writes_on() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("fork_in_every_state", &fixture);
    let db = database_fixture::open(&fixture.path());
    for (name, rows) in [
        ("between", 200),
        ("inside", 200),
        ("under", 200),
        ("parent", 20),
    ] {
        let sql = "SELECT count(*) FROM entry WHERE key = ?1";
        assert_eq!(db.query_scalar::<i64>(sql, [name]).unwrap(), rows, "{name}");
    }
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// Leaves a child behind that lives on and does nothing.
#[cfg(unix)]
fn fork_sleeper() {
    match fork() {
        Some(pid) => peer::send(&pid.to_string()),
        None => {
            // SAFETY: only sleeps, which any child may.
            unsafe { libc::sleep(50) };
            exit(true);
        }
    }
}

#[cfg(unix)]
fn die_before_child(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    burst_until_kept(&db);
    fork_sleeper();
    burst(&db);
    rustix::process::kill_process(rustix::process::getpid(), ProcessSignal::KILL).unwrap();
}

#[cfg(unix)]
#[test]
fn a_child_that_lives_on_does_not_keep_its_parents_lock() {
    for role in ["die_before_child", "fork_beside_threads"] {
        let fixture = DatabaseFixture::new();
        let db = fixture.database();
        let mut peer = start(role, [fixture.path()]);
        let child: u32 = peer.read_line().parse().unwrap();
        peer.wait();
        let (done, took) = wait::timed(|| insert(&db, "next"));
        done.unwrap();
        assert!(took < database_fixture::PROMPT, "{took:?}");
        assert!(peer::is_alive(child), "the child lives still");
        peer::signal(child, "KILL");
        drop(db);
        plain_sqlite::assert_integrity(&fixture.path());
    }
}

/// Forks while other threads write, and ends in the middle of it.
#[cfg(unix)]
fn fork_beside_threads(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    for _ in 0..3 {
        let db = db.clone();
        thread::spawn(move || {
            loop {
                insert(&db, "thread").unwrap();
            }
        });
    }
    for _ in 0..40 {
        thread::sleep(Duration::from_millis(2));
        match fork() {
            Some(pid) => join(pid),
            None => exit(true),
        }
    }
    fork_sleeper();
    exit(true);
}

// ---- the end of a process, and errors ------------------------------------------------

fn exit_without_close(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    burst_until_kept(&db);
    peer::send("done");
    std::process::exit(0);
}

#[test]
fn a_process_that_exits_during_a_lease_leaves_no_lock() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut probe = Probe::start(&fixture);
    for _ in 0..5 {
        let mut peer = start("exit_without_close", [fixture.path()]);
        peer.expect("done");
        assert!(peer.wait().success());
        assert!(probe.is_free());
        assert!(is_lock_free(&fixture.path()));
        insert(&db, "next").unwrap();
    }
    let recoveries = db.status().unwrap().counters.recoveries;
    assert_eq!(recoveries, 0, "none of them crashed in a write");
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}

fn close_after_burst(args: &[OsString]) {
    let path = Path::new(&args[0]);
    for _ in 0..20 {
        let db = database_fixture::open(path);
        burst_until_kept(&db);
        drop(db);
        assert!(is_lock_free(path), "the lock is free at once");
        let wal = database_fixture::with_suffix(path, "-wal");
        assert!(!wal.exists(), "the last one that closes deletes the WAL");
    }
    // Also if closing needs no lock, and the process uses the lock file still.
    let locker = WriteLocker::new(path.parent().unwrap()).unwrap();
    for _ in 0..20 {
        drop(locker.acquire(database_fixture::LONG_TIMEOUT).unwrap());
        let options = database_fixture::options().checkpoints(false);
        let db = options.open(path).unwrap();
        burst_until_kept(&db);
        drop(db);
        assert!(is_lock_free(path), "the lock is free at once");
    }
    peer::send("done");
}

#[test]
fn closing_a_database_ends_its_lease_at_once() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("close_after_burst", &fixture);
}

fn fail_after_burst(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    db.execute("CREATE TABLE few(key PRIMARY KEY)", ()).unwrap();
    let twice = "INSERT INTO few VALUES (1), (1)";
    type Failing = fn(&Database, &str) -> bool;
    let ways: [(&str, Failing); 7] = [
        ("execute", |db, sql| db.execute(sql, ()).is_err()),
        ("no such table", |db, _| {
            db.execute("INSERT INTO missing VALUES (1)", ()).is_err()
        }),
        ("batch", |db, sql| db.batch([Query::new(sql, ())]).is_err()),
        ("closure", |db, sql| {
            let done = db.write(|tx| -> Result<()> {
                tx.execute(sql, [])?;
                Ok(())
            });
            done.is_err()
        }),
        ("its own error", |db, _| {
            let done = db.try_write(
                |tx| -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
                    tx.execute("INSERT INTO entry VALUES ('never')", [])?;
                    Err("its own".into())
                },
            );
            done.is_err()
        }),
        ("panic", |db, _| {
            let panics = AssertUnwindSafe(|| {
                db.write(|tx| -> Result<()> {
                    tx.execute("INSERT INTO entry VALUES ('never')", [])?;
                    panic!("a panic that a test makes")
                })
            });
            catch_unwind(panics).is_err()
        }),
        ("panic under the lock", |db, _| {
            let panics = AssertUnwindSafe(|| {
                db.with_write_lock(|connection| -> Result<()> {
                    connection.execute_batch("BEGIN; INSERT INTO entry VALUES ('never')")?;
                    panic!("a panic that a test makes")
                })
            });
            catch_unwind(panics).is_err()
        }),
    ];
    for (way, fail) in ways {
        for _ in 0..5 {
            burst_until_kept(&db);
            assert!(fail(&db, twice), "{way} does not fail");
            assert!(is_lock_free(path), "{way}");
        }
    }
    let never = "SELECT count(*) FROM entry WHERE key = 'never'";
    assert_eq!(database_fixture::number(&db, never), 0);
    burst_until_kept(&db);
    peer::send("done");
}

#[test]
fn an_error_ends_the_lease() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("fail_after_burst", &fixture);
}

#[cfg(unix)]
fn fill_the_disk(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    for round in 0..5 {
        burst_until_kept(&db);
        let wal = database_fixture::with_suffix(path, "-wal");
        let length = fs::metadata(wal).unwrap().len();
        file_size_limit::set(Some(length + 40_000));
        let error = (0..1000).find_map(|_| {
            let row = "INSERT INTO entry VALUES (zeroblob(3000))";
            db.execute(row, ()).err()
        });
        let error: penholder::Error = error.expect("the disk is full");
        assert!(is_lock_free(path), "{error}");
        let before = database_fixture::count_entries(&db);
        let row = "INSERT INTO entry VALUES (zeroblob(30000))";
        db.execute(row, ()).unwrap_err();
        file_size_limit::set(None);
        assert_eq!(
            database_fixture::count_entries(&db),
            before,
            "in round {round}"
        );
    }
    burst_until_kept(&db);
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_full_disk_ends_the_lease() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut command = Peer::command("fill_the_disk", [fixture.path()]);
    command.env(failpoint::ALL_QUICK, "1");
    let mut peer = Peer::spawn(file_size_limit::with_signal_ignored(&command));
    peer.expect("done");
    assert!(peer.close().success());
    plain_sqlite::assert_integrity(&fixture.path());
}

/// Makes the WAL so long that the holder of the lock waits for a checkpoint.
fn fill_the_wal(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    burst(&db);
    db.execute("INSERT INTO entry(key) VALUES (zeroblob(40000000))", ())
        .unwrap();
    peer::send("done");
}

/// Another program's checkpoint may wait for SQLite's write lock.
#[test]
fn a_checkpoint_that_is_waited_for_ends_the_lease_first() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut command = Peer::command("fill_the_wal", [fixture.path()]);
    command.env(failpoint::ALL_QUICK, "1");
    command.env(failpoint::VARIABLE, "checkpointing_under_lock STOP 1");
    let mut writer = Peer::spawn(command);
    wait::until("the writer to stop", || writer.has_stopped());
    assert!(Probe::start(&fixture).is_free());
    writer.signal("CONT");
    writer.expect("done");
    assert!(writer.close().success());
}

/// Writes until the database is replaced, again and again.
#[cfg(unix)]
fn write_until_replaced(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    loop {
        insert(&db, "before").unwrap();
        peer::send("writing");
        let error = loop {
            if let Err(error) = insert(&db, "row") {
                break error;
            }
        };
        let is_free = is_lock_free(path);
        assert!(error.is_file_replaced(), "{error}");
        assert!(is_free, "kept after: {error}");
        peer::send("replaced");
    }
}

#[cfg(unix)]
#[test]
fn a_database_that_is_replaced_ends_the_lease() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let peer = start("write_until_replaced", [fixture.path()]);
    let copy = fixture.join("copy.db");
    for _ in 0..6 {
        peer.expect("writing");
        fs::copy(fixture.path(), &copy).unwrap();
        raw_file::replace(&fixture.path(), &copy);
        peer.expect("replaced");
    }
}

// ---- without leases ------------------------------------------------------------------

fn write_without_lease(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let options = database_fixture::options().lease(false);
    let db = options.open(path).unwrap();
    for _ in 0..300 {
        insert(&db, "row").unwrap();
        assert!(is_lock_free(path), "nothing is kept");
    }
    assert_eq!(
        vfs_of(&db),
        [if cfg!(windows) { "win32" } else { "unix" }; 2]
    );
    assert_eq!(leases(path), 0);
    drop(db);
    let db = database_fixture::open(path);
    assert_eq!(vfs_of(&db), ["penholder", "penholder"]);
    burst_until_kept(&db);
    peer::send("done");
}

/// Returns the names of the VFSs of the writing connection and of a reader.
fn vfs_of(db: &Database) -> [String; 2] {
    let writer = db.with_write_lock(|connection| Ok(vfs_name(connection)));
    let reader = db.read(|connection| Ok(vfs_name(connection)));
    [writer.unwrap(), reader.unwrap()]
}

fn vfs_name(connection: &rusqlite::Connection) -> String {
    let mut vfs: *mut rusqlite::ffi::sqlite3_vfs = std::ptr::null_mut();
    let question = rusqlite::ffi::SQLITE_FCNTL_VFS_POINTER;
    let (main, answer) = (c"main".as_ptr(), (&raw mut vfs).cast());
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    // SAFETY: the name is C text, and the answer is a pointer.
    unsafe { rusqlite::ffi::sqlite3_file_control(handle, main, question, answer) };
    // SAFETY: a registered VFS lives as long as the program.
    let name = unsafe { (*vfs).zName };
    // SAFETY: the name of a VFS is C text.
    let name = unsafe { std::ffi::CStr::from_ptr(name) };
    name.to_str().unwrap().to_owned()
}

#[test]
fn without_leases_nothing_is_kept_and_sqlites_own_vfs_is_used() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("write_without_lease", &fixture);
}

// ---- others in the same process ------------------------------------------------------

fn two_handles(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let (one, other) = (database_fixture::open(path), database_fixture::open(path));
    for _ in 0..20 {
        burst_until_kept(&one);
        insert(&other, "other").unwrap();
        burst_until_kept(&other);
        insert(&one, "one").unwrap();
    }
    thread::scope(|scope| {
        for db in [&one, &other] {
            scope.spawn(move || (0..20).for_each(|_| burst(db)));
        }
    });
    drop(one);
    burst_until_kept(&other);
    peer::send("done");
}

#[test]
fn two_handles_of_one_process_share_its_lease() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("two_handles", &fixture);
    plain_sqlite::assert_integrity(&fixture.path());
}

fn two_databases(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let other_path = path.with_file_name("other.db");
    let one = database_fixture::open(path);
    let other = database_fixture::open(&other_path);
    other.execute("CREATE TABLE entry(key)", ()).unwrap();
    let mut probe = Peer::start("probe", [path]);
    for _ in 0..20 {
        burst_until_kept(&one);
        other
            .write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES ('other')", [])?;
                // The lock went on to another database, and SQLite's locks of this one did not.
                probe.send("try");
                assert_eq!(probe.read_line(), "free");
                let holder = other.status().unwrap().holder.unwrap();
                let record = fs::read_to_string(path.with_file_name("db.lock")).unwrap();
                assert!(record.contains("other.db"), "{holder:?} {record}");
                Ok(())
            })
            .unwrap();
        burst_until_kept(&other);
        insert(&one, "one").unwrap();
    }
    peer::send("done");
}

#[test]
fn two_databases_with_one_lock_file_pass_the_lock_on() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("two_databases", &fixture);
    plain_sqlite::assert_integrity(&fixture.path());
    plain_sqlite::assert_integrity(&fixture.join("other.db"));
}

fn lock_beside_writer(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    let locker = WriteLocker::new(path.parent().unwrap()).unwrap();
    let mut probe = Peer::start("probe", [path]);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                insert(&db, "busy").unwrap();
            }
        });
        for _ in 0..100 {
            let guard = locker.acquire(database_fixture::LONG_TIMEOUT).unwrap();
            let before = database_fixture::count_entries(&db);
            probe.send("try");
            let is_free = probe.read_line() == "free";
            let after = database_fixture::count_entries(&db);
            guard.release().unwrap();
            if !is_free || before != after {
                is_over.store(true, Relaxed);
                panic!("under the guard: {is_free}, {before} and {after} rows");
            }
        }
        is_over.store(true, Relaxed);
    });
    assert!(leases(path) > 0);
    peer::send("done");
}

#[test]
fn a_locker_of_the_same_process_meets_no_kept_lock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("lock_beside_writer", &fixture);
}

fn own_connection(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    let own = plain_sqlite::open(path);
    let is_over = AtomicBool::new(false);
    let longest = thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                insert(&db, "busy").unwrap();
            }
        });
        let mut longest = Duration::ZERO;
        for _ in 0..30 {
            let write = || own.execute("INSERT INTO entry VALUES ('own')", []);
            let (done, took) = wait::timed(write);
            if let Err(error) = done {
                is_over.store(true, Relaxed);
                panic!("{error}");
            }
            longest = longest.max(took);
        }
        is_over.store(true, Relaxed);
        longest
    });
    // Right after a burst too.
    for _ in 0..20 {
        burst_until_kept(&db);
        own.execute("INSERT INTO entry VALUES ('own')", []).unwrap();
    }
    let sql = "SELECT count(*) FROM entry WHERE key = 'own'";
    assert_eq!(database_fixture::number(&db, sql), 50);
    eprintln!("the longest wait of an own connection: {longest:?}");
    drop(db);
    drop(own);
    peer::send("done");
}

#[test]
fn a_connection_of_the_application_writes_beside_a_lease() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("own_connection", &fixture);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// Writes to two databases in one transaction, while others write to each of them.
fn attached_database(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let other = path.with_file_name("attached").join("other.db");
    let attach = other.clone();
    let options = database_fixture::options().connection_hook(move |connection, _| {
        let name = attach.to_str().unwrap();
        connection.execute("ATTACH ?1 AS other", [name]).map(drop)
    });
    let db = options.open(path).unwrap();
    let others = database_fixture::open(&other);
    let is_over = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Relaxed) {
                insert(&others, "others").unwrap();
            }
        });
        for _ in 0..200 {
            let row = |name| Query::new(format!("INSERT INTO {name}.entry VALUES ('both')"), ());
            let done = db.batch([row("main"), row("other")]);
            let one = db.execute("INSERT INTO other.entry VALUES ('one')", ());
            if done.is_err() || one.is_err() {
                is_over.store(true, Relaxed);
            }
            done.unwrap();
            one.unwrap();
        }
        is_over.store(true, Relaxed);
    });
    let both = |db: &Database| {
        database_fixture::number(db, "SELECT count(*) FROM main.entry WHERE key = 'both'")
    };
    assert_eq!((both(&db), both(&others)), (200, 200));
    peer::send("done");
}

#[test]
fn an_attached_database_is_written_beside_leases_on_it() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    fs::create_dir(fixture.join("attached")).unwrap();
    let other = database_fixture::open(&fixture.join("attached").join("other.db"));
    other.execute("CREATE TABLE entry(key)", ()).unwrap();
    drop(other);
    run("attached_database", &fixture);
}

fn tasks(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let db = penholder::AsyncDatabase::from(db);
    runtime.block_on(async {
        let mut all = Vec::new();
        for _ in 0..10 {
            let db = db.clone();
            all.push(tokio::spawn(async move {
                for _ in 0..30 {
                    let row = "INSERT INTO entry VALUES ('task')";
                    db.execute(row, ()).await.unwrap();
                }
            }));
        }
        for task in all {
            task.await.unwrap();
        }
    });
    peer::send("done");
}

#[test]
fn tasks_and_threads_of_several_processes_write_under_leases() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    numbered_writes::create_tables(&db);
    let threads: Vec<Peer> = (1..4)
        .map(|number| start_numbered(&fixture, Kind::Threads, 10 * number, None))
        .collect();
    let tasks: Vec<Peer> = (0..2).map(|_| start("tasks", [fixture.path()])).collect();
    for mut peer in tasks {
        peer.expect("done");
        assert!(peer.close().success());
    }
    numbered_writes::finish(&fixture.path());
    for peer in threads {
        assert!(peer.expect_done().wait().success());
    }
    assert_eq!(database_fixture::count_entries(&db), 600);
    assert!(leases(&fixture.path()) > 0);
    drop(db);
    numbered_writes::check(&fixture.path());
}

/// Another program writes inside the closure, and does not wait.
fn run_shell_under_lock(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = database_fixture::open(path);
    let has_shell = requirement::has_program("sqlite3");
    let mut probe = Peer::start("probe", [path]);
    for _ in 0..20 {
        burst_until_kept(&db);
        db.with_write_lock(|_| -> Result<()> {
            probe.send("try");
            assert_eq!(probe.read_line(), "free");
            if has_shell {
                let mut shell = std::process::Command::new("sqlite3");
                shell.args(["-batch", "-bail"]).arg(path);
                shell.args([".timeout 0", "INSERT INTO entry VALUES ('shell')"]);
                assert!(shell.status().unwrap().success());
            }
            Ok(())
        })
        .unwrap();
    }
    let shell = "SELECT count(*) FROM entry WHERE key = 'shell'";
    let expected = if has_shell { 20 } else { 0 };
    assert_eq!(database_fixture::number(&db, shell), expected);
    peer::send("done");
}

#[test]
fn a_program_that_a_closure_runs_meets_no_kept_lock() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    run("run_shell_under_lock", &fixture);
}
