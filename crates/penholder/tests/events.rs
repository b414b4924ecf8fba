//! The status shows the statement of the holder, and a long hold is reported with its
//! label, statement and call site. `tracing` and `metrics` receive what happens, and none
//! of it contains SQL if SQL is not recorded.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::panic::{self, Location};
use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder::lock::{Event, EventKind};
use penholder::{AsyncDatabase, Database, OpenOptions, Query, Result, Synchronous};
use penholder_testkit::database_fixture::{DatabaseFixture, LONG_TIMEOUT};
use penholder_testkit::peer::Peer;
use penholder_testkit::recorder::Recorder;
use penholder_testkit::{database_fixture, peer, wait};

/// Part of SQL that must not be recorded.
const SECRET: &str = "S3CR3T";
/// A statement that runs until its process is killed.
const ENDLESS: &str = "UPDATE entry\n  SET key = (WITH RECURSIVE n(i) AS
    (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)
  WHERE key IS NOT NULL";

#[test]
fn peer() {
    peer::run_role(&[
        ("run_endless_statement", run_endless_statement),
        ("hold_transaction", database_fixture::hold_transaction),
        ("hold_lock", database_fixture::hold_lock),
        ("write_on_command", write_on_command),
    ]);
}

fn run_endless_statement(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, "one").unwrap();
    peer::send("starting");
    let _ = db.execute(ENDLESS, ());
}

/// Where each commit is synced, waiting processes leave requests.
fn synced_options() -> OpenOptions {
    database_fixture::options().synchronous(Synchronous::Full)
}

fn write_on_command(args: &[OsString]) {
    let db = synced_options().open(&args[0]).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    peer::send("ready");
    loop {
        peer::expect("go");
        database_fixture::insert(&db, "second").unwrap();
        peer::send("written");
    }
}

fn statement_of_holder(db: &Database) -> Option<String> {
    db.status().unwrap().holder?.statement
}

#[test]
fn a_waiter_sees_the_statement_of_the_holder() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let holder = Peer::start("run_endless_statement", [fixture.path()]);
    holder.expect("starting");
    let shown = "UPDATE entry SET key = (WITH RECURSIVE";
    wait::until("the statement", || {
        statement_of_holder(&db).is_some_and(|last| last.starts_with(shown))
    });
    let short = OpenOptions::new().timeout(Duration::from_millis(50));
    let error = database_fixture::insert(&short.open(fixture.path()).unwrap(), "no").unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!(", last: {shown}")), "{text}");
    let last = error.holder().unwrap().statement.as_deref().unwrap();
    assert!(last.ends_with('…') && !last.contains('\n'), "{last}");
}

#[test]
fn the_call_site_of_a_closure_is_shown() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let place = statement_of_holder(&db).unwrap();
    assert!(
        place.contains("penholder-testkit/src/database_fixture.rs:"),
        "{place}"
    );
    holder.send("release");
    holder.expect("released");
    assert_eq!(statement_of_holder(&db), None);
}

#[test]
fn a_closure_may_note_its_statement() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let shown = db.write(|tx| -> Result<_> {
        tx.note_statement("DELETE FROM entry");
        Ok(statement_of_holder(&db))
    });
    assert_eq!(shown.unwrap().unwrap(), "DELETE FROM entry");
}

fn warning_options(fixture: &DatabaseFixture) -> OpenOptions {
    let options = synced_options()
        .long_hold_threshold(Duration::ZERO)
        .label("nightly");
    drop(fixture.database());
    options
}

/// Waits for the event of the long hold with the call site in this line. A task has its
/// answer before the leading thread releases the lock.
fn long_hold(db: &Database, line: u32) -> Event {
    let call_site = format!("tests/events.rs:{line}");
    let mut found = None;
    wait::until("the long hold", || {
        let events = db.status().unwrap().events;
        found = events.into_iter().find(|event| {
            let site = event.call_site.as_ref();
            event.kind == EventKind::LongHold && site.is_some_and(|at| at.ends_with(&call_site))
        });
        found.is_some()
    });
    found.unwrap()
}

