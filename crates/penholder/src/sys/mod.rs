//! The one platform switch of this crate. Every platform offers the same functions:
//!
//! | function | what |
//! | --- | --- |
//! | `file_id`, `links` | which file it is, and how many names it has |
//! | `FromRawFd` | the trait that makes a file of a descriptor |
//! | `mark_forks` | makes the files that SQLite sees in a forked child others than in the parent |
//! | `born_file` | which file it is, and when it was created |
//! | `kind` | what a file is that is not a regular file, as a noun |
//! | `ownership` | who owns a file and who may use it |
//! | `writable_by_owner` | the permissions for a file like another |
//! | `create_as_sqlite` | creates a file as private as SQLite creates a database |
//! | `may_read`, `may_write`, `may_add_files` | what this user may do |
//! | `free_space` | how much room a file system has |
//! | `Directory` | whether a name in a directory has changed |
//! | `descriptors`, `read_start` | what a process has open, and the beginning of one of these files |
//! | `sync_directory` | makes a new name in a directory survive a power cut |
//!
//! Where a platform cannot do something, it returns an error of kind `Unsupported`, or the
//! answer that leads to no complaint.

mod types;

#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
mod linux;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
mod macos;
#[cfg(all(
    any(target_os = "linux", target_os = "macos"),
    not(penholder_unsupported)
))]
mod unix;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos")),
    penholder_unsupported
))]
mod unsupported;

#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
use linux as platform;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
use macos as platform;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos")),
    penholder_unsupported
))]
use unsupported as platform;

#[cfg(test)]
pub(crate) use platform::symlink;
pub(crate) use platform::{
    Directory, FromRawFd, born_file, create_as_sqlite, descriptors, file_id, free_space, kind,
    links, mark_forks, may_add_files, may_read, may_write, ownership, read_start, sync_directory,
    writable_by_owner,
};
pub(crate) use types::{BornFile, Descriptor, DirectoryStamp, FileId, Ownership};
