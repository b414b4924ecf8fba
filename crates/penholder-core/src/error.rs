//! The one error of this crate.

use std::borrow::Cow;
use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::deadline::Deadline;
use crate::obstacle::Obstacle;
use crate::printable::{one_line, shown_path, user_text};
use crate::shortage::Shortage;
use crate::status::{Holder, SqliteHolder};
use crate::sys::file;

/// Why a lock could not be taken, read or released.
///
/// The type is opaque: ask its predicates. The text says what failed, where and why,
/// and ends with the next step.
///
/// ```
/// use penholder_lock::WriteLocker;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let directory = tempfile::tempdir()?;
/// let locker = WriteLocker::new(directory.path())?;
/// let _guard = locker.acquire(Duration::from_secs(1))?;
/// // The same thread would wait for itself; the error comes at once.
/// let error = locker.acquire(Duration::from_secs(1)).unwrap_err();
/// assert!(error.is_nested() && !error.is_timeout());
/// # Ok(())
/// # }
/// ```
pub struct LockError {
    inner: Box<Inner>,
}

#[derive(Debug)]
struct Inner {
    lock_file: PathBuf,
    kind: Kind,
}

/// What to do about a holder that works on another database.
pub const OTHER_DATABASE: &str = "the holder works on another database with the same lock file: \
     to separate them, give one a lock file of its own (`OpenOptions::lock_file`, on the command \
     line `--lock-file`) in all programs, or another directory";

#[derive(Debug)]
pub(crate) enum Kind {
    /// The deadline passed before the lock was free.
    Timeout {
        deadline: Deadline,
        holder: Option<Box<Holder>>,
        /// The process that has SQLite's own lock, for which the holder waits too.
        outsider: Option<SqliteHolder>,
        /// Whether the holder works on another database.
        has_other_database: bool,
        /// How many threads of this process were ahead, including the holder.
        threads: usize,
        /// How many processes were ahead in the queue, without the holder.
        processes: usize,
    },
    /// This thread already holds the lock.
    Nested,
    /// The guard was taken by the parent of this forked process.
    Forked,
    /// The lock file is on a network file system.
    Network { file_system: String },
    /// The path is not usable as a lock file.
    Refused { why: String, next: &'static str },
    /// The operating system returned an error.
    Io {
        what: &'static str,
        next: Cow<'static, str>,
        source: io::Error,
    },
}

/// Clones the error for every caller that shared the wait; of an error of the operating
/// system the clone keeps the code, or the kind and the text.
impl Clone for LockError {
    fn clone(&self) -> Self {
        let kind = match &self.inner.kind {
            Kind::Timeout {
                deadline,
                holder,
                outsider,
                has_other_database,
                threads,
                processes,
            } => Kind::Timeout {
                deadline: *deadline,
                holder: holder.clone(),
                outsider: outsider.clone(),
                has_other_database: *has_other_database,
                threads: *threads,
                processes: *processes,
            },
            Kind::Nested => Kind::Nested,
            Kind::Forked => Kind::Forked,
            Kind::Network { file_system } => Kind::Network {
                file_system: file_system.clone(),
            },
            Kind::Refused { why, next } => Kind::Refused {
                why: why.clone(),
                next,
            },
            Kind::Io { what, next, source } => Kind::Io {
                what,
                next: next.clone(),
                source: match source.raw_os_error() {
                    Some(code) => io::Error::from_raw_os_error(code),
                    None => io::Error::new(source.kind(), source.to_string()),
                },
            },
        };
        Self::new(&self.inner.lock_file, kind)
    }
}

impl LockError {
    pub(crate) fn new(lock_file: &Path, kind: Kind) -> Self {
        Self {
            inner: Box::new(Inner {
                lock_file: lock_file.to_owned(),
                kind,
            }),
        }
    }

    pub(crate) fn io(lock_file: &Path, what: &'static str, source: io::Error) -> Self {
        if let Some(shortage) = Shortage::of(&source) {
            let next = shortage.to_string().into();
            return Self::new(lock_file, Kind::Io { what, next, source });
        }
        let next = match source.kind() {
            io::ErrorKind::NotFound => "create the directory first",
            io::ErrorKind::PermissionDenied => {
                "a writer needs read and write permission on the lock file and its directory"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the directory is mounted read-only; a writer needs it writable"
            }
            // The error of our own platform layer; one of the system has a number.
            io::ErrorKind::Unsupported if source.raw_os_error().is_none() => {
                "run it on Linux, or add a platform module (`docs/platforms.md`)"
            }
            _ if file::is_in_use(&source) => {
                "another program has it open and shares it with nobody, as a virus scanner or a \
                 backup may: wait for it, or end it"
            }
            _ => "check the lock file and its directory",
        };
        let next = next.into();
        Self::new(lock_file, Kind::Io { what, next, source })
    }

    /// Makes the error of opening the lock file of a database, which may be another user's.
    pub(crate) fn opening_for(
        database: Option<&Path>,
        lock_file: &Path,
        what: &'static str,
        source: io::Error,
    ) -> Self {
        let mut error = Self::opening(lock_file, what, source);
        if let Kind::Io { next, source, .. } = &mut error.inner.kind
            && source.kind() == io::ErrorKind::PermissionDenied
        {
            let in_the_way = |database| Obstacle::find(database, [lock_file.to_owned()]);
            if let Some(obstacle) = database.and_then(in_the_way) {
                *next = obstacle.to_string().into();
            } else if let Some(found) = whose(lock_file) {
                *next = format!("{found}; {next}").into();
            }
        }
        error
    }

