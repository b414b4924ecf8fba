//! Proves that `penholder run` holds the lock exactly while a command runs, and that it
//! does not change the command's input, output, signals and exit code.
#![cfg(test)]

use std::fs;
#[cfg(unix)]
use std::io::Write;
use std::process::Command;
#[cfg(unix)]
use std::process::Stdio;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, PROMPT, SHELL, line};
#[cfg(unix)]
use penholder_testkit::command_fixture::{run_command, wait_for_exit};
use penholder_testkit::peer::Peer;
use penholder_testkit::wait;
#[cfg(unix)]
use penholder_testkit::{peer, requirement};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// `penholder run x.db -- sh -c SCRIPT`, or with the shell of Windows.
fn shell(fixture: &CommandFixture, script: &str) -> Command {
    let args = ["run", "x.db", "--"].into_iter().chain(SHELL);
    fixture.command(args.chain([script]))
}

#[test]
fn the_lock_is_held_while_the_command_runs() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    assert!(!fixture.is_lock_free());
    assert_eq!(fixture.status()["holder"]["pid"], holder.pid());
    holder.send("go");
    holder.expect("released");
    assert!(holder.close().success());
    assert!(fixture.is_lock_free());
    assert_eq!(fixture.read("db.lock").trim(), "");
    let files = ["db.lock", "db.lockq", "x.db"];
    assert_eq!(fixture.file_names(), files, "nothing else is created");
}

#[cfg(unix)]
#[test]
fn the_exit_code_is_that_of_the_command() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for code in [0, 1, 2, 75, 101, 255] {
        let mut command = shell(&fixture, &format!("exit {code}"));
        let status = command.stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("USR1", 138)] {
        let mut command = shell(&fixture, &format!("kill -s {signal} $$"));
        let output = run_command(&mut command, b"", wait::LIMIT);
        assert_eq!(output.code, Some(code), "{signal}");
        assert_eq!(output.stderr, "");
    }
    assert!(fixture.is_lock_free());
}

#[test]
fn a_command_that_cannot_start_gets_the_exit_code_of_a_shell() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("plain.txt"), "no program").unwrap();
    for (program, code) in [
        ("no-such-program", 127),
        ("./no-such-program", 127),
        ("/no/such/directory/program", 127),
        ("./plain.txt", 126),
        ("/", 126),
    ] {
        let output = fixture.run(["run", "x.db", "--", program]);
        let message = output.expect_failure(code);
        assert!(message.contains(program), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(fixture.is_lock_free());
}

#[cfg(unix)]
#[test]
fn input_and_output_are_those_of_the_command() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut command = shell(&fixture, "cat; echo oops >&2");
    let output = run_command(&mut command, b"hello\nworld", wait::LIMIT);
    assert_eq!(output.stderr, "oops\n");
    assert_eq!(output.expect_success(), "hello\nworld");
    let args = [
        "run", "x.db", "--", "printf", "%s|", "a b", "", "-n", "--", "$HOME",
    ];
    assert_eq!(
        fixture.run(args).expect_quiet_success(),
        "a b||-n|--|$HOME|"
    );
    let output = fixture.run(["run", "x.db", "--", "pwd"]);
    assert_eq!(
        output.expect_quiet_success().trim_end(),
        fixture.directory().to_str().unwrap()
    );
}

#[cfg(unix)]
#[test]
fn the_command_starts_as_it_would_without_penholder() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; umask; env \
                  | grep -v -e ^PENHOLDER_HOLD= -e ^_= | sort";
    let without = fixture.run_script(script).expect_quiet_success();
    let with = run_command(&mut shell(&fixture, script), b"", wait::LIMIT).expect_quiet_success();
    assert_eq!(with, without);
}

#[test]
fn a_held_lock_is_waited_for() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let mut second = Peer::spawn(shell(&fixture, "echo mine"));
    assert_eq!(second.read_line_within(Duration::from_millis(300)), None);
    holder.send("go");
    second.expect("mine");
    assert!(second.close().success());
}

