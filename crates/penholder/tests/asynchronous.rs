//! `AsyncDatabase` loses no write of any task and blocks no thread of the runtime. A future
//! that is dropped before its turn leaves no trace.
#![cfg(test)]
#![cfg(feature = "tokio")]

use std::collections::BTreeSet;
use std::ffi::{OsString, c_char, c_int, c_void};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

use penholder::rusqlite::{Connection, ffi};
use penholder::{AsyncDatabase, Error, OpenOptions, Query, Result, Synchronous};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::requirement;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};
#[cfg(unix)]
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};

const INSERT: &str = "INSERT INTO entry VALUES (?1)";
/// Longer than any allowed pause of a runtime's thread on a busy machine.
const BLOCKED: Duration = Duration::from_secs(1);

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_lock", database_fixture::hold_lock),
        ("write_rows", write_rows),
        ("write_durably", write_durably),
        #[cfg(unix)]
        ("write_without_threads", write_without_threads),
    ]);
}

/// Writes until the test stops it. Each write is durable, so that requests are combined and
/// delegated.
fn write_durably(args: &[OsString]) {
    let [path, name] = peer::text_args(args)[..] else {
        panic!("path and name");
    };
    let path = Path::new(path);
    let db = durable().open(path).unwrap();
    peer::send("writing");
    for number in 0.. {
        if path.with_file_name("stop").exists() {
            break;
        }
        database_fixture::insert(&db, &format!("{name}-{number}")).unwrap();
    }
    peer::send("done");
}

fn durable() -> OpenOptions {
    database_fixture::options().synchronous(Synchronous::Full)
}

/// Writes rows in a process of its own.
fn write_rows(args: &[OsString]) {
    let [path, writes] = peer::text_args(args)[..] else {
        panic!("path and number of writes");
    };
    let db = database_fixture::open(Path::new(path));
    for number in 0..writes.parse().unwrap() {
        database_fixture::insert(&db, &format!("process-{number}")).unwrap();
    }
    peer::send("done");
}

async fn open(fixture: &DatabaseFixture) -> AsyncDatabase {
    let db = AsyncDatabase::open_with(database_fixture::options(), fixture.path()).await;
    let db = db.unwrap();
    db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
        .await
        .unwrap();
    db
}

fn count(db: &AsyncDatabase) -> i64 {
    database_fixture::count_entries(db.blocking())
}

/// Runs next to the tasks of a test, and returns the longest time between two polls.
async fn heartbeat() -> Duration {
    let mut longest = Duration::ZERO;
    let mut before = Instant::now();
    for _ in 0..200 {
        sleep(Duration::from_millis(5)).await;
        longest = longest.max(before.elapsed());
        before = Instant::now();
    }
    longest
}

