//! Proves that `penholder history` tells what was notable, filtered and in order, and
//! goes on telling it with `--follow`.
#![cfg(test)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, field_names, parse_json};
use penholder_testkit::peer::Peer;
use penholder_testkit::wait;
use serde_json::{Value, json};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

/// A timeout, then a recovery: the pids of who gave up, who was killed and who went on.
///
/// The kernel frees the lock a moment before it says that its holder is gone: whoever
/// takes it just then cannot know, and all is done again.
fn trouble(fixture: &CommandFixture) -> [u32; 3] {
    loop {
        let mut holder = fixture.hold_lock(&["--label", "nightly"]);
        let hasty = gives_up(fixture);
        let patient = ["run", "x.db", "--label", "heir", "--", "true"];
        let mut patient = Peer::spawn(fixture.command(patient));
        wait::until("it is in line", || {
            fixture.status()["queue"].as_array().unwrap().len() == 1
        });
        holder.kill();
        assert!(patient.wait().success());
        if fixture.status()["counters"]["recoveries"] == 1 {
            return [hasty, holder.pid(), patient.pid()];
        }
        fs::remove_file(fixture.join("db.lockq")).unwrap();
    }
}

/// Somebody waits for the lock in vain; its pid.
fn gives_up(fixture: &CommandFixture) -> u32 {
    let hasty = ["exec", "x.db", INSERT, "--timeout", "50ms"];
    let mut hasty = Peer::spawn(fixture.command(hasty));
    assert_eq!(hasty.wait().code(), Some(75));
    hasty.pid()
}

/// All but long holds, which any hold is on a busy machine.
fn history(fixture: &CommandFixture, options: &[&str]) -> Vec<Value> {
    let args = ["history", "x.db", "--json"].iter().chain(options);
    let lines = fixture.run(args).expect_success();
    let mut events: Vec<Value> = lines.lines().map(parse_json).collect();
    events.retain(|event| event["kind"] != "long-hold");
    events
}

/// The kinds of the events that these options leave over.
fn kinds(fixture: &CommandFixture, options: &[&str]) -> Vec<String> {
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    history(fixture, options).iter().map(kind).collect()
}

#[test]
fn what_happened_is_told_the_latest_first() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let [hasty, holder, heir] = trouble(&fixture);
    let events = history(&fixture, &[]);
    let [recovery, timeout] = &events[..] else {
        panic!("{events:?}");
    };
    for event in &events {
        let names = [
            "at",
            "call_site",
            "duration_s",
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
        (&json!(heir), &json!("heir"))
    );
    assert_eq!(recovery["other_pid"], holder);
    assert_eq!(
        (&timeout["pid"], &timeout["other_pid"]),
        (&json!(hasty), &json!(holder))
    );
    assert!(timeout["duration_s"].as_f64().unwrap() < 60.0);
    let both = ["--kind", "timeout", "--kind", "recovery"];
    let text = fixture
        .run(["history", "x.db"].iter().chain(&both))
        .expect_quiet_success();
    let lines: Vec<&str> = text.lines().collect();
    let first = format!(" pid:{heir} (heir) recovered the lock from pid:{holder}, which had died");
    assert!(lines[0].ends_with(&first), "{text}");
    assert!(
        lines[1].contains(&format!(" pid:{hasty} gave up after ")),
        "{text}"
    );
    assert_eq!(lines.len(), 2);
}

#[test]
fn events_are_filtered() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let [hasty, holder, heir] = trouble(&fixture).map(|pid| pid.to_string());
    assert_eq!(kinds(&fixture, &["--kind", "timeout"]), ["timeout"]);
    let both = ["--kind", "timeout", "--kind", "recovery"];
    assert_eq!(kinds(&fixture, &both), ["recovery", "timeout"]);
    assert_eq!(kinds(&fixture, &["--pid", &hasty]), ["timeout"]);
    assert_eq!(kinds(&fixture, &["--pid", &heir]), ["recovery"]);
    // It did neither, and had a part in both.
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
    let done = fixture.run(["history", "x.db", "--longer", "1h"]);
    let note = "penholder: history: none of the kept events matches\n";
    assert_eq!(
        (done.code, &*done.stdout, &*done.stderr),
        (Some(0), "", note)
    );
}

#[test]
fn a_long_hold_is_told() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture
        .run(["run", "x.db", "--label", "slow", "--", "sleep", "0.6"])
        .expect_quiet_success();
    let args = ["history", "x.db", "--json", "--longer", "600ms"];
    let events: Vec<Value> = fixture
        .run(args)
        .expect_quiet_success()
        .lines()
        .map(parse_json)
        .collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["kind"], &events[0]["label"]),
        (&json!("long-hold"), &json!("slow"))
    );
}

#[test]
fn nothing_to_tell_is_said_and_is_no_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let done = fixture.run(["history", "x.db"]);
    assert_eq!((done.code, &*done.stdout), (Some(0), ""));
    assert_eq!(done.stderr, "penholder: history: no events so far\n");
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    let before = fixture.file_names();
    let done = fixture.run(["history", "x.db", "--json"]);
    assert_eq!((done.code, &*done.stdout), (Some(0), ""));
    assert!(
        done.stderr
            .contains("no events are kept: no process has queued here yet")
    );
    assert_eq!(fixture.file_names(), before, "looking creates nothing");
    fs::write(fixture.join("db.lockq"), "nonsense").unwrap();
    let done = fixture.run(["history", "x.db"]);
    assert_eq!((done.code, &*done.stdout), (Some(0), ""));
    assert!(done.stderr.contains("the queue file is invalid"));
}

#[test]
fn bad_input_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let message = fixture.run(["history", "nowhere.db"]).expect_success();
    assert_eq!(message, "", "its folder has a lock file");
    let message = CommandFixture::new(PENHOLDER)
        .run(["history", "x.db"])
        .expect_failure(1);
    assert!(message.contains("history: x.db: there is no such database"));
    for bad in [
        &["--kind", "murder"][..],
        &["--longer", "5"],
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
fn what_happens_is_told_as_it_comes() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    gives_up(&fixture);
    let first = gives_up(&fixture);
    let args = [
        "history", "x.db", "--follow", "-n", "1", "--kind", "timeout",
    ];
    let mut following = Peer::spawn(fixture.command(args));
    let expect = |following: &Peer, pid| {
        let line = following.read_line();
        let gave_up = format!(" pid:{pid} gave up after ");
        assert!(line.contains(&gave_up), "{line}");
    };
    expect(&following, first);
    for _ in 0..3 {
        expect(&following, gives_up(&fixture));
    }
    holder.send("go");
    assert!(holder.wait().success());
    // A page built anew begins anew, and is followed.
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    let _holder = fixture.hold_lock(&[]);
    expect(&following, gives_up(&fixture));
    assert_eq!(following.read_line_within(Duration::from_millis(500)), None);
    following.signal("INT");
    assert_eq!(following.wait().signal(), Some(2));
}

#[test]
fn following_ends_with_its_reader() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    gives_up(&fixture);
    gives_up(&fixture);
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
    // Also if there is nothing to print by which to notice it.
    let script = "\"$PENHOLDER\" history x.db -f --kind bypass | true";
    assert_eq!(fixture.run_script(script).expect_quiet_success(), "");
}
