//! What a process, or the whole system, has run out of.

use std::fmt;
use std::io;

use crate::sys::descriptor;

/// What an operation failed for want of. The file that it was about is not to blame.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Shortage {
    /// The process may open no more files.
    Descriptors,
    /// The system may open no more files.
    SystemDescriptors,
    /// There is no memory, or the process may use no more.
    Memory,
    /// There is no room on the disk.
    Disk,
    /// The user may use no more of the disk.
    Quota,
}

impl Shortage {
    /// Returns what an operation failed for want of, if it did.
    ///
    /// ```
    /// use std::io::ErrorKind;
    ///
    /// use penholder_core::Shortage;
    ///
    /// let full = Shortage::of(&ErrorKind::StorageFull.into());
    /// assert_eq!(full, Some(Shortage::Disk));
    /// assert_eq!(Shortage::of(&ErrorKind::NotFound.into()), None);
    /// ```
    #[must_use]
    pub fn of(error: &io::Error) -> Option<Self> {
        if descriptor::is_own_limit(error) {
            return Some(Self::Descriptors);
        }
        if descriptor::is_system_limit(error) {
            return Some(Self::SystemDescriptors);
        }
        match error.kind() {
            io::ErrorKind::OutOfMemory => Some(Self::Memory),
            io::ErrorKind::StorageFull => Some(Self::Disk),
            io::ErrorKind::QuotaExceeded => Some(Self::Quota),
            _ => None,
        }
    }

    /// Returns what to do about it.
    #[must_use]
    pub fn advice(self) -> &'static str {
        match self {
            Self::Descriptors | Self::SystemDescriptors if cfg!(windows) => {
                "end programs that have many files open"
            }
            Self::Memory if cfg!(windows) => "free memory",
            Self::Descriptors => {
                "close files that this process has open, or raise its limit (`ulimit -n`)"
            }
            Self::SystemDescriptors => {
                "end programs that have many files open, or raise `fs.file-max` with sysctl"
            }
            Self::Memory => {
                "free memory, or raise the limit of this process (`ulimit -v`) or of its container"
            }
            Self::Disk => "make room on the disk",
            Self::Quota => "delete files of this user, or raise the disk quota",
        }
    }
}

/// What to do about it.
impl fmt::Display for Shortage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.advice())
    }
}
