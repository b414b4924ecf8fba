//! What `top` looks at: the page of the lock, and the length of the log.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use penholder::lock::{Glance, LockError, WriteLocker};

use super::trend::{Sample, Trend};
use crate::args::Target;
use crate::failure::Failure;
use crate::{output, status};

/// A log that is longer does not shrink as it should: somebody keeps reading from an
/// old state of the database, or writes without the lock.
const LOG_MAX: u64 = 32 << 20;

pub(crate) struct Watch {
    locker: WriteLocker,
    database: PathBuf,
    /// The latest look, and when it was.
    glance: Glance,
    looked: Instant,
    trend: Trend,
    log: Option<u64>,
}

impl Watch {
    pub(crate) fn of(target: &Target) -> Result<Self, Failure> {
        let locker = status::locker("top", target)?;
        let database = fs::canonicalize(&target.db).unwrap_or_else(|_| target.db.clone());
        Ok(Self {
            glance: locker.glance()?,
            looked: Instant::now(),
            trend: Trend::default(),
            log: log_length(&database),
            locker,
            database,
        })
    }

    /// Looks again.
    pub(crate) fn look(&mut self) -> Result<(), LockError> {
        let now = self.locker.glance()?;
        let passed = self.looked.elapsed();
        self.looked = Instant::now();
        self.trend.add(Sample::between(&self.glance, &now, passed));
        self.glance = now;
        self.log = log_length(&self.database);
        Ok(())
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    pub(crate) fn glance(&self) -> &Glance {
        &self.glance
    }

    pub(crate) fn trend(&self) -> &Trend {
        &self.trend
    }

    /// What was counted and measured, a line each.
    pub(crate) fn figures(&self) -> Vec<String> {
        let mut lines: Vec<String> = status::figures(&self.glance.status).collect();
        lines.extend(self.log.map(describe_log));
        lines
    }
}

/// By its name, never opened: closing it would drop SQLite's own locks.
fn log_length(database: &Path) -> Option<u64> {
    let mut name = OsString::from(database);
    name.push("-wal");
    fs::metadata(name).ok().map(|meta| meta.len())
}

/// Who reads from it stands in the kernel's table of locks, which is too dear to be read
/// again and again.
fn describe_log(length: u64) -> String {
    let size = output::size(length);
    if length <= LOG_MAX {
        return format!("log (-wal) {size}");
    }
    format!("log (-wal) {size}, and does not shrink: see `penholder doctor` for who reads it")
}
