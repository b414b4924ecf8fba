//! Processes that still have former files of a database open, this one too: a connection that is
//! opened meanwhile gets another WAL, or another index, for the same name.
//!
//! | a process has open | what SQLite would do here | refused |
//! | --- | --- | --- |
//! | the `-shm` at the path, and another database file | take its index for that of this database | yes |
//! | the `-wal` at the path, and a deleted `-shm` | make a second index of the same WAL | yes |
//! | a deleted `-wal`, and the `-shm` at the path | use its index with an empty WAL | yes |
//! | a deleted `-wal` and a deleted `-shm` | make new ones; the last commits may be only in the deleted WAL | yes, unless all of that WAL is in the database |
//! | the `-wal` at the path, and no `-shm` of that name, for longer than [`SETTLE`] | the same: the index was moved | yes |
//!
//! This is looked for before SQLite opens anything, so that it makes no files, and again once it
//! has, if it made one or one was replaced meanwhile. (A process that has just opened former files
//! and has no lock yet is not seen.) What is replaced or deleted later is noticed by comparing files
//! ([`OpenFiles`](crate::sqlite::open_files::OpenFiles)), and nothing is written before that.
//!
//! The kernel's tables usually tell at once that there is none: each process with SQLite's shared
//! lock on the database has one on the `-shm` too, and the WAL has something in it. Only the
//! descriptors of the others are read, of [`EXAMINED_MAX`] at most; those of a process of another
//! user cannot be.
//!
//! The tables are long if many processes use a database, and reading them stops every process that
//! locks a file meanwhile. So one process looks for all that open the database at the same time
//! ([`Examined`]).

use std::ffi::OsString;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::io;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use penholder_core::{Examined, Process, remedy, shown_name};

use crate::error::{Error, Result};
use crate::location::Location;
use crate::sqlite::{connection, lock_bytes};
use crate::sys::{self, BornFile, Descriptor, Directory, DirectoryStamp};

/// How a process uses former files.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum FormerUse {
    /// The `-shm` is that of another database file.
    OtherDatabase,
    /// Its index was deleted, and the WAL is still there.
    DeletedIndex,
    /// Its WAL was deleted, and is not known to be in the database.
    DeletedWal,
    /// It uses the WAL, or another one, with another `-shm`.
    OtherIndex,
}

/// How long a process that opens or closes the database may have it open without the `-shm`, even
/// on a busy machine.
const SETTLE: Duration = Duration::from_millis(400);
/// How many processes with the database and the index are examined if the WAL is empty: if it was
/// replaced, it was for all of them.
const ENOUGH: usize = 4;
/// How many other processes are examined at most: hundreds that start at once all look as if they
/// opened the database at this moment.
const EXAMINED_MAX: usize = 16;
/// Two changes of a directory this close to each other may have the same time: kernels before
/// Linux 6.13 count by ticks.
const STAMP_GRAIN: Duration = Duration::from_millis(12);
/// The pause between two looks at such a process.
const PAUSE: Duration = Duration::from_millis(5);

/// Refuses to open a database while a process has former files of it open.
///
/// Returns whether the kernel's tables could be read.
///
/// # Errors
///
/// See the table of this module.
pub(crate) fn refuse(location: &Location) -> Result<bool> {
    refuse_those(location, |_| true)
}

/// Which files are at the paths of a database: the database, its `-wal` and its `-shm`.
#[derive(Debug)]
pub(crate) struct FilesAtPaths {
    files: [Option<BornFile>; 3],
    /// When a name in their directory last changed, and when this was asked.
    changed: Option<DirectoryStamp>,
    asked: SystemTime,
}

impl FilesAtPaths {
    pub(crate) fn of(location: &Location) -> Self {
        let asked = SystemTime::now();
        let directory = Directory::open(location.directory());
        let file = |path: &Path| sys::born_file_or_link(path).ok();
        Self {
            changed: directory.and_then(|one| one.stamp()).ok(),
            files: [&location.path, &location.wal(), &location.shm()].map(|path| file(path)),
            asked,
        }
    }

    /// Returns whether the same files are there now, and all of them were: what a look at their
    /// users has shown still holds.
    pub(crate) fn are_unchanged(&self, location: &Location) -> bool {
        self.are_recognised() && self.files == Self::of(location).files
    }

