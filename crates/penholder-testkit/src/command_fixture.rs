//! A directory with a database in it, and the command `penholder` run there.
//!
//! Every command starts in the directory, so that `x.db` is its database, and without the
//! variables of the environment that change colours, widths and inherited holds.

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf, absolute};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;
use tempfile::TempDir;

use crate::peer::{self, Peer};
#[cfg(windows)]
use crate::sys;
use crate::{database_fixture, plain_sqlite, portable, requirement, wait};

/// A command that waits for nothing answers within this time, even on a loaded machine.
pub const PROMPT: Duration = Duration::from_secs(10);

/// The file name of the command under test, by which other processes see it.
pub const NAME: &str = if cfg!(windows) {
    "penholder.exe"
} else {
    "penholder"
};

/// A program that succeeds. The one of Windows prints a line.
pub const TRUE: &str = if cfg!(windows) { "hostname" } else { "true" };

/// A shell and its options, which a script follows.
pub const SHELL: [&str; 2] = if cfg!(windows) {
    ["cmd", "/c"]
} else {
    ["sh", "-c"]
};

/// A script that prints `held`, and ends when it is sent a line.
pub const HOLD: &str = if cfg!(windows) {
    "echo held& set /p line="
} else {
    "echo held; read line"
};

/// Returns a line as a program of the system writes it.
pub fn line(text: &str) -> String {
    text.to_owned() + if cfg!(windows) { "\r\n" } else { "\n" }
}

/// A new directory, removed when dropped, and the command under test.
#[derive(Debug)]
pub struct CommandFixture {
    directory: TempDir,
    penholder: String,
}

