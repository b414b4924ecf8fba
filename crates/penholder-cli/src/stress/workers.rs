//! The worker processes of `penholder stress`.

use std::io::{self, PipeReader, PipeWriter};
use std::path::Path;
use std::process::{Child, ChildStdout, Command, Stdio};
use std::time::Duration;

use crate::args::{Peer, Stress};
use crate::failure::Failure;

/// What the processes do.
pub(super) struct Work<'a> {
    pub(super) args: &'a Stress,
    /// What writes instead of penholder.
    pub(super) peer: Option<Peer>,
    pub(super) database: &'a Path,
    /// The number that the rows have.
    pub(super) run: i64,
}

/// The processes. They end by themselves; one that does not is killed when this is
/// dropped.
pub(super) struct Workers {
    children: Vec<Child>,
    /// The other end of their standard input: they write when it is closed.
    start_signal: Option<PipeWriter>,
}

impl Workers {
    /// Starts the processes. They open the database and wait for the start signal.
    pub(super) fn start(work: &Work<'_>) -> Result<Self, Failure> {
        let program = std::env::current_exe().map_err(|e| failed("find this program", &e))?;
        let (stdin, pipe) = io::pipe().map_err(|e| failed("open a pipe", &e))?;
        let mut workers = Self {
            children: Vec::new(),
            start_signal: Some(pipe),
        };
        for process in 0..work.args.processes {
            let stdin = stdin.try_clone().map_err(|e| failed("open a pipe", &e))?;
            let mut command = command(&program, work, process, stdin);
            let child = command.spawn().map_err(|e| failed("start a process", &e))?;
            workers.children.push(child);
        }
        Ok(workers)
    }

    /// Gives the start signal.
    pub(super) fn begin(&mut self) {
        self.start_signal = None;
    }

    pub(super) fn take_outputs(&mut self) -> Vec<ChildStdout> {
        let outputs = self.children.iter_mut().map(|child| child.stdout.take());
        outputs.flatten().collect()
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        for child in &mut self.children {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

fn command(program: &Path, work: &Work<'_>, process: u32, stdin: PipeReader) -> Command {
    let args = work.args;
    let mut command = Command::new(program);
    command
        .args(["stress-worker", "--run", &work.run.to_string()])
        .args(["--process", &process.to_string()])
        .args(["--sync", args.sync.name()])
        .args(["--timeout", &exactly(args.timeout)])
        .stdin(stdin)
        .stdout(Stdio::piped());
    match args.amount.writes {
        Some(writes) => command.args(["--writes", &writes.to_string()]),
        None => command.args(["--for", &exactly(args.amount.time)]),
    };
    match work.peer {
        Some(Peer::Sqlite) => command.args(["--peer", "sqlite"]),
        None => &mut command,
    };
    if let Some(path) = &args.target.lock_file {
        command.arg("--lock-file").arg(path);
    }
    if args.target.allow_network_fs {
        command.arg("--allow-network-fs");
    }
    if args.target.allow_file_mount {
        command.arg("--allow-file-mount");
    }
    command.arg("--").arg(work.database);
    command
}

/// A duration as the command line takes it, without loss.
fn exactly(timeout: Duration) -> String {
    format!("{}s {}ns", timeout.as_secs(), timeout.subsec_nanos())
}

/// Too many processes or threads.
pub(super) fn failed(what: &str, error: &io::Error) -> Failure {
    Failure::of_system(format!("stress: {what}"), error, "try fewer processes")
}
