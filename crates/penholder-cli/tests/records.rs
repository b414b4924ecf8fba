//! Proves that the example program `records` of the library works from a shell, also if
//! several processes use it at once.
#![cfg(test)]
#![cfg(unix)] // a program is built with the target of the compiler

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, run_command};
use penholder_testkit::wait;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// The longest time of a build, even if other builds run at the same time.
const BUILD: Duration = Duration::from_secs(600);

/// The program, built with the profile of these tests.
static RECORDS: LazyLock<PathBuf> = LazyLock::new(build);

fn build() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // target/PROFILE/deps/records-…
    let directory = this.ancestors().nth(2).unwrap();
    let profile = match directory.file_name().and_then(OsStr::to_str).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../penholder"))
        .args(["build", "-p", "penholder", "--example", "records"])
        .args(["--profile", profile, "--target-dir"])
        .arg(directory.parent().unwrap());
    run_command(&mut cargo, b"", BUILD).expect_success();
    directory.join("examples/records")
}

fn records(fixture: &CommandFixture, args: &[&str]) -> CommandOutput {
    let mut command = fixture.program(&*RECORDS);
    run_command(command.arg("x.db").args(args), b"", wait::LIMIT)
}

#[test]
fn a_record_is_written_changed_and_read() {
    let fixture = CommandFixture::new(PENHOLDER);
    assert_eq!(records(&fixture, &["count"]).expect_quiet_success(), "0\n");
    assert_eq!(
        records(&fixture, &["write", "one", "first"]).expect_quiet_success(),
        "1\n"
    );
    assert_eq!(
        records(&fixture, &["write", "two", "a b"]).expect_quiet_success(),
        "2\n"
    );
    assert_eq!(
        records(&fixture, &["get", "1"]).expect_quiet_success(),
        "one=first\n"
    );
    assert_eq!(
        records(&fixture, &["update", "1", "changed"]).expect_quiet_success(),
        ""
    );
    assert_eq!(
        records(&fixture, &["get", "1"]).expect_quiet_success(),
        "one=changed\n"
    );
    let list = records(&fixture, &["list"]).expect_quiet_success();
    assert_eq!(list, "1 one=changed\n2 two=a b\n");
    assert_eq!(records(&fixture, &["count"]).expect_quiet_success(), "2\n");
}

#[test]
fn a_missing_record_is_exit_code_1() {
    let fixture = CommandFixture::new(PENHOLDER);
    for args in [&["get", "7"][..], &["update", "7", "x"]] {
        let output = records(&fixture, args);
        assert_eq!(output.code, Some(1));
        assert_eq!(output.stderr, "there is no record 7\n");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let fixture = CommandFixture::new(PENHOLDER);
    for args in [
        &[][..],
        &["get"],
        &["get", "x"],
        &["nonsense"],
        &["write", "a"],
    ] {
        let output = records(&fixture, args);
        assert_eq!(output.code, Some(2), "{args:?}");
        assert!(
            output.stderr.starts_with("usage: records DB "),
            "{output:?}"
        );
    }
}

#[test]
fn five_processes_write_ten_records_each() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "for i in 1 2 3 4 5; do (for j in $(seq 10); do \
                  \"$RECORDS\" x.db write \"name$i\" \"value$j\"; done) & done; wait; \
                  echo; \"$RECORDS\" x.db count";
    let mut shell = fixture.program("sh");
    shell.args(["-c", script]).env("RECORDS", &*RECORDS);
    let text = run_command(&mut shell, b"", wait::LIMIT).expect_quiet_success();
    let (ids, count) = text.split_once("\n\n").unwrap();
    assert_eq!(count, "50\n");
    let mut ids: Vec<u32> = ids.lines().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
    let pairs = "SELECT count(DISTINCT name || value) FROM records";
    assert_eq!(fixture.number(pairs), 50);
}

#[test]
fn a_held_lock_is_exit_code_75() {
    let fixture = CommandFixture::new(PENHOLDER);
    records(&fixture, &["count"]).expect_quiet_success();
    let mut holder = fixture.hold_lock(&[]);
    // Reading does not wait.
    assert_eq!(records(&fixture, &["count"]).expect_quiet_success(), "0\n");
    let output = records(&fixture, &["write", "a", "b"]);
    assert_eq!(output.code, Some(75));
    let named = format!("holder: pid:{} since ", holder.pid());
    assert!(output.stderr.contains(&named), "{output:?}");
    holder.send("go");
    assert!(holder.close().success());
}
