//! Proves that `penholder top` shows the holder and the queue, on a terminal and on a
//! pipe, and that every exit restores the terminal.
#![cfg(test)]

use std::fs;
#[cfg(unix)]
use std::process::Command;
#[cfg(unix)]
use std::time::Duration;

#[cfg(unix)]
use penholder_core::failpoint;
#[cfg(unix)]
use penholder_testkit::command_fixture::run_command;
use penholder_testkit::command_fixture::{CommandFixture, NAME};
use penholder_testkit::peer::Peer;
#[cfg(unix)]
use penholder_testkit::requirement;
#[cfg(unix)]
use penholder_testkit::terminal::Terminal;
use penholder_testkit::wait;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

const INSERT: &str = "INSERT INTO entry VALUES (1, 1)";

#[cfg(unix)]
fn top(fixture: &CommandFixture) -> Command {
    fixture.command(["top", "x.db", "--interval", "50ms"])
}

/// Starts `top` on a terminal, and waits until it has drawn.
///
/// Returns `None`, and reports a skipped test, if there can be no terminal.
#[cfg(unix)]
fn start_top(fixture: &CommandFixture) -> Option<Terminal> {
    let top = Terminal::start(&top(fixture))?;
    top.wait_until("the list of keys", |screen| screen.contains("q quit"));
    Some(top)
}

/// Starts a writer with a label, and waits until it is in the queue.
fn start_waiter(fixture: &CommandFixture, label: &str) -> Peer {
    let args = ["exec", "x.db", INSERT, "--timeout", "60s", "--label", label];
    let writer = Peer::spawn(fixture.command(args));
    wait::until("it is in the queue", || {
        let status = fixture.status();
        let mut queue = status["queue"].as_array().unwrap().iter();
        queue.any(|waiter| waiter["pid"] == writer.pid())
    });
    writer
}

/// Returns the row of the screen that starts with this text.
#[cfg(unix)]
fn row<'a>(screen: &'a str, start: &str) -> Option<&'a str> {
    screen
        .lines()
        .find(|line| line.trim_start().starts_with(start))
}

#[cfg(unix)]
#[test]
fn the_holder_and_the_queue_are_shown_live() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    assert!(top.is_alternate_screen() && top.is_raw() && !top.is_cursor_visible());
    top.wait_until("the free lock", |screen| screen.contains("free, 0 waiting"));
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let start = format!("pen {}", holder.pid());
    top.wait_until("the holder", |screen| {
        let row = row(screen, &start).unwrap_or_default();
        row.contains(" nightly ") && row.contains(" penholder run x.db")
    });
    top.wait_until("its hold", |screen| screen.contains("held, 0 waiting"));
    let mut waiter = start_waiter(&fixture, "patient");
    let start = format!("1   {}", waiter.pid());
    top.wait_until("the waiter", |screen| {
        row(screen, &start).is_some_and(|row| row.contains(" patient ") && row.contains(" 59."))
    });
    top.wait_until("the queue", |screen| screen.contains("held, 1 waiting"));
    holder.stop();
    top.wait_until("the stopped holder", |screen| {
        row(screen, "pen ").is_some_and(|row| row.contains(" STOPPED "))
    });
    holder.signal("CONT");
    holder.send("go");
    assert!(holder.wait().success() && waiter.wait().success());
    top.wait_until("the free lock again", |screen| {
        screen.contains("free, 0 waiting")
    });
    top.wait_until("the counters", |screen| {
        screen.contains(" 1 after a wait, 0 timeouts")
    });
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[cfg(unix)]
#[test]
fn events_are_shown() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = start_top(&fixture) else {
        return;
    };
    let _holder = fixture.hold_lock(&[]);
    let short_wait = [
        "exec",
        "x.db",
        INSERT,
        "--timeout",
        "20ms",
        "--label",
        "hasty",
    ];
    fixture.run(short_wait).expect_failure(75);
    top.wait_until("the timeout event", |screen| {
        screen.contains(" (hasty) gave up after ")
    });
    let length = fs::metadata(fixture.join("x.db-wal")).map_or(0, |wal| wal.len());
    assert!(
        length == 0 || top.contents().contains("WAL "),
        "{}",
        top.contents()
    );
}

