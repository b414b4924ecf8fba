//! Proves that `penholder history` tells what was notable, filtered and in order, and
//! goes on telling it with `--follow`.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use peer::Peer;
use serde_json::{Value, json};
use site::{Site, fields};

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

/// A timeout, then a recovery: the pids of who gave up, who was killed and who went on.
///
/// The kernel frees the lock a moment before it says that its holder is gone: whoever
/// takes it just then cannot know, and all is done again.
fn trouble(site: &Site) -> [u32; 3] {
    loop {
        let mut holder = site.hold(&["--label", "nightly"]);
        let hasty = gives_up(site);
        let patient = ["run", "x.db", "--label", "heir", "--", "true"];
        let mut patient = Peer::spawn(site.command(patient));
        peer::until("it is in line", || {
            site.status()["queue"].as_array().unwrap().len() == 1
        });
        holder.kill();
        assert!(patient.ended().success());
        if site.status()["counters"]["recoveries"] == 1 {
            return [hasty, holder.pid(), patient.pid()];
        }
        fs::remove_file(site.at("db.lockq")).unwrap();
    }
}

/// Somebody waits for the lock in vain; its pid.
fn gives_up(site: &Site) -> u32 {
    let hasty = ["exec", "x.db", INSERT, "--timeout", "50ms"];
    let mut hasty = Peer::spawn(site.command(hasty));
    assert_eq!(hasty.ended().code(), Some(75));
    hasty.pid()
}

/// All but long holds, which any hold is on a busy machine.
fn history(site: &Site, options: &[&str]) -> Vec<Value> {
    let args = ["history", "x.db", "--json"].iter().chain(options);
    let lines = site.run(args).ok();
    let mut events: Vec<Value> = lines.lines().map(site::json).collect();
    events.retain(|event| event["kind"] != "long-hold");
    events
}

/// The kinds of the events that these options leave over.
fn kinds(site: &Site, options: &[&str]) -> Vec<String> {
    let kind = |event: &Value| event["kind"].as_str().unwrap().to_owned();
    history(site, options).iter().map(kind).collect()
}

#[test]
fn what_happened_is_told_the_latest_first() {
    let site = Site::with_table();
    let [hasty, holder, heir] = trouble(&site);
    let events = history(&site, &[]);
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
        assert_eq!(fields(event), names);
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
    let text = site.run(["history", "x.db"].iter().chain(&both)).quiet();
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
    let site = Site::with_table();
    let [hasty, holder, heir] = trouble(&site).map(|pid| pid.to_string());
    assert_eq!(kinds(&site, &["--kind", "timeout"]), ["timeout"]);
    let both = ["--kind", "timeout", "--kind", "recovery"];
    assert_eq!(kinds(&site, &both), ["recovery", "timeout"]);
    assert_eq!(kinds(&site, &["--pid", &hasty]), ["timeout"]);
    assert_eq!(kinds(&site, &["--pid", &heir]), ["recovery"]);
    // It did neither, and had a part in both.
    assert_eq!(kinds(&site, &["--pid", &holder]), ["recovery", "timeout"]);
    let last = ["-n", "1", "--kind", "timeout", "--kind", "recovery"];
    assert_eq!(kinds(&site, &last), ["recovery"]);
    let last = ["--limit", "1", "--kind", "timeout"];
    assert_eq!(kinds(&site, &last), ["timeout"]);
    assert_eq!(
        kinds(&site, &["--longer", "20ms", "--kind", "timeout"]),
        ["timeout"]
    );
    assert!(kinds(&site, &["--longer", "1h"]).is_empty());
    let done = site.run(["history", "x.db", "--longer", "1h"]);
    let note = "penholder: history: none of the events kept is like that\n";
    assert_eq!((done.code, &*done.out, &*done.err), (Some(0), "", note));
}

#[test]
fn a_long_hold_is_told() {
    let site = Site::with_table();
    site.run(["run", "x.db", "--label", "slow", "--", "sleep", "0.6"])
        .quiet();
    let args = ["history", "x.db", "--json", "--longer", "600ms"];
    let events: Vec<Value> = site.run(args).quiet().lines().map(site::json).collect();
    assert_eq!(events.len(), 1);
    assert_eq!(
        (&events[0]["kind"], &events[0]["label"]),
        (&json!("long-hold"), &json!("slow"))
    );
}

#[test]
fn nothing_to_tell_is_said_and_is_no_error() {
    let site = Site::with_table();
    let done = site.run(["history", "x.db"]);
    assert_eq!((done.code, &*done.out), (Some(0), ""));
    assert_eq!(done.err, "penholder: history: nothing notable happened\n");
    fs::remove_file(site.at("db.lockq")).unwrap();
    let before = site.files();
    let done = site.run(["history", "x.db", "--json"]);
    assert_eq!((done.code, &*done.out), (Some(0), ""));
    assert!(
        done.err
            .contains("nothing is kept: no process has queued here yet")
    );
    assert_eq!(site.files(), before, "looking creates nothing");
    fs::write(site.at("db.lockq"), "nonsense").unwrap();
    let done = site.run(["history", "x.db"]);
    assert_eq!((done.code, &*done.out), (Some(0), ""));
    assert!(
        done.err
            .contains("what stands in the queue's place is none")
    );
}

#[test]
fn bad_input_is_refused() {
    let site = Site::with_table();
    let message = site.run(["history", "nowhere.db"]).ok();
    assert_eq!(message, "", "its folder has a lock file");
    let message = Site::new().run(["history", "x.db"]).failed(1);
    assert!(message.contains("history: x.db: there is no such database"));
    for bad in [
        &["--kind", "murder"][..],
        &["--longer", "5"],
        &["--longer", "-1s"],
        &["--pid", "0"],
        &["--limit", "-1"],
    ] {
        site.run(["history", "x.db"].iter().chain(bad)).failed(2);
    }
}

#[test]
fn what_happens_is_told_as_it_comes() {
    let site = Site::with_table();
    let mut holder = site.hold(&[]);
    gives_up(&site);
    let first = gives_up(&site);
    let args = [
        "history", "x.db", "--follow", "-n", "1", "--kind", "timeout",
    ];
    let mut following = Peer::spawn(site.command(args));
    let expect = |following: &Peer, pid| {
        let line = following.line();
        let gave_up = format!(" pid:{pid} gave up after ");
        assert!(line.contains(&gave_up), "{line}");
    };
    expect(&following, first);
    for _ in 0..3 {
        expect(&following, gives_up(&site));
    }
    holder.tell("go");
    assert!(holder.ended().success());
    // A page built anew begins anew, and is followed.
    fs::remove_file(site.at("db.lockq")).unwrap();
    let _holder = site.hold(&[]);
    expect(&following, gives_up(&site));
    assert_eq!(following.line_within(Duration::from_millis(500)), None);
    following.signal("INT");
    assert_eq!(following.ended().signal(), Some(2));
}

#[test]
fn following_ends_with_its_reader() {
    let site = Site::with_table();
    let _holder = site.hold(&[]);
    gives_up(&site);
    gives_up(&site);
    for options in ["", "--json"] {
        let script = format!("\"$PENHOLDER\" history x.db --follow {options} | head -n 2");
        assert_eq!(site.shell(&script).quiet().lines().count(), 2);
    }
    // Also if there is nothing to print by which to notice it.
    let script = "\"$PENHOLDER\" history x.db -f --kind bypass | true";
    assert_eq!(site.shell(script).quiet(), "");
}
