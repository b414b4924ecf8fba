//! Proves that whoever waits is shown what the holder runs, that a slow hold is told
//! with its label, its statement and its call site, that `tracing` and `metrics` hear
//! of what happens, and that none of it has SQL in it where SQL is not recorded.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::panic::Location;
use std::path::Path;
use std::thread;
use std::time::Duration;

use penholder::lock::{Event, EventKind};
use penholder::{AsyncDatabase, Database, Options, Result, Statement};
use penholder_testkit::database_fixture::{DatabaseFixture, LONG_TIMEOUT};
use penholder_testkit::peer::Peer;
use penholder_testkit::recorder::Recorder;
use penholder_testkit::{database_fixture, peer, wait};

/// Stands in SQL that nobody is to see.
const SECRET: &str = "S3CR3T";
/// Runs until its process is ended.
const ENDLESS: &str = "UPDATE entry\n  SET key = (WITH RECURSIVE n(i) AS
    (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)
  WHERE key IS NOT NULL";

#[test]
fn peer() {
    peer::run_role(&[
        ("run for ever", run_for_ever),
        ("hold", database_fixture::hold_transaction),
        ("hold pen", database_fixture::hold_lock),
        ("write when told", write_when_told),
    ]);
}

fn run_for_ever(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, "one").unwrap();
    peer::send("begins");
    let _ = db.execute(ENDLESS, ());
}

fn write_when_told(args: &[OsString]) {
    let db = database_fixture::open(Path::new(&args[0]));
    database_fixture::insert(&db, "first").unwrap();
    peer::send("warm");
    peer::expect("go");
    database_fixture::insert(&db, "second").unwrap();
    peer::send("written");
}

fn statement_of_holder(db: &Database) -> Option<String> {
    db.status().unwrap().holder?.statement
}

#[test]
fn whoever_waits_is_shown_what_the_holder_runs() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let holder = Peer::start("run for ever", [fixture.path()]);
    holder.expect("begins");
    let shown = "UPDATE entry SET key = (WITH RECURSIVE";
    wait::until("the statement", || {
        statement_of_holder(&db).is_some_and(|last| last.starts_with(shown))
    });
    let hasty = Options::new().timeout(Duration::from_millis(50));
    let error = database_fixture::insert(&hasty.open(fixture.path()).unwrap(), "no").unwrap_err();
    let text = error.to_string();
    assert!(text.contains(&format!(", last: {shown}")), "{text}");
    let last = error.holder().unwrap().statement.as_deref().unwrap();
    assert!(last.ends_with('…') && !last.contains('\n'), "{last}");
}

#[test]
fn of_a_closure_its_place_in_the_program_is_shown() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold", &fixture.path());
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
fn a_closure_may_say_what_it_does() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let shown = db.write(|tx| -> Result<_> {
        tx.note_statement("DELETE FROM entry");
        Ok(statement_of_holder(&db))
    });
    assert_eq!(shown.unwrap().unwrap(), "DELETE FROM entry");
}

fn alert(fixture: &DatabaseFixture) -> Options {
    let options = database_fixture::options()
        .warn_hold(Duration::ZERO)
        .label("nightly");
    drop(fixture.database());
    options
}

/// The latest long hold that was asked for in this line: a task has its answer before
/// the thread that led gives the lock back.
fn long_hold(db: &Database, line: u32) -> Event {
    let fixture = format!("tests/events.rs:{line}");
    let mut told = None;
    wait::until("the long hold", || {
        let events = db.status().unwrap().events;
        let mut long = events.into_iter();
        told = long.find(|event| {
            let asked = event.call_site.as_ref();
            event.kind == EventKind::LongHold && asked.is_some_and(|at| at.ends_with(&fixture))
        });
        told.is_some()
    });
    told.unwrap()
}

