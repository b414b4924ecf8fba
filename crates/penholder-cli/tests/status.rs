//! Proves that `penholder status` names the holder of the lock, in every situation,
//! and only reads: it creates nothing, changes nothing and makes no other process wait.
#![cfg(test)]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::fs;
#[cfg(unix)]
use std::fs::{File, TryLockError};
use std::thread;
#[cfg(unix)]
use std::time::Instant;
use std::time::{Duration, SystemTime};

use penholder_testkit::command_fixture::{
    CommandFixture, NAME, field_names, parse_json, run_command,
};
use penholder_testkit::peer::Peer;
use penholder_testkit::{requirement, wait};
use serde_json::{Value, json};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// The schema of `status --json`, which does not change within a major version.
const FIELDS: [&str; 13] = [
    "batch_writes",
    "counters",
    "events",
    "hold_us",
    "holder",
    "leases",
    "lock_file",
    "queue",
    "queue_file",
    "queue_file_fault",
    "sqlite_lock",
    "state",
    "wait_us",
];

#[test]
fn a_free_lock_is_reported_and_is_not_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let lock_file = fixture.join("db.lock");
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    let expected = format!("free\n  lock file: {}\n", lock_file.display());
    assert!(text.starts_with(&expected), "{text}");
    let status = fixture.status();
    assert_eq!(status["state"], "free");
    assert_eq!(status["holder"], json!(null));
    assert_eq!(status["lock_file"], json!(lock_file));
}

/// The signal that ends a process at the limit is not ignored here.
#[cfg(unix)]
#[test]
fn under_a_file_size_limit_every_command_works_and_says_why_there_is_no_queue() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    let limited = |command: &str| fixture.run_script(&format!("ulimit -f 100; {command}"));
    limited("\"$PENHOLDER\" exec x.db \"INSERT INTO entry VALUES ('1', 1)\"").expect_success();
    limited("\"$PENHOLDER\" run x.db -- true").expect_success();
    assert!(!fixture.join("db.lockq").exists());
    let text = limited("\"$PENHOLDER\" status x.db").expect_success();
    let why = "  no queue: db.lockq cannot be built: it needs 118784 bytes, and the limit";
    assert!(
        text.contains(why) && text.contains("ulimit -f unlimited"),
        "{text}"
    );
    let status = parse_json(&limited("\"$PENHOLDER\" status x.db --json").expect_success());
    let fault = status["queue_file_fault"].as_str().unwrap();
    assert!(fault.starts_with("cannot be built: "), "{fault}");
    let report = limited("\"$PENHOLDER\" doctor x.db --json").stdout;
    assert!(report.contains("db.lockq cannot be built"), "{report}");
}

#[test]
fn the_holder_is_described() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let start = SystemTime::now();
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let output = fixture.run(["status", "x.db", "--json"]);
    let status = parse_json(&output.expect_quiet_success());
    assert_eq!(field_names(&status), FIELDS);
    assert_eq!(status["state"], "held");
    let shown = &status["holder"];
    let names = [
        "cmd",
        "database",
        "held_s",
        "label",
        "pid",
        "queues",
        "since",
        "state",
        "statement",
    ];
    assert_eq!(field_names(shown), names);
    assert_eq!(shown["pid"], holder.pid());
    assert_eq!(shown["label"], "nightly");
    assert!(
        shown["cmd"]
            .as_str()
            .unwrap()
            .starts_with(&format!("{NAME} run x.db"))
    );
    assert!(["sleeping", "running"].contains(&shown["state"].as_str().unwrap()));
    let since = shown["since"].as_str().unwrap();
    assert!(since.len() == 24 && since.ends_with('Z'), "{since}");
    let held = shown["held_s"].as_f64().unwrap();
    assert!(held >= 0.0 && held <= start.elapsed().unwrap().as_secs_f64());
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    let expected = format!("held by pid:{} since {since} (`{NAME} run ", holder.pid());
    assert!(text.starts_with(&expected) && text.contains("label: nightly"));
    holder.send("go");
    holder.expect("released");
    assert!(holder.close().success());
    assert_eq!(fixture.status()["state"], "free");
}

