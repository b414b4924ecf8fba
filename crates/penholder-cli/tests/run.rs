//! Proves that `penholder run` holds the lock exactly while a command runs, and
//! stays out of the command's way: its input, output, signals and exit code.
#![cfg(test)]

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, PROMPT, run_command, wait_for_exit};
use penholder_testkit::peer::Peer;
use penholder_testkit::{peer, requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// `penholder run x.db -- sh -c SCRIPT`.
fn shell(fixture: &CommandFixture, script: &str) -> Command {
    fixture.command(["run", "x.db", "--", "sh", "-c", script])
}

#[test]
fn the_lock_is_held_while_the_command_runs() {
    let fixture = CommandFixture::new(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    assert!(!fixture.is_lock_free());
    assert_eq!(fixture.status()["holder"]["pid"], holder.pid());
    holder.send("go");
    holder.expect("released");
    assert!(holder.close().success());
    assert!(fixture.is_lock_free());
    assert_eq!(fixture.read("db.lock").trim(), "");
    let ours = ["db.lock", "db.lockq"];
    assert_eq!(fixture.file_names(), ours, "no database is made");
}

#[test]
fn the_exit_code_is_the_commands() {
    let fixture = CommandFixture::new(PENHOLDER);
    for code in [0, 1, 2, 75, 101, 255] {
        let mut command = shell(&fixture, &format!("exit {code}"));
        let status = command.stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("USR1", 138)] {
        let mut command = shell(&fixture, &format!("kill -s {signal} $$"));
        let done = run_command(&mut command, b"", wait::LIMIT);
        assert_eq!(done.code, Some(code), "{signal}");
        assert_eq!(done.stderr, "");
    }
    assert!(fixture.is_lock_free());
}

#[test]
fn what_cannot_be_started_is_told_as_a_shell_does() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("plain.txt"), "no program").unwrap();
    for (program, code) in [
        ("no-such-program", 127),
        ("./no-such-program", 127),
        ("/no/such/folder/program", 127),
        ("./plain.txt", 126),
        ("/", 126),
    ] {
        let done = fixture.run(["run", "x.db", "--", program]);
        let message = done.expect_failure(code);
        assert!(message.contains(program), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(fixture.is_lock_free());
}

#[test]
fn input_and_output_are_the_commands() {
    let fixture = CommandFixture::new(PENHOLDER);
    let mut command = shell(&fixture, "cat; echo oops >&2");
    let done = run_command(&mut command, b"hello\nworld", wait::LIMIT);
    assert_eq!(done.stderr, "oops\n");
    assert_eq!(done.expect_success(), "hello\nworld");
    let args = [
        "run", "x.db", "--", "printf", "%s|", "a b", "", "-n", "--", "$HOME",
    ];
    assert_eq!(
        fixture.run(args).expect_quiet_success(),
        "a b||-n|--|$HOME|"
    );
    let done = fixture.run(["run", "x.db", "--", "pwd"]);
    assert_eq!(
        done.expect_quiet_success().trim_end(),
        fixture.directory().to_str().unwrap()
    );
}

#[test]
fn the_command_starts_as_it_would_without_penholder() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; umask; env \
                  | grep -v -e ^PENHOLDER_HOLD= -e ^_= | sort";
    let bare = fixture.run_script(script).expect_quiet_success();
    let under = run_command(&mut shell(&fixture, script), b"", wait::LIMIT).expect_quiet_success();
    assert_eq!(under, bare);
}

#[test]
fn a_held_lock_is_waited_for() {
    let fixture = CommandFixture::new(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let mut second = Peer::spawn(shell(&fixture, "echo mine"));
    assert_eq!(second.read_line_within(Duration::from_millis(300)), None);
    holder.send("go");
    second.expect("mine");
    assert!(second.close().success());
}

#[test]
fn a_longer_wait_says_what_for() {
    let fixture = CommandFixture::new(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "import"]);
    let done = fixture.run(["run", "x.db", "-w", "3", "--", "echo", "mine"]);
    let said = done.expect_failure(75);
    let waiting = "penholder: waiting for the write lock of x.db: held by pid:";
    let pid = holder.pid().to_string();
    let first = said.lines().next().unwrap();
    assert!(first.starts_with(&(waiting.to_owned() + &pid)), "{said}");
    assert!(said.contains("write lock timeout after 3s"), "{said}");
}

#[test]
fn a_wait_ends_in_time() {
    let fixture = CommandFixture::new(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    for (options, code, said) in [
        (&["-n"][..], 75, "0ms"),
        (&["-w", "0"], 75, "0ms"),
        (&["-w", "0.05"], 75, "50ms"),
        (&["-n", "-E", "9"], 9, "0ms"),
        (&["-w", "0.1", "--conflict-exit-code", "0"], 0, "100ms"),
    ] {
        let args = ["run", "x.db"].iter().chain(options);
        let args = args.chain(&["--", "echo", "never"]);
        let (done, time) = wait::timed(|| fixture.run(args));
        let message = done.expect_failure(code);
        let first = format!("penholder: write lock timeout after {said}");
        assert_eq!(message.lines().next(), Some(&*first));
        assert!(time < PROMPT, "{options:?} took {time:?}");
    }
}

#[test]
fn without_a_wait_a_free_lock_is_taken() {
    let fixture = CommandFixture::new(PENHOLDER);
    for options in [&["-n"][..], &["-w", "0"], &["-w", "1e15"]] {
        let args = ["run", "x.db"].iter().chain(options);
        let done = fixture.run(args.chain(&["--", "echo", "mine"]));
        assert_eq!(done.expect_quiet_success(), "mine\n", "{options:?}");
    }
}

/// Says `ready`, then each signal of the list that it gets; TERM ends it with 5.
const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 ALRM; do trap \"echo $s\" $s; done\n\
                     trap 'echo TERM; exit 5' TERM\n\
                     echo ready; while kill -0 $PPID; do sleep 0.02; done 2>/dev/null";

#[test]
fn signals_are_passed_on() {
    let fixture = CommandFixture::new(PENHOLDER);
    let mut run = Peer::spawn(shell(&fixture, TRAPS));
    run.expect("ready");
    for signal in ["USR1", "HUP", "INT", "QUIT", "USR2", "ALRM", "USR1", "TERM"] {
        run.signal(signal);
        run.expect(signal);
    }
    assert_eq!(run.close().code(), Some(5));
    assert!(fixture.is_lock_free());
}

#[test]
fn a_signal_that_the_command_does_not_trap_ends_both() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "echo ready; exec sleep 60";
    let mut run = Peer::spawn(shell(&fixture, script));
    run.expect("ready");
    run.signal("TERM");
    assert_eq!(run.close().code(), Some(143));
    assert!(fixture.is_lock_free());
}

/// Counts how often it is interrupted; ends with 4.
const COUNT_KEYS: &str = "n=0; trap 'n=$((n+1))' INT; echo ready\n\
                          while [ ! -e enough ] && kill -0 $PPID; do sleep 0.02; done\n\
                          echo got $n; exit 4";

#[test]
fn a_key_on_the_terminal_reaches_the_command_once() {
    if !requirement::has_program("script") || !requirement::has_program("setsid") {
        return;
    }
    // The terminal itself interrupts the command, once; to one in a session of
    // its own, which the terminal does not reach, the key is passed on.
    assert_eq!(interrupted("sh count.sh"), 1);
    assert_eq!(interrupted("setsid sh count.sh"), 1);
}

/// How often a command under `penholder run` is interrupted by one Ctrl-C.
fn interrupted(cmd: &str) -> u32 {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("count.sh"), COUNT_KEYS).unwrap();
    // `exec`: `script` may have started a shell that stays in between, and would
    // itself be ended by the key.
    let script = format!("exec \"$PENHOLDER\" run x.db -- {cmd}");
    let mut command = fixture.program("script");
    command.args(["-qec", &script, "/dev/null"]);
    let shown = fs::File::create(fixture.join("shown")).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(shown).spawn().unwrap();
    let shown = || fixture.read("shown");
    wait::until("the command", || shown().contains("ready"));
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    wait::until("the key", || shown().contains("^C"));
    std::thread::sleep(Duration::from_millis(200));
    fs::write(fixture.join("enough"), "").unwrap();
    assert_eq!(
        wait_for_exit(&mut child, wait::LIMIT).code(),
        Some(4),
        "{}",
        shown()
    );
    let shown = shown();
    let (_, count) = shown.rsplit_once("got ").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn a_signal_while_waiting_ends_the_wait() {
    let fixture = CommandFixture::new(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let args = ["run", "x.db", "-w", "50", "--", "echo", "never"];
    let mut waiting = Peer::spawn(fixture.command(args));
    assert_eq!(waiting.read_line_within(Duration::from_millis(300)), None);
    waiting.signal("TERM");
    let status = waiting.close();
    assert!(!status.success());
    assert_eq!(waiting.read_line_within(Duration::ZERO), None);
}

#[test]
fn when_run_is_killed_the_lock_is_free_though_the_command_lives() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "echo $$; read line; echo \"$line\"; \"$PENHOLDER\" exec x.db --timeout 0s \
                  'INSERT INTO entry VALUES (1, 1)' 2>/dev/null; echo $?; read line";
    let mut run = Peer::spawn(shell(&fixture, script));
    let pid = run.read_line();
    run.kill();
    let proc = format!("/proc/{pid}");
    assert!(fs::exists(&proc).unwrap());
    assert!(fixture.is_lock_free(), "at once");
    // What is left of it works as anybody else.
    let mut other = fixture.hold_lock(&[]);
    run.send("on my own");
    run.expect("on my own");
    run.expect("75");
    assert!(fs::exists(&proc).unwrap());
    other.send("go");
    assert!(other.close().success());
    assert_eq!(fixture.count_entries(), 0);
    drop(run);
    wait::until("its end with its input", || !fs::exists(&proc).unwrap());
}

#[test]
fn a_command_left_in_the_background_does_not_keep_the_lock() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "sleep 60 >/dev/null 2>&1 & echo $!";
    let done = run_command(&mut shell(&fixture, script), b"", wait::LIMIT);
    let pid: u32 = done.expect_quiet_success().trim().parse().unwrap();
    let (free, lives) = (
        fixture.is_lock_free(),
        fs::exists(format!("/proc/{pid}")).unwrap(),
    );
    peer::signal(pid, "KILL");
    assert!(free && lives, "{free} {lives}");
}

/// `nohup` and a shell's `&` ignore signals; the command then ignores them too.
#[test]
fn signals_that_are_ignored_stay_ignored() {
    let fixture = CommandFixture::new(PENHOLDER);
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

/// Whatever becomes of the record in the lock file: here it cannot be blanked,
/// because no file may grow.
#[test]
fn a_release_that_fails_does_not_hide_the_commands_code() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" run x.db -- sh -c ': > db.lock; exit 7'";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_penholder")])
        .current_dir(fixture.directory());
    assert_eq!(Peer::spawn(command).close().code(), Some(7));
    assert!(fixture.is_lock_free());
}
