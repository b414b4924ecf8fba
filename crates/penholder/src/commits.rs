//! Waiting for commits to a database.

use std::time::Duration;

use penholder_core::{CommitToken, CommitWatch, Deadline};

use crate::database::Database;
use crate::error::Result;

/// The commits to a database, of all processes: [`Database::commits`] returns it.
///
/// As an iterator it waits for the next commit, as long as it takes, and never ends.
///
/// A wait costs a look at the files each 30 ms, some microseconds, and nothing else. It ends at once
/// after a commit through penholder, and within about 40 ms after one of another program. Several
/// commits may be one item: in a burst, a waiting process is told at most every 400 µs, less often the
/// more processes wait. Some items are of no commit: after a checkpoint that truncates the WAL, for
/// example. So look into the database for what is new.
#[derive(Debug)]
pub struct Commits {
    // It keeps the database open, so that no other process that closes it removes the WAL, which looks
    // like a commit.
    _db: Database,
    watch: CommitWatch,
    token: CommitToken,
}

impl Database {
    /// Returns the commits from now on.
    ///
    /// ```
    /// # use penholder::{Database, Result};
    /// # use std::time::Duration;
    /// # fn main() -> Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// # let db = Database::open(directory.path().join("x.db"))?;
    /// db.execute("CREATE TABLE job(name)", [])?;
    /// let mut commits = db.commits()?;
    /// assert_eq!(commits.wait(Duration::from_millis(10))?, None);
    /// // In another process:
    /// db.execute("INSERT INTO job VALUES ('sweep')", [])?;
    /// assert!(commits.wait(Duration::from_secs(10))?.is_some());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// This user may not write the queue file, which a process that waits does; the files of the
    /// database cannot be looked at.
    pub fn commits(&self) -> Result<Commits> {
        let (watch, token) = self.watch()?;
        Ok(Commits::new(self, watch, token))
    }

    /// Returns the commits after a token was made, by this process or another one: the first wait ends
    /// at once if there was one since, or if that cannot be told.
    ///
    /// # Errors
    ///
    /// As [`commits`](Self::commits).
    pub fn commits_since(&self, token: CommitToken) -> Result<Commits> {
        let (watch, _) = self.watch()?;
        Ok(Commits::new(self, watch, token))
    }

    fn watch(&self) -> Result<(CommitWatch, CommitToken)> {
        let mut watch = CommitWatch::new(&self.lock_file(), self.path())?;
        // First, so that what it is told of can be read.
        self.query_scalar::<i64>("SELECT count(*) FROM sqlite_schema", [])?;
        let token = watch.token()?;
        Ok((watch, token))
    }
}

impl Commits {
    fn new(db: &Database, watch: CommitWatch, token: CommitToken) -> Self {
        let _db = db.clone();
        Self { _db, watch, token }
    }

    /// Returns the token of the last commit that was told, or that this began with: a process that
    /// keeps it and passes it to [`commits_since`](Database::commits_since) misses nothing.
    #[must_use]
    pub fn token(&self) -> CommitToken {
        self.token
    }

    /// Waits for the next commit, and returns its token; `None` if there was none for so long.
    ///
    /// # Errors
    ///
    /// The files of the database cannot be looked at.
    pub fn wait(&mut self, timeout: Duration) -> Result<Option<CommitToken>> {
        let found = self.wait_since(self.token, timeout, || false)?;
        self.token = found.unwrap_or(self.token);
        Ok(found)
    }

    /// Waits for a commit after this token, unless that is cancelled.
    pub(crate) fn wait_since(
        &mut self,
        token: CommitToken,
        timeout: Duration,
        is_cancelled: impl Fn() -> bool,
    ) -> Result<Option<CommitToken>> {
        let deadline = Deadline::after(timeout);
        Ok(self.watch.wait_unless(token, &deadline, is_cancelled)?)
    }
}

impl Iterator for Commits {
    type Item = Result<CommitToken>;

    fn next(&mut self) -> Option<Self::Item> {
        self.wait(Duration::MAX).transpose()
    }
}
