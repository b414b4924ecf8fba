//! A directory with a database in it, and what tests do with one.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder::{Database, OpenOptions, Result};
use tempfile::TempDir;

use crate::peer::{self, Peer};
use crate::{portable, recorder};

/// A timeout that no working lock comes near, even on a loaded machine.
pub const LONG_TIMEOUT: Duration = Duration::from_secs(10);
/// A call that waits for nothing returns within this time, even on a loaded machine. The
/// waits that it must avoid are longer.
pub const PROMPT: Duration = Duration::from_secs(8);
/// A timeout for calls that must still wait when [`PROMPT`] is long over.
pub const ENDLESS_TIMEOUT: Duration = Duration::from_secs(50);

/// A new directory, removed when dropped, and the path of a database in it.
#[derive(Debug)]
pub struct DatabaseFixture {
    directory: TempDir,
}

impl Default for DatabaseFixture {
    fn default() -> Self {
        Self::new()
    }
}

impl DatabaseFixture {
    /// Creates the directory. The database does not exist yet.
    pub fn new() -> Self {
        recorder::install();
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    /// Returns the path of the directory, with symbolic links resolved.
    pub fn directory(&self) -> PathBuf {
        portable::canonical(self.directory.path())
    }

    /// Returns the path of a file in the directory.
    pub fn join(&self, name: &str) -> PathBuf {
        self.directory().join(name)
    }

    /// Returns the path of the database, `x.db`.
    pub fn path(&self) -> PathBuf {
        self.join("x.db")
    }

    /// Opens the database with a long timeout and creates the table `entry(key)`.
    pub fn database(&self) -> Database {
        let db = open(&self.path());
        db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
            .unwrap();
        db
    }

    /// Returns the names of the files in the directory, sorted.
    pub fn file_names(&self) -> Vec<String> {
        file_names(&self.directory())
    }
}

/// Returns the names of the files in a directory, sorted.
pub fn file_names(directory: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let entries = fs::read_dir(directory).unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// Returns a database's path with a suffix, such as the path of its `-wal` file.
pub fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Returns options with a long timeout.
pub fn options() -> OpenOptions {
    OpenOptions::new().timeout(LONG_TIMEOUT)
}

/// Opens a database with a long timeout.
pub fn open(path: &Path) -> Database {
    options().open(path).unwrap()
}

/// Inserts one key into the table `entry`.
pub fn insert(db: &Database, key: &str) -> Result<()> {
    db.execute("INSERT INTO entry VALUES (?1)", [key]).map(drop)
}

/// Returns the one number that a query returns.
pub fn number(db: &Database, sql: &str) -> i64 {
    db.query_scalar(sql, ()).unwrap()
}

/// Returns how many rows the table `entry` has.
pub fn count_entries(db: &Database) -> i64 {
    number(db, "SELECT count(*) FROM entry")
}

/// Returns all keys of the table `entry`, sorted.
pub fn keys(db: &Database) -> Vec<String> {
    let rows = db.query("SELECT key FROM entry ORDER BY key", ()).unwrap();
    rows.iter().map(|row| row.get("key").unwrap()).collect()
}

/// A role: holds the write lock of a directory, and no transaction, until `release`.
pub fn hold_lock(args: &[OsString]) {
    let locker = penholder::lock::WriteLocker::new(&args[0]).unwrap();
    let guard = locker.acquire(LONG_TIMEOUT).unwrap();
    peer::send("held");
    peer::expect("release");
    guard.release().unwrap();
    peer::send("released");
}

/// A role: inserts the key `held` into the table `entry` of a database, and keeps the
/// transaction open until `release`.
pub fn hold_transaction(args: &[OsString]) {
    let db = open(Path::new(&args[0]));
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('held')", [])?;
        peer::send("held");
        peer::expect("release");
        Ok(())
    });
    done.unwrap();
    peer::send("released");
    peer::expect("end");
}

/// Starts a peer in a role that holds, and waits until it does.
#[track_caller]
pub fn start_holder(role: &str, path: &Path) -> Peer {
    let peer = Peer::start(role, [path]);
    peer.expect("held");
    peer
}
