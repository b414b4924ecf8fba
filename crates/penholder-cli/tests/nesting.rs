//! Proves that penholder inside `penholder run` joins the hold instead of waiting for it,
//! that processes inside exclude one another and all processes outside, and that no
//! process joins a hold that is not above it.
#![cfg(test)]

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::wait;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Returns the arguments of this number of nested `penholder run x.db -n --`.
fn levels(number: usize) -> Vec<&'static str> {
    let level = [PENHOLDER, "run", "x.db", "-n", "--"];
    let all = level.repeat(number);
    all[1..].to_vec()
}

const INSERT: [&str; 6] = [
    PENHOLDER,
    "exec",
    "x.db",
    "--timeout",
    "0s",
    "INSERT INTO entry VALUES (1, 1)",
];

#[test]
fn exec_inside_joins_at_every_level() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for number in 1..=4 {
        let args = levels(number).into_iter().chain(INSERT);
        let output = fixture.run(args);
        assert_eq!(
            output.stderr, "penholder: 1 row changed\n",
            "{number} levels"
        );
        assert_eq!(fixture.count_entries(), i64::try_from(number).unwrap());
    }
    assert!(fixture.is_lock_free());
}

#[test]
fn every_command_inside_joins() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for inner in [
        &[
            "stress",
            "x.db",
            "--force",
            "--processes",
            "4",
            "--writes",
            "25",
        ][..],
        &["checkpoint", "x.db", "--timeout", "0s"],
        &["vacuum", "x.db", "--timeout", "0s"],
        &["query", "x.db", "SELECT 1", "--timeout", "0s"],
        &["backup", "x.db", "copy.db"],
        &["run", "x.db", "-n", "--", "true"],
    ] {
        let args = levels(1).into_iter().chain([PENHOLDER]);
        fixture
            .run(args.chain(inner.iter().copied()))
            .expect_quiet_success();
    }
    assert_eq!(fixture.number("SELECT count(*) FROM penholder_stress"), 100);
    let args = levels(3).into_iter().chain([PENHOLDER, "stress", "x.db"]);
    let more = ["--force", "--json", "--writes", "100"];
    let report = fixture.run(args.chain(more)).expect_json();
    assert_eq!(report["rows_found"], 800);
    assert_eq!(report["failed"], 0);
}

#[test]
fn the_outermost_run_still_holds_after_the_inner_ones_exit() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" run x.db -n -- \"$PENHOLDER\" run x.db -n -- true; \
                  echo $?; read line";
    let outer = Peer::spawn(fixture.command(["run", "x.db", "--", "sh", "-c", script]));
    outer.expect("0");
    assert!(!fixture.is_lock_free());
    assert_eq!(fixture.status()["holder"]["pid"], outer.pid());
}

#[test]
fn a_different_lock_inside_is_acquired_as_usual() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let inner = ["exec", "x.db", "--lock-file", "other.lock", "SELECT 1"];
    let args = levels(1).into_iter().chain([PENHOLDER]);
    fixture.run(args.chain(inner)).expect_success();
    let mut other = fixture.hold_lock(&["--lock-file", "other.lock"]);
    let args = levels(1).into_iter().chain([PENHOLDER]);
    let message = fixture.run(args.chain(inner)).expect_failure(75);
    assert!(message.contains("other.lock"), "{message}");
    other.send("go");
    assert!(other.close().success());
}

/// Adds one to a number in a file, and records an overlap with another process.
const SECTION: &str = "mkdir busy || echo overlap >>overlaps\n\
                       read -r n <count; sleep 0.005; echo $((n + 1)) >count\n\
                       rmdir busy";
/// Five sections, one after the other, each under `penholder run`.
const FIVE: &str = "for i in 1 2 3 4 5; do \"$PENHOLDER\" run x.db -w 50 -- sh section.sh \
                    || echo \"failed $?\"; done";

#[test]
fn processes_inside_exclude_one_another_and_all_outside() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("section.sh"), SECTION).unwrap();
    fs::write(fixture.join("five.sh"), FIVE).unwrap();
    fs::write(fixture.join("count"), "0\n").unwrap();
    let group = "sh five.sh & sh five.sh & sh five.sh & wait";
    fs::write(fixture.join("group.sh"), group).unwrap();
    let script = "\
        \"$PENHOLDER\" run x.db -w 50 -- sh group.sh &\n\
        \"$PENHOLDER\" run x.db -w 50 -- \"$PENHOLDER\" run x.db -- sh group.sh &\n\
        sh five.sh & sh five.sh & wait";
    let mut shell = fixture.program("sh");
    let output = run_command(shell.args(["-c", script]), b"", wait::LIMIT);
    assert_eq!(output.stdout, "", "{output:?}");
    assert_eq!(fixture.read("overlaps"), "");
    // 15 in each group, 10 outside.
    assert_eq!(fixture.read("count"), "40\n");
}

#[test]
fn a_process_inside_waits_for_another_inside_and_names_it() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" run x.db -- sh -c 'echo held; read line' <&3 & \
                  while [ ! -e go ] && kill -0 $PPID; do sleep 0.02; done; \
                  \"$PENHOLDER\" run x.db -n -- echo never 2>message; echo $?; wait";
    let script = format!("exec 3<&0; {script}");
    let outer = Peer::spawn(fixture.command(["run", "x.db", "--", "sh", "-c", &script]));
    outer.expect("held");
    fs::write(fixture.join("go"), "").unwrap();
    outer.expect("75");
    let message = fixture.read("message");
    assert!(
        message.contains("write lock timeout after 0ms"),
        "{message}"
    );
    assert!(message.contains("(`penholder run x.db"), "{message}");
}

#[test]
fn an_old_or_forged_hold_is_ignored() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let show = ["sh", "-c", "echo \"$PENHOLDER_HOLD\""];
    let old = fixture
        .run(levels(1).into_iter().chain(show))
        .expect_quiet_success();
    assert!(old.contains('='), "{old}");
    let _holder = fixture.hold_lock(&[]);
    for forged in [old.trim(), "", ";;=", "1-1=1@1", "\u{1}\u{2}"] {
        let mut command = fixture.command(["run", "x.db", "-n", "--", "true"]);
        let output = run_command(command.env("PENHOLDER_HOLD", forged), b"", wait::LIMIT);
        assert!(
            output.expect_failure(75).contains("write lock timeout"),
            "{forged:?}"
        );
    }
}

/// A `penholder run` in the middle is killed while its command keeps a hold of its own
/// below: the next process waits for that hold.
#[test]
fn a_hold_that_outlives_a_killed_run_is_waited_for() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = r#"
        "$P" run x.db -- sh -c 'echo $PPID > middle; exec "$P" run x.db -- sh -c "echo in > inner; while [ ! -e enough ]; do sleep 0.02; done"' &
        n=0; until [ -s inner ]; do sleep 0.02; n=$((n+1)); [ $n -lt 1000 ] || exit 9; done
        kill -9 $(cat middle)
        "$P" run x.db -w 0.3 -- true 2>/dev/null; echo during $?
        touch enough
        "$P" run x.db -w 20 -- true; echo after $?
    "#;
    std::fs::write(fixture.join("script.sh"), script).unwrap();
    let mut command = std::process::Command::new(env!("CARGO_BIN_EXE_penholder"));
    command
        .args(["run", "x.db", "--", "sh", "script.sh"])
        .env("P", env!("CARGO_BIN_EXE_penholder"))
        .current_dir(fixture.directory());
    let mut run = Peer::spawn(command);
    run.expect("during 75");
    run.expect("after 0");
    assert!(run.close().success());
}
