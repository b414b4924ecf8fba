//! Proves that `penholder wait` ends with the next commit, of any program, that its tokens miss
//! nothing, and that `--exec` runs a command after each commit.
#![cfg(test)]

#[cfg(unix)]
use std::fs;
#[cfg(unix)]
use std::process::{Command, Stdio};
use std::time::Duration;

use penholder_testkit::command_fixture::CommandFixture;
#[cfg(unix)]
use penholder_testkit::command_fixture::{PROMPT, wait_for_exit};
use penholder_testkit::peer::Peer;
use penholder_testkit::plain_sqlite;
#[cfg(unix)]
use penholder_testkit::{peer, requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

fn token(fixture: &CommandFixture) -> String {
    let printed = fixture.run(["wait", "x.db", "--now"]);
    printed.expect_quiet_success().trim_end().to_owned()
}

/// Starts a wait, which is told to be ready by a command that it runs first.
#[cfg(unix)]
fn start(fixture: &CommandFixture, line: &str) -> Peer {
    // Not the token of this moment: the first run is at once.
    let since = ["--since", "0123456789abcdef:1"];
    let args = ["wait", "x.db", "--exec", line].into_iter().chain(since);
    let watcher = Peer::spawn(fixture.command(args));
    watcher.expect("woken");
    watcher
}

#[test]
fn a_commit_ends_the_wait_with_a_new_token() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let before = token(&fixture);
    let mut watcher = Peer::spawn(fixture.command(["wait", "x.db", "--timeout", "60s"]));
    // It may not wait yet.
    let line = loop {
        fixture.exec(INSERT);
        if let Some(line) = watcher.read_line_within(Duration::from_millis(300)) {
            break line;
        }
    };
    assert!(watcher.close().success());
    assert_ne!(line, before);
    let later = fixture.run(["wait", "x.db", "--since", &before, "--timeout", "60s"]);
    assert_ne!(later.expect_quiet_success().trim_end(), before);
}

#[test]
fn a_token_misses_nothing_between_two_waits() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut last = token(&fixture);
    for round in 0..6 {
        if round % 2 == 0 {
            fixture.exec(INSERT);
        } else {
            // Without penholder, in a process of its own.
            let Some(mut shell) = plain_sqlite::shell(&fixture.join("x.db")) else {
                return;
            };
            shell.send(&format!("{INSERT};"));
            assert!(shell.close().success());
        }
        let waited = fixture.run(["wait", "x.db", "--since", &last, "--timeout", "60s"]);
        let new = waited.expect_quiet_success().trim_end().to_owned();
        assert_ne!(new, last, "round {round}");
        last = new;
    }
}

/// It has no slot in the queue, and yet it is counted, once.
#[test]
fn a_commit_under_the_hold_of_run_ends_the_wait() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let before = token(&fixture);
    let insert = ["exec", "-q", "x.db", INSERT];
    let args = ["run", "x.db", "--", fixture.penholder()]
        .into_iter()
        .chain(insert);
    fixture.run(args).expect_quiet_success();
    let waited = fixture.run(["wait", "x.db", "--since", &before, "--timeout", "60s"]);
    let after = waited.expect_quiet_success().trim_end().to_owned();
    let count = |token: &str| token.split_once(':').unwrap().1.parse::<u64>().unwrap();
    assert_eq!(count(&after), count(&before) + 1);
    let args = ["wait", "x.db", "--since", &after, "--timeout", "150ms"];
    fixture.run(args).expect_failure(75);
}

#[test]
fn it_says_if_there_was_no_commit_in_time() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let args = ["wait", "x.db", "--timeout", "50ms"];
    let message = fixture.run(args).expect_failure(75);
    assert_eq!(message, "penholder: wait: x.db: no commit within 50ms\n");
    let output = fixture.run(["wait", "x.db", "--timeout", "50ms", "-q"]);
    assert_eq!(
        (output.code, &*output.stdout, &*output.stderr),
        (Some(75), "", "")
    );
    let args = ["wait", "x.db", "--timeout", "0", "--exec", "echo no"];
    fixture.run(args).expect_failure(75);
}

#[test]
fn a_text_that_is_no_token_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for text in [
        "",
        "1",
        "x:1",
        "0123456789abcdef",
        "0123456789abcdef:",
        "\x1b[2J",
    ] {
        let message = fixture
            .run(["wait", "x.db", &format!("--since={text}")])
            .expect_failure(2);
        assert!(!message.contains('\x1b'), "{message}");
        assert!(message.contains("not a commit token"), "{message}");
    }
}

#[test]
fn a_missing_database_is_not_created() {
    let fixture = CommandFixture::new(PENHOLDER);
    let message = fixture.run(["wait", "x.db"]).expect_failure(1);
    assert!(message.contains("there is no such database"), "{message}");
    assert_eq!(fixture.file_names(), Vec::<String>::new());
}

