//! Helper processes: the running test binary, started again in a *role*.
//!
//! A test file that uses them has one more test, called `peer`, at its root:
//!
//! ```ignore
//! #[test]
//! fn peer() {
//!     peer::run_role(&[("hold", hold)]);
//! }
//!
//! fn hold(args: &[OsString]) {
//!     let locker = WriteLocker::new(&args[0]).unwrap();
//!     let guard = locker.acquire(TIMEOUT).unwrap();
//!     peer::send("held");
//!     peer::expect("release");
//!     guard.release().unwrap();
//! }
//! ```
//!
//! If the test runner runs `peer`, it does nothing and passes. If [`Peer::start`] runs
//! it, it plays its role. The parent and the peer exchange lines over pipes. Every wait
//! is bounded, and dropping a `Peer` kills its process.

use std::ffi::{OsStr, OsString};
use std::io::{self, BufRead, BufReader, PipeReader, PipeWriter, Write};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::thread;
use std::time::{Duration, Instant};

use crate::sys::{self, NamedPipe, PipeEnd};
use crate::wait;

/// The test function that runs the roles, in every test file that has some.
const TEST: &str = "peer";
/// The variable that names the role.
const ROLE: &str = "PENHOLDER_TEST_ROLE";
/// The variable with the number of arguments of the role. Each has a variable of this name too, with
/// its own number at the end.
const ARGS: &str = "PENHOLDER_TEST_ARGS";
/// The prefix that tells a line of the role from the lines of the test runner.
const MARK: &str = "peer> ";
/// What other programs write before the end of a line.
const LINE_END: &str = if cfg!(windows) { "\r" } else { "" };

/// A role: its name and the function that plays it with its arguments.
pub type Role = (&'static str, fn(&[OsString]));

/// Plays the role that this process was started in, if there is one.
///
/// Call it from a test function named `peer` at the root of the test file.
pub fn run_role(roles: &[Role]) {
    let Some(role) = std::env::var_os(ROLE) else {
        return;
    };
    let args = std::env::var(ARGS).unwrap_or_default();
    let args: Vec<OsString> = (0..args.parse().unwrap_or(0))
        .map(|number: usize| std::env::var_os(format!("{ARGS}{number}")).unwrap_or_default())
        .collect();
    let (_, run) = roles
        .iter()
        .find(|(name, _)| role == *name)
        .expect("the role is in the list of this test file");
    run(&args);
}

/// Sends a line to the parent.
pub fn send(line: &str) {
    let mut out = std::io::stdout().lock();
    writeln!(out, "{MARK}{line}").unwrap();
    out.flush().unwrap();
}

/// Waits for exactly this line from the parent.
///
/// Exits the process if the parent closes the pipe, so that no peer outlives its test.
pub fn expect(line: &str) {
    let mut received = String::new();
    std::io::stdin().lock().read_line(&mut received).unwrap();
    if received.is_empty() {
        std::process::exit(1);
    }
    assert_eq!(received.trim_end(), line);
}

/// Returns the arguments of a role as text.
pub fn text_args(args: &[OsString]) -> Vec<&str> {
    args.iter().map(|arg| arg.to_str().unwrap()).collect()
}

/// A helper process, killed when dropped.
#[derive(Debug)]
pub struct Peer {
    process: Process,
    stdin: Option<PipeWriter>,
    lines: Receiver<String>,
}

#[derive(Debug)]
enum Process {
    Child(Child),
    /// Another process has started it.
    Other(u32),
}

impl Peer {
    /// Starts this test binary again in a role of its `peer` test.
    pub fn start<A: AsRef<OsStr>>(role: &str, args: impl IntoIterator<Item = A>) -> Self {
        Self::spawn(Self::command(role, args))
    }

    /// Returns the command that [`start`](Self::start) runs, for a test that changes it.
    pub fn command<A: AsRef<OsStr>>(role: &str, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = Command::new(std::env::current_exe().unwrap());
        command
            .args(["--exact", TEST, "--nocapture", "--test-threads=1"])
            .env(ROLE, role);
        let mut count = 0;
        for arg in args {
            command.env(format!("{ARGS}{count}"), arg);
            count += 1;
        }
        command.env(ARGS, count.to_string());
        command
    }

    /// Starts a command and reads its standard output as the peer's lines.
    ///
    /// Every line of another program counts, but only the marked ones of a role.
    pub fn spawn(mut command: Command) -> Self {
        command.stdin(Stdio::piped()).stdout(Stdio::piped());
        let mut child = spawn(&mut command).unwrap();
        let stdin = PipeEnd::from(child.stdin.take().unwrap());
        let stdout = PipeEnd::from(child.stdout.take().unwrap());
        let has_role = command.get_envs().any(|(name, _)| name == ROLE);
        Self::new(Process::Child(child), stdin.into(), stdout.into(), has_role)
    }

    /// Takes a process in a role that another process starts. `start` gets the paths of its
    /// standard input and output, and returns its pid.
    pub fn started_by(start: impl FnOnce(&str, &str) -> u32) -> Self {
        let (input, output) = (NamedPipe::to_write(), NamedPipe::to_read());
        let pid = start(&input.path(), &output.path());
        let (stdin, stdout) = (input.connect(), output.connect());
        Self::new(Process::Other(pid), stdin.into(), stdout.into(), true)
    }

    fn new(process: Process, stdin: PipeWriter, stdout: PipeReader, has_role: bool) -> Self {
        let stdin = Some(stdin);
        let (sender, lines) = channel();
        thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line);
                let line = line.strip_suffix(LINE_END).unwrap_or(&line);
                let line = match line.split_once(MARK) {
                    Some((_, line)) => line.to_owned(),
                    None if has_role => continue,
                    None => line.to_owned(),
                };
                if sender.send(line).is_err() {
                    break;
                }
            }
        });
        Self {
            process,
            stdin,
            lines,
        }
    }

    /// Returns the process id.
    pub fn pid(&self) -> u32 {
        match &self.process {
            Process::Child(child) => child.id(),
            Process::Other(pid) => *pid,
        }
    }

    /// Waits for the next line from the peer.
    #[track_caller]
    pub fn read_line(&self) -> String {
        match self.lines.recv_timeout(wait::LIMIT) {
            Ok(line) => line,
            Err(RecvTimeoutError::Timeout) => {
                panic!("the peer sent no line within {:?}", wait::LIMIT)
            }
            Err(RecvTimeoutError::Disconnected) => panic!("the peer ended and sent no line"),
        }
    }

    /// Returns the next line from the peer if it comes within this time.
    pub fn read_line_within(&self, time: Duration) -> Option<String> {
        self.lines.recv_timeout(time).ok()
    }

    /// Waits for the next line and asserts that it is this one.
    #[track_caller]
    pub fn expect(&self, line: &str) {
        assert_eq!(self.read_line(), line);
    }

    /// Sends a line to the peer.
    pub fn send(&mut self, line: &str) {
        writeln!(self.stdin.as_mut().unwrap(), "{line}").unwrap();
    }

    /// Sends a signal by its name (`KILL`, `STOP`, `CONT` …).
    pub fn signal(&self, name: &str) {
        signal(self.pid(), name);
    }

    /// Stops the process, and waits until every thread is stopped.
    pub fn stop(&self) {
        self.signal("STOP");
        wait::until("every thread is stopped", || sys::is_stopped(self.pid()));
    }

    /// Returns whether the process was stopped, or has stopped itself at a failpoint.
    pub fn has_stopped(&self) -> bool {
        sys::has_stopped(self.pid())
    }

    /// Kills the process and waits until it is gone.
    pub fn kill(&mut self) {
        match &mut self.process {
            Process::Child(child) => {
                child.kill().unwrap();
                child.wait().unwrap();
            }
            Process::Other(pid) => {
                sys::signal(*pid, "KILL");
                wait::until("the peer is gone", || !is_alive(*pid));
            }
        }
    }

    /// Closes the peer's standard input and waits until the peer exits.
    #[track_caller]
    pub fn close(&mut self) -> ExitStatus {
        drop(self.stdin.take());
        self.wait()
    }

    /// Waits until the peer, which this process has started, exits.
    #[track_caller]
    pub fn wait(&mut self) -> ExitStatus {
        let Process::Child(child) = &mut self.process else {
            panic!("its exit status is another process's");
        };
        let deadline = Instant::now() + wait::LIMIT;
        loop {
            if let Some(status) = child.try_wait().unwrap() {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the peer did not exit within {:?}",
                wait::LIMIT
            );
            thread::sleep(Duration::from_millis(2));
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        match &mut self.process {
            Process::Child(child) => {
                let _ = child.kill();
                let _ = child.wait();
            }
            // It ends with its standard input.
            Process::Other(_) => {}
        }
    }
}

