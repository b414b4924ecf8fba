//! Rebuilding the database file without its free pages.

use std::panic::Location;

use super::checkpoint::run_checkpoint_if_allowed;
use crate::database::Database;
use crate::error::Result;
use crate::write::Session;

impl Database {
    /// Rebuilds the database file without its free pages, under the write lock.
    ///
    /// It copies the whole database: all other writers wait, and for that time twice the space
    /// is needed. The file gets shorter at once or, if another connection reads from the WAL or
    /// this handle leaves [checkpoints](crate::OpenOptions::checkpoints) to another program, at the next
    /// checkpoint.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn vacuum(&self) -> Result<()> {
        let site = Location::caller();
        self.with_session(self.deadline(), site, run_vacuum)
    }
}

/// Rebuilds the database file, and shortens it if no connection reads from the WAL.
pub(crate) fn run_vacuum(session: &Session<'_>) -> Result<()> {
    session.note_statement("VACUUM");
    let done = session.connection().execute_batch("VACUUM");
    done.map_err(|e| session.explain("vacuum", e))?;
    // So far everything is in the WAL, and the file is as long as before.
    run_checkpoint_if_allowed(session)
}