#[test]
fn the_statement_of_the_holder_is_shown_everywhere() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let endless = "UPDATE entry SET key = (WITH RECURSIVE n(i) AS \
                   (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)";
    fixture.exec("INSERT INTO entry VALUES (1, 1)");
    let _holder = Peer::spawn(fixture.command(["exec", "x.db", endless]));
    let start = "UPDATE entry SET key = (WITH RECURSIVE";
    wait::until("the statement is shown", || {
        let last = fixture.status()["holder"]["statement"].clone();
        last.as_str().is_some_and(|last| last.starts_with(start))
    });
    let last = format!(", last: {start}");
    assert!(
        fixture
            .run(["status", "x.db"])
            .expect_quiet_success()
            .contains(&last)
    );
    assert!(
        fixture
            .run(["top", "x.db", "--once"])
            .expect_quiet_success()
            .contains(&last)
    );
    let delete = ["exec", "x.db", "--timeout", "50ms", "DELETE FROM entry"];
    let message = fixture.run(delete).expect_failure(75);
    assert!(message.contains(&last), "{message}");
}

#[test]
fn held_time_grows() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let held = || fixture.status()["holder"]["held_s"].as_f64().unwrap();
    let first = held();
    thread::sleep(Duration::from_millis(50));
    assert!(held() >= first + 0.05);
}

#[test]
fn a_stopped_holder_is_shown_as_stopped() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    holder.signal("STOP");
    wait::until("the holder is stopped", || {
        fixture.status()["holder"]["state"] == "stopped"
    });
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(text.contains(", stopped, held "), "{text}");
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let message = fixture
        .run(["exec", "x.db", "--timeout", "50ms", sql])
        .expect_failure(75);
    assert!(message.contains(", stopped, held "), "{message}");
    holder.signal("CONT");
    wait::until("the holder runs again", || {
        fixture.status()["holder"]["state"] != "stopped"
    });
}

#[test]
fn the_death_of_the_holder_is_noticed_at_once() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    holder.kill();
    assert!(fixture.read("db.lock").contains("pid:"));
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(
        text.starts_with("free\n"),
        "its record is still there: {text}"
    );
}

#[test]
fn a_holder_without_a_record_is_named() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("flock");
    command.args(["db.lock", "sh", "-c", "echo held; read line"]);
    let flock = Peer::spawn(command);
    flock.expect("held");
    let status = fixture.status();
    assert_eq!(status["state"], "held");
    let holder = &status["holder"];
    assert_eq!(holder["pid"], flock.pid());
    assert!(holder["cmd"].as_str().unwrap().starts_with("flock db.lock"));
    for unknown in ["since", "held_s", "label"] {
        assert!(holder[unknown].is_null(), "{status}");
    }
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(text.contains("left no record"), "{text}");
}

#[test]
fn a_holder_in_a_container_is_shown() {
    if !requirement::has_pid_namespaces() {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("unshare");
    command.args(["--pid", "--fork", "--mount-proc", "--kill-child"]);
    command.args([PENHOLDER, "run", "x.db", "--label", "inside", "--"]);
    command.args(["sh", "-c", "echo held; read line"]);
    let inside = Peer::spawn(command);
    inside.expect("held");
    let status = fixture.status();
    assert_eq!(status["state"], "held");
    assert_eq!(status["holder"]["label"], "inside");
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(text.starts_with("held by pid:") && text.contains("inside"));
}

#[test]
fn a_holder_outside_the_container_is_shown() {
    if !requirement::has_pid_namespaces() {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _outside = fixture.hold_lock(&["--label", "outside"]);
    let show = |format: &[&str]| {
        let mut command = fixture.program("unshare");
        command.args(["--pid", "--fork", "--mount-proc"]);
        command.args([PENHOLDER, "status", "x.db"]);
        run_command(command.args(format), b"", wait::LIMIT)
    };
    let status = show(&["--json"]).expect_json();
    assert_eq!(status["state"], "held");
    assert_eq!(status["holder"]["state"], "other-namespace");
    assert_eq!(status["holder"]["label"], "outside");
    let text = show(&[]).expect_quiet_success();
    assert!(text.contains("in another pid namespace"), "{text}");
}

#[test]
fn a_label_cannot_control_the_terminal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&["--label", "a\nstate: free\x1b[31m\u{202e}"]);
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    let forged = text.lines().filter(|line| line.contains("free"));
    assert_eq!(forged.count(), 1, "{text}");
    assert!(!text.contains(['\x1b', '\u{202e}']), "{text:?}");
    let label = fixture.status()["holder"]["label"].clone();
    assert_eq!(label, "a\\nstate: free\\u{1b}[31m\\u{202e}");
}