#[track_caller]
fn assert_told(db: &Database, statement: Option<&str>, line: u32) {
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
fn a_long_hold_is_told_with_statement_and_call_site() {
    let fixture = DatabaseFixture::new();
    let db = alert(&fixture).open(fixture.path()).unwrap();
    let sql = "INSERT INTO entry VALUES (1)";
    let (_, here) = (db.execute(sql, ()).unwrap(), line());
    assert_told(&db, Some(sql), here);
    let (_, here) = (db.batch([sql, "DELETE FROM entry"]).unwrap(), line());
    assert_told(&db, Some("DELETE FROM entry"), here);
    let (_, here) = (db.write(|_| -> Result<()> { Ok(()) }).unwrap(), line());
    assert_told(&db, None, here);
    let done = (db.with_write_lock(|_| -> Result<()> { Ok(()) }), line());
    done.0.unwrap();
    assert_told(&db, None, done.1);
    let (_, here) = (db.migrate(&["CREATE TABLE other(a)"]).unwrap(), line());
    assert_told(&db, Some("CREATE TABLE other(a)"), here);
    let (_, here) = (db.vacuum().unwrap(), line());
    assert_told(&db, Some("VACUUM"), here);
}

#[tokio::test]
async fn of_a_task_too() {
    let fixture = DatabaseFixture::new();
    let db = alert(&fixture).open(fixture.path()).unwrap();
    let tasks = AsyncDatabase::from(db.clone());
    let sql = "INSERT INTO entry VALUES (1)";
    let (done, here) = (tasks.execute(sql, ()), line());
    done.await.unwrap();
    assert_told(&db, Some(sql), here);
    let (done, here) = (tasks.batch([Statement::new(sql, ())]), line());
    done.await.unwrap();
    assert_told(&db, Some(sql), here);
    let (done, here) = (tasks.write(|_| -> Result<()> { Ok(()) }), line());
    done.await.unwrap();
    assert_told(&db, None, here);
}

#[test]
fn a_short_hold_is_not_told() {
    let fixture = DatabaseFixture::new();
    let options = database_fixture::options().warn_hold(Duration::from_secs(3600));
    let db = options.open(fixture.path()).unwrap();
    let heard = Recorder::record(|| {
        db.execute("CREATE TABLE entry(key)", ()).unwrap();
    });
    assert_eq!(db.status().unwrap().events, []);
    assert!(!heard.text().contains("held for long"), "{}", heard.text());
}

#[test]
fn waits_holds_and_slow_holds_are_heard() {
    let fixture = DatabaseFixture::new();
    let db = alert(&fixture).open(fixture.path()).unwrap();
    let heard = Recorder::record(|| {
        db.execute("INSERT INTO entry VALUES (1)", ()).unwrap();
    });
    let text = heard.text();
    assert!(text.contains("span hold database="), "{text}");
    assert!(text.contains("DEBUG write lock taken waited_s="), "{text}");
    assert!(text.contains("DEBUG write lock released held_s="), "{text}");
    let slow = "WARN write lock held for long";
    assert!(text.contains(slow), "{text}");
    for fact in ["label=\"nightly\"", "INSERT INTO entry", "events.rs:"] {
        assert!(text.contains(fact), "{fact} in {text}");
    }
    assert_eq!(heard.number("penholder_wait_seconds"), 1);
    assert_eq!(heard.number("penholder_hold_seconds"), 1);
    assert_eq!(heard.number("penholder_slow_holds_total"), 1);
}

#[test]
fn a_timeout_is_heard() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    let _holder = database_fixture::start_holder("hold", &fixture.path());
    let options = Options::new().timeout(Duration::from_millis(50));
    let db = options.open(fixture.path()).unwrap();
    let heard = Recorder::record(|| {
        database_fixture::insert(&db, "no").unwrap_err();
        db.with_write_lock(|_| -> Result<()> { Ok(()) })
            .unwrap_err();
    });
    let text = heard.text();
    assert_eq!(text.matches("WARN timeout").count(), 2, "{text}");
    assert!(text.contains("span wait database="), "{text}");
    assert_eq!(heard.number("penholder_timeouts_total"), 2);
}

#[test]
fn a_recovery_is_heard() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold", &fixture.path());
    holder.kill();
    let heard = Recorder::record(|| database_fixture::insert(&db, "mine").unwrap());
    let text = heard.text();
    let dead = format!("dead_pid={}", holder.pid());
    assert!(text.contains("WARN write lock recovered"), "{text}");
    assert!(text.contains(&dead), "{text}");
    assert_eq!(heard.number("penholder_recoveries_total"), 1);
}