#[test]
fn a_long_wait_names_the_holder() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "import"]);
    let output = fixture.run(["run", "x.db", "-w", "3", "--", "echo", "mine"]);
    let message = output.expect_failure(75);
    let waiting = "penholder: waiting for the write lock of x.db: held by pid:";
    let pid = holder.pid().to_string();
    let first = message.lines().next().unwrap();
    assert!(first.starts_with(&(waiting.to_owned() + &pid)), "{message}");
    assert!(message.contains("write lock timeout after 3s"), "{message}");
}

#[test]
fn a_wait_ends_at_its_timeout() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    for (options, code, timeout) in [
        (&["-w", "0"][..], 75, "0ms"),
        (&["-w", "0.05"], 75, "50ms"),
        (&["-w", "0", "-E", "9"], 9, "0ms"),
        (&["-w", "0.1", "--conflict-exit-code", "0"], 0, "100ms"),
    ] {
        let args = ["run", "x.db"].iter().chain(options);
        let args = args.chain(&["--", "echo", "never"]);
        let (output, time) = wait::timed(|| fixture.run(args));
        let message = output.expect_failure(code);
        let first = format!("penholder: write lock timeout after {timeout}");
        assert_eq!(message.lines().next(), Some(&*first));
        assert!(time < PROMPT, "{options:?} took {time:?}");
    }
}

#[test]
fn a_free_lock_is_acquired_without_waiting() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for options in [&["-n"][..], &["-w", "0"], &["-w", "1e15"]] {
        let args = ["run", "x.db"].iter().chain(options);
        let args = args.chain(&["--"]).chain(&SHELL);
        let output = fixture.run(args.chain(&["echo mine"]));
        assert_eq!(output.expect_quiet_success(), line("mine"), "{options:?}");
    }
}

/// Prints `ready`, then each signal of the list that it receives; exits with 5 at TERM.
#[cfg(unix)]
const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 ALRM; do trap \"echo $s\" $s; done\n\
                     trap 'echo TERM; exit 5' TERM\n\
                     echo ready; while kill -0 $PPID; do sleep 0.02; done 2>/dev/null";

#[cfg(unix)]
#[test]
fn signals_are_forwarded() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut run = Peer::spawn(shell(&fixture, TRAPS));
    run.expect("ready");
    for signal in ["USR1", "HUP", "INT", "QUIT", "USR2", "ALRM", "USR1", "TERM"] {
        run.signal(signal);
        run.expect(signal);
    }
    assert_eq!(run.close().code(), Some(5));
    assert!(fixture.is_lock_free());
}

#[cfg(unix)]
#[test]
fn a_signal_that_the_command_does_not_trap_ends_both() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "echo ready; exec sleep 60";
    let mut run = Peer::spawn(shell(&fixture, script));
    run.expect("ready");
    run.signal("TERM");
    assert_eq!(run.close().code(), Some(143));
    assert!(fixture.is_lock_free());
}

/// Counts how often it is interrupted; exits with 4.
#[cfg(unix)]
const COUNT_KEYS: &str = "n=0; trap 'n=$((n+1))' INT; echo ready\n\
                          while [ ! -e enough ] && kill -0 $PPID; do sleep 0.02; done\n\
                          echo got $n; exit 4";

#[cfg(unix)]
#[test]
fn ctrl_c_on_the_terminal_reaches_the_command_once() {
    if !requirement::has_program("script") || !requirement::has_program("setsid") {
        return;
    }
    // The terminal itself interrupts a command of its session. It does not reach a command
    // in another session, and `run` forwards the signal.
    assert_eq!(count_interrupts("sh count.sh"), 1);
    assert_eq!(count_interrupts("setsid sh count.sh"), 1);
}

