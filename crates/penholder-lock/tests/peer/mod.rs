//! Helper processes for tests: this very test binary, started again in a role.
//!
//! A test file that uses it has one test more:
//!
//! ```ignore
//! #[test]
//! fn peer() {
//!     peer::play(&[("hold", hold)]);
//! }
//!
//! fn hold(args: &[OsString]) {
//!     …
//!     peer::say("held");
//!     peer::hear("release");
//! }
//! ```
//!
//! Run by the test runner it does nothing and passes; run by [`Peer::start`] it
//! plays its role. Parent and peer talk in lines over pipes. Every wait is
//! bounded, and a peer is killed when its `Peer` is dropped.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses a part of it"
)]

use std::ffi::{OsStr, OsString};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;
use std::process::{Child, ChildStdin, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

/// No wait of a test is longer; generous, because it only catches hangs.
pub const PATIENCE: Duration = Duration::from_secs(60);

const ROLE: &str = "PENHOLDER_TEST_ROLE";
const ARGS: &str = "PENHOLDER_TEST_ARGS";
/// What a line from a peer to its parent begins with, among the test runner's.
const MARK: &str = "peer> ";

/// The test that plays the roles: this module's path within its crate.
fn test() -> &'static str {
    let path = module_path!();
    path.split_once("::").map_or(path, |(_crate, test)| test)
}

/// A role: its name and what it does with its arguments.
pub type Role = (&'static str, fn(&[OsString]));

/// Plays the role that this process was started for, if it was.
pub fn play(roles: &[Role]) {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let args = std::env::var_os(ARGS).unwrap_or_default();
    let args: Vec<OsString> = args
        .as_bytes()
        .split(|&byte| byte == b'\n')
        .filter(|arg| !arg.is_empty())
        .map(|arg| OsString::from_vec(arg.to_vec()))
        .collect();
    let (_, run) = roles
        .iter()
        .find(|(name, _)| role == *name)
        .expect("the role is in the list of this test file");
    run(&args);
}

/// Says a line to the parent.
pub fn say(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// Waits for exactly this line from the parent; the end of the pipe ends the
/// process, so that no peer outlives its test.
pub fn hear(line: &str) {
    let mut heard = String::new();
    std::io::stdin().lock().read_line(&mut heard).unwrap();
    if heard.is_empty() {
        std::process::exit(1);
    }
    assert_eq!(heard.trim_end(), line);
}

/// A helper process.
pub struct Peer {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

impl Peer {
    /// Starts this test binary again in a role of its `peer` test.
    pub fn start<A: AsRef<OsStr>>(role: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(Self::command(role, args))
    }

    /// The command of [`start`](Self::start), for those who change it first.
    pub fn command<A: AsRef<OsStr>>(role: &str, args: impl IntoIterator<Item = A>) -> Command {
        let args: Vec<Vec<u8>> = args
            .into_iter()
            .map(|arg| arg.as_ref().as_bytes().to_vec())
            .collect();
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", test(), "--nocapture", "--test-threads=1"])
            .env(ROLE, role)
            .env(ARGS, OsString::from_vec(args.join(&b'\n')));
        command
    }

    /// Starts a command whose lines are read as a peer's; of a foreign program
    /// every line counts.
    pub fn spawn(mut command: Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let stdin = child.stdin.take();
        let stdout = child.stdout.take().unwrap();
        let ours = command.get_envs().any(|(name, _)| name == ROLE);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).into_owned();
                let line = match line.split_once(MARK) {
                    Some((_, line)) => line.to_owned(),
                    None if ours => continue,
                    None => line,
                };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            child,
            stdin,
            lines,
        }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line it says.
    pub fn line(&self) -> String {
        match self.lines.recv_timeout(PATIENCE) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => panic!("the peer said nothing for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => panic!("the peer ended without a word"),
        }
    }

    /// The next line, if it comes within this time.
    pub fn line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Waits for exactly this line.
    pub fn expect(&self, line: &str) {
        assert_eq!(self.line(), line);
    }

    /// Says a line to it.
    pub fn tell(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal by its name (`KILL`, `STOP`, `CONT` …).
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops it, and waits until each of its threads stands.
    pub fn stop(&self) {
        self.signal("STOP");
        let tasks = format!("/proc/{}/task", self.pid());
        until("it stands", || {
            let mut tasks = std::fs::read_dir(&tasks).unwrap().flatten();
            tasks.all(|task| {
                let stat = std::fs::read_to_string(task.path().join("stat"));
                stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
            })
        });
    }

    /// `kill -9`, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Closes its standard input and waits for its end.
    pub fn end(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.ended()
    }

    /// Waits for its end.
    pub fn ended(&mut self) -> ExitStatus {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the peer did not end in {PATIENCE:?}"
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Sends a signal by its name.
pub fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill -s {name} {pid}");
}

/// Says aloud that a test skips for want of something: past the test runner,
/// which would keep it to itself as long as the test passes.
pub fn skip(what: &str) {
    let line = format!("SKIPPED: this test needs {what}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Whether a program can be started; says aloud if not, for tests that then skip.
pub fn has(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip(&format!("the program {program}, which is not installed"));
    }
    found
}

/// Repeats until it is so, or fails the test.
pub fn until(what: &str, mut so: impl FnMut() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !so() {
        assert!(Instant::now() < deadline, "waited {PATIENCE:?} for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// The text of a lock file.
pub fn text(path: &Path) -> String {
    String::from_utf8_lossy(&std::fs::read(path).unwrap_or_default()).into_owned()
}