#[test]
fn status_creates_nothing() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("x.db"), "").unwrap();
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    assert!(text.starts_with("free\n"), "{text}");
    assert_eq!(fixture.file_names(), ["x.db"]);
    let message = fixture.run(["status", "missing.db"]).expect_failure(1);
    assert!(message.contains("no such database"), "{message}");
    assert_eq!(fixture.file_names(), ["x.db"]);
}

#[test]
fn status_changes_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let files = || {
        fixture
            .file_names()
            .into_iter()
            .map(|name| {
                let meta = fs::metadata(fixture.join(&name)).unwrap();
                (
                    name.clone(),
                    meta.modified().unwrap(),
                    fs::read(fixture.join(&name)).unwrap(),
                )
            })
            .collect::<Vec<_>>()
    };
    let before = files();
    for _ in 0..5 {
        fixture.run(["status", "x.db"]).expect_quiet_success();
        fixture.status();
    }
    assert!(files() == before);
}

/// On Windows a lock keeps others from reading what is locked.
#[cfg(unix)]
#[test]
fn status_never_takes_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let file = File::options()
        .read(true)
        .write(true)
        .open(fixture.join("db.lock"))
        .unwrap();
    let deadline = Instant::now() + Duration::from_secs(2);
    let runs = thread::scope(|scope| {
        let reader = scope.spawn(|| show_status_until(&fixture, deadline));
        let mut attempts = 0;
        while Instant::now() < deadline {
            // Like `flock -n`, it fails if another process holds the lock for a moment.
            match file.try_lock() {
                Ok(()) => file.unlock().unwrap(),
                Err(TryLockError::WouldBlock) => panic!("not free at attempt {attempts}"),
                Err(TryLockError::Error(error)) => panic!("{error}"),
            }
            attempts += 1;
        }
        reader.join().unwrap()
    });
    assert!(runs > 0);
}

/// Runs `status` until the deadline, and returns how often.
#[cfg(unix)]
fn show_status_until(fixture: &CommandFixture, deadline: Instant) -> u32 {
    let mut runs = 0;
    while Instant::now() < deadline {
        fixture.run(["status", "x.db"]).expect_quiet_success();
        fixture.status();
        runs += 2;
    }
    runs
}

/// Windows has no table of all locks.
#[cfg(unix)]
#[test]
fn the_holder_is_found_among_many_other_locks() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    let deadline = Instant::now() + Duration::from_secs(3);
    let mut wrong = Vec::new();
    thread::scope(|scope| {
        for number in 0..3 {
            let fixture = &fixture;
            scope.spawn(move || lock_other_files(fixture, number, deadline));
        }
        while Instant::now() < deadline {
            let status = fixture.status();
            if status["holder"]["pid"] != holder.pid() {
                wrong.push(status);
            }
        }
    });
    assert!(wrong.is_empty(), "{wrong:?}");
}

/// Acquires and releases locks on files of its own.
#[cfg(unix)]
fn lock_other_files(fixture: &CommandFixture, number: u32, deadline: Instant) {
    let open = |n: u32| File::create(fixture.join(format!("{number}-{n}.lock"))).unwrap();
    let files: Vec<File> = (0..20).map(open).collect();
    while Instant::now() < deadline {
        files.iter().for_each(|file| file.lock().unwrap());
        files.iter().for_each(|file| file.unlock().unwrap());
    }
}

