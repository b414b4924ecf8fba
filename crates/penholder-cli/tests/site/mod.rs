//! A folder with a database in it, and the command `penholder` at work there.
//!
//! Every command is started in the folder, so that `x.db` is its database, and
//! without what the surroundings say about colours, widths and holds.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file is a crate of its own and uses a part of it"
)]

use std::ffi::OsStr;
use std::fs;
use std::io::{Read, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

use penholder::rusqlite::Connection;
use serde_json::Value;
use tempfile::TempDir;

use crate::peer::{self, PATIENCE, Peer};

/// The command under test.
pub const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");
/// What answers without waiting for anybody answers within this time, even on a
/// loaded machine.
pub const PROMPT: Duration = Duration::from_secs(10);

/// A new folder, removed at the end.
pub struct Site {
    folder: TempDir,
}

impl Site {
    /// An empty folder.
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// A folder with the database `x.db`, which has a table `entry(key, value)`.
    pub fn with_table() -> Self {
        let site = Self::new();
        site.exec("CREATE TABLE entry(key, value)");
        site
    }

    /// The folder, without links.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub fn at(&self, name: impl AsRef<Path>) -> PathBuf {
        self.folder().join(name)
    }

    /// The names of the files in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
        let entries = fs::read_dir(self.folder()).unwrap();
        let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
        names.sort();
        names
    }

    /// A program, to be started in the folder.
    pub fn program(&self, program: impl AsRef<OsStr>) -> Command {
        let mut command = Command::new(program);
        command
            .current_dir(self.folder())
            .env("COLUMNS", "80")
            .env("PENHOLDER", PENHOLDER);
        for name in ["PENHOLDER_HOLD", "NO_COLOR", "CLICOLOR", "CLICOLOR_FORCE"] {
            command.env_remove(name);
        }
        command
    }

    /// `penholder` with these arguments, to be started.
    pub fn command<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Command {
        let mut command = self.program(PENHOLDER);
        command.args(args);
        command
    }

    /// Runs `penholder` with an empty standard input.
    pub fn run<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>) -> Done {
        self.feed(args, "")
    }

    /// Runs `penholder` with this standard input.
    pub fn feed<A: AsRef<OsStr>>(&self, args: impl IntoIterator<Item = A>, input: &str) -> Done {
        finish(&mut self.command(args), input.as_bytes(), PATIENCE)
    }

    /// Runs a shell script, in which `$PENHOLDER` is the command under test.
    pub fn shell(&self, script: &str) -> Done {
        finish(self.program("sh").args(["-c", script]), b"", PATIENCE)
    }

    /// Runs a shell command on a terminal, and returns what it shows; says aloud
    /// if there is no terminal to be had.
    pub fn terminal(&self, script: &str, env: &[(&str, &str)]) -> Option<String> {
        peer::has("script").then(|| {
            let mut command = self.program("script");
            command.args(["-qec", script, "/dev/null"]);
            command.envs(env.iter().copied());
            finish(&mut command, b"", PATIENCE).ok()
        })
    }

    /// Runs SQL that must succeed, and returns what it prints.
    pub fn exec(&self, sql: &str) -> String {
        self.run(["exec", "x.db", "--timeout", "30s", sql]).ok()
    }

    /// The lines that a query prints as CSV, without the header.
    pub fn query(&self, sql: &str) -> Vec<String> {
        let csv = self.run(["query", "x.db", "--csv", sql]).ok();
        csv.lines().skip(1).map(str::to_owned).collect()
    }

    /// What plain SQLite reads as one number.
    pub fn number(&self, sql: &str) -> i64 {
        number(&self.at("x.db"), sql)
    }

    /// How many rows the table `entry` has.
    pub fn entries(&self) -> i64 {
        self.number("SELECT count(*) FROM entry")
    }

    /// The status as JSON.
    pub fn status(&self) -> Value {
        self.run(["status", "x.db", "--json"]).json()
    }

    /// Whether the lock is free, as another `penholder run` finds it.
    pub fn is_free(&self) -> bool {
        let done = self.run(["run", "x.db", "-n", "--", "true"]);
        assert!(matches!(done.code, Some(0 | 75)), "{done:?}");
        done.code == Some(0)
    }

    /// `penholder run` that holds the lock until told a line or dropped; the
    /// last line it says then is `released`.
    pub fn hold(&self, options: &[&str]) -> Peer {
        let script = "echo held; read line; echo released";
        let mut args = vec!["run", "x.db"];
        args.extend_from_slice(options);
        args.extend(["--", "sh", "-c", script]);
        let peer = Peer::spawn(self.command(args));
        peer.expect("held");
        peer
    }

    /// The `sqlite3` shell in a write transaction, without the lock; says aloud
    /// if it is not installed.
    pub fn outsider(&self) -> Option<Peer> {
        peer::has("sqlite3").then(|| {
            let mut command = self.program("sqlite3");
            command.args(["-batch", "x.db"]);
            let mut outsider = Peer::spawn(command);
            outsider.tell("BEGIN IMMEDIATE; SELECT 'writes';");
            outsider.expect("writes");
            outsider
        })
    }
}

