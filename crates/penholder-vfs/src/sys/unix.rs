#![expect(unsafe_code, reason = "`pthread_atfork`")]
//! Unix.

use std::ffi::{CStr, OsStr};
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// A function that does not unwind.
type Handler = extern "C" fn();

/// Has these functions called before each fork, and after it in the parent and in the child;
/// `false` if the system refuses.
pub(crate) fn watch_forks(before: Handler, in_parent: Handler, in_child: Handler) -> bool {
    let [before, in_parent, in_child] = [before, in_parent, in_child].map(|handler| {
        let handler: unsafe extern "C" fn() = handler;
        Some(handler)
    });
    // SAFETY: the handlers are functions of this library, which is never unloaded.
    unsafe { libc::pthread_atfork(before, in_parent, in_child) == 0 }
}

/// Returns a path that SQLite, or a C program, passes.
#[must_use]
pub fn path_of(text: &CStr) -> PathBuf {
    PathBuf::from(OsStr::from_bytes(text.to_bytes()))
}
