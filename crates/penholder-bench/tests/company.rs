//! `outsider` and `readers` write one JSON object for each trial, and print ratios.

#![cfg(test)]

mod child;

use serde_json::Value;

/// Returns what a short run prints, and its JSON.
fn measured(arguments: &[&str]) -> (String, Vec<Value>) {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("trials.json");
    let mut command = child::benchmark(directory.path());
    command.args(arguments);
    command.args(["--writers=2", "--seconds=0.4", "--runs=1"]);
    command.arg("--json").arg(&json);
    let text = child::printed(&mut command);
    let trials = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    (text, trials)
}

fn check_waits(waits: &Value) {
    for key in ["p50_us", "p90_us", "p99_us", "max_us"] {
        assert!(waits[key].as_f64().unwrap() > 0.0, "{key} in {waits}");
    }
    // An outsider can wait for longer than the trial takes.
    assert!(waits["rate"].is_f64(), "{waits}");
    assert!(waits["failed"].is_u64(), "{waits}");
}

fn check(trial: &Value, peer: &str) {
    assert_eq!(trial["peer"], peer);
    assert_eq!(trial["writers"], 2);
    assert_eq!(trial["sync"], "normal");
    assert_eq!(trial["rows_ok"], true, "{trial}");
    assert!(trial["wal_max_bytes"].as_u64().unwrap() > 0, "{trial}");
    check_waits(&trial["writing"]);
}

#[test]
fn an_outsider_is_measured_next_to_both_kinds_of_writers() {
    let (text, trials) = measured(&["outsider", "--every=5ms", "--readers=1"]);
    assert_eq!(trials.len(), 2);
    for (trial, peer) in trials.iter().zip(["penholder", "sqlite-busy"]) {
        check(trial, peer);
        check_waits(&trial["outsider"]);
        check_waits(&trial["reading"]);
    }
    let ratios = "penholder/sqlite-busy: the outsider's wait p50 ";
    assert!(text.contains(ratios), "{text}");
}

#[test]
fn an_outsider_writes_what_the_others_write() {
    let (_, trials) = measured(&["outsider", "--every=5ms", "--workload=service"]);
    assert_eq!(trials.len(), 2);
    for trial in &trials {
        assert_eq!(trial["rows_ok"], true, "{trial}");
        assert!(trial["reading"].is_null(), "{trial}");
    }
}

#[test]
fn readers_are_measured_with_sqlite_alone_and_with_penholder() {
    let arguments = [
        "readers",
        "--readers=1",
        "--long-readers=1",
        "--hold=1h",
        "--reads=sqlite,penholder",
    ];
    let (text, trials) = measured(&arguments);
    let expected = [
        ("penholder", "sqlite"),
        ("penholder", "penholder"),
        ("sqlite-busy", "sqlite"),
        ("sqlite-busy", "penholder"),
    ];
    assert_eq!(trials.len(), expected.len());
    for (trial, (peer, reads)) in trials.iter().zip(expected) {
        check(trial, peer);
        assert_eq!(trial["reads"], reads);
        assert_eq!(trial["long_readers"], 1);
        assert!(trial["outsider"].is_null(), "{trial}");
        check_waits(&trial["reading"]);
    }
    for ratio in [
        "penholder / sqlite-busy: reads per second ",
        "penholder, Database::read / sqlite-busy, Database::read: ",
        "penholder, Database::read / penholder: ",
    ] {
        assert!(text.contains(ratio), "{ratio} is missing in {text}");
    }
}
