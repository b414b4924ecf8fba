//! Which process holds a lock. Windows has no table of locks: what can be seen is that a byte may not
//! be read, because another process has locked it.

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::ERROR_LOCK_VIOLATION;

use super::error_code::has_code;
use super::file::{self, LOCK_BYTE};
pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};

/// Whether the kernel tells exactly which process holds a lock.
pub(crate) const TELL_WHO_HOLDS: bool = false;

/// A file whose locks are looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(PathBuf);

/// Returns the file, if there is one.
pub(crate) fn table_name(path: &Path) -> Option<TableName> {
    file::facts_of_path(path).ok()?;
    Some(TableName(path.to_owned()))
}

/// Returns whether a process holds the lock on a lock file, as far as a reader is told.
pub(crate) fn flock_on(file: &TableName) -> Seen {
    let read = file::open_to_look(&file.0).and_then(|file| {
        let at = u64::try_from(LOCK_BYTE).unwrap_or(0);
        file::read_at(&file, &mut [0], at)
    });
    match read {
        Err(error) if has_code(&error, ERROR_LOCK_VIOLATION) => Seen::HeldBySomebody,
        // Some file systems let bytes be read that are locked.
        _ => Seen::Unknown,
    }
}

/// Returns `None`: it is not known.
pub(crate) fn holds_byte(_pid: u32, _path: &Path, _file: &TableName, _byte: u64) -> Option<bool> {
    None
}

/// Returns `None`: it is not known.
pub(crate) fn holds_flock(_pid: u32, _path: &Path, _file: &TableName) -> Option<bool> {
    None
}

/// Finds no process.
pub(crate) fn flock_holders(_path: &Path, _file: &TableName) -> Vec<u32> {
    Vec::new()
}

/// Finds no process.
pub(crate) fn byte_holders(_path: &Path, _file: &TableName, _byte: u64) -> Vec<u32> {
    Vec::new()
}

/// Returns `None`: it is not known.
pub(crate) fn posix_owner(_path: &Path, _byte: u64) -> Option<u32> {
    None
}

/// Finds no lock.
pub(crate) fn locks_on<const N: usize>(files: [&Path; N]) -> [Vec<LockSeen>; N] {
    files.map(|_| Vec::new())
}

/// Returns `None`: it is not known.
pub(crate) fn posix_sharers<const N: usize>(
    _files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    None
}

/// Returns `None`: it is not known.
pub(crate) fn users<const N: usize>(
    _files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    None
}
