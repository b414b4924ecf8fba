//! Servers that end with this program.

use std::fs::{self, File};
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use penholder_core::shown_path;
use rustix::process::{Pid, Signal, kill_process};

use crate::Result;

/// What only catches hangs.
const LIMIT: Duration = Duration::from_secs(60);
/// How long a server may take to end before it is killed.
const END: Duration = Duration::from_secs(10);
const PAUSE: Duration = Duration::from_millis(50);
/// How much of what a server said an error shows.
const SHOWN: usize = 2000;

/// A server. It is ended when this is dropped.
#[derive(Debug)]
pub(crate) struct Process {
    name: String,
    child: Child,
    log: PathBuf,
    end: Signal,
}

impl Process {
    /// Starts a server, which is ended by this signal. What it says is in a file of the directory.
    pub(crate) fn start(
        name: &str,
        directory: &Path,
        end: Signal,
        command: &mut Command,
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let file = File::create(&log)?;
        command
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        let child = command
            .spawn()
            .map_err(|error| format!("start {name}: {error}"))?;
        let name = name.to_owned();
        Ok(Self {
            name,
            child,
            log,
            end,
        })
    }

    /// Returns an error if it has ended by itself.
    fn check(&mut self) -> Result<()> {
        let Some(status) = self.child.try_wait()? else {
            return Ok(());
        };
        let said = fs::read_to_string(&self.log).unwrap_or_default();
        let from = said.floor_char_boundary(said.len().saturating_sub(SHOWN));
        Err(format!("{} has ended: {status}\n{}", self.name, &said[from..]).into())
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        if let Ok(None) = self.child.try_wait() {
            let _ = kill_process(Pid::from_child(&self.child), self.end);
        }
        let begun = Instant::now();
        while let Ok(None) = self.child.try_wait() {
            if begun.elapsed() > END {
                let _ = self.child.kill();
                let _ = self.child.wait();
                return;
            }
            thread::sleep(PAUSE);
        }
    }
}

/// Tries until it succeeds, as long as all of the servers run.
pub(crate) async fn until<T>(
    what: &str,
    servers: &mut [Process],
    mut attempt: impl AsyncFnMut() -> Result<T>,
) -> Result<T> {
    let begun = Instant::now();
    loop {
        let error = match attempt().await {
            Ok(found) => return Ok(found),
            Err(error) => error,
        };
        servers.iter_mut().try_for_each(Process::check)?;
        if begun.elapsed() > LIMIT {
            return Err(format!("{what}: not within {LIMIT:?}: {error}").into());
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// Runs a command to its end.
pub(crate) fn run(what: &str, command: &mut Command) -> Result<()> {
    let output = command
        .stdin(Stdio::null())
        .output()
        .map_err(|error| format!("{what}: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => {
            let said = String::from_utf8_lossy(&output.stderr);
            Err(format!("{what}: {}: {said}", output.status).into())
        }
    }
}

/// Returns free ports of this machine.
pub(crate) fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    // Kept open until all are known, so that none is found twice.
    let mut kept = Vec::with_capacity(N);
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        *port = listener.local_addr()?.port();
        kept.push(listener);
    }
    Ok(ports)
}

/// Returns where a program is: in `PATH`, or in one of these directories.
pub(crate) fn program(name: &str, more: &[PathBuf]) -> Result<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let directories = std::env::split_paths(&path).chain(more.iter().cloned());
    let found = directories
        .map(|directory| directory.join(name))
        .find(|path| path.is_file());
    found.ok_or_else(|| format!("there is no program {name}").into())
}

/// Returns a directory, newly made.
pub(crate) fn directory(path: &Path) -> Result<()> {
    fs::create_dir(path).map_err(|error| format!("{}: {error}", shown_path(path)).into())
}
