//! Proves that a process which writes without the write lock, or has it without queueing, is shown
//! as what it is by every command that looks: neither as "free" nor as a fault of its victim.
#![cfg(test)]

use std::fs;
use std::process::Command;

use penholder_testkit::command_fixture::{CommandFixture, field_names, parse_json};
use penholder_testkit::peer::Peer;
use penholder_testkit::{requirement, wait};
use serde_json::Value;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

/// Starts a writer that has the write lock and waits for SQLite's own.
fn start_victim(fixture: &CommandFixture, timeout: &str) -> Peer {
    let args = ["exec", "x.db", "--timeout", timeout, INSERT];
    let victim = Peer::spawn(fixture.command(args));
    wait::until("it has the write lock", || {
        fixture.status()["holder"]["pid"] == victim.pid()
    });
    victim
}

fn top(fixture: &CommandFixture) -> String {
    let args = ["top", "x.db", "--once", "--interval", "50ms"];
    fixture.run(args).expect_quiet_success()
}

fn history(fixture: &CommandFixture) -> Vec<Value> {
    let lines = fixture.run(["history", "x.db", "--json"]).expect_success();
    lines.lines().map(parse_json).collect()
}

/// Starts `flock(1)` on the lock file, which holds it until its input ends.
fn start_flock(fixture: &CommandFixture) -> Option<Peer> {
    requirement::has_program("flock").then(|| {
        let mut flock: Command = fixture.program("flock");
        flock.args(["--no-fork", "db.lock", "sh", "-c", "echo held; read line"]);
        let flock = Peer::spawn(flock);
        flock.expect("held");
        flock
    })
}

#[test]
fn status_shows_both_locks() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    assert_eq!(fixture.status()["sqlite_lock"], Value::Null);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let status = fixture.status();
    assert_eq!(status["state"], "free");
    let shown = &status["sqlite_lock"];
    let names = ["cmd", "lock", "outsider", "pid", "state"];
    assert_eq!(field_names(shown), names);
    assert_eq!(shown["pid"], outsider.pid());
    assert_eq!(
        (&shown["lock"], &shown["outsider"]),
        (&"write".into(), &true.into())
    );
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    let first = format!(
        "free, but SQLite's own lock is not: pid:{} (",
        outsider.pid()
    );
    assert!(text.starts_with(&first), "{text}");
    let victim = start_victim(&fixture, "30s");
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(
        text.starts_with(&format!("held by pid:{} ", victim.pid())),
        "{text}"
    );
    let line = format!("\n  SQLite's own lock: pid:{} (", outsider.pid());
    assert!(text.contains(&line), "{text}");
}

/// A program under `penholder run`, or under `flock`, writes under the lock.
#[test]
fn a_writer_under_the_lock_is_no_outsider() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    if !requirement::has_program("sqlite3") || !requirement::has_program("flock") {
        return;
    }
    for wrapper in [
        vec![PENHOLDER, "run", "x.db", "--"],
        vec!["flock", "db.lock"],
        vec!["sh", "-c", "exec 9>db.lock; flock 9; \"$@\"; true", "sh"],
    ] {
        let mut command = fixture.program(wrapper[0]);
        command
            .args(&wrapper[1..])
            .args(["sqlite3", "-batch", "x.db"]);
        let mut writer = Peer::spawn(command);
        writer.send("BEGIN IMMEDIATE; SELECT 'writes';");
        writer.expect("writes");
        let status = fixture.status();
        assert_eq!(status["state"], "held", "{wrapper:?}");
        assert_eq!(
            status["sqlite_lock"]["outsider"], false,
            "{wrapper:?}: {status}"
        );
        let text = fixture.run(["status", "x.db"]).expect_quiet_success();
        assert!(!text.contains("without the write lock"), "{text}");
        writer.close();
    }
}

#[test]
fn what_a_waiter_learns_is_shown_by_top() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let mut victim = start_victim(&fixture, "60s");
    let line = format!("\n  SQLite's own lock: pid:{} (`sqlite3 ", outsider.pid());
    wait::until("top names the outsider", || top(&fixture).contains(&line));
    // It names it as long as the wait lasts.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(top(&fixture).contains(&line));
    drop(outsider);
    assert!(victim.wait().success());
    let after = top(&fixture);
    assert!(after.starts_with("free\n"), "{after}");
}

#[test]
fn history_names_the_outsider_and_not_its_victim() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let mut victim = start_victim(&fixture, "10s");
    let line = format!("pid:{} (`sqlite3 ", outsider.pid());
    wait::until("the outsider is known", || top(&fixture).contains(&line));
    let waiter = fixture.run(["exec", "x.db", "--timeout", "300ms", INSERT]);
    let message = waiter.expect_failure(75);
    let line = format!("\n  SQLite's own lock: pid:{} (", outsider.pid());
    assert!(message.contains(&line), "{message}");
    assert_eq!(victim.wait().code(), Some(75));
    let events = history(&fixture);
    for kind in ["timeout", "sqlite-busy", "long-hold"] {
        let of_kind: Vec<_> = events.iter().filter(|one| one["kind"] == kind).collect();
        assert!(!of_kind.is_empty(), "{kind}: {events:?}");
        for event in of_kind {
            assert_eq!(event["other_pid"], outsider.pid(), "{event}");
        }
    }
    let text = fixture.run(["history", "x.db"]).expect_success();
    let named = format!(
        "pid:{}, which had SQLite's lock without the write lock",
        outsider.pid()
    );
    assert!(text.contains(&named), "{text}");
}

