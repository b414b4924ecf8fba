//! What SQLite of this process last opened, or deleted, under the paths of our databases.
//!
//! SQLite opens a WAL and its index by path, later than the database, and does not tell which
//! files these were. So [`ffi`](super::ffi) notes it in the system calls that SQLite makes.

use std::collections::BTreeMap;
use std::ffi::{OsStr, OsString};
use std::path::Path;
use std::sync::Mutex;

use penholder_core::fork_generation;

use crate::mutex::lock;
use crate::sys::BornFile;

/// One entry for each path that is watched.
static WATCHED: Mutex<BTreeMap<OsString, Entry>> = Mutex::new(BTreeMap::new());

struct Entry {
    watchers: usize,
    last: LastOpened,
}

/// What SQLite last opened under a path.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct LastOpened {
    /// `None` if it has opened nothing there since the path is watched, or has deleted it.
    pub(crate) file: Option<BornFile>,
    /// How often it has deleted the file there. SQLite does that only to a file that no
    /// connection uses.
    pub(crate) deletions: u64,
}

/// Watches a path until it is dropped.
#[derive(Debug)]
pub(crate) struct WatchedPath {
    path: OsString,
    generation: u64,
}

impl WatchedPath {
    pub(crate) fn new(path: &Path) -> Self {
        let path = path.as_os_str().to_owned();
        let mut watched = lock(&WATCHED);
        let entry = watched.entry(path.clone()).or_insert(Entry {
            watchers: 0,
            last: LastOpened::default(),
        });
        entry.watchers += 1;
        Self {
            path,
            generation: fork_generation(),
        }
    }

    pub(crate) fn last_opened(&self) -> LastOpened {
        let watched = lock(&WATCHED);
        watched
            .get(&self.path)
            .map_or_else(LastOpened::default, |entry| entry.last)
    }
}

impl Drop for WatchedPath {
    fn drop(&mut self) {
        if self.generation != fork_generation() {
            // In a forked child, a thread that does not exist there may hold the mutex for ever.
            return;
        }
        let mut watched = lock(&WATCHED);
        if let Some(entry) = watched.get_mut(&self.path) {
            entry.watchers -= 1;
            if entry.watchers == 0 {
                watched.remove(&self.path);
            }
        }
    }
}

/// Notes that SQLite has opened a path; `file` is asked only if the path is watched.
pub(super) fn note_opened(path: &OsStr, file: impl FnOnce() -> Option<BornFile>) {
    if let Some(entry) = lock(&WATCHED).get_mut(path) {
        entry.last.file = file();
    }
}

/// Notes that SQLite has deleted the file at a path.
pub(super) fn note_deleted(path: &OsStr) {
    if let Some(entry) = lock(&WATCHED).get_mut(path) {
        entry.last.file = None;
        entry.last.deletions += 1;
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::thread;
    use std::time::Duration;

    use super::*;
    use crate::sys::FileId;

    fn file(inode: u128) -> Option<BornFile> {
        let id = FileId { device: 1, inode };
        Some(BornFile { id, born: None })
    }

    #[test]
    fn only_watched_paths_are_noted() {
        let name = OsStr::new("/nowhere/watched.db-wal");
        note_opened(name, || panic!("not watched"));
        let path = Path::new("/nowhere/watched.db-wal");
        let (one, other) = (WatchedPath::new(path), WatchedPath::new(path));
        assert_eq!(one.last_opened(), LastOpened::default());
        note_opened(name, || file(7));
        assert_eq!(other.last_opened().file, file(7));
        drop(other);
        note_deleted(name);
        assert_eq!(
            one.last_opened(),
            LastOpened {
                file: None,
                deletions: 1
            }
        );
        note_opened(name, || file(8));
        assert_eq!(
            one.last_opened(),
            LastOpened {
                file: file(8),
                deletions: 1
            }
        );
        drop(one);
        note_deleted(name);
        assert_eq!(WatchedPath::new(path).last_opened(), LastOpened::default());
    }

    /// As in a child that was forked while another thread of its parent opened a database.
    #[test]
    fn a_path_of_the_parent_is_dropped_without_the_mutex() {
        let mut path = WatchedPath::new(Path::new("/nowhere/forked.db"));
        path.generation += 1;
        let held = lock(&WATCHED);
        let (done, dropped) = mpsc::channel();
        let dropping = thread::spawn(move || {
            drop(path);
            done.send(()).unwrap();
        });
        let in_time = dropped.recv_timeout(Duration::from_secs(10));
        drop(held);
        dropping.join().unwrap();
        in_time.unwrap();
    }
}
