//! Where a database is: one absolute path for all its names, and the files next to it.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::path::{self, Path, PathBuf};

use penholder_core::shown_path;

use crate::error::{Error, Result};
use crate::sys::PathLimit;
use crate::{sidecar, sys};

/// The longest path of a database: what SQLite takes, less the longest suffix.
pub(crate) const PATH_MAX: usize = sys::PATH_LIMIT.longest - sidecar::SUFFIX_MAX;
/// How many links are followed, as in SQLite (`SQLITE_MAX_SYMLINK`).
const LINKS_MAX: u32 = 100;

/// The absolute path of a database with links resolved, so that every alias of the database
/// uses one lock file.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    pub(crate) path: PathBuf,
    /// How many names (hard links) the file has; more than one is worth a warning.
    pub(crate) links: u64,
    /// Whether there is such a file.
    pub(crate) exists: bool,
}

impl Location {
    /// Resolves a path as the user wrote it. `what` is the operation that an error names.
    ///
    /// Only looks at the file: opening and closing it would drop SQLite's locks on it.
    ///
    /// # Errors
    ///
    /// No database can be at this path, or the path cannot be looked at.
    pub(crate) fn of(given: &Path, what: &'static str) -> Result<Self> {
        refuse_names(given, what)?;
        let path = resolve(given, what)?;
        refuse_long(&path, given, what)?;
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(Self {
                links: sys::links(&path).unwrap_or(1),
                path,
                exists: true,
            }),
            Ok(meta) => {
                let kind = sys::kind(meta.file_type());
                let why = format!("it is {kind}, not a database");
                Err(Error::refused(what, given, why, "give the path of a file"))
            }
            // Windows does not say which of the two it is.
            Err(error) if is_missing(&error) => match path.parent() {
                Some(directory) if directory.is_file() => {
                    Err(not_a_directory(what, given, directory))
                }
                _ => Ok(Self {
                    path,
                    links: 1,
                    exists: false,
                }),
            },
            Err(error) => Err(Error::io(
                what,
                given,
                error,
                "check the permissions of its directory",
            )),
        }
    }

    /// Returns the directory that the database is in.
    pub(crate) fn directory(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// Returns the path of the WAL.
    pub(crate) fn wal(&self) -> PathBuf {
        sidecar::wal(&self.path)
    }

    /// Returns the path of the shared memory of WAL mode.
    pub(crate) fn shm(&self) -> PathBuf {
        sidecar::shm(&self.path)
    }

    /// Returns the path of the rollback journal, which SQLite uses outside WAL mode.
    pub(crate) fn journal(&self) -> PathBuf {
        sidecar::journal(&self.path)
    }

    /// Returns the paths of all files that SQLite keeps next to the database.
    pub(crate) fn sidecars(&self) -> [PathBuf; 3] {
        sidecar::all(&self.path)
    }

    /// Returns the path of the database and those of its [`sidecars`](Self::sidecars).
    pub(crate) fn files(&self) -> impl Iterator<Item = PathBuf> {
        std::iter::once(self.path.clone()).chain(self.sidecars())
    }
}

fn refuse_names(given: &Path, what: &'static str) -> Result<()> {
    let refuse = |why: &str, next: &str| Err(Error::refused(what, given, why, next));
    let bytes = given.as_os_str().as_encoded_bytes();
    if bytes.is_empty() {
        return refuse(
            "the name is empty",
            "give the path of a file: the write lock needs one",
        );
    }
    if bytes == b":memory:" {
        return refuse(
            "a database in memory belongs to one connection",
            "give the path of a file: the write lock needs one",
        );
    }
    if bytes.starts_with(b"file:") {
        return refuse(
            "URI file names can change the locking",
            "give a plain path (`./file:…` if that is the name of the file)",
        );
    }
    if bytes.contains(&0) {
        return refuse("the path contains a NUL byte", "give the path of a file");
    }
    let ends_in_separator = bytes
        .last()
        .is_some_and(|&last| path::is_separator(last.into()));
    if ends_in_separator || given.file_name().is_none() {
        return refuse("it names a directory", "give the path of a file in it");
    }
    refuse_by_system(given, given, what)
}

/// Refuses what the system, or SQLite on it, takes for something else than a file of this name.
fn refuse_by_system(path: &Path, given: &Path, what: &'static str) -> Result<()> {
    match sys::refuse_name(path) {
        Some(refusal) => Err(Error::refused(what, given, refusal.why, refusal.next)),
        None => Ok(()),
    }
}

fn refuse_long(path: &Path, given: &Path, what: &'static str) -> Result<()> {
    let length = sys::path_length(path);
    if length <= PATH_MAX {
        return Ok(());
    }
    let PathLimit { unit, next, .. } = sys::PATH_LIMIT;
    let why = format!("the path has {length} {unit}");
    let next = format!("SQLite takes at most {PATH_MAX}: {next}");
    Err(Error::refused(what, given, why, next))
}

fn is_missing(error: &io::Error) -> bool {
    matches!(
        error.kind(),
        io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
    )
}

