//! The files that a process has open, as macOS shows them.

pub(in crate::sys) use crate::sys::linux::process_files::*;

/// Returns whether the process has, or has had, a `flock` by this descriptor. macOS never forgets one
/// that has ended; nothing tells here, so each may have had one.
pub(in crate::sys) fn has_had_flock(_open: &ProcessFile) -> bool {
    true
}
