//! Where a database is: one absolute path for all its names.

use std::ffi::OsStr;
use std::fs;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileTypeExt, MetadataExt};
use std::path::{self, Path, PathBuf};

use crate::error::{Error, Result};

/// SQLite's `MAX_PATHNAME` (`os_unix.c`) less what it appends (`-journal`).
const PATH_MAX: usize = 512 - 8;
/// Links followed before giving up, as in SQLite (`SQLITE_MAX_SYMLINK`).
const LINKS_MAX: u32 = 100;

/// The absolute path of a database, links resolved, so that every alias of it
/// uses one lock file.
#[derive(Debug, Clone)]
pub(crate) struct Location {
    pub(crate) path: PathBuf,
    /// How many names the file has; more than one is worth a warning.
    pub(crate) links: u64,
    /// Whether there is such a file.
    pub(crate) exists: bool,
}

impl Location {
    /// Resolves a path as the user wrote it. Looks, but opens nothing: closing a
    /// database file drops SQLite's locks on it.
    /// `what` is what fails if that fails.
    pub(crate) fn of(given: &Path, what: &'static str) -> Result<Self> {
        refuse_names(given, what)?;
        let path = resolve(given, what)?;
        if path.as_os_str().len() > PATH_MAX {
            let why = format!("the path has {} bytes", path.as_os_str().len());
            let next = format!(
                "SQLite takes at most {PATH_MAX}: move it, or open it from nearer by a bind mount"
            );
            return Err(Error::refused(what, given, why, next));
        }
        match fs::metadata(&path) {
            Ok(meta) if meta.is_file() => Ok(Self {
                path,
                links: meta.nlink(),
                exists: true,
            }),
            Ok(meta) => {
                let kind = kind_of(meta.file_type());
                let why = format!("it is {kind}, not a database");
                Err(Error::refused(what, given, why, "give the path of a file"))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Self {
                path,
                links: 1,
                exists: false,
            }),
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                let folder = path.parent().unwrap_or(&path).display().to_string();
                let why = format!("{folder} is a file, not a folder");
                Err(Error::refused(what, given, why, "check the path"))
            }
            Err(error) => Err(Error::io(
                what,
                given,
                error,
                "check the permissions of its folder",
            )),
        }
    }

    /// The folder that the database is in.
    pub(crate) fn folder(&self) -> &Path {
        self.path.parent().unwrap_or(Path::new("/"))
    }

    /// The path of a file that SQLite keeps beside the database.
    pub(crate) fn sidecar(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        name.into()
    }
}

fn refuse_names(given: &Path, what: &'static str) -> Result<()> {
    let refuse = |why: &str, next: &str| Err(Error::refused(what, given, why, next));
    let bytes = given.as_os_str().as_bytes();
    if bytes.is_empty() {
        return refuse(
            "the name is empty",
            "give the path of a file: a lock needs one",
        );
    }
    if bytes == b":memory:" {
        return refuse(
            "a database in memory belongs to one connection",
            "give the path of a file: a lock needs one",
        );
    }
    if bytes.starts_with(b"file:") {
        return refuse(
            "URI file names can change the locking",
            "give a plain path (./file:… if the file is really called so)",
        );
    }
    if bytes.contains(&0) {
        return refuse("the path contains a NUL byte", "give the path of a file");
    }
    if bytes.ends_with(b"/") || given.file_name().is_none() {
        return refuse("it names a folder", "give the path of a file in it");
    }
    Ok(())
}

/// Follows links as SQLite does, also a link to a file that does not exist yet.
fn resolve(given: &Path, what: &'static str) -> Result<PathBuf> {
    let failed = |error| Error::io(what, given, error, "check the path");
    let mut path = path::absolute(given).map_err(failed)?;
    for _ in 0..LINKS_MAX {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let name = path.file_name().unwrap_or(OsStr::new(""));
        let folder = fs::canonicalize(folder).map_err(|error| match error.kind() {
            io::ErrorKind::NotFound => {
                let why = format!("there is no folder {}", folder.display());
                Error::refused(what, given, why, "create it first")
            }
            io::ErrorKind::NotADirectory => {
                let why = format!("{} is a file, not a folder", folder.display());
                Error::refused(what, given, why, "check the path")
            }
            _ => failed(error),
        })?;
        path = folder.join(name);
        match fs::read_link(&path) {
            Ok(target) => path = folder.join(target),
            Err(_not_a_link) => return Ok(path),
        }
    }
    Err(Error::refused(
        what,
        given,
        "too many symbolic links",
        "check where they lead",
    ))
}

fn kind_of(kind: fs::FileType) -> &'static str {
    if kind.is_dir() {
        "a folder"
    } else if kind.is_fifo() {
        "a pipe"
    } else if kind.is_socket() {
        "a socket"
    } else {
        "a device"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn every_alias_is_one_path() {
        let folder = tempfile::tempdir().unwrap();
        let real = folder.path().canonicalize().unwrap().join("real.db");
        let link = folder.path().join("link.db");
        let dangling = Location::of(&link, "open").unwrap();
        assert!(!dangling.exists);
        symlink("./real.db", &link).unwrap();
        assert_eq!(
            Location::of(&link, "open").unwrap().path,
            real,
            "a link to nothing yet"
        );
        fs::write(&real, b"").unwrap();
        assert_eq!(Location::of(&link, "open").unwrap().path, real);
        let dotted = folder
            .path()
            .join("../")
            .join(folder.path().file_name().unwrap())
            .join("real.db");
        assert_eq!(Location::of(&dotted, "open").unwrap().path, real);
        symlink("loop.db", folder.path().join("loop.db")).unwrap();
        assert!(
            Location::of(&folder.path().join("loop.db"), "open")
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
        ] {
            let error = Location::of(Path::new(name), "open").unwrap_err();
            assert!(error.is_refused(), "{name}: {error}");
        }
        let long = format!("/tmp/{}", "x".repeat(600));
        let error = Location::of(Path::new(&long), "open").unwrap_err();
        assert!(error.to_string().contains("504"), "{error}");
    }
}
