//! Files that this process has open.

use std::path::Path;

/// Does nothing: they are not known.
pub(crate) fn remove(_prefix: &str) {}

/// Does nothing: they are not known.
pub(crate) fn remove_directories(_prefix: &str) {}

/// Whether two paths name the same file; not if one of them names none.
pub(crate) fn is_same(one: &Path, other: &Path) -> bool {
    match (one.canonicalize(), other.canonicalize()) {
        (Ok(one), Ok(other)) => one == other,
        _ => false,
    }
}
