//! Bringing the schema up to date.

use rusqlite::Connection;

use crate::data::refuse_nul;
use crate::database::Database;
use crate::error::{Error, Result};

impl Database {
    /// Brings the schema up to date: runs those of `steps` that have not run on this database
    /// yet, each in a transaction of its own, and counts them in `user_version`. Returns the
    /// versions before and after.
    ///
    /// SQLite ignores `PRAGMA foreign_keys` in a transaction, so a step cannot switch it. To
    /// rebuild a table that others refer to, use [`with_write_lock`](Self::with_write_lock).
    ///
    /// The version is read again under the write lock: if many processes start at once, each
    /// step runs in one of them. One timeout bounds the waits of all steps together.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// let steps = [
    ///     "CREATE TABLE note(text)",
    ///     "ALTER TABLE note ADD COLUMN author; CREATE INDEX by_author ON note(author)",
    /// ];
    /// assert_eq!(db.migrate(&steps)?, (0, 2));
    /// assert_eq!(db.migrate(&steps)?, (2, 2));
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// The version of the database is higher than the number of steps; or a step fails, and
    /// then that step and those after it have no effect. Otherwise as [`write`](Self::write).
    #[track_caller]
    pub fn migrate(&self, steps: &[&str]) -> Result<(usize, usize)> {
        steps
            .iter()
            .try_for_each(|sql| refuse_nul("migrate", sql))?;
        let known = steps.len();
        // One deadline for all steps, so that their waits do not add up.
        let deadline = self.deadline();
        let before = self.read_by(&deadline, |connection| self.version(connection, known))?;
        for (number, sql) in steps.iter().enumerate().skip(before) {
            let attachment = self.attachment();
            let session = self.session_by(&attachment, deadline)?;
            session.write(|tx| {
                tx.note_statement(sql);
                self.step(tx, known, number, sql)
            })?;
        }
        Ok((before, known))
    }

    fn step(&self, tx: &Connection, known: usize, number: usize, sql: &str) -> Result<()> {
        // Another process may have run it since the version was read.
        if self.version(tx, known)? != number {
            return Ok(());
        }
        let step = tx.execute_batch(sql);
        step.map_err(|e| Error::sqlite("migrate", self.path(), self.hide(e)))?;
        let version = i64::try_from(number + 1).unwrap_or(i64::MAX);
        Ok(tx.pragma_update(None, "user_version", version)?)
    }

    fn version(&self, connection: &Connection, known: usize) -> Result<usize> {
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match usize::try_from(version) {
            Ok(version) if version <= known => Ok(version),
            _ => Err(Error::refused(
                "migrate",
                self.path(),
                format!("its version is {version}, and this program knows {known}"),
                "use a newer version of this program",
            )),
        }
    }
}
