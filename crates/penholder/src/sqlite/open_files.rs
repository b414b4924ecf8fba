//! Whether the paths of a database still name the files that SQLite has open.
//!
//! If a backup is moved over the database, or its WAL is deleted, SQLite goes on with the files
//! that it has open, which have no name any more, and acknowledges writes that no other process
//! will ever see. SQLite does not look. So this is checked whenever the write lock was taken,
//! and before a connection is used that was just opened.
//!
//! # What a check costs
//!
//! Files are replaced and deleted by a change of their directory, and the kernel stamps each
//! such change. So while the stamp of the directory is the same, one system call tells that
//! nothing was replaced. A stamp counts only once it is older than [`STAMP_GRAIN`]: two changes
//! within one tick of the kernel's clock may have the same stamp. What the directory does not
//! show (a file system mounted over one of the files, another name of a directory further up) is
//! found after [`RECHECK`].
//!
//! Where a file that SQLite has open cannot be renamed or deleted (Windows), files are compared only
//! when a connection was opened.
//!
//! | state | a check does | leaves by |
//! | --- | --- | --- |
//! | unsettled | compares all three files | the stamp is old enough → settled; a file differs → lost |
//! | settled | compares the stamp | another stamp, or [`RECHECK`] is over → unsettled |
//! | lost | fails at once | never: the connections are given up, and others are opened |

use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Mutex, OnceLock};
use std::time::{Duration, Instant, SystemTime};

use penholder_core::Deadline;
use rusqlite::Connection;

use super::connection;
use super::watched_paths::{LastOpened, WatchedPath};
use crate::error::{Error, FileChange, Result};
use crate::location::Location;
use crate::mutex::lock;
use crate::sys::{self, BornFile, Directory, DirectoryStamp};
use crate::telemetry;

/// How old a stamp has to be until the next change cannot have the same one. The kernel's clock
/// for stamps ticks every 1 to 10 ms.
const STAMP_GRAIN: Duration = Duration::from_millis(50);
/// After this time all files are compared, even if the stamp is the same.
const RECHECK: Duration = Duration::from_millis(100);

/// What SQLite has open of one database, for the connections of one handle in one process.
#[derive(Debug)]
pub(crate) struct OpenFiles {
    location: Location,
    /// `None` if it cannot be looked at.
    directory: Option<Directory>,
    files: [WatchedFile; 3],
    state: Mutex<State>,
    lost: OnceLock<FileChange>,
}

/// What is at the path of a file now, compared with what is open.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Found {
    Same,
    Other,
    Missing,
}

/// What is at the paths of a database now.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FoundFiles {
    pub(crate) database: Found,
    pub(crate) wal: Found,
    pub(crate) shm: Found,
}

#[derive(Debug)]
struct WatchedFile {
    path: PathBuf,
    watched: WatchedPath,
}

#[derive(Debug, Default)]
struct State {
    /// What our connections have open, in the order of the files.
    opened: [LastOpened; 3],
    /// `None` while the state is unsettled.
    settled: Option<Settled>,
}

#[derive(Debug)]
struct Settled {
    stamp: DirectoryStamp,
    until: Instant,
}

/// The files in the order of [`OpenFiles::files`].
const DATABASE: usize = 0;
const WAL: usize = 1;
const SHM: usize = 2;

impl OpenFiles {
    pub(crate) fn new(location: &Location) -> Self {
        let watch = |path: PathBuf| WatchedFile {
            watched: WatchedPath::new(&path),
            path,
        };
        Self {
            files: [location.path.clone(), location.wal(), location.shm()].map(watch),
            location: location.clone(),
            directory: Directory::open(location.directory()).ok(),
            state: Mutex::default(),
            lost: OnceLock::new(),
        }
    }

    /// Returns whether a check has found that a file was replaced or deleted.
    pub(crate) fn are_lost(&self) -> bool {
        self.lost.get().is_some()
    }

    /// Checks that the paths name the files that our connections have open, at the time `now`.
    /// `what` is the operation that an error names.
    ///
    /// # Errors
    ///
    /// A file was replaced or deleted ([`Error::is_file_replaced`]), now or at an earlier check;
    /// the directory cannot be looked at.
    pub(crate) fn check(&self, what: &'static str, now: Instant) -> Result<()> {
        self.refuse_lost(what)?;
        if !sys::DELETES_OPEN_FILES {
            return Ok(());
        }
        let mut state = lock(&self.state);
        let is_settled = state
            .settled
            .as_ref()
            .is_some_and(|settled| now < settled.until && self.stamp() == Some(settled.stamp));
        if is_settled {
            return Ok(());
        }
        self.compare(&mut state, what)
    }

    fn stamp(&self) -> Option<DirectoryStamp> {
        self.directory.as_ref()?.stamp().ok()
    }