#[test]
fn carried_writes_are_heard() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut passenger = Peer::start("write when told", [fixture.path()]);
    passenger.expect("warm");
    // As if commits took long here: then it is worth while to carry.
    let locker = penholder_core::Locker::in_directory(&fixture.directory()).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    guard
        .commit_stats()
        .unwrap()
        .note(Duration::from_secs(1), 1);
    guard.release().unwrap();
    let mut holder = database_fixture::start_holder("hold pen", &fixture.directory());
    let waiting = |count| {
        wait::until("the line", || db.status().unwrap().queue.len() == count);
    };
    let heard = thread::scope(|scope| {
        let ours =
            scope.spawn(|| Recorder::record(|| database_fixture::insert(&db, "ours").unwrap()));
        waiting(1);
        passenger.send("go");
        waiting(2);
        holder.send("release");
        ours.join().unwrap()
    });
    passenger.expect("written");
    let text = heard.text();
    let told = "DEBUG carried writes of other processes";
    assert!(text.contains(told), "{text}");
    assert!(text.contains("requests=1 writes=1"), "{text}");
    assert_eq!(heard.number("penholder_carried_batches_total"), 1);
    assert_eq!(heard.number("penholder_carried_writes_total"), 1);
}

#[test]
fn a_pinned_log_is_heard() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let heard = db.read(|reader| -> Result<_> {
        reader.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?;
        Ok(Recorder::record(|| {
            let large = "INSERT INTO entry VALUES (randomblob(20000000))";
            db.execute(large, ()).unwrap();
        }))
    });
    let heard = heard.unwrap();
    let text = heard.text();
    assert!(text.contains("WARN the WAL is long"), "{text}");
    assert_eq!(heard.number("penholder_wal_pinned_total"), 1);
}

/// What stands in the files that others read.
fn is_secret_told(fixture: &DatabaseFixture) -> bool {
    ["db.lock", "db.lockq"].iter().any(|name| {
        let bytes = fs::read(fixture.join(name)).unwrap();
        let secret = SECRET.as_bytes();
        bytes.windows(secret.len()).any(|at| at == secret)
    })
}

/// Writes and reads SQL with the secret in it, some of it wrong; returns the texts
/// of the errors.
fn whisper(db: &Database) -> String {
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

/// Whether the secret stands in the page while a write of it waits.
fn is_told_while_waiting(fixture: &DatabaseFixture, db: &Database) -> bool {
    let mut holder = database_fixture::start_holder("hold pen", &fixture.directory());
    thread::scope(|scope| {
        let insert = format!("INSERT INTO entry VALUES ('{SECRET}')");
        let waiting = scope.spawn(move || db.execute(&insert, ()).map(drop));
        wait::until("it waits", || !db.status().unwrap().queue.is_empty());
        let told = is_secret_told(fixture);
        holder.send("release");
        waiting.join().unwrap().unwrap();
        told
    })
}

#[test]
fn sql_that_is_not_recorded_reaches_nobody() {
    let fixture = DatabaseFixture::new();
    let options = alert(&fixture).record_sql(false).timeout(LONG_TIMEOUT);
    let db = options.open(fixture.path()).unwrap();
    let mut errors = String::new();
    let heard = Recorder::record(|| errors = whisper(&db));
    assert!(!errors.contains(SECRET), "{errors}");
    assert!(errors.contains("its text is not recorded"), "{errors}");
    assert!(heard.text().contains("held for long"));
    assert!(!heard.text().contains(SECRET), "{}", heard.text());
    assert!(!is_secret_told(&fixture));
    let events = db.status().unwrap().events;
    assert!(!events.is_empty());
    for event in events {
        assert_eq!(event.statement, None);
        assert!(event.call_site.unwrap().contains("tests/events.rs:"));
    }
    assert!(!is_told_while_waiting(&fixture, &db));
    assert!(!is_secret_told(&fixture));
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM entry"),
        4
    );
}

/// Or the test above would prove nothing.
#[test]
fn sql_is_recorded_otherwise() {
    let fixture = DatabaseFixture::new();
    let db = alert(&fixture).open(fixture.path()).unwrap();
    database_fixture::insert(&db, "first").unwrap();
    assert!(is_told_while_waiting(&fixture, &db));
    let mut errors = String::new();
    let heard = Recorder::record(|| errors = whisper(&db));
    assert!(errors.contains(SECRET) && heard.text().contains(SECRET));
    assert!(is_secret_told(&fixture));
}
