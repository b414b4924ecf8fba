//! Group commit within a process: order, one commit, everybody's own errors, and
//! nobody left waiting.
#![cfg(test)]
#![allow(unsafe_code, reason = "fork and _exit are what is tested")]

use std::ffi::OsString;
use std::fs;
use std::path::Path;
use std::sync::atomic::{AtomicUsize, Ordering::SeqCst};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use penholder::{Database, Error, GroupCommit, GroupLimits, Options, Result, Statement};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, file_size_limit, peer, plain_sqlite, wait};

#[test]
fn peer() {
    peer::run_role(&[
        ("hold pen", database_fixture::hold_lock),
        ("limited", limited),
        ("fork in a batch", fork_in_a_batch),
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
        db.batch(all.iter().map(|&sql| Statement::new(sql, ())))
            .map(drop)
    })
}

/// All that queue are in one batch, however slow the machine is.
fn roomy() -> Options {
    let limits = GroupLimits::default().latency(database_fixture::PROMPT);
    let options = Options::new().timeout(database_fixture::ENDLESS_TIMEOUT);
    options.group_limits(limits)
}

fn opened(fixture: &DatabaseFixture) -> Database {
    drop(fixture.database());
    roomy().open(fixture.path()).unwrap()
}

/// Whether a thread of this process sleeps.
fn sleeps(thread: &str) -> bool {
    let stat = fs::read_to_string(format!("/proc/{thread}/stat")).unwrap();
    stat.rsplit(") ").next().unwrap().starts_with('S')
}

/// Starts writers one after the other behind one that has the lock, lets them go,
/// and says how each came back.
fn queued<'a, T: Send + 'a>(
    db: &Database,
    writes: impl IntoIterator<Item = Write<'a, T>>,
) -> Vec<thread::Result<T>> {
    let (inside, is_inside) = mpsc::channel();
    let (open, opened) = mpsc::channel::<()>();
    thread::scope(|scope| {
        let gate = scope.spawn(move || {
            let done = db.write(move |_| -> Result<()> {
                inside.send(()).unwrap();
                let _ = opened.recv();
                Ok(())
            });
            done.unwrap();
        });
        is_inside.recv().unwrap();
        let start = |run: Write<'a, T>| {
            let (begun, has_begun) = mpsc::channel();
            let writer = scope.spawn(move || {
                begun
                    .send(fs::read_link("/proc/thread-self").unwrap())
                    .unwrap();
                run(db)
            });
            let thread = has_begun.recv().unwrap();
            let thread = thread.to_str().unwrap();
            wait::until("the writer to queue", || {
                let asleep = sleeps(thread);
                thread::sleep(Duration::from_millis(3));
                asleep && sleeps(thread)
            });
            writer
        };
        let writers: Vec<_> = writes.into_iter().map(start).collect();
        drop(open);
        gate.join().unwrap();
        writers
            .into_iter()
            .map(thread::ScopedJoinHandle::join)
            .collect()
    })
}

fn results<'a>(
    db: &Database,
    writes: impl IntoIterator<Item = Write<'a, Result<()>>>,
) -> Vec<Result<()>> {
    let ended = queued(db, writes);
    ended.into_iter().map(|ended| ended.unwrap()).collect()
}

/// The keys in the order in which they were written.
fn in_order(db: &Database) -> Vec<String> {
    let rows = db
        .query("SELECT key FROM entry ORDER BY rowid", ())
        .unwrap();
    (0..rows.len())
        .map(|row| rows.get(row, "key").unwrap())
        .collect()
}

/// How many commits were shared since the database was made, and by how many writes.
fn shared(db: &Database) -> (u64, u64) {
    let counters = db.status().unwrap().counters;
    (counters.batches, counters.grouped)
}

fn assert_idle(db: &Database) {
    let status = db.status().unwrap();
    assert!(status.holder.is_none() && status.queue.is_empty());
    database_fixture::insert(db, "later").unwrap();
}

fn says(error: &Result<()>, text: &str) -> bool {
    error
        .as_ref()
        .is_err_and(|error| error.to_string().contains(text))
}

// ---- order, and one commit for all ---------------------------------------------

