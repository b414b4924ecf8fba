//! What is handed from one process to another: the ways to wait for it and to
//! give it up.

use std::error::Error;
use std::fs::File;
use std::path::Path;
use std::str::FromStr;
use std::time::Duration;

use penholder::lock::{Policy, WriteGuard, WriteLocker};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::peer::writer;
use crate::word::Word;

/// Nobody waits longer in this benchmark.
const PATIENCE: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LockKind {
    /// A word in shared memory and the kernel's futex: the least that a wake-up
    /// of another process costs.
    Futex,
    /// A blocking `flock`.
    Flock,
    /// `flock` tried every 50 ms.
    Poller,
    Penholder,
    PenholderFifo,
}

impl LockKind {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Futex => "futex",
            Self::Flock => "flock",
            Self::Poller => "poller",
            Self::Penholder => "penholder",
            Self::PenholderFifo => "penholder-fifo",
        }
    }
}

impl FromStr for LockKind {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        let all = [
            Self::Futex,
            Self::Flock,
            Self::Poller,
            Self::Penholder,
            Self::PenholderFifo,
        ];
        let known = all.into_iter().find(|kind| kind.name() == name);
        known.ok_or_else(|| format!("no way to wait is called {name:?}"))
    }
}

/// One process's end of it.
pub(crate) enum HandoffLock {
    Futex(Word),
    Flock(File),
    Poller(File),
    Penholder {
        locker: WriteLocker,
        held: Option<WriteGuard>,
    },
}

impl HandoffLock {
    /// All processes that name the same folder pass one lock.
    pub(crate) fn open(kind: LockKind, folder: &Path) -> Result<Self, Box<dyn Error>> {
        let database = folder.join("bench.db");
        let penholder = |policy| -> Result<Self, Box<dyn Error>> {
            let options = penholder::Options::new().policy(policy);
            let locker = options.locker(&database)?;
            Ok(Self::Penholder { locker, held: None })
        };
        Ok(match kind {
            LockKind::Futex => Self::Futex(Word::shared(&folder.join("word"))?),
            LockKind::Flock => Self::Flock(writer::lock_file(&writer::lock_path(&database))?),
            LockKind::Poller => Self::Poller(writer::lock_file(&writer::lock_path(&database))?),
            LockKind::Penholder => penholder(Policy::default())?,
            LockKind::PenholderFifo => penholder(Policy::Fifo)?,
        })
    }

    pub(crate) fn take(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Futex(word) => word.take(PATIENCE)?,
            Self::Flock(file) => flock(file, FlockOperation::LockExclusive)?,
            Self::Poller(file) => poll(file)?,
            Self::Penholder { locker, held } => *held = Some(locker.acquire(PATIENCE)?),
        }
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Futex(word) => word.release()?,
            Self::Flock(file) | Self::Poller(file) => flock(file, FlockOperation::Unlock)?,
            Self::Penholder { held, .. } => held.take().ok_or("nothing to release")?.release()?,
        }
        Ok(())
    }
}

fn poll(file: &File) -> Result<(), Errno> {
    loop {
        match flock(file, FlockOperation::NonBlockingLockExclusive) {
            Err(Errno::WOULDBLOCK) => std::thread::sleep(Duration::from_millis(50)),
            result => return result,
        }
    }
}