    /// Returns whether all are there, and others in their places would not be taken for them.
    fn are_recognised(&self) -> bool {
        let is_recognised = |file: &Option<BornFile>| file.is_some_and(|one| one.born.is_some());
        self.files.iter().all(is_recognised)
    }

    /// Returns whether files that are moved away, and back, would be noticed too.
    fn is_settled(&self) -> bool {
        let stamp = self.changed.as_ref();
        stamp.is_some_and(|stamp| stamp.is_older_than(STAMP_GRAIN, self.asked))
    }

    /// Returns what a process says that has looked who uses former ones.
    pub(crate) fn examined(&self, location: &Location) -> Examined {
        // Processes of another build may get another number: then they look themselves.
        let mut hasher = DefaultHasher::new();
        let changed = self.changed.as_ref().map(|stamp| stamp.0);
        (&self.files, changed, &location.path).hash(&mut hasher);
        Examined {
            files: hasher.finish(),
            is_lasting: self.are_recognised() && self.is_settled(),
        }
    }
}

/// Does the same for other processes than this one, whose connections see the former files
/// themselves. Returns whether the tables could be read and this process has none of them open.
pub(crate) fn refuse_others(location: &Location) -> Result<bool> {
    let own = std::process::id();
    let was_seen = refuse_those(location, |pid| pid != own)?;
    Ok(was_seen && former_use(own, location).is_none())
}

fn refuse_those(location: &Location, is_meant: impl Fn(u32) -> bool) -> Result<bool> {
    let Some([database, index]) = users(location) else {
        return Ok(false);
    };
    if database.is_empty() && index.is_empty() {
        return Ok(true);
    }
    // With frames in it, it is that of all: nothing is written beside another.
    let has_frames = location.wal().metadata().is_ok_and(|wal| wal.len() > 0);
    let mut usual = 0;
    let mut is_usual = |pid| {
        let has_both = database.contains(&pid) && index.contains(&pid);
        usual += usize::from(has_both);
        has_both && (has_frames || usual > ENOUGH)
    };
    let found = database
        .iter()
        .chain(&index)
        .copied()
        .filter(|&pid| is_meant(pid) && !is_usual(pid))
        .take(EXAMINED_MAX)
        .find_map(|pid| settled_use(pid, location).map(|found| (pid, found)));
    found.map_or(Ok(true), |(pid, found)| Err(refusal(location, pid, found)))
}

/// Returns how a process uses former files, once it does not look so only because it opens or
/// closes the database at this moment.
fn settled_use(pid: u32, location: &Location) -> Option<FormerUse> {
    if let Some(found) = former_use(pid, location) {
        return (former_use(pid, location) == Some(found)).then_some(found);
    }
    // The descriptors of one process are read faster than the locks of all.
    let has_other_index = || {
        has_moved_index(pid, location) && {
            users(location)
                .is_some_and(|[database, index]| database.contains(&pid) && !index.contains(&pid))
        }
    };
    if !has_other_index() || !connection::is_wal_by_header(location) {
        return None;
    }
    let settled = Instant::now() + SETTLE;
    while Instant::now() < settled {
        thread::sleep(PAUSE);
        if !has_other_index() {
            return None;
        }
    }
    Some(FormerUse::OtherIndex)
}

fn refusal(location: &Location, pid: u32, found: FormerUse) -> Error {
    let name = |path: &Path| shown_name(path).to_string();
    let process = Process::with_id(pid);
    let why = match found {
        FormerUse::OtherDatabase => format!(
            "the database file was replaced or deleted while {process} has it open: that process \
             uses {} with another database, and SQLite would mix the two",
            name(&location.shm())
        ),
        FormerUse::DeletedIndex => format!(
            "{} was deleted while {process} has it open: SQLite would make a second index of the \
             same WAL",
            name(&location.shm())
        ),
        FormerUse::DeletedWal => format!(
            "{} was deleted or moved while {process} has it open: the last commits are only there",
            name(&location.wal())
        ),
        FormerUse::OtherIndex => format!(
            "{process} has it open with another -shm file than {}, which was deleted or moved: each \
             would lose what the other writes",
            name(&location.shm())
        ),
    };
    let next = if pid == std::process::id() {
        "write once more with the `Database` that is open, which saves what can be saved, or close \
         the connections that are; then try again"
            .to_owned()
    } else {
        format!(
            "let that process write once more if it uses penholder, which saves what can be saved; \
             otherwise end it, but not with {}; then try again",
            remedy::violent_end()
        )
    };
    Error::refused("open database", &location.path, why, next)
}