/// Follows links as SQLite does, also a link to a file that does not exist yet.
fn resolve(given: &Path, what: &'static str) -> Result<PathBuf> {
    let failed = |error| Error::io(what, given, error, "check the path");
    let mut path = path::absolute(given).map_err(failed)?;
    for _ in 0..LINKS_MAX {
        let directory = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let directory =
            penholder_core::canonicalize(directory).map_err(|error| match error.kind() {
                io::ErrorKind::NotFound => {
                    let why = format!("there is no directory {}", shown_path(directory));
                    Error::refused(what, given, why, "create it first")
                }
                io::ErrorKind::NotADirectory => not_a_directory(what, given, directory),
                _ => failed(error),
            })?;
        path = directory.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = directory.join(target),
            Err(_not_a_link) => {
                let path = as_spelled(path);
                refuse_by_system(&path, given, what)?;
                return Ok(path);
            }
        }
    }
    Err(Error::refused(
        what,
        given,
        "too many symbolic links",
        "check where they lead",
    ))
}

fn not_a_directory(what: &'static str, given: &Path, file: &Path) -> Error {
    let why = format!("{} is a file, not a directory", shown_path(file));
    Error::refused(what, given, why, "check the path")
}

/// Returns a path as the file system spells it; as it is if there is no such file.
fn as_spelled(path: PathBuf) -> PathBuf {
    if sys::HAS_OTHER_SPELLINGS {
        penholder_core::canonicalize(&path).unwrap_or(path)
    } else {
        path
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::symlink;

    #[test]
    fn every_alias_is_one_path() {
        let directory = tempfile::tempdir().unwrap();
        let real = penholder_core::canonicalize(directory.path())
            .unwrap()
            .join("real.db");
        let dotted = directory
            .path()
            .join("../")
            .join(directory.path().file_name().unwrap())
            .join("real.db");
        assert_eq!(Location::of(&dotted, "open").unwrap().path, real);
        let link = directory.path().join("link.db");
        let dangling = Location::of(&link, "open").unwrap();
        assert!(!dangling.exists);
        let made = symlink("./real.db", &link);
        if cfg!(windows) && made.is_err() {
            return;
        }
        made.unwrap();
        assert_eq!(
            Location::of(&link, "open").unwrap().path,
            real,
            "a link to a file that does not exist yet"
        );
        fs::write(&real, b"").unwrap();
        assert_eq!(Location::of(&link, "open").unwrap().path, real);
        symlink("loop.db", directory.path().join("loop.db")).unwrap();
        assert!(
            Location::of(&directory.path().join("loop.db"), "open")
                .unwrap_err()
                .is_refused()
        );
    }

    #[test]
    fn names_without_a_file_are_refused() {
        for name in [
            "",
            ":memory:",
            "file:x.db",
            "file::memory:",
            "/",
            "/tmp/",
            "..",
            "a\0b",
            "./",
        ] {
            let error = Location::of(Path::new(name), "open").unwrap_err();
            assert!(error.is_refused(), "{name}: {error}");
        }
        let directory = tempfile::tempdir().unwrap();
        let long = directory.path().join("x".repeat(600));
        let error = Location::of(&long, "open").unwrap_err().to_string();
        assert!(error.contains(&PATH_MAX.to_string()), "{error}");
    }

    #[test]
    fn a_file_is_no_directory() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("file");
        fs::write(&file, b"").unwrap();
        let error = Location::of(&file.join("x.db"), "open").unwrap_err();
        assert!(error.is_refused(), "{error}");
        assert!(error.to_string().contains("not a directory"), "{error}");
        let error = Location::of(directory.path(), "open").unwrap_err();
        assert!(error.to_string().contains("a directory"), "{error}");
    }

    #[test]
    fn the_files_of_a_database_are_next_to_it() {
        let directory = tempfile::tempdir().unwrap();
        let location = Location::of(&directory.path().join("x.db"), "open").unwrap();
        let names: Vec<_> = location
            .files()
            .map(|path| path.file_name().unwrap().to_owned())
            .collect();
        assert_eq!(names, ["x.db", "x.db-wal", "x.db-shm", "x.db-journal"]);
        let [wal, shm, journal] = location.sidecars();
        assert_eq!(
            (wal, shm, journal),
            (location.wal(), location.shm(), location.journal())
        );
    }

    #[cfg(windows)]
    #[test]
    fn all_spellings_of_a_file_are_one() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("Name.db");
        let missing = as_spelled(path.clone());
        assert_eq!(missing, path);
        fs::write(&path, b"").unwrap();
        let real = penholder_core::canonicalize(&path).unwrap();
        assert!(!real.to_str().unwrap().starts_with(r"\\?\"), "{real:?}");
        for name in ["NAME.DB", "name.db", r".\Name.db", r"x\..\Name.db"] {
            assert_eq!(as_spelled(directory.path().join(name)), real, "{name}");
        }
        let slashes = path.to_str().unwrap().replace('\\', "/");
        assert_eq!(as_spelled(slashes.into()), real);
        assert!(sys::is_same_name(
            &real,
            Path::new(&real.to_str().unwrap().to_uppercase())
        ));
        assert!(!sys::is_same_name(&real, directory.path()));
    }
}