#[cfg(unix)]
#[test]
fn a_command_runs_after_each_commit() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut watcher = start(
        &fixture,
        "echo woken; echo $PENHOLDER_COMMIT >> tokens; sqlite3 x.db 'SELECT count(*) FROM entry'",
    );
    if !requirement::has_program("sqlite3") {
        return;
    }
    watcher.expect("0");
    for rows in 1..=3 {
        fixture.exec(INSERT);
        let expected = rows.to_string();
        wait::until("it has seen the commit", || watcher.read_line() == expected);
    }
    peer::signal(watcher.pid(), "INT");
    assert_eq!(watcher.wait().code(), Some(130));
    let tokens = fixture.read("tokens");
    // More if a writer lost its processor between its write and its commit.
    assert!(tokens.lines().count() >= 4, "{tokens}");
    let waited = fixture.run([
        "wait",
        "x.db",
        "--since",
        tokens.lines().last().unwrap(),
        "--timeout",
        "0",
    ]);
    waited.expect_failure(75);
}

/// It would be missed if the wait began with the commits from then on.
#[cfg(unix)]
#[test]
fn a_commit_while_the_command_runs_makes_it_run_again() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut watcher = start(&fixture, "echo woken; read line; echo $line");
    for round in 0..3 {
        fixture.exec(INSERT);
        watcher.send(&format!("round {round}"));
        watcher.expect(&format!("round {round}"));
        watcher.expect("woken");
    }
}

#[cfg(unix)]
#[test]
fn a_database_without_a_wal_is_watched_too() {
    let fixture = CommandFixture::new(PENHOLDER);
    let Some(mut shell) = plain_sqlite::shell(&fixture.join("x.db")) else {
        return;
    };
    for mode in ["DELETE", "TRUNCATE", "PERSIST", "MEMORY"] {
        shell.send(&format!(
            "PRAGMA journal_mode={mode}; CREATE TABLE IF NOT EXISTS t(x);"
        ));
        shell.expect(&mode.to_lowercase());
        shell.send("DELETE FROM t; INSERT INTO t VALUES (0); SELECT 'made';");
        shell.expect("made");
        let count = "echo woken; sqlite3 -cmd '.timeout 10000' x.db 'SELECT sum(x) FROM t'";
        let watcher = start(&fixture, count);
        for sum in 1..=3 {
            shell.send("BEGIN IMMEDIATE; UPDATE t SET x = x + 1; COMMIT; SELECT 'done';");
            shell.expect("done");
            let expected = sum.to_string();
            wait::until("it has seen the commit", || watcher.read_line() == expected);
        }
    }
}

#[cfg(unix)]
#[test]
fn a_command_that_fails_ends_the_wait_with_its_code() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (line, code) in [
        ("echo woken; exit 3", 3),
        ("echo woken; exit 75", 75),
        ("echo woken; kill -KILL $$", 137),
        ("echo woken; no-such-program", 127),
    ] {
        let mut watcher = start(&fixture, &format!("exec 2>&-; {line}"));
        assert_eq!(watcher.wait().code(), Some(code), "{line}");
    }
}

#[cfg(unix)]
#[test]
fn a_signal_ends_the_wait_at_once() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let mut command = fixture.command(["wait", "x.db", "--exec", "echo woken"]);
        let messages = fs::File::create(fixture.join("messages")).unwrap();
        command
            .stderr(messages)
            .stdout(Stdio::null())
            .stdin(Stdio::null());
        let mut child = command.spawn().unwrap();
        wait::until("it waits", || is_waiting(child.id()));
        peer::signal(child.id(), name);
        let (status, took) = wait::timed(|| wait_for_exit(&mut child, wait::LIMIT));
        assert_eq!(status.code(), Some(code));
        assert!(took < PROMPT, "{took:?}");
        let message = fixture.read("messages");
        let expected = format!("penholder: wait: x.db: ended by signal {}\n", code - 128);
        assert_eq!(message, expected);
    }
}

/// Returns whether the main thread of a process sleeps on a futex.
#[cfg(unix)]
fn is_waiting(pid: u32) -> bool {
    fs::read_to_string(format!("/proc/{pid}/syscall")).is_ok_and(|text| text.starts_with("202 "))
        || fs::read_to_string(format!("/proc/{pid}/wchan")).is_ok_and(|text| text.contains("futex"))
}

#[cfg(unix)]
#[test]
fn a_signal_lets_the_command_finish() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut watcher = start(
        &fixture,
        "echo woken; read line; echo $line; touch finished",
    );
    peer::signal(watcher.pid(), "TERM");
    assert_eq!(watcher.read_line_within(Duration::from_millis(200)), None);
    watcher.send("go on");
    watcher.expect("go on");
    assert_eq!(watcher.wait().code(), Some(143));
    assert!(fixture.join("finished").exists());
}

#[cfg(unix)]
#[test]
fn killed_waiters_and_writers_harm_nobody() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for _ in 0..3 {
        let mut killed: Vec<Peer> = (0..5).map(|_| start(&fixture, "echo woken")).collect();
        let survivor = start(&fixture, "echo woken");
        killed.iter_mut().for_each(Peer::kill);
        fixture.exec(INSERT);
        survivor.expect("woken");
        let mut writer = Command::new(PENHOLDER)
            .args([
                "stress",
                "x.db",
                "--force",
                "--processes",
                "2",
                "--writes",
                "100000000",
            ])
            .current_dir(fixture.directory())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        survivor.expect("woken");
        writer.kill().unwrap();
        writer.wait().unwrap();
        wait::until("the workers have ended", || fixture.is_lock_free());
        while survivor
            .read_line_within(Duration::from_millis(300))
            .is_some()
        {}
        fixture.exec(INSERT);
        survivor.expect("woken");
    }
}