/// Returns the processes with SQLite's shared lock on the database file, and those that have the
/// index open, as one look at the kernel's table shows both: it is long if many processes use
/// the database. `None` if it cannot be read.
fn users(location: &Location) -> Option<[Vec<u32>; 2]> {
    let byte = lock_bytes::INDEX_IN_USE;
    Process::ids_with_shared_posix_locks([
        (&location.path, &lock_bytes::SHARED),
        (&location.shm(), &(byte..=byte)),
    ])
}

/// Returns how a process uses former files; `None` if it does not, or its descriptors may not be
/// read.
fn former_use(pid: u32, location: &Location) -> Option<FormerUse> {
    let descriptors = descriptors_of(pid)?;
    let find = |target: &Path| descriptors.iter().find(|one| one.target == target);
    let (wal, shm) = (location.wal(), location.shm());
    let has_index = find(&shm).is_some();
    let deleted_index = find(Path::new(&deleted(&shm)));
    if has_index && find(&location.path).is_none() {
        return Some(FormerUse::OtherDatabase);
    }
    if !has_index && find(&wal).is_some() && deleted_index.is_some() {
        return Some(FormerUse::DeletedIndex);
    }
    if find(Path::new(&deleted(&wal))).is_some() {
        let is_saved = || deleted_index.is_some_and(is_all_checkpointed);
        return (has_index || !is_saved()).then_some(FormerUse::DeletedWal);
    }
    let is_moved = has_index && find(&wal).is_none() && !wal.exists();
    is_moved.then_some(FormerUse::DeletedWal)
}

/// Returns what a process has open; `None` if that may not be seen. Where a descriptor of another process
/// cannot be opened again, there are only the names.
fn descriptors_of(pid: u32) -> Option<Vec<Descriptor>> {
    match sys::descriptors(pid) {
        Err(error) if error.kind() == io::ErrorKind::Unsupported => {
            let named = |target| Descriptor {
                path: PathBuf::new(),
                target,
            };
            let targets = Process::open_paths(pid)?;
            Some(targets.into_iter().map(named).collect())
        }
        found => found.ok(),
    }
}

/// Returns whether a process that has the database open without the `-shm` at the path has it open
/// with another one: it has the WAL, and no index that can be recognised, because it was moved.
fn has_moved_index(pid: u32, location: &Location) -> bool {
    let descriptors = descriptors_of(pid).unwrap_or_default();
    let has = |path: &Path| {
        let gone = deleted(path);
        let is_it = |target: &Path| target == path || target.as_os_str() == gone;
        descriptors.iter().any(|one| is_it(&one.target))
    };
    has(&location.wal()) && !has(&location.shm())
}

/// Returns a path as the kernel writes it once the file has no name any more.
fn deleted(path: &Path) -> OsString {
    let mut name = path.as_os_str().to_owned();
    name.push(" (deleted)");
    name
}

/// Returns whether the index, which was deleted, says that all frames of its WAL are in the
/// database (`walformat.html`, section 2.1: `mxFrame`, and `nBackfill` after the two headers).
fn is_all_checkpointed(index: &Descriptor) -> bool {
    // Closing it here would drop SQLite's locks if this process had it open too.
    let own = descriptors_of(std::process::id()).unwrap_or_default();
    if own.iter().any(|one| one.target == index.target) {
        return false;
    }
    let Ok(header) = sys::read_start::<100>(&index.path) else {
        return false;
    };
    let word = |offset: usize| {
        let bytes = header.get(offset..offset + 4)?;
        Some(u32::from_ne_bytes(bytes.try_into().ok()?))
    };
    match (word(16), word(96)) {
        (Some(frames), Some(checkpointed)) => checkpointed >= frames,
        _ => false,
    }
}
