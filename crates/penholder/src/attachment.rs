//! What one process has open of one database, and closing it.

use std::mem;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::time::Duration;

use penholder_core::{Deadline, Guard, Locker};
use rusqlite::Connection;
use rusqlite::config::DbConfig;

use crate::delegate::{Delegate, DelegateContext};
use crate::error::Result;
use crate::group::{Group, GroupContext};
use crate::location::Location;
use crate::options::OpenOptions;
use crate::sqlite::open_files::OpenFiles;
use crate::sqlite::reader_pool::ReaderPool;
use crate::sqlite::rescue::{Rescue, rescue};
use crate::sqlite::wal;
use crate::write::{WriteContext, WriteResources};

/// What one process has open of one database.
#[derive(Debug)]
pub(crate) struct Attachment {
    pub(crate) write: WriteResources,
    pub(crate) readers: ReaderPool,
    pub(crate) group: Arc<Group>,
    delegate: Delegate,
    /// Whether the connections are closed, because their files were replaced or deleted.
    is_given_up: AtomicBool,
    /// The path of the WAL, which is only looked at.
    wal: PathBuf,
    /// Whether closing the last connection may checkpoint.
    checkpoints: bool,
}

impl Attachment {
    pub(crate) fn new(locker: Locker, location: &Location, options: &OpenOptions) -> Self {
        let files = Arc::new(OpenFiles::new(location));
        Self {
            write: WriteResources::new(locker, Arc::clone(&files), options.lease),
            readers: ReaderPool::new(options.max_readers, files),
            group: Group::new(),
            delegate: Delegate::default(),
            is_given_up: AtomicBool::new(false),
            wal: location.wal(),
            checkpoints: options.checkpoints,
        }
    }

    /// Returns whether this process made it, not its parent.
    pub(crate) fn is_ours(&self) -> bool {
        self.write.is_ours()
    }

    pub(crate) fn locker(&self) -> &Locker {
        &self.write.locker
    }

    /// Returns which files SQLite has open.
    pub(crate) fn files(&self) -> &OpenFiles {
        &self.write.files
    }

    /// Closes all connections, if the files that they have open were replaced or deleted; a
    /// reader that is lent is closed when it is returned. Before that, saves what is only in
    /// those files.
    ///
    /// # Errors
    ///
    /// The write lock was not free before the deadline, or this thread holds it; what is only in
    /// those files could not be saved yet.
    pub(crate) fn give_up_if_lost(&self, deadline: &Deadline) -> Result<()> {
        if !self.files().are_lost() || !self.is_ours() {
            return Ok(());
        }
        // A thread waits for the write lock with no mutex held: the thread that has the lock
        // comes here too, if it reads or writes inside its closure.
        if self.locker().is_held_by_this_thread() {
            return Err(self.locker().nested_error().into());
        }
        if self.is_given_up.load(SeqCst) {
            return Ok(());
        }
        match self.locker().acquire_until(deadline) {
            Ok(guard) => {
                if !self.is_given_up.load(SeqCst) {
                    self.rescue(deadline)?;
                    self.give_up();
                }
                drop(guard);
            }
            Err(error) if error.is_timeout() || error.is_nested() => return Err(error.into()),
            // The lock file may have gone the same way.
            Err(_) => self.give_up(),
        }
        Ok(())
    }

    /// Ends a call that may have found the files replaced or deleted. If the connections cannot
    /// be closed before the deadline, the next call tries again.
    pub(crate) fn end_of_call(&self, deadline: &Deadline) {
        let _ = self.give_up_if_lost(deadline);
    }

    /// Saves what is only in the former files. The caller holds the write lock.
    ///
    /// # Errors
    ///
    /// A reader was in the way until the deadline: the connection is kept, because only its
    /// files have the last commits.
    fn rescue(&self, deadline: &Deadline) -> Result<()> {
        let Some(connection) = self.write.take_connection() else {
            return Ok(());
        };
        if rescue(self.files(), &connection, deadline) != Rescue::Unfinished {
            return Ok(());
        }
        self.write.keep_connection(Some(connection));
        self.files().refuse_lost("open database")
    }

    fn give_up(&self) {
        self.close_connections();
        self.is_given_up.store(true, SeqCst);
    }

    fn close_connections(&self) {
        drop(self.write.take_connection());
        self.write.checkpointer.close();
        self.delegate.close_connection();
        self.readers.close();
    }

    /// Returns what a write needs to know.
    pub(crate) fn context<'a>(
        &'a self,
        location: &'a Location,
        options: &'a OpenOptions,
    ) -> DelegateContext<'a> {
        DelegateContext {
            group: GroupContext {
                write: WriteContext {
                    location,
                    options,
                    resources: &self.write,
                },
                group: &self.group,
            },
            delegate: &self.delegate,
        }
    }

    /// Saves what is only in files that were replaced or deleted, if the write lock is free.
    fn rescue_before_closing(&self, connection: &Connection) {
        let at_once = Deadline::after(Duration::ZERO);
        if let Ok(Some(guard)) = self.locker().try_acquire() {
            rescue(self.files(), connection, &at_once);
            drop(guard);
        }
    }

    /// Returns the write lock, if it is free and closing the connection will not take long.
    fn guard_for_closing(&self, connection: &Connection) -> Option<Guard> {
        let locker = self.locker();
        if !self.checkpoints || !locker.lock_file().exists() {
            return None;
        }
        let is_slow = || wal::may_checkpoint_slowly(&self.wal);
        // Not at all if it is not the last: of many short processes each would wait.
        if is_slow() && locker.is_shared() {
            return None;
        }
        // First without the lock: others may write while this process waits for the disk.
        if is_slow() && wal::may_checkpoint_without_lock() && !wal::checkpoint_all(connection) {
            return None;
        }
        let guard = locker.try_acquire().unwrap_or(None)?;
        // Another process may have written meanwhile.
        let is_fast = !is_slow() || wal::checkpoint_all(connection);
        is_fast.then_some(guard)
    }
}

/// The last connection to a database checkpoints and deletes the WAL when it closes, and keeps
/// readers out until that is done. So a long WAL is checkpointed before, passively. The rest is
/// maintenance and happens under the write lock; if the lock is not free, or frames are left,
/// it does not happen: the process that is in the way closes later.
impl Drop for Attachment {
    fn drop(&mut self) {
        // Without locking: in a forked child, a thread that does not exist there may hold the
        // mutexes for ever.
        let connection = self.write.drain();
        let others = (self.readers.drain(), self.delegate.drain());
        if !self.is_ours() {
            mem::forget((connection, others, self.write.checkpointer.take()));
            return;
        }
        drop(others);
        self.write.checkpointer.end();
        let Some(connection) = connection else {
            return;
        };
        self.locker().end_lease();
        let guard = if self.files().are_named() {
            self.guard_for_closing(&connection)
        } else {
            // SQLite would delete a WAL by its path, which is another file now.
            self.rescue_before_closing(&connection);
            None
        };
        if guard.is_some() {
            // If it fails, the next process that closes the database checkpoints.
            let no_checkpoint = DbConfig::SQLITE_DBCONFIG_NO_CKPT_ON_CLOSE;
            let _ = connection.set_db_config(no_checkpoint, false);
        }
        drop(connection);
        drop(guard);
    }
}
