//! Several programs that play scripts of tasks on the same databases, in the manner of SQLite's
//! `mptest`; some of them are killed in the midst.
//!
//! Each task has a number. One that was acknowledged is in the database exactly once, one that was
//! reported as failed is not, and of each program that was killed at most one more task is.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{BuildHasher, RandomState};
use std::time::{Duration, Instant};

use crate::Fixture;
use crate::host::{Host, Kind, is_busy};

/// How long a workload may take; most of it is for a loaded machine.
const LIMIT: Duration = Duration::from_secs(60);
/// How many tasks each program has.
const TASKS: i64 = 40;

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Task {
    Write,
    Several,
    /// It reads first, and is refused if another program has written meanwhile.
    Upgrade,
    /// Both databases, by a program that has attached the other one.
    Both,
    Read,
    Checkpoint(&'static str),
    Vacuum,
}

impl Task {
    /// Returns its statements; `main` is the database with this name.
    fn sql(self, id: i64) -> String {
        let insert = |part| {
            format!(
                "INSERT INTO log VALUES ({id}, {part}, zeroblob({}))",
                id % 3000
            )
        };
        let (first, second) = (insert(1), insert(2));
        match self {
            Self::Write => first,
            Self::Several => {
                format!("BEGIN IMMEDIATE; {first}; {second}; DELETE FROM tally WHERE n < 0; COMMIT")
            }
            Self::Upgrade => format!("BEGIN; SELECT count(*) FROM log; {first}; COMMIT"),
            Self::Both => format!(
                "BEGIN IMMEDIATE; {first}; {}; COMMIT",
                first.replace("INTO log", "INTO other.log")
            ),
            Self::Read => "SELECT (SELECT count(*) FROM log) - (SELECT n FROM tally)".to_owned(),
            Self::Checkpoint(mode) => format!("PRAGMA wal_checkpoint({mode})"),
            Self::Vacuum => "VACUUM".to_owned(),
        }
    }

    fn rows(self) -> i64 {
        match self {
            Self::Write | Self::Upgrade | Self::Both => 1,
            Self::Several => 2,
            Self::Read | Self::Checkpoint(_) | Self::Vacuum => 0,
        }
    }

    /// Returns whether it may be refused although nothing is wrong.
    fn may_be_busy(self) -> bool {
        self == Self::Upgrade
    }

    fn of(kind: Kind, attaches: bool, seed: usize) -> Self {
        let modes = ["PASSIVE", "FULL", "RESTART", "TRUNCATE"];
        match (kind, seed % 20) {
            (Kind::Shell | Kind::Database, _) | (_, 0..6) => Self::Write,
            (_, 6..9) => Self::Several,
            (_, 9..13) if attaches => Self::Both,
            (_, 9..13) => Self::Upgrade,
            (_, 15) => Self::Vacuum,
            (_, 16 | 17) => Self::Checkpoint(modes[seed / 20 % 4]),
            _ => Self::Read,
        }
    }
}

fn random_below(bound: usize) -> usize {
    // The value only has to differ between calls.
    let value = RandomState::new().hash_one(bound) % bound as u64;
    usize::try_from(value).unwrap()
}

/// A program with its script.
struct Member {
    host: Host,
    main: &'static str,
    /// What was sent and is not answered.
    open: BTreeMap<i64, Task>,
    is_killed: bool,
    /// The longest time between two answers.
    longest: Duration,
    last: Instant,
}

#[derive(Default)]
struct Told {
    /// How many rows of each number are in each database.
    acknowledged: BTreeMap<(&'static str, i64), i64>,
    failed: BTreeSet<(&'static str, i64)>,
    unknown: BTreeSet<(&'static str, i64)>,
}

impl Member {
    fn start(fixture: &Fixture, number: i64, kind: Kind) -> Self {
        // Every other one has the databases the other way round.
        let (main, other) = match kind {
            Kind::Shell | Kind::Database => ("a.db", "b.db"),
            _ if number % 2 == 0 => ("a.db", "b.db"),
            _ => ("b.db", "a.db"),
        };
        let mut host = Host::open(kind, &fixture.path(main));
        // `BEGIN IMMEDIATE` locks all attached databases: without the queue, programs that have them in
        // another order wait for each other until one gives up. Outside WAL mode this also happens to
        // a transaction that has read from one database and goes on to another, if only to see
        // whether the schema has changed, beside one that commits to both; so no program does both.
        let attaches = matches!(kind, Kind::Bundled | Kind::Python) && number / 2 % 2 == 1;
        if attaches {
            let other = fixture.path(other);
            host.run(
                "t.c",
                &format!("ATTACH '{}' AS other", other.to_str().unwrap()),
            );
        }
        let mut open = BTreeMap::new();
        for nth in 0..TASKS {
            let id = number * 1000 + nth;
            let task = Task::of(kind, attaches, random_below(80));
            open.insert(id, task);
        }
        Self {
            host,
            main,
            open,
            is_killed: false,
            longest: Duration::ZERO,
            last: Instant::now(),
        }
    }

    /// Sends the next task.
    fn send(&mut self) {
        if let Some((id, task)) = self.open.first_key_value() {
            let sql = task.sql(*id);
            self.host.send("t.c", &sql);
        }
    }

    /// Takes an answer, if there is one, and sends the next task.
    fn step(&mut self, told: &mut Told) {
        if self.is_killed {
            return;
        }
        let Some(answer) = self.host.next_answer(Duration::ZERO) else {
            return;
        };
        let (id, task) = self.open.pop_first().unwrap();
        let waited = self.last.elapsed();
        self.longest = self.longest.max(waited);
        self.last = Instant::now();
        let host = self.host.kind;
        let context = format!("{host:?}, {id}, {task:?}, {waited:?}: {:?}", answer.rows);
        let keys = self.keys(id, task);
        match &answer.rows {
            Ok(rows) if task == Task::Read => assert_eq!(rows, "0", "{context}"),
            Ok(_) => told
                .acknowledged
                .extend(keys.into_iter().map(|key| (key, task.rows()))),
            Err(error) => {
                let is_expected = task.may_be_busy() && is_busy(error);
                assert!(is_expected, "{context}");
                told.failed.extend(keys);
            }
        }
        self.send();
    }

    /// Returns where the rows of a task are.
    fn keys(&self, id: i64, task: Task) -> Vec<(&'static str, i64)> {
        let other = if self.main == "a.db" { "b.db" } else { "a.db" };
        match task {
            Task::Both => vec![(self.main, id), (other, id)],
            task if task.rows() > 0 => vec![(self.main, id)],
            _ => Vec::new(),
        }
    }

    fn kill(&mut self, told: &mut Told) {
        self.host.peer.kill();
        self.is_killed = true;
        if let Some((&id, &task)) = self.open.first_key_value() {
            told.unknown.extend(self.keys(id, task));
        }
        self.open.clear();
    }
}

/// Runs programs of these kinds, and kills some of them.
fn play(journal: &str, kinds: &[Kind], kills: usize) {
    let kinds: Vec<Kind> = kinds
        .iter()
        .copied()
        .filter(|kind| kind.is_there())
        .collect();
    let fixture = Fixture::new(journal);
    let mut told = Told::default();
    let mut number = 0;
    let mut start = |kind| {
        number += 1;
        Member::start(&fixture, number, kind)
    };
    let mut members: Vec<Member> = kinds.iter().map(|kind| start(*kind)).collect();
    for member in &mut members {
        member.last = Instant::now();
        member.send();
    }
    let begun = Instant::now();
    let mut killed = 0;
    while members.iter().any(|member| !member.open.is_empty()) {
        for member in &mut members {
            member.step(&mut told);
        }
        // The kills fall on any of them, spread over the run.
        let answered = told.acknowledged.len();
        if killed < kills && answered > 20 * (killed + 1) {
            killed += 1;
            let victim = random_below(members.len());
            if !members[victim].is_killed && !members[victim].open.is_empty() {
                members[victim].kill(&mut told);
                let kind = members[victim].host.kind;
                let mut new = start(kind);
                new.last = Instant::now();
                new.send();
                members.push(new);
            }
        }
        let open: Vec<_> = members
            .iter()
            .filter(|member| !member.open.is_empty())
            .map(|member| (member.host.kind, member.open.first_key_value()))
            .collect();
        assert!(begun.elapsed() < LIMIT, "not done: {open:?}");
        std::thread::sleep(Duration::from_micros(200));
    }
    let waits: Vec<_> = members
        .iter()
        .map(|member| (member.host.kind, member.longest))
        .collect();
    println!("{journal}: {:?}, longest waits {waits:?}", begun.elapsed());
    drop(members);
    for name in ["a.db", "b.db"] {
        let found = fixture.check(name);
        for (&(_, id), &rows) in told.acknowledged.iter().filter(|((of, _), _)| *of == name) {
            assert_eq!(found.get(&id), Some(&rows), "{name}: {id} was acknowledged");
        }
        for (id, rows) in found {
            let key = (name, id);
            let is_known = told.acknowledged.contains_key(&key) || told.unknown.contains(&key);
            assert!(is_known && rows <= 2, "{name}: {id} {rows} times");
            assert!(
                !told.failed.contains(&key),
                "{name}: {id} was reported as failed"
            );
        }
    }
}

#[test]
fn hosts_in_wal_mode_with_kills() {
    play(
        "wal",
        &[
            Kind::Bundled,
            Kind::Python,
            Kind::Bundled,
            Kind::Shell,
            Kind::Python,
        ],
        6,
    );
}

#[test]
fn hosts_in_delete_mode_with_kills() {
    play(
        "delete",
        &[
            Kind::Bundled,
            Kind::Python,
            Kind::Bundled,
            Kind::Shell,
            Kind::Python,
        ],
        6,
    );
}

#[test]
fn hosts_beside_plain_programs_and_the_crate_in_wal_mode() {
    play(
        "wal",
        &[
            Kind::Bundled,
            Kind::Python,
            Kind::BundledPlain,
            Kind::PythonPlain,
            Kind::Shell,
            Kind::Database,
        ],
        4,
    );
}

#[test]
fn hosts_beside_plain_programs_in_delete_mode() {
    play(
        "delete",
        &[
            Kind::Bundled,
            Kind::Python,
            Kind::BundledPlain,
            Kind::PythonPlain,
            Kind::Shell,
        ],
        4,
    );
}
