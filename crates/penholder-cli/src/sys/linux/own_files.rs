//! What this process has open.

use std::fs;
use std::path::PathBuf;

/// Returns the paths of what this process has open.
pub(crate) fn paths() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/proc/self/fd")
        .into_iter()
        .flatten()
        .flatten();
    entries.filter_map(|entry| fs::read_link(entry.path()).ok())
}
