//! Proves that a limit of processes or of the size of files is an error with a next step:
//! nothing panics, nothing is killed, and a lock is held as long as its command runs.
#![cfg(test)]
#![cfg(unix)] // limits of the shell

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::{plain_sqlite, requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Runs `penholder` with a limit of threads, in all processes together.
fn run_with_threads(
    fixture: &CommandFixture,
    (user, number): (u32, u32),
    args: &[&str],
) -> Option<CommandOutput> {
    let mut command = fixture.command_with_threads(user, number)?;
    Some(run_command(command.args(args), b"", wait::LIMIT))
}

#[test]
fn a_command_that_no_process_is_left_for_is_not_started() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let args = ["run", "x.db", "--", "touch", "started"];
    for (number, code) in [(1, 1), (2, 126)] {
        let Some(output) = run_with_threads(&fixture, (61_101, number), &args) else {
            return;
        };
        let message = output.expect_failure(code);
        assert!(message.contains("ulimit -u"), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
        assert!(fixture.is_lock_free());
    }
    let output = run_with_threads(&fixture, (61_101, 3), &args).unwrap();
    output.expect_quiet_success();
    assert!(fixture.join("started").exists());
}

/// The thread that says what `run` waits for is the third one.
#[test]
fn a_wait_without_a_thread_is_silent() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let args = ["run", "x.db", "-w", "1.5", "--", "true"];
    let Some(output) = run_with_threads(&fixture, (61_102, 2), &args) else {
        return;
    };
    let message = output.expect_failure(75);
    assert!(
        message.starts_with("penholder: write lock timeout"),
        "{message}"
    );
}

#[test]
fn a_stress_that_gets_too_few_threads_writes_nothing() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE entry(key, value)");
    let args = [
        "stress",
        "x.db",
        "--force",
        "--processes",
        "4",
        "--for",
        "60s",
    ];
    // Its own thread and the one for signals, four processes, four threads that count.
    for number in [1, 2, 4, 6, 8] {
        let Some(output) = run_with_threads(&fixture, (61_103, number), &args) else {
            return;
        };
        let message = output.expect_failure(1);
        assert!(message.contains("try fewer processes"), "{message}");
        assert_eq!(fixture.number("SELECT count(*) FROM penholder_stress"), 0);
    }
    let args = [
        "stress",
        "x.db",
        "--force",
        "--processes",
        "4",
        "--writes",
        "5",
    ];
    let output = run_with_threads(&fixture, (61_103, 10), &args).unwrap();
    output.expect_quiet_success();
}

#[test]
fn a_progress_bar_needs_no_thread() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,2\n").unwrap();
    let Some(command) = fixture.command_with_threads(61_104, 1) else {
        return;
    };
    if !requirement::has_program("script") {
        return;
    }
    let words = command.get_args().map(|word| word.to_str().unwrap());
    let words: Vec<_> = words.collect();
    let script = format!("setpriv {} import x.db entry rows.csv", words.join(" "));
    let text = fixture
        .run_on_terminal(&script, &[("TERM", "xterm")])
        .unwrap();
    assert!(text.contains("1 row imported"), "{text}");
    assert_eq!(fixture.count_entries(), 1);
}

/// Runs a shell script with a limit on the size of files.
fn run_with_file_size(fixture: &CommandFixture, bytes: u32, script: &str) -> Option<CommandOutput> {
    requirement::has_program("prlimit").then(|| {
        let mut command = fixture.program("prlimit");
        command.args([&format!("--fsize={bytes}"), "sh", "-c", script]);
        run_command(&mut command, b"", wait::LIMIT)
    })
}

#[test]
fn a_write_past_the_limit_of_file_sizes_is_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" exec x.db 'INSERT INTO entry VALUES (1, zeroblob(3000000))'";
    let Some(output) = run_with_file_size(&fixture, 1_000_000, script) else {
        return;
    };
    let message = output.expect_failure(1);
    assert!(message.contains("nothing was written"), "{message}");
    assert_eq!(fixture.count_entries(), 0);
    assert!(fixture.is_lock_free());
    fixture.exec("INSERT INTO entry VALUES (1, 1)");
    plain_sqlite::assert_integrity(&fixture.join("x.db"));

    let script = "\"$PENHOLDER\" query x.db \"SELECT printf('%.*c', 3000000, 'x')\" > output";
    let output = run_with_file_size(&fixture, 1_000_000, script).unwrap();
    let message = output.expect_failure(1);
    assert!(message.contains("write to standard output"), "{message}");
}

