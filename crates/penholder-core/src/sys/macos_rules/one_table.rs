#![expect(unsafe_code, reason = "open files that are known by their numbers")]
//! One table for the two kinds of lock on a file: who has its `flock` has a lock on all of its bytes
//! too, through an open file of its own.
//!
//! Such a lock belongs to the open file, as a `flock` does: a forked child inherits it, and it ends with
//! the last descriptor.

use std::fs::{File, OpenOptions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, IntoRawFd, RawFd};
use std::sync::atomic::{AtomicI32, Ordering::SeqCst};

use crate::sys::unix::file::{id_in, try_lock_bytes, unlock_bytes};

/// For each descriptor, that of the open file with the locks on all bytes; `NONE` without one. Not a
/// `Mutex`: another thread may have it while this process forks.
static PARTNERS: [AtomicI32; 1 << 14] = [const { AtomicI32::new(NONE) }; 1 << 14];
const NONE: RawFd = -1;

/// Opens the file that `file` has open once more, for the locks on all bytes.
pub(super) fn open_partner(file: &File) -> io::Result<()> {
    let path = format!("/proc/self/fd/{}", file.as_raw_fd());
    let partner = OpenOptions::new().read(true).write(true).open(path)?;
    let former = place(file.as_raw_fd())?.swap(partner.into_raw_fd(), SeqCst);
    close(former);
    Ok(())
}

/// Locks all bytes, for a descriptor that has the `flock`; `false` if any is locked.
pub(super) fn try_fill(file: &File) -> io::Result<bool> {
    if !has_partner(file)? {
        open_partner(file)?;
    }
    partner(file.as_raw_fd())?.map_or(Ok(false), |partner| try_lock_bytes(&partner, 0, 0))
}

/// Unlocks all bytes.
pub(super) fn clear(file: &File) -> io::Result<()> {
    partner(file.as_raw_fd())?.map_or(Ok(()), |partner| unlock_bytes(&partner, 0, 0))
}

/// Closes the partner of a descriptor that is about to be closed.
pub(super) fn forget(number: RawFd) {
    if let Ok(place) = place(number) {
        close(place.swap(NONE, SeqCst));
    }
}

/// Returns whether there is a partner, and of this file: a test may have closed another one that had
/// this number.
fn has_partner(file: &File) -> io::Result<bool> {
    let Some(partner) = partner(file.as_raw_fd())? else {
        return Ok(false);
    };
    Ok(id_in(&partner.metadata()?) == id_in(&file.metadata()?))
}

fn partner(number: RawFd) -> io::Result<Option<ManuallyDrop<File>>> {
    let partner = place(number)?.load(SeqCst);
    // SAFETY: a partner is open until it is taken from the table, by the thread that closes `number`,
    // which no other thread uses meanwhile. This `File` never closes it.
    let opened = |partner| ManuallyDrop::new(unsafe { File::from_raw_fd(partner) });
    Ok((partner != NONE).then(|| opened(partner)))
}

fn place(number: RawFd) -> io::Result<&'static AtomicI32> {
    let place = usize::try_from(number)
        .ok()
        .and_then(|number| PARTNERS.get(number));
    place.ok_or_else(|| io::Error::other("a descriptor with a number too large for this double"))
}

fn close(partner: RawFd) {
    if partner != NONE {
        // SAFETY: it was just taken from the table, so nothing else closes it.
        drop(unsafe { File::from_raw_fd(partner) });
    }
}
