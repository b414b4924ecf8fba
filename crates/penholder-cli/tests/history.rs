//! Proves that `penholder history` prints the kept events, filtered and in order, and
//! prints new ones with `--follow`.
#![cfg(test)]

use std::fs;
use std::thread;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, TRUE, field_names, parse_json};
use penholder_testkit::peer::Peer;
use penholder_testkit::{raw_file, wait};
use serde_json::{Value, json};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

/// Causes a timeout, then a recovery. Returns the pids of the waiter that timed out, the
/// holder that was killed and the waiter that acquired the lock after it.
///
/// The kernel frees the lock a moment before it reports that the holder is gone. A waiter
/// that acquires the lock in between does not notice the recovery; then this tries again.
fn cause_timeout_and_recovery(fixture: &CommandFixture) -> [u32; 3] {
    loop {
        let mut holder = fixture.hold_lock(&["--label", "nightly"]);
        let timed_out = cause_timeout(fixture);
        let args = ["run", "x.db", "--label", "successor", "--", TRUE];
        let mut successor = Peer::spawn(fixture.command(args));
        wait::until("it is in the queue", || {
            fixture.status()["queue"].as_array().unwrap().len() == 1
        });
        holder.kill();
        assert!(successor.wait().success());
        if fixture.status()["counters"]["recoveries"] == 1 {
            return [timed_out, holder.pid(), successor.pid()];
        }
        fs::remove_file(fixture.join("db.lockq")).unwrap();
    }
}

/// Lets a process wait for the lock until its timeout, and returns its pid.
fn cause_timeout(fixture: &CommandFixture) -> u32 {
    let args = ["exec", "x.db", INSERT, "--timeout", "250ms"];
    let mut waiter = Peer::spawn(fixture.command(args));
    assert_eq!(waiter.wait().code(), Some(75));
    waiter.pid()
}

/// Returns all events except long holds: on a busy machine any hold may be long.
fn history(fixture: &CommandFixture, options: &[&str]) -> Vec<Value> {
    let args = ["history", "x.db", "--json"].iter().chain(options);
    let lines = fixture.run(args).expect_success();
    let mut events: Vec<Value> = lines.lines().map(parse_json).collect();
    events.retain(|event| event["kind"] != "long-hold");
    events
}

/// Returns the kinds of the events that these options select.
fn kinds(fixture: &CommandFixture, options: &[&str]) -> Vec<String> {
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    history(fixture, options).iter().map(kind).collect()
}

#[test]
fn events_are_printed_latest_first() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let [timed_out, holder, successor] = cause_timeout_and_recovery(&fixture);
    let events = history(&fixture, &[]);
    let [recovery, timeout] = &events[..] else {
        panic!("{events:?}");
    };
    for event in &events {
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
    }
    assert_eq!(
        (&recovery["kind"], &timeout["kind"]),
        (&json!("recovery"), &json!("timeout"))
    );
    assert_eq!(
        (&recovery["pid"], &recovery["label"]),
        (&json!(successor), &json!("successor"))
    );
    assert_eq!(recovery["other_pid"], holder);
    assert_eq!(
        (&timeout["pid"], &timeout["other_pid"]),
        (&json!(timed_out), &json!(holder))
    );
    assert!(timeout["duration_s"].as_f64().unwrap() < 60.0);
    let both = ["--kind", "timeout", "--kind", "recovery"];
    let text = fixture
        .run(["history", "x.db"].iter().chain(&both))
        .expect_quiet_success();
    let lines: Vec<&str> = text.lines().collect();
    let first = format!(
        " pid:{successor} (successor) recovered the lock from pid:{holder}, which had died"
    );
    assert!(lines[0].ends_with(&first), "{text}");
    assert!(
        lines[1].contains(&format!(" pid:{timed_out} gave up after ")),
        "{text}"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn events_are_filtered() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let [timed_out, holder, successor] =
        cause_timeout_and_recovery(&fixture).map(|pid| pid.to_string());
    assert_eq!(kinds(&fixture, &["--kind", "timeout"]), ["timeout"]);
    let both = ["--kind", "timeout", "--kind", "recovery"];
    assert_eq!(kinds(&fixture, &both), ["recovery", "timeout"]);
    assert_eq!(kinds(&fixture, &["--pid", &timed_out]), ["timeout"]);
    assert_eq!(kinds(&fixture, &["--pid", &successor]), ["recovery"]);
    // It caused neither event, but both name it.
    assert_eq!(
        kinds(&fixture, &["--pid", &holder]),
        ["recovery", "timeout"]
    );
    let last = ["-n", "1", "--kind", "timeout", "--kind", "recovery"];
    assert_eq!(kinds(&fixture, &last), ["recovery"]);
    let last = ["--limit", "1", "--kind", "timeout"];
    assert_eq!(kinds(&fixture, &last), ["timeout"]);
    assert_eq!(
        kinds(&fixture, &["--longer", "20ms", "--kind", "timeout"]),
        ["timeout"]
    );
    assert!(kinds(&fixture, &["--longer", "1h"]).is_empty());
    let output = fixture.run(["history", "x.db", "--longer", "1h"]);
    let note = "penholder: history: none of the kept events matches\n";
    assert_eq!(
        (output.code, &*output.stdout, &*output.stderr),
        (Some(0), "", note)
    );
}

