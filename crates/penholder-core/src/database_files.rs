//! What shows that a database was written, on Unix without opening any of its files: closing one would
//! drop SQLite's locks.
//!
//! | the `-wal` | what is looked at |
//! | --- | --- |
//! | has frames | only the `-wal`: each commit writes to it, and a checkpoint does not. On Windows, where that may not show in its time, the header of the `-shm` too |
//! | is missing or empty | the database, and its `-journal` if that is older |
//!
//! A process that opens a database in WAL mode and only reads it makes an empty `-wal`, and removes it
//! at the end, so this does not count. A checkpoint that truncates the `-wal`, or removes it because the
//! last connection is closed, looks like a commit.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};

use crate::mailbox::mix;
use crate::sys::file::{FileId, STAMPS_WRITES, change_of_path, tells_changes_apart};
use crate::sys::{clock, file_change::FileChange};

/// File systems that keep whole seconds keep every second one in the worst case.
const WHOLE_SECONDS: i128 = 2_000_000_000;

/// The files of a database.
#[derive(Debug)]
pub(crate) struct DatabaseFiles {
    database: PathBuf,
    wal: PathBuf,
    index: PathBuf,
    journal: PathBuf,
    /// Whether a change after a look has another time in any case.
    tells_apart: bool,
}

/// How the files looked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FilesLook {
    /// Of what shows a change.
    pub(crate) hash: u64,
    /// Whether a later change shows: it has another time.
    pub(crate) is_settled: bool,
}

impl DatabaseFiles {
    /// Of a database whose path has no symbolic links, as SQLite makes the names of the others from
    /// that.
    pub(crate) fn new(database: &Path) -> Self {
        let with = |suffix: &str| {
            let mut name = OsString::from(database);
            name.push(suffix);
            PathBuf::from(name)
        };
        Self {
            wal: with("-wal"),
            index: with("-shm"),
            journal: with("-journal"),
            tells_apart: database.parent().is_some_and(tells_changes_apart),
            database: database.to_owned(),
        }
    }

    /// As on a kernel where two changes may have the same time.
    #[cfg(test)]
    pub(crate) fn forget_fine_times(&mut self) {
        self.tells_apart = false;
    }

    pub(crate) fn database(&self) -> &Path {
        &self.database
    }

    /// Returns what identifies the database; `None` if there is none.
    pub(crate) fn id(&self) -> io::Result<Option<FileId>> {
        Ok(change_of_path(&self.database)?.map(|change| change.id))
    }

    /// Looks at the files.
    pub(crate) fn look(&self) -> io::Result<FilesLook> {
        // First: a change after this has no earlier time.
        let now = clock::wall_coarse();
        let wal = change_of_path(&self.wal)?.filter(|wal| wal.len > 0);
        let seen = match wal {
            Some(wal) if STAMPS_WRITES => [Some(wal), None],
            Some(wal) => [Some(wal), self.look_at_index()?],
            None => self.look_without_wal()?,
        };
        let is_settled =
            |change: &FileChange| !STAMPS_WRITES || self.tells_apart || is_before(change, now);
        Ok(FilesLook {
            hash: seen.iter().fold(u64::from(wal.is_some()), with),
            is_settled: seen.iter().flatten().all(is_settled),
        })
    }

    /// Returns the index of the WAL, in which each commit counts. It is mapped, so its time says nothing.
    fn look_at_index(&self) -> io::Result<Option<FileChange>> {
        let index = change_of_path(&self.index)?;
        Ok(index.map(|index| FileChange { at: 0, ..index }))
    }

    /// Returns the database, and the `-journal` if the database was written since that was: the commit
    /// of such a transaction is over when the journal is finished.
    fn look_without_wal(&self) -> io::Result<[Option<FileChange>; 2]> {
        let database = change_of_path(&self.database)?;
        let journal = change_of_path(&self.journal)?;
        let is_older =
            |journal: &FileChange| database.is_some_and(|database| journal.at <= database.at);
        Ok([database, journal.filter(is_older)])
    }
}