#[cfg(unix)]
#[test]
fn the_rate_is_drawn_as_bars() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = start_top(&fixture) else {
        return;
    };
    let args = ["stress", "y.db", "--processes", "4", "--writes", "20000"];
    let mut stress = Peer::spawn(fixture.command(args));
    top.wait_until("the bars", |screen| {
        screen.contains('█') && !screen.contains("acquired 0/s")
    });
    stress.kill();
}

#[cfg(unix)]
#[test]
fn keys_select_show_details_and_pause() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let waiter = start_waiter(&fixture, "patient");
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.type_keys("d");
    let pid = format!("pid      {}", holder.pid());
    top.wait_until("the details of the holder", |screen| {
        screen.contains(&pid)
            && screen.contains("holds the lock")
            && screen.contains("sh -c echo held; read line;")
    });
    top.type_keys("\x1b[B");
    let pid = format!("pid      {}", waiter.pid());
    top.wait_until("the details of the waiter", |screen| {
        screen.contains(&pid) && screen.contains("is number 1 in the queue")
    });
    // The last row stays selected.
    top.type_keys("j\x1b[A\x1b[A");
    top.wait_until("the details of the holder again", |screen| {
        screen.contains("holds the lock")
    });
    top.type_keys("j");
    top.wait_until("the details of the waiter again", |screen| {
        screen.contains("is number 1 in the queue")
    });
    drop(waiter);
    top.wait_until("the end of the waiter", |screen| {
        screen.contains("neither holds the lock nor waits")
    });
    let waiter = start_waiter(&fixture, "next");
    top.type_keys("\x1b");
    top.wait_until("no details", |screen| !screen.contains("holds the lock"));
    top.wait_until("the next waiter", |screen| {
        screen.contains("held, 1 waiting")
    });
    top.type_keys("p");
    top.wait_until("the pause", |screen| screen.contains("PAUSED"));
    drop(waiter);
    wait::until("the waiter is gone", || {
        fixture.status()["queue"].as_array().unwrap().is_empty()
    });
    std::thread::sleep(Duration::from_millis(200));
    assert!(
        top.contents().contains("held, 1 waiting"),
        "{}",
        top.contents()
    );
    top.type_keys(" ");
    top.wait_until("the queue after the pause", |screen| {
        screen.contains("held, 0 waiting")
    });
}

#[cfg(unix)]
#[test]
fn every_size_of_the_terminal_works() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&["--label", "nightly"]);
    let _waiter = start_waiter(&fixture, "patient");
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.type_keys("d");
    for size in [(1, 1), (2, 80), (24, 2), (5, 20), (60, 200), (1000, 1000)] {
        top.resize(size);
        std::thread::sleep(Duration::from_millis(150));
    }
    top.type_keys("d");
    top.resize((40, 120));
    top.wait_until("the whole screen", |screen| {
        let wide = screen.lines().any(|line| line.chars().count() > 110);
        wide && screen.lines().count() == 40 && screen.contains("held, 1 waiting")
    });
    top.resize((24, 80));
    top.wait_until("the whole screen again", |screen| {
        screen.lines().count() == 24 && screen.contains("held, 1 waiting")
    });
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[cfg(unix)]
#[test]
fn every_exit_restores_the_terminal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for keys in ["q", "\x1b", "\x03"] {
        let Some(mut top) = start_top(&fixture) else {
            return;
        };
        top.type_keys(keys);
        assert_eq!(top.wait().code(), Some(0), "{keys:?}");
        top.assert_restored();
    }
    for (signal, number) in [("TERM", 15), ("INT", 2), ("HUP", 1), ("QUIT", 3)] {
        let mut top = start_top(&fixture).unwrap();
        top.signal(signal);
        assert_eq!(top.wait().code(), Some(128 + number));
        top.assert_restored();
    }
}

