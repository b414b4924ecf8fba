//! `compare` writes one JSON object for each trial, with the published keys, and every
//! workload finds again what each peer wrote.

#![cfg(test)]

mod child;

use std::path::Path;

use serde_json::Value;

const KEYS: [&str; 17] = [
    "peer",
    "workload",
    "sync",
    "processes",
    "threads",
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
    "wal_max_bytes",
];

/// Returns the trials of a short comparison in a directory.
fn trials(directory: &Path, arguments: &[&str]) -> Vec<Value> {
    let json = directory.join("trials.json");
    let mut command = child::benchmark(directory);
    command.args(["compare", "--sync=normal"]).args(arguments);
    command.arg("--json").arg(&json);
    child::printed(&mut command);
    serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap()
}

fn check(trial: &Value) {
    for key in KEYS {
        assert!(trial.get(key).is_some(), "{key} is missing in {trial}");
    }
    assert_eq!(trial["sync"], "normal");
    assert_eq!(trial["rows_ok"], true, "{trial}");
    assert_eq!(trial["failed"], 0, "{trial}");
    assert!(trial["rate"].as_f64().unwrap() > 0.0, "{trial}");
    assert!(trial["wal_max_bytes"].as_u64().unwrap() > 0, "{trial}");
}

#[test]
fn compare_writes_its_trials_as_json() {
    let directory = tempfile::tempdir().unwrap();
    let plots = directory.path().join("plots");
    let trials = trials(
        directory.path(),
        &[
            "--seconds=0.2",
            "--processes=2",
            "--peers=sqlite-busy,penholder",
            "--svg",
            plots.to_str().unwrap(),
        ],
    );
    assert_eq!(trials.len(), 2);
    for (trial, peer) in trials.iter().zip(["sqlite-busy", "penholder"]) {
        check(trial);
        assert_eq!(trial["peer"], peer);
        assert_eq!(trial["processes"], 2);
        assert_eq!(trial["threads"], 1);
        assert_eq!(trial["workload"], "insert");
    }
    assert!(plots.join("rate-normal.svg").exists());
}

#[test]
fn the_longest_wait_of_those_that_write_by_closure_is_told() {
    let directory = tempfile::tempdir().unwrap();
    let arguments = [
        "--seconds=0.2",
        "--processes=2",
        "--peers=penholder",
        "--closures=50%",
    ];
    let trials = trials(directory.path(), &arguments);
    check(&trials[0]);
    assert_eq!(trials[0]["closures"], 50);
    let longest = |key: &str| trials[0][key].as_f64().unwrap();
    assert!(longest("closures_max_us") > 0.0);
    assert!(longest("closures_max_us") <= longest("max_us"));
}

#[test]
fn every_workload_finds_again_what_several_threads_wrote() {
    for workload in ["insert", "pages", "random", "hot", "service"] {
        let directory = tempfile::tempdir().unwrap();
        let trials = trials(
            directory.path(),
            &[
                "--seconds=0.2",
                "--processes=2",
                "--threads=2",
                "--peers=sqlite-busy-1ms,penholder",
                &format!("--workload={workload}"),
            ],
        );
        assert_eq!(trials.len(), 2, "{workload}");
        for trial in &trials {
            check(trial);
            assert_eq!(trial["workload"], workload);
            assert_eq!(trial["threads"], 2);
        }
    }
}

#[test]
fn every_peer_has_every_workload_that_makes_sense_for_it() {
    let peers = [
        "naive",
        "sqlite-busy",
        "sqlite-busy-prepared",
        "sqlite-autocommit",
        "sqlite-busy-1ms",
        "flock-blocking",
        "python-sqlite3",
        "penholder",
        "penholder-fifo",
        "penholder-alone",
        "penholder-8-threads",
    ];
    for peer in peers {
        for workload in ["service", "pages"] {
            let directory = tempfile::tempdir().unwrap();
            let workload_argument = format!("--workload={workload}");
            let peer_argument = format!("--peers={peer}");
            let trials = trials(
                directory.path(),
                &[
                    "--seconds=0.2",
                    "--processes=1",
                    &peer_argument,
                    &workload_argument,
                ],
            );
            match (peer, workload) {
                ("sqlite-autocommit", "pages") => assert!(trials.is_empty()),
                ("python-sqlite3", _) if trials.is_empty() => {
                    eprintln!("SKIPPED: this test needs python3 with its module sqlite3");
                }
                _ => {
                    assert_eq!(trials.len(), 1, "{peer}, {workload}");
                    check(&trials[0]);
                }
            }
        }
    }
}

#[test]
fn a_peer_for_which_a_workload_makes_no_sense_says_so() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = child::benchmark(directory.path());
    command.args(["compare", "--seconds=0.2", "--processes=1", "--sync=normal"]);
    command.args(["--workload=pages", "--peers=sqlite-autocommit"]);
    let errors = child::errors(&mut command);
    let expected = "SKIPPED: sqlite-autocommit: each transaction of the workload pages has";
    assert!(errors.contains(expected), "{errors}");
}
