//! Group commit within a process executes writes in order of arrival and commits them
//! together. Each caller gets its own errors, and no caller waits forever.
#![cfg(test)]
#![cfg_attr(unix, allow(unsafe_code, reason = "fork and _exit are what is tested"))]

#[cfg(unix)]
use std::ffi::OsString;
use std::fs;
#[cfg(unix)]
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use penholder::{Database, Error, GroupCommit, GroupLimits, OpenOptions, Query, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
#[cfg(unix)]
use penholder_testkit::file_size_limit;
#[cfg(unix)]
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_lock", database_fixture::hold_lock),
        #[cfg(unix)]
        ("write_to_limit", write_to_limit),
        #[cfg(unix)]
        ("fork_in_a_batch", fork_in_a_batch),
    ]);
}

type Write<'a, T> = Box<dyn FnOnce(&Database) -> T + Send + 'a>;

fn write<'a, T>(run: impl FnOnce(&Database) -> T + Send + 'a) -> Write<'a, T> {
    Box::new(run)
}

fn insert<'a>(key: &'a str) -> Write<'a, Result<()>> {
    write(move |db| database_fixture::insert(db, key))
}

fn closure<'a>(sql: &'a str) -> Write<'a, Result<()>> {
    write(move |db| {
        db.write(|tx| -> Result<()> {
            tx.execute_batch(sql)?;
            Ok(())
        })
    })
}

fn batch<'a>(all: &'a [&'a str]) -> Write<'a, Result<()>> {
    write(move |db| {
        db.batch(all.iter().map(|&sql| Query::new(sql, ())))
            .map(drop)
    })
}

/// Returns options that put all queued writes in one batch, even on a slow machine.
fn large_batch_options() -> OpenOptions {
    let limits = GroupLimits::default().max_latency(database_fixture::PROMPT);
    let options = OpenOptions::new().timeout(database_fixture::ENDLESS_TIMEOUT);
    options.group_limits(limits)
}

fn open_for_large_batches(fixture: &DatabaseFixture) -> Database {
    drop(fixture.database());
    large_batch_options().open(fixture.path()).unwrap()
}

/// Waits until a thread of this process sleeps. Windows does not tell whether it does.
fn await_sleep(thread: &str) {
    if cfg!(windows) {
        return thread::sleep(Duration::from_millis(200));
    }
    wait::until("the writer to queue", || {
        let was_asleep = is_asleep(thread);
        thread::sleep(Duration::from_millis(3));
        was_asleep && is_asleep(thread)
    });
}

fn is_asleep(thread: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

/// Starts writers one after the other behind a thread that holds the lock, releases the
/// lock, and returns how each writer ended.
fn run_queued<'a, T: Send + 'a>(
    db: &Database,
    writes: impl IntoIterator<Item = Write<'a, T>>,
) -> Vec<thread::Result<T>> {
    let (send_held, held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let holder = scope.spawn(move || {
            let done = db.write(move |_| -> Result<()> {
                send_held.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            });
            done.unwrap();
        });
        held.recv().unwrap();
        let start = |run: Write<'a, T>| {
            let (send_started, started) = mpsc::channel();
            let writer = scope.spawn(move || {
                let thread = fs::read_link("/proc/thread-self");
                send_started.send(thread.unwrap_or_default()).unwrap();
                run(db)
            });
            let thread = started.recv().unwrap();
            await_sleep(thread.to_str().unwrap());
            writer
        };
        let writers: Vec<_> = writes.into_iter().map(start).collect();
        drop(release);
        holder.join().unwrap();
        writers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    })
}

fn results_of<'a>(
    db: &Database,
    writes: impl IntoIterator<Item = Write<'a, Result<()>>>,
) -> Vec<Result<()>> {
    let ended = run_queued(db, writes);
    ended.into_iter().map(|ended| ended.unwrap()).collect()
}

/// Returns the keys in the order in which they were written.
fn keys_in_order(db: &Database) -> Vec<String> {
    let sql = "SELECT key FROM entry ORDER BY rowid";
    db.query_as(sql, ()).unwrap()
}

/// Returns how many group commits there were, and how many writes were in them.
fn group_counts(db: &Database) -> (u64, u64) {
    let counters = db.status().unwrap().counters;
    (counters.batches, counters.batched_writes)
}

fn assert_lock_free(db: &Database) {
    let status = db.status().unwrap();
    assert!(status.holder.is_none() && status.queue.is_empty());
    database_fixture::insert(db, "later").unwrap();
}

fn error_contains(error: &Result<()>, text: &str) -> bool {
    error
        .as_ref()
        .is_err_and(|error| error.to_string().contains(text))
}

// ---- order, and one commit -----------------------------------------------------