#[track_caller]
fn assert_long_hold(db: &Database, statement: Option<&str>, line: u32) {
    let event = long_hold(db, line);
    assert_eq!(event.label.as_deref(), Some("nightly"));
    assert_eq!(event.statement.as_deref(), statement, "{event}");
    assert!(event.to_string().contains("tests/events.rs:"), "{event}");
}

#[track_caller]
fn line() -> u32 {
    Location::caller().line()
}

#[test]
fn a_long_hold_is_reported_with_statement_and_call_site() {
    let fixture = DatabaseFixture::new();
    let db = warning_options(&fixture).open(fixture.path()).unwrap();
    let sql = "INSERT INTO entry VALUES (1)";
    let (_, here) = (db.execute(sql, ()).unwrap(), line());
    assert_long_hold(&db, Some(sql), here);
    let (_, here) = (db.batch([sql, "DELETE FROM entry"]).unwrap(), line());
    assert_long_hold(&db, Some("DELETE FROM entry"), here);
    let (_, here) = (db.write(|_| -> Result<()> { Ok(()) }).unwrap(), line());
    assert_long_hold(&db, None, here);
    let done = (db.with_write_lock(|_| -> Result<()> { Ok(()) }), line());
    done.0.unwrap();
    assert_long_hold(&db, None, done.1);
    let (_, here) = (db.migrate(&["CREATE TABLE other(a)"]).unwrap(), line());
    assert_long_hold(&db, Some("CREATE TABLE other(a)"), here);
    let (_, here) = (db.vacuum().unwrap(), line());
    assert_long_hold(&db, Some("VACUUM"), here);
}

#[test]
fn a_long_hold_of_a_closure_that_panics_is_reported_too() {
    let fixture = DatabaseFixture::new();
    let db = warning_options(&fixture).open(fixture.path()).unwrap();
    let panics = || -> Result<()> { panic::resume_unwind(Box::new("on purpose")) };
    let recorded = Recorder::record(|| {
        let write = panic::AssertUnwindSafe(|| db.write(|_| panics()));
        let (done, here) = (panic::catch_unwind(write), line() - 1);
        assert!(done.is_err());
        assert_long_hold(&db, None, here);
        let write = panic::AssertUnwindSafe(|| db.with_write_lock(|_| panics()));
        let (done, here) = (panic::catch_unwind(write), line() - 1);
        assert!(done.is_err());
        assert_long_hold(&db, None, here);
    });
    assert_eq!(recorded.number("penholder_hold_seconds"), 2);
    assert_eq!(recorded.number("penholder_long_holds_total"), 2);
    database_fixture::insert(&db, "next").unwrap();
}

#[tokio::test]
async fn a_long_hold_of_a_task_is_reported_with_statement_and_call_site() {
    let fixture = DatabaseFixture::new();
    let db = warning_options(&fixture).open(fixture.path()).unwrap();
    let tasks = AsyncDatabase::from(db.clone());
    let sql = "INSERT INTO entry VALUES (1)";
    let (done, here) = (tasks.execute(sql, ()), line());
    done.await.unwrap();
    assert_long_hold(&db, Some(sql), here);
    let (done, here) = (tasks.batch([Query::new(sql, ())]), line());
    done.await.unwrap();
    assert_long_hold(&db, Some(sql), here);
    let (done, here) = (tasks.write(|_| -> Result<()> { Ok(()) }), line());
    done.await.unwrap();
    assert_long_hold(&db, None, here);
}

#[test]
fn a_short_hold_is_not_reported() {
    let fixture = DatabaseFixture::new();
    let options = database_fixture::options().long_hold_threshold(Duration::from_secs(3600));
    let db = options.open(fixture.path()).unwrap();
    let recorded = Recorder::record(|| {
        db.execute("CREATE TABLE entry(key)", ()).unwrap();
    });
    assert_eq!(db.status().unwrap().events, []);
    assert!(
        !recorded.text().contains("held for long"),
        "{}",
        recorded.text()
    );
}

