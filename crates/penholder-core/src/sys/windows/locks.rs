//! Which process holds a lock. Windows has no table of locks: what can be seen is that a byte may not
//! be read, because another process has locked it.
//!
//! A process that lends its hold to children, or works under the hold of another, locks one more byte,
//! whose place says which process it is (`show_as_holder` of `file`).

use std::fs::File;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use windows_sys::Win32::Foundation::ERROR_LOCK_VIOLATION;

use super::error_code::has_code;
use super::file::{self, LOCK_BYTE, holder_byte};
use super::process_table;
pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};

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

/// Returns whether this process holds the lock on a lock file, or the lock on the byte of a hold file,
/// and shows that.
fn is_shown(pid: u32, path: &Path, byte: i64) -> bool {
    let locked = |file: File| file::are_bytes_locked(&file, holder_byte(byte, pid), 1);
    file::open_to_look(path)
        .and_then(locked)
        .is_ok_and(|locked| locked)
}

/// Returns whether an ancestor holds the lock, as the kernel proves it.
pub(crate) fn is_proven_holder(pid: u32, path: &Path, _file: &TableName) -> bool {
    is_shown(pid, path, LOCK_BYTE)
}

/// Returns whether this process holds the lock on a byte of a hold file.
pub(crate) fn holds_byte(pid: u32, path: &Path, _file: &TableName, byte: u64) -> Option<bool> {
    Some(is_shown(pid, path, i64::try_from(byte).ok()?))
}

/// Returns `None`: it is not known.
pub(crate) fn holds_flock(_pid: u32, _path: &Path, _file: &TableName) -> Option<bool> {
    None
}

/// Finds no process.
pub(crate) fn flock_holders(_path: &Path, _file: &TableName) -> Vec<u32> {
    Vec::new()
}

/// Finds the processes that hold the lock on a byte of a hold file.
pub(crate) fn byte_holders(path: &Path, _file: &TableName, byte: u64) -> Vec<u32> {
    let Ok(byte) = i64::try_from(byte) else {
        return Vec::new();
    };
    let processes = process_table::read().into_iter();
    let pids = processes.map(|process| process.pid);
    pids.filter(|&pid| is_shown(pid, path, byte)).collect()
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
