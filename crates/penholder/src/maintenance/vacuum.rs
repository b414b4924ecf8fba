//! Rebuilding the database file without its free pages.

use super::checkpoint::checkpoint;
use crate::database::Database;
use crate::error::Result;

impl Database {
    /// Rebuilds the database file without its free pages, under the write lock.
    ///
    /// It copies the whole database: all other writers wait, and for that time twice the space
    /// is needed. The file gets shorter at once or, if another connection reads from the WAL,
    /// at the next checkpoint.
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn vacuum(&self) -> Result<()> {
        let attachment = self.attachment();
        let session = self.session(&attachment)?;
        session.note_statement("VACUUM");
        let done = session.connection().execute_batch("VACUUM");
        done.map_err(|e| session.explain("vacuum", e))?;
        // So far everything is in the WAL, and the file is as long as before.
        checkpoint(&session).map(drop)
    }
}
