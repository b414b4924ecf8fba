//! The database of this node, for reading.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hiqlite::rusqlite::backup::{Backup, StepResult};
use hiqlite::rusqlite::{self, Connection, OpenFlags};
use rustix::fs::statvfs;
use tempfile::NamedTempFile;
use tokio::task;

use crate::disk_watch;

/// How many connections are kept open.
const KEPT: usize = 8;
/// How long a read may take that is expected to take microseconds.
const SHORT: Duration = Duration::from_secs(1);
/// How many steps of SQLite there are between two looks at the deadline.
const STEPS: i32 = 10_000;

/// How many pages are copied between two looks at the deadline.
const PAGES: i32 = 1000;
/// How the name of a copy ends.
const COPY: &str = ".copy";
/// How much room a copy leaves to the engine, in bytes.
const ROOM: u64 = 256 << 20;

/// The database of this node, for reading.
#[derive(Debug, Clone)]
pub(crate) struct Replica {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    path: PathBuf,
    idle: Mutex<Vec<Connection>>,
}

impl Replica {
    pub(crate) fn new(path: PathBuf) -> Self {
        let idle = Mutex::default();
        Self {
            inner: Arc::new(Inner { path, idle }),
        }
    }

    /// Reads on a thread that may block. SQLite ends what still runs at the deadline.
    pub(crate) async fn read<T: Send + 'static>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> rusqlite::Result<T> {
        let inner = Arc::clone(&self.inner);
        let read = task::spawn_blocking(move || inner.read(deadline, work));
        // It panics only if `work` does, or if the program ends.
        read.await.unwrap_or(Err(rusqlite::Error::InvalidQuery))
    }

    /// Reads some rows that are in memory, as they were just written, on this thread: that takes some
    /// microseconds, and less than to wake another thread, and to be woken by it.
    pub(crate) fn read_here<T>(
        &self,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        self.inner.read(Instant::now() + SHORT, work)
    }

    /// Removes the copies that a process which was killed has left.
    pub(crate) fn remove_copies(&self) -> io::Result<()> {
        let directory = self.inner.path.parent().unwrap_or(Path::new("."));
        for entry in std::fs::read_dir(directory)? {
            let path = entry?.path();
            if path.to_str().is_some_and(|path| path.ends_with(COPY)) {
                std::fs::remove_file(path)?;
            }
        }
        Ok(())
    }

    /// Returns a copy of the database at one moment, in a file without a name, until the deadline.
    pub(crate) async fn copy(&self, deadline: Instant) -> io::Result<File> {
        let inner = Arc::clone(&self.inner);
        let copied = task::spawn_blocking(move || disk_watch::reading(|| inner.copy(deadline)));
        copied.await.map_err(io::Error::other)?
    }
}

impl Inner {
    fn read<T>(
        &self,
        deadline: Instant,
        work: impl FnOnce(&Connection) -> rusqlite::Result<T>,
    ) -> rusqlite::Result<T> {
        let kept = self
            .idle
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .pop();
        let connection = kept.map_or_else(|| disk_watch::reading(|| open(&self.path)), Ok)?;
        connection.progress_handler(STEPS, Some(move || Instant::now() >= deadline))?;
        let result = disk_watch::reading(|| work(&connection));
        connection.progress_handler(0, None::<fn() -> bool>)?;
        let mut idle = self.idle.lock().unwrap_or_else(PoisonError::into_inner);
        if idle.len() < KEPT {
            idle.push(connection);
        }
        result
    }

    /// Copies page by page. The transaction keeps the source as it is at the beginning, also if the
    /// engine writes meanwhile.
    fn copy(&self, deadline: Instant) -> io::Result<File> {
        let source = open(&self.path).map_err(io::Error::other)?;
        source.execute_batch("BEGIN").map_err(io::Error::other)?;
        let bytes = size(&source).map_err(io::Error::other)?;
        let directory = self.path.parent().unwrap_or(Path::new("."));
        check_room(directory, bytes)?;
        let target = NamedTempFile::with_suffix_in(COPY, directory)?;
        let mut connection = Connection::open(target.path()).map_err(io::Error::other)?;
        connection
            .execute_batch("PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF")
            .map_err(io::Error::other)?;
        let backup = Backup::new(&source, &mut connection).map_err(io::Error::other)?;
        while backup.step(PAGES).map_err(io::Error::other)? != StepResult::Done {
            if Instant::now() >= deadline {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
        drop(backup);
        drop(connection);
        target.reopen()
    }
}

/// Returns how long the database is, in bytes.
fn size(connection: &Connection) -> rusqlite::Result<u64> {
    let sql = "SELECT page_count * page_size FROM pragma_page_count, pragma_page_size";
    let bytes: i64 = connection.query_row(sql, [], |row| row.get(0))?;
    Ok(u64::try_from(bytes).unwrap_or(0))
}

/// A node whose disk is full ends: a copy must not bring that about.
fn check_room(directory: &Path, bytes: u64) -> io::Result<()> {
    let found = statvfs(directory)?;
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let needed = bytes.saturating_add(ROOM);
    if free >= needed {
        return Ok(());
    }
    Err(io::Error::new(
        io::ErrorKind::StorageFull,
        format!(
            "the copy needs {} MiB on the disk of the node, of which {} MiB are free: make room there",
            needed >> 20,
            free >> 20
        ),
    ))
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(Duration::from_secs(5))?;
    Ok(connection)
}
