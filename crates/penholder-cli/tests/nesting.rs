//! Proves that penholder inside `penholder run` joins the hold instead of waiting for it,
//! that processes inside exclude one another and all processes outside, and that no
//! process joins a hold that is not above it.
#![cfg(test)]

#[cfg(unix)]
use std::fs;

#[cfg(unix)]
use penholder_testkit::command_fixture::run_command;
use penholder_testkit::command_fixture::{CommandFixture, SHELL};
#[cfg(unix)]
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::wait;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Returns the arguments of this number of nested `penholder run x.db -n --`.
fn levels(fixture: &CommandFixture, number: usize) -> Vec<&str> {
    let level = [fixture.penholder(), "run", "x.db", "-n", "--"];
    let all = level.repeat(number);
    all[1..].to_vec()
}

const INSERT: [&str; 5] = [
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
        let args = levels(&fixture, number)
            .into_iter()
            .chain([fixture.penholder()])
            .chain(INSERT);
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
        &["restore", "x.db", "copy.db", "--timeout", "0s"],
        &["run", "x.db", "-n", "--", SHELL[0], SHELL[1], "exit 0"],
    ] {
        let args = levels(&fixture, 1).into_iter().chain([fixture.penholder()]);
        fixture
            .run(args.chain(inner.iter().copied()))
            .expect_quiet_success();
    }
    assert_eq!(fixture.number("SELECT count(*) FROM penholder_stress"), 100);
    let args = levels(&fixture, 3)
        .into_iter()
        .chain([fixture.penholder(), "stress", "x.db"]);
    // Wine's server keeps a file open as often as these processes open it.
    let (writes, rows) = if cfg!(windows) {
        ("20", 160)
    } else {
        ("100", 800)
    };
    let more = ["--force", "--json", "--writes", writes];
    let report = fixture.run(args.chain(more)).expect_json();
    assert_eq!(report["rows_found"], rows);
    assert_eq!(report["failed"], 0);
}

#[cfg(unix)]
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
    let args = levels(&fixture, 1).into_iter().chain([fixture.penholder()]);
    fixture.run(args.chain(inner)).expect_success();
    let mut other = fixture.hold_lock(&["--lock-file", "other.lock"]);
    let args = levels(&fixture, 1).into_iter().chain([fixture.penholder()]);
    let message = fixture.run(args.chain(inner)).expect_failure(75);
    assert!(message.contains("other.lock"), "{message}");
    other.send("go");
    assert!(other.close().success());
}

/// Adds one to a number in a file, and records an overlap with another process.
#[cfg(unix)]
const SECTION: &str = "mkdir busy || echo overlap >>overlaps\n\
                       read -r n <count; sleep 0.005; echo $((n + 1)) >count\n\
                       rmdir busy";
/// Five sections, one after the other, each under `penholder run`.
#[cfg(unix)]
const FIVE: &str = "for i in 1 2 3 4 5; do \"$PENHOLDER\" run x.db -w 50 -- sh section.sh \
                    || echo \"failed $?\"; done";

#[cfg(unix)]
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

#[cfg(unix)]
#[test]
fn a_process_inside_waits_for_another_inside_and_names_it() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" run x.db -- sh -c 'echo held; read line' <&3 & \
                  while [ ! -e go ] && kill -0 $PPID; do sleep 0.02; done; \
                  \"$PENHOLDER\" run x.db -w 0 -- echo never 2>message; echo $?; wait";
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

#[cfg(unix)]
#[test]
fn an_old_or_forged_hold_is_ignored() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let show = ["sh", "-c", "echo \"$PENHOLDER_HOLD\""];
    let old = fixture
        .run(levels(&fixture, 1).into_iter().chain(show))
        .expect_quiet_success();
    assert!(old.contains('='), "{old}");
    let _holder = fixture.hold_lock(&[]);
    for forged in [old.trim(), "", ";;=", "1-1=1@1", "\u{1}\u{2}"] {
        let mut command = fixture.command(["run", "x.db", "-w", "0", "--", "true"]);
        let output = run_command(command.env("PENHOLDER_HOLD", forged), b"", wait::LIMIT);
        assert!(
            output.expect_failure(75).contains("write lock timeout"),
            "{forged:?}"
        );
    }
}