#[test]
fn writes_run_in_order_of_arrival_in_one_transaction() {
    let fixture = DatabaseFixture::new();
    let db = open_for_large_batches(&fixture);
    let keys: Vec<String> = (0..21).map(|number| format!("{number:02}")).collect();
    let returned = AtomicUsize::new(0);
    let writes = keys.iter().enumerate().map(|(number, key)| {
        let returned = &returned;
        write(move |db| {
            let done = match number % 3 {
                0 => database_fixture::insert(db, key),
                1 => db
                    .batch([Query::new("INSERT INTO entry VALUES (?1)", [key])])
                    .map(drop),
                _ => {
                    let mut seen = 0_i64;
                    let done = db.write(|tx| -> Result<()> {
                        // The earlier writes are visible, uncommitted and unacknowledged.
                        let rows = "SELECT count(*) FROM entry";
                        seen = tx.query_row(rows, [], |row| row.get(0))?;
                        assert_eq!(
                            (database_fixture::count_entries(db), returned.load(SeqCst)),
                            (0, 0)
                        );
                        tx.execute("INSERT INTO entry VALUES (?1)", [key])?;
                        Ok(())
                    });
                    assert_eq!(
                        usize::try_from(seen).unwrap(),
                        number,
                        "the closure borrows from the caller's stack"
                    );
                    done
                }
            };
            returned.fetch_add(1, SeqCst);
            done
        })
    });
    results_of(&db, writes)
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(keys_in_order(&db), keys);
    assert_eq!(group_counts(&db), (1, 21));
}

// ---- errors and panics ------------------------------------------------------------

#[test]
fn an_error_or_a_panic_reaches_only_its_caller() {
    let fixture = DatabaseFixture::new();
    let db = open_for_large_batches(&fixture);
    let writes = [
        insert("a"),
        closure("INSERT INTO entry VALUES ('lost'); nonsense"),
        write(|db| {
            db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES ('lost')", [])?;
                panic!("on purpose")
            })
        }),
        batch(&["INSERT INTO entry VALUES ('lost')", "nonsense"]),
        write(|db| db.execute("nonsense", ()).map(drop)),
        closure("INSERT INTO entry VALUES ('b')"),
    ];
    let ended = run_queued(&db, writes);
    assert!(ended[0].as_ref().unwrap().is_ok() && ended[5].as_ref().unwrap().is_ok());
    let panic = ended[2].as_ref().unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    for number in [1, 3, 4] {
        let error = ended[number].as_ref().unwrap().as_ref().unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }
    assert_eq!(keys_in_order(&db), ["a", "b"]);
    assert_eq!(group_counts(&db), (1, 2));
}

#[test]
fn a_closure_that_ends_the_transaction_fails_and_earlier_closures_must_retry() {
    let endings = [
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK; BEGIN",
        "RELEASE penholder_member",
    ];
    for ending in endings {
        let fixture = DatabaseFixture::new();
        let db = open_for_large_batches(&fixture);
        let ignores_error = write(move |db| {
            db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES ('lost')", [])?;
                let _ = tx.execute_batch(ending);
                Ok(())
            })
        });
        let writes = [
            closure("INSERT INTO entry VALUES ('lost')"),
            insert("a"),
            ignores_error,
            insert("b"),
            closure("INSERT INTO entry VALUES ('c')"),
        ];
        let done = results_of(&db, writes);
        assert!(done[0].as_ref().unwrap_err().is_batch_aborted(), "{ending}");
        assert!(
            error_contains(&done[2], "ended before its time"),
            "{ending}: {done:?}"
        );
        assert!([1, 3, 4].iter().all(|&one| done[one].is_ok()), "{done:?}");
        assert_eq!(keys_in_order(&db), ["a", "b", "c"], "{ending}");
        assert_lock_free(&db);
    }
}

#[test]
fn begin_and_open_savepoints_affect_no_other_write() {
    let fixture = DatabaseFixture::new();
    let db = open_for_large_batches(&fixture);
    let writes = [
        insert("a"),
        closure("INSERT INTO entry VALUES ('lost'); BEGIN"),
        closure("SAVEPOINT x; INSERT INTO entry VALUES ('b'); SAVEPOINT y"),
        closure("SAVEPOINT x; INSERT INTO entry VALUES ('lost'); nonsense"),
        closure("INSERT INTO entry VALUES ('c')"),
    ];
    let done = results_of(&db, writes);
    assert!(
        error_contains(&done[1], "within a transaction") && error_contains(&done[3], "nonsense")
    );
    assert!([0, 2, 4].iter().all(|&one| done[one].is_ok()), "{done:?}");
    assert_eq!(keys_in_order(&db), ["a", "b", "c"]);
}

// ---- SQLite rolls the whole batch back ----------------------------------------------

const DUPLICATE: &str = "INSERT OR ROLLBACK INTO one VALUES (1)";

