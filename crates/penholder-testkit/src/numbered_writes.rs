//! Writers that number their writes, and the check that nothing acknowledged is lost or doubled.
//!
//! Each writer notes in a file of its own how many of its writes were acknowledged. That takes a
//! microsecond, so it may write the next row at once, and the file survives `kill -9`.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::Duration;

use penholder::{Database, OpenOptions, Query, Synchronous};
use rusqlite::{Connection, ErrorCode};

use crate::peer::{self, Peer};
use crate::{plain_sqlite, raw_file, requirement};

/// The tables. `total` counts the rows of `numbered`, in the same transaction.
const TABLES: [&str; 4] = [
    "CREATE TABLE numbered(writer INTEGER, number INTEGER)",
    "CREATE TABLE total(writes INTEGER)",
    "INSERT INTO total VALUES (0)",
    "CREATE TRIGGER counted AFTER INSERT ON numbered BEGIN UPDATE total SET writes = writes + 1; END",
];
const INSERT: &str = "INSERT INTO numbered VALUES (?1, ?2)";
/// Part of the error of a write whose result is lost.
const WRITTEN: &str = "it was written by another process";
/// No writer waits so long, even on a loaded machine.
const TIMEOUT: Duration = Duration::from_secs(50);
/// The role that the peers of this module play.
pub const ROLE: peer::Role = ("numbered_writes", play);

/// What a peer does until the file `over` is there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    /// Writes with a `Database`, each row as soon as the last one is acknowledged.
    Writer,
    /// The same from three threads.
    Threads,
    /// The same with durable commits.
    Durable,
    /// The same without a queue file: it polls.
    Polling,
    /// As `Threads`, and leaves all checkpoints to another program.
    Replicated,
    /// Writes with SQLite alone, and checkpoints as SQLite does.
    Plain,
    /// Writes with the `sqlite3` module of Python.
    Python,
    /// Reads with SQLite alone, and compares what belongs together.
    Reader,
    /// Checkpoints with SQLite alone, in all modes.
    Checkpointer,
}

impl Kind {
    const ALL: [Self; 9] = [
        Self::Writer,
        Self::Threads,
        Self::Durable,
        Self::Polling,
        Self::Replicated,
        Self::Plain,
        Self::Python,
        Self::Reader,
        Self::Checkpointer,
    ];

    fn name(self) -> String {
        format!("{self:?}")
    }

    fn named(name: &str) -> Self {
        let found = Self::ALL.into_iter().find(|kind| kind.name() == name);
        found.expect("the name of a kind")
    }
}

/// Creates the tables, with the file in WAL mode.
pub fn create_tables(db: &Database) {
    for sql in TABLES {
        db.execute(sql, ()).unwrap();
    }
}

/// Returns how many rows there are, in a snapshot.
pub fn count(db: &Database) -> i64 {
    db.query_scalar("SELECT writes FROM total", ()).unwrap()
}

/// Returns the command of a peer of this kind; `number` differs from that of all others.
pub fn command(kind: Kind, path: &Path, number: i64) -> Command {
    if kind == Kind::Python {
        let mut python = Command::new("python3");
        python
            .args(["-c", PYTHON])
            .arg(path)
            .arg(number.to_string());
        python.args([acknowledged_file(path, number), over_file(path)]);
        return python;
    }
    let number = number.to_string();
    Peer::command(
        ROLE.0,
        [path.as_os_str(), kind.name().as_ref(), number.as_ref()],
    )
}

/// Returns whether peers of this kind can be started here.
pub fn is_possible(kind: Kind) -> bool {
    kind != Kind::Python || requirement::has_program("python3")
}

/// Lets all peers end by themselves.
pub fn finish(path: &Path) {
    fs::write(over_file(path), "").unwrap();
}

fn over_file(path: &Path) -> PathBuf {
    path.with_file_name("over")
}

fn acknowledged_file(path: &Path, writer: i64) -> PathBuf {
    path.with_file_name(format!("acknowledged-{writer}"))
}