#[tokio::test]
async fn every_call_works_as_its_blocking_counterpart() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let done = db.execute(INSERT, ["a"]).await.unwrap();
    assert_eq!(done.rows_changed, 1);
    let both = [
        Query::new(INSERT, ["b"]),
        Query::new("UPDATE entry SET key = key || '!'", ()),
    ];
    let done = db.batch(both).await.unwrap();
    assert_eq!((done.len(), done[1].rows_changed), (2, 2));
    let rows = db.query("SELECT key FROM entry ORDER BY key", ()).await;
    let key: String = rows.unwrap()[0].get("key").unwrap();
    assert_eq!(key, "a!");
    let keys = db.write(|tx| -> Result<i64> {
        tx.execute("INSERT INTO entry VALUES ('c')", [])?;
        Ok(tx.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?)
    });
    assert_eq!(keys.await.unwrap(), 3);
    let read = db.read(|connection| -> Result<i64> {
        Ok(connection.query_row("SELECT count(*) FROM entry", [], |row| row.get(0))?)
    });
    assert_eq!(read.await.unwrap(), 3);
    // Errors are the same, and a failed call has no effect.
    let failed = [Query::new(INSERT, ["d"]), Query::new("nonsense", ())];
    let error = db.batch(failed).await.unwrap_err();
    assert!(error.sqlite_error().is_some(), "{error}");
    let error = db.execute("DELETE FROM entry\0 WHERE 0", ()).await;
    assert!(error.unwrap_err().to_string().contains("NUL"));
    assert_eq!(count(&db), 3);
    let reader = OpenOptions::new().read_only(true);
    let reader = AsyncDatabase::open_with(reader, fixture.path())
        .await
        .unwrap();
    let error = reader.execute(INSERT, ["e"]).await.unwrap_err();
    assert!(error.to_string().contains("reading only"), "{error}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn tasks_and_processes_lose_no_row() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let mut peers: Vec<Peer> = (0..2)
        .map(|_| Peer::start("write_rows", [fixture.path().to_str().unwrap(), "100"]))
        .collect();
    let mut tasks = JoinSet::new();
    for task in 0..50 {
        let db = db.clone();
        tasks.spawn(async move {
            for number in 0..10 {
                let key = format!("{task}-{number}");
                db.execute(INSERT, [key]).await.unwrap();
            }
        });
    }
    while let Some(done) = tasks.join_next().await {
        done.unwrap();
    }
    for peer in &mut peers {
        peer.expect("done");
        assert!(peer.close().success());
    }
    assert_eq!(count(&db), 50 * 10 + 2 * 100);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// The runtime has one thread. If it blocked, the heartbeat would pause.
#[tokio::test]
async fn no_thread_of_the_runtime_blocks() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let mut tasks = JoinSet::new();
    for number in 0..20 {
        let db = db.clone();
        tasks.spawn(async move { db.execute(INSERT, [number]).await });
    }
    // Five times as many readers as there are connections, each for a while.
    for _ in 0..20 {
        let db = db.clone();
        tasks.spawn(async move {
            let slow = |_: &rusqlite::Connection| -> Result<()> {
                std::thread::sleep(Duration::from_millis(100));
                Ok(())
            };
            db.read(slow).await?;
            db.execute(INSERT, ["after a read"]).await
        });
    }
    let longest = heartbeat().await;
    assert!(longest < BLOCKED, "{longest:?}");
    assert_eq!(count(&db), 0, "the lock is held");
    holder.send("release");
    while let Some(done) = tasks.join_next().await {
        done.unwrap().unwrap();
    }
    assert_eq!(count(&db), 40);
}

#[tokio::test]
async fn a_timeout_names_the_holder() {
    let fixture = DatabaseFixture::new();
    open(&fixture).await;
    let holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let short_timeout = OpenOptions::new().timeout(Duration::from_millis(100));
    let db = AsyncDatabase::open_with(short_timeout, fixture.path()).await;
    let error = db.unwrap().execute(INSERT, ["late"]).await.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    assert_eq!(error.holder().unwrap().pid, Some(holder.pid()));
}

#[tokio::test]
async fn a_read_times_out_if_no_connection_becomes_free() {
    let fixture = DatabaseFixture::new();
    open(&fixture).await;
    let options = OpenOptions::new()
        .timeout(Duration::from_millis(100))
        .max_readers(1);
    let db = AsyncDatabase::open_with(options, fixture.path())
        .await
        .unwrap();
    let slow = db.read(|_| -> Result<()> {
        std::thread::sleep(Duration::from_millis(600));
        Ok(())
    });
    let late = async {
        sleep(Duration::from_millis(50)).await;
        db.query("SELECT 1", ()).await
    };
    let (slow, late) = tokio::join!(slow, late);
    slow.unwrap();
    let error = late.unwrap_err();
    assert!(error.is_timeout(), "{error}");
    db.query("SELECT 1", ()).await.unwrap();
}

#[tokio::test]
async fn a_future_dropped_before_its_turn_leaves_no_trace() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    for number in 0..20 {
        let write = db.execute(INSERT, [number.to_string()]);
        let wait_time = Duration::from_millis(number % 7);
        assert!(timeout(wait_time, write).await.is_err(), "the lock is held");
    }
    holder.send("release");
    holder.expect("released");
    db.execute(INSERT, ["kept"]).await.unwrap();
    assert_eq!(count(&db), 1);
    assert!(db.blocking().status().unwrap().queue.is_empty());
}

/// Acknowledged writes are there, no write is there twice, and other processes go on.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_write_dropped_at_any_moment_happens_once_or_not_at_all() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let mut acknowledged = BTreeSet::new();
    let mut other = Peer::start("write_rows", [fixture.path().to_str().unwrap(), "300"]);
    for number in 0..400_u64 {
        let write = db.execute(INSERT, [format!("task-{number}")]);
        if let Ok(done) = timeout(Duration::from_micros(number * 7 % 600), write).await {
            done.unwrap();
            acknowledged.insert(format!("task-{number}"));
        }
    }
    other.expect("done");
    assert!(other.close().success());
    db.execute(INSERT, ["last"]).await.unwrap();
    let keys = database_fixture::keys(db.blocking());
    let distinct: BTreeSet<_> = keys.iter().cloned().collect();
    assert_eq!(keys.len(), distinct.len(), "no key is there twice");
    assert!(
        acknowledged.is_subset(&distinct),
        "no acknowledged key is lost"
    );
    assert!(!acknowledged.is_empty() && acknowledged.len() < 400);
    plain_sqlite::assert_integrity(&fixture.path());
}

