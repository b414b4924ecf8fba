//! Which processes have files open. The files are not opened, and no process is disturbed.

use std::ffi::OsStr;
use std::fs::Metadata;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::file::id_in;
use super::process::has_ended;
use crate::sys::file_id::FileId;
pub(crate) use crate::sys::open_file::{OpenElsewhere, OpenFile, OpenFiles};
use crate::sys::process_files::{self, ProcessFile};
use crate::sys::process_table;

/// Finds the processes that have one of these files open, and tells whether every
/// process could be examined before `end`.
pub(crate) fn openers(files: &[PathBuf], end: Instant) -> (Vec<OpenFiles>, bool) {
    let files: Vec<Sought<'_>> = files.iter().map(|path| Sought::of(path)).collect();
    let mut found = Vec::new();
    let mut complete = true;
    for pid in process_table::all() {
        match descriptors(pid, &files, end) {
            Some(open) if open.is_empty() => {}
            Some(open) => found.push(OpenFiles { pid, open }),
            // A process that has ended has nothing open.
            None => complete &= has_ended(pid),
        }
    }
    (found, complete)
}

/// Finds the processes that have `file` open together with a *companion*, a file whose path is
/// that of the first with one of the suffixes, if it is not the file that `file` itself has as
/// its companion. Searches until `end`.
pub(crate) fn openers_elsewhere(
    file: &Path,
    suffixes: &[&str],
    end: Instant,
) -> Vec<OpenElsewhere> {
    let Ok(meta) = file.metadata() else {
        return Vec::new();
    };
    let mut found = Vec::new();
    for pid in process_table::all() {
        if Instant::now() > end {
            break;
        }
        let paths = paths_elsewhere(pid, file, &meta, suffixes);
        found.extend(paths.map(|path| OpenElsewhere { pid, path }));
    }
    found
}

/// Returns the path by which a process has the file open with another companion.
fn paths_elsewhere(pid: u32, file: &Path, meta: &Metadata, suffixes: &[&str]) -> Option<PathBuf> {
    let open: Vec<ProcessFile> = process_files::of(pid)?.collect();
    // Only what lies next to a companion is asked about: a remote file system may answer
    // slowly.
    for companion in &open {
        for suffix in suffixes {
            let Some(path) = without_suffix(companion.target(), suffix) else {
                continue;
            };
            let opened = open.iter().find(|one| one.target() == path);
            let opened = opened.and_then(ProcessFile::identity);
            if opened.is_some_and(|(id, _)| id == id_in(meta))
                && is_another(companion, &with_suffix(file, suffix))
            {
                return Some(path.to_owned());
            }
        }
    }
    None
}

/// Returns whether an open companion is certainly not the file at `own`, which another process
/// may just be deleting or creating.
fn is_another(companion: &ProcessFile, own: &Path) -> bool {
    let own = || own.symlink_metadata().ok().map(|meta| id_in(&meta));
    let before = own();
    let Some((id, links)) = companion.identity() else {
        return false;
    };
    before != Some(id) && before == own() && links > 0
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.to_owned().into_os_string();
    name.push(suffix);
    name.into()
}

fn without_suffix<'a>(path: &'a Path, suffix: &str) -> Option<&'a Path> {
    let bytes = path
        .as_os_str()
        .as_bytes()
        .strip_suffix(suffix.as_bytes())?;
    Some(Path::new(OsStr::from_bytes(bytes)))
}

/// Returns the paths of what a process has open, ` (deleted)` after that of a file that has no name any
/// more; `None` if they may not be read.
pub(crate) fn open_paths(pid: u32) -> Option<Vec<PathBuf>> {
    Some(
        process_files::of(pid)?
            .map(ProcessFile::shown_path)
            .collect(),
    )
}

struct Sought<'a> {
    path: &'a Path,
    meta: Option<Metadata>,
}

impl<'a> Sought<'a> {
    fn of(path: &'a Path) -> Self {
        Self {
            path,
            meta: path.symlink_metadata().ok(),
        }
    }