#[test]
fn order_of_arrival_is_the_order_of_execution_in_one_transaction() {
    let fixture = DatabaseFixture::new();
    let db = opened(&fixture);
    let keys: Vec<String> = (0..21).map(|number| format!("{number:02}")).collect();
    let returned = AtomicUsize::new(0);
    let writes = keys.iter().enumerate().map(|(number, key)| {
        let returned = &returned;
        write(move |db| {
            let done = match number % 3 {
                0 => database_fixture::insert(db, key),
                1 => db
                    .batch([Statement::new("INSERT INTO entry VALUES (?1)", [key])])
                    .map(drop),
                _ => {
                    let mut seen = 0_i64;
                    let done = db.write(|tx| -> Result<()> {
                        // Those before are there, uncommitted and not told.
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
                        "borrowed from this stack"
                    );
                    done
                }
            };
            returned.fetch_add(1, SeqCst);
            done
        })
    });
    results(&db, writes)
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(in_order(&db), keys);
    assert_eq!(shared(&db), (1, 21));
}

// ---- errors and panics ------------------------------------------------------------

#[test]
fn an_error_or_a_panic_reaches_its_caller_alone() {
    let fixture = DatabaseFixture::new();
    let db = opened(&fixture);
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
    let ended = queued(&db, writes);
    assert!(ended[0].as_ref().unwrap().is_ok() && ended[5].as_ref().unwrap().is_ok());
    let panic = ended[2].as_ref().unwrap_err();
    assert_eq!(panic.downcast_ref::<&str>(), Some(&"on purpose"));
    for number in [1, 3, 4] {
        let error = ended[number].as_ref().unwrap().as_ref().unwrap_err();
        assert!(error.to_string().contains("nonsense"), "{error}");
    }
    assert_eq!(in_order(&db), ["a", "b"]);
    assert_eq!(shared(&db), (1, 2));
}

#[test]
fn a_closure_that_ends_the_transaction_is_told_and_costs_closures_a_retry() {
    let endings = [
        "COMMIT",
        "ROLLBACK",
        "ROLLBACK; BEGIN",
        "RELEASE penholder_member",
    ];
    for ending in endings {
        let fixture = DatabaseFixture::new();
        let db = opened(&fixture);
        let swallowed = write(move |db| {
            db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES ('lost')", [])?;
                let _ = tx.execute_batch(ending);
                Ok(())
            })
        });
        let writes = [
            closure("INSERT INTO entry VALUES ('lost')"),
            insert("a"),
            swallowed,
            insert("b"),
            closure("INSERT INTO entry VALUES ('c')"),
        ];
        let done = results(&db, writes);
        assert!(done[0].as_ref().unwrap_err().is_retryable(), "{ending}");
        assert!(
            says(&done[2], "ended before its time"),
            "{ending}: {done:?}"
        );
        assert!([1, 3, 4].iter().all(|&one| done[one].is_ok()), "{done:?}");
        assert_eq!(in_order(&db), ["a", "b", "c"], "{ending}");
        assert_idle(&db);
    }
}

#[test]
fn begin_and_open_savepoints_disturb_nobody() {
    let fixture = DatabaseFixture::new();
    let db = opened(&fixture);
    let writes = [
        insert("a"),
        closure("INSERT INTO entry VALUES ('lost'); BEGIN"),
        closure("SAVEPOINT x; INSERT INTO entry VALUES ('b'); SAVEPOINT y"),
        closure("SAVEPOINT x; INSERT INTO entry VALUES ('lost'); nonsense"),
        closure("INSERT INTO entry VALUES ('c')"),
    ];
    let done = results(&db, writes);
    assert!(says(&done[1], "within a transaction") && says(&done[3], "nonsense"));
    assert!([0, 2, 4].iter().all(|&one| done[one].is_ok()), "{done:?}");
    assert_eq!(in_order(&db), ["a", "b", "c"]);
}

// ---- SQLite rolls all of it back ----------------------------------------------------

const TAKEN: &str = "INSERT OR ROLLBACK INTO one VALUES (1)";