/// The same while writes are delegated to other processes, and theirs to this one.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_delegated_write_dropped_at_any_moment_happens_once_or_not_at_all() {
    const WRITERS: usize = 4;
    const TASKS: u64 = 4;
    const WRITES: u64 = 250;
    let fixture = DatabaseFixture::new();
    open(&fixture).await;
    let db = AsyncDatabase::open_with(durable(), fixture.path())
        .await
        .unwrap();
    let path = fixture.path().to_str().unwrap().to_owned();
    let mut others: Vec<Peer> = (0..WRITERS)
        .map(|n| Peer::start("write_durably", [path.clone(), format!("process-{n}")]))
        .collect();
    others.iter().for_each(|other| other.expect("writing"));
    let mut tasks = JoinSet::new();
    for task in 0..TASKS {
        let db = db.clone();
        tasks.spawn(async move {
            let mut acknowledged = Vec::new();
            for number in 0..WRITES {
                let key = format!("task-{task}-{number}");
                // Some are in time, and some are not.
                let longest = if cfg!(windows) { 25_000 } else { 2500 };
                let wait_time = Duration::from_micros((number * 37 + task * 11) % longest);
                let done = if number % 4 == 0 {
                    let both = ["a", "b"].map(|end| Query::new(INSERT, [format!("{key}{end}")]));
                    let write = timeout(wait_time, db.batch(both)).await;
                    write.map(|done| done.map(drop))
                } else {
                    let write = timeout(wait_time, db.execute(INSERT, [key.as_str()])).await;
                    write.map(|done| done.map(drop))
                };
                if let Ok(done) = done {
                    done.unwrap();
                    acknowledged.push((key, number % 4 == 0));
                }
            }
            acknowledged
        });
    }
    let acknowledged: Vec<(String, bool)> = tasks.join_all().await.into_iter().flatten().collect();
    // The dropped writes do not delay other processes.
    let newest = || database_fixture::number(db.blocking(), "SELECT max(rowid) AS n FROM entry");
    let before = newest();
    wait::until("the other processes go on", || newest() > before + 20);
    std::fs::write(fixture.join("stop"), "").unwrap();
    for other in &mut others {
        other.expect("done");
        assert!(other.close().success());
    }
    db.execute(INSERT, ["last"]).await.unwrap();
    let keys = database_fixture::keys(db.blocking());
    let distinct: BTreeSet<&str> = keys.iter().map(String::as_str).collect();
    assert_eq!(keys.len(), distinct.len(), "no key is there twice");
    for (key, is_batch) in &acknowledged {
        let suffixes = if *is_batch { vec!["a", "b"] } else { vec![""] };
        let is_there = |end: &&str| distinct.contains(format!("{key}{end}").as_str());
        assert!(suffixes.iter().all(is_there), "lost: {key}");
    }
    let first = distinct.iter().filter_map(|key| key.strip_suffix('a'));
    for key in first.filter(|key| key.starts_with("task-")) {
        assert!(
            distinct.contains(format!("{key}b").as_str()),
            "only a part of {key}"
        );
    }
    let all = usize::try_from(TASKS * WRITES).unwrap();
    assert!(!acknowledged.is_empty() && acknowledged.len() < all);
    let status = db.blocking().status().unwrap();
    assert!(status.queue.is_empty(), "{status:?}");
    eprintln!(
        "{} of {all} acknowledged, {} writes delegated",
        acknowledged.len(),
        status.counters.combined_writes
    );
    // Writes are combined only if commits are expensive on this disk.
    let ((), commit) = wait::timed(|| database_fixture::insert(db.blocking(), "timed").unwrap());
    assert!(status.counters.combined_writes > 0 || commit < Duration::from_micros(200));
    plain_sqlite::assert_integrity(&fixture.path());
}

#[tokio::test]
async fn a_panic_reaches_only_its_own_task() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let own = db.clone();
    let panicking = tokio::spawn(async move {
        let write = own.write(|tx| -> Result<()> {
            tx.execute("INSERT INTO entry VALUES ('lost')", [])?;
            panic!("on purpose");
        });
        write.await
    });
    assert!(panicking.await.unwrap_err().is_panic());
    db.execute(INSERT, ["next"]).await.unwrap();
    assert_eq!(database_fixture::keys(db.blocking()), ["next"]);
}