impl CommandFixture {
    /// Creates an empty directory for the command at this path, which a test of the
    /// command's crate has as `env!("CARGO_BIN_EXE_penholder")`.
    pub fn new(penholder: &'static str) -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
            penholder: match cfg!(windows) {
                // Built on Unix, it has no letter of a drive.
                true => absolute(Path::new(penholder))
                    .unwrap()
                    .into_os_string()
                    .into_string()
                    .unwrap(),
                false => penholder.to_owned(),
            },
        }
    }

    /// Creates a directory with the database `x.db`, which has a table `entry(key, value)`.
    pub fn with_table(penholder: &'static str) -> Self {
        let fixture = Self::new(penholder);
        fixture.exec("CREATE TABLE entry(key, value)");
        fixture
    }

    /// Returns the path of the directory, with symbolic links resolved, as the command spells it.
    pub fn directory(&self) -> PathBuf {
        portable::canonical(self.directory.path())
    }

    /// Returns the path of the command under test, which is the same in every directory.
    pub fn penholder(&self) -> &str {
        &self.penholder
    }

    /// Returns the path of a file in the directory.
    pub fn join(&self, name: impl AsRef<Path>) -> PathBuf {
        self.directory().join(name)
    }

    /// Returns the text of a file in the directory, empty if there is no such file.
    pub fn read(&self, name: &str) -> String {
        let bytes = fs::read(self.join(name)).unwrap_or_default();
        String::from_utf8_lossy(&bytes).into_owned()
    }

    /// Returns the names of the files in the directory, sorted, without the one that tells on Windows
    /// who works under a hold.
    pub fn file_names(&self) -> Vec<String> {
        let mut names = database_fixture::file_names(&self.directory());
        names.retain(|name| !cfg!(windows) || name != "db.lockh");
        names
    }

    /// Returns the command line of a program that starts in the directory.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.directory())
            .env("COLUMNS", "80")
            .env("PENHOLDER", &self.penholder);
        for name in ["PENHOLDER_HOLD", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    /// Returns the command line of `penholder` with these arguments.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program(&self.penholder);
        command.args(args);
        command
    }

    /// Returns `None`, and reports a skipped test: users have no numbers on Windows.
    #[cfg(windows)]
    pub fn command_with_threads(&self, _user: u32, _number: u32) -> Option<Command> {
        requirement::is_root();
        None
    }

    /// Returns the command line of `penholder` without arguments, as this user, who may have
    /// this number of threads in all processes together. Give each test a user of its own.
    ///
    /// Returns `None`, and reports a skipped test, without root and the programs for it.
    #[cfg(unix)]
    pub fn command_with_threads(&self, user: u32, number: u32) -> Option<Command> {
        if !requirement::is_root()
            || !requirement::has_program("setpriv")
            || !requirement::has_program("prlimit")
        {
            return None;
        }
        // The user may not search the directory of the build. Copied by another process: a
        // file that this one has open for writing, and with it a child that another test
        // starts at this moment, cannot be run.
        let program = self.join("penholder");
        if !program.exists() {
            let mut copy = Command::new("cp");
            let copied = copy.arg(&self.penholder).arg(&program).status();
            assert!(copied.unwrap().success());
        }
        let chown = std::os::unix::fs::chown::<PathBuf>;
        chown(self.directory(), Some(user), Some(user)).unwrap();
        for name in self.file_names() {
            chown(self.join(name), Some(user), Some(user)).unwrap();
        }
        let mut command = self.program("setpriv");
        command
            .args([format!("--reuid={user}"), format!("--regid={user}")])
            .args(["--clear-groups", "prlimit"])
            .arg(format!("--nproc={number}"))
            .arg(program);
        Some(command)
    }

    /// Runs `penholder` with an empty standard input.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> CommandOutput {
        self.run_with_input(args, "")
    }

    /// Runs `penholder` with this standard input.
    pub fn run_with_input<A: AsRef<OsStr>>(
        &self,
        args: impl IntoIterator<Item = A>,
        input: &str,
    ) -> CommandOutput {
        run_command(&mut self.command(args), input.as_bytes(), wait::LIMIT)
    }

    /// Runs a shell script in which `$PENHOLDER` is the command under test.
    pub fn run_script(&self, script: &str) -> CommandOutput {
        run_command(self.program("sh").args(["-c", script]), b"", wait::LIMIT)
    }

    /// Runs a shell command on a terminal and returns its output.
    ///
    /// Returns `None`, and reports a skipped test, if `script` is not installed.
    pub fn run_on_terminal(&self, script: &str, env: &[(&str, &str)]) -> Option<String> {
        requirement::has_program("script").then(|| {
            let mut command = self.program("script");
            command.args(["-qec", script, "/dev/null"]);
            command.envs(env.iter().copied());
            run_command(&mut command, b"", wait::LIMIT).expect_success()
        })
    }

    /// Runs `penholder exec`, which must succeed, and returns its output.
    pub fn exec(&self, sql: &str) -> String {
        self.run(["exec", "x.db", "--timeout", "30s", sql])
            .expect_success()
    }

    /// Runs `penholder query --csv` and returns the lines after the header.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let csv = self.run(["query", "x.db", "--csv", sql]).expect_success();
        csv.lines().skip(1).map(str::to_owned).collect()
    }

    /// Returns the one number that a query of plain SQLite returns.
    pub fn number(&self, sql: &str) -> i64 {
        plain_sqlite::number(&self.join("x.db"), sql)
    }

    /// Returns how many rows the table `entry` has.
    pub fn count_entries(&self) -> i64 {
        self.number("SELECT count(*) FROM entry")
    }

    /// Returns the output of `penholder status --json`.
    pub fn status(&self) -> Value {
        self.run(["status", "x.db", "--json"]).expect_json()
    }

    /// Returns whether `penholder run` gets the lock at once.
    pub fn is_lock_free(&self) -> bool {
        let output = self.run(["run", "x.db", "-n", "--", TRUE]);
        assert!(matches!(output.code, Some(0 | 75)), "{output:?}");
        output.code == Some(0)
    }

    /// Starts a `penholder run` that holds the lock until it is sent a line or dropped.
    ///
    /// Its last line is `released`.
    pub fn hold_lock(&self, options: &[&str]) -> Peer {
        let script = HOLD.to_owned() + if cfg!(windows) { "&" } else { ";" } + " echo released";
        let mut args = vec!["run", "x.db"];
        args.extend_from_slice(options);
        args.push("--");
        args.extend(SHELL);
        args.push(&script);
        let peer = Peer::spawn(self.command(args));
        peer.expect("held");
        peer
    }

    /// Starts the `sqlite3` shell in the directory, if it is installed, and begins a write
    /// transaction in it without the write lock.
    pub fn outsider(&self) -> Option<Peer> {
        self.outsider_after("BEGIN IMMEDIATE;")
    }

    /// Starts the `sqlite3` shell, which keeps the locks that it has after this SQL; `None` if it
    /// is not installed.
    pub fn outsider_after(&self, sql: &str) -> Option<Peer> {
        requirement::has_program("sqlite3").then(|| {
            let mut command = self.program("sqlite3");
            command.args(["-batch", "x.db"]);
            let mut outsider = Peer::spawn(command);
            outsider.send(&format!("{sql} SELECT 'writes';"));
            while outsider.read_line() != "writes" {}
            outsider
        })
    }
}

