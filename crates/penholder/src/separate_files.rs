//! Whether processes use the database with another WAL and another lock than those next to it
//! here: two of each for one file, which loses writes and corrupts it.
//!
//! A reader is no better off than a writer: it reads from a WAL in which nothing of the other
//! side is, and the other side's checkpoints change the file under it.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder_core::{OpenerElsewhere, is_file_mount, remedy, shown_path};

use crate::error::{Error, Result};
use crate::location::Location;
use crate::options::OpenOptions;
use crate::sidecar::{SHM, WAL};
use crate::sys;

/// How long a search through all processes may take.
const SEARCH_MAX: Duration = Duration::from_secs(3);

/// What to do about a file that is mounted by itself.
pub(crate) const MOUNT_DIRECTORY: &str = "mount its directory instead";
/// What to do about a process that uses another name.
pub(crate) const USE_ONE_NAME: &str =
    "end that process, and use one name in one directory for all (a symbolic link is harmless)";

/// What to do about a file that has several names.
pub(crate) fn keep_one_name() -> String {
    let list = remedy::LIST_NAMES;
    format!("keep one name (`{list}`, with its path, shows all); a symbolic link is harmless")
}

/// Refuses a database that others use with another WAL, as far as that is certain.
pub(crate) fn refuse(location: &Location, options: &OpenOptions, what: &'static str) -> Result<()> {
    let refused = |why, next| Err(Error::refused(what, &location.path, why, next));
    let mounted = match options.allow_file_mount {
        true => None,
        false => mounted(location).map_err(|e| {
            let next = "check the permissions of its directory";
            Error::io(what, &location.path, e, next)
        })?,
    };
    if let Some(file) = mounted {
        let file = match file == location.path {
            true => "it".to_owned(),
            false => shown_path(&file).to_string(),
        };
        let why = format!(
            "{file} is mounted as a single file, so processes that open the database in its own \
             directory have another WAL and another lock, and writes get lost"
        );
        let next = format!(
            "{MOUNT_DIRECTORY}, or allow it if no other process opens the database \
             (`allow_file_mount`, on the command line `--allow-file-mount`)"
        );
        return refused(why, next);
    }
    if location.links <= 1 {
        return Ok(());
    }
    if !sys::SHOWS_OPENERS {
        let why = format!(
            "the file has {} names (hard links), and this system does not tell whether a process \
             has it open by another one, with a WAL of its own",
            location.links
        );
        return refused(why, keep_one_name());
    }
    match in_use(location) {
        Some(opener) => refused(describe(&opener), USE_ONE_NAME.to_owned()),
        None => Ok(()),
    }
}

/// Returns the file of the database that is mounted by itself, if there is one.
pub(crate) fn mounted(location: &Location) -> io::Result<Option<PathBuf>> {
    for file in location.files() {
        if is_mounted(&file)? {
            return Ok(Some(file));
        }
    }
    Ok(None)
}

/// Returns whether a file, if it exists, is mounted by itself over another.
pub(crate) fn is_mounted(file: &Path) -> io::Result<bool> {
    match is_file_mount(file) {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(false),
        answer => answer,
    }
}

/// Finds a process that has the database open with another WAL.
pub(crate) fn in_use(location: &Location) -> Option<OpenerElsewhere> {
    let found = OpenerElsewhere::of(&location.path, &[WAL, SHM], SEARCH_MAX);
    found.into_iter().next()
}

/// Says which process uses it, and how.
pub(crate) fn describe(opener: &OpenerElsewhere) -> String {
    let OpenerElsewhere { process, path, .. } = opener;
    // Quoted, because any process may choose the name.
    format!("{process} has the same file open as {path:?}, with a WAL of its own")
}