#[test]
fn a_long_hold_is_an_event() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&["--label", "slow"]);
    thread::sleep(Duration::from_millis(600));
    assert!(holder.close().success());
    let args = ["history", "x.db", "--json", "--longer", "600ms"];
    let events: Vec<Value> = fixture
        .run(args)
        .expect_quiet_success()
        .lines()
        .map(parse_json)
        // On a loaded machine the creation of the database is a long hold too.
        .filter(|event| event["label"] == "slow")
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(events[0]["kind"], "long-hold");
}

#[test]
fn having_no_events_is_reported_and_is_not_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let output = fixture.run(["history", "x.db"]);
    assert_eq!((output.code, &*output.stdout), (Some(0), ""));
    assert_eq!(output.stderr, "penholder: history: no events so far\n");
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    let before = fixture.file_names();
    let output = fixture.run(["history", "x.db", "--json"]);
    assert_eq!((output.code, &*output.stdout), (Some(0), ""));
    assert!(
        output
            .stderr
            .contains("no events are kept: no process has queued here yet")
    );
    assert_eq!(fixture.file_names(), before, "history creates nothing");
    fs::write(fixture.join("db.lockq"), "nonsense").unwrap();
    let output = fixture.run(["history", "x.db"]);
    assert_eq!((output.code, &*output.stdout), (Some(0), ""));
    assert!(output.stderr.contains("the queue file is invalid"));
}

#[test]
fn bad_input_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    // Its directory has a lock file.
    let message = fixture.run(["history", "nowhere.db"]).expect_failure(1);
    assert!(message.contains("history: nowhere.db: there is no such database"));
    let message = CommandFixture::new(PENHOLDER)
        .run(["history", "x.db"])
        .expect_failure(1);
    assert!(message.contains("history: x.db: there is no such database"));
    for bad in [
        &["--kind", "murder"][..],
        &["--longer", "5x"],
        &["--longer", "-1s"],
        &["--pid", "0"],
        &["--limit", "-1"],
    ] {
        fixture
            .run(["history", "x.db"].iter().chain(bad))
            .expect_failure(2);
    }
}

#[test]
fn events_are_followed_as_they_happen() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    cause_timeout(&fixture);
    let first = cause_timeout(&fixture);
    let args = [
        "history", "x.db", "--follow", "-n", "1", "--kind", "timeout",
    ];
    let mut following = Peer::spawn(fixture.command(args));
    let expect_timeout = |following: &Peer, pid| {
        let line = following.read_line();
        let gave_up = format!(" pid:{pid} gave up after ");
        assert!(line.contains(&gave_up), "{line}");
    };
    expect_timeout(&following, first);
    for _ in 0..3 {
        expect_timeout(&following, cause_timeout(&fixture));
    }
    holder.send("go");
    assert!(holder.wait().success());
    // A new queue file starts with no events, and is followed too.
    raw_file::remove(&fixture.join("db.lockq"));
    let _holder = fixture.hold_lock(&[]);
    expect_timeout(&following, cause_timeout(&fixture));
    assert_eq!(following.read_line_within(Duration::from_millis(500)), None);
    if cfg!(unix) {
        following.signal("INT");
        assert_eq!(following.wait().code(), Some(130));
    }
}

#[cfg(unix)]
#[test]
fn following_ends_when_its_reader_ends() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    cause_timeout(&fixture);
    cause_timeout(&fixture);
    for options in ["", "--json"] {
        let script = format!("\"$PENHOLDER\" history x.db --follow {options} | head -n 2");
        assert_eq!(
            fixture
                .run_script(&script)
                .expect_quiet_success()
                .lines()
                .count(),
            2
        );
    }
    // It notices this even if it has nothing to print.
    let script = "\"$PENHOLDER\" history x.db -f --kind unqueued-holder | true";
    assert_eq!(fixture.run_script(script).expect_quiet_success(), "");
}