    /// Returns whether a descriptor that leads to this path may be of the file. The
    /// others are not asked about, because a remote file system may answer slowly.
    fn may_be(&self, target: &Path) -> bool {
        let name = self.path.file_name();
        let has_names = self.meta.as_ref().is_some_and(|meta| meta.nlink() > 1);
        has_names || target.file_name() == name || is_deleted(target, self.path)
    }

    fn is(&self, id: FileId) -> bool {
        self.meta.as_ref().is_some_and(|own| id_in(own) == id)
    }
}

/// Returns whether `target` is `path` as the kernel writes it once the file has no name any more:
/// Linux appends ` (deleted)`, macOS leaves it as it was.
fn is_deleted(target: &Path, path: &Path) -> bool {
    target == with_suffix(path, process_files::DELETED)
}

/// Finds the descriptors of a process that lead to one of the files; `None` if they
/// may not be read, or not all of them before `end`.
fn descriptors(pid: u32, files: &[Sought<'_>], end: Instant) -> Option<Vec<OpenFile>> {
    let mut found = Vec::new();
    for open in process_files::of(pid)? {
        if Instant::now() > end {
            return None;
        }
        for (number, file) in files.iter().enumerate() {
            if !open.target().is_absolute() || !file.may_be(open.target()) {
                continue;
            }
            let Some((id, links)) = open.identity() else {
                continue;
            };
            let deleted = links == 0 && is_deleted(open.target(), file.path);
            if deleted || file.is(id) {
                found.push(OpenFile {
                    file: number,
                    writable: open.is_writable(),
                    deleted,
                });
            }
        }
    }
    Some(found)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::{self, File};
    use std::time::Duration;

    #[test]
    fn own_open_files_are_found() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        let paths = ["a", "b", "c"].map(|name| directory.join(name));
        fs::write(&paths[0], "").unwrap();
        let _read = File::open(&paths[0]).unwrap();
        let _write = File::create(&paths[1]).unwrap();
        let _gone = File::create(&paths[2]).unwrap();
        fs::remove_file(&paths[2]).unwrap();
        fs::write(&paths[2], "another").unwrap();
        let end = Instant::now() + Duration::from_secs(60);
        let (found, _) = openers(&paths, end);
        let own = found.iter().find(|found| found.pid == std::process::id());
        let mut open = own.unwrap().open.clone();
        open.sort_by_key(|open| open.file);
        let facts = open.iter().map(|open| (open.writable, open.deleted));
        let expected = [(false, false), (true, false), (true, true)];
        assert_eq!(facts.collect::<Vec<_>>(), expected);
        assert!(!openers(&paths, Instant::now()).1, "no time to search");
    }

    #[test]
    fn a_companion_of_another_name_is_found() {
        let directory = tempfile::tempdir().unwrap();
        let directory = directory.path().canonicalize().unwrap();
        let [own, other] = ["a.db", "b.db"].map(|name| directory.join(name));
        fs::write(&own, "").unwrap();
        fs::hard_link(&own, &other).unwrap();
        let search = |path: &Path| {
            let end = Instant::now() + Duration::from_secs(60);
            let found = openers_elsewhere(path, &["-wal", "-shm"], end);
            let own = found
                .into_iter()
                .filter(|one| one.pid == std::process::id());
            own.map(|one| one.path).collect::<Vec<_>>()
        };
        let _opened = File::open(&other).unwrap();
        assert!(search(&own).is_empty(), "it may only be copied");
        let _wal = File::create(with_suffix(&other, "-wal")).unwrap();
        assert_eq!(search(&own), std::slice::from_ref(&other));
        assert!(search(&other).is_empty(), "its own companion");
        fs::hard_link(with_suffix(&other, "-wal"), with_suffix(&own, "-wal")).unwrap();
        assert!(search(&own).is_empty(), "the same companion");
        fs::remove_file(with_suffix(&own, "-wal")).unwrap();
        fs::remove_file(with_suffix(&other, "-wal")).unwrap();
        assert!(search(&own).is_empty(), "a companion that was deleted");
    }
}