#[test]
fn a_command_that_runs_out_of_descriptors_says_so() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,1\n").unwrap();
    fixture.run(["backup", "x.db", "saved.db"]).expect_success();
    let commands: [&[&str]; 14] = [
        &["exec", "x.db", "INSERT INTO entry VALUES (1, 1)"],
        &[
            "exec",
            "new.db",
            "CREATE TABLE IF NOT EXISTS entry(key, value)",
        ],
        &["query", "x.db", "SELECT key FROM entry ORDER BY value"],
        &["import", "x.db", "entry", "rows.csv"],
        &["import", "x.db", "entry", "-", "--format", "csv"],
        &["backup", "x.db", "copy.db"],
        &["restore", "x.db", "saved.db"],
        &["vacuum", "x.db"],
        &["checkpoint", "x.db"],
        &["status", "x.db"],
        &["doctor", "x.db", "--json"],
        &["history", "x.db"],
        &["top", "x.db", "--once"],
        &["run", "x.db", "--", "true"],
    ];
    let mut said = 0;
    for limit in 4..16 {
        for args in commands {
            let mut command = fixture.program("sh");
            let script = format!("ulimit -n {limit}; exec \"$PENHOLDER\" \"$@\"");
            command.args(["-c", &script, "sh"]).args(args);
            let output = run_command(&mut command, b"key,value\n1,1\n", wait::LIMIT);
            let _ = fs::remove_file(fixture.join("copy.db"));
            if output.code == Some(0) {
                continue;
            }
            let text = format!("{}{}", output.stderr, output.stdout);
            assert!(
                text.contains("Too many open files"),
                "{limit} {args:?}: {text}"
            );
            assert!(!text.contains("panicked"), "{limit} {args:?}: {text}");
            assert!(!text.contains("make room"), "{limit} {args:?}: {text}");
            said += usize::from(text.contains("ulimit -n"));
        }
    }
    assert!(said > commands.len(), "{said}");
}

/// A command under `run` gets the disposition that `penholder` itself has got.
#[test]
fn a_command_has_the_signal_of_the_limit_as_without_penholder() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let grow = "sh -c 'head -c 20000 /dev/zero > large; echo grown >&2'; echo $?";
    for ignore in ["", "trap '' XFSZ; "] {
        let without = run_with_file_size(&fixture, 10_000, &format!("{ignore}{grow}"));
        let run = format!("{ignore}\"$PENHOLDER\" run x.db -- {grow}");
        let with = run_with_file_size(&fixture, 10_000, &run);
        let (Some(without), Some(with)) = (without, with) else {
            return;
        };
        assert_eq!(with.stdout, without.stdout, "{ignore}");
    }
}

/// A parent that ignores SIGCHLD, as some daemons do, has children without exit codes.
#[test]
fn the_exit_code_is_known_although_sigchld_is_ignored() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "import os, signal, sys\n\
                  signal.signal(signal.SIGCHLD, signal.SIG_IGN)\n\
                  os.execvp(sys.argv[1], sys.argv[1:])";
    if !requirement::has_program("python3") {
        return;
    }
    let mut command = fixture.program("python3");
    let inner = "sleep 0.1; exit 7";
    command.args([
        "-c", script, PENHOLDER, "run", "x.db", "--", "sh", "-c", inner,
    ]);
    assert_eq!(Peer::spawn(command).close().code(), Some(7));
}

#[test]
fn memory_that_is_used_up_is_an_error_with_a_next_step() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let blob = "randomblob(900000000)";
    for command in [
        format!("exec x.db \"INSERT INTO entry(value) VALUES ({blob})\""),
        "exec x.db 'INSERT INTO entry(value) VALUES (randomblob(?1))' 900000000".to_owned(),
        format!("query x.db 'SELECT {blob}'"),
    ] {
        let script = format!("ulimit -v 400000; $PENHOLDER {command}");
        let message = fixture.run_script(&script).expect_failure(1);
        assert!(message.contains("out of memory: free memory"), "{message}");
        assert!(message.contains("`ulimit -v`"), "{message}");
    }
    assert_eq!(fixture.count_entries(), 0);
}

/// It is made in a directory that is gone afterwards.
#[test]
fn a_database_that_cannot_be_created_is_named_by_its_own_path() {
    let fixture = CommandFixture::new(PENHOLDER);
    let create = "exec new.db 'CREATE TABLE t(a)'";
    for script in [
        format!("ulimit -f 0; $PENHOLDER {create}"),
        "$PENHOLDER exec /proc/self/new.db 'CREATE TABLE t(a)'".to_owned(),
    ] {
        let message = fixture.run_script(&script).expect_failure(1);
        assert!(message.contains("new.db: "), "{message}");
        assert!(!message.contains(".penholder-create"), "{message}");
    }
}
