//! A folder with a database in it, and what the tests of this crate ask of one.
#![allow(
    dead_code,
    unreachable_pub,
    reason = "each test file uses a part of it"
)]

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, Instant};

use penholder::{Database, Options, Result};
use rusqlite::{Connection, OpenFlags};
use tempfile::TempDir;

use crate::peer::{self, Peer};

/// A timeout that no working lock comes near, even on a loaded machine.
pub const PATIENT: Duration = Duration::from_secs(10);
/// What returns without waiting for anybody returns within this time, even on a
/// loaded machine; the waits that it must not do are longer.
pub const PROMPT: Duration = Duration::from_secs(8);
/// A timeout for calls that are meant to wait until [`PROMPT`] is long over.
pub const ENDLESS: Duration = Duration::from_secs(50);

/// A new folder, removed at the end, and the path of a database in it.
pub struct Site {
    folder: TempDir,
}

impl Site {
    pub fn new() -> Self {
        Self {
            folder: tempfile::tempdir().unwrap(),
        }
    }

    /// The folder, without links.
    pub fn folder(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap()
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder().join(name)
    }

    pub fn path(&self) -> PathBuf {
        self.at("x.db")
    }

    /// The database, patient, with an empty table `entry(key)`.
    pub fn database(&self) -> Database {
        let db = open(&self.path());
        db.execute("CREATE TABLE IF NOT EXISTS entry(key)", ())
            .unwrap();
        db
    }

    /// The names of the files in the folder, sorted.
    pub fn files(&self) -> Vec<String> {
        files(&self.folder())
    }
}

/// The names of the files in a folder, sorted.
pub fn files(folder: &Path) -> Vec<String> {
    let name = |entry: fs::DirEntry| entry.file_name().to_string_lossy().into_owned();
    let entries = fs::read_dir(folder).unwrap();
    let mut names: Vec<String> = entries.map(|entry| name(entry.unwrap())).collect();
    names.sort();
    names
}

/// The path of a file that stands beside a database.
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Options of a program that waits as long as it takes.
pub fn patient() -> Options {
    Options::new().timeout(PATIENT)
}

/// Opens a database patiently.
pub fn open(path: &Path) -> Database {
    patient().open(path).unwrap()
}

/// Writes one key into the table `entry`.
pub fn insert(db: &Database, key: &str) -> Result<()> {
    db.execute("INSERT INTO entry VALUES (?1)", [key]).map(drop)
}

/// The one number that a query returns.
pub fn number(db: &Database, sql: &str) -> i64 {
    let rows = db.query(sql, ()).unwrap();
    let column = rows.columns()[0].clone();
    rows.get(0, &column).unwrap()
}

/// How many rows the table `entry` has.
pub fn entries(db: &Database) -> i64 {
    number(db, "SELECT count(*) FROM entry")
}

/// All keys of the table `entry`, sorted.
pub fn keys(db: &Database) -> Vec<String> {
    let rows = db.query("SELECT key FROM entry ORDER BY key", ()).unwrap();
    (0..rows.len())
        .map(|row| rows.get(row, "key").unwrap())
        .collect()
}

/// Asserts that SQLite finds nothing wrong with a database.
pub fn assert_whole(path: &Path) {
    let connection = stranger(path);
    let verdict: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
}

/// Plain SQLite, which knows of no lock file. Not for a database that this
/// process has open with a lock that matters to the test.
pub fn stranger(path: &Path) -> Connection {
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE;
    let connection = Connection::open_with_flags(path, flags).unwrap();
    connection.busy_timeout(PATIENT).unwrap();
    connection
}

/// The `sqlite3` shell on a database, if it is installed; says aloud if not.
pub fn shell(path: &Path) -> Option<Peer> {
    peer::has("sqlite3").then(|| {
        let mut command = Command::new("sqlite3");
        command.arg("-batch").arg(path);
        // What it complains of is a line to read, too.
        let mut shell = Command::new("sh");
        shell.args(["-c", "exec \"$0\" \"$@\" 2>&1"]);
        shell.arg(command.get_program()).args(command.get_args());
        Peer::spawn(shell)
    })
}

/// The `sqlite3` shell in a write transaction, without the write lock.
pub fn outsider(path: &Path) -> Option<Peer> {
    let mut outsider = shell(path)?;
    outsider.tell("BEGIN IMMEDIATE; SELECT 'writes';");
    outsider.expect("writes");
    Some(outsider)
}

/// The arguments of a role as text.
pub fn texts(args: &[OsString]) -> Vec<&str> {
    args.iter().map(|arg| arg.to_str().unwrap()).collect()
}

/// How long something took.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let done = work();
    (done, start.elapsed())
}

/// Whether this process may do anything; says aloud if not.
pub fn is_root() -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        crate::peer::skip("root");
    }
    root
}

/// Role: takes only the write lock of the folder, and holds it until told.
pub fn hold_pen(args: &[OsString]) {
    let locker = penholder::lock::WriteLocker::new(&args[0]).unwrap();
    let guard = locker.acquire(PATIENT).unwrap();
    peer::say("held");
    peer::hear("release");
    guard.release().unwrap();
    peer::say("released");
}

/// Role: writes the key `held` into the table `entry` and holds the transaction
/// open until told.
pub fn hold(args: &[OsString]) {
    let db = open(Path::new(&args[0]));
    let done = db.write(|tx| -> Result<()> {
        tx.execute("INSERT INTO entry VALUES ('held')", [])?;
        peer::say("held");
        peer::hear("release");
        Ok(())
    });
    done.unwrap();
    peer::say("released");
    peer::hear("end");
}

/// A peer that holds: started, and known to hold.
pub fn holder(role: &str, path: &Path) -> Peer {
    let peer = Peer::start(role, [path]);
    peer.expect("held");
    peer
}

/// A small file system in memory, unmounted at the end.
pub struct Tmpfs {
    folder: TempDir,
}

impl Tmpfs {
    /// Mounts one, if that is allowed here; says aloud if not.
    pub fn mount(size: &str) -> Option<Self> {
        if !is_root() {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        if mount.arg(folder.path()).status().unwrap().success() {
            return Some(Self { folder });
        }
        crate::peer::skip("to mount a tmpfs, which is not allowed here");
        None
    }

    pub fn at(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Fills it with a file, up to the last byte.
    pub fn fill(&self, name: &str) {
        use std::io::Write;
        let mut file = fs::File::create(self.at(name)).unwrap();
        let block = [1; 512];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazily: whoever still has a file open there lets go soon.
        let mut umount = Command::new("umount");
        let _ = umount.arg("-l").arg(self.folder.path()).status();
    }
}