fn with_one(fixture: &DatabaseFixture) -> Database {
    let db = opened(fixture);
    let tables = [
        "CREATE TABLE one(id INTEGER PRIMARY KEY)",
        "INSERT INTO one VALUES (1)",
        "CREATE TABLE guarded(key)",
        "CREATE TRIGGER guard BEFORE INSERT ON guarded BEGIN SELECT RAISE(ROLLBACK, 'guarded'); END",
    ];
    db.batch(tables).unwrap();
    db
}

type Culprit = fn() -> Write<'static, Result<()>>;

#[test]
fn who_makes_sqlite_roll_back_pays_alone() {
    let culprits: [(Culprit, &str); 4] = [
        (|| write(|db| db.execute(TAKEN, ()).map(drop)), "UNIQUE"),
        (
            || batch(&["INSERT INTO entry VALUES ('lost')", TAKEN]),
            "UNIQUE",
        ),
        (|| closure(TAKEN), "UNIQUE"),
        (|| closure("INSERT INTO guarded VALUES (1)"), "guarded"),
    ];
    for (culprit, text) in culprits {
        let fixture = DatabaseFixture::new();
        let db = with_one(&fixture);
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
        let done = results(&db, writes);
        assert!(done[1].as_ref().unwrap_err().is_retryable());
        assert!(says(&done[3], text), "{done:?}");
        assert!(
            [0, 2, 4, 5].iter().all(|&one| done[one].is_ok()),
            "{done:?}"
        );
        assert_eq!(in_order(&db), ["a", "b", "c", "d", "e"]);
        assert_idle(&db);
    }
}

/// What runs again by itself may fail now, and what failed may succeed: what a
/// closure wrote for the one, and against the other, is gone.
#[test]
fn what_runs_again_sees_what_is_there_now() {
    let fixture = DatabaseFixture::new();
    let db = with_one(&fixture);
    let writes = [
        closure("INSERT INTO one VALUES (2); CREATE TABLE brief(key)"),
        batch(&[
            "INSERT INTO entry VALUES ('lost')",
            "INSERT INTO brief VALUES (1)",
        ]),
        write(|db| db.execute("INSERT INTO one VALUES (2)", ()).map(drop)),
        insert("a"),
        batch(&["INSERT INTO entry VALUES ('lost')", TAKEN]),
        insert("b"),
        insert("c"),
    ];
    let done = results(&db, writes);
    assert!(done[0].as_ref().unwrap_err().is_retryable());
    assert!(says(&done[1], "no such table: brief"), "{done:?}");
    assert!(says(&done[4], "UNIQUE"), "{done:?}");
    assert!(
        [2, 3, 5, 6].iter().all(|&one| done[one].is_ok()),
        "{done:?}"
    );
    assert_eq!(
        in_order(&db),
        ["a", "b", "c"],
        "acknowledged, so it is there"
    );
    assert_eq!(database_fixture::number(&db, "SELECT sum(id) FROM one"), 3);
    assert_idle(&db);
}

/// `FAIL` keeps what stood before it, also if all of it had to be run again.
#[test]
fn what_fail_keeps_is_kept() {
    let fixture = DatabaseFixture::new();
    let db = with_one(&fixture);
    let fails = "INSERT OR FAIL INTO one VALUES (7), (1)";
    let writes = [
        insert("a"),
        write(|db| db.execute(fails, ()).map(drop)),
        write(|db| db.execute(TAKEN, ()).map(drop)),
    ];
    let done = results(&db, writes);
    assert!(
        done[0].is_ok() && says(&done[1], "1 changes before it stand"),
        "{done:?}"
    );
    assert_eq!(database_fixture::number(&db, "SELECT sum(id) FROM one"), 8);
}

/// What failed leaves nothing behind, also where SQLite would in a transaction.
#[test]
fn what_failed_is_gone() {
    for foreign_keys in ["ON", "OFF"] {
        let fixture = DatabaseFixture::new();
        let db = with_one(&fixture);
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
        let done = results(&db, writes);
        assert!(
            done[0].is_ok() && says(&done[1], "cannot store TEXT") && says(&done[2], "JSON"),
            "{done:?}"
        );
        assert_eq!(in_order(&db), ["a", "b"]);
        assert_eq!(
            database_fixture::number(&db, "SELECT count(*) FROM typed"),
            0
        );
        assert_eq!(database_fixture::number(&db, "SELECT count(*) FROM one"), 1);
    }
}