fn open_with_unique_row(fixture: &DatabaseFixture) -> Database {
    let db = open_for_large_batches(fixture);
    let tables = [
        "CREATE TABLE one(id INTEGER PRIMARY KEY)",
        "INSERT INTO one VALUES (1)",
        "CREATE TABLE guarded(key)",
        "CREATE TRIGGER guard BEFORE INSERT ON guarded BEGIN SELECT RAISE(ROLLBACK, 'guarded'); END",
    ];
    db.batch(tables).unwrap();
    db
}

type MakeWrite = fn() -> Write<'static, Result<()>>;

#[test]
fn a_rollback_by_sqlite_fails_only_the_write_that_caused_it() {
    let culprits: [(MakeWrite, &str); 4] = [
        (|| write(|db| db.execute(DUPLICATE, ()).map(drop)), "UNIQUE"),
        (
            || batch(&["INSERT INTO entry VALUES ('lost')", DUPLICATE]),
            "UNIQUE",
        ),
        (|| closure(DUPLICATE), "UNIQUE"),
        (|| closure("INSERT INTO guarded VALUES (1)"), "guarded"),
    ];
    for (culprit, text) in culprits {
        let fixture = DatabaseFixture::new();
        let db = open_with_unique_row(&fixture);
        let writes = [
            insert("a"),
            closure("INSERT INTO entry VALUES ('lost')"),
            batch(&[
                "INSERT INTO entry VALUES ('b')",
                "INSERT INTO entry VALUES ('c')",
            ]),
            culprit(),
            insert("d"),
            closure("INSERT INTO entry VALUES ('e')"),
        ];
        let done = results_of(&db, writes);
        assert!(done[1].as_ref().unwrap_err().is_batch_aborted());
        assert!(error_contains(&done[3], text), "{done:?}");
        assert!(
            [0, 2, 4, 5].iter().all(|&one| done[one].is_ok()),
            "{done:?}"
        );
        assert_eq!(keys_in_order(&db), ["a", "b", "c", "d", "e"]);
        assert_lock_free(&db);
    }
}

/// A repeated write may fail now, and a write that failed may succeed, because the rows and
/// tables of an earlier closure are rolled back.
#[test]
fn a_repeated_write_sees_the_current_content() {
    let fixture = DatabaseFixture::new();
    let db = open_with_unique_row(&fixture);
    let writes = [
        closure("INSERT INTO one VALUES (2); CREATE TABLE brief(key)"),
        batch(&[
            "INSERT INTO entry VALUES ('lost')",
            "INSERT INTO brief VALUES (1)",
        ]),
        write(|db| db.execute("INSERT INTO one VALUES (2)", ()).map(drop)),
        insert("a"),
        batch(&["INSERT INTO entry VALUES ('lost')", DUPLICATE]),
        insert("b"),
        insert("c"),
    ];
    let done = results_of(&db, writes);
    assert!(done[0].as_ref().unwrap_err().is_batch_aborted());
    assert!(error_contains(&done[1], "no such table: brief"), "{done:?}");
    assert!(error_contains(&done[4], "UNIQUE"), "{done:?}");
    assert!(
        [2, 3, 5, 6].iter().all(|&one| done[one].is_ok()),
        "{done:?}"
    );
    assert_eq!(
        keys_in_order(&db),
        ["a", "b", "c"],
        "acknowledged writes are there"
    );
    assert_eq!(database_fixture::number(&db, "SELECT sum(id) FROM one"), 3);
    assert_lock_free(&db);
}

/// `FAIL` keeps the changes before the failure, also if the batch had to be repeated.
#[test]
fn changes_kept_by_fail_survive_a_repeated_batch() {
    let fixture = DatabaseFixture::new();
    let db = open_with_unique_row(&fixture);
    let fails = "INSERT OR FAIL INTO one VALUES (7), (1)";
    let writes = [
        insert("a"),
        write(|db| db.execute(fails, ()).map(drop)),
        write(|db| db.execute(DUPLICATE, ()).map(drop)),
    ];
    let done = results_of(&db, writes);
    assert!(
        done[0].is_ok() && error_contains(&done[1], "the change before the failure was kept"),
        "{done:?}"
    );
    assert_eq!(database_fixture::number(&db, "SELECT sum(id) FROM one"), 8);
}

