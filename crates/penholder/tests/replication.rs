//! A handle with `checkpoints(false)` never checkpoints by itself, so that a program which
//! replicates the WAL, as Litestream does, misses nothing.
#![cfg(test)]

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use penholder::{Database, GroupCommit, OpenOptions, Query, Result, Synchronous};
use penholder_core::{commit_stats, failpoint};
use penholder_testkit::database_fixture::{self, DatabaseFixture, with_suffix};
use penholder_testkit::numbered_writes::{self, Kind};
use penholder_testkit::peer::{self, Peer};
use penholder_testkit::{plain_sqlite, raw_file, wait};
use rusqlite::Connection;

/// Rows of several pages: all of them together take the WAL far past every bound.
const ROW: &str = "INSERT INTO entry VALUES (zeroblob(40000))";
const ROWS: usize = 120;
const PAGE: usize = 4096;

#[test]
fn peer() {
    peer::run_role(&[
        numbered_writes::ROLE,
        ("write", write),
        ("replicate", replicate),
    ]);
}

fn start(role: &str, args: &[&str], path: &Path) -> Peer {
    let path = path.to_str().unwrap();
    let mut command = Peer::command(role, [&[path], args].concat());
    command.env(failpoint::ALL_QUICK, "1");
    command.env(commit_stats::ALL_EXPENSIVE, "1");
    Peer::spawn(command)
}

// ---- nothing is checkpointed -----------------------------------------------------------

fn options(way: &str) -> OpenOptions {
    let options = database_fixture::options().checkpoints(false);
    match way {
        "no lease" => options.lease(false),
        "alone" => options.group_commit(GroupCommit::Off),
        "durable" => options.synchronous(Synchronous::Full),
        _ => options,
    }
}

/// Writes much in one way, reads, and closes.
fn write(args: &[OsString]) {
    let [path, way] = peer::text_args(args)[..] else {
        panic!("path and way");
    };
    let path = Path::new(path);
    let mut options = options(way);
    if way == "attached" {
        let main = path.to_owned();
        options = options.connection_hook(move |connection, _| {
            let name = main.to_str().unwrap();
            connection.execute("ATTACH ?1 AS other", [name]).map(drop)
        });
    }
    let own = path.with_file_name("own.db");
    let db = options
        .open(if way == "attached" { &own } else { path })
        .unwrap();
    match way {
        "threads" => thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| write_rows(&db, ROWS / 4));
            }
        }),
        "batch" => {
            let row = |_| Query::new(ROW, ());
            drop(db.batch((0..ROWS).map(row)).unwrap());
        }
        "attached" => {
            let row = ROW.replace("entry", "other.entry");
            for _ in 0..ROWS {
                db.execute(&row, ()).unwrap();
            }
        }
        "under the lock" => db
            .with_write_lock(|connection| -> Result<()> {
                for _ in 0..ROWS {
                    connection.execute(ROW, [])?;
                }
                Ok(())
            })
            .unwrap(),
        "tasks" => write_by_tasks(db.clone()),
        "maintenance" => {
            write_rows(&db, ROWS);
            db.vacuum().unwrap();
            let backup = path.with_file_name("backup.db");
            db.backup_to(&backup).unwrap();
            db.restore_from(&backup).unwrap();
        }
        _ => write_rows(&db, ROWS),
    }
    database_fixture::count_entries(&db);
    drop(db);
    // So does one that only reads.
    let reader = database_fixture::options()
        .checkpoints(false)
        .read_only(true);
    database_fixture::number(&reader.open(path).unwrap(), "SELECT count(*) FROM entry");
    peer::send("done");
}

fn write_rows(db: &Database, count: usize) {
    for _ in 0..count {
        db.execute(ROW, ()).unwrap();
    }
}

fn write_by_tasks(db: Database) {
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let db = penholder::AsyncDatabase::from(db);
    runtime.block_on(async {
        for _ in 0..ROWS {
            db.execute(ROW, ()).await.unwrap();
        }
    });
}

const WAYS: [&str; 10] = [
    "plain",
    "no lease",
    "alone",
    "durable",
    "threads",
    "batch",
    "attached",
    "under the lock",
    "tasks",
    "maintenance",
];

