//! Which processes have files open. Windows tells that only by its Restart Manager, which may take
//! seconds and starts a session in the registry, so nobody is asked here.

use std::path::{Path, PathBuf};
use std::time::Instant;

pub(crate) use crate::sys::open_file::{OpenElsewhere, OpenFile, OpenFiles};

/// Finds no process, and says that the search is incomplete.
pub(crate) fn openers(_files: &[PathBuf], _end: Instant) -> (Vec<OpenFiles>, bool) {
    (Vec::new(), false)
}

/// Finds no process.
pub(crate) fn openers_elsewhere(
    _file: &Path,
    _suffixes: &[&str],
    _end: Instant,
) -> Vec<OpenElsewhere> {
    Vec::new()
}

/// Returns `None`: they are not known.
pub(crate) fn open_paths(_pid: u32) -> Option<Vec<PathBuf>> {
    None
}
