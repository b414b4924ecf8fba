//! Proves that `penholder run` holds the lock exactly while a command runs, and
//! stays out of the command's way: its input, output, signals and exit code.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::fs;
use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use peer::{PATIENCE, Peer};
use site::{PROMPT, Site, finish, timed, wait};

/// `penholder run x.db -- sh -c SCRIPT`.
fn shell(site: &Site, script: &str) -> Command {
    site.command(["run", "x.db", "--", "sh", "-c", script])
}

#[test]
fn the_lock_is_held_while_the_command_runs() {
    let site = Site::new();
    let mut holder = site.hold(&[]);
    assert!(!site.is_free());
    assert_eq!(site.status()["holder"]["pid"], holder.pid());
    holder.tell("go");
    holder.expect("released");
    assert!(holder.end().success());
    assert!(site.is_free());
    assert_eq!(peer::text(&site.at("db.lock")).trim(), "");
    let ours = ["db.lock", "db.lockq"];
    assert_eq!(site.files(), ours, "no database is made");
}

#[test]
fn the_exit_code_is_the_commands() {
    let site = Site::new();
    for code in [0, 1, 2, 75, 101, 255] {
        let mut command = shell(&site, &format!("exit {code}"));
        let status = command.stdin(Stdio::null()).status().unwrap();
        assert_eq!(status.code(), Some(code));
    }
    for (signal, code) in [("TERM", 143), ("KILL", 137), ("INT", 130), ("USR1", 138)] {
        let mut command = shell(&site, &format!("kill -s {signal} $$"));
        let done = finish(&mut command, b"", PATIENCE);
        assert_eq!(done.code, Some(code), "{signal}");
        assert_eq!(done.err, "");
    }
    assert!(site.is_free());
}

