//! Programs that use SQLite and load the library.
//!
//! A host gets lines and answers them: `THREAD.CONNECTION SQL` runs statements on a connection, each
//! thread one after the other, and the answer is `THREAD.CONNECTION ok ROWS` or `… error TEXT`. What
//! begins with `!` is for the host itself: `!open TIMEOUT URI` and `!close`, for example. The hosts
//! are this test binary, with the SQLite that is built in, Python with the system's, and the shell,
//! which has one connection and only gets tasks that may not leave a transaction open.

use std::cell::RefCell;
use std::collections::HashMap;
use std::collections::VecDeque;
use std::ffi::OsString;
use std::io::BufRead;
use std::path::Path;
use std::process::Command;
use std::sync::mpsc::{self, Sender};
use std::thread;
use std::time::{Duration, Instant};

use penholder::OpenOptions;
use penholder_testkit::extension_fixture::library;
use penholder_testkit::peer::{self, Peer, Role};
use penholder_testkit::{requirement, wait};
use rusqlite::backup::Progress;
use rusqlite::types::ValueRef;
use rusqlite::{Connection, OpenFlags};

pub(crate) const ROLES: [Role; 2] = [("host", play), ("database", play_database)];
const PYTHON: &str = "/usr/bin/python3";
/// How long the connections of most tests wait, in milliseconds.
pub(crate) const TIMEOUT: u32 = 20_000;

/// What a host is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Kind {
    /// This test binary, with the newest SQLite.
    Bundled,
    /// The same without the library.
    BundledPlain,
    Python,
    PythonPlain,
    Shell,
    /// A `Database` of the crate `penholder`.
    Database,
}

impl Kind {
    /// Returns whether it can be started here.
    pub(crate) fn is_there(self) -> bool {
        match self {
            Self::Bundled | Self::BundledPlain | Self::Database => true,
            Self::Python | Self::PythonPlain => requirement::has_program(PYTHON),
            Self::Shell => requirement::has_program("sqlite3"),
        }
    }

    /// Returns whether it uses the library.
    pub(crate) fn is_plain(self) -> bool {
        matches!(self, Self::BundledPlain | Self::PythonPlain)
    }
}

/// A running program.
#[derive(Debug)]
pub(crate) struct Host {
    pub(crate) kind: Kind,
    pub(crate) peer: Peer,
    answers: RefCell<VecDeque<String>>,
}

/// What a host answered.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Answer {
    pub(crate) name: String,
    pub(crate) rows: Result<String, String>,
}

impl Host {
    /// Starts one.
    pub(crate) fn start(kind: Kind, database: &Path) -> Self {
        Self::start_with(kind, database, |_| {})
    }

    /// Starts one, after a change of the command that does it.
    pub(crate) fn start_with(
        kind: Kind,
        database: &Path,
        change: impl FnOnce(&mut Command),
    ) -> Self {
        let library = library();
        let plain = Path::new("-");
        let mut command = match kind {
            Kind::Bundled => Peer::command("host", [library]),
            Kind::BundledPlain => Peer::command("host", [plain]),
            Kind::Database => Peer::command("database", [database]),
            Kind::Python | Kind::PythonPlain => {
                let mut python = Command::new(PYTHON);
                python.args(["-c", include_str!("host.py")]);
                python.arg(if kind.is_plain() { plain } else { library });
                python
            }
            Kind::Shell => {
                let mut shell = Command::new("sh");
                // Its error messages are lines too.
                shell.args(["-c", "exec sqlite3 -batch 2>&1"]);
                shell
            }
        };
        change(&mut command);
        let mut peer = Peer::spawn(command);
        if kind == Kind::Shell {
            set_up_shell(&mut peer, library, database);
        }
        let host = Self {
            kind,
            peer,
            answers: RefCell::default(),
        };
        if kind != Kind::Shell {
            let ready = host.peer.read_line();
            assert!(ready.ends_with("ready"), "{ready}");
        }
        host
    }

    /// Starts one, and opens the database as `t.c`.
    pub(crate) fn open(kind: Kind, database: &Path) -> Self {
        let mut host = Self::start(kind, database);
        if !matches!(kind, Kind::Shell | Kind::Database) {
            host.run_open("t.c", TIMEOUT, database);
        }
        host
    }

