//! The power fails at any moment: of what was written since the last sync of a file, each sector
//! of the disk has what it had at some moment since then.
//!
//! With `synchronous=FULL` every acknowledged commit survives, with NORMAL a prefix of the commits,
//! and the database is whole.

use std::fs;

use penholder_testkit::lease_fixture::{open_with, row_of};

use crate::layer::{self, Event, FileKind};
use crate::{Setup, Writer, fixture, setup, sqlite_alone, thoroughness, transaction};

const SECTOR: usize = 512;
const TRANSACTIONS: u32 = 40;
/// How many images of the disk are tried, of each of some recordings.
const IMAGES: u32 = 60;

/// Numbers that look random: `splitmix64`.
struct Random(u64);

impl Random {
    fn below(&mut self, end: usize) -> usize {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = (self.0 ^ self.0 >> 30).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ mixed >> 27).wrapping_mul(0x94D0_49BB_1331_11EB);
        usize::try_from((mixed ^ mixed >> 31) % end as u64).unwrap()
    }
}

/// A file: what is on the disk for sure, and what came after the last sync.
#[derive(Default)]
struct Disk<'a> {
    durable: Vec<u8>,
    pending: Vec<&'a Event>,
}

/// How much of what is pending is on the disk.
#[derive(Clone, Copy)]
enum Written {
    Nothing,
    All,
    /// What came before a moment.
    Until(usize),
    /// Each sector until a moment of its own.
    Torn,
}

impl<'a> Disk<'a> {
    fn apply(&mut self, event: &'a Event) {
        if let Event::Sync(_) = event {
            self.durable = self.image(Written::All, &mut Random(0));
            self.pending.clear();
        } else {
            self.pending.push(event);
        }
    }

    fn choose(&self, random: &mut Random) -> Written {
        match random.below(8) {
            0 => Written::Nothing,
            1 => Written::All,
            2 | 3 => Written::Until(random.below(self.pending.len() + 1)),
            _ => Written::Torn,
        }
    }

    /// Returns the content after a loss of power.
    fn image(&self, written: Written, random: &mut Random) -> Vec<u8> {
        let count = self.pending.len();
        let mut until = || match written {
            Written::Nothing => 0,
            Written::All => count,
            Written::Until(moment) => moment,
            Written::Torn => random.below(count + 1),
        };
        let len_until = until();
        let (mut len, mut longest) = (self.durable.len(), self.durable.len());
        for (at, event) in self.pending.iter().enumerate() {
            let new = match event {
                Event::Write(_, at, bytes) => len.max(at + bytes.len()),
                Event::Truncate(_, to) => *to,
                _ => len,
            };
            longest = longest.max(new);
            if at < len_until {
                len = new;
            }
        }
        let mut image = self.durable.clone();
        image.resize(longest, 0);
        for (number, sector) in image.chunks_mut(SECTOR).enumerate() {
            let begin = number * SECTOR;
            for event in &self.pending[..until()] {
                change_sector(sector, begin, event);
            }
        }
        image.truncate(len);
        image
    }
}

/// Does to a sector what an event did to its file.
fn change_sector(sector: &mut [u8], begin: usize, event: &Event) {
    let end = begin + sector.len();
    match event {
        Event::Write(_, at, bytes) => {
            let (from, to) = (begin.max(*at), end.min(at + bytes.len()));
            if from < to {
                sector[from - begin..to - begin].copy_from_slice(&bytes[from - at..to - at]);
            }
        }
        Event::Truncate(_, len) if *len < end => sector[len.saturating_sub(begin)..].fill(0),
        _ => {}
    }
}

/// What was recorded: the database before, and the events.
struct Recording {
    database: Vec<u8>,
    events: Vec<Event>,
}

/// Writes, checkpoints, and records what reaches the disk.
fn record(setup: Setup, random: &mut Random) -> Recording {
    let fixture = fixture();
    let database = fs::read(fixture.path()).unwrap();
    let a = Writer::open(&fixture.path(), setup).unwrap();
    let b = Writer::open(&fixture.path(), setup).unwrap();
    layer::record();
    for id in 1..=TRANSACTIONS {
        let writer = if random.below(5) == 0 { &b } else { &a };
        if setup.has_leases && random.below(3) > 0 {
            writer.begin_lease();
        }
        writer.run(&transaction(id)).unwrap();
        layer::note(Event::Acknowledged(id));
        match random.below(12) {
            0 => a.end_lease(),
            1 => drop(row_of(&b.connection, "PRAGMA wal_checkpoint(PASSIVE)")),
            2 => drop(row_of(&a.connection, "PRAGMA wal_checkpoint(PASSIVE)")),
            3 => drop(row_of(&a.connection, "PRAGMA wal_checkpoint(RESTART)")),
            4 => drop(row_of(&b.connection, "PRAGMA wal_checkpoint(TRUNCATE)")),
            5 => drop(writer.connection.execute_batch(
                "BEGIN IMMEDIATE; INSERT INTO big SELECT zeroblob(900) FROM tally;
                 INSERT INTO big SELECT x FROM big; ROLLBACK",
            )),
            _ => {}
        }
    }
    let events = layer::recorded();
    Recording { database, events }
}

