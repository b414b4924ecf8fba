//! The report of an examination: its findings, each with a check and a severity.

use std::fmt;
use std::path::PathBuf;

/// What was found.
///
/// With the feature `serde` it serialises to an object with these fields, which stay
/// as they are within a major version; names of checks may be added:
///
/// | field | value |
/// | --- | --- |
/// | `database`, `lock_file` | paths |
/// | `worst` | `"ok"`, `"info"`, `"warning"` or `"error"` |
/// | `findings` | each `check, severity, finding, why, next`; `next` is `null` where there is nothing to do |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The database, absolute, links resolved.
    pub database: PathBuf,
    /// Its lock file.
    pub lock_file: PathBuf,
    /// Of each check at least one, if it could be made; the worst first.
    pub findings: Vec<Finding>,
}

/// One thing that was found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// What was looked at.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do, if there is something.
    pub next: Option<String>,
}

/// How bad a finding is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "lowercase")
)]
#[non_exhaustive]
pub enum Severity {
    /// As it should be.
    Ok,
    /// Worth knowing.
    Info,
    /// It works, and may fail later, or for others.
    Warning,
    /// It does not work now.
    Error,
}

/// What is looked at.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Check {
    /// Can it be read.
    Database,
    /// `PRAGMA journal_mode`.
    JournalMode,
    /// What a commit waits for.
    Synchronous,
    /// How long SQLite waits for its own locks.
    BusyTimeout,
    /// Is it on a network file system.
    FileSystem,
    /// Who may write the database, its folder and the files beside it.
    Permissions,
    /// Is there room.
    DiskSpace,
    /// Has the file other names.
    HardLinks,
    /// Has a transaction been cut off outside WAL mode.
    Journal,
    /// How long the log is, and who reads from it.
    Wal,
    /// Who holds the write lock.
    Holder,
    /// Do processes queue for it.
    QueueFile,
    /// Has the wall clock been set.
    Clock,
    /// Who writes without the write lock.
    Outsiders,
    /// Who has a file open that is no longer this database.
    Replaced,
    /// Which versions of SQLite are at work.
    SqliteVersion,
    /// `PRAGMA integrity_check`.
    Integrity,
    /// `PRAGMA foreign_key_check`.
    ForeignKeys,
}

impl Report {
    /// The worst severity of all findings.
    #[must_use]
    pub fn worst(&self) -> Severity {
        let severities = self.findings.iter().map(|finding| finding.severity);
        severities.max().unwrap_or(Severity::Ok)
    }
}

impl Finding {
    pub(super) fn new(check: Check, severity: Severity, finding: impl Into<String>) -> Self {
        Self {
            check,
            severity,
            finding: finding.into(),
            why: check.why(),
            next: None,
        }
    }

    pub(super) fn ok(check: Check, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Ok, finding)
    }

    pub(super) fn info(check: Check, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Info, finding)
    }

    pub(super) fn warning(check: Check, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Warning, finding)
    }

    pub(super) fn error(check: Check, finding: impl Into<String>) -> Self {
        Self::new(check, Severity::Error, finding)
    }

    pub(super) fn next(mut self, next: impl Into<String>) -> Self {
        self.next = Some(next.into());
        self
    }
}

impl Check {
    /// Why it matters.
    fn why(self) -> &'static str {
        match self {
            Self::Database => "what SQLite cannot read here, no program of this user can use",
            Self::JournalMode => {
                "in WAL mode readers and the writer go on beside one another; in any other mode \
                 each keeps the other out"
            }
            Self::Synchronous => {
                "it decides what a power cut may take: with NORMAL the last writes, with FULL \
                 none; the database stays whole with both"
            }
            Self::BusyTimeout => {
                "with none, whoever meets one of SQLite's locks fails at once with `database is \
                 locked`"
            }
            Self::FileSystem => {
                "between machines SQLite's locks and its shared memory do not hold: two write at \
                 once, and the database is corrupt"
            }
            Self::Permissions => {
                "whoever writes needs to write the database, its folder and every file beside \
                 it; one that belongs to somebody else locks the others out"
            }
            Self::DiskSpace => "without room the next commit or checkpoint fails",
            Self::HardLinks => {
                "a writer that opens it under a name in another folder uses another log and \
                 another lock file, which corrupts it"
            }
            Self::Journal => {
                "it undoes a transaction that was cut off; without it, or beside the wrong \
                 database, content is lost"
            }
            Self::Wal => {
                "a reader that stays in its transaction keeps the log from being started anew: \
                 it grows with every write, and reading gets slow"
            }
            Self::Holder => "as long as it holds, nobody else writes",
            Self::QueueFile => "without it processes poll for the lock, in no order",
            Self::Clock => {
                "waits are right all the same, but the times in status, errors and events are not"
            }
            Self::Outsiders => {
                "a writer that does not queue makes others wait inside SQLite, in no order, and \
                 fails with `database is locked` itself"
            }
            Self::Replaced => {
                "what it writes is lost, and its log may be mixed up with the new file's"
            }
            Self::SqliteVersion => {
                "versions 3.7.0 to 3.51.2, except 3.44.6 and 3.50.7, can corrupt a database in \
                 WAL mode that several processes write (the WAL-reset bug)"
            }
            Self::Integrity => {
                "a corrupt database gives wrong answers, and loses more with each write"
            }
            Self::ForeignKeys => {
                "rows that refer to nothing; SQLite checks only on connections that switched it on"
            }
        }
    }
}

impl fmt::Display for Check {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Database => "database",
            Self::JournalMode => "journal mode",
            Self::Synchronous => "synchronous",
            Self::BusyTimeout => "busy timeout",
            Self::FileSystem => "file system",
            Self::Permissions => "permissions",
            Self::DiskSpace => "disk space",
            Self::HardLinks => "hard links",
            Self::Journal => "journal",
            Self::Wal => "WAL",
            Self::Holder => "holder",
            Self::QueueFile => "queue file",
            Self::Clock => "clock",
            Self::Outsiders => "outsiders",
            Self::Replaced => "replaced",
            Self::SqliteVersion => "SQLite version",
            Self::Integrity => "integrity",
            Self::ForeignKeys => "foreign keys",
        })
    }
}

impl fmt::Display for Severity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Info => "info",
            Self::Warning => "warning",
            Self::Error => "error",
        })
    }
}

#[cfg(feature = "serde")]
impl serde::Serialize for Report {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        use serde::ser::SerializeStruct;
        let mut out = serializer.serialize_struct("Report", 4)?;
        out.serialize_field("database", &self.database.to_string_lossy())?;
        out.serialize_field("lock_file", &self.lock_file.to_string_lossy())?;
        out.serialize_field("worst", &self.worst())?;
        out.serialize_field("findings", &self.findings)?;
        out.end()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn severities_are_ordered() {
        assert!(Severity::Error > Severity::Warning && Severity::Info > Severity::Ok);
    }
}
