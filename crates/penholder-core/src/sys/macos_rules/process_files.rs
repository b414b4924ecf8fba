//! The files that a process has open, as macOS shows them.

use std::fs::File;
use std::io;

use rustix::fs::{OFlags, fcntl_getfl, fcntl_setfl};

pub(in crate::sys) use crate::sys::linux::process_files::*;

/// Stands for the flag of macOS on a descriptor that has had a `flock`, which it keeps. This one does
/// nothing on a regular file, and the kernel shows it to other processes. `rustix` does not have it.
const HAS_HAD_FLOCK: OFlags = OFlags::from_bits_retain(0o20000);

/// Notes that a descriptor has a `flock`.
pub(super) fn note_flock(file: &File) -> io::Result<()> {
    let flags = fcntl_getfl(file)?;
    if !flags.contains(HAS_HAD_FLOCK) {
        fcntl_setfl(file, flags | HAS_HAD_FLOCK)?;
    }
    Ok(())
}

/// Returns whether the process has, or has had, a `flock` by this descriptor: at least one that a program
/// has now that is not built with these rules.
pub(in crate::sys) fn has_had_flock(open: &ProcessFile) -> bool {
    let info = open.info();
    let flags = flags_in(&info).unwrap_or(0);
    OFlags::from_bits_retain(flags).contains(HAS_HAD_FLOCK) || info.contains("FLOCK")
}
