//! What every platform answers with.

use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which file it is: two names of one file have the same, and two files never have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Which file it is, and when it was created: the number of a file that has no name and is not
/// open any more is used again for the next one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct BornFile {
    pub(crate) id: FileId,
    /// `None` if the file system does not tell.
    pub(crate) born: Option<SystemTime>,
}

impl BornFile {
    /// Returns whether both are the same file, also if one of them may be gone.
    pub(crate) fn is(&self, other: &Self) -> bool {
        let is_born_later = self
            .born
            .zip(other.born)
            .is_some_and(|(one, two)| one != two);
        self.id == other.id && !is_born_later
    }
}

/// When a name in a directory was last created, deleted or changed: since 1970, by the clock that
/// the system can set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct DirectoryStamp(pub(crate) Duration);

impl DirectoryStamp {
    /// Returns whether it is older than `age` at the time `now`; `false` if the clock was set
    /// back since.
    pub(crate) fn is_older_than(&self, age: Duration, now: SystemTime) -> bool {
        now.duration_since(UNIX_EPOCH)
            .is_ok_and(|now| self.0 + age < now)
    }
}

/// A descriptor of a process, which may be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Where it can be opened again.
    pub(crate) path: PathBuf,
    /// What it leads to, as the kernel writes it.
    pub(crate) target: PathBuf,
}

/// Who owns a file, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The permission bits, at most 0o7777.
    pub(crate) mode: u32,
}

/// How much room a file system has for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    /// Whether another file can be created.
    pub(crate) has_files: bool,
}
