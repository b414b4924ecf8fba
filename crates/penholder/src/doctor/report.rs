//! The report of an examination: its findings, each with a check and a severity.

use std::error::Error;
use std::fmt;
use std::path::PathBuf;

use penholder_core::one_line;

/// What an examination found.
///
/// With the feature `serde` it serialises to an object with these fields. They stay as they
/// are within a major version; checks may be added:
///
/// | field | value |
/// | --- | --- |
/// | `database`, `lock_file` | paths |
/// | `worst` | `"ok"`, `"info"`, `"warning"` or `"error"` |
/// | `findings` | each `check, severity, finding, why, next`; `next` is `null` if there is nothing to do |
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Report {
    /// The absolute path of the database, with links resolved.
    pub database: PathBuf,
    /// The path of its lock file.
    pub lock_file: PathBuf,
    /// At least one finding of each check that could run; the worst come first.
    pub findings: Vec<Finding>,
}

/// One thing that an examination found.
#[derive(Debug, Clone, PartialEq, Eq)]
#[cfg_attr(feature = "serde", derive(serde::Serialize))]
#[non_exhaustive]
pub struct Finding {
    /// Which check found it.
    pub check: Check,
    /// How bad it is.
    pub severity: Severity,
    /// What was found.
    pub finding: String,
    /// Why it matters.
    pub why: &'static str,
    /// What to do, if there is something to do.
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

/// What an examination checks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum Check {
    /// Whether the database can be read.
    Database,
    /// `PRAGMA journal_mode`.
    JournalMode,
    /// What a commit waits for (`PRAGMA synchronous`).
    Synchronous,
    /// How long SQLite waits for its own locks (the busy timeout).
    BusyTimeout,
    /// Whether it is on a network file system.
    FileSystem,
    /// Whether one of its files is mounted by itself.
    Mounts,
    /// Who may write the database, its directory and the files next to it.
    Permissions,
    /// Whether the disk has room.
    DiskSpace,
    /// Whether the file has other names, and whether a process uses one of them.
    HardLinks,
    /// Whether a transaction outside WAL mode was interrupted.
    Journal,
    /// How long the WAL is, and which processes read from it.
    Wal,
    /// Which process holds the write lock.
    Holder,
    /// Whether processes can queue for it.
    QueueFile,
    /// How processes keep it from one write to the next, and whether programs without penholder
    /// interrupt them.
    Leases,
    /// Whether the wall clock was set.
    Clock,
    /// Which processes write without the write lock.
    UnlockedWriters,
    /// Which processes have a file open that is no longer this database.
    Replaced,
    /// Which files of penholder a process has left unfinished.
    Leftovers,
    /// Which versions of SQLite are in use.
    SqliteVersion,
    /// Whether processes can record which writes they executed for others.
    BatchTable,
    /// `PRAGMA integrity_check`.
    Integrity,
    /// `PRAGMA foreign_key_check`.
    ForeignKeys,
}

impl Report {
    /// Returns the worst severity of all findings; [`Severity::Ok`] if there are none.
    #[must_use]
    pub fn worst(&self) -> Severity {
        let severities = self.findings.iter().map(|finding| finding.severity);
        severities.max().unwrap_or(Severity::Ok)
    }
}

impl Finding {
    /// Makes a finding of one line, in which names of files and tables, and what SQLite says, are
    /// escaped.
    pub(super) fn new(check: Check, severity: Severity, finding: impl fmt::Display) -> Self {
        Self {
            check,
            severity,
            finding: one_line(finding).to_string(),
            why: check.why(),
            next: None,
        }
    }

    /// Makes a finding of an error, whose text may have several lines, and is escaped already.
    pub(super) fn of_error(check: Check, severity: Severity, error: &impl Error) -> Self {
        Self {
            finding: error.to_string(),
            ..Self::new(check, severity, "")
        }
    }

    pub(super) fn ok(check: Check, finding: impl fmt::Display) -> Self {
        Self::new(check, Severity::Ok, finding)
    }

    pub(super) fn info(check: Check, finding: impl fmt::Display) -> Self {
        Self::new(check, Severity::Info, finding)
    }