    /// Opens a connection.
    #[track_caller]
    pub(crate) fn run_open(&mut self, name: &str, timeout: u32, database: &Path) {
        let uri = format!("file:{}", database.to_str().unwrap());
        self.run(name, &format!("!open {timeout} {uri}"));
    }

    /// Sends a command without waiting for the answer.
    pub(crate) fn send(&mut self, name: &str, sql: &str) {
        match self.kind {
            Kind::Shell => self.peer.send(&format!("{sql}; SELECT '{name} ok';")),
            _ => self.peer.send(&format!("{name} {sql}")),
        }
    }

    /// Returns the next answer of any connection, if it comes within this time.
    pub(crate) fn next_answer(&self, time: Duration) -> Option<Answer> {
        let line = self.answers.borrow_mut().pop_front();
        let line = line.or_else(|| self.peer.read_line_within(time))?;
        Some(self.parse(&line))
    }

    fn parse(&self, line: &str) -> Answer {
        // Python's lines have the mark that tells a role's lines from others.
        let line = line.strip_prefix("peer> ").unwrap_or(line);
        if self.kind == Kind::Shell && !line.ends_with(" ok") {
            let (name, rows) = (String::new(), Err(line.to_owned()));
            return Answer { name, rows };
        }
        let (name, answer) = line.split_once(' ').unwrap();
        let (word, text) = answer.split_once(' ').unwrap_or((answer, ""));
        let text = text.to_owned();
        let rows = if word == "ok" { Ok(text) } else { Err(text) };
        let name = name.to_owned();
        Answer { name, rows }
    }

    /// Waits for the answer of a connection, for at most this time.
    #[track_caller]
    pub(crate) fn answer_within(
        &self,
        name: &str,
        time: Duration,
    ) -> Option<Result<String, String>> {
        let deadline = Instant::now() + time;
        let mut others = Vec::new();
        let mut found = None;
        while let Some(answer) = self.next_answer(deadline - Instant::now().min(deadline)) {
            if answer.name == name {
                found = Some(answer.rows);
                break;
            }
            others.push(match answer.rows {
                Ok(rows) => format!("{} ok {rows}", answer.name),
                Err(text) => format!("{} error {text}", answer.name),
            });
        }
        self.answers.borrow_mut().extend(others);
        found
    }

    /// Waits for the answer of a connection.
    #[track_caller]
    pub(crate) fn answer(&self, name: &str) -> Result<String, String> {
        let answer = self.answer_within(name, wait::LIMIT);
        answer.unwrap_or_else(|| panic!("{:?}: no answer of {name}", self.kind))
    }

    /// Sends a command and waits for the answer.
    #[track_caller]
    pub(crate) fn ask(&mut self, name: &str, sql: &str) -> Result<String, String> {
        self.send(name, sql);
        self.answer(name)
    }

    /// Does the same for one that must not fail.
    #[track_caller]
    pub(crate) fn run(&mut self, name: &str, sql: &str) -> String {
        let answer = self.ask(name, sql);
        answer.unwrap_or_else(|error| panic!("{:?}: {name} {sql}: {error}", self.kind))
    }
}

fn set_up_shell(peer: &mut Peer, library: &Path, database: &Path) {
    let library = library.to_str().unwrap();
    peer.send(&format!(".load {library} sqlite3_penholder_default_init"));
    peer.send(&format!(".open {}", database.to_str().unwrap()));
    peer.send(&format!(".timeout {TIMEOUT}"));
}

/// Is true for an error that says that the database is busy.
pub(crate) fn is_busy(error: &str) -> bool {
    error.contains("database is locked")
}

// ---- this test binary as a host -----------------------------------------------------------

fn play(args: &[OsString]) {
    let library = &args[0];
    // Kept open, as it makes no difference.
    let loader = Connection::open_in_memory().unwrap();
    if library != "-" {
        load(
            &loader,
            Path::new(library),
            "sqlite3_penholder_default_init",
        );
    }
    peer::send("ready");
    let mut threads = HashMap::<String, Sender<(String, String)>>::new();
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (name, sql) = line.split_once(' ').unwrap();
        let thread = name.split('.').next().unwrap().to_owned();
        let tasks = threads.entry(thread).or_insert_with(|| {
            let (sender, tasks) = mpsc::channel::<(String, String)>();
            thread::spawn(move || {
                let mut connections = HashMap::new();
                while let Ok((name, sql)) = tasks.recv() {
                    answer(&mut connections, &name, &sql);
                }
            });
            sender
        });
        tasks.send((name.to_owned(), sql.to_owned())).unwrap();
    }
    std::process::exit(0);
}

