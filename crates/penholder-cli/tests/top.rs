//! Proves that `penholder top` shows who holds and who waits, on a terminal and on a
//! pipe, and gives the terminal back on every way out.
#![cfg(test)]

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;
use std::time::Duration;

use penholder_core::failpoint;
use penholder_testkit::command_fixture::{CommandFixture, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::terminal::Terminal;
use penholder_testkit::{requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

fn top(fixture: &CommandFixture) -> Command {
    fixture.command(["top", "x.db", "--interval", "50ms"])
}

/// On a terminal, where it shows something; `None` if none can be had, which is said.
fn shown(fixture: &CommandFixture) -> Option<Terminal> {
    let top = Terminal::start(&top(fixture))?;
    top.wait_until("its keys", |shown| shown.contains("q quit"));
    Some(top)
}

/// Somebody in line, with a label.
fn waits(fixture: &CommandFixture, label: &str) -> Peer {
    let args = ["exec", "x.db", INSERT, "--timeout", "60s", "--label", label];
    let waiter = Peer::spawn(fixture.command(args));
    wait::until("it is in line", || {
        let status = fixture.status();
        let mut queue = status["queue"].as_array().unwrap().iter();
        queue.any(|place| place["pid"] == waiter.pid())
    });
    waiter
}

/// The row that begins with these words.
fn row<'a>(shown: &'a str, begin: &str) -> Option<&'a str> {
    shown
        .lines()
        .find(|line| line.trim_start().starts_with(begin))
}

#[test]
fn the_holder_and_the_line_are_shown_live() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut top) = shown(&fixture) else {
        return;
    };
    assert!(top.is_alternate_screen() && top.is_raw() && !top.is_cursor_visible());
    top.wait_until("nobody", |shown| shown.contains("free, 0 waiting"));
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let begin = format!("pen {}", holder.pid());
    top.wait_until("the holder", |shown| {
        let row = row(shown, &begin).unwrap_or_default();
        row.contains(" nightly ") && row.contains(" penholder run x.db")
    });
    top.wait_until("its hold", |shown| shown.contains("held, 0 waiting"));
    let mut waiter = waits(&fixture, "patient");
    let begin = format!("1   {}", waiter.pid());
    top.wait_until("the waiter", |shown| {
        row(shown, &begin).is_some_and(|row| row.contains(" patient ") && row.contains(" 59."))
    });
    top.wait_until("the line", |shown| shown.contains("held, 1 waiting"));
    holder.stop();
    top.wait_until("the stop", |shown| {
        row(shown, "pen ").is_some_and(|row| row.contains(" STOPPED "))
    });
    holder.signal("CONT");
    holder.send("go");
    assert!(holder.wait().success() && waiter.wait().success());
    top.wait_until("nobody again", |shown| shown.contains("free, 0 waiting"));
    top.wait_until("what was counted", |shown| {
        shown.contains(" 1 after a wait, 0 timeouts")
    });
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[test]
fn what_happens_is_shown() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = shown(&fixture) else {
        return;
    };
    let _holder = fixture.hold_lock(&[]);
    let hasty = [
        "exec",
        "x.db",
        INSERT,
        "--timeout",
        "20ms",
        "--label",
        "hasty",
    ];
    fixture.run(hasty).expect_failure(75);
    top.wait_until("the event", |shown| {
        shown.contains(" (hasty) gave up after ")
    });
    let log = fs::metadata(fixture.join("x.db-wal")).map_or(0, |log| log.len());
    assert!(
        log == 0 || top.contents().contains("WAL "),
        "{}",
        top.contents()
    );
}

#[test]
fn how_busy_it_is_is_drawn() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = shown(&fixture) else {
        return;
    };
    let args = ["stress", "y.db", "--processes", "4", "--writes", "20000"];
    let mut stress = Peer::spawn(fixture.command(args));
    top.wait_until("bars", |shown| {
        shown.contains('█') && !shown.contains("acquired 0/s")
    });
    stress.kill();
}