// ---- foreign keys -----------------------------------------------------------------

fn with_families(fixture: &DatabaseFixture) -> Database {
    let db = opened(fixture);
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
fn a_deferred_violation_is_neither_healed_nor_blamed_by_a_neighbour() {
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
        let db = with_families(&fixture);
        let writes = [
            insert("a"),
            orphan(),
            write(|db| db.execute("INSERT INTO parent VALUES (7)", ()).map(drop)),
            closure("INSERT INTO child VALUES (8); INSERT INTO parent VALUES (8)"),
        ];
        let done = results(&db, writes);
        assert!(says(&done[1], "FOREIGN KEY"), "{done:?}");
        assert!([0, 2, 3].iter().all(|&one| done[one].is_ok()), "{done:?}");
        assert_eq!(
            database_fixture::number(&db, "SELECT sum(of) FROM child"),
            8
        );
        assert_eq!(database_fixture::keys(&db), ["a"]);
    }
}

#[test]
fn deferring_foreign_keys_holds_for_one_member() {
    let pragma = "PRAGMA defer_foreign_keys = ON";
    let whole = "INSERT INTO strict VALUES (8); INSERT INTO parent VALUES (8)";
    let deferring = format!("{pragma}; {whole}");
    let failing = format!("{pragma}; nonsense");
    for first in [deferring.as_str(), failing.as_str()] {
        let fixture = DatabaseFixture::new();
        let db = with_families(&fixture);
        let second = "INSERT INTO strict VALUES (9); INSERT INTO parent VALUES (9)";
        let done = results(
            &db,
            [insert("a"), closure(first), closure(second), insert("b")],
        );
        assert_eq!(done[1].is_ok(), first == deferring, "{done:?}");
        assert!(says(&done[2], "FOREIGN KEY"), "as alone: {done:?}");
        assert!(done[0].is_ok() && done[3].is_ok());
    }
}

// ---- a commit that fails ------------------------------------------------------------

fn limited(args: &[OsString]) {
    let db = roomy().open(Path::new(&args[0])).unwrap();
    database_fixture::insert(&db, "before").unwrap();
    let log = fs::metadata(database_fixture::with_suffix(Path::new(&args[0]), "-wal")).unwrap();
    let large = "INSERT INTO entry VALUES (hex(zeroblob(20000)))";
    let members = || {
        [
            closure(large),
            write(move |db| db.execute(large, ()).map(drop)),
            batch(&["INSERT INTO entry VALUES ('x')"]),
        ]
    };
    for _ in 0..3 {
        file_size_limit::set(Some(log.len() + 5000));
        let done = results(&db, members());
        file_size_limit::set(None);
        let is_told = |done: &Result<()>| done.as_ref().is_err_and(|e| e.sqlite_error().is_some());
        assert!(done.iter().all(is_told), "{done:?}");
        assert_eq!(database_fixture::count_entries(&db), 1);
    }
    results(&db, members())
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(database_fixture::count_entries(&db), 4);
    peer::send("done");
}

#[test]
fn a_commit_that_fails_fails_for_all_and_the_next_one_works() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let role = Peer::command("limited", [fixture.path()]);
    let mut peer = Peer::spawn(file_size_limit::with_signal_ignored(&role));
    peer.expect("done");
    assert!(peer.close().success());
    plain_sqlite::assert_integrity(&fixture.path());
}

/// An outsider is in the way of one member until its deadline: the others have their
/// own.
#[test]
fn a_leader_that_gives_up_takes_nobody_with_it() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let db = Options::new()
        .timeout(Duration::from_secs(2))
        .open(fixture.path())
        .unwrap();
    let Some(mut outsider) = plain_sqlite::outsider(&fixture.path()) else {
        return;
    };
    thread::scope(|scope| {
        let first = scope.spawn(|| database_fixture::insert(&db, "first"));
        thread::sleep(Duration::from_millis(1200));
        let others: Vec<_> = (0..5)
            .map(|_| scope.spawn(|| database_fixture::insert(&db, "later")))
            .collect();
        assert!(first.join().unwrap().unwrap_err().is_busy());
        outsider.send("COMMIT; SELECT 'gone';");
        outsider.expect("gone");
        others
            .into_iter()
            .for_each(|other| other.join().unwrap().unwrap());
    });
    assert_eq!(database_fixture::count_entries(&db), 5);
}

