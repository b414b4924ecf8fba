//! `compare` writes one JSON object for each trial, with the published keys.

#![cfg(test)]

mod child;

use std::process::Command;

use serde_json::Value;

const KEYS: [&str; 14] = [
    "peer",
    "sync",
    "processes",
    "rate",
    "failed",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "jain",
    "min",
    "max",
    "rows_ok",
    "cpu_s",
];

#[test]
fn compare_writes_its_trials_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let json = directory.path().join("trials.json");
    let mut command = Command::new(env!("CARGO_BIN_EXE_penholder-bench"));
    command.args(["compare", "--seconds=0.2", "--processes=2"]);
    command.args(["--sync=normal", "--peers=sqlite-busy,penholder", "--svg"]);
    command.arg(directory.path().join("plots"));
    command.arg("--json").arg(&json);
    command.arg("--directory").arg(directory.path());
    child::printed(&mut command);
    let trials: Vec<Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(trials.len(), 2);
    for (trial, peer) in trials.iter().zip(["sqlite-busy", "penholder"]) {
        for key in KEYS {
            assert!(trial.get(key).is_some(), "{key} is missing in {trial}");
        }
        assert_eq!(trial["peer"], peer);
        assert_eq!(trial["sync"], "normal");
        assert_eq!(trial["processes"], 2);
        assert_eq!(trial["rows_ok"], true, "{trial}");
        assert_eq!(trial["failed"], 0, "{trial}");
        assert!(trial["rate"].as_f64().unwrap() > 0.0, "{trial}");
    }
}
