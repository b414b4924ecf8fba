//! The database of this node, for reading.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use hiqlite::rusqlite::{self, Connection, OpenFlags};
use tokio::task;

use crate::disk_watch;

/// How many connections are kept open.
const KEPT: usize = 8;
/// How many steps of SQLite there are between two looks at the deadline.
const STEPS: i32 = 10_000;

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
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let connection = Connection::open_with_flags(path, flags)?;
    connection.busy_timeout(std::time::Duration::from_secs(5))?;
    Ok(connection)
}
