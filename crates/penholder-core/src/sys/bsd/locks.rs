//! Which process holds a lock, where one table has all locks on a file and shows no process.
//!
//! Whether a file is locked can be asked without taking the lock (`F_OFD_GETLK`). Who holds the lock can
//! only be guessed: it is one of the processes that have the file open and have had its `flock`. Only texts may depend on it;
//! a process that works under the hold of another asks for a locked byte instead (`lender`).

use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crate::sys::file::{self, FileId, is_locked};
pub(crate) use crate::sys::lock_seen::{LockSeen, Seen};
use crate::sys::process::has_ended;
use crate::sys::process_files::{self, ProcessFile};
use crate::sys::process_table;

/// Whether the kernel tells exactly which process holds a lock.
pub(crate) const TELL_WHO_HOLDS: bool = false;

/// How long the search through all processes, or through one, may take.
const SEARCH_MAX: Duration = Duration::from_millis(40);

/// The same where the answer decides whether a database is opened.
const USERS_MAX: Duration = Duration::from_millis(500);

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
    let seen = || {
        let opened = file::open_to_look(&file.path).ok()?;
        let is_same = file::facts(&opened).ok()?.id == file.id;
        is_same.then(|| is_locked(&opened))?.ok()
    };
    match seen() {
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

/// Finds, for each file, the processes that have it open, among those that may be examined; `None` if that
/// takes too long.
pub(crate) fn users<const N: usize>(
    files: [(&Path, &RangeInclusive<u64>); N],
) -> Option<[Vec<u32>; N]> {
    let end = Instant::now() + USERS_MAX;
    let names = files.map(|(path, _)| table_name(path));
    let mut users = files.map(|_| Vec::new());
    for pid in process_table::all() {
        for (name, users) in names.iter().zip(&mut users) {
            let Some(name) = name else { continue };
            if has_open(pid, &name.path, name, end, |_| true) == Some(true) {
                users.push(pid);
            }
        }
        if Instant::now() > end {
            return None;
        }
    }
    users.iter_mut().for_each(|pids| pids.sort_unstable());
    Some(users)
}

/// Returns whether this process may hold a `flock` on the file, which is locked: it holds one, or has
/// held one and has the file still open. `None` if its files may not be examined.
pub(crate) fn holds_flock(pid: u32, path: &Path, file: &TableName) -> Option<bool> {
    let end = Instant::now() + SEARCH_MAX;
    has_open(pid, path, file, end, process_files::has_had_flock)
}

/// Finds the process that holds a `flock` on the file, if there is only one that may.
pub(crate) fn flock_holders(path: &Path, file: &TableName) -> Vec<u32> {
    let end = Instant::now() + SEARCH_MAX;
    // Where others may write the file, one that may not be examined may be the holder.
    let is_private = file::ownership_of_path(path).is_ok_and(|owner| owner.mode & 0o022 == 0);
    let mut found = Vec::new();
    for pid in process_table::all() {
        match has_open(pid, path, file, end, process_files::has_had_flock) {
            Some(true) => found.push(pid),
            None if !is_private && !has_ended(pid) => return Vec::new(),
            _ => {}
        }
    }
    // One that was not reached in time may be it.
    if found.len() > 1 || Instant::now() > end {
        found.clear();
    }
    found
}

/// Returns `None`: it is not known.
pub(crate) fn holds_byte(_pid: u32, _path: &Path, _file: &TableName, _byte: u64) -> Option<bool> {
    None
}

/// Finds no process: all that work under a hold have the file open.
pub(crate) fn byte_holders(_path: &Path, _file: &TableName, _byte: u64) -> Vec<u32> {
    Vec::new()
}

/// Returns whether a process has such a descriptor of the file; `None` if its files may not be examined,
/// or not all of them before `end`.
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