/// The older SQLite of a Python may damage a WAL that it checkpoints while others write.
const PYTHON: &str = "
import os, sqlite3, struct, sys, time
path, writer, acknowledged, over = sys.argv[1:]
connection = sqlite3.connect(path, timeout=50, isolation_level=None)
connection.execute('PRAGMA wal_autocheckpoint=0')
file, number = os.open(acknowledged, os.O_WRONLY | os.O_CREAT, 0o644), 0
while not os.path.exists(over):
    connection.execute('INSERT INTO numbered VALUES (?, ?)', (int(writer), number))
    number += 1
    os.pwrite(file, struct.pack('<q', number), 0)
    time.sleep(0.002)
print('done', flush=True)
os._exit(0)
";

// ---- the peers ---------------------------------------------------------------------

/// How many writes of one writer were acknowledged.
#[derive(Debug)]
pub struct Acknowledged {
    file: File,
    writer: i64,
    count: i64,
}

impl Acknowledged {
    /// Creates the file of a writer.
    pub fn create(path: &Path, writer: i64) -> Self {
        Self {
            file: File::create(acknowledged_file(path, writer)).unwrap(),
            writer,
            count: 0,
        }
    }

    /// Returns the parameters of the next row.
    pub fn next(&self) -> (i64, i64) {
        (self.writer, self.count)
    }

    /// Notes that the next row was acknowledged.
    pub fn note(&mut self) {
        self.count += 1;
        raw_file::write_at(&self.file, &self.count.to_le_bytes(), 0).unwrap();
    }

    /// Writes the next row, in one way or another. A write that another process executed counts
    /// also if only its result is lost.
    pub fn write(&mut self, db: &Database) -> penholder::Result<()> {
        match self.try_write(db) {
            Err(error) if !error.to_string().contains(WRITTEN) => return Err(error),
            _ => self.note(),
        }
        Ok(())
    }

    fn try_write(&self, db: &Database) -> penholder::Result<()> {
        match self.count % 16 {
            7 => db.batch([Query::new(INSERT, self.next())]).map(drop),
            13 => db
                .write(|tx| Ok(tx.execute(INSERT, self.next())?))
                .map(drop),
            _ => db.execute(INSERT, self.next()).map(drop),
        }
    }
}

fn play(args: &[OsString]) {
    let path = Path::new(&args[0]).to_owned();
    let [kind, number] = peer::text_args(&args[1..])[..] else {
        panic!("arguments: {args:?}");
    };
    let number: i64 = number.parse().unwrap();
    // The end of the pipe ends the process.
    thread::spawn(|| peer::expect("never sent"));
    let over = over_file(&path);
    let is_over = move || over.exists();
    match Kind::named(kind) {
        Kind::Writer => write(&path, options(), number, 1, is_over),
        Kind::Threads => write(&path, options(), number, 3, is_over),
        Kind::Durable => {
            let options = options().synchronous(Synchronous::Full);
            write(&path, options, number, 1, is_over);
        }
        Kind::Polling => write(&path, options().queue(false), number, 1, is_over),
        Kind::Replicated => write(&path, options().checkpoints(false), number, 3, is_over),
        Kind::Plain => write_plainly(&path, number, is_over),
        Kind::Reader => read(&path, is_over),
        Kind::Checkpointer => checkpoint(&path, is_over),
        Kind::Python => panic!("it is no role"),
    }
    peer::send("done");
}

fn options() -> OpenOptions {
    OpenOptions::new().timeout(TIMEOUT)
}

/// Writes from several threads, the writers of which have the numbers from this one on.
fn write(
    path: &Path,
    options: OpenOptions,
    number: i64,
    threads: i64,
    is_over: impl Fn() -> bool + Sync,
) {
    let db = options.open(path).unwrap();
    thread::scope(|scope| {
        for thread in 0..threads {
            let (db, is_over) = (&db, &is_over);
            scope.spawn(move || {
                let mut acknowledged = Acknowledged::create(path, number + thread);
                loop {
                    acknowledged.write(db).unwrap();
                    // Looking takes long enough to end a lease.
                    if acknowledged.count % 64 == 0 && is_over() {
                        break;
                    }
                }
            });
        }
    });
}