#[test]
fn waits_holds_and_long_holds_reach_tracing_and_metrics() {
    let fixture = DatabaseFixture::new();
    let db = warning_options(&fixture).open(fixture.path()).unwrap();
    let recorded = Recorder::record(|| {
        db.execute("INSERT INTO entry VALUES (1)", ()).unwrap();
    });
    let text = recorded.text();
    assert!(text.contains("span hold database="), "{text}");
    assert!(text.contains("DEBUG write lock taken waited_s="), "{text}");
    assert!(text.contains("DEBUG write lock released held_s="), "{text}");
    let slow = "WARN write lock held for long";
    assert!(text.contains(slow), "{text}");
    for fact in ["label=\"nightly\"", "INSERT INTO entry", "events.rs:"] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
    assert_eq!(recorded.number("penholder_wait_seconds"), 1);
    assert_eq!(recorded.number("penholder_hold_seconds"), 1);
    assert_eq!(recorded.number("penholder_long_holds_total"), 1);
}

#[test]
fn a_timeout_reaches_tracing_and_metrics() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let _holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    let options = OpenOptions::new().timeout(Duration::from_millis(50));
    let db = options.open(fixture.path()).unwrap();
    let recorded = Recorder::record(|| {
        database_fixture::insert(&db, "no").unwrap_err();
        db.with_write_lock(|_| -> Result<()> { Ok(()) })
            .unwrap_err();
    });
    let text = recorded.text();
    assert_eq!(text.matches("WARN timeout").count(), 2, "{text}");
    assert!(text.contains("span wait database="), "{text}");
    assert_eq!(recorded.number("penholder_timeouts_total"), 2);
}

#[test]
fn a_recovery_reaches_tracing_and_metrics() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    holder.kill();
    let recorded = Recorder::record(|| database_fixture::insert(&db, "mine").unwrap());
    let text = recorded.text();
    let dead_pid = format!("dead_pid={}", holder.pid());
    assert!(text.contains("WARN write lock recovered"), "{text}");
    assert!(text.contains(&dead_pid), "{text}");
    assert_eq!(recorded.number("penholder_recoveries_total"), 1);
}

#[test]
fn combined_writes_reach_tracing_and_metrics() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let db = synced_options().open(fixture.path()).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    let mut delegating = Peer::start("write_on_command", [fixture.path()]);
    delegating.expect("ready");
    // The statistics claim slow commits, so that combining pays off.
    let locker = penholder_core::Locker::in_directory(&fixture.directory()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    guard
        .commit_stats()
        .unwrap()
        .note(Duration::from_secs(1), 1);
    guard.release().unwrap();
    // On a loaded machine the other process may be first, and execute ours.
    let combines = |recorded: &Recorder| recorded.text().contains("DEBUG combined writes");
    let mut rounds = (0..20).map(|_| write_behind_a_holder(&fixture, &db, &mut delegating));
    let recorded = rounds.find(combines).expect("combined");
    let text = recorded.text();
    let message = "DEBUG combined writes of other processes";
    assert!(text.contains(message), "{text}");
    assert!(text.contains("requests=1 writes=1"), "{text}");
    assert_eq!(recorded.number("penholder_combined_batches_total"), 1);
    assert_eq!(recorded.number("penholder_combined_writes_total"), 1);
}

/// Has this process and another one wait for the lock, and returns what was recorded of the write
/// here.
fn write_behind_a_holder(
    fixture: &DatabaseFixture,
    db: &Database,
    delegating: &mut Peer,
) -> Recorder {
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    let waiting = |count| {
        wait::until("the queue", || db.status().unwrap().queue.len() == count);
    };
    let recorded = thread::scope(|scope| {
        let combining =
            scope.spawn(|| Recorder::record(|| database_fixture::insert(db, "ours").unwrap()));
        waiting(1);
        delegating.send("go");
        waiting(2);
        holder.send("release");
        combining.join().unwrap()
    });
    delegating.expect("written");
    recorded
}

#[test]
fn a_pinned_wal_reaches_tracing_and_metrics() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let recorded = db.read(|reader| -> Result<_> {
        reader.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        Ok(Recorder::record(|| {
            let large = "INSERT INTO entry VALUES (randomblob(20000000))";
            db.execute(large, ()).unwrap();
        }))
    });
    let recorded = recorded.unwrap();
    let text = recorded.text();
    assert!(text.contains("WARN the WAL is long"), "{text}");
    assert_eq!(recorded.number("penholder_wal_pinned_total"), 1);
}