/// A `penholder run` in the middle is killed while its command keeps a hold of its own
/// below: the next process waits for that hold.
#[cfg(unix)]
#[test]
fn a_hold_that_outlives_a_killed_run_is_waited_for() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = r#"
        "$P" run x.db -- sh -c 'echo $PPID > middle; exec "$P" run x.db -- sh -c "echo in > inner; while [ -e inner ] && [ ! -e enough ]; do sleep 0.02; done"' &
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

/// Waits until the shell that started it is gone, then writes.
#[cfg(unix)]
const ORPHAN: &str = r#"
    starter=$1
    while kill -0 $starter 2>/dev/null; do sleep 0.02; done
    "$PENHOLDER" exec x.db --timeout 0s 'INSERT INTO entry VALUES (1, 1)' 2>message
    echo $? >result.new; mv result.new result
"#;

/// Runs a script under `penholder run`, which starts `orphan.sh` and waits for its result.
#[cfg(unix)]
fn run_with_orphan(start: &str) -> (CommandFixture, String) {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("orphan.sh"), ORPHAN).unwrap();
    let script = format!(
        "{start}; n=0; until [ -e result ]; do sleep 0.02; n=$((n+1)); [ $n -lt 2000 ] || exit 9; \
         done; cat result message"
    );
    let output = fixture.run(["run", "x.db", "-n", "--", "sh", "-c", &script]);
    let text = output.expect_quiet_success();
    (fixture, text)
}

#[cfg(unix)]
#[test]
fn descendants_whose_parents_have_ended_join() {
    for start in [
        "sh -c 'sh orphan.sh $$ &'",
        "sh -c '(sh orphan.sh $$ &) &'",
        "setsid sh -c 'setsid sh orphan.sh $$ &'",
        "\"$PENHOLDER\" run x.db -n -- sh -c 'setsid sh orphan.sh $PPID &'",
    ] {
        let (fixture, text) = run_with_orphan(start);
        assert_eq!(text, "0\npenholder: 1 row changed\n", "{start}");
        assert_eq!(fixture.count_entries(), 1);
    }
}

/// Orphans come to `penholder run`. They are reaped when they end, and their ends are not
/// taken for that of the command.
#[cfg(unix)]
#[test]
fn orphans_are_reaped_and_do_not_end_the_run() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = r#"
        for n in 1 2 3 4 5 6 7 8; do sh -c "sleep 0.0$n & echo \$! >orphan$n"; done
        n=0
        for orphan in $(cat orphan*); do
            while [ -e /proc/$orphan ]; do
                sleep 0.02; n=$((n+1)); [ $n -lt 2000 ] || exit 9
            done
        done
        sh -c 'sleep 60 & echo $! >last'
        grep PPid /proc/$(cat last)/status | cut -f 2 >parent
        echo $PPID >run
        kill $(cat last)
        exit 6
    "#;
    let output = fixture.run(["run", "x.db", "--", "sh", "-c", script]);
    assert_eq!(output.code, Some(6), "{output:?}");
    assert_eq!(fixture.read("parent"), fixture.read("run"));
}

/// A process that is not below the run has its variable, and its own.
#[cfg(unix)]
#[test]
fn a_copied_variable_lets_no_stranger_in() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "echo \"$PENHOLDER_HOLD\"; read line; \"$PENHOLDER\" exec x.db 'SELECT 1'";
    let mut holder = Peer::spawn(fixture.command(["run", "x.db", "--", "sh", "-c", script]));
    let variable = holder.read_line();
    for args in [
        &[
            "exec",
            "x.db",
            "--timeout",
            "0s",
            "INSERT INTO entry VALUES (1, 1)",
        ][..],
        &["run", "x.db", "-w", "0", "--", "touch", "started"],
    ] {
        let mut command = fixture.command(args);
        let output = run_command(command.env("PENHOLDER_HOLD", &variable), b"", wait::LIMIT);
        let message = output.expect_failure(75);
        let named = format!("holder: pid:{}", holder.pid());
        assert!(message.contains(&named), "{message}");
    }
    assert!(!fixture.join("started").exists());
    holder.send("go");
    assert!(holder.close().success());
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn a_long_chain_of_holds_is_believed() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for number in [64, 65, 66] {
        let args = levels(&fixture, number)
            .into_iter()
            .chain([fixture.penholder()])
            .chain(INSERT);
        let output = fixture.run(args);
        assert_eq!(output.stderr, "penholder: 1 row changed\n", "{number}");
    }
    assert_eq!(fixture.count_entries(), 3);
}
