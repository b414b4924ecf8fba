//! Why a queue file is not used, and what to do.

use std::fmt;
use std::path::Path;

use super::layout;
use crate::printable::user_text;
use crate::remedy;
use crate::sys::file;

/// Why a queue file is not used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum QueueFileFault {
    /// A directory or a device stands in its place.
    NotAFile,
    /// It has fewer bytes than a queue file.
    TooShort,
    /// It does not begin as a queue file does.
    NotAQueueFile,
    /// It was built by another version of penholder.
    OtherVersion(u64),
    /// It was built before the machine was restarted, or on another machine.
    OtherBoot,
    /// It belongs to this user, who is not known to be one who may write the database.
    OtherUser(u32),
    /// Users may write it who may not write the database.
    WritableByOthers {
        /// Its permission bits.
        mode: u32,
        /// Its group.
        group: u32,
    },
    /// There is none, and this process could not build one: its limit on the size of files,
    /// in bytes, is too low.
    FileSizeLimit(u64),
}

impl fmt::Display for QueueFileFault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotAFile => f.write_str("is not a regular file"),
            Self::TooShort => f.write_str("is too short"),
            Self::NotAQueueFile => f.write_str("is not a queue file"),
            Self::OtherVersion(version) => {
                write!(
                    f,
                    "has version {version}, and this program uses version {}",
                    layout::version()
                )
            }
            Self::OtherBoot => f.write_str("was built in another boot of the machine"),
            Self::OtherUser(user) => {
                let user = user_text(*user);
                write!(f, "belongs to {user}, who is not known to be a writer here")
            }
            Self::WritableByOthers { mode, group } => write!(
                f,
                "may be written by users who are no writers here (mode {mode:04o}, group {group})"
            ),
            Self::FileSizeLimit(limit) => write!(
                f,
                "cannot be built: it needs {} bytes, and the limit on the size of a file is \
                 {limit} bytes",
                layout::length(1)
            ),
        }
    }
}

impl QueueFileFault {
    /// Returns why this process could not build a queue file, as far as that is known without
    /// trying.
    #[must_use]
    pub fn of_building() -> Option<Self> {
        let limit = file::size_limit().filter(|limit| *limit < layout::length(1) as u64)?;
        Some(Self::FileSizeLimit(limit))
    }

    /// Returns what to do about a fault of the queue file with this path.
    #[must_use]
    pub fn advice(&self, queue_file: &Path) -> String {
        let remove = remedy::remove_file(queue_file);
        let superuser = remedy::SUPERUSER;
        match self {
            Self::OtherVersion(_) => {
                "use one version of penholder in all programs: they share no queue".to_owned()
            }
            Self::OtherUser(_) => {
                format!("remove it as {superuser} or as that user: {remove}")
            }
            Self::WritableByOthers { .. } => {
                format!("remove it as {superuser} or as its owner: {remove}")
            }
            Self::FileSizeLimit(_) => {
                "raise the limit (`ulimit -f unlimited`, `LimitFSIZE=` of systemd)".to_owned()
            }
            Self::NotAFile => "move it to another place".to_owned(),
            Self::TooShort | Self::NotAQueueFile | Self::OtherBoot => {
                "nothing: the next process that takes the lock builds another; if this stays, \
                 remove it"
                    .to_owned()
            }
        }
    }
}
