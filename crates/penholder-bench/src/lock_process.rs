//! A process that acquires and releases a lock on request, and reports when it did.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crate::clock::{self, Nanos};
use crate::handoff_lock::{HandoffLock, LockKind};
use crate::process::Process;
use crate::system;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    kind: LockKind,
    #[arg(long)]
    directory: PathBuf,
    #[arg(long)]
    cpu: usize,
}

/// Answers requests from the standard input:
///
/// - `acquire`: prints `acquiring`, acquires, and prints when it had the lock;
/// - `pass`: the same, but then releases the lock immediately;
/// - `release`: releases, and prints when it began to;
/// - `cpu-time`: prints the CPU time that it has used.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    system::end_with_parent()?;
    system::pin(args.cpu)?;
    let mut lock = HandoffLock::open(args.kind, &args.directory)?;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let nanos = match line?.as_str() {
            request @ ("acquire" | "pass") => {
                writeln!(output, "acquiring")?;
                output.flush()?;
                lock.acquire()?;
                let acquired = clock::now();
                if request == "pass" {
                    lock.release()?;
                }
                acquired
            }
            "cpu-time" => clock::cpu_time(),
            _ => {
                let begun = clock::now();
                lock.release()?;
                begun
            }
        };
        writeln!(output, "{nanos}")?;
        output.flush()?;
    }
    Ok(())
}

/// Such a process, from the side of the process that started it.
pub(crate) struct LockProcess(Process);

impl LockProcess {
    pub(crate) fn start(
        kind: LockKind,
        directory: &Path,
        cpu: usize,
    ) -> Result<Self, Box<dyn Error>> {
        let arguments = [
            "lock-process".to_owned(),
            format!("--kind={kind}"),
            format!("--directory={}", directory.display()),
            format!("--cpu={cpu}"),
        ];
        Ok(Self(Process::of_this_program(&arguments)?))
    }

    /// Requests the lock, and returns when the process is about to acquire it.
    pub(crate) fn begin_to_acquire(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin("acquire")
    }

    /// Like [`begin_to_acquire`](Self::begin_to_acquire), but the process releases
    /// the lock as soon as it has it.
    pub(crate) fn begin_to_pass(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin("pass")
    }

    fn begin(&mut self, request: &str) -> Result<(), Box<dyn Error>> {
        self.0.send(request)?;
        match self.receive()?.as_str() {
            "acquiring" => Ok(()),
            other => Err(format!("a process printed {other:?} instead of \"acquiring\"").into()),
        }
    }

    /// Waits until the process has acquired the lock, and returns when that was.
    pub(crate) fn acquired(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.receive_nanos()
    }

    pub(crate) fn acquire(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin_to_acquire()?;
        self.acquired()?;
        Ok(())
    }

    /// Releases the lock, and returns when the process began to.
    pub(crate) fn release(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.0.send("release")?;
        self.receive_nanos()
    }

    /// The CPU time that the process has used.
    pub(crate) fn cpu_time(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.0.send("cpu-time")?;
        self.receive_nanos()
    }

    /// Sends `SIGKILL`, and returns the time just before.
    pub(crate) fn kill(&mut self) -> Result<Nanos, Box<dyn Error>> {
        let before = clock::now();
        self.0.kill()?;
        Ok(before)
    }

    fn receive_nanos(&mut self) -> Result<Nanos, Box<dyn Error>> {
        Ok(self.receive()?.parse()?)
    }

    fn receive(&mut self) -> Result<String, Box<dyn Error>> {
        self.0.receive(clock::after(Duration::from_secs(20)))
    }
}