/// A failed write leaves no rows, although SQLite would keep some in a transaction.
#[test]
fn a_failed_write_leaves_no_rows() {
    for foreign_keys in ["ON", "OFF"] {
        let fixture = DatabaseFixture::new();
        let db = open_with_unique_row(&fixture);
        let tables = [
            "CREATE TABLE typed(number INT) STRICT",
            "CREATE TABLE text(value)",
            "INSERT INTO text VALUES ('1'), ('{')",
        ];
        db.batch(tables).unwrap();
        db.with_write_lock(|connection| -> Result<()> {
            connection.execute_batch(&format!("PRAGMA foreign_keys = {foreign_keys}"))?;
            Ok(())
        })
        .unwrap();
        let typed = "INSERT INTO typed VALUES (1), ('x')";
        let broken =
            "INSERT INTO one SELECT each.value + 6 FROM text, json_each(text.value) AS each";
        let writes = [
            insert("a"),
            write(|db| db.execute(typed, ()).map(drop)),
            write(|db| db.execute(broken, ()).map(drop)),
            insert("b"),
        ];
        let done = results_of(&db, writes);
        assert!(
            done[0].is_ok()
                && error_contains(&done[1], "cannot store TEXT")
                && error_contains(&done[2], "JSON"),
            "{done:?}"
        );
        assert_eq!(keys_in_order(&db), ["a", "b"]);
        assert_eq!(
            database_fixture::number(&db, "SELECT count(*) FROM typed"),
            0
        );
        assert_eq!(database_fixture::number(&db, "SELECT count(*) FROM one"), 1);
    }
}

// ---- foreign keys -----------------------------------------------------------------

fn open_with_foreign_keys(fixture: &DatabaseFixture) -> Database {
    let db = open_for_large_batches(fixture);
    let tables = [
        "CREATE TABLE parent(id INTEGER PRIMARY KEY)",
        "CREATE TABLE child(of REFERENCES parent DEFERRABLE INITIALLY DEFERRED)",
        "CREATE TABLE strict(of REFERENCES parent)",
    ];
    db.batch(tables).unwrap();
    db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch("PRAGMA foreign_keys = ON")?;
        Ok(())
    })
    .unwrap();
    db
}

#[test]
fn a_deferred_violation_affects_only_its_own_write() {
    let orphans: [fn() -> Write<'static, Result<()>>; 3] = [
        || write(|db| db.execute("INSERT INTO child VALUES (7)", ()).map(drop)),
        || {
            batch(&[
                "INSERT INTO child VALUES (7)",
                "INSERT INTO entry VALUES ('lost')",
            ])
        },
        || closure("INSERT INTO child VALUES (7)"),
    ];
    for orphan in orphans {
        let fixture = DatabaseFixture::new();
        let db = open_with_foreign_keys(&fixture);
        let writes = [
            insert("a"),
            orphan(),
            write(|db| db.execute("INSERT INTO parent VALUES (7)", ()).map(drop)),
            closure("INSERT INTO child VALUES (8); INSERT INTO parent VALUES (8)"),
        ];
        let done = results_of(&db, writes);
        assert!(error_contains(&done[1], "FOREIGN KEY"), "{done:?}");
        assert!([0, 2, 3].iter().all(|&one| done[one].is_ok()), "{done:?}");
        assert_eq!(
            database_fixture::number(&db, "SELECT sum(of) FROM child"),
            8
        );
        assert_eq!(database_fixture::keys(&db), ["a"]);
    }
}

#[test]
fn deferred_foreign_keys_apply_to_one_write_only() {
    let pragma = "PRAGMA defer_foreign_keys = ON";
    let whole = "INSERT INTO strict VALUES (8); INSERT INTO parent VALUES (8)";
    let deferring = format!("{pragma}; {whole}");
    let failing = format!("{pragma}; nonsense");
    for first in [deferring.as_str(), failing.as_str()] {
        let fixture = DatabaseFixture::new();
        let db = open_with_foreign_keys(&fixture);
        let second = "INSERT INTO strict VALUES (9); INSERT INTO parent VALUES (9)";
        let done = results_of(
            &db,
            [insert("a"), closure(first), closure(second), insert("b")],
        );
        assert_eq!(done[1].is_ok(), first == deferring, "{done:?}");
        assert!(
            error_contains(&done[2], "FOREIGN KEY"),
            "as in a transaction of its own: {done:?}"
        );
        assert!(done[0].is_ok() && done[3].is_ok());
    }
}

// ---- a commit that fails ------------------------------------------------------------