#[test]
fn doctor_calls_an_outsider_an_error_while_a_process_waits() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let severity = || {
        let report = fixture.run(["doctor", "x.db", "--json"]);
        let report = parse_json(&report.stdout);
        let findings = report["findings"].as_array().unwrap().clone();
        let one = findings
            .into_iter()
            .find(|one| one["check"] == "unlocked-writers");
        let one = one.unwrap();
        let named = format!("pid:{} (", outsider.pid());
        assert!(
            one["finding"].as_str().unwrap().starts_with(&named),
            "{one}"
        );
        one["severity"].as_str().unwrap().to_owned()
    };
    assert_eq!(severity(), "warning");
    let _victim = start_victim(&fixture, "60s");
    assert_eq!(severity(), "error");
}

#[test]
fn a_process_that_cannot_even_open_the_database_shows_who_is_in_the_way() {
    for locks in [
        "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO entry VALUES (8, 8);",
        "PRAGMA journal_mode=DELETE; PRAGMA locking_mode=EXCLUSIVE; INSERT INTO entry VALUES (8, 8);",
        "PRAGMA journal_mode=DELETE; BEGIN EXCLUSIVE;",
        "PRAGMA journal_mode=DELETE; BEGIN IMMEDIATE;",
    ] {
        let fixture = CommandFixture::with_table(PENHOLDER);
        let Some(outsider) = fixture.outsider_after(locks) else {
            return;
        };
        let mut victim = start_victim(&fixture, "10s");
        let line = format!("\n  SQLite's own lock: pid:{} (`sqlite3 ", outsider.pid());
        wait::until("top names the outsider", || top(&fixture).contains(&line));
        let doctor = fixture.run(["doctor", "x.db", "--json"]);
        let report = parse_json(&doctor.stdout);
        let findings = report["findings"].as_array().unwrap();
        let of_writers = findings
            .iter()
            .filter(|one| one["check"] == "unlocked-writers");
        let of_writers: Vec<_> = of_writers.collect();
        let named = format!("pid:{} (", outsider.pid());
        // And not of its victim, which is a writer that uses the lock.
        assert!(
            of_writers.len() == 1
                && of_writers[0]["severity"] == "error"
                && of_writers[0]["finding"]
                    .as_str()
                    .unwrap()
                    .starts_with(&named),
            "{locks}: {of_writers:?}"
        );
        drop(outsider);
        assert!(victim.wait().success(), "{locks}");
        let events = history(&fixture);
        assert!(
            events.iter().any(|one| one["kind"] == "sqlite-busy"),
            "{locks}: {events:?}"
        );
    }
}

#[test]
fn a_plain_flock_with_waiters_is_shown_by_top() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(flock) = start_flock(&fixture) else {
        return;
    };
    let args = ["exec", "x.db", "--timeout", "60s", INSERT];
    let mut waiter = Peer::spawn(fixture.command(args));
    let first = format!(
        "held by a process that does not queue: pid:{} (`sh ",
        flock.pid()
    );
    let is_shown = || top(&fixture).starts_with(&first);
    wait::until("top names the holder", is_shown);
    // As long as the wait lasts.
    std::thread::sleep(std::time::Duration::from_secs(4));
    assert!(is_shown());
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(text.starts_with(&first), "{text}");
    assert_eq!(fixture.status()["holder"]["queues"], false);
    drop(flock);
    assert!(waiter.wait().success());
    wait::until("it is free", || top(&fixture).starts_with("free\n"));
}

/// A program that takes the lock by `flock` again and again fills the events with others of the
/// same kind.
#[test]
fn rare_events_survive_many_that_are_the_same() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    if !requirement::has_program("python3") {
        return;
    }
    let timed_out = {
        let _holder = fixture.hold_lock(&[]);
        let args = ["exec", "x.db", INSERT, "--timeout", "50ms"];
        let mut waiter = Peer::spawn(fixture.command(args));
        assert_eq!(waiter.wait().code(), Some(75));
        waiter.pid()
    };
    // One process that does not queue, again and again in the way of one that does.
    let script = "import fcntl, os, time\n\
                  lock = open('db.lock', 'a')\n\
                  while os.path.exists('going'):\n\
                  \x20   fcntl.flock(lock, fcntl.LOCK_EX); time.sleep(0.01)\n\
                  \x20   fcntl.flock(lock, fcntl.LOCK_UN); time.sleep(0.01)\n";
    fs::write(fixture.join("going"), "").unwrap();
    let mut flocks = fixture.program("python3");
    flocks.args(["-c", script]);
    let mut flocks = Peer::spawn(flocks);
    let bypassed = || {
        fixture.status()["counters"]["unqueued_holders"]
            .as_u64()
            .unwrap()
    };
    let rows: String = (0..200).map(|key| format!("{key},1\n")).collect();
    fs::write(fixture.join("rows.csv"), format!("key,value\n{rows}")).unwrap();
    wait::until("many waits have met it", || {
        let args = ["import", "x.db", "entry", "rows.csv", "--hold", "0s", "-q"];
        fixture.run(args).expect_success();
        bypassed() > 70
    });
    fs::remove_file(fixture.join("going")).unwrap();
    flocks.wait();
    let events = history(&fixture);
    let is_kept = |event: &Value| event["kind"] == "timeout" && event["pid"] == timed_out;
    assert!(events.iter().any(is_kept), "{events:?}");
    let of_kind: Vec<_> = events
        .iter()
        .filter(|one| one["kind"] == "unqueued-holder")
        .collect();
    let counted: u64 = of_kind
        .iter()
        .map(|one| one["count"].as_u64().unwrap())
        .sum();
    assert!(counted <= bypassed() && of_kind.len() < 64, "{events:?}");
    assert!(
        of_kind.iter().any(|one| one["count"].as_u64() > Some(1)),
        "{events:?}"
    );
    let text = fixture.run(["history", "x.db"]).expect_success();
    assert!(text.contains(" times since "), "{text}");
}
