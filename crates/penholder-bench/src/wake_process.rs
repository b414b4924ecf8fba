//! A process that waits for commits to a database, and reports when it learned of them.

use std::error::Error;
use std::fmt;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use clap::ValueEnum;
use penholder::{Commits, Database};
use rusqlite::Connection;

use crate::clock::{self, Nanos};
use crate::process::Process;
use crate::system;

/// How long a process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// How often a poller asks.
const POLL: Duration = Duration::from_millis(1);

/// How a process waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum WaitKind {
    /// `Database::commits`
    Penholder,
    /// `PRAGMA data_version` every millisecond
    Poller,
}

impl fmt::Display for WaitKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Penholder => "penholder",
            Self::Poller => "poller",
        })
    }
}

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    kind: WaitKind,
    #[arg(long)]
    database: PathBuf,
    #[arg(long)]
    cpu: Option<usize>,
}

/// Answers requests from the standard input:
///
/// - `wait`: prints `waiting`, waits for a commit, and prints when it learned of it;
/// - `follow`: prints `following`, and waits for one commit after the other until it is killed;
/// - `rest N`: waits for N milliseconds, and prints the CPU time that this took.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    system::end_with_parent()?;
    if let Some(cpu) = args.cpu {
        system::pin(cpu)?;
    }
    let mut waiter = Waiter::open(args.kind, &args.database)?;
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        match line.split_once(' ') {
            Some((_, time)) => {
                let before = clock::cpu_time();
                waiter.wait(Duration::from_millis(time.parse()?))?;
                print(clock::cpu_time() - before)?;
            }
            None if line == "wait" => {
                print("waiting")?;
                waiter.wait(Duration::MAX)?;
                print(clock::now())?;
            }
            None => {
                print("following")?;
                loop {
                    waiter.wait(Duration::MAX)?;
                }
            }
        }
    }
    Ok(())
}

fn print(line: impl fmt::Display) -> Result<(), Box<dyn Error>> {
    let mut output = std::io::stdout().lock();
    writeln!(output, "{line}")?;
    Ok(output.flush()?)
}

enum Waiter {
    Penholder(Box<Commits>),
    Poller(Connection, i64),
}

impl Waiter {
    fn open(kind: WaitKind, database: &Path) -> Result<Self, Box<dyn Error>> {
        if kind == WaitKind::Penholder {
            let commits = Database::open(database)?.commits()?;
            return Ok(Self::Penholder(Box::new(commits)));
        }
        let connection = Connection::open(database)?;
        let version = version(&connection)?;
        Ok(Self::Poller(connection, version))
    }

    fn wait(&mut self, timeout: Duration) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Penholder(commits) => {
                commits.wait(timeout)?;
            }
            Self::Poller(connection, seen) => {
                let begun = std::time::Instant::now();
                while version(connection)? == *seen && begun.elapsed() < timeout {
                    thread::sleep(POLL);
                }
                *seen = version(connection)?;
            }
        }
        Ok(())
    }
}

fn version(connection: &Connection) -> rusqlite::Result<i64> {
    let mut ask = connection.prepare_cached("PRAGMA data_version")?;
    ask.query_row([], |row| row.get(0))
}

/// Such a process, from the side of the process that started it.
pub(crate) struct WakeProcess(Process);

impl WakeProcess {
    /// Starts it; with a CPU, it is pinned to that.
    pub(crate) fn start(
        kind: WaitKind,
        database: &Path,
        cpu: Option<usize>,
    ) -> Result<Self, Box<dyn Error>> {
        let mut arguments = vec![
            "wake-process".to_owned(),
            format!("--kind={kind}"),
            format!("--database={}", database.display()),
        ];
        arguments.extend(cpu.map(|cpu| format!("--cpu={cpu}")));
        Ok(Self(Process::of_this_program(&arguments)?))
    }

    /// Returns when the process is about to wait.
    pub(crate) fn begin_to_wait(&mut self) -> Result<(), Box<dyn Error>> {
        self.0.send("wait")?;
        self.receive().map(drop)
    }

    /// Waits until the process has learned of a commit, and returns when that was.
    pub(crate) fn learned(&mut self) -> Result<Nanos, Box<dyn Error>> {
        Ok(self.receive()?.parse()?)
    }

    /// Makes it wait for one commit after the other.
    pub(crate) fn follow(&mut self) -> Result<(), Box<dyn Error>> {
        self.0.send("follow")?;
        self.receive().map(drop)
    }

    /// Makes it wait for this time, in which there is no commit.
    pub(crate) fn begin_to_rest(&mut self, time: Duration) -> Result<(), Box<dyn Error>> {
        self.0.send(&format!("rest {}", time.as_millis()))
    }

    /// Returns the CPU time that the rest took.
    pub(crate) fn rested(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.learned()
    }

    fn receive(&mut self) -> Result<String, Box<dyn Error>> {
        self.0.receive(clock::after(PATIENCE))
    }
}
