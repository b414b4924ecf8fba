//! Checkpoints that a program asks for.

use std::panic::Location;
use std::time::Duration;

use crate::database::Database;
use crate::error::{Result, is_busy_code};
use crate::sqlite::wal::{self, Mode};
use crate::write::Session;

/// What a [checkpoint](Database::checkpoint) did.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub struct Checkpoint {
    /// How many frames (pages) the WAL had before. Zero, as the next one, also if another
    /// connection was running a checkpoint.
    pub wal_frames: u64,
    /// How many of them are in the database file now.
    pub checkpointed_frames: u64,
    /// Whether the WAL was emptied. If not, another connection still reads from it.
    pub truncated: bool,
}

impl Database {
    /// Copies the content of the WAL into the database file and empties the WAL, under the
    /// write lock. Does not wait for readers: it copies what it can while they go on, and the
    /// rest only if none reads from the WAL.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE note(text)", ())?;
    /// assert!(db.checkpoint()?.truncated);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`write`](Self::write).
    #[track_caller]
    pub fn checkpoint(&self) -> Result<Checkpoint> {
        let site = Location::caller();
        self.with_session(self.deadline(), site, run_checkpoint)
    }
}

/// Checkpoints after the whole database was written again, unless another program is to do all
/// checkpoints.
pub(crate) fn run_checkpoint_if_allowed(session: &Session<'_>) -> Result<()> {
    if session.context().options.checkpoints {
        run_checkpoint(session).map(drop)
    } else {
        Ok(())
    }
}

/// Copies what it can, then empties the WAL if no connection reads from it.
pub(crate) fn run_checkpoint(session: &Session<'_>) -> Result<Checkpoint> {
    let connection = session.connection();
    let failed = |e| session.explain("checkpoint", e);
    let passive = wal::checkpoint(connection, Mode::Passive).map_err(failed)?;
    // Does not wait for connections that read from the WAL.
    session.set_busy_timeout(Duration::ZERO)?;
    let truncated = match wal::checkpoint(connection, Mode::Truncate) {
        Ok(done) => !done.busy,
        // Here this is an answer, not an error.
        Err(error) if is_busy_code(&error) => false,
        Err(error) => return Err(failed(error)),
    };
    Ok(Checkpoint {
        wal_frames: passive.wal_frames,
        checkpointed_frames: passive.checkpointed,
        truncated,
    })
}