// ---- deadlines --------------------------------------------------------------------

#[test]
fn who_queues_too_long_leaves_no_trace_and_is_told_who_holds() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let mut holder = database_fixture::start_holder("hold pen", &fixture.directory());
    let impatient = Options::new().timeout(Duration::from_millis(300));
    let db = impatient.open(fixture.path()).unwrap();
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

/// It runs on: its caller waits for the end, deadline or not.
#[test]
fn what_is_claimed_comes_to_its_end() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let limits = GroupLimits::default().latency(database_fixture::PROMPT);
    let options = Options::new().timeout(Duration::from_secs(1));
    let db = options.group_limits(limits).open(fixture.path()).unwrap();
    let slow = write(|db| {
        db.write(|tx| -> Result<()> {
            thread::sleep(Duration::from_millis(1500));
            tx.execute("INSERT INTO entry VALUES ('b')", [])?;
            Ok(())
        })
    });
    let done = results(&db, [insert("a"), slow, insert("c")]);
    assert!(done[0].is_ok() && done[1].is_ok(), "{done:?}");
    // Not claimed before its deadline.
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
fn a_write_inside_a_closure_is_an_error_at_once_whoever_runs_it() {
    let fixture = DatabaseFixture::new();
    let db = opened(&fixture);
    let nests = || {
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
    let elsewhere = queued(&db, [nests(), nests(), nests()]);
    let elsewhere = elsewhere
        .into_iter()
        .filter(|ran| *ran.as_ref().unwrap())
        .count();
    assert_eq!(elsewhere, 2, "the first leads");
    assert_eq!(database_fixture::count_entries(&db), 0);
}

#[test]
fn a_write_inside_with_write_lock_is_an_error_while_others_wait_for_the_lock() {
    let fixture = DatabaseFixture::new();
    let db = opened(&fixture);
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

/// The second of three closures forks, on the thread that leads: the first's. The
/// child comes out of the first one's call.
fn fork_in_a_batch(args: &[OsString]) {
    let db = roomy().open(Path::new(&args[0])).unwrap();
    let parent = std::process::id();
    let forks: usize = args[1].to_str().unwrap().parse().unwrap();
    let child = AtomicUsize::new(0);
    let member = |number: usize| {
        let child = &child;
        write(move |db: &Database| {
            let done = db.write(|tx| -> Result<()> {
                tx.execute("INSERT INTO entry VALUES (?1)", [number.to_string()])?;
                if number == forks {
                    // SAFETY: the child goes back through the leader's frames, and ends.
                    let pid = unsafe { libc::fork() };
                    if pid == 0 {
                        // SAFETY: so that it does not outlive its test, whatever happens. (The
                        // thread that forked may end before it.)
                        unsafe { libc::alarm(30) };
                    } else {
                        child.store(usize::try_from(pid).unwrap(), SeqCst);
                    }
                }
                Ok(())
            });
            if std::process::id() != parent {
                let is_told = done.is_err_and(|error: Error| error.is_forked());
                // From now on it is a process like others.
                let is_told = is_told && database_fixture::insert(db, "child").is_ok();
                // SAFETY: ends the child at once.
                unsafe { libc::_exit(i32::from(!is_told)) }
            }
            done
        })
    };
    let done = results(&db, (0..3).map(member));
    assert!(done.iter().all(Result::is_ok), "{done:?}");
    let pid = rustix::process::Pid::from_raw(i32::try_from(child.load(SeqCst)).unwrap());
    let ended = rustix::process::waitpid(pid, rustix::process::WaitOptions::empty());
    assert_eq!(ended.unwrap().unwrap().1.exit_status(), Some(0));
    database_fixture::insert(&db, "after").unwrap();
    peer::send("done");
}

#[test]
fn a_fork_in_a_batch_leaves_it_to_the_parent() {
    for forks in ["0", "1", "2"] {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let path = fixture.path();
        let mut peer = Peer::start("fork in a batch", [path.to_str().unwrap(), forks]);
        peer.expect("done");
        assert!(peer.close().success());
        assert_eq!(
            in_order(&database_fixture::open(&fixture.path())),
            ["0", "1", "2", "child", "after"]
        );
        plain_sqlite::assert_integrity(&fixture.path());
    }
}

// ---- bounds -----------------------------------------------------------------------

fn commits_of_six(group: GroupCommit, limits: GroupLimits) -> (u64, u64) {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let options = roomy().group_commit(group).group_limits(limits);
    let db = options.open(fixture.path()).unwrap();
    let keys = ["a", "b", "c", "d", "e", "f"];
    results(&db, keys.map(insert))
        .into_iter()
        .for_each(|done| done.unwrap());
    assert_eq!(in_order(&db), keys);
    shared(&db)
}

#[test]
fn a_batch_grows_no_further_than_its_limits() {
    let within = GroupCommit::WithinProcess;
    let roomy = GroupLimits::default().latency(database_fixture::PROMPT);
    assert_eq!(commits_of_six(within, roomy), (1, 6));
    assert_eq!(commits_of_six(GroupCommit::Off, roomy), (0, 0));
    assert_eq!(commits_of_six(within, roomy.statements(2)), (3, 6));
    assert_eq!(commits_of_six(within, roomy.statements(1)), (0, 0));
    assert_eq!(commits_of_six(within, roomy.bytes(1)).0, 0);
    // No time for company: each is the first of its batch, which always fits.
    assert_eq!(
        commits_of_six(within, roomy.latency(Duration::ZERO)),
        (0, 0)
    );
}

/// What comes after a slow closure is in the next batch: who was before it waits
/// for it, and nobody else's commit does.
#[test]
fn a_slow_closure_ends_its_batch() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let limits = GroupLimits::default().latency(Duration::from_millis(250));
    let db = roomy().group_limits(limits).open(fixture.path()).unwrap();
    let slow = write(|db| {
        db.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('slow')", [])?;
            thread::sleep(Duration::from_millis(300));
            Ok(())
        })
    });
    let looks = write(|db| {
        db.write(|tx| -> Result<()> {
            assert!(
                database_fixture::count_entries(db) > 0,
                "those before are committed"
            );
            tx.execute("INSERT INTO entry VALUES ('c')", [])?;
            Ok(())
        })
    });
    let done = results(&db, [insert("a"), slow, looks, insert("d")]);
    done.into_iter().for_each(|done| done.unwrap());
    assert_eq!(in_order(&db), ["a", "slow", "c", "d"]);
}

