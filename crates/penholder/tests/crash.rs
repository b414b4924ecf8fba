//! `kill -9` at any moment: whatever was acknowledged is there, exactly once,
//! nothing is there in part, and the next writer goes on at once.
//!
//! `PENHOLDER_KILLS` sets how many processes are killed.
#![cfg(test)]

use std::collections::HashSet;
use std::ffi::OsString;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::time::Duration;

use penholder::lock::WriteLocker;
use penholder::{Database, Result, Statement};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, wait};

/// Processes that write at the same time.
const WRITERS: usize = 5;
/// How many rows one write has: they are there together or not at all.
const ROWS: i64 = 3;

#[test]
fn peer() {
    peer::run_role(&[
        ("write", write),
        ("hold", database_fixture::hold_transaction),
    ]);
}

/// Writes for ever, each key in several rows, and says each acknowledgement.
fn write(args: &[OsString]) {
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
    let row = |part| Statement::new("INSERT INTO entry VALUES (?1, ?2)", (key, part));
    db.batch((0..ROWS).map(row)).map(drop)
}

/// The processes that write, and what they have said.
struct Crew {
    path: PathBuf,
    peers: Vec<Peer>,
    started: usize,
    acknowledged: Vec<String>,
}

impl Crew {
    fn start(path: PathBuf) -> Self {
        let mut crew = Self {
            path,
            peers: Vec::new(),
            started: 0,
            acknowledged: Vec::new(),
        };
        (0..WRITERS).for_each(|_| crew.hire());
        crew
    }

    fn hire(&mut self) {
        let path = self.path.to_str().unwrap().to_owned();
        let name = format!("w{}", self.started);
        self.peers.push(Peer::start("write", [path, name]));
        self.started += 1;
    }

    /// Kills the one with this number, and hears its last words.
    fn kill(&mut self, number: usize) {
        let mut victim = self.peers.swap_remove(number);
        victim.kill();
        // Ends at the end of its pipe.
        while let Some(key) = victim.read_line_within(wait::LIMIT) {
            self.acknowledged.push(key);
        }
    }

    /// Hears what was said meanwhile, so that no pipe fills up.
    fn listen(&mut self) {
        for peer in &self.peers {
            while let Some(key) = peer.read_line_within(Duration::ZERO) {
                self.acknowledged.push(key);
            }
        }
    }

    /// The writer that holds the lock this moment, if one is seen to.
    fn holding(&self, locker: &WriteLocker) -> Option<usize> {
        let pid = locker.holder().unwrap()?.pid?;
        self.peers.iter().position(|peer| peer.pid() == pid)
    }
}

fn dice(sides: usize) -> usize {
    // Differs at each call, which is all that is asked of it.
    let value = RandomState::new().hash_one(sides) % sides as u64;
    usize::try_from(value).unwrap()
}

fn kills() -> usize {
    let kills = std::env::var("PENHOLDER_KILLS").ok();
    kills.map_or(200, |kills| kills.parse().unwrap())
}

/// Waits until somebody has committed something new.
fn progress(db: &Database) {
    let last = || database_fixture::number(db, "SELECT coalesce(max(rowid), 0) AS n FROM entry");
    let before = last();
    let ((), took) = wait::timed(|| wait::until("the next writer", || last() > before));
    assert!(
        took < database_fixture::PROMPT,
        "the next writer took {took:?}"
    );
}

fn table(db: &Database) {
    db.execute("CREATE TABLE entry(key TEXT, part INTEGER)", ())
        .unwrap();
}

#[test]
fn what_was_acknowledged_survives_kills() {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    table(&db);
    let locker = WriteLocker::new(fixture.directory()).unwrap();
    let mut crew = Crew::start(fixture.path());
    let mut mid_hold = 0;
    for kill in 0..kills() {
        progress(&db);
        // Every other victim is one that was just seen to hold the lock.
        let seen = (kill % 2 == 0).then(|| (0..200).find_map(|_| crew.holding(&locker)));
        let seen = seen.flatten();
        mid_hold += usize::from(seen.is_some());
        crew.kill(seen.unwrap_or_else(|| dice(WRITERS)));
        crew.listen();
        progress(&db);
        crew.hire();
    }
    while !crew.peers.is_empty() {
        crew.kill(0);
    }
    eprintln!(
        "{mid_hold} victims were seen to hold the lock; {} writes",
        crew.acknowledged.len()
    );
    assert!(mid_hold * 4 >= kills(), "too few were killed holding");
    drop(db);
    check(&fixture.path(), &crew.acknowledged);
}

/// Each acknowledged key is there once and whole; others whole or not at all.
fn check(path: &Path, acknowledged: &[String]) {
    plain_sqlite::assert_integrity(path);
    let db = database_fixture::open(path);
    let sql = "SELECT key, count(*) AS n, count(DISTINCT part) AS parts FROM entry GROUP BY key";
    let rows = db.query(sql, ()).unwrap();
    let mut there = HashSet::new();
    for row in 0..rows.len() {
        let key: String = rows.get(row, "key").unwrap();
        assert_eq!(rows.get::<i64>(row, "n").unwrap(), ROWS, "{key}");
        assert_eq!(rows.get::<i64>(row, "parts").unwrap(), ROWS, "{key}");
        there.insert(key);
    }
    let said: HashSet<&String> = acknowledged.iter().collect();
    assert_eq!(said.len(), acknowledged.len(), "nothing is said twice");
    let lost: Vec<_> = said.iter().filter(|key| !there.contains(**key)).collect();
    assert!(lost.is_empty(), "acknowledged and lost: {lost:?}");
    // At most the last write of each process may stand without having been said.
    assert!(there.len() <= said.len() + kills() + WRITERS);
}

#[test]
fn killed_holder_leaves_nothing_behind() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let mut holder = database_fixture::start_holder("hold", &fixture.path());
    assert!(db.status().unwrap().holder.is_some());
    holder.kill();
    let (done, took) = wait::timed(|| database_fixture::insert(&db, "next"));
    done.unwrap();
    assert!(took < database_fixture::PROMPT, "{took:?}");
    assert_eq!(database_fixture::keys(&db), ["next"]);
    drop(db);
    plain_sqlite::assert_integrity(&fixture.path());
}