/// What plain SQLite reads as one number from a database.
pub fn number(path: &Path, sql: &str) -> i64 {
    let connection = Connection::open(path).unwrap();
    connection.busy_timeout(PATIENCE).unwrap();
    connection.query_row(sql, [], |row| row.get(0)).unwrap()
}

/// Asserts that SQLite finds nothing wrong with a database.
pub fn assert_whole(path: &Path) {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// How a program ended, and what it said.
#[derive(Debug, Clone)]
pub struct Done {
    /// The exit code; `None` if a signal ended it.
    pub code: Option<i32>,
    /// The signal that ended it.
    pub signal: Option<i32>,
    pub out: String,
    pub err: String,
}

impl Done {
    /// Asserts that all went well, and returns the standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, Some(0), "{self:?}");
        self.out
    }

    /// Asserts that all went well with nothing to say, and returns the standard
    /// output.
    #[track_caller]
    pub fn quiet(self) -> String {
        assert_eq!(self.err, "", "{self:?}");
        self.ok()
    }

    /// Asserts that it failed with this code, a message and no data, and returns
    /// the message.
    #[track_caller]
    pub fn failed(self, code: i32) -> String {
        assert_eq!(self.code, Some(code), "{self:?}");
        assert_eq!(self.out, "", "no data with an error: {self:?}");
        let begin = if code == 2 { "error: " } else { "penholder: " };
        let begins = self.err.starts_with(begin) || self.err.starts_with("penholder: ");
        assert!(begins, "{self:?}");
        self.err
    }

    /// Asserts that all went well, and reads the standard output as JSON.
    #[track_caller]
    pub fn json(self) -> Value {
        json(&self.ok())
    }
}

/// Reads JSON.
#[track_caller]
pub fn json(text: &str) -> Value {
    match serde_json::from_str(text) {
        Ok(value) => value,
        Err(error) => panic!("{error}: {text}"),
    }
}

/// The names of the fields of an object, sorted.
#[track_caller]
pub fn fields(value: &Value) -> Vec<&str> {
    let mut names: Vec<&str> = value
        .as_object()
        .unwrap()
        .keys()
        .map(String::as_str)
        .collect();
    names.sort_unstable();
    names
}

/// Runs a command to its end with this standard input; a command that takes
/// longer is killed, and the test fails. No command may ever panic.
#[track_caller]
pub fn finish(command: &mut Command, input: &[u8], patience: Duration) -> Done {
    let mut child = command
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = child.stdin.take().unwrap();
    let input = input.to_vec();
    // It may not want to read it.
    thread::spawn(move || drop(stdin.write_all(&input)));
    let out = drain(child.stdout.take().unwrap());
    let err = drain(child.stderr.take().unwrap());
    let status = wait(&mut child, patience);
    let text = |bytes: Receiver<Vec<u8>>| {
        let bytes = bytes
            .recv_timeout(PATIENCE)
            .expect("the pipe ends with the command");
        String::from_utf8_lossy(&bytes).into_owned()
    };
    let done = Done {
        code: status.code(),
        signal: status.signal(),
        out: text(out),
        err: text(err),
    };
    assert!(
        done.code != Some(101) && !done.err.contains("panicked"),
        "{command:?}: {done:?}"
    );
    done
}

fn drain(mut from: impl Read + Send + 'static) -> Receiver<Vec<u8>> {
    let (sender, receiver) = channel();
    thread::spawn(move || {
        let mut bytes = Vec::new();
        let _ = from.read_to_end(&mut bytes);
        let _ = sender.send(bytes);
    });
    receiver
}

/// Waits for the end of a child; one that takes longer is killed, and the test
/// fails.
#[track_caller]
pub fn wait(child: &mut Child, patience: Duration) -> ExitStatus {
    let deadline = Instant::now() + patience;
    loop {
        if let Some(status) = child.try_wait().unwrap() {
            return status;
        }
        if Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            panic!("not done after {patience:?}");
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Pids and numbers of the worker processes of a `penholder stress`.
pub fn workers(stress: &Peer) -> Vec<(u32, i64)> {
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

/// Whether this is a living worker process of a `penholder stress`.
pub fn is_worker(pid: u32) -> bool {
    let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    String::from_utf8_lossy(&words).contains("stress-worker")
}

/// How long something took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

/// Whether this process may do anything; says aloud if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        crate::peer::skip("root");
    }
    root
}

/// Whether a process can be started in a pid namespace of its own here; says
/// aloud if not.
pub fn has_namespaces() -> bool {
    if !is_root() || !peer::has("unshare") {
        return false;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "true"]);
    let allowed = unshare.status().unwrap().success();
    if !allowed {
        crate::peer::skip("pid namespaces, which are not allowed here");
    }
    allowed
}
