//! A bounded pool of connections that only read.
//!
//! | state of a connection | where | leaves by |
//! | --- | --- | --- |
//! | not open | counted in `unopened` | `take` opens it |
//! | idle | in `idle`, no transaction | `take` lends it |
//! | lent | with a caller | drop of [`Reader`]: idle again, or closed if it cannot be reset or its files were replaced |

use std::mem;
use std::ops::Deref;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::time::Instant;

use penholder_core::{Deadline, fork_generation};
use rusqlite::Connection;

use crate::error::{Error, Result};
use crate::location::Location;
use crate::mutex::lock;
use crate::options::{ConnectionRole, OpenOptions};
use crate::sqlite::connection;
use crate::sqlite::ffi::unset_rollback_hook;
use crate::sqlite::open_files::OpenFiles;
use crate::sqlite::query::step;

/// Lends connections that only read, at most `size` at once.
#[derive(Debug)]
pub(crate) struct ReaderPool {
    size: usize,
    files: Arc<OpenFiles>,
    state: Mutex<State>,
    returned: Condvar,
}

#[derive(Debug)]
struct State {
    idle: Vec<Connection>,
    /// How many more may be opened.
    unopened: usize,
}

/// A connection that the pool has lent; dropping it returns it.
#[derive(Debug)]
pub(crate) struct Reader<'a> {
    pool: &'a ReaderPool,
    generation: u64,
    /// `None` only while it is being returned.
    connection: Option<Connection>,
}

impl ReaderPool {
    pub(crate) fn new(size: usize, files: Arc<OpenFiles>) -> Self {
        Self {
            size,
            files,
            state: Mutex::new(State {
                idle: Vec::new(),
                unopened: size,
            }),
            returned: Condvar::new(),
        }
    }

    /// Lends a connection, and opens one if fewer than `size` are open.
    ///
    /// # Errors
    ///
    /// The deadline passed before a connection was returned, SQLite cannot open one, or the files
    /// that the connections have open were replaced.
    pub(crate) fn take(
        &self,
        location: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Reader<'_>> {
        self.files.check("read", Instant::now())?;
        let mut state = lock(&self.state);
        loop {
            if let Some(connection) = state.idle.pop() {
                return Ok(self.lend(connection));
            }
            if state.unopened > 0 {
                state.unopened -= 1;
                break;
            }
            let remaining = deadline.remaining();
            if remaining.is_zero() {
                return Err(Error::no_reader(&location.path, *deadline, self.size));
            }
            let (next, _timeout) = self
                .returned
                .wait_timeout(state, remaining)
                .unwrap_or_else(PoisonError::into_inner);
            state = next;
        }
        drop(state);
        let place = Place(self);
        let connection = self.open(location, options, deadline)?;
        mem::forget(place);
        Ok(self.lend(connection))
    }

    fn open(
        &self,
        location: &Location,
        options: &OpenOptions,
        deadline: &Deadline,
    ) -> Result<Connection> {
        let connection = connection::open_reader(location, connection::vfs(options), deadline)?;
        // Before the first read: a hook may say how the file is read, as `PRAGMA key` does.
        connection::set_up_by_program(&connection, location, options, ConnectionRole::Reader)?;
        self.files.check_opened(&connection, deadline)?;
        Ok(connection)
    }

    /// Closes the connections that are not lent. Those that are lent are closed when they are
    /// returned, because their files were replaced.
    pub(crate) fn close(&self) {
        let mut state = lock(&self.state);
        let idle = mem::take(&mut state.idle);
        state.unopened += idle.len();
    }

    /// Takes the connections that are not lent out of the pool.
    pub(crate) fn drain(&mut self) -> Vec<Connection> {
        let state = self.state.get_mut();
        mem::take(&mut state.unwrap_or_else(PoisonError::into_inner).idle)
    }

    fn lend(&self, connection: Connection) -> Reader<'_> {
        Reader {
            pool: self,
            generation: fork_generation(),
            connection: Some(connection),
        }
    }
}

/// The place of a connection that is being opened. Dropping it gives the place back: the
/// connection could not be opened, or a hook of the program panicked.
struct Place<'a>(&'a ReaderPool);

impl Drop for Place<'_> {
    fn drop(&mut self) {
        lock(&self.0.state).unopened += 1;
        self.0.returned.notify_one();
    }
}

impl Reader<'_> {
    /// Returns whether the connection was lent in the parent of this forked process.
    pub(crate) fn is_inherited(&self) -> bool {
        self.generation != fork_generation()
    }
}

impl Deref for Reader<'_> {
    type Target = Connection;

    #[expect(clippy::expect_used, reason = "taken out only in `drop`")]
    fn deref(&self) -> &Connection {
        self.connection.as_ref().expect("lent until dropped")
    }
}

impl Drop for Reader<'_> {
    fn drop(&mut self) {
        let connection = self.connection.take();
        if self.is_inherited() {
            // It belongs to the parent, as its pool does: closing it here would drop the
            // parent's locks.
            mem::forget(connection);
            return;
        }
        // Ends the snapshot, also when the caller panics.
        let reset = connection.filter(|connection| {
            let is_reset = connection.is_autocommit() || step(connection, "ROLLBACK").is_ok();
            if !is_reset {
                unset_rollback_hook(connection);
            }
            is_reset
        });
        let mut state = lock(&self.pool.state);
        // Asked with the mutex held: what is kept before the files are lost, `close` finds.
        let (kept, closed) = match self.pool.files.are_lost() {
            true => (None, reset),
            false => (reset, None),
        };
        match kept {
            Some(connection) => state.idle.push(connection),
            None => state.unopened += 1,
        }
        drop(state);
        drop(closed);
        self.pool.returned.notify_one();
    }
}