#[test]
fn a_handle_without_checkpoints_leaves_the_database_as_it_is() {
    let fixture = DatabaseFixture::new();
    drop(fixture.database());
    // No connection of this process is open, so the files may be read by their paths.
    let before = fs::read(fixture.path()).unwrap();
    let wal = with_suffix(&fixture.path(), "-wal");
    let mut frames = 0;
    for way in WAYS {
        let mut peer = start("write", &[way], &fixture.path());
        peer.expect("done");
        assert!(peer.close().success());
        assert!(fs::read(fixture.path()).unwrap() == before, "{way}");
        let now = frames_of(&wal);
        assert!(now >= frames + ROWS * 9, "{way}: {frames} and {now} frames");
        frames = now;
    }
    // Several at once, so that they combine their writes.
    let several: Vec<Peer> = ["durable", "threads", "durable", "plain"]
        .map(|way| start("write", &[way], &fixture.path()))
        .into();
    for mut peer in several {
        peer.expect("done");
        assert!(peer.close().success());
    }
    assert!(fs::read(fixture.path()).unwrap() == before, "several");
    let db = database_fixture::options().checkpoints(false);
    let db = db.open(fixture.path()).unwrap();
    let rows = i64::try_from((WAYS.len() + 4) * ROWS).unwrap();
    assert_eq!(database_fixture::count_entries(&db), rows);
    // Who asks for one gets it.
    db.checkpoint().unwrap();
    drop(db);
    assert!(fs::read(fixture.path()).unwrap() != before);
    plain_sqlite::assert_integrity(&fixture.path());
}

fn frames_of(wal: &Path) -> usize {
    let length = usize::try_from(fs::metadata(wal).unwrap().len()).unwrap();
    length.saturating_sub(32) / (24 + PAGE)
}

// ---- a program that replicates the WAL -------------------------------------------------

/// What was copied of a database: its pages as of the last transaction copied.
struct Replica {
    wal: PathBuf,
    pages: BTreeMap<u32, Vec<u8>>,
    /// How many pages the database has.
    size: u32,
    /// The WAL that is copied now, the number of frames copied, and the checksum after them.
    salts: [u32; 2],
    copied: usize,
    checksum: [u32; 2],
    restarts: u32,
}

impl Replica {
    /// Begins with a database whose WAL is empty.
    fn of(path: &Path) -> Self {
        let bytes = fs::read(path).unwrap();
        let pages = (1..).zip(bytes.chunks(PAGE).map(<[u8]>::to_vec)).collect();
        Self {
            wal: with_suffix(path, "-wal"),
            pages,
            size: u32::try_from(bytes.len() / PAGE).unwrap(),
            salts: [0; 2],
            copied: 0,
            checksum: [0; 2],
            restarts: 0,
        }
    }

    /// Copies the transactions that are new in the WAL, up to about this number of frames: a debug
    /// build is slower than those who write meanwhile. No lock of SQLite is on that file.
    fn copy(&mut self, most: usize) {
        let Ok(file) = File::open(&self.wal) else {
            return;
        };
        let mut header = [0; 32];
        if raw_file::read_at(&file, &mut header, 0).is_err() {
            return;
        }
        let salts = [word(&header, 4), word(&header, 5)];
        if salts != self.salts {
            let checksum = checksum([0; 2], &header[..24]);
            if checksum != [word(&header, 6), word(&header, 7)] {
                // It is being written.
                return;
            }
            (self.salts, self.checksum, self.copied) = (salts, checksum, 0);
            self.restarts += 1;
        }
        let mut new = Vec::new();
        let (mut at, mut sum) = (self.copied, self.checksum);
        loop {
            let mut frame = vec![0; 24 + PAGE];
            let offset = 32 + at as u64 * frame.len() as u64;
            let is_whole = raw_file::read_at(&file, &mut frame, offset).is_ok();
            if !is_whole || [word(&frame, 2), word(&frame, 3)] != self.salts {
                return;
            }
            sum = checksum(checksum(sum, &frame[..8]), &frame[24..]);
            if sum != [word(&frame, 4), word(&frame, 5)] {
                return;
            }
            at += 1;
            let (page, size) = (word(&frame, 0), word(&frame, 1));
            new.push((page, frame.split_off(24)));
            if size != 0 {
                self.pages.extend(new.drain(..));
                (self.copied, self.checksum, self.size) = (at, sum, size);
                if at >= most {
                    return;
                }
            }
        }
    }