#[test]
fn a_runtime_that_shuts_down_releases_the_lock() {
    let fixture = DatabaseFixture::new();
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let db = runtime.block_on(open(&fixture));
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    for number in 0..5 {
        let db = db.clone();
        runtime.spawn(async move { db.execute(INSERT, [number]).await });
    }
    std::thread::sleep(Duration::from_millis(50));
    runtime.shutdown_timeout(Duration::from_secs(20));
    holder.send("release");
    holder.expect("released");
    database_fixture::insert(db.blocking(), "after").unwrap();
    assert_eq!(database_fixture::keys(db.blocking()), ["after"]);
}

#[tokio::test]
async fn a_missing_directory_is_an_error() {
    let fixture = DatabaseFixture::new();
    let error = AsyncDatabase::open(fixture.join("no/x.db"))
        .await
        .unwrap_err();
    assert!(error.is_refused(), "{error}");
    // Errors of the application's own type are returned unchanged.
    #[derive(Debug)]
    struct Own(Option<Error>);
    impl From<Error> for Own {
        fn from(error: Error) -> Self {
            Self(Some(error))
        }
    }
    let db = open(&fixture).await;
    let own = db
        .try_write(|_| -> Result<(), Own> { Err(Own(None)) })
        .await;
    assert!(own.unwrap_err().0.is_none());
}

#[tokio::test]
async fn maintenance_works_as_its_blocking_counterpart() {
    let fixture = DatabaseFixture::new();
    let db = AsyncDatabase::open(fixture.path()).await.unwrap();
    let steps = [
        "CREATE TABLE entry(key)",
        "CREATE INDEX by_key ON entry(key)",
    ];
    let done = db.migrate(&steps).await.unwrap();
    assert_eq!((done.from, done.to), (0, 2));
    assert_eq!(db.migrate(&steps).await.unwrap().from, 2);
    let wrong = db.migrate(&["x", "y", "SELEC"]).await.unwrap_err();
    assert!(
        wrong.to_string().contains("step 3 of 3 (`SELEC`)"),
        "{wrong}"
    );
    db.execute(INSERT, ["a"]).await.unwrap();
    assert!(db.checkpoint().await.unwrap().truncated);
    db.vacuum().await.unwrap();
    let copy = fixture.join("copy.db");
    db.backup_to(&copy).await.unwrap();
    assert_eq!(
        database_fixture::keys(&database_fixture::open(&copy)),
        ["a"]
    );
    db.backup_to(&copy).await.unwrap_err();
    db.execute("DELETE FROM entry", ()).await.unwrap();
    db.restore_from(&copy).await.unwrap();
    let keys = db.query("SELECT key FROM entry", ()).await.unwrap();
    assert_eq!(keys.len(), 1);
    let error = db.restore_from(fixture.path()).await.unwrap_err();
    assert!(error.is_refused(), "{error}");
    let status = db.status().await.unwrap();
    assert!(status.holder.is_none() && status.counters.acquisitions > 0);
    let synchronous = db
        .with_write_lock(|connection| {
            connection.execute_batch("PRAGMA foreign_keys = OFF")?;
            Ok(connection.pragma_query_value(None, "foreign_keys", |row| row.get::<_, i64>(0))?)
        })
        .await;
    assert_eq!(synchronous.unwrap(), 0);
}

#[tokio::test]
async fn typed_reads_work_as_their_blocking_counterparts() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    db.execute(INSERT, ["a"]).await.unwrap();
    let sql = "SELECT rowid AS id, key FROM entry WHERE key = :key";
    let named = penholder::named_params! {":key": "a"};
    let pairs = db.query_as::<(i64, String)>(sql, named).await.unwrap();
    assert_eq!(pairs, [(1, "a".to_owned())]);
    let key: String = db
        .query_row(sql, named, |row| row.get("key"))
        .await
        .unwrap();
    assert_eq!(key, "a");
    let absent = penholder::named_params! {":key": "b"};
    let none = db
        .query_optional(sql, absent, |row| row.get::<i64>(0))
        .await;
    assert_eq!(none.unwrap(), None);
    let error = db.query_scalar::<i64>(sql, absent).await.unwrap_err();
    assert_eq!(error.kind(), penholder::ErrorKind::NoRow);
    let error = db.query_scalar::<i64>(sql, ["a", "b"]).await.unwrap_err();
    assert_eq!(error.kind(), penholder::ErrorKind::Misuse);
}