#[test]
fn what_cannot_be_started_is_told_as_a_shell_does() {
    let site = Site::new();
    fs::write(site.at("plain.txt"), "no program").unwrap();
    for (program, code) in [
        ("no-such-program", 127),
        ("./no-such-program", 127),
        ("/no/such/folder/program", 127),
        ("./plain.txt", 126),
        ("/", 126),
    ] {
        let done = site.run(["run", "x.db", "--", program]);
        let message = done.failed(code);
        assert!(message.contains(program), "{message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(site.is_free());
}

#[test]
fn input_and_output_are_the_commands() {
    let site = Site::new();
    let mut command = shell(&site, "cat; echo oops >&2");
    let done = finish(&mut command, b"hello\nworld", PATIENCE);
    assert_eq!(done.err, "oops\n");
    assert_eq!(done.ok(), "hello\nworld");
    let args = [
        "run", "x.db", "--", "printf", "%s|", "a b", "", "-n", "--", "$HOME",
    ];
    assert_eq!(site.run(args).quiet(), "a b||-n|--|$HOME|");
    let done = site.run(["run", "x.db", "--", "pwd"]);
    assert_eq!(done.quiet().trim_end(), site.folder().to_str().unwrap());
}

#[test]
fn the_command_starts_as_it_would_without_penholder() {
    let site = Site::new();
    let script = "grep -E '^Sig(Blk|Ign|Cgt)' /proc/self/status; ls /proc/self/fd; umask; env \
                  | grep -v -e ^PENHOLDER_HOLD= -e ^_= | sort";
    let bare = site.shell(script).quiet();
    let under = finish(&mut shell(&site, script), b"", PATIENCE).quiet();
    assert_eq!(under, bare);
}

#[test]
fn a_held_lock_is_waited_for() {
    let site = Site::new();
    let mut holder = site.hold(&[]);
    let mut second = Peer::spawn(shell(&site, "echo mine"));
    assert_eq!(second.line_within(Duration::from_millis(300)), None);
    holder.tell("go");
    second.expect("mine");
    assert!(second.end().success());
}

#[test]
fn a_longer_wait_says_what_for() {
    let site = Site::new();
    let holder = site.hold(&["--label", "import"]);
    let done = site.run(["run", "x.db", "-w", "3", "--", "echo", "mine"]);
    let said = done.failed(75);
    let waiting = "penholder: waiting for the write lock of x.db: held by pid:";
    let pid = holder.pid().to_string();
    let first = said.lines().next().unwrap();
    assert!(first.starts_with(&(waiting.to_owned() + &pid)), "{said}");
    assert!(said.contains("write lock timeout after 3s"), "{said}");
}

#[test]
fn a_wait_ends_in_time() {
    let site = Site::new();
    let _holder = site.hold(&[]);
    for (options, code, said) in [
        (&["-n"][..], 75, "0ms"),
        (&["-w", "0"], 75, "0ms"),
        (&["-w", "0.05"], 75, "50ms"),
        (&["-n", "-E", "9"], 9, "0ms"),
        (&["-w", "0.1", "--conflict-exit-code", "0"], 0, "100ms"),
    ] {
        let args = ["run", "x.db"].iter().chain(options);
        let args = args.chain(&["--", "echo", "never"]);
        let (done, time) = timed(|| site.run(args));
        let message = done.failed(code);
        let first = format!("penholder: write lock timeout after {said}");
        assert_eq!(message.lines().next(), Some(&*first));
        assert!(time < PROMPT, "{options:?} took {time:?}");
    }
}

#[test]
fn without_a_wait_a_free_lock_is_taken() {
    let site = Site::new();
    for options in [&["-n"][..], &["-w", "0"], &["-w", "1e15"]] {
        let args = ["run", "x.db"].iter().chain(options);
        let done = site.run(args.chain(&["--", "echo", "mine"]));
        assert_eq!(done.quiet(), "mine\n", "{options:?}");
    }
}

/// Says `ready`, then each signal of the list that it gets; TERM ends it with 5.
const TRAPS: &str = "for s in HUP INT QUIT USR1 USR2 ALRM; do trap \"echo $s\" $s; done\n\
                     trap 'echo TERM; exit 5' TERM\n\
                     echo ready; while kill -0 $PPID; do sleep 0.02; done 2>/dev/null";

#[test]
fn signals_are_passed_on() {
    let site = Site::new();
    let mut run = Peer::spawn(shell(&site, TRAPS));
    run.expect("ready");
    for signal in ["USR1", "HUP", "INT", "QUIT", "USR2", "ALRM", "USR1", "TERM"] {
        run.signal(signal);
        run.expect(signal);
    }
    assert_eq!(run.end().code(), Some(5));
    assert!(site.is_free());
}

#[test]
fn a_signal_that_the_command_does_not_trap_ends_both() {
    let site = Site::new();
    let script = "echo ready; exec sleep 60";
    let mut run = Peer::spawn(shell(&site, script));
    run.expect("ready");
    run.signal("TERM");
    assert_eq!(run.end().code(), Some(143));
    assert!(site.is_free());
}

/// Counts how often it is interrupted; ends with 4.
const COUNT_KEYS: &str = "n=0; trap 'n=$((n+1))' INT; echo ready\n\
                          while [ ! -e enough ] && kill -0 $PPID; do sleep 0.02; done\n\
                          echo got $n; exit 4";

#[test]
fn a_key_on_the_terminal_reaches_the_command_once() {
    if !peer::has("script") || !peer::has("setsid") {
        return;
    }
    // The terminal itself interrupts the command, once; to one in a session of
    // its own, which the terminal does not reach, the key is passed on.
    assert_eq!(interrupted("sh count.sh"), 1);
    assert_eq!(interrupted("setsid sh count.sh"), 1);
}

/// How often a command under `penholder run` is interrupted by one Ctrl-C.
fn interrupted(cmd: &str) -> u32 {
    let site = Site::new();
    fs::write(site.at("count.sh"), COUNT_KEYS).unwrap();
    // `exec`: `script` may have started a shell that stays in between, and would
    // itself be ended by the key.
    let script = format!("exec \"$PENHOLDER\" run x.db -- {cmd}");
    let mut command = site.program("script");
    command.args(["-qec", &script, "/dev/null"]);
    let shown = fs::File::create(site.at("shown")).unwrap();
    let mut child = command.stdin(Stdio::piped()).stdout(shown).spawn().unwrap();
    let shown = || peer::text(&site.at("shown"));
    peer::until("the command", || shown().contains("ready"));
    let mut keys = child.stdin.take().unwrap();
    keys.write_all(b"\x03").unwrap();
    peer::until("the key", || shown().contains("^C"));
    std::thread::sleep(Duration::from_millis(200));
    fs::write(site.at("enough"), "").unwrap();
    assert_eq!(wait(&mut child, PATIENCE).code(), Some(4), "{}", shown());
    let shown = shown();
    let (_, count) = shown.rsplit_once("got ").unwrap();
    count.trim().parse().unwrap()
}

#[test]
fn a_signal_while_waiting_ends_the_wait() {
    let site = Site::new();
    let _holder = site.hold(&[]);
    let args = ["run", "x.db", "-w", "50", "--", "echo", "never"];
    let mut waiting = Peer::spawn(site.command(args));
    assert_eq!(waiting.line_within(Duration::from_millis(300)), None);
    waiting.signal("TERM");
    let status = waiting.end();
    assert!(!status.success());
    assert_eq!(waiting.line_within(Duration::ZERO), None);
}

#[test]
fn when_run_is_killed_the_lock_is_free_though_the_command_lives() {
    let site = Site::with_table();
    let script = "echo $$; read line; echo \"$line\"; \"$PENHOLDER\" exec x.db --timeout 0s \
                  'INSERT INTO entry VALUES (1, 1)' 2>/dev/null; echo $?; read line";
    let mut run = Peer::spawn(shell(&site, script));
    let pid = run.line();
    run.kill();
    let proc = format!("/proc/{pid}");
    assert!(fs::exists(&proc).unwrap());
    assert!(site.is_free(), "at once");
    // What is left of it works as anybody else.
    let mut other = site.hold(&[]);
    run.tell("on my own");
    run.expect("on my own");
    run.expect("75");
    assert!(fs::exists(&proc).unwrap());
    other.tell("go");
    assert!(other.end().success());
    assert_eq!(site.entries(), 0);
    drop(run);
    peer::until("its end with its input", || !fs::exists(&proc).unwrap());
}

#[test]
fn a_command_left_in_the_background_does_not_keep_the_lock() {
    let site = Site::new();
    let script = "sleep 60 >/dev/null 2>&1 & echo $!";
    let done = finish(&mut shell(&site, script), b"", PATIENCE);
    let pid: u32 = done.quiet().trim().parse().unwrap();
    let (free, lives) = (site.is_free(), fs::exists(format!("/proc/{pid}")).unwrap());
    peer::signal(pid, "KILL");
    assert!(free && lives, "{free} {lives}");
}

/// `nohup` and a shell's `&` ignore signals; the command then ignores them too.
#[test]
fn signals_that_are_ignored_stay_ignored() {
    let site = Site::new();
    let script = "trap '' HUP INT; exec \"$0\" run x.db -- grep SigIgn /proc/self/status";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_penholder")])
        .current_dir(site.folder());
    let mut run = Peer::spawn(command);
    let line = run.line();
    let mask = u64::from_str_radix(line.trim_start_matches("SigIgn:").trim(), 16).unwrap();
    assert_eq!(mask & 0b11, 0b11, "{line}");
    assert!(run.end().success());
}

/// Whatever becomes of the record in the lock file: here it cannot be blanked,
/// because no file may grow.
#[test]
fn a_release_that_fails_does_not_hide_the_commands_code() {
    let site = Site::new();
    let script = "trap '' XFSZ; ulimit -f 0; exec \"$0\" run x.db -- sh -c ': > db.lock; exit 7'";
    let mut command = Command::new("sh");
    command
        .args(["-c", script, env!("CARGO_BIN_EXE_penholder")])
        .current_dir(site.folder());
    assert_eq!(Peer::spawn(command).end().code(), Some(7));
    assert!(site.is_free());
}