    fn bytes(&self) -> Vec<u8> {
        let pages = (1..=self.size).map(|page| &self.pages[&page][..]);
        pages.collect::<Vec<_>>().concat()
    }
}

/// Returns a number of a header, as it is stored in a file.
fn word(bytes: &[u8], index: usize) -> u32 {
    u32::from_be_bytes(bytes[4 * index..4 * index + 4].try_into().unwrap())
}

/// The checksum of a WAL, continued over these bytes. On this machine its words are little-endian
/// or big-endian as the machine's are.
fn checksum([mut one, mut two]: [u32; 2], bytes: &[u8]) -> [u32; 2] {
    let number = |bytes: &[u8]| u32::from_ne_bytes(bytes.try_into().unwrap());
    for pair in bytes.chunks(8) {
        one = one.wrapping_add(number(&pair[..4])).wrapping_add(two);
        two = two.wrapping_add(number(&pair[4..])).wrapping_add(one);
    }
    [one, two]
}

/// Copies the WAL again and again, and checkpoints it itself when all of it is copied.
///
/// A read transaction keeps others from starting the WAL from its beginning. Around its own
/// checkpoint, SQLite's write lock does.
fn replicate(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let mut replica = Replica::of(path);
    let (reading, writing) = (plain_sqlite::open(path), plain_sqlite::open(path));
    for connection in [&reading, &writing] {
        connection.busy_timeout(wait::LIMIT).unwrap();
        connection
            .pragma_update(None, "wal_autocheckpoint", 0)
            .unwrap();
    }
    begin_read(&reading);
    peer::send("ready");
    let over = path.with_file_name("copied");
    let mut told = 0;
    while !over.exists() {
        thread::sleep(Duration::from_millis(10));
        replica.copy(500);
        if replica.restarts > told {
            told = replica.restarts;
            peer::send("restarted");
        }
        if replica.copied < 500 {
            continue;
        }
        writing.execute_batch("BEGIN IMMEDIATE").unwrap();
        replica.copy(usize::MAX);
        reading.execute_batch("COMMIT").unwrap();
        let mode = "PRAGMA wal_checkpoint(PASSIVE)";
        reading.query_row(mode, [], |_| Ok(())).unwrap();
        begin_read(&reading);
        writing.execute_batch("ROLLBACK").unwrap();
    }
    // No one writes any more.
    replica.copy(usize::MAX);
    fs::write(path.with_file_name("replica.db"), replica.bytes()).unwrap();
    peer::send("copied");
}

fn begin_read(connection: &Connection) {
    connection
        .execute_batch("BEGIN; SELECT count(*) FROM sqlite_schema")
        .unwrap();
}

#[test]
fn a_program_that_replicates_the_wal_misses_nothing() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    numbered_writes::create_tables(&db);
    drop(db);
    assert!(!with_suffix(&fixture.path(), "-wal").exists());
    let mut replicator = start("replicate", &[], &fixture.path());
    replicator.expect("ready");
    let writers: Vec<Peer> = (1..5)
        .map(|number| {
            let kind = Kind::Replicated;
            let mut command = numbered_writes::command(kind, &fixture.path(), 10 * number);
            command.env(failpoint::ALL_QUICK, "1");
            Peer::spawn(command)
        })
        .collect();
    for _ in 0..4 {
        replicator.expect("restarted");
    }
    numbered_writes::finish(&fixture.path());
    for mut writer in writers {
        writer.expect("done");
        assert!(writer.wait().success());
    }
    fs::write(fixture.join("copied"), "").unwrap();
    while replicator.read_line() != "copied" {}
    assert!(replicator.wait().success());
    let writes = numbered_writes::check(&fixture.path());
    let connection = plain_sqlite::open(&fixture.path());
    let all = "PRAGMA wal_checkpoint(TRUNCATE)";
    connection.query_row(all, [], |_| Ok(())).unwrap();
    drop(connection);
    let replica = fs::read(fixture.join("replica.db")).unwrap();
    assert!(
        replica == fs::read(fixture.path()).unwrap(),
        "the replica differs"
    );
    let total = "SELECT writes FROM total";
    assert_eq!(
        plain_sqlite::number(&fixture.join("replica.db"), total),
        writes
    );
}
