//! A program in another language reads the live queue file: `read_queue_file.py`, which is written
//! from `docs/design.md` alone. It sees what `penholder status --json` says.
#![cfg(test)]
#![cfg(unix)] // the reader in Python locks as on Unix

use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;

use penholder_testkit::command_fixture::{CommandFixture, parse_json, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::{requirement, wait};
use serde_json::{Value, json};

const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Reads the queue file with Python.
fn read(fixture: &CommandFixture) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/read_queue_file.py");
    let mut command = fixture.program("python3");
    command.arg(script).arg("db.lockq");
    let output = run_command(&mut command, b"", wait::LIMIT);
    assert_eq!(output.code, Some(0), "{}", output.stderr);
    parse_json(&output.stdout)
}

/// Returns these fields of an object, or of each object of a list.
fn fields(value: &Value, names: &[&str]) -> Value {
    match value.as_array() {
        Some(list) => list.iter().map(|one| fields(one, names)).collect(),
        None => names.iter().map(|name| value[name].clone()).collect(),
    }
}

/// Returns the sum of the values of a histogram.
fn count(histogram: &Value) -> u64 {
    let counts = histogram.as_object().unwrap().values();
    counts.map(|count| count.as_u64().unwrap()).sum()
}

fn sum(databases: &Value, name: &str) -> u64 {
    let all = databases.as_array().unwrap().iter();
    all.map(|one| one[name].as_u64().unwrap()).sum()
}

/// Starts processes that wait for the lock, one after the other, each with a label of its own.
fn enqueue(fixture: &CommandFixture, count: usize) -> Vec<Peer> {
    let start = |number: usize| {
        let label = format!("wäiter {number}");
        let sql = "INSERT INTO entry VALUES (1, 1)";
        let args = ["exec", "x.db", sql, "--timeout", "1m", "--label", &label];
        let peer = Peer::spawn(fixture.command(args));
        wait::until("it is in the queue", || {
            let queue = fixture.status()["queue"].as_array().unwrap().len();
            queue == number + 1
        });
        peer
    };
    (0..count).map(start).collect()
}

#[test]
fn a_reader_in_python_sees_what_the_status_says() {
    if !requirement::has_program("python3") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    // Fills the counters and histograms, and makes an entry of the database.
    let stress = [
        "stress",
        "x.db",
        "--force",
        "--processes",
        "2",
        "--writes",
        "300",
    ];
    fixture.run(stress).expect_success();
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let timed_out = ["exec", "x.db", "DELETE FROM entry", "--timeout", "50ms"];
    fixture.run(timed_out).expect_failure(75);
    // More than fit into the first block.
    let waiters = enqueue(&fixture, 9);

    let (seen, status) = (read(&fixture), fixture.status());
    let names = ["pid", "cmd", "label"];
    assert_eq!(
        fields(&seen["waiters"], &names),
        fields(&status["queue"], &names)
    );
    assert_eq!(seen["waiters"].as_array().unwrap().len(), 9);
    assert_eq!(seen["waiters"][8]["label"], "wäiter 8");
    assert_eq!(seen["holder"]["pid"], holder.pid());
    assert_eq!(seen["holder"]["lives"], true);
    let names = ["pid", "label"];
    assert_eq!(
        fields(&seen["holder"], &names),
        fields(&status["holder"], &names)
    );
    assert_eq!(seen["slots"], 16);
    let length = fs::metadata(fixture.join("db.lockq")).unwrap().len();
    assert_eq!(seen["length"], length);
    assert_ne!(seen["id"], 0);

    for (name, value) in status["counters"].as_object().unwrap() {
        assert_eq!(seen["counters"][name], *value, "{name}");
    }
    for (ours, theirs) in [
        ("wait_us", "waits"),
        ("hold_us", "holds"),
        ("batch_writes", "batch_writes"),
    ] {
        assert_eq!(
            status[ours]["count"],
            count(&seen["histograms"][theirs]),
            "{ours}"
        );
    }
    let names = ["kind", "pid", "other_pid", "count"];
    assert_eq!(
        fields(&seen["events"], &names),
        fields(&status["events"], &names)
    );
    assert_eq!(seen["events"][0]["kind"], "timeout");

    let database = fs::metadata(fixture.join("x.db")).unwrap();
    let mut entries = seen["databases"].as_array().unwrap().iter();
    let is_its = |entry: &&Value| entry["inode"] == database.ino();
    let entry = entries.find(is_its).expect("an entry of the database");
    assert_eq!(entry["device"], database.dev());
    for (name, of_entry) in [
        ("count", "leases"),
        ("writes", "writes"),
        ("gaps", "gaps"),
        ("ended_idle", "ended_idle"),
        ("ended_slice", "ended_slice"),
    ] {
        assert_eq!(
            status["leases"][name],
            sum(&seen["databases"], of_entry),
            "{name}"
        );
    }

    // A waiter that is killed is not alive any more, although its bit is still set.
    let mut waiters = waiters;
    let mut killed = waiters.remove(0);
    let pid = killed.pid();
    killed.kill();
    let pids = fields(&read(&fixture)["waiters"], &["pid"]);
    assert!(!pids.as_array().unwrap().contains(&json!([pid])), "{pids}");
    holder.send("go");
    holder.expect("released");
    for waiter in &mut waiters {
        assert!(waiter.wait().success());
    }
    let after = read(&fixture);
    assert_eq!(
        (&after["holder"], &after["waiters"]),
        (&Value::Null, &json!([]))
    );
}

/// The holder's statement, as its slot has it.
#[test]
fn a_reader_in_python_sees_what_the_holder_runs() {
    if !requirement::has_program("python3") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("INSERT INTO entry VALUES (1, 1)");
    let endless = "UPDATE entry SET key = (WITH RECURSIVE n(i) AS \
                   (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT max(i) FROM n)";
    let mut holder = Peer::spawn(fixture.command(["exec", "x.db", endless]));
    wait::until("the statement is there", || {
        let seen = read(&fixture);
        let statement = &seen["holder"]["statement"];
        let text = statement["text"].as_str().unwrap_or_default();
        endless.starts_with(text) && !text.is_empty() && statement["is_place"] == false
    });
    holder.kill();
}