/// What waits for the lock outside the group leaves no trace either, and blocks no thread.
#[tokio::test]
async fn a_dropped_hold_releases_its_place_and_a_late_one_times_out() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let lock = db.with_write_lock(|connection| {
        Ok(connection.execute("INSERT INTO entry VALUES ('never')", [])?)
    });
    let (beat, dropped) = tokio::join!(heartbeat(), timeout(Duration::from_millis(100), lock));
    assert!(dropped.is_err() && beat < BLOCKED, "{beat:?}");
    let short = OpenOptions::new().timeout(Duration::from_millis(50));
    let late = AsyncDatabase::open_with(short, fixture.path())
        .await
        .unwrap();
    let error = late.checkpoint().await.unwrap_err();
    assert!(error.is_timeout() && error.holder().is_some(), "{error}");
    holder.send("release");
    holder.expect("released");
    db.vacuum().await.unwrap();
    assert_eq!(count(&db), 0);
}

/// Awaited inside a closure that holds the lock, it would wait for its own thread.
#[tokio::test]
async fn a_write_inside_a_hold_is_nested() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let inner = db.clone();
    let runtime = tokio::runtime::Handle::current();
    let nested = db.with_write_lock(move |_| {
        let write = inner.execute(INSERT, ["no"]);
        let lock = inner.with_write_lock(|_| Ok(()));
        Ok((runtime.block_on(write).map(drop), runtime.block_on(lock)))
    });
    let (write, lock) = nested.await.unwrap();
    assert!(write.unwrap_err().is_nested());
    assert!(lock.unwrap_err().is_nested());
    assert_eq!(count(&db), 0);
}

/// What the macros make may cross an `.await` in a task that is spawned.
#[tokio::test]
async fn parameters_of_the_macros_may_be_used_in_spawned_tasks() {
    let fixture = DatabaseFixture::new();
    let db = open(&fixture).await;
    let task = tokio::spawn(async move {
        let key = format!("key-{}", 1);
        let sql = "INSERT INTO entry VALUES (:key)";
        db.execute(sql, penholder::named_params! {":key": key})
            .await?;
        db.execute(INSERT, penholder::params![key]).await?;
        db.write(move |tx| Ok(tx.execute(INSERT, penholder::params![key])?))
            .await?;
        let sql = "SELECT count(*) FROM entry WHERE key = ?1";
        db.query_scalar::<i64>(sql, penholder::params!["key-1"])
            .await
    });
    assert_eq!(task.await.unwrap().unwrap(), 3);
}

/// The lock is not held for a thread that is busy with something else.
#[test]
fn one_blocking_thread_is_enough() {
    let fixture = DatabaseFixture::new();
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(1)
        .enable_all()
        .build()
        .unwrap();
    let mut holder = {
        drop(fixture.database());
        database_fixture::start_holder("hold_lock", &fixture.directory())
    };
    let db = runtime.block_on(open_only(&fixture));
    let (lock, write) = runtime.block_on(async {
        let lock = db.with_write_lock(|connection| {
            Ok(connection.execute("INSERT INTO entry VALUES ('lock')", [])?)
        });
        let write = db.execute(INSERT, ["write"]);
        let release = async {
            sleep(Duration::from_millis(200)).await;
            holder.send("release");
            holder.expect("released");
        };
        let (lock, write, ()) = tokio::join!(lock, write, release);
        (lock, write)
    });
    lock.unwrap();
    write.unwrap();
    assert_eq!(count(&db), 2);
}

async fn open_only(fixture: &DatabaseFixture) -> AsyncDatabase {
    AsyncDatabase::open_with(database_fixture::options(), fixture.path())
        .await
        .unwrap()
}

/// Sets an authorizer that denies every statement. rusqlite's needs the connection mutably.
#[expect(unsafe_code, reason = "SQLite's own call")]
fn deny_everything(connection: &Connection) {
    unsafe extern "C" fn deny(
        _: *mut c_void,
        _: c_int,
        _: *const c_char,
        _: *const c_char,
        _: *const c_char,
        _: *const c_char,
    ) -> c_int {
        ffi::SQLITE_DENY
    }
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    // SAFETY: the handle is this thread's, and the function needs no data.
    unsafe { ffi::sqlite3_set_authorizer(handle, Some(deny), std::ptr::null_mut()) };
}

