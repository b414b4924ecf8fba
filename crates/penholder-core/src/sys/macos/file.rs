#![expect(unsafe_code, reason = "fcntl's reservation of disk space")]
//! What is macOS's own of the lock file: reserving disk space.

use std::fs::File;
use std::io;
use std::os::fd::AsRawFd;
use std::os::unix::fs::MetadataExt;

pub(crate) use crate::sys::bsd::file::*;

/// Gives a file at least this length in bytes and reserves disk space for all of it: touching
/// mapped memory without disk space behind it ends a process with SIGBUS.
///
/// # Errors
///
/// `FileTooLarge` if this process may not make files of this length: trying it would end the
/// process with SIGXFSZ.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    refuse_above_limit(length)?;
    match reserve(file, length) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => write_zeros(file, length),
        Err(error) => Err(error),
        Ok(()) if file.metadata()?.len() < length as u64 => file.set_len(length as u64),
        Ok(()) => Ok(()),
    }
}

/// Reserves disk space for the holes that a file may have: a copy of it may be sparse.
///
/// # Errors
///
/// Those of `F_PREALLOCATE`, except where the file system has none.
pub(crate) fn fill_holes(file: &File, length: usize) -> io::Result<()> {
    match reserve(file, length) {
        Err(error) if error.raw_os_error() == Some(libc::ENOTSUP) => Ok(()),
        done => done,
    }
}

/// Reserves what the file lacks of this length; its length stays as it is.
fn reserve(file: &File, length: usize) -> io::Result<()> {
    let present = file.metadata()?.blocks().saturating_mul(512);
    let Some(missing) = (length as u64)
        .checked_sub(present)
        .filter(|&missing| missing > 0)
    else {
        return Ok(());
    };
    let mut store = libc::fstore_t {
        fst_flags: libc::F_ALLOCATEALL,
        fst_posmode: libc::F_PEOFPOSMODE,
        fst_offset: 0,
        fst_length: i64::try_from(missing).unwrap_or(i64::MAX),
        fst_bytesalloc: 0,
    };
    // SAFETY: the descriptor is open while `file` is borrowed, and the command touches nothing but
    // `store`, a `fstore_t` of ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_PREALLOCATE, &raw mut store) };
    if done == -1 {
        return Err(io::Error::last_os_error());
    }
    Ok(())
}