#[test]
fn a_plain_flock_never_fails_because_of_status() {
    if !requirement::has_program("flock") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\
        (while [ -e x.db ] && [ ! -e enough ]; do \"$PENHOLDER\" status x.db >/dev/null || echo bad; done) &\n\
        for i in $(seq 100); do flock -n db.lock true || echo refused; done\n\
        touch enough; wait";
    assert_eq!(fixture.run_script(script).expect_quiet_success(), "");
}

#[test]
fn the_status_of_another_lock_file_is_shown() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&["--lock-file", "other.lock"]);
    assert_eq!(fixture.status()["state"], "free");
    let args = ["status", "x.db", "--lock-file", "other.lock", "--json"];
    let status = fixture.run(args).expect_json();
    assert_eq!(status["state"], "held");
    assert_eq!(status["lock_file"], json!(fixture.join("other.lock")));
}

/// Wine does not tell which threads wait.
fn is_asleep(state: &Value) -> bool {
    state == "sleeping" || cfg!(windows) && state == "running"
}

/// Checks every field of the schema in a situation in which each has a value.
#[test]
fn the_queue_and_the_events_are_described() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let short_wait = ["exec", "x.db", sql, "--timeout", "50ms", "--label", "hasty"];
    fixture.run(short_wait).expect_failure(75);
    let long_wait = [
        "exec",
        "x.db",
        sql,
        "--timeout",
        "60s",
        "--label",
        "patient",
    ];
    let mut waiter = Peer::spawn(fixture.command(long_wait));
    // A snapshot may also show it queued and not yet asleep, or awake for a moment.
    let mut status = Value::Null;
    wait::until("it sleeps in the queue", || {
        status = fixture.status();
        is_asleep(&status["queue"][0]["state"])
    });
    assert_eq!(field_names(&status), FIELDS);
    assert_eq!(status["queue_file"], "in-use");
    let first = &status["queue"][0];
    let names = [
        "cmd", "label", "left_s", "pid", "since", "state", "waited_s",
    ];
    assert_eq!(field_names(first), names);
    assert_eq!(first["pid"], waiter.pid());
    assert_eq!(first["label"], "patient");
    let start = format!("{NAME} exec");
    assert!(first["cmd"].as_str().unwrap().starts_with(&start));
    assert!(is_asleep(&first["state"]), "{first}");
    let (waited, left) = (&first["waited_s"], &first["left_s"]);
    let both = waited.as_f64().unwrap() + left.as_f64().unwrap();
    assert!((59.0..=61.0).contains(&both), "{waited} {left}");
    let names = [
        "acquisitions",
        "batched_writes",
        "batches",
        "combined_requests",
        "combined_writes",
        "contended",
        "passed_over",
        "recoveries",
        "timeouts",
        "unqueued_holders",
    ];
    assert_eq!(field_names(&status["counters"]), names);
    assert_eq!(status["counters"]["timeouts"], 1);
    let names = [
        "count",
        "ended_checkpoint",
        "ended_close",
        "ended_idle",
        "ended_other",
        "ended_outsider",
        "ended_slice",
        "ended_waiter",
        "gaps",
        "gaps_used",
        "held_s",
        "outsider_writes",
        "writes",
    ];
    assert_eq!(field_names(&status["leases"]), names);
    for times in ["wait_us", "hold_us", "batch_writes"] {
        assert_eq!(
            field_names(&status[times]),
            ["count", "max", "p50", "p90", "p99"]
        );
    }
    let event = &status["events"][0];
    let names = [
        "at",
        "call_site",
        "count",
        "duration_s",
        "first",
        "kind",
        "label",
        "other_pid",
        "pid",
        "statement",
        "writes",
    ];
    assert_eq!(field_names(event), names);
    assert_eq!(
        (&event["kind"], &event["label"]),
        (&json!("timeout"), &json!("hasty"))
    );
    assert_eq!(event["other_pid"], holder.pid());
    let text = fixture.run(["status", "x.db"]).expect_quiet_success();
    let line = format!("  waiter 1: pid:{} (", waiter.pid());
    assert!(
        text.contains(&line) && text.contains(" gave up after "),
        "{text}"
    );
    holder.send("go");
    holder.expect("released");
    assert!(waiter.close().success());
    let counters = &fixture.status()["counters"];
    assert_eq!(counters["contended"], 1);
    assert!(fixture.status()["queue"].as_array().unwrap().is_empty());
}
