//! The connection that runs checkpoints while this process writes.

use std::sync::{Mutex, PoisonError, TryLockError};
use std::time::Duration;

use penholder_core::Deadline;
use rusqlite::Connection;

use super::connection;
use super::wal::{self, Mode};
use crate::error::Result;
use crate::location::Location;
use crate::options::OpenOptions;

/// Runs passive checkpoints on a connection of its own: the writing connection is in use
/// again as soon as the lock is free.
#[derive(Debug, Default)]
pub(crate) struct Checkpointer {
    connection: Mutex<Option<Connection>>,
}

impl Checkpointer {
    /// Runs a passive checkpoint, unless another thread is running one.
    pub(crate) fn run(&self, location: &Location, options: &OpenOptions) {
        let mut connection = match self.connection.try_lock() {
            Ok(connection) => connection,
            Err(TryLockError::Poisoned(poisoned)) => poisoned.into_inner(),
            Err(TryLockError::WouldBlock) => return,
        };
        // A connection that fails is closed, and the next checkpoint opens another.
        let open = connection
            .take()
            .map_or_else(|| open(location, options), Ok);
        *connection = open.ok().filter(|connection| {
            let done = wal::checkpoint(connection, Mode::Passive);
            done.inspect(|done| wal::warn_if_pinned(*done, location))
                .is_ok()
        });
    }

    /// Takes the connection out, so that its owner decides how it is closed.
    pub(crate) fn take(&mut self) -> Option<Connection> {
        let connection = self.connection.get_mut();
        connection.unwrap_or_else(PoisonError::into_inner).take()
    }
}

fn open(location: &Location, options: &OpenOptions) -> Result<Connection> {
    let options = options.clone().create(false);
    connection::open_writer(location, &options, &Deadline::after(Duration::ZERO))
}
