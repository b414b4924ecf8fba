//! The one error of this crate.

use std::error::Error as StdError;
use std::fmt;
use std::io;
use std::path::{Path, PathBuf};

use crate::deadline::Deadline;
use crate::status::Holder;
use crate::sys::file;

/// Why a lock could not be taken, looked at or given back.
///
/// Opaque: ask its predicates. The text says what failed, where, why, and ends
/// with what to do next.
///
/// ```
/// use penholder_lock::WriteLocker;
/// use std::time::Duration;
///
/// # fn main() -> Result<(), Box<dyn std::error::Error>> {
/// # let folder = tempfile::tempdir()?;
/// let locker = WriteLocker::new(folder.path())?;
/// let _guard = locker.acquire(Duration::from_secs(1))?;
/// // The same thread again would wait for itself; it is told so at once.
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

#[derive(Debug)]
pub(crate) enum Kind {
    /// The deadline came first.
    Timeout {
        deadline: Deadline,
        holder: Option<Holder>,
        /// Threads of this process that were ahead, the holder included.
        threads: usize,
        /// Processes that were ahead in line, the holder not included.
        processes: usize,
    },
    /// This thread holds the lock already.
    Nested,
    /// The guard was taken by the parent of this forked process.
    Forked,
    /// A network file system.
    Network { file_system: String },
    /// The path cannot be a lock file.
    Refused { why: String, next: &'static str },
    /// The operating system said no.
    Io {
        what: &'static str,
        next: &'static str,
        source: io::Error,
    },
}

/// The same, for whoever shared the wait; of an error of the operating system the
/// kind and the text.
impl Clone for LockError {
    fn clone(&self) -> Self {
        let kind = match &self.inner.kind {
            Kind::Timeout {
                deadline,
                holder,
                threads,
                processes,
            } => Kind::Timeout {
                deadline: *deadline,
                holder: holder.clone(),
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
                next,
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
        let next = match source.kind() {
            io::ErrorKind::NotFound => "create the folder first",
            io::ErrorKind::PermissionDenied => {
                "whoever writes needs read and write permission on the lock file and its folder"
            }
            io::ErrorKind::ReadOnlyFilesystem => {
                "the folder is mounted read-only: writing needs it writable"
            }
            io::ErrorKind::StorageFull => "make room on the disk",
            // Of our own platform layer: an error of the system has a number.
            io::ErrorKind::Unsupported if source.raw_os_error().is_none() => {
                "run it on Linux, or add a platform module (`docs/platforms.md`)"
            }
            _ => "check the lock file and its folder",
        };
        Self::new(lock_file, Kind::Io { what, next, source })
    }

    /// An error of opening a lock file, which may stand for something else.
    pub(crate) fn opening(lock_file: &Path, what: &'static str, source: io::Error) -> Self {
        let (why, next) = if file::is_symbolic_link(&source) {
            (
                "a symbolic link stands there",
                "remove it; a lock file is never a link",
            )
        } else if source.kind() == io::ErrorKind::IsADirectory {
            (
                "a folder stands there",
                "remove it, or choose another lock path",
            )
        } else {
            return Self::io(lock_file, what, source);
        };
        let why = why.to_owned();
        Self::new(lock_file, Kind::Refused { why, next })
    }

    /// The deadline came before the lock.
    #[must_use]
    pub fn is_timeout(&self) -> bool {
        matches!(self.inner.kind, Kind::Timeout { .. })
    }

    /// This thread holds the lock already.
    #[must_use]
    pub fn is_nested(&self) -> bool {
        matches!(self.inner.kind, Kind::Nested)
    }

    /// The guard belongs to the parent of this forked process.
    #[must_use]
    pub fn is_forked(&self) -> bool {
        matches!(self.inner.kind, Kind::Forked)
    }

    /// The folder is on a network file system, where a lock on this machine
    /// does not hold on another.
    #[must_use]
    pub fn is_network_file_system(&self) -> bool {
        matches!(self.inner.kind, Kind::Network { .. })
    }

    /// The lock file or its folder may not be written by this user, or is
    /// mounted read-only.
    #[must_use]
    pub fn is_not_permitted(&self) -> bool {
        matches!(&self.inner.kind, Kind::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::PermissionDenied | io::ErrorKind::ReadOnlyFilesystem
        ))
    }

    /// Who held the lock when a timeout struck, if anybody still did.
    #[must_use]
    pub fn holder(&self) -> Option<&Holder> {
        match &self.inner.kind {
            Kind::Timeout { holder, .. } => holder.as_ref(),
            _ => None,
        }
    }

    /// The lock file.
    #[must_use]
    pub fn lock_file(&self) -> &Path {
        &self.inner.lock_file
    }
}

impl fmt::Debug for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LockError")
            .field("lock_file", &self.inner.lock_file)
            .field("kind", &self.inner.kind)
            .finish()
    }
}

impl fmt::Display for LockError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let path = self.inner.lock_file.display();
        match &self.inner.kind {
            Kind::Timeout {
                deadline,
                holder,
                threads,
                processes,
            } => {
                writeln!(f, "write lock timeout after {deadline}")?;
                match holder {
                    Some(holder) => writeln!(f, "  holder: {holder}")?,
                    None => writeln!(
                        f,
                        "  holder: a process that left no record, or one that has just let go"
                    )?,
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
                 is still the parent's: take the lock anew in the child"
            ),
            Kind::Network { file_system } => write!(
                f,
                "open lock file: {path}: on a network file system ({file_system}), where a lock on \
                 this machine does not hold on another: move the database to a local disk, or allow \
                 it if no other machine writes there (`allow_network_fs`, on the command line `--allow-network-fs`)"
            ),
            Kind::Refused { why, next } => write!(f, "open lock file: {path}: {why}: {next}"),
            Kind::Io { what, next, source } => write!(f, "{what}: {path}: {source}: {next}"),
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