/// Starts a process. Under Wine that fails now and then ("internal error").
pub(crate) fn spawn(command: &mut Command) -> io::Result<Child> {
    let tries = if cfg!(windows) { 5 } else { 1 };
    for _ in 1..tries {
        if let Ok(child) = command.spawn() {
            return Ok(child);
        }
        thread::sleep(Duration::from_millis(20));
    }
    command.spawn()
}

/// Returns whether a process lives, and is no zombie.
pub fn is_alive(pid: u32) -> bool {
    sys::is_alive(pid)
}

/// Returns whether a process was killed, as by [`Peer::kill`] or at a failpoint.
pub fn was_killed(status: ExitStatus) -> bool {
    sys::was_killed(status)
}

/// Returns the signal that ended a process; there is none on Windows.
pub fn signal_of(status: ExitStatus) -> Option<i32> {
    sys::signal_of(status)
}

/// Returns the parent of a process.
pub fn parent(pid: u32) -> u32 {
    sys::parent(pid)
}

/// Sends a signal to a process by the signal's name. Windows has `KILL`, `STOP` and `CONT`.
pub fn signal(pid: u32, name: &str) {
    sys::signal(pid, name);
}

/// Returns the same command, run by `wrapper`: a program and arguments that the program
/// to run is appended to.
pub fn wrapped(wrapper: &[&str], command: &Command) -> Command {
    let mut wrapped = Command::new(wrapper[0]);
    wrapped
        .args(&wrapper[1..])
        .arg(command.get_program())
        .args(command.get_args())
        .envs(
            command
                .get_envs()
                .filter_map(|(name, value)| Some((name, value?))),
        );
    wrapped
}