#[cfg(unix)]
fn write_to_limit(args: &[OsString]) {
    let db = large_batch_options().open(Path::new(&args[0])).unwrap();
    database_fixture::insert(&db, "before").unwrap();
    let wal = fs::metadata(database_fixture::with_suffix(Path::new(&args[0]), "-wal")).unwrap();
    let large = "INSERT INTO entry VALUES (hex(zeroblob(20000)))";
    let members = || {
        [
            closure(large),
            write(move |db| db.execute(large, ()).map(drop)),
            batch(&["INSERT INTO entry VALUES ('x')"]),
        ]
    };
    for _ in 0..3 {
        file_size_limit::set(Some(wal.len() + 5000));
        let done = results_of(&db, members());
        file_size_limit::set(None);
        let is_sqlite_error =
            |done: &Result<()>| done.as_ref().is_err_and(|e| e.sqlite_error().is_some());
        assert!(done.iter().all(is_sqlite_error), "{done:?}");
        assert_eq!(database_fixture::count_entries(&db), 1);
    }
    results_of(&db, members())
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(database_fixture::count_entries(&db), 4);
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_failed_commit_fails_for_all_and_the_next_one_works() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let role = Peer::command("write_to_limit", [fixture.path()]);
    let mut peer = Peer::spawn(file_size_limit::with_signal_ignored(&role));
    peer.expect("done");
    assert!(peer.close().success());
    plain_sqlite::assert_integrity(&fixture.path());
}

/// An unlocked writer blocks one member until its deadline. The other members have their
/// own deadlines.
#[test]
fn a_leader_that_times_out_fails_no_other_write() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let db = OpenOptions::new()
        .timeout(Duration::from_secs(2))
        .open(fixture.path())
        .unwrap();
    let Some(mut unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| database_fixture::insert(&db, "first"));
        thread::sleep(Duration::from_millis(1200));
        let others: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| database_fixture::insert(&db, "later")))
            .collect();
        assert!(first.join().unwrap().unwrap_err().is_sqlite_busy());
        unlocked_writer.send("COMMIT; SELECT 'done';");
        unlocked_writer.expect("done");
        others
            .into_iter()
            .for_each(|other| other.join().unwrap().unwrap());
    });
    assert_eq!(database_fixture::count_entries(&db), 5);
}

// ---- deadlines --------------------------------------------------------------------

#[test]
fn a_write_that_times_out_leaves_no_trace_and_names_the_holder() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let short = OpenOptions::new().timeout(Duration::from_millis(300));
    let db = short.open(fixture.path()).unwrap();
    thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|_| scope.spawn(|| database_fixture::insert(&db, "late")))
            .collect();
        for one in all {
            let error = one.join().unwrap().unwrap_err();
            assert!(error.is_timeout(), "{error}");
            assert_eq!(error.holder().unwrap().pid, Some(holder.pid()));
        }
    });
    holder.send("release");
    holder.expect("released");
    database_fixture::insert(&db, "kept").unwrap();
    assert_eq!(database_fixture::keys(&db), ["kept"]);
}

/// The caller of a claimed write waits for the result even after its deadline.
#[test]
fn a_claimed_write_is_finished() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let limits = GroupLimits::default().max_latency(database_fixture::PROMPT);
    let options = OpenOptions::new().timeout(Duration::from_secs(1));
    let db = options.group_limits(limits).open(fixture.path()).unwrap();
    let slow = write(|db| {
        db.write(|tx| -> Result<()> {
            thread::sleep(Duration::from_millis(1500));
            tx.execute("INSERT INTO entry VALUES ('b')", [])?;
            Ok(())
        })
    });
    let done = results_of(&db, [insert("a"), slow, insert("c")]);
    assert!(done[0].is_ok() && done[1].is_ok(), "{done:?}");
    // It may not be claimed before its deadline.
    let is_late = |error: &Error| error.is_timeout();
    assert!(done[2].as_ref().map_or_else(is_late, |()| true), "{done:?}");
    let kept = 2 + i64::from(done[2].is_ok());
    assert_eq!(database_fixture::count_entries(&db), kept);
}

// ---- nested ---------------------------------------------------------------------

fn assert_nested(done: &Result<()>, since: Instant) {
    let error = done.as_ref().unwrap_err();
    assert!(
        error
            .lock_error()
            .is_some_and(penholder::lock::LockError::is_nested),
        "{error}"
    );
    assert!(since.elapsed() < database_fixture::PROMPT);
}

#[test]
fn a_write_inside_a_closure_is_an_error_at_once_on_every_thread() {
    let fixture = DatabaseFixture::new();
    let db = open_for_large_batches(&fixture);
    let nested = || {
        write(|db: &Database| {
            let caller = thread::current().id();
            let mut ran_by = caller;
            let done = db.write(|_| -> Result<()> {
                ran_by = thread::current().id();
                let since = Instant::now();
                assert_nested(&database_fixture::insert(db, "no"), since);
                assert_nested(&db.with_write_lock(|_| -> Result<()> { Ok(()) }), since);
                Ok(())
            });
            done.unwrap();
            ran_by != caller
        })
    };
    let by_another_thread = run_queued(&db, [nested(), nested(), nested()]);
    let by_another_thread = by_another_thread
        .into_iter()
        .filter(|ran| *ran.as_ref().unwrap())
        .count();
    assert_eq!(by_another_thread, 2, "the first thread leads");
    assert_eq!(database_fixture::count_entries(&db), 0);
}