#[cfg(unix)]
#[test]
fn keys_are_read_although_standard_input_is_redirected() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = fixture.program("sh");
    command.args(["-c", "exec \"$PENHOLDER\" top x.db </dev/null"]);
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.wait_until("the list of keys", |screen| screen.contains("q quit"));
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[cfg(unix)]
#[test]
fn top_ends_when_its_terminal_closes() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.hang_up();
    // It ends by the signal, or because it can no longer draw.
    let status = top.wait();
    assert!(matches!(status.code(), Some(1 | 129)), "{status:?}");
}

#[cfg(unix)]
#[test]
fn a_signal_ends_top_although_the_terminal_blocks() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.stop_reading();
    // Each new size redraws the whole screen, until the buffer is full and `write` blocks.
    for rows in 0..60 {
        top.resize((100 + rows, 200));
        std::thread::sleep(Duration::from_millis(60));
    }
    top.signal("TERM");
    assert_eq!(top.wait().code(), Some(143));
    assert!(!top.is_raw());
}

#[cfg(unix)]
#[test]
fn a_panic_restores_the_terminal_and_its_message_stays() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = top(&fixture);
    command.env(failpoint::VARIABLE, "top_key PANIC 1");
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.wait_until("the list of keys", |screen| screen.contains("q quit"));
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

#[cfg(unix)]
#[test]
fn no_color_is_respected() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    holder.stop();
    for (value, expected) in [("", true), ("1", false)] {
        let mut command = top(&fixture);
        command.env("NO_COLOR", value);
        let Some(mut top) = Terminal::start(&command) else {
            return;
        };
        top.wait_until("the stopped holder", |screen| screen.contains("STOPPED"));
        top.type_keys("q");
        assert_eq!(top.wait().code(), Some(0));
        let output = top.output();
        // The row of a stopped holder is red.
        assert_eq!(output.contains("38;5;1"), expected, "{output:?}");
    }
}

#[cfg(unix)]
#[test]
fn an_unreadable_lock_file_is_reported_until_it_is_readable() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(top) = start_top(&fixture) else {
        return;
    };
    fs::rename(fixture.join("db.lock"), fixture.join("away")).unwrap();
    std::os::unix::fs::symlink("away", fixture.join("db.lock")).unwrap();
    top.wait_until("the error", |screen| screen.contains("open lock file: "));
    fs::remove_file(fixture.join("db.lock")).unwrap();
    fs::rename(fixture.join("away"), fixture.join("db.lock")).unwrap();
    top.wait_until("the end of the error", |screen| {
        !screen.contains("open lock file: ")
    });
}

#[test]
fn plain_text_is_printed_once_on_a_pipe() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let waiter = start_waiter(&fixture, "patient");
    for options in [&["--once"][..], &["--once", "--interval", "50ms"], &[]] {
        let text = fixture
            .run(["top", "x.db"].iter().chain(options))
            .expect_quiet_success();
        let start = format!("held by pid:{} since ", holder.pid());
        assert!(text.starts_with(&start), "{text}");
        let line = format!("  waiter 1: pid:{} (`{NAME} exec", waiter.pid());
        assert!(text.contains(&line), "{text}");
        assert!(
            text.contains("  lately acquired 0 times per second, "),
            "{text}"
        );
        assert!(!text.contains('\x1b'), "{text}");
    }
}

#[test]
fn plain_text_is_printed_once_on_a_terminal_if_requested() {
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

#[cfg(unix)]
#[test]
fn plain_text_is_repeated_on_a_pipe_until_the_reader_ends() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" top x.db --interval 50ms | grep -m 3 free";
    assert_eq!(
        fixture.run_script(script).expect_quiet_success(),
        "free\nfree\nfree\n"
    );
    let mut top = Peer::spawn(top(&fixture));
    top.expect("free");
    top.signal("TERM");
    assert_eq!(top.wait().code(), Some(143));
}

