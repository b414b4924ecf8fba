//! Which processes have files open, from `/proc/<pid>/fd`. The files are not opened,
//! and no process is disturbed.

use std::ffi::OsStr;
use std::fs::{self, DirEntry, Metadata};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Instant;

use super::process_table;
pub(crate) use crate::sys::open_file::{OpenElsewhere, OpenFile, OpenFiles};
use crate::sys::process_state::ProcessState;

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
            None => {
                complete &=
                    process_table::stat(pid).is_none_or(|stat| stat.state == ProcessState::Gone)
            }
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
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let targets: Vec<(DirEntry, PathBuf)> = entries
        .flatten()
        .filter_map(|entry| {
            fs::read_link(entry.path())
                .ok()
                .map(|target| (entry, target))
        })
        .collect();
    // Only what lies next to a companion is asked about: a remote file system may answer
    // slowly.
    for (companion, companion_path) in &targets {
        for suffix in suffixes {
            let Some(path) = without_suffix(companion_path, suffix) else {
                continue;
            };
            let opened = targets.iter().find(|(_, target)| target == path);
            let opened = opened.and_then(|(entry, _)| entry.path().metadata().ok());
            if opened.is_some_and(|opened| id(&opened) == id(meta))
                && is_another(&companion.path(), &with_suffix(file, suffix))
            {
                return Some(path.to_owned());
            }
        }
    }
    None
}

/// Returns whether an open companion is certainly not the file at `own`, which another process
/// may just be deleting or creating.
fn is_another(companion: &Path, own: &Path) -> bool {
    let own = || own.symlink_metadata().ok().map(|meta| id(&meta));
    let before = own();
    let Ok(companion) = companion.metadata() else {
        return false;
    };
    before != Some(id(&companion)) && before == own() && companion.nlink() > 0
}

fn id(meta: &Metadata) -> (u64, u64) {
    (meta.dev(), meta.ino())
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

    fn is(&self, meta: &Metadata) -> bool {
        self.meta.as_ref().is_some_and(|own| id(own) == id(meta))
    }
}

/// Returns whether `target` is `path` as the kernel writes it once the file has no name
/// any more: `… (deleted)`.
fn is_deleted(target: &Path, path: &Path) -> bool {
    target == with_suffix(path, " (deleted)")
}

/// Finds the descriptors of a process that lead to one of the files; `None` if they
/// may not be read, or not all of them before `end`.
fn descriptors(pid: u32, files: &[Sought<'_>], end: Instant) -> Option<Vec<OpenFile>> {
    let directory = PathBuf::from(format!("/proc/{pid}"));
    let mut open = Vec::new();
    for entry in fs::read_dir(directory.join("fd")).ok()?.flatten() {
        if Instant::now() > end {
            return None;
        }
        let Ok(target) = fs::read_link(entry.path()) else {
            continue;
        };
        for (number, file) in files.iter().enumerate() {
            if !target.is_absolute() || !file.may_be(&target) {
                continue;
            }
            let Ok(meta) = entry.path().metadata() else {
                continue;
            };
            let deleted = meta.nlink() == 0 && is_deleted(&target, file.path);
            if deleted || file.is(&meta) {
                open.push(OpenFile {
                    file: number,
                    writable: is_writable(&directory.join("fdinfo").join(entry.file_name())),
                    deleted,
                });
            }
        }
    }
    Some(open)
}

/// Reads a line like `flags: 0100002`, in octal; the last two bits are 0 for reading
/// only.
fn is_writable(info: &Path) -> bool {
    let info = fs::read_to_string(info).unwrap_or_default();
    let flags = info.lines().find_map(|line| line.strip_prefix("flags:"));
    flags
        .and_then(|flags| u64::from_str_radix(flags.trim(), 8).ok())
        .is_some_and(|flags| flags & 3 != 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs::File;
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
