//! The connection that runs checkpoints while this process writes.

use std::mem;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Condvar, Mutex, PoisonError, TryLockError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use penholder_core::Deadline;
use rusqlite::Connection;

use super::connection;
use super::open_files::OpenFiles;
use super::wal::{self, Mode, Progress};
use crate::error::Result;
use crate::location::Location;
use crate::mutex::lock;
use crate::options::OpenOptions;

/// How long the thread waits if another connection was in the way.
const BUSY_PAUSE: Duration = Duration::from_millis(2);
/// How long it waits if no checkpoint can be run, for lack of descriptors for example.
const FAILED_PAUSE: Duration = Duration::from_millis(20);

/// Runs passive checkpoints on a connection of its own: the writing connection is in use
/// again as soon as the lock is free.
///
/// | state | leaves by |
/// | --- | --- |
/// | no thread | [`run_in_background`](Self::run_in_background) → idle; if the system refuses a thread, the caller runs the checkpoint itself |
/// | idle: the thread sleeps | the same → wanted |
/// | wanted: a checkpoint is due or runs | it ends → idle |
/// | ended | [`end`](Self::end), at the end of the handle; the thread is joined |
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    shared: Arc<Shared>,
    thread: Mutex<Option<JoinHandle<()>>>,
}

/// What the thread shares with the writers.
#[derive(Debug, Default)]
struct Shared {
    connection: Mutex<Option<Connection>>,
    is_wanted: AtomicBool,
    orders: Mutex<Orders>,
    ordered: Condvar,
}

#[derive(Debug, Default)]
struct Orders {
    is_wanted: bool,
    is_ended: bool,
}

/// The database whose WAL is checkpointed.
#[derive(Debug, Clone, Copy)]
pub(crate) struct CheckpointOf<'a> {
    pub(crate) location: &'a Location,
    pub(crate) options: &'a OpenOptions,
    pub(crate) files: &'a Arc<OpenFiles>,
}

impl Checkpointer {
    /// Runs a passive checkpoint, unless another thread is running one.
    pub(crate) fn run(&self, of: CheckpointOf<'_>) {
        self.shared.run(of.location, of.options, of.files);
    }

    /// Has a thread run a passive checkpoint, unless it is at one.
    pub(crate) fn run_in_background(&self, of: CheckpointOf<'_>) {
        // Asked at many writes while one runs.
        if self.shared.is_wanted.swap(true, Relaxed) {
            return;
        }
        let mut thread = lock(&self.thread);
        if thread.is_none() {
            *thread = self.start(of);
        }
        if thread.is_none() {
            self.shared.is_wanted.store(false, Relaxed);
            return self.run(of);
        }
        lock(&self.shared.orders).is_wanted = true;
        self.shared.ordered.notify_one();
    }

    fn start(&self, of: CheckpointOf<'_>) -> Option<JoinHandle<()>> {
        let shared = Arc::clone(&self.shared);
        let (location, options) = (of.location.clone(), of.options.clone());
        let files = Arc::clone(of.files);
        thread::Builder::new()
            .name("penholder-checkpoint".to_owned())
            .spawn(move || shared.serve(&location, &options, &files))
            .ok()
    }

    /// Closes the connection, once a checkpoint that is running has ended: a passive one waits
    /// for no other connection.
    pub(crate) fn close(&self) {
        *lock(&self.shared.connection) = None;
    }

    /// Ends the thread, once a checkpoint that is running has ended, and closes the connection.
    pub(crate) fn end(&mut self) {
        lock(&self.shared.orders).is_ended = true;
        self.shared.ordered.notify_one();
        let thread = self.thread.get_mut();
        if let Some(thread) = thread.unwrap_or_else(PoisonError::into_inner).take() {
            // It reports nothing, and what it panicked with is printed.
            let _ = thread.join();
        }
        self.close();
    }

    /// Takes everything out, in a forked child: it is the parent's, and not even to be dropped.
    pub(crate) fn take(&mut self) -> impl Sized {
        let thread = self.thread.get_mut();
        let thread = thread.unwrap_or_else(PoisonError::into_inner).take();
        (mem::take(&mut self.shared), thread)
    }
}

impl Shared {
    /// Runs checkpoints until the handle ends.
    fn serve(&self, location: &Location, options: &OpenOptions, files: &OpenFiles) {
        while self.wait_for_order() {
            match self.run(location, options, files) {
                Some(done) if !done.busy => {}
                // Another process is at it.
                Some(_) => thread::sleep(BUSY_PAUSE),
                None => thread::sleep(FAILED_PAUSE),
            }
            self.is_wanted.store(false, Relaxed);
        }
    }

    /// Waits until a checkpoint is wanted; `false` if none is any more.
    fn wait_for_order(&self) -> bool {
        let mut orders = lock(&self.orders);
        while !orders.is_wanted && !orders.is_ended {
            orders = self
                .ordered
                .wait(orders)
                .unwrap_or_else(PoisonError::into_inner);
        }
        orders.is_wanted = false;
        !orders.is_ended
    }

    /// Returns what the checkpoint did; `None` if it failed, or if another thread runs one.
    fn run(
        &self,
        location: &Location,
        options: &OpenOptions,
        files: &OpenFiles,
    ) -> Option<Progress> {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return None,
        };
        // A fork waits for what is inside SQLite, and for nothing else: an event runs code of the
        // application, which may wait for a thread that forks.
        let done = penholder_vfs::in_background(|| {
            // A connection that fails is closed, and the next checkpoint opens another.
            let open = connection
                .take()
                .map_or_else(|| open(location, options, files), Ok)
                .ok()?;
            penholder_core::failpoint!("checkpointing");
            let done = wal::checkpoint(&open, Mode::Passive).ok()?;
            penholder_core::failpoint!("checkpointed");
            *connection = Some(open);
            Some(done)
        })?;
        wal::warn_if_pinned(done, location);
        Some(done)
    }
}

fn open(location: &Location, options: &OpenOptions, files: &OpenFiles) -> Result<Connection> {
    let options = options.clone().create(false);
    let at_once = Deadline::after(Duration::ZERO);
    let connection = connection::open_writer(location, &options, &at_once)?;
    files.check_opened(&connection, &at_once)?;
    Ok(connection)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A connection that stayed open would keep the former index of a lost WAL in use.
    #[test]
    fn a_connection_in_use_is_closed_afterwards() {
        let checkpointer = Checkpointer::default();
        thread::scope(|scope| {
            let mut in_use = lock(&checkpointer.shared.connection);
            let closing = scope.spawn(|| checkpointer.close());
            // Time to come to the mutex.
            thread::sleep(Duration::from_millis(100));
            *in_use = Some(Connection::open_in_memory().unwrap());
            drop(in_use);
            closing.join().unwrap();
        });
        assert!(lock(&checkpointer.shared.connection).is_none());
    }
}