#[test]
fn bad_input_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for interval in ["1x", "1ms", "-1s", "2h", "soon"] {
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
fn top_creates_and_changes_nothing() {
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

/// Reading the lock table of the kernel stalls all processes that use locks. Here a pipe
/// without a writer replaces it, and a process that opens it waits for ever.
#[cfg(unix)]
#[test]
fn the_lock_table_of_the_kernel_is_not_read() {
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
    let output = run_command(&mut unshare, b"", wait::LIMIT);
    if output.code != Some(0) || output.stdout == "none\n" {
        requirement::skip("mount namespaces, which are not allowed here");
        return;
    }
    assert!(output.stdout.contains("label: nightly"), "{output:?}");
    assert!(
        output.stdout.ends_with("status: 124\n"),
        "status reads it: {output:?}"
    );
}

/// `strace` shows that `top` neither takes nor probes a lock, and does not open the
/// database.
#[cfg(unix)]
#[test]
fn nothing_is_locked_and_the_database_is_not_opened() {
    if !requirement::has_program("strace") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let mut strace = fixture.program("strace");
    strace.args(["-f", "-o", "trace", "-e", "trace=open,openat,flock,fcntl"]);
    strace.args([PENHOLDER, "top", "x.db", "--once", "--interval", "50ms"]);
    run_command(&mut strace, b"", wait::LIMIT).expect_success();
    let trace = fs::read_to_string(fixture.join("trace")).unwrap();
    assert!(trace.contains("db.lockq"), "{trace}");
    for never in [
        "x.db\"",
        "x.db-wal",
        "x.db-shm",
        "flock(",
        "SETLK",
        "GETLK",
        "/proc/locks",
    ] {
        assert!(!trace.contains(never), "{never}: {trace}");
    }
}

/// Waits until the screen shows the question for this signal and process.
#[cfg(unix)]
fn wait_for_question(top: &Terminal, signal: &str, pid: u32) {
    let ask = format!("Send {signal} to pid {pid}?");
    top.wait_until("the question", |screen| {
        screen.contains(&ask) && screen.contains("y sends it")
    });
}

/// Waits until the screen shows that nothing was sent, and no question: the same words may still be
/// there from an answer before.
#[cfg(unix)]
fn wait_for_refusal(top: &Terminal) {
    top.wait_until("the answer", |screen| {
        screen.contains("nothing was sent")
            && !screen.contains("y: yes")
            && !screen.contains("y sends it")
    });
}

#[cfg(unix)]
#[test]
fn term_after_yes_ends_the_holder_and_the_first_waiter_gets_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let mut waiter = start_waiter(&fixture, "patient");
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    let start = format!("pen {}", holder.pid());
    top.wait_until("the holder", |screen| row(screen, &start).is_some());
    for no in ["n", "\x1b", "q", "\r", "Y", "yy", "xy"] {
        top.type_keys("t");
        wait_for_question(&top, "TERM", holder.pid());
        assert!(top.contents().contains("penholder run x.db"), "{no:?}");
        top.type_keys(no);
        wait_for_refusal(&top);
    }
    std::thread::sleep(Duration::from_millis(200));
    assert!(!fixture.is_lock_free(), "no signal was sent");
    // What is typed before the question is no answer.
    top.type_keys("ty");
    wait_for_question(&top, "TERM", holder.pid());
    top.type_keys("y");
    top.wait_until("the result", |screen| {
        screen.contains("sent TERM") && screen.contains(" has ended")
    });
    assert!(!holder.wait().success());
    assert!(waiter.wait().success());
    top.type_keys("q");
    assert_eq!(top.wait().code(), Some(0));
    top.assert_restored();
}

#[cfg(unix)]
#[test]
fn cont_wakes_a_stopped_holder_and_kill_ends_the_selected_waiter() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let mut waiter = start_waiter(&fixture, "patient");
    holder.stop();
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.wait_until("the stopped holder", |screen| screen.contains("STOPPED"));
    // It acts on this only when it runs again.
    top.type_keys("j");
    top.type_keys("K");
    wait_for_question(&top, "KILL", waiter.pid());
    top.type_keys("y");
    top.wait_until("the end of the waiter", |screen| {
        screen.contains("sent KILL") && screen.contains(" has ended")
    });
    assert!(!waiter.wait().success());
    top.wait_until("the holder alone", |screen| {
        screen.contains("held, 0 waiting")
    });
    top.type_keys("c");
    wait_for_question(&top, "CONT", holder.pid());
    assert!(top.contents().contains("Lets it run again"));
    top.type_keys("y");
    top.wait_until("the holder that runs", |screen| {
        screen.contains("sent CONT") && !screen.contains("STOPPED")
    });
    holder.send("go");
    assert!(holder.wait().success());
}