/// Whether a change from this moment on has another time than this one.
fn is_before(change: &FileChange, now: u64) -> bool {
    let is_whole = change.at % 1_000_000_000 == 0;
    let grain = if is_whole { WHOLE_SECONDS } else { 0 };
    change.at + grain < i128::from(now)
}

fn with(hash: u64, change: &Option<FileChange>) -> u64 {
    let Some(change) = change else {
        return mix(hash);
    };
    let at = u64::try_from(change.at).unwrap_or(0);
    let FileId { dev, ino } = change.id;
    [dev, ino, change.len, at, change.beginning]
        .into_iter()
        .fold(mix(hash), |hash, word| mix(hash ^ word))
}

#[cfg(test)]
mod tests {
    use std::fs::{self, File};
    use std::time::{Duration, SystemTime};

    use super::*;

    fn files() -> (tempfile::TempDir, DatabaseFiles) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("app.db");
        fs::write(&path, "content").unwrap();
        let files = DatabaseFiles::new(&path);
        (directory, files)
    }

    fn set_time(path: &Path, time: SystemTime) {
        let file = File::options().write(true).open(path).unwrap();
        file.set_modified(time).unwrap();
    }

    #[test]
    fn a_look_is_settled_if_a_later_change_has_another_time() {
        let (_directory, mut files) = files();
        files.forget_fine_times();
        let now = SystemTime::now();
        let second = |ago| {
            let whole = now
                .duration_since(SystemTime::UNIX_EPOCH)
                .unwrap()
                .as_secs();
            SystemTime::UNIX_EPOCH + Duration::from_secs(whole - ago)
        };
        let tick = Duration::from_millis(50);
        for (time, is_settled) in [
            (now + tick, false),
            (now - tick, true),
            // As on a file system that keeps whole seconds.
            (second(1), false),
            (second(10), true),
        ] {
            set_time(files.database(), time);
            let is_settled = is_settled || !STAMPS_WRITES;
            assert_eq!(files.look().unwrap().is_settled, is_settled, "{time:?}");
        }
    }

    #[test]
    fn a_change_shows_in_each_file_that_counts() {
        let (_directory, files) = files();
        let look = || files.look().unwrap().hash;
        let mut seen = vec![look()];
        for (file, content) in [
            (&files.database, "other content"),
            (&files.database, "content again"),
            (&files.wal, "frames"),
            (&files.wal, "more frames"),
        ] {
            fs::write(file, content).unwrap();
            assert!(!seen.contains(&look()), "{file:?}");
            seen.push(look());
        }
        let with_wal = look();
        fs::write(&files.database, "checkpoint").unwrap();
        assert_eq!(look(), with_wal);
    }

    /// Where a write may not show in the time of the file.
    #[test]
    fn a_change_shows_without_a_time() {
        if STAMPS_WRITES {
            return;
        }
        let (_directory, files) = files();
        let look = || files.look().unwrap().hash;
        let time = SystemTime::now();
        let overwrite = |path: &Path, content: &str| {
            fs::write(path, content).unwrap();
            set_time(path, time);
        };
        overwrite(&files.database, "counter 1");
        let first = look();
        overwrite(&files.database, "counter 2");
        assert_ne!(look(), first);
        overwrite(&files.wal, "frames");
        overwrite(&files.index, "header 1");
        let first = look();
        assert_eq!(look(), first);
        overwrite(&files.index, "header 2");
        assert_ne!(look(), first);
    }

    #[test]
    fn a_journal_counts_from_the_write_to_the_database_on() {
        let (_directory, files) = files();
        let look = || files.look().unwrap().hash;
        let before = look();
        fs::write(&files.journal, "pages").unwrap();
        let now = SystemTime::now();
        set_time(&files.journal, now + Duration::from_secs(1));
        assert_eq!(look(), before, "a transaction has begun");
        set_time(&files.database, now + Duration::from_secs(2));
        let during = look();
        assert_ne!(during, before);
        fs::remove_file(&files.journal).unwrap();
        assert!(![before, during].contains(&look()), "it is over");
    }
}