#[test]
fn a_write_inside_with_write_lock_is_an_error_while_others_wait_for_the_lock() {
    let fixture = DatabaseFixture::new();
    let db = open_for_large_batches(&fixture);
    thread::scope(|scope| {
        let done = db.with_write_lock(|_| -> Result<()> {
            scope.spawn(|| database_fixture::insert(&db, "waits").unwrap());
            thread::sleep(Duration::from_millis(200));
            let since = Instant::now();
            assert_nested(&database_fixture::insert(&db, "no"), since);
            assert_nested(&db.write(|_| -> Result<()> { Ok(()) }), since);
            Ok(())
        });
        done.unwrap();
    });
    assert_eq!(database_fixture::keys(&db), ["waits"]);
}

// ---- forks ----------------------------------------------------------------------

/// One of three closures forks, on the leading thread, which is the first caller's. The
/// child returns from the first call.
#[cfg(unix)]
fn fork_in_a_batch(args: &[OsString]) {
    let db = large_batch_options().open(Path::new(&args[0])).unwrap();
    let parent = std::process::id();
    let forks: usize = args[1].to_str().unwrap().parse().unwrap();
    let child = AtomicUsize::new(0);
    let member = |number: usize| {
        let child = &child;
        write(move |db: &Database| {
            let done = db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES (?1)", [number.to_string()])?;
                if number == forks {
                    // SAFETY: the child returns through the leader's frames, and exits.
                    let pid = unsafe { libc::fork() };
                    if pid == 0 {
                        // SAFETY: `alarm` has no preconditions. It ends the child after the
                        // test. The thread that forked may end before the child.
                        unsafe { libc::alarm(30) };
                    } else {
                        child.store(usize::try_from(pid).unwrap(), SeqCst);
                    }
                }
                Ok(())
            });
            if std::process::id() != parent {
                let succeeded = done.is_err_and(|error: Error| error.is_forked());
                // From now on the child is an independent process.
                let succeeded = succeeded && database_fixture::insert(db, "child").is_ok();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!succeeded)) }
            }
            done
        })
    };
    let done = results_of(&db, (0..3).map(member));
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.load(SeqCst)).unwrap());
    let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    database_fixture::insert(&db, "after").unwrap();
    peer::send("done");
}

#[cfg(unix)]
#[test]
fn a_batch_stays_with_the_parent_of_a_fork() {
    for forks in ["0", "1", "2"] {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let path = fixture.path();
        let mut peer = Peer::start("fork_in_a_batch", [path.to_str().unwrap(), forks]);
        peer.expect("done");
        assert!(peer.close().success());
        assert_eq!(
            keys_in_order(&database_fixture::open(&fixture.path())),
            ["0", "1", "2", "child", "after"]
        );
        plain_sqlite::assert_integrity(&fixture.path());
    }
}

// ---- bounds -----------------------------------------------------------------------

fn group_counts_of_six(group: GroupCommit, limits: GroupLimits) -> (u64, u64) {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let options = large_batch_options()
        .group_commit(group)
        .group_limits(limits);
    let db = options.open(fixture.path()).unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"];
    results_of(&db, keys.map(insert))
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(keys_in_order(&db), keys);
    group_counts(&db)
}

#[test]
fn a_batch_stays_within_its_limits() {
    let within = GroupCommit::WithinProcess;
    let large = GroupLimits::default().max_latency(database_fixture::PROMPT);
    assert_eq!(group_counts_of_six(within, large), (1, 6));
    assert_eq!(group_counts_of_six(GroupCommit::Off, large), (0, 0));
    assert_eq!(group_counts_of_six(within, large.max_statements(2)), (3, 6));
    assert_eq!(group_counts_of_six(within, large.max_statements(1)), (0, 0));
    assert_eq!(group_counts_of_six(within, large.max_bytes(1)).0, 0);
    // No time for a second write. The first write of a batch always fits.
    assert_eq!(
        group_counts_of_six(within, large.max_latency(Duration::ZERO)),
        (0, 0)
    );
}

/// Writes after a slow closure are in the next batch. Only the commit of the writes before
/// it waits for it.
#[test]
fn a_slow_closure_ends_its_batch() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let limits = GroupLimits::default().max_latency(Duration::from_millis(250));
    let db = large_batch_options()
        .group_limits(limits)
        .open(fixture.path())
        .unwrap();
    let slow = write(|db| {
        db.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('slow')", [])?;
            thread::sleep(Duration::from_millis(300));
            Ok(())
        })
    });
    let reads = write(|db| {
        db.write(|tx| -> Result<()> {
            assert!(
                database_fixture::count_entries(db) > 0,
                "the earlier writes are committed"
            );
            tx.execute("INSERT INTO entry VALUES ('c')", [])?;
            Ok(())
        })
    });
    let done = results_of(&db, [insert("a"), slow, reads, insert("d")]);
    done.into_iter().for_each(|done| done.unwrap());
    assert_eq!(keys_in_order(&db), ["a", "slow", "c", "d"]);
}