/// Loads the library into this process.
#[allow(unsafe_code, reason = "loads a library")]
pub(crate) fn load(connection: &Connection, library: &Path, entry: &str) {
    // SAFETY: nothing else uses the connection, and the library is the one under test.
    let _guard = unsafe { rusqlite::LoadExtensionGuard::new(connection) }.unwrap();
    // SAFETY: as above.
    unsafe { connection.load_extension(library, Some(entry)) }.unwrap();
}

fn answer(connections: &mut HashMap<String, Connection>, name: &str, sql: &str) {
    match run(connections, name, sql) {
        Ok(rows) => peer::send(&format!("{name} ok {rows}")),
        Err(error) => peer::send(&format!("{name} error {error}")),
    }
}

fn run(
    connections: &mut HashMap<String, Connection>,
    name: &str,
    sql: &str,
) -> rusqlite::Result<String> {
    let (word, rest) = sql.split_once(' ').unwrap_or((sql, ""));
    match word {
        "!open" => {
            let (timeout, uri) = rest.split_once(' ').unwrap();
            let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI;
            let connection = Connection::open_with_flags(uri, flags)?;
            let timeout = Duration::from_millis(timeout.parse().unwrap());
            connection.busy_timeout(timeout)?;
            connections.insert(name.to_owned(), connection);
            return Ok(String::new());
        }
        "!close" => {
            connections.remove(name);
            return Ok(String::new());
        }
        "!fds" => return Ok(open_files_and_threads()),
        _ => {}
    }
    let connection = connections.get_mut(name).unwrap();
    match word {
        "!gives_up" => connection.busy_handler(Some(|_| false))?,
        "!sleeps_by_itself" => connection.busy_handler(Some(|tries| {
            thread::sleep(Duration::from_millis(7));
            tries < 3000
        }))?,
        "!backup" => connection.backup("main", rest, None::<fn(Progress)>)?,
        _ => {
            let rows = rows_of(connection, sql);
            // Only what a task has begun itself is ended.
            if rows.is_err() && sql.contains("COMMIT") && !connection.is_autocommit() {
                let _ = connection.execute_batch("ROLLBACK");
            }
            return rows;
        }
    }
    Ok(String::new())
}

/// Runs statements; returns the rows of the last one.
fn rows_of(connection: &Connection, sql: &str) -> rusqlite::Result<String> {
    let mut last = Vec::new();
    for statement in sql
        .split(';')
        .filter(|statement| !statement.trim().is_empty())
    {
        let mut statement = connection.prepare(statement)?;
        let columns = statement.column_count();
        let mut rows = statement.query([])?;
        last.clear();
        while let Some(row) = rows.next()? {
            let values = (0..columns).map(|column| row.get_ref(column).map(text));
            last.push(values.collect::<rusqlite::Result<Vec<_>>>()?.join("|"));
        }
    }
    Ok(last.join(","))
}

fn text(value: ValueRef<'_>) -> String {
    match value {
        ValueRef::Null => String::new(),
        ValueRef::Integer(number) => number.to_string(),
        ValueRef::Real(number) => number.to_string(),
        ValueRef::Text(text) | ValueRef::Blob(text) => String::from_utf8_lossy(text).into_owned(),
    }
}

fn open_files_and_threads() -> String {
    let count = |what| {
        std::fs::read_dir(format!("/proc/self/{what}"))
            .unwrap()
            .count()
    };
    format!("{}|{}", count("fd"), count("task"))
}

fn play_database(args: &[OsString]) {
    let timeout = Duration::from_millis(TIMEOUT.into());
    let database = OpenOptions::new()
        .timeout(timeout)
        .open(Path::new(&args[0]))
        .unwrap();
    peer::send("ready");
    for line in std::io::stdin().lock().lines() {
        let line = line.unwrap();
        let (name, sql) = line.split_once(' ').unwrap();
        match database.execute(sql, ()) {
            Ok(_) => peer::send(&format!("{name} ok ")),
            Err(error) => peer::send(&format!("{name} error {error}")),
        }
    }
}