/// A disk image, and what must be in it.
struct Image {
    database: Vec<u8>,
    wal: Vec<u8>,
    acknowledged: u32,
}

/// Returns what is on the disk if the power fails after some events.
fn image(recording: &Recording, random: &mut Random) -> Image {
    let moment = random.below(recording.events.len() + 1);
    let (mut database, mut wal) = (Disk::default(), Disk::default());
    database.durable.clone_from(&recording.database);
    let mut acknowledged = 0;
    for event in &recording.events[..moment] {
        match event {
            Event::Acknowledged(id) => acknowledged = *id,
            Event::Write(FileKind::Database, ..)
            | Event::Truncate(FileKind::Database, _)
            | Event::Sync(FileKind::Database) => database.apply(event),
            Event::Write(FileKind::Wal, ..)
            | Event::Truncate(FileKind::Wal, _)
            | Event::Sync(FileKind::Wal) => wal.apply(event),
            _ => {}
        }
    }
    let (of_database, of_wal) = (database.choose(random), wal.choose(random));
    Image {
        database: database.image(of_database, random),
        wal: wal.image(of_wal, random),
        acknowledged,
    }
}

/// Says what is wrong with an image, if something is.
fn fault_of(image: &Image, setup: Setup) -> Option<String> {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("image.db");
    fs::write(&path, &image.database).unwrap();
    fs::write(directory.path().join("image.db-wal"), &image.wal).unwrap();
    let connection = open_with(&path, None).unwrap();
    let check = || -> rusqlite::Result<Option<String>> {
        let verdict = row_of(&connection, "PRAGMA integrity_check")?;
        if verdict != "ok" {
            return Ok(Some(verdict));
        }
        let row = "SELECT count(*), ifnull(max(id), 0), (SELECT min(last) FROM tally),
            (SELECT max(last) FROM tally), (SELECT count(*) FROM big) FROM log";
        let row = row_of(&connection, row)?;
        let numbers: Vec<u32> = row.split('|').map(|text| text.parse().unwrap()).collect();
        let survived = numbers[0];
        let is_prefix = numbers[1..] == [survived, survived, survived, 0];
        let is_enough = setup.synchronous != "FULL" || survived >= image.acknowledged;
        // The next one may have been complete, too.
        let is_known = survived <= image.acknowledged + 1;
        let is_right = is_prefix && is_enough && is_known;
        Ok((!is_right).then(|| format!("{row} of {}", image.acknowledged)))
    };
    check().unwrap_or_else(|error| Some(error.to_string()))
}

/// Tries many images; returns the faults.
fn faults(setup: Setup, change: impl Fn(&mut Recording)) -> Vec<String> {
    let seed = std::env::var("PENHOLDER_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut faults = Vec::new();
    for run in 0..thoroughness() {
        let mut random = Random(seed + u64::from(run));
        let mut recording = record(setup, &mut random);
        change(&mut recording);
        for _ in 0..IMAGES {
            let image = image(&recording, &mut random);
            faults.extend(fault_of(&image, setup).map(|fault| format!("run {run}: {fault}")));
        }
    }
    faults
}

#[track_caller]
fn assert_survives(setup: Setup) {
    let faults = faults(setup, |_| ());
    assert!(faults.is_empty(), "{setup:?}: {faults:#?}");
}

#[test]
fn every_acknowledged_commit_survives_with_full() {
    assert_survives(setup(true, true, "FULL"));
    assert_survives(setup(true, false, "FULL"));
    assert_survives(setup(false, true, "FULL"));
}

#[test]
fn a_prefix_of_the_commits_survives_with_normal() {
    assert_survives(setup(true, true, "NORMAL"));
    assert_survives(setup(true, false, "NORMAL"));
    assert_survives(setup(false, true, "NORMAL"));
}

/// What is asked of penholder is what SQLite itself does.
#[test]
fn sqlite_alone_passes_the_same_tests() {
    assert_survives(sqlite_alone("FULL"));
    assert_survives(sqlite_alone("NORMAL"));
}

/// Without syncs, neither can be: the images would show it.
#[test]
fn a_disk_that_ignores_syncs_is_noticed() {
    let ignore = |recording: &mut Recording| {
        recording
            .events
            .retain(|event| !matches!(event, Event::Sync(_)));
    };
    for synchronous in ["FULL", "NORMAL"] {
        assert!(!faults(setup(true, true, synchronous), ignore).is_empty());
    }
}
