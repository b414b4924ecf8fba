//! Which process holds a lock, where one table has all locks on a file and shows no process.
//!
//! Whether a file is locked can be asked without taking the lock (`F_OFD_GETLK`). Who holds the lock can
//! only be guessed: it is one of the processes that have the file open. Only texts may depend on it;
//! a process that works under the hold of another asks for a locked byte instead (`lender`).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::file::{self, FileId};
pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};
use crate::sys::process_files::{self, ProcessFile};
use crate::sys::process_table;

/// Whether the kernel tells exactly which process holds a lock.
pub(crate) const TELL_WHO_HOLDS: bool = false;

/// How long the search through all processes, or through one, may take.
const SEARCH_MAX: Duration = Duration::from_millis(40);

/// The file in question.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct TableName {
    path: PathBuf,
    id: FileId,
}

/// Returns the name of a file here. The file is not opened.
pub(crate) fn table_name(path: &Path) -> Option<TableName> {
    let id = file::facts_of_path(path).ok()?.id;
    let path = path.to_owned();
    Some(TableName { path, id })
}

/// Returns whether a process holds a `flock` on the file. The file is opened for that, so it must be
/// one on which no process has POSIX locks.
pub(crate) fn flock_on(file: &TableName) -> Seen {
    let is_locked = || {
        let opened = file::open_to_look(&file.path).ok()?;
        let is_same = file::facts(&opened).ok()?.id == file.id;
        // Of length 0: to the end.
        let is_locked = is_same.then(|| file::are_bytes_locked(&opened, 0, 0));
        is_locked?.ok()
    };
    match is_locked() {
        Some(true) => Seen::Held { taker: None },
        Some(false) => Seen::NotHeld,
        None => Seen::Unknown,
    }
}

/// Returns `None`: it would have to open the file, which drops the locks that SQLite has on it.
pub(crate) fn posix_owner(_path: &Path, _byte: u64) -> Option<u32> {
    None
}

/// Finds no lock, as [`posix_owner`].
pub(crate) fn locks_on<const N: usize>(files: [&Path; N]) -> [Vec<LockSeen>; N] {
    files.map(|_| Vec::new())
}

/// Returns `None`: it is not known.
pub(crate) fn posix_sharers<const N: usize>(
    _files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    None
}

/// Returns whether this process may hold a `flock` on the file, which is locked: it holds one, or has
/// held one and has the file still open. `None` if its files may not be examined.
pub(crate) fn holds_flock(pid: u32, path: &Path, file: &TableName) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_open(pid, path, file, end, process_files::has_had_flock)
}

/// Finds the process that holds a `flock` on the file, if there is only one that may.
pub(crate) fn flock_holders(path: &Path, file: &TableName) -> Vec<u32> {
    the_only_one(path, file, process_files::has_had_flock)
}

/// Returns `None`: it is not known.
pub(crate) fn holds_byte(_pid: u32, _path: &Path, _file: &TableName, _byte: u64) -> Option<bool> {
    None
}

/// Finds the process that has locked a byte of the file, if there is only one that may.
pub(crate) fn byte_holders(path: &Path, file: &TableName, _byte: u64) -> Vec<u32> {
    the_only_one(path, file, ProcessFile::is_writable)
}

/// Finds the process with such a descriptor of the file, if it is the only one.
fn the_only_one(path: &Path, file: &TableName, is_such: fn(&ProcessFile) -> bool) -> Vec<u32> {
    let end = Instant::now() + SEARCH_MAX;
    let mut found = process_table::all();
    found.retain(|&pid| has_open(pid, path, file, end, is_such) == Some(true));
    // One that was not reached in time may be the holder.
    if found.len() > 1 || Instant::now() > end {
        found.clear();
    }
    found
}

/// Returns whether a process has such a descriptor of the file; `None` if its files may not be
/// examined, or not all of them before `end`.
fn has_open(
    pid: u32,
    path: &Path,
    file: &TableName,
    end: Instant,
    is_such: fn(&ProcessFile) -> bool,
) -> Option<bool> {
    for open in process_files::of(pid)? {
        if Instant::now() > end {
            return None;
        }
        // The others are not asked about, because a remote file system may answer slowly.
        let is_named = open.target().file_name() == path.file_name();
        let is_it = is_named && open.identity().is_some_and(|(id, _)| id == file.id);
        if is_it && is_such(&open) {
            return Some(true);
        }
    }
    Some(false)
}
