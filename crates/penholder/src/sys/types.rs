//! What every platform answers with.

use std::ffi::OsStr;
use std::fs::File;
use std::io;
use std::path::PathBuf;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Which file it is: two names of one file have the same, and two files never have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    /// The file system `ReFS` has 128 bits.
    pub(crate) inode: u128,
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

/// How long the path of a file of SQLite may be.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct PathLimit {
    pub(crate) longest: usize,
    /// What the length is counted in.
    pub(crate) unit: &'static str,
    /// What to do about a longer one.
    pub(crate) next: &'static str,
}

/// Why no database can have a name, and what to do about it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct NameRefusal {
    pub(crate) why: String,
    pub(crate) next: &'static str,
}

/// A function in place of a system call. It is called with the signature of that call.
pub(crate) type SystemCall = unsafe extern "C" fn();

/// What is told, and asked, by the functions in place of SQLite's system calls.
#[derive(Debug, Clone, Copy)]
#[allow(dead_code, reason = "no platform uses all of it")]
pub(crate) struct Observer {
    /// SQLite has opened the file at a path.
    pub(crate) opened: fn(&OsStr, &File),
    /// SQLite could not open a file.
    pub(crate) not_opened: fn(&io::Error),
    /// SQLite has deleted the file at a path.
    pub(crate) deleted: fn(&OsStr),
    /// Whether a file may be deleted while SQLite has it open, where SQLite prevents that.
    pub(crate) may_vanish: fn(&OsStr) -> bool,
    /// How often this process was forked since the functions are in place.
    pub(crate) forks: fn() -> u64,
}
