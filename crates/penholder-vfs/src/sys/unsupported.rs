//! Other platforms: there are no forks, or nobody can be told of them.

use std::ffi::CStr;
use std::path::PathBuf;

/// A function that does not unwind.
type Handler = extern "C" fn();

/// Refuses: without it, a child could use what its parent has open.
pub(crate) fn watch_forks(_before: Handler, _in_parent: Handler, _in_child: Handler) -> bool {
    false
}

/// Returns a path that SQLite, or a C program, passes.
#[must_use]
pub fn path_of(text: &CStr) -> PathBuf {
    PathBuf::from(text.to_string_lossy().into_owned())
}
