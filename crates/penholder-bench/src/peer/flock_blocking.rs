//! A blocking `flock` around each transaction.

use std::error::Error;
use std::fs::File;

use rustix::fs::{FlockOperation, flock};

use crate::lock_file;
use crate::peer::client::{Client, Outcome, Work};
use crate::peer::setting::Setting;
use crate::peer::sqlite::{Sqlite, Transaction};

pub(crate) struct FlockBlocking {
    sqlite: Sqlite,
    lock: File,
}

impl FlockBlocking {
    pub(crate) fn open(setting: &Setting) -> Result<Self, Box<dyn Error>> {
        Ok(Self {
            lock: lock_file::open(&lock_file::path(&setting.database))?,
            sqlite: Sqlite::open(setting, Transaction::Prepared)?,
        })
    }
}

impl Client for FlockBlocking {
    fn read(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        self.sqlite.read(work)
    }

    fn write(&mut self, work: Work<'_>) -> Result<Outcome, Box<dyn Error>> {
        flock(&self.lock, FlockOperation::LockExclusive)?;
        let outcome = self.sqlite.write(work);
        flock(&self.lock, FlockOperation::Unlock)?;
        outcome
    }
}