fn write_plainly(path: &Path, writer: i64, is_over: impl Fn() -> bool) {
    let connection = open_plainly(path);
    let mut acknowledged = Acknowledged::create(path, writer);
    while !is_over() {
        connection.execute(INSERT, acknowledged.next()).unwrap();
        acknowledged.note();
        thread::sleep(Duration::from_millis(2));
    }
}

fn read(path: &Path, is_over: impl Fn() -> bool) {
    let connection = open_plainly(path);
    let both = "SELECT (SELECT count(*) FROM numbered), (SELECT writes FROM total)";
    let each = "SELECT count(*), max(number) + 1 FROM numbered GROUP BY writer";
    while !is_over() {
        for sql in [both, each] {
            let mut ask = connection.prepare_cached(sql).unwrap();
            let mut rows = ask.query([]).unwrap();
            while let Some(row) = rows.next().unwrap() {
                let (one, other): (i64, i64) = (row.get(0).unwrap(), row.get(1).unwrap());
                assert_eq!(one, other, "{sql}");
            }
        }
        thread::sleep(Duration::from_millis(20));
    }
}

fn checkpoint(path: &Path, is_over: impl Fn() -> bool) {
    let connection = open_plainly(path);
    connection.busy_timeout(Duration::from_millis(20)).unwrap();
    while !is_over() {
        for mode in ["PASSIVE", "FULL", "RESTART", "TRUNCATE"] {
            let sql = format!("PRAGMA wal_checkpoint({mode})");
            let done = connection.query_row(&sql, [], |_| Ok(()));
            if let Err(error) = done {
                let code = error.sqlite_error_code();
                assert_eq!(code, Some(ErrorCode::DatabaseBusy), "{error}");
            }
            thread::sleep(Duration::from_millis(15));
        }
        // Long enough for the WAL to grow until others checkpoint it.
        thread::sleep(Duration::from_millis(700));
    }
}

fn open_plainly(path: &Path) -> Connection {
    let connection = plain_sqlite::open(path);
    connection.busy_timeout(TIMEOUT).unwrap();
    connection
}

// ---- the check ---------------------------------------------------------------------

/// Asserts that the database is intact, and that each acknowledged write is there once, with at
/// most one more of each writer. Returns how many writes are there.
#[track_caller]
pub fn check(path: &Path) -> i64 {
    plain_sqlite::assert_integrity(path);
    let connection = plain_sqlite::open(path);
    let sql = "SELECT writer, count(*), count(DISTINCT number), max(number) + 1 FROM numbered GROUP BY writer";
    let mut ask = connection.prepare(sql).unwrap();
    let mut rows = ask.query([]).unwrap();
    let (mut there, mut sum) = (BTreeMap::new(), 0);
    while let Some(row) = rows.next().unwrap() {
        let number = |column| row.get::<_, i64>(column).unwrap();
        let (writer, count) = (number(0), number(1));
        assert_eq!(
            (number(2), number(3)),
            (count, count),
            "twice or missing: {writer}"
        );
        there.insert(writer, count);
        sum += count;
    }
    for (writer, acknowledged) in acknowledged(path) {
        let count = there.get(&writer).copied().unwrap_or(0);
        assert!(
            count >= acknowledged,
            "lost of {writer}: {acknowledged}, {count} are there"
        );
        assert!(
            count <= acknowledged + 1,
            "of {writer}: {acknowledged}, {count} are there"
        );
    }
    let total = plain_sqlite::number(path, "SELECT writes FROM total");
    assert_eq!(total, sum, "what was counted in the same transactions");
    sum
}

fn acknowledged(path: &Path) -> BTreeMap<i64, i64> {
    let mut all = BTreeMap::new();
    for entry in fs::read_dir(path.parent().unwrap()).unwrap().flatten() {
        let name = entry.file_name().into_string().unwrap();
        if let Some(writer) = name.strip_prefix("acknowledged-") {
            let bytes = fs::read(entry.path()).unwrap();
            // Empty: none yet.
            let count = bytes.try_into().map_or(0, i64::from_le_bytes);
            all.insert(writer.parse().unwrap(), count);
        }
    }
    all
}