#[cfg(unix)]
#[test]
fn a_process_that_ended_before_the_answer_gets_no_signal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    let start = format!("pen {}", holder.pid());
    top.wait_until("the holder", |screen| row(screen, &start).is_some());
    top.type_keys("p");
    top.wait_until("the pause", |screen| screen.contains("PAUSED"));
    top.type_keys("\x1b[20~");
    wait_for_question(&top, "TERM", holder.pid());
    holder.send("go");
    assert!(holder.wait().success());
    top.type_keys("y");
    let why = format!("TERM is not sent: pid:{} has ended", holder.pid());
    top.wait_until("why not", |screen| screen.contains(&why));
    // It is on the screen still.
    top.type_keys("K");
    let why = format!("nothing is sent: pid:{} has ended", holder.pid());
    top.wait_until("why not", |screen| screen.contains(&why));
}

#[cfg(unix)]
#[test]
fn an_outsider_in_the_way_can_be_ended() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut outsider) = fixture.outsider() else {
        return;
    };
    let mut waiter = start_waiter_behind_outsider(&fixture);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    let start = format!("out {}", outsider.pid());
    top.wait_until("the outsider", |screen| row(screen, &start).is_some());
    top.type_keys("t");
    wait_for_question(&top, "TERM", outsider.pid());
    assert!(top.contents().contains("without the write lock"));
    top.type_keys("y");
    top.wait_until("the end of the outsider", |screen| {
        screen.contains(" has ended")
    });
    assert!(!outsider.wait().success());
    assert!(waiter.wait().success());
}

/// Starts a writer that gets the write lock, and then waits for a program that writes without it.
#[cfg(unix)]
fn start_waiter_behind_outsider(fixture: &CommandFixture) -> Peer {
    Peer::spawn(fixture.command(["exec", "x.db", INSERT, "--timeout", "60s"]))
}

#[cfg(unix)]
#[test]
fn a_holder_of_another_pid_namespace_gets_no_signal() {
    if !requirement::is_root() || !requirement::has_program("unshare") {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "\"$PENHOLDER\" run x.db -- sh -c 'echo held; read line'";
    let mut unshare = fixture.program("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "sh", "-c", script]);
    let mut probe = fixture.program("unshare");
    probe.args(["--pid", "--fork", "--mount-proc", "true"]);
    if run_command(&mut probe, b"", wait::LIMIT).code != Some(0) {
        requirement::skip("pid namespaces, which are not allowed here");
        return;
    }
    let holder = Peer::spawn(unshare);
    holder.expect("held");
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    top.wait_until("the holder", |screen| row(screen, "pen ").is_some());
    top.type_keys("K");
    top.wait_until("why not", |screen| {
        screen.contains("nothing is sent: pid:") && screen.contains("in another pid namespace")
    });
    assert!(!fixture.is_lock_free());
}

#[cfg(unix)]
#[test]
fn a_process_of_another_user_gets_no_signal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut command) = fixture.command_with_threads(61_047, 64) else {
        return;
    };
    let holder = fixture.hold_lock(&[]);
    command.args(["top", "x.db", "--interval", "50ms"]);
    let Some(mut top) = Terminal::start(&command) else {
        return;
    };
    top.wait_until("the holder", |screen| row(screen, "pen ").is_some());
    top.type_keys("K");
    wait_for_question(&top, "KILL", holder.pid());
    top.type_keys("y");
    top.wait_until("why not", |screen| {
        screen.contains("belongs to another user: permission denied")
    });
    assert!(!fixture.is_lock_free());
}

