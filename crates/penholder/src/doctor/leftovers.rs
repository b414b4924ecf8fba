//! Files of penholder itself that a process has left behind next to the database, because it was
//! killed.

use std::fs::{self, DirEntry};
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder_core::{Openers, remedy};

use super::report::{Check, Finding};
use super::subject::Subject;
use super::text::name_of;
use crate::sidecar::UNFINISHED;
use crate::sys;

/// How many are looked at.
const MOST: usize = 100;
/// How long the processes are searched that have them open.
const SEARCH_MAX: Duration = Duration::from_secs(2);

/// Finds those that no process has open: what is being made now is open. One finding each; none if
/// it cannot be told.
pub(super) fn examine(subject: &Subject<'_>) -> Vec<Finding> {
    let unfinished = unfinished(subject.location.directory());
    if unfinished.is_empty() {
        return Vec::new();
    }
    let files: Vec<_> = unfinished
        .iter()
        .flat_map(|path| with_content(path))
        .collect();
    let openers = Openers::of(&files, SEARCH_MAX);
    let is_used = |path: &PathBuf| {
        let mut open = openers.found.iter().flat_map(|opener| &opener.open);
        let mut files = files.iter().filter(|file| file.starts_with(path));
        open.any(|opened| opened.path.starts_with(path))
            || (!openers.complete && files.any(|file| sys::may_be_written_elsewhere(file)))
    };
    // One that is gone by now was finished.
    let is_there = |path: &PathBuf| path.symlink_metadata().is_ok();
    let left = unfinished
        .iter()
        .filter(|path| !is_used(path) && is_there(path));
    left.map(|path| left_behind(path)).collect()
}

fn unfinished(directory: &Path) -> Vec<PathBuf> {
    let is_unfinished = |entry: &DirEntry| {
        let name = entry.file_name();
        let name = name.to_string_lossy();
        let is_plain = entry.file_type().is_ok_and(|kind| !kind.is_symlink());
        is_plain && UNFINISHED.iter().any(|begin| name.starts_with(begin))
    };
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    let found = entries.filter(is_unfinished).map(|entry| entry.path());
    let mut found: Vec<_> = found.take(MOST).collect();
    found.sort();
    found
}

/// Returns a path, and if it is a directory the paths of the files in it.
fn with_content(path: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(path).into_iter().flatten().flatten();
    let inside = entries.take(MOST).map(|entry| entry.path());
    std::iter::once(path.to_owned()).chain(inside).collect()
}

fn left_behind(path: &Path) -> Finding {
    let found = format!("{} is unfinished, and no process uses it", name_of(path));
    let next = format!("remove it: {}", remedy::remove_all(path));
    Finding::info(Check::Leftovers, found).next(next)
}