/// Returns how often one Ctrl-C interrupts a command under `penholder run`.
#[cfg(unix)]
fn count_interrupts(cmd: &str) -> u32 {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("count.sh"), COUNT_KEYS).unwrap();
    // `exec`, because `script` may start a shell between itself and `penholder`, which the
    // key would end.
    let script = format!("exec \"$PENHOLDER\" run x.db -- {cmd}");
    let mut command = fixture.program("script");
    command.args(["-qec", &script, "/dev/null"]);
    let screen = fs::File::create(fixture.join("screen")).unwrap();
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(screen)
        .spawn()
        .unwrap();
    let text = || fixture.read("screen");
    wait::until("the command is ready", || text().contains("ready"));
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    wait::until("the key is echoed", || text().contains("^C"));
    std::thread::sleep(Duration::from_millis(200));
    fs::write(fixture.join("enough"), "").unwrap();
    assert_eq!(
        wait_for_exit(&mut child, wait::LIMIT).code(),
        Some(4),
        "{}",
        text()
    );
    let text = text();
    let (_, count) = text.rsplit_once("got ").unwrap();
    count.trim().parse().unwrap()
}

#[cfg(unix)]
#[test]
fn a_signal_while_waiting_ends_the_wait() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let args = ["run", "x.db", "-w", "50", "--", "echo", "never"];
    let mut waiting = Peer::spawn(fixture.command(args));
    assert_eq!(waiting.read_line_within(Duration::from_millis(300)), None);
    waiting.signal("TERM");
    let status = waiting.close();
    assert!(!status.success());
    assert_eq!(waiting.read_line_within(Duration::ZERO), None);
}

#[cfg(unix)]
#[test]
fn killing_run_frees_the_lock_even_if_the_command_lives() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "echo $$; read line; echo \"$line\"; \"$PENHOLDER\" exec x.db --timeout 0s \
                  'INSERT INTO entry VALUES (1, 1)' 2>/dev/null; echo $?; read line";
    let mut run = Peer::spawn(shell(&fixture, script));
    let pid = run.read_line();
    run.kill();
    let proc = format!("/proc/{pid}");
    assert!(fs::exists(&proc).unwrap());
    assert!(fixture.is_lock_free(), "without a delay");
    // The command that is left is like any other process.
    let mut other = fixture.hold_lock(&[]);
    run.send("on my own");
    run.expect("on my own");
    run.expect("75");
    assert!(fs::exists(&proc).unwrap());
    other.send("go");
    assert!(other.close().success());
    assert_eq!(fixture.count_entries(), 0);
    drop(run);
    wait::until("it exits with its input", || !fs::exists(&proc).unwrap());
}

#[cfg(unix)]
#[test]
fn a_background_process_of_the_command_does_not_keep_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "sleep 60 >/dev/null 2>&1 & echo $!";
    let output = run_command(&mut shell(&fixture, script), b"", wait::LIMIT);
    let pid: u32 = output.expect_quiet_success().trim().parse().unwrap();
    let (is_free, is_alive) = (
        fixture.is_lock_free(),
        fs::exists(format!("/proc/{pid}")).unwrap(),
    );
    peer::signal(pid, "KILL");
    assert!(is_free && is_alive, "{is_free} {is_alive}");
}

/// `nohup` and `&` in a shell ignore signals; the command then ignores them too.
#[cfg(unix)]
#[test]
fn ignored_signals_stay_ignored() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "trap '' HUP INT; exec \"$0\" run x.db -- grep SigIgn /proc/self/status";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_penholder")])
        .current_dir(fixture.directory());
    let mut run = Peer::spawn(command);
    let line = run.read_line();
    let mask = u64::from_str_radix(line.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 0b11, 0b11, "{line}");
    assert!(run.close().success());
}

/// The release cannot clear the record in the lock file here, because no file may grow.
#[cfg(unix)]
#[test]
fn a_failed_release_does_not_hide_the_exit_code_of_the_command() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" run x.db -- sh -c ': > db.lock; exit 7'";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_penholder")])
        .current_dir(fixture.directory());
    assert_eq!(Peer::spawn(command).close().code(), Some(7));
    assert!(fixture.is_lock_free());
}