#[cfg(unix)]
#[test]
fn the_first_process_of_a_container_gets_no_signal() {
    if !requirement::is_root() || !requirement::has_program("unshare") {
        return;
    }
    if !requirement::has_pid_namespaces() {
        return;
    }
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut unshare = fixture.program("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc"]);
    unshare.args([PENHOLDER, "run", "x.db", "--"]);
    unshare.args([PENHOLDER, "top", "x.db", "--interval", "50ms"]);
    let Some(mut top) = Terminal::start(&unshare) else {
        return;
    };
    top.wait_until("the holder", |screen| row(screen, "pen 1 ").is_some());
    top.type_keys("K");
    top.wait_until("why not", |screen| {
        screen.contains("is the first process of the system or container")
    });
    top.type_keys("q");
    assert!(top.wait().success());
}

#[cfg(unix)]
#[test]
fn help_is_shown_until_a_key() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    for (open, close) in [("?", "x"), ("h", "\x1b"), ("\x1bOP", "q")] {
        top.type_keys(open);
        top.wait_until("the help", |screen| {
            screen.contains("send it KILL") && screen.contains("this help")
        });
        top.type_keys(close);
        top.wait_until("no help", |screen| !screen.contains("send it KILL"));
    }
    top.resize((5, 20));
    top.type_keys("?");
    top.wait_until("its first page", |screen| screen.contains("select a"));
    top.type_keys("x");
    top.wait_until("another page", |screen| !screen.contains("select a"));
    top.type_keys("\x1b");
    top.wait_until("no help", |screen| screen.contains("free, 0 waiting"));
}

#[cfg(unix)]
#[test]
fn holder_and_queue_stay_in_small_windows() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly"]);
    let waiter = start_waiter(&fixture, "patient");
    let Some(mut top) = start_top(&fixture) else {
        return;
    };
    let pen = format!("pen {}", holder.pid());
    let first = format!("1   {}", waiter.pid());
    for size in [(2, 20), (3, 30), (5, 20), (6, 44), (10, 80), (40, 120)] {
        top.resize(size);
        top.wait_until("both", |screen| {
            row(screen, &pen).is_some() && row(screen, &first).is_some()
        });
    }
    top.resize((5, 20));
    top.wait_until("the command", |screen| {
        screen.contains("\n  penholder run x.d")
    });
    for (key, signal) in [("t", "TERM"), ("c", "CONT"), ("K", "KILL")] {
        top.type_keys(key);
        let ask = format!("{signal} to pid {}?", holder.pid());
        top.wait_until("the question", |screen| {
            let words: Vec<&str> = screen.split_whitespace().collect();
            words.join(" ").contains(&ask) && screen.contains("y: yes")
        });
        top.type_keys("n");
        wait_for_refusal(&top);
    }
    top.resize((2, 20));
    top.type_keys("K");
    top.wait_until("no room to ask", |screen| {
        screen.contains("too small to ask")
    });
    top.type_keys("y");
    top.wait_until("the refusal", |screen| screen.contains("nothing was sent"));
    assert!(!fixture.is_lock_free());
}
