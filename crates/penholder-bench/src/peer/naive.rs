//! The usual implementation of the single-writer pattern. For each write it opens
//! the lock file, tries `flock` with back-off for half a second, writes the
//! holder's text, syncs it to disk, and writes in one transaction. It reads without
//! the lock.

use std::error::Error;
use std::fs::File;
use std::io::{Seek, Write};
use std::path::PathBuf;
use std::time::Duration;

use rustix::fs::{FlockOperation, flock};
use rustix::io::Errno;

use crate::clock::{self, Nanos};
use crate::lock_file;
use crate::peer::client::{Client, Outcome, Work};
use crate::peer::setting::Setting;
use crate::peer::sqlite::{Sqlite, Transaction};

pub(crate) struct Naive {
    sqlite: Sqlite,
    lock: PathBuf,
    timeout: Duration,
}

impl Naive {
    pub(crate) fn open(setting: &Setting) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            sqlite: Sqlite::open(setting, Transaction::Parsed)?,
            lock: lock_file::path(&setting.database),
            timeout: setting.timeout,
        })
    }
}

impl Client for Naive {
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        self.sqlite.read(work)
    }

    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        let mut lock = lock_file::open(&self.lock)?;
        if !acquire(&lock, clock::after(self.timeout))? {
            return Ok(Outcome::Failed);
        }
        record(&mut lock)?;
        let outcome = self.sqlite.write(work);
        lock.set_len(0)?;
        flock(&lock, FlockOperation::Unlock)?;
        outcome
    }
}

/// Tries until the deadline, with pauses of 5, 10, 20, 40, 50, 50 … ms.
fn acquire(lock: &File, deadline: Nanos) -> Result<bool, Errno> {
    let mut pause = Duration::from_millis(5);
    loop {
        match flock(lock, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(true),
            Err(Errno::WOULDBLOCK) => {}
            Err(error) => return Err(error),
        }
        let left = clock::left(deadline);
        if left.is_zero() {
            return Ok(false);
        }
        std::thread::sleep(pause.min(left));
        pause = (pause * 2).min(Duration::from_millis(50));
    }
}

fn record(lock: &mut File) -> std::io::Result<()> {
    lock.set_len(0)?;
    lock.rewind()?;
    let pid = std::process::id();
    write!(lock, "pid:{pid}\ntime:{}\n", jiff::Timestamp::now())?;
    lock.sync_all()
}