#[test]
fn keys_select_show_and_pause() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let waiter = waits(&fixture, "patient");
    let Some(mut top) = shown(&fixture) else {
        return;
    };
    top.type_keys("d");
    let pid = format!("pid      {}", holder.pid());
    top.wait_until("the holder's detail", |shown| {
        shown.contains(&pid)
            && shown.contains("holds the lock")
            && shown.contains("sh -c echo held; read line;")
    });
    top.type_keys("\x1b[B");
    let pid = format!("pid      {}", waiter.pid());
    top.wait_until("the waiter's detail", |shown| {
        shown.contains(&pid) && shown.contains("is number 1 in the queue")
    });
    // The last one stays selected.
    top.type_keys("j\x1b[A\x1b[A");
    top.wait_until("the first again", |shown| shown.contains("holds the lock"));
    top.type_keys("j");
    top.wait_until("the waiter's again", |shown| {
        shown.contains("is number 1 in the queue")
    });
    drop(waiter);
    top.wait_until("its end", |shown| {
        shown.contains("neither holds the lock nor waits")
    });
    let waiter = waits(&fixture, "next");
    top.type_keys("\x1b");
    top.wait_until("no detail", |shown| !shown.contains("holds the lock"));
    top.wait_until("the next", |shown| shown.contains("held, 1 waiting"));
    top.type_keys("p");
    top.wait_until("the pause", |shown| shown.contains("PAUSED"));
    drop(waiter);
    wait::until("it is gone", || {
        fixture.status()["queue"].as_array().unwrap().is_empty()
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        top.contents().contains("held, 1 waiting"),
        "{}",
        top.contents()
    );
    top.type_keys(" ");
    top.wait_until("what became of it", |shown| {
        shown.contains("held, 0 waiting")
    });
}

#[test]
fn any_size_will_do() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&["--label", "nightly"]);
    let _waiter = waits(&fixture, "patient");
    let Some(mut top) = shown(&fixture) else {
        return;
    };
    top.type_keys("d");
    for size in [(1, 1), (2, 80), (24, 2), (5, 20), (60, 200), (1000, 1000)] {
        top.resize(size);
        std::thread::sleep(Duration::from_millis(150));
    }
    top.type_keys("d");
    top.resize((40, 120));
    top.wait_until("all of it", |shown| {
        let wide = shown.lines().any(|line| line.chars().count() > 110);
        wide && shown.lines().count() == 40 && shown.contains("held, 1 waiting")
    });
    top.resize((24, 80));
    top.wait_until("as before", |shown| {
        shown.lines().count() == 24 && shown.contains("held, 1 waiting")
    });
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[test]
fn every_way_out_gives_the_terminal_back() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for keys in ["q", "\x1b", "\x03"] {
        let Some(mut top) = shown(&fixture) else {
            return;
        };
        top.type_keys(keys);
        assert_eq!(top.wait().code(), Some(0), "{keys:?}");
        top.assert_restored();
    }
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let mut top = shown(&fixture).unwrap();
        top.signal(signal);
        assert_eq!(top.wait().signal(), Some(number));
        top.assert_restored();
    }
}

#[test]
fn keys_are_heard_past_another_standard_input() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("sh");
    command.args(["-c", "exec \"$PENHOLDER\" top x.db </dev/null"]);
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.wait_until("its keys", |shown| shown.contains("q quit"));
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[test]
fn it_ends_with_its_window() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut top) = shown(&fixture) else {
        return;
    };
    top.hang_up();
    // By the signal, or because it could not draw any more, whichever it saw first.
    let status = top.wait();
    assert!(
        status.signal() == Some(1) || status.code() == Some(1),
        "{status:?}"
    );
}

#[test]
fn a_terminal_that_takes_nothing_more_keeps_it_from_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let Some(mut top) = shown(&fixture) else {
        return;
    };
    top.stop_reading();
    // Each new size draws all anew: so many kilobytes later it waits in its `write`.
    for rows in 0..60 {
        top.resize((100 + rows, 200));
        std::thread::sleep(Duration::from_millis(60));
    }
    top.signal("TERM");
    assert_eq!(top.wait().signal(), Some(15));
    assert!(!top.is_raw());
}

#[test]
fn a_panic_restores_the_terminal_and_its_message_stays() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = top(&fixture);
    command.env(failpoint::VARIABLE, "top_key PANIC 1");
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.wait_until("its keys", |shown| shown.contains("q quit"));
    assert!(top.is_alternate_screen() && top.is_raw());
    top.type_keys("x");
    assert_eq!(top.wait().code(), Some(101));
    top.assert_restored();
    wait::until("the message is on the main screen", || {
        let output = top.output();
        let (_, after) = output.rsplit_once("\x1b[?1049l").unwrap_or_default();
        after.contains("failpoint top_key")
    });
}

#[test]
fn no_color_is_respected() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    holder.stop();
    for (value, wanted) in [("", true), ("1", false)] {
        let mut command = top(&fixture);
        command.env("NO_COLOR", value);
        let Some(mut top) = Terminal::start(&command) else {
            return;
        };
        top.wait_until("the stop", |shown| shown.contains("STOPPED"));
        top.type_keys("q");
        assert_eq!(top.wait().code(), Some(0));
        let written = top.output();
        // The stopped one is red, and what is black on white.
        assert_eq!(written.contains("38;5;1"), wanted, "{written:?}");
    }
}

