//! The locks whose handoff is measured: each waits and releases in its own way.

use std::error::Error;
use std::fmt;
use std::fs::File;
use std::path::Path;
use std::time::Duration;

use clap::ValueEnum;
use penholder::lock::{QueuePolicy, WriteGuard, WriteLocker};
use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::word::Word;
use crate::{lock_file, names};

/// Longer than any hold in these benchmarks.
const TIMEOUT: Duration = Duration::from_secs(120);

#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LockKind {
    /// A word in shared memory and the kernel's futex: the lowest possible cost of
    /// waking another process.
    Futex,
    /// A blocking `flock`.
    Flock,
    /// `flock` tried every 50 ms.
    Poller,
    Penholder,
    PenholderFifo,
}

impl fmt::Display for LockKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&names::name(self))
    }
}

/// A lock that one process can hand off to another.
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
    /// Opens the lock of a directory. All processes that name the same directory
    /// share it.
    pub(crate) fn open(kind: LockKind, directory: &Path) -> Result<Self, Box<dyn Error>> {
        let database = directory.join("bench.db");
        let lock_file = lock_file::path(&database);
        let penholder = |policy| -> Result<Self, Box<dyn Error>> {
            let options = penholder::OpenOptions::new().policy(policy);
            let locker = options.locker(&database)?;
            Ok(Self::Penholder { locker, held: None })
        };
        Ok(match kind {
            LockKind::Futex => Self::Futex(Word::shared(&directory.join("word"))?),
            LockKind::Flock => Self::Flock(lock_file::open(&lock_file)?),
            LockKind::Poller => Self::Poller(lock_file::open(&lock_file)?),
            LockKind::Penholder => penholder(QueuePolicy::default())?,
            LockKind::PenholderFifo => penholder(QueuePolicy::Fifo)?,
        })
    }

    pub(crate) fn acquire(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Futex(word) => word.acquire(TIMEOUT)?,
            Self::Flock(file) => flock(file, FlockOperation::LockExclusive)?,
            Self::Poller(file) => poll(file)?,
            Self::Penholder { locker, held } => *held = Some(locker.acquire(TIMEOUT)?),
        }
        Ok(())
    }

    pub(crate) fn release(&mut self) -> Result<(), Box<dyn Error>> {
        match self {
            Self::Futex(word) => word.release()?,
            Self::Flock(file) | Self::Poller(file) => flock(file, FlockOperation::Unlock)?,
            Self::Penholder { held, .. } => held.take().ok_or("the lock is not held")?.release()?,
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