    /// Checks a connection that was just opened: it must have opened the same files as the
    /// others, and these must be the ones that the paths name.
    ///
    /// # Errors
    ///
    /// As [`check`](Self::check); SQLite cannot read the database.
    pub(crate) fn check_opened(&self, connection: &Connection, deadline: &Deadline) -> Result<()> {
        let failed = |e| connection::explain(&self.location, deadline, e);
        // The first read opens the WAL and its index.
        let read = "SELECT count(*) FROM sqlite_schema";
        connection.query_row(read, [], |_| Ok(())).map_err(failed)?;
        let what = "open database";
        self.refuse_lost(what)?;
        let mut state = lock(&self.state);
        for (file, opened) in self.files.iter().zip(&mut state.opened) {
            let last = file.watched.last_opened();
            if opened.file.is_none() || last.deletions != opened.deletions {
                *opened = last;
            } else if last.file.is_some() && !is_same(last.file, opened.file) {
                drop(state);
                return Err(self.lose(what, FileChange::replaced(&file.path)));
            }
        }
        // A connection of the application had opened the index before it was watched.
        let index = &mut state.opened[SHM].file;
        if index.is_none() {
            *index = named(&self.files[SHM].path).unwrap_or(None);
        }
        state.settled = None;
        self.compare(&mut state, what)
    }

    pub(crate) fn database(&self) -> &Path {
        &self.files[DATABASE].path
    }

    pub(crate) fn wal(&self) -> &Path {
        &self.files[WAL].path
    }

    pub(crate) fn shm(&self) -> &Path {
        &self.files[SHM].path
    }

    /// Returns what is at the paths now.
    ///
    /// # Errors
    ///
    /// The directory cannot be looked at.
    pub(crate) fn found(&self) -> io::Result<FoundFiles> {
        let opened = lock(&self.state).opened;
        let found = |number: usize| {
            // The connections may be closed, and its number in use again.
            let opened = opened[number].file;
            named(&self.files[number].path).map(|named| match named {
                None => Found::Missing,
                Some(named) if opened.is_some_and(|opened| named.is(&opened)) => Found::Same,
                Some(_) => Found::Other,
            })
        };
        Ok(FoundFiles {
            database: found(DATABASE)?,
            wal: found(WAL)?,
            shm: found(SHM)?,
        })
    }

    /// Returns whether the paths name the files that are open.
    pub(crate) fn are_named(&self) -> bool {
        let is_named = |(file, opened): (&WatchedFile, LastOpened)| {
            let last = file.watched.last_opened();
            last.deletions != opened.deletions
                || opened.file.is_none()
                || named(&file.path).is_ok_and(|named| is_same(named, opened.file))
        };
        let opened = lock(&self.state).opened;
        !self.are_lost() && self.files.iter().zip(opened).all(is_named)
    }

    /// Returns the file at a path that makes it unsafe to open what is there now: SQLite would
    /// use it together with files that it does not belong to.
    pub(crate) fn leftover(&self) -> Option<&Path> {
        let found = self.found().ok()?;
        match (found.database, found.wal, found.shm) {
            (Found::Same, Found::Same, _) => None,
            // An index of another WAL.
            (Found::Same | Found::Other, _, Found::Same) => Some(self.shm()),
            (Found::Other, Found::Same, _) => {
                let has_frames = self.wal().metadata().is_ok_and(|wal| wal.len() > 0);
                has_frames.then(|| self.wal())
            }
            _ => None,
        }
    }

    /// Compares each file with what is open, and settles if nothing can have changed since.
    fn compare(&self, state: &mut State, what: &'static str) -> Result<()> {
        state.settled = None;
        let (now, begun) = (SystemTime::now(), Instant::now());
        let stamp = self.stamp();
        for (file, opened) in self.files.iter().zip(&mut state.opened) {
            let last = file.watched.last_opened();
            if last.deletions != opened.deletions {
                // Our SQLite deleted it, as when the journal mode changes.
                *opened = last;
            }
            if opened.file.is_none() {
                continue;
            }
            let found = named(&file.path).map_err(|e| self.cannot_look(what, e))?;
            if !is_same(found, opened.file) {
                let change = match found {
                    Some(_) => FileChange::replaced(&file.path),
                    None => FileChange::deleted(&file.path),
                };
                return Err(self.lose(what, change));
            }
        }
        state.settled = stamp
            .filter(|stamp| stamp.is_older_than(STAMP_GRAIN, now))
            .map(|stamp| Settled {
                stamp,
                until: begun + RECHECK,
            });
        Ok(())
    }

    /// Refuses if a check has found that a file was replaced or deleted.
    pub(crate) fn refuse_lost(&self, what: &'static str) -> Result<()> {
        match self.lost.get() {
            None => Ok(()),
            Some(change) => Err(self.error(what, change.clone())),
        }
    }

    /// Notes that a file was replaced or deleted, and says so once.
    fn lose(&self, what: &'static str, change: FileChange) -> Error {
        if self.lost.set(change.clone()).is_ok() {
            telemetry::file_replaced(&self.location, &change);
        }
        self.error(what, change)
    }

    fn error(&self, what: &'static str, change: FileChange) -> Error {
        Error::file_replaced(what, &self.location.path, change)
    }

    fn cannot_look(&self, what: &'static str, error: io::Error) -> Error {
        let next = "check the permissions of its directory";
        Error::io(what, &self.location.path, error, next)
    }
}

/// Returns whether both are the same file, of which one is open.
fn is_same(one: Option<BornFile>, other: Option<BornFile>) -> bool {
    one.map(|file| file.id) == other.map(|file| file.id)
}

/// Returns which file a path names; `None` if there is none.
fn named(path: &Path) -> io::Result<Option<BornFile>> {
    match sys::born_file(path) {
        Ok(id) => Ok(Some(id)),
        Err(error) if is_missing(&error) => Ok(None),
        Err(error) => Err(error),
    }
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}
