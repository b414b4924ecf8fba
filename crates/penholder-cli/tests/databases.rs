//! Proves that a database which does not exist is said to be missing, and that a holder which works
//! on another database with the same lock file is named with that.
#![cfg(test)]

use penholder_testkit::command_fixture::{CommandFixture, SHELL, line};
use penholder_testkit::wait;
use serde_json::Value;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const SEPARATE: &str = "to separate them, give one a lock file of its own";

#[test]
fn a_missing_database_is_not_free() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let missing = |command: &[&str]| {
        let args = command[..1].iter().chain(&["y.db"]).chain(&command[1..]);
        let message = fixture.run(args).expect_failure(1);
        assert!(message.contains("there is no such database"), "{message}");
    };
    let commands = [
        &["status"][..],
        &["status", "--json"],
        &["top", "--once", "--interval", "50ms"],
        &["history"],
        &["doctor"],
        &["run", "--", "true"],
    ];
    let before = fixture.file_names();
    commands.iter().for_each(|command| missing(command));
    // Not held either: the lock is that of the other database.
    let _holder = fixture.hold_lock(&[]);
    commands.iter().for_each(|command| missing(command));
    assert_eq!(fixture.file_names(), before, "nothing is created");
}

#[test]
fn run_creates_nothing_unless_requested() {
    let fixture = CommandFixture::new(PENHOLDER);
    let message = fixture.run(["run", "x.db", "--", "true"]).expect_failure(1);
    assert!(message.contains("--create"), "{message}");
    assert!(fixture.file_names().is_empty());
    let output = fixture.run([
        "run", "x.db", "--create", "--", SHELL[0], SHELL[1], "echo ran",
    ]);
    assert_eq!(output.expect_quiet_success(), line("ran"));
    assert!(
        !fixture.join("x.db").exists(),
        "the command creates it, or does not"
    );
    // Meanwhile the holder is shown.
    let _holder = fixture.hold_lock(&["--create"]);
    let status = fixture.status();
    assert_eq!(status["holder"]["database"], "x.db");
}

#[test]
fn a_holder_of_another_database_is_named_with_it() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture
        .run(["exec", "y.db", "CREATE TABLE t(a)"])
        .expect_success();
    let mut holder = fixture.hold_lock(&[]);
    let of = |db: &str, command: &[&str]| {
        let args = command[..1].iter().chain([&db]).chain(&command[1..]);
        let output = fixture.run(args);
        (output.stdout + &output.stderr, db == "y.db")
    };
    for db in ["x.db", "y.db"] {
        for command in [
            &["exec", "--timeout", "50ms", "DELETE FROM t"][..],
            &["run", "-w", "0", "--", "true"],
            &["status"],
            &["doctor", "--json", "--timeout", "0ms"],
            &["top", "--once", "--interval", "50ms"],
        ] {
            let (text, is_other) = of(db, command);
            assert!(text.contains(", on x.db, "), "{command:?}: {text}");
            assert_eq!(text.contains(SEPARATE), is_other, "{command:?}: {text}");
            assert_eq!(
                text.contains("--lock-file"),
                is_other,
                "{command:?}: {text}"
            );
        }
    }
    assert_eq!(fixture.status()["holder"]["database"], "x.db");
    holder.send("end");
    holder.expect("released");
    let insert = [
        "exec",
        "y.db",
        "--lock-file",
        "y.lock",
        "INSERT INTO t VALUES (1)",
    ];
    let _holder = fixture.hold_lock(&[]);
    fixture.run(insert).expect_success();
}

#[test]
fn a_database_in_another_directory_is_named_by_its_path() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    std::fs::create_dir(fixture.join("locks")).unwrap();
    let lock_file = ["--lock-file", "locks/x.lock"];
    let _holder = fixture.hold_lock(&lock_file);
    let args = ["status", "x.db", "--json"].iter().chain(&lock_file);
    wait::until("it is held", || {
        let status: Value = fixture.run(args.clone()).expect_json();
        let path = fixture.join("x.db");
        status["holder"]["database"] == path.to_str().unwrap()
    });
}