/// How a program ended, and its output.
#[derive(Debug, Clone)]
pub struct CommandOutput {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    /// The standard output.
    pub stdout: String,
    /// The standard error.
    pub stderr: String,
}

impl CommandOutput {
    /// Asserts that the program succeeded, and returns the standard output.
    #[track_caller]
    pub fn expect_success(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.stdout
    }

    /// Asserts that the program succeeded without a message, and returns the standard
    /// output.
    #[track_caller]
    pub fn expect_quiet_success(self) -> String {
        assert_eq!(self.stderr, "", "{self:?}");
        self.expect_success()
    }

    /// Asserts that the program failed with this code, a message and no data, and returns
    /// the message.
    #[track_caller]
    pub fn expect_failure(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.stdout, "", "no data with an error: {self:?}");
        let start = if code == 2 { "error: " } else { "penholder: " };
        let starts = self.stderr.starts_with(start) || self.stderr.starts_with("penholder: ");
        assert!(starts, "{self:?}");
        self.stderr
    }

    /// Asserts that the program succeeded, and parses the standard output as JSON.
    #[track_caller]
    pub fn expect_json(self) -> Value {
        parse_json(&self.expect_success())
    }
}

/// Parses JSON.
#[track_caller]
pub fn parse_json(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {text}"),
    }
}

/// Returns the names of the fields of an object, sorted.
#[track_caller]
pub fn field_names(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// Runs a command to its end with this standard input.
///
/// # Panics
///
/// Fails the test if the command panics, or runs longer than `limit`; then it is killed.
#[track_caller]
pub fn run_command(command: &mut Command, input: &[u8], limit: Duration) -> CommandOutput {
    command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped());
    let mut child = peer::spawn(command).unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // The command may exit before it has read everything.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let stdout = read_to_end(child.stdout.take().unwrap());
    let stderr = read_to_end(child.stderr.take().unwrap());
    let status = wait_for_exit(&mut child, limit);
    let text = |bytes: Receiver<Vec<u8>>| {
        let bytes = bytes
            .recv_timeout(wait::LIMIT)
            .expect("the pipe ends with the command");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let output = CommandOutput {
        code: status.code(),
        signal: peer::signal_of(status),
        stdout: text(stdout),
        stderr: text(stderr),
    };
    assert!(
        output.code != Some(101) && !output.stderr.contains("panicked"),
        "{command:?}: {output:?}"
    );
    output
}

fn read_to_end(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits until a child exits.
///
/// # Panics
///
/// Kills the child and fails the test if that takes longer than `limit`.
#[track_caller]
pub fn wait_for_exit(child: &mut Child, limit: Duration) -> ExitStatus {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("the command did not exit within {limit:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Returns the pids of the worker processes of a `penholder stress`, without their numbers.
#[cfg(windows)]
pub fn stress_workers(stress: &Peer) -> Vec<(u32, i64)> {
    let children = sys::children(stress.pid()).into_iter();
    children.map(|pid| (pid, 0)).collect()
}

/// Returns whether a process lives, which is a worker of a `penholder stress`.
#[cfg(windows)]
pub fn is_stress_worker(pid: u32) -> bool {
    peer::is_alive(pid)
}

/// Returns the pids and numbers of the worker processes of a `penholder stress`.
#[cfg(unix)]
pub fn stress_workers(stress: &Peer) -> Vec<(u32, i64)> {
    let children = format!("/proc/{0}/task/{0}/children", stress.pid());
    let children = fs::read_to_string(children).unwrap_or_default();
    children
        .split_whitespace()
        .filter_map(|pid| {
            let words = fs::read(format!("/proc/{pid}/cmdline")).ok()?;
            let words = String::from_utf8_lossy(&words).into_owned();
            let mut words = words.split('\0').skip_while(|&word| word != "--process");
            Some((pid.parse().ok()?, words.nth(1)?.parse().ok()?))
        })
        .collect()
}

/// Returns whether a process is a living worker of a `penholder stress`.
#[cfg(unix)]
pub fn is_stress_worker(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains("stress-worker")
}
