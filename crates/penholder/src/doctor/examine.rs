//! The doctor: runs all checks and collects what they find.

use std::cmp::Reverse;
use std::path::Path;

use super::report::Report;
use super::subject::Subject;
use super::{files, leftovers, lock, opening, processes, wal};
use crate::error::{Error, Result};
use crate::former_users;
use crate::location::Location;
use crate::opening::public_locker;
use crate::options::OpenOptions;

/// Examines a database: finds what is wrong with it or may go wrong.
///
/// It changes nothing, and it neither takes nor probes the write lock. SQLite opens the
/// database for reading, and creates the `-wal` and `-shm` files of a database in WAL mode if
/// they are missing. A database that the options do not allow to open (on a network file system,
/// mounted as a single file), or of which another process has a deleted WAL open, is not opened.
///
/// ```
/// use penholder::doctor::{Doctor, Severity};
/// use penholder::{Database, OpenOptions};
///
/// # fn main() -> penholder::Result<()> {
/// # let directory = tempfile::tempdir().unwrap();
/// # let path = directory.path().join("app.db");
/// # Database::open(&path)?;
/// let report = Doctor::new(OpenOptions::new()).examine(path)?;
/// for finding in report.findings.iter().filter(|one| one.severity > Severity::Info) {
///     println!("{}: {}", finding.severity, finding.finding);
/// }
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
#[must_use]
pub struct Doctor {
    options: OpenOptions,
    integrity: bool,
}

impl Doctor {
    /// Makes a doctor that opens databases with these options, as a program would.
    pub fn new(options: OpenOptions) -> Self {
        Self {
            options,
            integrity: false,
        }
    }

    /// Sets whether the whole content is checked too (`integrity_check` and
    /// `foreign_key_check`), which reads all of it. Off by default.
    pub fn integrity(mut self, integrity: bool) -> Self {
        self.integrity = integrity;
        self
    }

    /// Runs all checks. It takes some seconds at most, unless the content is checked.
    ///
    /// # Errors
    ///
    /// There is no database to examine: the file is missing, or is a directory, or is not a
    /// database.
    pub fn examine(&self, path: impl AsRef<Path>) -> Result<Report> {
        let what = "examine database";
        let location = Location::of(path.as_ref(), what)?;
        if !location.exists {
            let (why, next) = ("there is no such database", "check the name");
            return Err(Error::refused(what, &location.path, why, next));
        }
        let locker = public_locker(&location, &self.options)?;
        let subject = Subject {
            location: &location,
            options: &self.options,
            locker: &locker,
        };
        // Before SQLite opens the database here: this process is not to be found.
        let mut findings = processes::examine(&subject);
        // Before that too: SQLite corrects the mode of an empty file.
        findings.extend(files::examine(&subject));
        // Opening it could lose what another process has in a deleted WAL.
        let refused = former_users::refuse(&location);
        if !files::is_refused(&subject) && refused.is_ok() {
            findings.extend(opening::examine(&subject, self.integrity)?);
        }
        findings.extend(leftovers::examine(&subject));
        findings.extend(wal::examine(&subject));
        findings.extend(lock::examine(&subject));
        findings.sort_by_key(|one| (Reverse(one.severity), one.check));
        Ok(Report {
            database: location.path.clone(),
            lock_file: locker.lock_file().to_owned(),
            findings,
        })
    }
}
