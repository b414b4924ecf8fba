//! The database files that connections of this process have open through this VFS.

use std::ffi::c_char;
use std::mem;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use crate::database_file::DatabaseFile;
use crate::locks::{BUSY, Code, Mode, Range};
use crate::mirror::Mirror;

/// A fork locks it first, so that the child finds it whole. It is locked before the state of a
/// file, never after.
static FILES: Mutex<Vec<Arc<DatabaseFile>>> = Mutex::new(Vec::new());

/// The files, locked.
pub(crate) type Files = MutexGuard<'static, Vec<Arc<DatabaseFile>>>;

pub(crate) fn lock() -> Files {
    // Nothing panics with it held, so what it guards is whole.
    FILES.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Adds a file; it gets the mirror that another connection to the same database has.
pub(crate) fn add(file: &Arc<DatabaseFile>) {
    let mut files = lock();
    let mirror = files
        .iter()
        .filter(|other| file.is_sibling(other))
        .find_map(|other| other.mirror());
    if let Some(mirror) = mirror {
        file.set_mirror(&mirror);
    }
    files.push(Arc::clone(file));
}

pub(crate) fn remove(file: &DatabaseFile) {
    lock().retain(|one| !std::ptr::eq(Arc::as_ptr(one), file));
}

/// Returns the file that was opened with exactly this name, by its address.
pub(crate) fn with_name(name: *const c_char) -> Option<Arc<DatabaseFile>> {
    let files = lock();
    let found = files.iter().find(|file| file.has_name(name.addr()));
    found.map(Arc::clone)
}

/// Sets where the connections of this process to the same database leave copies of marks and
/// header, and where they find those of other processes.
pub fn set_mirror(file: &DatabaseFile, mirror: &Mirror) {
    for one in lock().iter() {
        if one.path() == file.path() {
            one.set_mirror(mirror);
        }
    }
}

/// `xShmLock`. If the lock is wanted that another connection of this process has parked, that
/// one's lease ends.
pub(crate) fn shm_lock(file: &DatabaseFile, range: Range, mode: Mode) -> Code {
    let code = file.lock(range, mode);
    // A passive checkpoint just stops at a parked mark.
    let is_wanted = mode == Mode::Exclusive && (range == Range::WRITE || range.count() > 1);
    // Where SQLite waits for locks in the system, there is a second code.
    if code & 0xff == BUSY && is_wanted && end_leases_of_siblings(file) {
        return file.lock(range, mode);
    }
    code
}

/// Takes SQLite's write lock for a connection that is about to write, and parks it; `false` if it is
/// not free.
pub(crate) fn park_write(file: &DatabaseFile) -> bool {
    file.park_write() || end_leases_of_siblings(file) && file.park_write()
}

/// Ends the leases of other connections of this process to the same database; returns whether
/// there was one to end.
fn end_leases_of_siblings(file: &DatabaseFile) -> bool {
    let mut ended = false;
    for other in lock().iter() {
        if file.is_sibling(other) && other.yield_parked() {
            ended = true;
        }
    }
    ended
}

/// Ends all leases, also those without a parked lock: a transaction that is open would park its
/// locks when it ends.
pub(crate) fn end_leases(files: &[Arc<DatabaseFile>]) {
    for file in files {
        file.end_lease();
    }
}

/// Forgets the files, which are the parent's. They are not dropped: freeing memory is not for a
/// fork handler.
pub(crate) fn forget(files: &mut Vec<Arc<DatabaseFile>>) {
    mem::forget(mem::take(files));
}
