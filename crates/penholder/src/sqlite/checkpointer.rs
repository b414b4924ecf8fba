//! The connection that runs checkpoints while this process writes.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use penholder_core::Deadline;
use rusqlite::Connection;

use super::connection;
use super::open_files::OpenFiles;
use super::wal::{self, Mode};
use crate::error::Result;
use crate::location::Location;
use crate::mutex::lock;
use crate::options::OpenOptions;

/// Runs passive checkpoints on a connection of its own: the writing connection is in use
/// again as soon as the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    connection: Mutex<Option<Connection>>,
}

impl Checkpointer {
    /// Runs a passive checkpoint, unless another thread is running one.
    pub(crate) fn run(&self, location: &Location, options: &OpenOptions, files: &OpenFiles) {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // A connection that fails is closed, and the next checkpoint opens another.
        let open = connection
            .take()
            .map_or_else(|| open(location, options, files), Ok);
        *connection = open.ok().filter(|connection| {
            let done = wal::checkpoint(connection, Mode::Passive);
            done.inspect(|done| wal::warn_if_pinned(*done, location))
                .is_ok()
        });
    }

    /// Closes the connection, once a checkpoint that is running has ended: a passive one waits
    /// for no other connection.
    pub(crate) fn close(&self) {
        *lock(&self.connection) = None;
    }

    /// Takes the connection out, so that its owner decides how it is closed.
    pub(crate) fn take(&mut self) -> Option<Connection> {
        let connection = self.connection.get_mut();
        connection.unwrap_or_else(PoisonError::into_inner).take()
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
    use std::thread;

    /// A connection that stayed open would keep the former index of a lost WAL in use.
    #[test]
    fn a_connection_in_use_is_closed_afterwards() {
        let checkpointer = Checkpointer::default();
        thread::scope(|scope| {
            let mut in_use = lock(&checkpointer.connection);
            let closing = scope.spawn(|| checkpointer.close());
            // Time to come to the mutex.
            thread::sleep(Duration::from_millis(100));
            *in_use = Some(Connection::open_in_memory().unwrap());
            drop(in_use);
            closing.join().unwrap();
        });
        assert!(lock(&checkpointer.connection).is_none());
    }
}
