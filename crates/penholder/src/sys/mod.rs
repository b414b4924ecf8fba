//! The one platform switch of this crate. Every platform offers the same functions:
//!
//! | function | what |
//! | --- | --- |
//! | `refuse_name`, `PATH_LIMIT`, `path_length` | which paths a database cannot have |
//! | `HAS_OTHER_SPELLINGS`, `is_same_name` | whether a file has one spelling of its path |
//! | `file_id`, `open_file_id`, `links` | which file it is, and how many names it has |
//! | `born_file`, `born_file_or_link`, `open_born_file` | which file it is, and when it was created |
//! | `SHOWS_OPENERS` | whether other processes that have a file open can be found |
//! | `DELETES_OPEN_FILES`, `is_in_use` | what can be done to a file that is open; whether an error says that another process has a file open |
//! | `kind` | what a file is that is not a regular file, as a noun |
//! | `ownership` | who owns a file and who may use it |
//! | `writable_by_owner` | the permissions for a file like another |
//! | `create_as_sqlite` | creates a file as private as SQLite creates a database |
//! | `may_read`, `may_write`, `may_add_files` | what this user may do |
//! | `may_be_written_elsewhere` | whether a process may have a file open for writing |
//! | `free_space` | how much room a file system has |
//! | `Directory` | whether a name in a directory has changed |
//! | `descriptors`, `read_start` | what a process has open, and the beginning of one of these files |
//! | `system_calls` | functions in place of the system calls that SQLite makes |
//! | `sync_directory` | makes a new name in a directory survive a power cut |
//!
//! Where a platform cannot do something, it returns an error of kind `Unsupported`, or the
//! answer that leads to no complaint.

mod descriptor;
mod directory_stamp;
mod file_identity;
mod file_ownership;
mod name;
mod space;
mod system_call;

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
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
mod unsupported;
#[cfg(all(windows, not(penholder_unsupported)))]
mod windows;

#[cfg(all(target_os = "linux", not(penholder_unsupported)))]
use linux as platform;
#[cfg(all(target_os = "macos", not(penholder_unsupported)))]
use macos as platform;
#[cfg(any(
    not(any(target_os = "linux", target_os = "macos", windows)),
    penholder_unsupported
))]
use unsupported as platform;
#[cfg(all(windows, not(penholder_unsupported)))]
use windows as platform;

pub(crate) use descriptor::Descriptor;
pub(crate) use directory_stamp::DirectoryStamp;
pub(crate) use file_identity::{BornFile, FileId};
pub(crate) use file_ownership::Ownership;
pub(crate) use name::PathLimit;
#[cfg(test)]
pub(crate) use platform::symlink;
pub(crate) use platform::{
    DELETES_OPEN_FILES, Directory, HAS_OTHER_SPELLINGS, PATH_LIMIT, SHOWS_OPENERS, born_file,
    born_file_or_link, create_as_sqlite, descriptors, file_id, free_space, is_in_use, is_same_name,
    kind, links, may_add_files, may_be_written_elsewhere, may_read, may_write, open_born_file,
    open_file_id, ownership, path_length, read_start, refuse_name, sync_directory, system_calls,
    writable_by_owner,
};
pub(crate) use system_call::Observer;