/// A hook that panics as the thread that leads for a task opens the connection again.
#[tokio::test]
async fn a_panic_on_the_leading_thread_reaches_the_task() {
    let fixture = DatabaseFixture::new();
    let is_over = Arc::new(AtomicBool::new(false));
    let switch = Arc::clone(&is_over);
    let options = database_fixture::options().connection_hook(move |_, _| {
        assert!(!switch.load(Relaxed), "on purpose");
        Ok(())
    });
    let db = options.open(fixture.path()).unwrap();
    db.execute("CREATE TABLE entry(key)", []).unwrap();
    // Its ROLLBACK is denied, so that the connection is closed.
    let spoilt = db.with_write_lock(|connection| {
        connection.execute_batch("BEGIN")?;
        deny_everything(connection);
        Ok(())
    });
    spoilt.unwrap_err();
    is_over.store(true, Relaxed);
    let tasks = AsyncDatabase::from(db);
    let clone = tasks.clone();
    let write = tokio::spawn(async move { clone.execute(INSERT, ["no"]).await });
    let ended = timeout(database_fixture::PROMPT, write).await.unwrap();
    assert!(ended.unwrap_err().is_panic());
    is_over.store(false, Relaxed);
    tasks.execute(INSERT, ["yes"]).await.unwrap();
    assert_eq!(count(&tasks), 1);
}

/// Writes at a limit of threads that leaves the runtime none, and without it.
#[cfg(unix)]
fn write_without_threads(args: &[OsString]) {
    let set_limit = |current| {
        let maximum = getrlimit(Resource::Nproc).maximum;
        setrlimit(Resource::Nproc, Rlimit { current, maximum }).unwrap();
    };
    let mut builder = tokio::runtime::Builder::new_current_thread();
    builder.enable_time().thread_keep_alive(Duration::ZERO);
    let runtime = builder.build().unwrap();
    let unlimited = getrlimit(Resource::Nproc).maximum;
    let refused = |error: Error| {
        let text = error.to_string();
        assert!(text.contains("refuses a thread"), "{text}");
        assert!(text.contains("ulimit -u"), "{text}");
    };
    let lone = || wait::until("the runtime's thread has ended", || count_threads() <= 2);

    set_limit(Some(1));
    refused(runtime.block_on(AsyncDatabase::open(&args[0])).unwrap_err());
    set_limit(unlimited);
    let db = runtime.block_on(AsyncDatabase::open(&args[0])).unwrap();
    for number in 0..3 {
        lone();
        set_limit(Some(1));
        refused(runtime.block_on(db.execute(INSERT, [number])).unwrap_err());
        refused(runtime.block_on(db.checkpoint()).unwrap_err());
        refused(runtime.block_on(db.query("SELECT 1", ())).unwrap_err());
        // What was refused is not done later.
        set_limit(unlimited);
        runtime.block_on(db.execute(INSERT, [100])).unwrap();
    }
    let count = "SELECT count(*) FROM entry WHERE key < 100";
    let late: i64 = runtime.block_on(db.query_scalar(count, ())).unwrap();
    assert_eq!(late, 0);
    peer::send("done");
}

#[cfg(unix)]
fn count_threads() -> usize {
    std::fs::read_dir("/proc/self/task").unwrap().count()
}

#[cfg(unix)]
#[test]
fn a_runtime_that_gets_no_thread_is_an_error_and_writes_nothing_later() {
    if !requirement::is_root() || !requirement::has_program("setpriv") {
        return;
    }
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    // A user who may run this binary. The limit does not apply to root.
    let program = fixture.join("program");
    let mut copy = std::process::Command::new("cp");
    let copied = copy.arg(std::env::current_exe().unwrap()).arg(&program);
    assert!(copied.status().unwrap().success());
    let user = 61_301;
    let own = |path: &Path| std::os::unix::fs::chown(path, Some(user), Some(user)).unwrap();
    own(&fixture.directory());
    for name in fixture.file_names() {
        own(&fixture.join(&name));
    }
    let role = Peer::command("write_without_threads", [fixture.path()]);
    let mut command = std::process::Command::new("setpriv");
    command
        .args([format!("--reuid={user}"), format!("--regid={user}")])
        .arg("--clear-groups")
        .arg(&program)
        .args(role.get_args())
        .envs(
            role.get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        )
        .current_dir(fixture.directory());
    Peer::spawn(command).expect("done");
}