    /// Makes the error of opening a lock file, whose path may name something else.
    pub(crate) fn opening(lock_file: &Path, what: &'static str, source: io::Error) -> Self {
        let (why, next) = if file::is_symbolic_link(&source) {
            (
                "it is a symbolic link",
                "remove it; a lock file is never a link",
            )
        } else if source.kind() == io::ErrorKind::IsADirectory {
            (
                "it is a directory",
                "remove it, or choose another lock path",
            )
        } else {
            return Self::io(lock_file, what, source);
        };
        let why = why.to_owned();
        Self::new(lock_file, Kind::Refused { why, next })
    }

    /// Returns whether the deadline passed before the lock was free.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.inner.kind, Kind::Timeout { .. })
    }

    /// Returns whether this thread already holds the lock.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        matches!(self.inner.kind, Kind::Nested)
    }

    /// Returns whether the guard belongs to the parent of this forked process.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(self.inner.kind, Kind::Forked)
    }

    /// Returns whether the directory is on a network file system, where a lock on this
    /// machine does not exclude other machines.
    #[must_use]
    pub fn is_network_file_system(&self) -> bool {
        matches!(self.inner.kind, Kind::Network { .. })
    }

    /// Returns whether this user may not write the lock file or its directory, or they are
    /// mounted read-only.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(&self.inner.kind, Kind::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        ))
    }

    /// Returns whether another program has the file open and does not share it.
    pub(crate) fn is_in_use(&self) -> bool {
        matches!(&self.inner.kind, Kind::Io { source, .. } if file::is_in_use(source))
    }

    /// Returns the holder at the time of a timeout, if the lock was still held.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match &self.inner.kind {
            Kind::Timeout { holder, .. } => holder.as_deref(),
            _ => None,
        }
    }

    /// Returns the process that had SQLite's own lock without the write lock at the time of a
    /// timeout, so that the holder waited for it too.
    #[must_use]
    pub fn outsider(&self) -> Option<&SqliteHolder> {
        match &self.inner.kind {
            Kind::Timeout { outsider, .. } => outsider.as_ref(),
            _ => None,
        }
    }

    /// Returns the path of the lock file.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.inner.lock_file
    }
}

/// Says whose file it is, if there is one that this user may not write.
fn whose(path: &Path) -> Option<String> {
    let found = file::ownership_of_path(path).ok()?;
    let owner = user_text(found.user);
    (!file::may_write(path))
        .then(|| format!("it belongs to {owner} and has mode {:04o}", found.mode))
}

/// The same text as `Display`, because `main` and `unwrap` print this one; the fields with
/// `{:#?}`.
impl fmt::Debug for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if !f.alternate() {
            return fmt::Display::fmt(self, f);
        }
        f.debug_struct("LockError")
            .field("lock_file", &self.inner.lock_file)
            .field("kind", &self.inner.kind)
            .finish()
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = shown_path(&self.inner.lock_file);
        match &self.inner.kind {
            Kind::Timeout {
                deadline,
                holder,
                outsider,
                has_other_database,
                threads,
                processes,
            } => {
                writeln!(f, "write lock timeout after {deadline}")?;
                match holder {
                    Some(holder) => writeln!(f, "  holder: {holder}")?,
                    None => writeln!(
                        f,
                        "  holder: a process that left no record, or that has just released the lock"
                    )?,
                }
                if let Some(outsider) = outsider {
                    writeln!(
                        f,
                        "  SQLite's own lock: {outsider}, so the holder waits too"
                    )?;
                }
                if *has_other_database {
                    writeln!(f, "  {OTHER_DATABASE}")?;
                }
                if *threads > 1 {
                    writeln!(f, "  queue: {threads} threads of this process ahead of you")?;
                }
                if *processes > 0 {
                    writeln!(f, "  queue: {processes} ahead of you")?;
                }
                writeln!(f, "  lock file: {path}")?;
                f.write_str("  try again or check if holder process is stuck")
            }
            Kind::Nested => write!(
                f,
                "take write lock: {path}: this thread holds it already and would wait for itself: \
                 release the guard first, or do this work inside the outer call"
            ),
            Kind::Forked => write!(
                f,
                "release write lock: {path}: it was taken by the parent of this forked process and \
                 still belongs to the parent: take the lock again in the child"
            ),
            Kind::Network { file_system } => write!(
                f,
                "open lock file: {path}: on a network file system ({file_system}), where a lock on \
                 this machine does not exclude other machines: move the database to a local disk, or allow \
                 it if no other machine writes there (`allow_network_fs`, on the command line `--allow-network-fs`)"
            ),
            Kind::Refused { why, next } => {
                write!(f, "open lock file: {path}: {}: {next}", one_line(why))
            }
            Kind::Io { what, next, source } => {
                write!(
                    f,
                    "{what}: {path}: {}: {}",
                    one_line(source),
                    one_line(next)
                )
            }
        }
    }
}

impl StdError for LockError {
    fn source(&self) -> Option<&(dyn StdError + 'static)> {
        match &self.inner.kind {
            Kind::Io { source, .. } => Some(source),
            _ => None,
        }
    }
}