/// Returns whether the secret is in the files that other processes read.
fn is_secret_in_files(fixture: &DatabaseFixture) -> bool {
    ["db.lock", "db.lockq"].iter().any(|name| {
        let bytes = fs::read(fixture.join(name)).unwrap();
        let secret = SECRET.as_bytes();
        bytes.windows(secret.len()).any(|at| at == secret)
    })
}

/// Runs SQL that contains the secret, some of it invalid, and returns the texts of the
/// errors.
fn run_secret_sql(db: &Database) -> String {
    let insert = format!("INSERT INTO entry VALUES ('{SECRET}')");
    let wrong = format!("INSERT INTO entry VALUSE ('{SECRET}')");
    let missing = format!("SELECT {SECRET} FROM nowhere");
    db.execute(&insert, ()).unwrap();
    db.batch([&*insert, &*insert]).unwrap();
    let step = format!("CREATE TABLE IF NOT EXISTS {SECRET}(a)");
    db.migrate(&[&step]).unwrap();
    db.write(|tx| -> Result<()> {
        tx.note_statement(&insert);
        Ok(())
    })
    .unwrap();
    let errors = [
        db.execute(&wrong, ()).unwrap_err(),
        db.execute(&format!("CREATE {SECRET}"), ()).unwrap_err(),
        db.batch([&*wrong]).unwrap_err(),
        db.query(&missing, ()).unwrap_err(),
        db.query(&wrong, ()).unwrap_err(),
        db.migrate(&[&step, &wrong]).unwrap_err(),
    ];
    errors.map(|error| format!("{error} {error:?}\n")).concat()
}

/// Returns whether the secret is in the files while a write that contains it waits.
fn is_secret_in_files_while_waiting(fixture: &DatabaseFixture, db: &Database) -> bool {
    let mut holder = database_fixture::start_holder("hold_lock", &fixture.directory());
    thread::scope(|scope| {
        let insert = format!("INSERT INTO entry VALUES ('{SECRET}')");
        let waiting = scope.spawn(move || db.execute(&insert, ()).map(drop));
        wait::until("the write waits", || !db.status().unwrap().queue.is_empty());
        let is_in_files = is_secret_in_files(fixture);
        holder.send("release");
        waiting.join().unwrap().unwrap();
        is_in_files
    })
}

#[test]
fn unrecorded_sql_is_in_no_file_event_or_error() {
    let fixture = DatabaseFixture::new();
    let options = warning_options(&fixture)
        .record_sql(false)
        .timeout(LONG_TIMEOUT);
    let db = options.open(fixture.path()).unwrap();
    let mut errors = String::new();
    let recorded = Recorder::record(|| errors = run_secret_sql(&db));
    assert!(!errors.contains(SECRET), "{errors}");
    assert!(errors.contains("its text is not recorded"), "{errors}");
    assert!(recorded.text().contains("held for long"));
    assert!(!recorded.text().contains(SECRET), "{}", recorded.text());
    assert!(!is_secret_in_files(&fixture));
    let events = db.status().unwrap().events;
    assert!(!events.is_empty());
    for event in events {
        assert_eq!(event.statement, None);
        assert!(event.call_site.unwrap().contains("tests/events.rs:"));
    }
    assert!(!is_secret_in_files_while_waiting(&fixture, &db));
    assert!(!is_secret_in_files(&fixture));
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM entry"),
        4
    );
}

/// Otherwise the test above would prove nothing.
#[test]
fn recorded_sql_is_in_files_events_and_errors() {
    let fixture = DatabaseFixture::new();
    let db = warning_options(&fixture).open(fixture.path()).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    assert!(is_secret_in_files_while_waiting(&fixture, &db));
    let mut errors = String::new();
    let recorded = Recorder::record(|| errors = run_secret_sql(&db));
    assert!(errors.contains(SECRET) && recorded.text().contains(SECRET));
    assert!(is_secret_in_files(&fixture));
}