// ---- many writes in random order ----------------------------------------------------

/// Thousands of writes by threads with short and long deadlines, errors and panics: each
/// caller gets the right result, and no caller waits forever.
#[test]
fn many_threads_get_the_right_results() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let long_timeout = large_batch_options()
        .group_limits(GroupLimits::default())
        .open(fixture.path())
        .unwrap();
    let short_timeout = OpenOptions::new()
        .timeout(Duration::from_millis(2))
        .open(fixture.path())
        .unwrap();
    let acknowledged: Vec<String> = thread::scope(|scope| {
        let (long_timeout, short_timeout) = (&long_timeout, &short_timeout);
        let writers: Vec<_> = (0..12_u64)
            .map(|writer| {
                scope.spawn(move || {
                    write_at_random(
                        writer,
                        if writer % 3 == 0 {
                            short_timeout
                        } else {
                            long_timeout
                        },
                    )
                })
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let mut acknowledged = acknowledged;
    acknowledged.sort();
    assert_eq!(database_fixture::keys(&long_timeout), acknowledged);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// Writes in random ways and returns the keys whose writes were acknowledged.
fn write_at_random(writer: u64, db: &Database) -> Vec<String> {
    let mut acknowledged = Vec::new();
    let mut random = writer + 1;
    for number in 0..250 {
        random = random
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1);
        let key = format!("{writer}-{number}");
        let pause = Duration::from_micros(random >> 56);
        let done = match random >> 40 & 7 {
            0 => db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES (?1)", [&key])?;
                thread::sleep(pause);
                Ok(())
            }),
            1 => db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES (?1)", [&key])?;
                Ok(tx.execute_batch("nonsense")?)
            }),
            2 => {
                let panics = std::panic::AssertUnwindSafe(|| {
                    db.write(|tx| -> Result<()> {
                        tx.execute("INSERT INTO entry VALUES (?1)", [&key])?;
                        std::panic::resume_unwind(Box::new("on purpose"))
                    })
                });
                std::panic::catch_unwind(panics)
                    .unwrap_or_else(|_| Err(rusqlite::Error::InvalidQuery.into()))
            }
            3 => db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES (?1)", [&key])?;
                Ok(tx.execute_batch("ROLLBACK")?)
            }),
            4 => db
                .batch([Query::new("INSERT INTO entry VALUES (?1)", [&key])])
                .map(drop),
            _ => database_fixture::insert(db, &key),
        };
        if done.is_ok() {
            acknowledged.push(key);
        }
        if random >> 30 & 3 == 0 {
            thread::sleep(pause);
        }
    }
    acknowledged
}

// ---- tasks ------------------------------------------------------------------------

#[cfg(feature = "tokio")]
mod tasks {
    use std::collections::BTreeSet;

    use penholder::AsyncDatabase;
    use tokio::runtime::{Builder, Runtime};
    use tokio::task::JoinSet;
    use tokio::time::{sleep, timeout};

    use super::*;

    const INSERT: &str = "INSERT INTO entry VALUES (?1)";

