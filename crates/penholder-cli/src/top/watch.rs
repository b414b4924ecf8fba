//! What `top` observes: the queue file of the lock, and the length of the WAL.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use penholder::lock::{LockError, Snapshot, WriteLocker};

use super::trend::{Sample, Trend};
use crate::args::Target;
use crate::failure::Failure;
use crate::{summary, text};

/// A longer WAL does not shrink as it should: a reader keeps an old snapshot of the
/// database, or a process writes without the lock.
const MAX_WAL: u64 = 32 << 20;

pub(crate) struct Watch {
    locker: WriteLocker,
    database: PathBuf,
    /// The latest snapshot, and when it was taken.
    snapshot: Snapshot,
    updated: Instant,
    trend: Trend,
    wal: Option<u64>,
}

impl Watch {
    pub(crate) fn of(target: &Target) -> Result<Self, Failure> {
        let locker = target.existing_locker("top")?;
        let database =
            penholder_core::canonicalize(&target.db).unwrap_or_else(|_| target.db.clone());
        Ok(Self {
            snapshot: locker.snapshot()?,
            updated: Instant::now(),
            trend: Trend::default(),
            wal: wal_length(&database),
            locker,
            database,
        })
    }

    /// Takes another snapshot.
    pub(crate) fn update(&mut self) -> Result<(), LockError> {
        let snapshot = self.locker.snapshot()?;
        let elapsed = self.updated.elapsed();
        self.updated = Instant::now();
        let sample = Sample::between(&self.snapshot, &snapshot, elapsed);
        self.trend.add(sample);
        self.snapshot = snapshot;
        self.wal = wal_length(&self.database);
        Ok(())
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    pub(crate) fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    pub(crate) fn trend(&self) -> &Trend {
        &self.trend
    }

    /// What was counted and measured, as lines.
    pub(crate) fn figures(&self) -> Vec<String> {
        let mut lines: Vec<String> = summary::figures(&self.snapshot.status).collect();
        lines.extend(self.wal.map(describe_wal));
        lines
    }
}

/// The length of the WAL by its path. It is never opened: closing it would drop SQLite's
/// own locks.
fn wal_length(database: &Path) -> Option<u64> {
    let mut name = OsString::from(database);
    name.push("-wal");
    fs::metadata(name).ok().map(|meta| meta.len())
}

/// Does not name the readers: the kernel's table of locks, which has them, is too
/// expensive to read at every update.
fn describe_wal(length: u64) -> String {
    let size = text::size(length);
    if length <= MAX_WAL {
        return format!("WAL {size}");
    }
    format!("WAL {size}, and does not shrink: `penholder doctor` shows who reads it")
}