    pub(super) fn warning(check: Check, finding: impl fmt::Display) -> Self {
        Self::new(check, Severity::Warning, finding)
    }

    pub(super) fn error(check: Check, finding: impl fmt::Display) -> Self {
        Self::new(check, Severity::Error, finding)
    }

    pub(super) fn next(mut self, next: impl fmt::Display) -> Self {
        self.next = Some(one_line(next).to_string());
        self
    }
}

impl Check {
    /// Returns why a finding of this check matters.
    fn why(self) -> &'static str {
        match self {
            Self::Database => "what SQLite cannot read here, no program of this user can use",
            Self::JournalMode => {
                "in WAL mode readers and the writer do not block one another; in any other mode they do"
            }
            Self::Synchronous => {
                "it decides what a power cut may lose: with NORMAL the last writes, with FULL \
                 none; the database stays intact with both"
            }
            Self::BusyTimeout => {
                "without one, a connection that meets one of SQLite's locks fails at once with \
                 `database is locked`"
            }
            Self::FileSystem => {
                "SQLite's locks and its shared memory do not work between machines: two write at \
                 the same time, and the database gets corrupt"
            }
            Self::Mounts => {
                "the files next to the mounted one are not those next to it in its own directory: \
                 two WALs and two locks for one database lose writes and corrupt it"
            }
            Self::Permissions => {
                "a user who writes the database needs write permission on it, on its directory and \
                 on every file next to it; a file of another user can lock the others out"
            }
            Self::DiskSpace => "without room the next commit or checkpoint fails",
            Self::HardLinks => {
                "a process that opens it under another name uses another WAL, and in another \
                 directory another lock file, which corrupts it"
            }
            Self::Journal => {
                "it undoes a transaction that was interrupted; without it, or with the wrong \
                 database, content is lost"
            }
            Self::Wal => {
                "while a reader stays in its transaction, the WAL cannot start from its beginning: \
                 it grows with every write, and reads get slow"
            }
            Self::Holder => "while it holds the lock, no other process writes",
            Self::QueueFile => "without it processes poll for the lock, in no order",
            Self::Leases => {
                "a program that writes again and again keeps the lock, and SQLite's own locks, from \
                 one write to the next, which makes its writes faster; next to programs that write \
                 without the lock it has to leave SQLite's alone for up to half of the time"
            }
            Self::Clock => {
                "waits are not affected, but the times in status, errors and events are wrong"
            }
            Self::UnlockedWriters => {
                "a writer that does not take the lock makes others wait inside SQLite, in no order, \
                 and itself fails with `database is locked`"
            }
            Self::Replaced => {
                "what it writes is lost, and its WAL may be mixed up with that of the new file"
            }
            Self::Leftovers => {
                "a process was killed while it made a database, a backup or a copy to restore \
                 from, and what it had made takes room"
            }
            Self::SqliteVersion => {
                "versions 3.7.0 to 3.51.2, except 3.44.6 and 3.50.7, can corrupt a database in \
                 WAL mode that several processes write (the WAL-reset bug)"
            }
            Self::BatchTable => {
                "processes record in it which writes they executed for others; if it cannot be \
                 used, each process commits its own writes"
            }
            Self::Integrity => {
                "a corrupt database gives wrong answers, and loses more with each write"
            }
            Self::ForeignKeys => {
                "rows refer to nothing; SQLite checks this only on connections that switch it on"
            }
        }
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}: {}", self.check, self.finding, self.why)?;
        match &self.next {
            Some(next) => write!(f, ": {next}"),
            None => Ok(()),
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
            Self::Mounts => "mounts",
            Self::Permissions => "permissions",
            Self::DiskSpace => "disk space",
            Self::HardLinks => "hard links",
            Self::Journal => "journal",
            Self::Wal => "WAL",
            Self::Holder => "holder",
            Self::QueueFile => "queue file",
            Self::Leases => "leases",
            Self::Clock => "clock",
            Self::UnlockedWriters => "writers",
            Self::Replaced => "replaced",
            Self::Leftovers => "leftovers",
            Self::SqliteVersion => "SQLite version",
            Self::BatchTable => "batch table",
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