    /// Returns a runtime with one blocking thread.
    fn runtime_with_one_blocking_thread() -> Runtime {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).max_blocking_threads(1);
        runtime.enable_all().build().unwrap()
    }

    #[test]
    fn tasks_and_threads_share_a_group_with_one_blocking_thread() {
        let fixture = DatabaseFixture::new();
        let db = open_for_large_batches(&fixture);
        let tasks = AsyncDatabase::from(db.clone());
        let runtime = runtime_with_one_blocking_thread();
        thread::scope(|scope| {
            for writer in 0..4 {
                let db = &db;
                scope.spawn(move || {
                    for n in 0..50 {
                        database_fixture::insert(db, &format!("thread {writer} {n}")).unwrap();
                    }
                });
            }
            runtime.block_on(async {
                let mut all = JoinSet::new();
                for writer in 0..20 {
                    let db = tasks.clone();
                    all.spawn(async move {
                        for number in 0..20 {
                            let key = format!("task {writer} {number}");
                            if number % 2 == 0 {
                                db.execute(INSERT, [key]).await.unwrap();
                                continue;
                            }
                            let write = db.write(move |tx| -> Result<()> {
                                tx.execute(INSERT, [key])?;
                                Ok(())
                            });
                            write.await.unwrap();
                        }
                    });
                }
                while let Some(done) = all.join_next().await {
                    done.unwrap();
                }
            });
        });
        assert_eq!(database_fixture::count_entries(&db), 4 * 50 + 20 * 20);
        let once = database_fixture::number(&db, "SELECT count(DISTINCT key) FROM entry");
        assert_eq!(once, 4 * 50 + 20 * 20);
    }

    /// Futures are dropped before their turn, while they lead and while they are claimed.
    /// Other futures wait with long timeouts.
    #[test]
    fn futures_dropped_at_any_moment_delay_no_other_write() {
        let fixture = DatabaseFixture::new();
        let db = open_for_large_batches(&fixture);
        let tasks = AsyncDatabase::from(db.clone());
        let acknowledged: BTreeSet<String> = runtime_with_one_blocking_thread().block_on(async {
            let mut all = JoinSet::new();
            for writer in 0..16_u64 {
                let db = tasks.clone();
                all.spawn(async move {
                    let mut acknowledged = Vec::new();
                    for number in 0..60_u64 {
                        let key = format!("{writer} {number}");
                        let write = db.execute(INSERT, [key.clone()]);
                        let wait_time = match writer % 2 {
                            0 => database_fixture::ENDLESS_TIMEOUT,
                            _ => Duration::from_micros(number * 97 % 3000),
                        };
                        if let Ok(done) = timeout(wait_time, write).await {
                            done.unwrap();
                            acknowledged.push(key);
                        }
                    }
                    acknowledged
                });
            }
            let mut acknowledged = BTreeSet::new();
            while let Some(done) = all.join_next().await {
                acknowledged.extend(done.unwrap());
            }
            acknowledged
        });
        database_fixture::insert(&db, "last").unwrap();
        let keys = database_fixture::keys(&db);
        let distinct: BTreeSet<String> = keys.iter().cloned().collect();
        assert_eq!(keys.len(), distinct.len(), "no key is there twice");
        assert!(acknowledged.is_subset(&distinct) && acknowledged.len() >= 8 * 60);
    }

    #[test]
    fn a_runtime_that_ends_while_it_leads_passes_the_lead_on() {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let db = large_batch_options().open(fixture.path()).unwrap();
        let tasks = AsyncDatabase::from(db.clone());
        let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
        let runtime = runtime_with_one_blocking_thread();
        for number in 0..5 {
            let db = tasks.clone();
            runtime.spawn(async move { db.execute(INSERT, [number]).await });
        }
        thread::sleep(Duration::from_millis(50));
        thread::scope(|scope| {
            let waiter = scope.spawn(|| database_fixture::insert(&db, "waits"));
            thread::sleep(Duration::from_millis(50));
            runtime.shutdown_background();
            thread::sleep(Duration::from_millis(50));
            holder.send("release");
            holder.expect("released");
            waiter.join().unwrap().unwrap();
        });
        database_fixture::insert(&db, "after").unwrap();
        let keys = keys_in_order(&db);
        assert_eq!(keys[keys.len() - 2..], ["waits", "after"]);
    }

    #[test]
    fn a_future_awaited_inside_a_closure_is_an_error_at_once() {
        let fixture = DatabaseFixture::new();
        let tasks = AsyncDatabase::from(open_for_large_batches(&fixture));
        let runtime = runtime_with_one_blocking_thread();
        let (inner, handle) = (tasks.clone(), runtime.handle().clone());
        let write = tasks.write(move |_| -> Result<()> {
            let since = Instant::now();
            let done = handle.block_on(inner.execute(INSERT, ["no"]));
            assert_nested(&done.map(drop), since);
            Ok(())
        });
        runtime.block_on(write).unwrap();
        assert_eq!(database_fixture::count_entries(tasks.blocking()), 0);
    }

    /// The leading thread drops a closure that never runs.
    #[test]
    fn a_value_owned_by_a_closure_may_panic_while_it_is_dropped() {
        struct PanicsOnDrop;
        impl Drop for PanicsOnDrop {
            fn drop(&mut self) {
                assert!(thread::panicking(), "on purpose");
            }
        }
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let short_timeout = OpenOptions::new().timeout(Duration::from_millis(300));
        let tasks = AsyncDatabase::from(short_timeout.open(fixture.path()).unwrap());
        let Some(mut unlocked_writer) = plain_sqlite::outsider(&fixture.path()) else {
            return;
        };
        runtime_with_one_blocking_thread().block_on(async {
            let value = PanicsOnDrop;
            let write = tasks.write(move |_| -> Result<()> {
                std::mem::forget(value);
                Ok(())
            });
            let acknowledged = timeout(database_fixture::PROMPT, write).await;
            assert!(acknowledged.expect("an answer").unwrap_err().is_timeout());
            sleep(Duration::from_millis(10)).await;
        });
        unlocked_writer.send("COMMIT; SELECT 'done';");
        unlocked_writer.expect("done");
        database_fixture::insert(tasks.blocking(), "after").unwrap();
    }
}
