//! After `kill -9` at any moment, every acknowledged write is in the database exactly
//! once, no write is there partly, and the next writer goes on at once.
//!
//! `PENHOLDER_KILLS` sets how many processes are killed.
#![cfg(test)]

use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder::lock::WriteLocker;
use penholder::{Database, Query, Result};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

/// Processes that write at the same time.
const WRITERS: usize = 5;
/// How many rows one write has. Either all of them are in the database or none.
const ROWS: i64 = 3;

#[test]
fn peer() {
    peer::run_role(&[
        ("write_endlessly", write_endlessly),
        ("hold_transaction", database_fixture::hold_transaction),
    ]);
}

/// Writes each key in several rows until it is killed, and sends each acknowledged key.
fn write_endlessly(args: &[OsString]) {
    let [path, name] = peer::text_args(args)[..] else {
        panic!("path and name");
    };
    let db = database_fixture::open(Path::new(path));
    for number in 0.. {
        let key = format!("{name}-{number}");
        match number % 8 {
            0..5 => by_closure(&db, &key).unwrap(),
            _ => by_batch(&db, &key).unwrap(),
        }
        peer::send(&key);
        if number % 64 == 63 {
            db.checkpoint().unwrap();
        }
    }
}

fn by_closure(db: &Database, key: &str) -> Result<()> {
    db.write(|tx| {
        for part in 0..ROWS {
            tx.execute("INSERT INTO entry VALUES (?1, ?2)", (key, part))?;
        }
        Ok(())
    })
}

fn by_batch(db: &Database, key: &str) -> Result<()> {
    let row = |part| Query::new("INSERT INTO entry VALUES (?1, ?2)", (key, part));
    db.batch((0..ROWS).map(row)).map(drop)
}

/// The writing processes, and the keys whose writes were acknowledged.
struct Writers {
    path: PathBuf,
    peers: Vec<Peer>,
    started: usize,
    acknowledged: Vec<String>,
}

impl Writers {
    fn start(path: PathBuf) -> Self {
        let mut writers = Self {
            path,
            peers: Vec::new(),
            started: 0,
            acknowledged: Vec::new(),
        };
        (0..WRITERS).for_each(|_| writers.start_one());
        writers
    }

    fn start_one(&mut self) {
        let path = self.path.to_str().unwrap().to_owned();
        let name = format!("w{}", self.started);
        self.peers
            .push(Peer::start("write_endlessly", [path, name]));
        self.started += 1;
    }

    /// Kills the writer with this number, and reads its last lines.
    fn kill(&mut self, number: usize) {
        let mut victim = self.peers.swap_remove(number);
        victim.kill();
        // The loop ends when the pipe closes.
        while let Some(key) = victim.read_line_within(wait::LIMIT) {
            self.acknowledged.push(key);
        }
    }

    /// Reads the lines that were sent meanwhile, so that no pipe fills up.
    fn read_lines(&mut self) {
        for peer in &self.peers {
            while let Some(key) = peer.read_line_within(Duration::ZERO) {
                self.acknowledged.push(key);
            }
        }
    }

    /// Returns the writer that holds the lock at this moment, if one does.
    fn find_holder(&self, locker: &WriteLocker) -> Option<usize> {
        let pid = locker.holder().unwrap()?.pid?;
        self.peers.iter().position(|peer| peer.pid() == pid)
    }
}

fn random_below(bound: usize) -> usize {
    // The value only has to differ between calls.
    let value = RandomState::new().hash_one(bound) % bound as u64;
    usize::try_from(value).unwrap()
}

fn kills() -> usize {
    let kills = std::env::var("PENHOLDER_KILLS").ok();
    kills.map_or(200, |kills| kills.parse().unwrap())
}

/// Waits until a writer has committed something new.
fn await_progress(db: &Database) {
    let last = || database_fixture::number(db, "SELECT coalesce(max(rowid), 0) AS n FROM entry");
    let before = last();
    let ((), took) = wait::timed(|| wait::until("the next writer", || last() > before));
    assert!(
        took < database_fixture::PROMPT,
        "the next writer took {took:?}"
    );
}

fn create_table(db: &Database) {
    db.execute("CREATE TABLE entry(key TEXT, part INTEGER)", ())
        .unwrap();
}

#[test]
fn acknowledged_writes_survive_kills() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    create_table(&db);
    let locker = WriteLocker::new(fixture.directory()).unwrap();
    let mut writers = Writers::start(fixture.path());
    let mut holders = 0;
    for kill in 0..kills() {
        await_progress(&db);
        // Every other victim is a writer that was just seen to hold the lock.
        let holder = (kill % 2 == 0).then(|| (0..200).find_map(|_| writers.find_holder(&locker)));
        let holder = holder.flatten();
        holders += usize::from(holder.is_some());
        writers.kill(holder.unwrap_or_else(|| random_below(WRITERS)));
        writers.read_lines();
        await_progress(&db);
        writers.start_one();
    }
    while !writers.peers.is_empty() {
        writers.kill(0);
    }
    eprintln!(
        "{holders} victims were seen to hold the lock; {} writes",
        writers.acknowledged.len()
    );
    assert!(holders * 4 >= kills(), "too few victims were holders");
    drop(db);
    assert_all_there(&fixture.path(), &writers.acknowledged);
}

/// Asserts that each acknowledged key is there once and complete, and that no other key is
/// there partly.
fn assert_all_there(path: &Path, acknowledged: &[String]) {
    plain_sqlite::assert_integrity(path);
    let db = database_fixture::open(path);
    let sql = "SELECT key, count(*) AS n, count(DISTINCT part) AS parts FROM entry GROUP BY key";
    let mut there = HashSet::new();
    for (key, rows, parts) in db.query_as::<(String, i64, i64)>(sql, ()).unwrap() {
        assert_eq!((rows, parts), (ROWS, ROWS), "{key}");
        there.insert(key);
    }
    let distinct: HashSet<&String> = acknowledged.iter().collect();
    assert_eq!(
        distinct.len(),
        acknowledged.len(),
        "no key is acknowledged twice"
    );
    let lost: Vec<_> = distinct
        .iter()
        .filter(|key| !there.contains(**key))
        .collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // At most the last write of each process may be there without an acknowledgement.
    assert!(there.len() <= distinct.len() + kills() + WRITERS);
}

#[test]
fn a_killed_holder_leaves_no_row() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold_transaction", &fixture.path());
    assert!(db.status().unwrap().holder.is_some());
    holder.kill();
    let (done, took) = wait::timed(|| database_fixture::insert(&db, "next"));
    done.unwrap();
    assert!(took < database_fixture::PROMPT, "{took:?}");
    assert_eq!(database_fixture::keys(&db), ["next"]);
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}
