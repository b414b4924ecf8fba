//! One of the two processes of a hand-off: it takes and releases when it is
//! told, and says when that was.

use std::error::Error;
use std::io::{BufRead, Write};
use std::path::{Path, PathBuf};

use crate::clock::{self, Nanos};
use crate::cpu;
use crate::handoff_lock::{HandoffLock, LockKind};
use crate::process::{self, Process};

#[derive(clap::Args)]
pub(crate) struct Args {
    #[arg(long)]
    kind: LockKind,
    #[arg(long)]
    folder: PathBuf,
    #[arg(long)]
    cpu: usize,
}

/// The role itself. On `take` it says `taking`, takes, and says when it had it; on
/// `pass` the same, and gives it on at once;
/// on `release` it says when it began to release, when it has; on `processor` how
/// much processor time it has used.
pub(crate) fn run(args: &Args) -> Result<(), Box<dyn Error>> {
    process::end_with_parent()?;
    cpu::pin(args.cpu)?;
    let mut lock = HandoffLock::open(args.kind, &args.folder)?;
    let mut output = std::io::stdout();
    for line in std::io::stdin().lock().lines() {
        let moment = match line?.as_str() {
            order @ ("take" | "pass") => {
                writeln!(output, "taking")?;
                output.flush()?;
                lock.take()?;
                let taken = clock::now();
                if order == "pass" {
                    lock.release()?;
                }
                taken
            }
            "processor" => clock::processor(),
            _ => {
                let begun = clock::now();
                lock.release()?;
                begun
            }
        };
        writeln!(output, "{moment}")?;
        output.flush()?;
    }
    Ok(())
}

/// Such a process, seen from the one that started it.
pub(crate) struct LockProcess(Process);

impl LockProcess {
    pub(crate) fn start(kind: LockKind, folder: &Path, cpu: usize) -> Result<Self, Box<dyn Error>> {
        let folder = folder.display();
        let arguments = [
            "lock-process".to_owned(),
            format!("--kind={}", kind.name()),
            format!("--folder={folder}"),
            format!("--cpu={cpu}"),
        ];
        Ok(Self(Process::of_this_program(&arguments)?))
    }

    /// Tells it to take, and returns when it is about to.
    pub(crate) fn begin_to_take(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin("take")
    }

    /// Tells it to take and to give on at once, and returns when it is about to.
    pub(crate) fn begin_to_pass(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin("pass")
    }

    fn begin(&mut self, order: &str) -> Result<(), Box<dyn Error>> {
        self.0.tell(order)?;
        match self.hear()?.as_str() {
            "taking" => Ok(()),
            other => Err(format!("a process said {other:?} instead of \"taking\"").into()),
        }
    }

    /// When it had taken.
    pub(crate) fn taken(&mut self) -> Result<Nanos, Box<dyn Error>> {
        Ok(self.hear()?.parse()?)
    }

    pub(crate) fn take(&mut self) -> Result<(), Box<dyn Error>> {
        self.begin_to_take()?;
        self.taken()?;
        Ok(())
    }

    /// Tells it to release, and returns when it began to.
    pub(crate) fn release(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.0.tell("release")?;
        Ok(self.hear()?.parse()?)
    }

    /// How much processor time it has used.
    pub(crate) fn processor(&mut self) -> Result<Nanos, Box<dyn Error>> {
        self.0.tell("processor")?;
        Ok(self.hear()?.parse()?)
    }

    /// `kill -9`; returns the moment before.
    pub(crate) fn kill(&mut self) -> Result<Nanos, Box<dyn Error>> {
        let moment = clock::now();
        self.0.kill()?;
        Ok(moment)
    }

    fn hear(&mut self) -> Result<String, Box<dyn Error>> {
        self.0
            .hear(clock::after(std::time::Duration::from_secs(20)))
    }
}