// ---- many, in any order -------------------------------------------------------------

/// Thousands of writes by threads, with short and long deadlines, errors and panics:
/// each is told what became of it, and nobody waits for ever.
#[test]
fn a_crowd_is_told_the_truth() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let patient = roomy()
        .group_limits(GroupLimits::default())
        .open(fixture.path())
        .unwrap();
    let hasty = Options::new()
        .timeout(Duration::from_millis(2))
        .open(fixture.path())
        .unwrap();
    let told: Vec<String> = thread::scope(|scope| {
        let (patient, hasty) = (&patient, &hasty);
        let writers: Vec<_> = (0..12_u64)
            .map(|writer| {
                scope.spawn(move || crowd(writer, if writer % 3 == 0 { hasty } else { patient }))
            })
            .collect();
        writers
            .into_iter()
            .flat_map(|writer| writer.join().unwrap())
            .collect()
    });
    let mut told = told;
    told.sort();
    assert_eq!(database_fixture::keys(&patient), told);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// The keys whose writes were acknowledged.
fn crowd(writer: u64, db: &Database) -> Vec<String> {
    let mut told = Vec::new();
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
                .batch([Statement::new("INSERT INTO entry VALUES (?1)", [&key])])
                .map(drop),
            _ => database_fixture::insert(db, &key),
        };
        if done.is_ok() {
            told.push(key);
        }
        if random >> 30 & 3 == 0 {
            thread::sleep(pause);
        }
    }
    told
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

    /// With one thread for all that blocks.
    fn narrow() -> Runtime {
        let mut runtime = Builder::new_multi_thread();
        let runtime = runtime.worker_threads(2).max_blocking_threads(1);
        runtime.enable_all().build().unwrap()
    }

    #[test]
    fn tasks_and_threads_share_a_group_with_one_blocking_thread() {
        let fixture = DatabaseFixture::new();
        let db = opened(&fixture);
        let tasks = AsyncDatabase::from(db.clone());
        let runtime = narrow();
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

    /// Before they are called, while they lead and while they are claimed, among
    /// others who are patient.
    #[test]
    fn futures_dropped_at_any_moment_hold_nobody_up() {
        let fixture = DatabaseFixture::new();
        let db = opened(&fixture);
        let tasks = AsyncDatabase::from(db.clone());
        let told: BTreeSet<String> = narrow().block_on(async {
            let mut all = JoinSet::new();
            for writer in 0..16_u64 {
                let db = tasks.clone();
                all.spawn(async move {
                    let mut told = Vec::new();
                    for number in 0..60_u64 {
                        let key = format!("{writer} {number}");
                        let write = db.execute(INSERT, [key.clone()]);
                        let patience = match writer % 2 {
                            0 => database_fixture::ENDLESS_TIMEOUT,
                            _ => Duration::from_micros(number * 97 % 3000),
                        };
                        if let Ok(done) = timeout(patience, write).await {
                            done.unwrap();
                            told.push(key);
                        }
                    }
                    told
                });
            }
            let mut told = BTreeSet::new();
            while let Some(done) = all.join_next().await {
                told.extend(done.unwrap());
            }
            told
        });
        database_fixture::insert(&db, "last").unwrap();
        let keys = database_fixture::keys(&db);
        let once: BTreeSet<String> = keys.iter().cloned().collect();
        assert_eq!(keys.len(), once.len(), "nothing twice");
        assert!(told.is_subset(&once) && told.len() >= 8 * 60);
    }

    #[test]
    fn a_runtime_that_ends_while_it_leads_leaves_the_group_to_others() {
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let db = roomy().open(fixture.path()).unwrap();
        let tasks = AsyncDatabase::from(db.clone());
        let mut holder = database_fixture::start_holder("hold pen", &fixture.directory());
        let runtime = narrow();
        for number in 0..5 {
            let db = tasks.clone();
            runtime.spawn(async move { db.execute(INSERT, [number]).await });
        }
        thread::sleep(Duration::from_millis(50));
        thread::scope(|scope| {
            let waits = scope.spawn(|| database_fixture::insert(&db, "waits"));
            thread::sleep(Duration::from_millis(50));
            runtime.shutdown_background();
            thread::sleep(Duration::from_millis(50));
            holder.send("release");
            holder.expect("released");
            waits.join().unwrap().unwrap();
        });
        database_fixture::insert(&db, "after").unwrap();
        let keys = in_order(&db);
        assert_eq!(keys[keys.len() - 2..], ["waits", "after"]);
    }

    #[test]
    fn a_future_awaited_inside_a_closure_is_an_error_at_once() {
        let fixture = DatabaseFixture::new();
        let tasks = AsyncDatabase::from(opened(&fixture));
        let runtime = narrow();
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

    /// A closure that never runs is dropped by the thread that leads.
    #[test]
    fn what_a_closure_owns_may_panic_as_it_is_dropped() {
        struct Bomb;
        impl Drop for Bomb {
            fn drop(&mut self) {
                assert!(thread::panicking(), "on purpose");
            }
        }
        let fixture = DatabaseFixture::new();
        drop(fixture.database());
        let hasty = Options::new().timeout(Duration::from_millis(300));
        let tasks = AsyncDatabase::from(hasty.open(fixture.path()).unwrap());
        let Some(mut outsider) = plain_sqlite::outsider(&fixture.path()) else {
            return;
        };
        narrow().block_on(async {
            let bomb = Bomb;
            let write = tasks.write(move |_| -> Result<()> {
                std::mem::forget(bomb);
                Ok(())
            });
            let told = timeout(database_fixture::PROMPT, write).await;
            assert!(told.expect("an answer").unwrap_err().is_timeout());
            sleep(Duration::from_millis(10)).await;
        });
        outsider.send("COMMIT; SELECT 'gone';");
        outsider.expect("gone");
        database_fixture::insert(tasks.blocking(), "after").unwrap();
    }
}