#[test]
fn a_lock_file_that_cannot_be_read_is_said_and_outlived() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = shown(&fixture) else {
        return;
    };
    fs::rename(fixture.join("db.lock"), fixture.join("away")).unwrap();
    std::os::unix::fs::symlink("away", fixture.join("db.lock")).unwrap();
    top.wait_until("the trouble", |shown| shown.contains("open lock file: "));
    fs::remove_file(fixture.join("db.lock")).unwrap();
    fs::rename(fixture.join("away"), fixture.join("db.lock")).unwrap();
    top.wait_until("the end of it", |shown| !shown.contains("open lock file: "));
}

#[test]
fn on_a_pipe_it_prints_one_text() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let waiter = waits(&fixture, "patient");
    for options in [&["--once"][..], &["--once", "--interval", "50ms"], &[]] {
        let text = fixture
            .run(["top", "x.db"].iter().chain(options))
            .expect_quiet_success();
        let begin = format!("held by pid:{} since ", holder.pid());
        assert!(text.starts_with(&begin), "{text}");
        let line = format!("  waiter 1: pid:{} (`penholder exec", waiter.pid());
        assert!(text.contains(&line), "{text}");
        assert!(
            text.contains("  lately acquired 0 times per second, "),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn on_a_terminal_it_prints_one_text_if_told() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (script, term) in [("top x.db --once", "xterm"), ("top x.db", "dumb")] {
        let script = format!("\"$PENHOLDER\" {script}");
        let Some(text) = fixture.run_on_terminal(&script, &[("TERM", term)]) else {
            return;
        };
        assert!(
            text.starts_with("free\r\n") && !text.contains('\x1b'),
            "{text:?}"
        );
    }
}

#[test]
fn on_a_pipe_with_an_interval_it_goes_on_until_nobody_reads() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" top x.db --interval 50ms | grep -m 3 free";
    assert_eq!(
        fixture.run_script(script).expect_quiet_success(),
        "free\nfree\nfree\n"
    );
    let mut top = Peer::spawn(top(&fixture));
    top.expect("free");
    top.signal("TERM");
    assert_eq!(top.wait().signal(), Some(15));
}

#[test]
fn bad_input_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for interval in ["1", "1ms", "-1s", "2h", "soon"] {
        let message = fixture
            .run(["top", "x.db", "--interval", interval])
            .expect_failure(2);
        assert!(message.contains("--interval"), "{message}");
    }
    let message = CommandFixture::new(PENHOLDER)
        .run(["top", "x.db"])
        .expect_failure(1);
    assert!(
        message.contains("top: x.db: there is no such database"),
        "{message}"
    );
}

#[test]
fn looking_makes_and_changes_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::remove_file(fixture.join("db.lockq")).unwrap();
    let before = fixture.file_names();
    let text = fixture
        .run(["top", "x.db", "--once", "--interval", "50ms"])
        .expect_quiet_success();
    assert!(
        text.contains("no queue: no process has created one"),
        "{text}"
    );
    assert_eq!(fixture.file_names(), before);
}

/// To read the kernel's table of locks stalls all who lock: a pipe that nobody writes
/// stands in its place, and whoever opens it waits for ever.
#[test]
fn the_table_of_locks_is_not_read() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    if !requirement::is_root() || !requirement::has_program("unshare") {
        return;
    }
    let _holder = fixture.hold_lock(&["--label", "nightly"]);
    let script = "mkfifo none && mount --bind none /proc/locks || { echo none; exit; }
        timeout 20 \"$PENHOLDER\" top x.db --once --interval 50ms
        timeout 1 \"$PENHOLDER\" status x.db; echo \"status: $?\"";
    let mut unshare = fixture.program("unshare");
    unshare.args(["--mount", "sh", "-c", script]);
    let done = run_command(&mut unshare, b"", wait::LIMIT);
    if done.code != Some(0) || done.stdout == "none\n" {
        requirement::skip("mount namespaces, which are not allowed here");
        return;
    }
    assert!(done.stdout.contains("label: nightly"), "{done:?}");
    assert!(
        done.stdout.ends_with("status: 124\n"),
        "status does: {done:?}"
    );
}

/// A program under `strace` as the kernel sees it: no lock is taken or probed, and the
/// database is not opened.
#[test]
fn nothing_is_locked_and_the_database_is_not_opened() {
    if !requirement::has_program("strace") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let mut strace = fixture.program("strace");
    strace.args(["-f", "-o", "traced", "-e", "trace=open,openat,flock,fcntl"]);
    strace.args([PENHOLDER, "top", "x.db", "--once", "--interval", "50ms"]);
    run_command(&mut strace, b"", wait::LIMIT).expect_success();
    let traced = fs::read_to_string(fixture.join("traced")).unwrap();
    assert!(traced.contains("db.lockq"), "{traced}");
    for never in [
        "x.db\"",
        "x.db-wal",
        "x.db-shm",
        "flock(",
        "SETLK",
        "GETLK",
        "/proc/locks",
    ] {
        assert!(!traced.contains(never), "{never}: {traced}");
    }
}
