//! Windows.

use std::ffi::CStr;
use std::path::PathBuf;

/// A function that does not unwind.
type Handler = extern "C" fn();

/// Succeeds: there are no forks.
pub(crate) fn watch_forks(_before: Handler, _in_parent: Handler, _in_child: Handler) -> bool {
    true
}

/// Returns a path that SQLite, or a C program, passes, in UTF-8.
#[must_use]
pub fn path_of(text: &CStr) -> PathBuf {
    PathBuf::from(text.to_string_lossy().into_owned())
}
