//! Bringing the schema up to date.

use std::panic::Location;

use penholder_core::Deadline;
use rusqlite::Connection;

use crate::data::{Params, place_of};
use crate::database::Database;
use crate::error::{Error, Result};
use crate::write::Session;

/// The versions of the schema before and after [`Database::migrate`]: how many of its steps had
/// run.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct Migrated {
    /// How many steps had run before.
    pub from: usize,
    /// How many have run now: all of them.
    pub to: usize,
}

impl Database {
    /// Brings the schema up to date: runs those of `steps` that have not run on this database
    /// yet, each in a transaction of its own, and counts them in `user_version`.
    ///
    /// A step is one statement or several. Add steps at the end, and do not change those that
    /// have run somewhere. SQLite ignores `PRAGMA foreign_keys` in a transaction, so a step
    /// cannot switch it. To rebuild a table that others refer to, use
    /// [`with_write_lock`](Self::with_write_lock).
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
    /// let done = db.migrate(&steps)?;
    /// assert_eq!((done.from, done.to), (0, 2));
    /// assert_eq!(db.migrate(&steps)?.from, 2);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// - [`is_refused`](Error::is_refused): the version of the database is higher than the
    ///   number of steps.
    /// - [`sqlite_error`](Error::sqlite_error): a step fails, and then that step and those after
    ///   it have no effect. The text says which one.
    /// - otherwise as [`write`](Self::write).
    #[track_caller]
    pub fn migrate(&self, steps: &[&str]) -> Result<Migrated> {
        let site = Location::caller();
        let migration = Migration::new(self, steps)?;
        // One deadline for all steps, so that their waits do not add up.
        let deadline = self.deadline();
        let from = migration.version_now(&deadline)?;
        for number in from..steps.len() {
            self.with_session(deadline, site, |session| {
                migration.run_step(session, number)
            })?;
        }
        Ok(Migrated {
            from,
            to: steps.len(),
        })
    }
}

/// The steps that a program knows, for one database.
pub(crate) struct Migration<'a, S> {
    db: &'a Database,
    steps: &'a [S],
}

impl<'a, S: AsRef<str>> Migration<'a, S> {
    pub(crate) fn new(db: &'a Database, steps: &'a [S]) -> Result<Self> {
        let migration = Self { db, steps };
        for (number, sql) in steps.iter().enumerate() {
            Params::refuse_nul("migrate", sql.as_ref())
                .map_err(|e| e.at_place(|| migration.place(number)))?;
        }
        Ok(migration)
    }

    /// Returns how many steps have run on the database.
    pub(crate) fn version_now(&self, deadline: &Deadline) -> Result<usize> {
        self.db
            .read_until(deadline, |connection| self.version(connection))
    }

    /// Runs the step with this index, unless another process has run it since the version was
    /// read.
    pub(crate) fn run_step(&self, session: &Session<'_>, number: usize) -> Result<()> {
        let Some(sql) = self.steps.get(number).map(AsRef::as_ref) else {
            return Ok(());
        };
        let run: Result<()> = session.write(|tx| {
            tx.note_statement(sql);
            if self.version(tx)? != number {
                return Ok(());
            }
            tx.execute_batch(sql)
                .map_err(|e| Error::sqlite("migrate", self.db.path(), self.db.hide(e)))?;
            let version = i64::try_from(number + 1).unwrap_or(i64::MAX);
            Ok(tx.pragma_update(None, "user_version", version)?)
        });
        run.map_err(|e| {
            e.in_closure("migrate", self.db.path())
                .at_place(|| self.place(number))
        })
    }

    fn version(&self, connection: &Connection) -> Result<usize> {
        let known = self.steps.len();
        let version: i64 = connection.pragma_query_value(None, "user_version", |row| row.get(0))?;
        match usize::try_from(version) {
            Ok(version) if version <= known => Ok(version),
            _ => Err(Error::refused(
                "migrate",
                self.db.path(),
                format!("its version is {version}, and this program knows {known}"),
                "use a newer version of this program",
            )),
        }
    }

    /// Says which step is meant.
    fn place(&self, number: usize) -> String {
        let (count, sql) = (self.steps.len(), self.steps.get(number));
        let shown = sql.filter(|_| self.db.may_show_sql()).map(AsRef::as_ref);
        place_of("step", number + 1, count, shown)
    }
}
