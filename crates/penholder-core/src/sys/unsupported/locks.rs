//! Which process holds a lock, which is not known here.

use std::ops::RangeInclusive;
use std::path::Path;

pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};

/// Whether the kernel tells exactly which process holds a lock. It tells nothing here, but no lock is
/// taken either.
pub(crate) const TELL_WHO_HOLDS: bool = true;

/// A file's name in lock tables, of which there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName(());

/// Returns `None`.
pub(crate) fn table_name(_path: &Path) -> Option<TableName> {
    None
}

/// Returns [`Seen::Unknown`].
pub(crate) fn flock_on(_file: &TableName) -> Seen {
    Seen::Unknown
}

/// Returns `None`.
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

/// Returns `None`: it is not known.
pub(crate) fn holds_flock(_pid: u32, _path: &Path, _file: &TableName) -> Option<bool> {
    None
}

/// Finds no process.
pub(crate) fn flock_holders(_path: &Path, _file: &TableName) -> Vec<u32> {
    Vec::new()
}

/// Returns `None`: it is not known.
pub(crate) fn holds_byte(_pid: u32, _path: &Path, _file: &TableName, _byte: u64) -> Option<bool> {
    None
}

/// Finds no process.
pub(crate) fn byte_holders(_path: &Path, _file: &TableName, _byte: u64) -> Vec<u32> {
    Vec::new()
}
