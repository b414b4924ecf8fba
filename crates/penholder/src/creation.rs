//! Creating a database with its first content, or not at all.
//!
//! A database that is created empty, and then filled, is left behind empty if that fails. It
//! cannot be deleted again: another process may have opened it, or have put its own in its place,
//! and nothing that can be asked of the kernel rules that out for the moment of the deletion. So
//! the database is made where no other process looks for it, and gets its name when it is
//! complete.
//!
//! | step | the write lock | if the process dies here |
//! | --- | --- | --- |
//! | looks whether there is a database | – | nothing has changed |
//! | makes a database in a directory of its own, `.penholder-create-…`, next to the place | held | the directory is left behind, and `doctor` reports it |
//! | runs the closure, checkpoints, closes the database and syncs it | held | the directory is left behind |
//! | gives it its name, unless that is taken | held | all of it is there |

use std::fs::File;
use std::io;
use std::path::Path;

use penholder_core::Deadline;
use penholder_lock::WriteGuard;
use tempfile::{TempDir, TempPath};

use crate::database::Database;
use crate::error::{Error, Result};
use crate::location::{Location, PATH_MAX};
use crate::opening;
use crate::options::OpenOptions;
use crate::sys::Directory;
use crate::{sidecar, sys, while_in_use};

/// The operation, for errors.
const CREATE: &str = "open database";
/// How much of the path of an unnamed database follows that of the directory.
const LONGEST_NAME: usize = 32;

impl OpenOptions {
    /// Creates a database together with the content that a closure writes into it, under the write
    /// lock. Other processes see the whole of it, or nothing: if the closure fails, there is no
    /// database. The lock file stays.
    ///
    /// Returns `None` if there is a database already, and does not run the closure; or if another
    /// program created one without the lock while the closure ran: then what the closure wrote is
    /// discarded, and that database is left as it is. Open it in either case.
    ///
    /// While the closure runs, the database has another path, and a lock of its own. The guard is
    /// that of the lock at its place: note there what others shall see
    /// ([`WriteGuard::note_statement`]). The closure must not keep a clone of the database.
    ///
    /// ```
    /// use penholder::{Error, OpenOptions};
    ///
    /// # fn main() -> penholder::Result<()> {
    /// # let directory = tempfile::tempdir().unwrap();
    /// let path = directory.path().join("x.db");
    /// let failed = OpenOptions::new().create_with(&path, |db, _| db.execute("CREATE TABEL t(a)", ()));
    /// assert!(failed.is_err() && !path.exists());
    /// let done = OpenOptions::new().create_with(&path, |db, _| db.execute("CREATE TABLE t(a)", ()))?;
    /// assert!(done.is_some() && path.exists());
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    ///
    /// As [`open`](Self::open), and the closure's own.
    pub fn create_with<T, E: From<Error>>(
        self,
        path: impl AsRef<Path>,
        fill: impl FnOnce(&Database, &WriteGuard) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        let deadline = Deadline::after(self.timeout);
        let location = Location::of(path.as_ref(), CREATE)?;
        if self.read_only || !self.create || !is_free(&location) {
            return Ok(None);
        }
        opening::refuse_unsafe(&location, &self)?;
        let guard = acquire(&location, &self, &deadline)?;
        // Another process may have created it while we waited.
        if !is_free(&location) {
            return Ok(None);
        }
        let (made, value) = make(&location, self, &deadline, |db| fill(db, &guard))?;
        let is_named = name(made, &location, &deadline)?;
        guard.release().map_err(Error::from)?;
        Ok(is_named.then_some(value))
    }
}

/// Returns whether there is no database, and nothing that SQLite would take for a part of one; and
/// whether the path of one without a name would be short enough.
fn is_free(location: &Location) -> bool {
    let mut files = location.files();
    files.all(|file| file.symlink_metadata().is_err())
        && sys::path_length(location.directory()) + LONGEST_NAME <= PATH_MAX
}

/// Takes the write lock at the place of a database that does not exist. If the lock file has to be
/// created, it becomes as private as the database will be.
fn acquire(location: &Location, options: &OpenOptions, deadline: &Deadline) -> Result<WriteGuard> {
    let locker = opening::public_locker(location, options)?;
    if locker.lock_file().exists() {
        return Ok(locker.acquire_until(deadline)?);
    }
    let directory = Unnamed::next_to(location)?;
    let model = directory.path().join("model");
    sys::create_as_sqlite(&model).map_err(failed(location))?;
    Ok(locker.stand_in(model).acquire_until(deadline)?)
}

/// A directory that is deleted with all that is in it.
struct Unnamed {
    directory: TempDir,
    /// Tells others that it is not left behind.
    _open: Directory,
}

impl Unnamed {
    fn next_to(location: &Location) -> Result<Self> {
        let directory = tempfile::Builder::new()
            .prefix(sidecar::UNFINISHED_DATABASE)
            .tempdir_in(location.directory())
            .map_err(|error| failed(location)(without_path(&error)))?;
        let _open = Directory::open(directory.path()).map_err(failed(location))?;
        Ok(Self { directory, _open })
    }

    fn path(&self) -> &Path {
        self.directory.path()
    }
}

/// A database that has no name yet.
struct Made {
    file: TempPath,
    /// The directory that only it is in, which goes last.
    _directory: Unnamed,
}

fn failed(location: &Location) -> impl Fn(io::Error) -> Error {
    let path = location.path.clone();
    move |error| {
        let next = "make sure that its directory is writable and has room";
        Error::io(CREATE, &path, error, next)
    }
}

/// The error of the system in one that names the directory, which is of no use to the user.
fn without_path(error: &io::Error) -> io::Error {
    let text = error.to_string();
    let why = text.split(" at path \"").next().unwrap_or_default();
    io::Error::new(error.kind(), why)
}

/// Makes a database with what the closure writes, complete in one file.
fn make<T, E: From<Error>>(
    location: &Location,
    mut options: OpenOptions,
    deadline: &Deadline,
    fill: impl FnOnce(&Database) -> Result<T, E>,
) -> Result<(Made, T), E> {
    let directory = Unnamed::next_to(location)?;
    let path = directory.path().join("db");
    options.lock_file = None;
    // No other process waits for its lock.
    options.queue = false;
    let named = |error: Error| error.about(&path, &location.path);
    let db = options.open(&path).map_err(named)?;
    let value = fill(&db)?;
    db.checkpoint().map_err(named)?;
    // The last connection moves the rest of the WAL into the file, and deletes it.
    drop(db);
    if sidecar::wal(&path).exists() {
        let why = "the closure kept a clone of the database";
        return Err(Error::misuse(CREATE, why, "drop it before the closure returns").into());
    }
    let synced = while_in_use::retry(deadline, || {
        File::options().write(true).open(&path)?.sync_all()
    });
    synced.map_err(failed(location))?;
    let made = Made {
        file: TempPath::try_from_path(path).map_err(failed(location))?,
        _directory: directory,
    };
    Ok((made, value))
}

/// Gives a database its name. Returns `false` if that is taken.
fn name(made: Made, location: &Location, deadline: &Deadline) -> Result<bool> {
    let named = while_in_use::retry_with(made.file, deadline, |file| {
        let named = file.persist_noclobber(&location.path);
        named.map_err(|failed| (failed.error, failed.path))
    });
    match named {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(failed(location)(error)),
        Ok(()) => {
            sys::sync_directory(location.directory()).map_err(failed(location))?;
            Ok(true)
        }
    }
}
