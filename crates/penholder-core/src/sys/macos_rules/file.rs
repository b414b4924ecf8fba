//! The lock file, with one table for all locks on a file.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, RawFd};
use std::path::Path;

use super::{one_table, process_files};
use crate::sys::bsd::file as bsd;
pub(crate) use crate::sys::bsd::file::*;
pub(crate) use crate::sys::linux::file::{allocate, fill_holes};
use crate::sys::linux::locks;
use crate::sys::lock_seen::Seen;
use crate::sys::unix::file as unix;

/// Opens the lock file for reading and writing, creating it if it is missing.
///
/// # Errors
///
/// Those of `open(2)`; [`is_symbolic_link`] recognises a link.
pub(crate) fn open_or_create(path: &Path, model: Option<&Path>) -> io::Result<File> {
    let file = unix::open_or_create(path, model)?;
    // Now, and not as it is locked: no fork can happen in between (`Descriptor::open`).
    one_table::open_partner(&file)?;
    Ok(file)
}

/// Takes the exclusive `flock` if it is free; `false` if another process has it, or any lock on any
/// byte of the file.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    if !unix::try_lock(file)? {
        return Ok(false);
    }
    if one_table::try_fill(file)? {
        process_files::note_flock(file)?;
        return Ok(true);
    }
    unix::unlock(file)?;
    Ok(false)
}

/// Returns whether a process has a lock on the file, without taking one. A program that is not built
/// with these rules has only a `flock`.
pub(crate) fn is_locked(file: &File) -> io::Result<bool> {
    let is_flocked = || {
        let path = format!("/proc/self/fd/{}", file.as_raw_fd());
        let name = locks::table_name(&Path::new(&path).canonicalize().ok()?)?;
        Some(matches!(locks::flock_on(&name), Seen::Held { .. }))
    };
    Ok(bsd::is_locked(file)? || is_flocked() == Some(true))
}

/// Releases the `flock`.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    one_table::clear(file)?;
    unix::unlock(file)
}

/// Closes a file of our own. The caller must not touch it again.
pub(crate) fn close(file: &mut ManuallyDrop<File>) {
    one_table::forget(file.as_raw_fd());
    unix::close(file);
}

/// Closes a descriptor that a forked child inherited, without unlocking. Only for the child handler of
/// a fork.
pub(crate) fn close_inherited(fd: RawFd) {
    one_table::forget(fd);
    unix::close_inherited(fd);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn open() -> (tempfile::TempDir, File, File) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lock");
        let file = open_or_create(&path, None).unwrap();
        let other = open_existing(&path).unwrap();
        (directory, file, other)
    }

    #[test]
    fn a_flock_and_a_lock_on_a_byte_conflict_even_through_one_descriptor() {
        const BYTE: i64 = 1 << 62;
        let (_directory, file, other) = open();
        assert!(try_lock(&file).unwrap());
        for descriptor in [&file, &other] {
            assert!(!try_lock_byte(descriptor, BYTE).unwrap());
            assert!(are_bytes_locked(descriptor, BYTE, 1).unwrap());
            assert!(!try_lock_byte(descriptor, 0).unwrap());
        }
        unlock(&file).unwrap();
        assert!(try_lock_byte(&file, BYTE).unwrap());
        for descriptor in [&file, &other] {
            assert!(!try_lock(descriptor).unwrap());
        }
        unlock_byte(&file, BYTE).unwrap();
        assert!(try_lock(&other).unwrap());
        assert!(!try_lock(&file).unwrap());
        unlock(&other).unwrap();
    }

    #[test]
    fn closing_a_descriptor_ends_its_flock() {
        let (directory, file, other) = open();
        assert!(try_lock(&file).unwrap());
        close(&mut ManuallyDrop::new(file));
        assert!(try_lock(&other).unwrap());
        unlock(&other).unwrap();
        drop(directory);
    }
}
