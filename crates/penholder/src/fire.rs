//! Carrying under fire: writers in many processes, killed and stopped at every step
//! and at random, with a page that is written into meanwhile. What was acknowledged is
//! there once, what was said not to be written is not, and nothing is there twice.
//!
//! The writers note what they were told in files of their own: one line a call, after
//! the call has returned.

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use rusqlite::Connection;

use self::peer::Peer;
use crate::{Database, Error, Executed, Options, Result, Statement, Synchronous, failpoint};

/// The steps of whoever carries, and of whoever is carried.
const STEPS: [&str; 7] = [
    "boarded",
    "executed",
    "before_commit",
    "committed",
    "half_acknowledged",
    "offered",
    "answered",
];
/// Reached only after another one was killed or the page spoiled.
const RARE_STEP: &str = "looked_up";
/// How long the doomed are waited for before they are killed wherever they are.
const DOOM: Duration = Duration::from_secs(2);
/// No working lock comes near it, even on a loaded machine.
const PATIENT: Duration = Duration::from_secs(20);
/// Of those who wait for a stopped one.
const HASTY: Duration = Duration::from_millis(400);
/// How much later than its deadline a call may end on a loaded machine.
const LATE: Duration = Duration::from_secs(4);
/// Rows of a batch.
const ROWS: i64 = 2;

#[test]
fn peer() {
    peer::play(&[("write", write)]);
}

// ---- a writer --------------------------------------------------------------------

/// Writes until all is over, in so many threads: `path name threads timeout way`.
fn write(args: &[OsString]) {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
    let [path, name, threads, timeout, way] = args[..] else {
        panic!("arguments: {args:?}");
    };
    let path = Path::new(path);
    let timeout = Duration::from_millis(timeout.parse().unwrap());
    let db = open(path, timeout);
    let notes = OpenOptions::new()
        .create(true)
        .append(true)
        .open(path.with_file_name(format!("notes-{name}")))
        .unwrap();
    // The end of the pipe ends the process.
    thread::spawn(|| peer::hear("never said"));
    thread::scope(|scope| {
        for thread in 0..threads.parse().unwrap() {
            let (db, notes) = (&db, &notes);
            scope.spawn(move || toil(db, notes, &format!("{name}-{thread}"), way));
        }
    });
    peer::say("done");
}

fn open(path: &Path, timeout: Duration) -> Database {
    let options = Options::new()
        .timeout(timeout)
        .synchronous(Synchronous::Full);
    options.open(path).unwrap()
}

fn toil(db: &Database, mut notes: &File, name: &str, way: &str) {
    let over = db.path().with_file_name("over");
    for number in 0.. {
        if over.exists() {
            return;
        }
        let key = format!("{name}-{number}");
        if way == "spoils" && number % 8 == 7 {
            spoil_the_transaction(db);
            continue;
        }
        let begun = Instant::now();
        let told = match number % 8 {
            0..4 => by_statement(db, &key),
            4 => by_returning(db, &key),
            5 if way == "closures" => by_closure(db, &key),
            _ => by_batch(db, &key),
        };
        let note = match told {
            Ok(row) => format!("+ {key} {row}\n"),
            Err(error) => failed(&key, &error, begun.elapsed()),
        };
        // One write, so that it is whole or not there.
        notes.write_all(note.as_bytes()).unwrap();
    }
}

fn failed(key: &str, error: &Error, took: Duration) -> String {
    let sign = match error {
        error if error.is_outcome_unknown() => '?',
        error if error.is_timeout() => '-',
        error => return format!("! {key} {error:?}\n").replace("\n  ", "; "),
    };
    let holder = error.holder().and_then(|holder| holder.pid).unwrap_or(0);
    // It is said aloud too.
    let text = error.to_string();
    let said = holder == 0 || text.contains(&holder.to_string());
    assert!(said, "{text}");
    format!("{sign} {key} {} {holder}\n", took.as_millis())
}

/// Takes everybody's transaction with it, wherever it is run.
fn spoil_the_transaction(db: &Database) {
    let sql = "INSERT OR ROLLBACK INTO owner VALUES ('nobody')";
    let error = db.execute(sql, ()).unwrap_err();
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    let is_expected = code == Some(rusqlite::ErrorCode::ConstraintViolation)
        || error.is_timeout()
        || error.is_outcome_unknown();
    assert!(is_expected, "{error}");
}

const INSERT: &str = "INSERT INTO entry(key, part) VALUES (?1, 0)";

/// All of them say in which row the key stands, if they can.
fn by_statement(db: &Database, key: &str) -> Result<i64> {
    let done = db.execute(INSERT, [key])?;
    assert_eq!(done.rows_changed, 1);
    Ok(row_of(&done))
}

fn by_returning(db: &Database, key: &str) -> Result<i64> {
    let done = db.execute(format!("{INSERT} RETURNING key, rowid").as_str(), [key])?;
    assert_eq!(done.returned.get::<String>(0, "key")?, key);
    assert_eq!(done.returned.get::<i64>(0, "rowid")?, row_of(&done));
    Ok(row_of(&done))
}

fn row_of(done: &Executed) -> i64 {
    done.last_insert_id.unwrap()
}

fn by_closure(db: &Database, key: &str) -> Result<i64> {
    db.write(|tx| {
        tx.execute(INSERT, [key])?;
        Ok(0)
    })
}

fn by_batch(db: &Database, key: &str) -> Result<i64> {
    let part = |part| {
        let sql = "INSERT INTO entry(key, part, owner) VALUES (?1, ?2, ?1)";
        Statement::new(sql, (key, part))
    };
    let owner = Statement::new("INSERT INTO owner VALUES (?1)", [key]);
    let all: Vec<Statement> = [owner].into_iter().chain((0..ROWS).map(part)).collect();
    let done = db.batch(all)?;
    assert!(done.iter().all(|one| one.rows_changed == 1), "{done:?}");
    Ok(0)
}

// ---- all of them -----------------------------------------------------------------

/// A database, and those that write to it.
struct Crew {
    peers: Vec<Peer>,
    hired: usize,
    timeout: Duration,
    db: Database,
    folder: tempfile::TempDir,
}

/// Threads and ways of those that are always there.
const WAYS: [(usize, &str); 6] = [
    (1, "plain"),
    (3, "plain"),
    (1, "plain"),
    (1, "closures"),
    (2, "plain"),
    (2, "spoils"),
];

impl Crew {
    fn new(timeout: Duration) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let db = open(&folder.path().join("x.db"), PATIENT);
        // Nothing forbids a key to be there twice.
        for sql in [
            "CREATE TABLE owner(name TEXT PRIMARY KEY)",
            "INSERT INTO owner VALUES ('nobody')",
            "CREATE TABLE entry(key TEXT, part INTEGER, owner TEXT REFERENCES owner(name))",
        ] {
            db.execute(sql, ()).unwrap();
        }
        Self {
            peers: Vec::new(),
            hired: 0,
            timeout,
            db,
            folder,
        }
    }

    fn path(&self) -> &Path {
        self.db.path()
    }

    /// Starts one more; `fate`: a step, a signal and which time.
    fn start(&mut self, (threads, way): (usize, &str), fate: Option<&str>) -> Peer {
        let args = [
            self.path().to_str().unwrap().to_owned(),
            format!("w{}", self.hired),
            threads.to_string(),
            self.timeout.as_millis().to_string(),
            way.to_owned(),
        ];
        self.hired += 1;
        let mut command = Peer::command("write", args);
        if let Some(fate) = fate {
            command.env(failpoint::VARIABLE, fate);
        }
        Peer::spawn(command)
    }

    fn hire(&mut self) {
        let way = WAYS[self.hired % WAYS.len()];
        let peer = self.start(way, None);
        self.peers.push(peer);
    }

    /// The newest row; whoever only reads is in nobody's way.
    fn newest(&self) -> i64 {
        let sql = "SELECT coalesce(max(rowid), 0) AS n FROM entry";
        self.db.query(sql, ()).unwrap().get(0, "n").unwrap()
    }

    fn goes_on(&self) {
        let before = self.newest();
        peer::until("the others go on", || self.newest() > before);
    }

    /// The writer that holds the lock this moment, if one is seen to.
    fn holding(&self) -> Option<usize> {
        let pid = self.db.status().unwrap().holder?.pid?;
        self.peers.iter().position(|peer| peer.pid() == pid)
    }

    fn notes(&self) -> Notes {
        Notes::read(self.folder.path())
    }

    /// All that live come to an end by themselves.
    fn ends(&mut self) {
        fs::write(self.path().with_file_name("over"), "").unwrap();
        for mut peer in self.peers.drain(..) {
            peer.expect("done");
            assert!(peer.ended().success());
        }
    }

    /// Requests of others that were carried out in transactions of their holders.
    fn batches(&self) -> i64 {
        let sql = "SELECT coalesce(max(seq), 0) AS n FROM _penholder_batch";
        self.db.query(sql, ()).unwrap().get(0, "n").unwrap()
    }
}

/// The letter that the kernel has for what a process does.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let state = stat
        .rsplit(") ")
        .next()
        .and_then(|rest| rest.chars().next());
    state.unwrap_or('X')
}

fn dice(sides: usize) -> usize {
    // Differs at each call, which is all that is asked of it.
    let value = RandomState::new().hash_one(sides) % sides as u64;
    usize::try_from(value).unwrap()
}

// ---- what they were told, and what is there ----------------------------------------

/// A call that failed.
#[derive(Debug)]
struct Failed {
    key: String,
    took: Duration,
    holder: u32,
}

#[derive(Debug, Default)]
struct Notes {
    /// And in which row, or zero.
    acknowledged: HashMap<String, i64>,
    not_written: Vec<Failed>,
    unknown: Vec<Failed>,
}

impl Notes {
    fn read(folder: &Path) -> Self {
        let mut notes = Self::default();
        for entry in fs::read_dir(folder).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("notes-") {
                let text = fs::read_to_string(entry.path()).unwrap();
                let lines = text.split_inclusive('\n');
                lines.for_each(|line| notes.add(line));
            }
        }
        notes
    }

    fn add(&mut self, line: &str) {
        assert!(line.ends_with('\n'), "half a note: {line}");
        let words: Vec<&str> = line.split_whitespace().collect();
        let failed = || Failed {
            key: words[1].to_owned(),
            took: Duration::from_millis(words[2].parse().unwrap()),
            holder: words[3].parse().unwrap(),
        };
        match words[0] {
            "+" => {
                let row = words[2].parse().unwrap();
                let before = self.acknowledged.insert(words[1].to_owned(), row);
                assert_eq!(before, None, "acknowledged twice: {line}");
            }
            "-" => self.not_written.push(failed()),
            "?" => self.unknown.push(failed()),
            _ => panic!("a writer was told {line}"),
        }
    }

    /// How often one was told something, by its name.
    fn of(&self, name: &str) -> (usize, usize) {
        let is_its = |key: &str| key.starts_with(&format!("{name}-"));
        let failed = self.not_written.iter().chain(&self.unknown);
        (
            self.acknowledged.keys().filter(|key| is_its(key)).count(),
            failed.filter(|one| is_its(&one.key)).count(),
        )
    }
}

/// Asserts that the database is whole and everything in it once; says what is there.
fn check(path: &Path, notes: &Notes) -> HashSet<String> {
    let connection = Connection::open(path).unwrap();
    let verdict: String = connection
        .pragma_query_value(None, "integrity_check", |row| row.get(0))
        .unwrap();
    assert_eq!(verdict, "ok");
    let mut violated = connection.prepare("PRAGMA foreign_key_check").unwrap();
    assert!(!violated.exists([]).unwrap(), "foreign keys");
    let sql = "SELECT key, count(*), count(DISTINCT part), max(owner IS NOT NULL), min(rowid) \
               FROM entry GROUP BY key";
    let mut ask = connection.prepare(sql).unwrap();
    let mut rows = ask.query([]).unwrap();
    let mut there = HashSet::new();
    while let Some(row) = rows.next().unwrap() {
        let key: String = row.get(0).unwrap();
        let counts: (i64, i64, bool) = (
            row.get(1).unwrap(),
            row.get(2).unwrap(),
            row.get(3).unwrap(),
        );
        let wanted = if counts.2 { ROWS } else { 1 };
        assert_eq!((counts.0, counts.1), (wanted, wanted), "not once: {key}");
        match notes.acknowledged.get(&key) {
            None | Some(0) => {}
            Some(&told) => assert_eq!(told, row.get::<_, i64>(4).unwrap(), "{key}"),
        }
        there.insert(key);
    }
    for key in notes.acknowledged.keys() {
        assert!(there.contains(key), "acknowledged and lost: {key}");
    }
    for one in &notes.not_written {
        assert!(!there.contains(&one.key), "said not to be written: {one:?}");
    }
    there
}

// ---- kills -----------------------------------------------------------------------

/// Half of the victims die at a step, the others at random or while they hold.
fn fire(kills: usize, spoiled: bool) {
    let mut crew = Crew::new(PATIENT);
    (0..WAYS.len()).for_each(|_| crew.hire());
    let mut died_at: HashMap<&str, usize> = HashMap::new();
    let page = crew.path().with_file_name("db.lockq");
    let over = AtomicBool::new(false);
    thread::scope(|scope| {
        // Ends with the scope, also if something fails.
        let _over = Over(&over);
        if spoiled {
            scope.spawn(|| spoil_until(&over, &page));
        }
        for kill in 0..kills {
            if kill % 2 == 0 {
                let steps = || STEPS.into_iter().chain([RARE_STEP]);
                let step = steps().nth(kill / 2 % steps().count()).unwrap();
                let died = dies_at(&mut crew, step);
                *died_at.entry(step).or_default() += usize::from(died);
            } else {
                let seen = (0..50).find_map(|_| crew.holding());
                let victim = seen.unwrap_or_else(|| dice(crew.peers.len()));
                crew.peers.swap_remove(victim).kill();
                crew.goes_on();
                crew.hire();
            }
        }
    });
    crew.ends();
    let notes = crew.notes();
    let there = check(crew.path(), &notes);
    let batches = crew.batches();
    let counters = crew.db.status().unwrap().counters;
    eprintln!(
        "{} acknowledged of {}, {} unknown, {} timeouts; {batches} batches for others, {} writes carried; died at {died_at:?}",
        notes.acknowledged.len(),
        there.len(),
        notes.unknown.len(),
        notes.not_written.len(),
        counters.carried,
    );
    assert!(batches > 0, "nobody was carried");
    if !spoiled {
        assert!(counters.carried > 0, "{counters:?}");
        assert!(notes.unknown.is_empty(), "{:?}", notes.unknown);
        assert!(notes.not_written.is_empty(), "{:?}", notes.not_written);
        for step in STEPS {
            assert!(died_at[step] > 0, "nobody died at {step}: {died_at:?}");
        }
    }
}

/// One more, that dies at this step, whether it does; if it does not come there it is
/// killed where it is.
fn dies_at(crew: &mut Crew, step: &str) -> bool {
    // Not one with closures: it is not carried any more after the first.
    let way = [(1, "plain"), (3, "plain")][dice(2)];
    let fate = format!("{step} KILL {}", 1 + dice(8));
    let mut doomed = crew.start(way, Some(&fate));
    let begun = Instant::now();
    while state(doomed.pid()) != 'Z' && begun.elapsed() < DOOM {
        thread::sleep(Duration::from_millis(2));
    }
    let died = state(doomed.pid()) == 'Z';
    doomed.kill();
    crew.goes_on();
    died
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// As many as `PENHOLDER_KILLS` asks for, but never fewer than each step takes.
fn kills(at_least: usize) -> usize {
    let asked = std::env::var("PENHOLDER_KILLS").ok();
    asked.map_or(0, |text| text.parse().unwrap()).max(at_least)
}

#[test]
fn what_is_carried_survives_kills() {
    fire(kills(100), false);
}

// ---- a page that is written into -----------------------------------------------------

const MAILBOX: u64 = 8192;
const SLOTS: u64 = 512;
const LINE: u64 = 192;

fn spoil_until(over: &AtomicBool, page: &Path) {
    while !over.load(Ordering::Relaxed) {
        // Nobody has built it, or it was just deleted.
        let _ = spoil(page);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Does something to the page.
fn spoil(path: &Path) -> std::io::Result<()> {
    let page = OpenOptions::new().read(true).write(true).open(path)?;
    let length = page.metadata()?.len();
    let mailboxes = length - SLOTS * MAILBOX;
    let random = || RandomState::new().hash_one(0);
    let below = |bound: u64| random() % bound;
    let used: Vec<u64> = (0..SLOTS)
        .map(|slot| mailboxes + slot * MAILBOX)
        .filter(|&at| read_word(&page, at).is_ok_and(|state| state != 0))
        .collect();
    let some = || {
        let count = used.len() as u64;
        (count > 0).then(|| used[usize::try_from(below(count)).unwrap()])
    };
    let other = path.with_extension("other");
    match (below(200), some()) {
        (0, _) => fs::remove_file(path),
        // Whoever holds the lock goes on, and another one takes the new file's.
        (199, _) => fs::remove_file(path.with_file_name("db.lock")),
        // A copy of this moment: what stands in it stands in the old one too.
        (1..3, _) => {
            fs::copy(path, &other)?;
            fs::rename(&other, path)
        }
        (3, _) => {
            let garbage: Vec<u8> = (0..length / 8)
                .flat_map(|_| random().to_ne_bytes())
                .collect();
            fs::write(&other, garbage)?;
            fs::rename(&other, path)
        }
        (4..40, _) => page.write_all_at(&random().to_ne_bytes(), below(mailboxes / 8) * 8),
        (40..60, _) => page.write_all_at(&[0xFF; 3], below(length - 3)),
        // Nothing, another state, another claim, another answer.
        (60..80, Some(at)) => page.write_all_at(&[0; 8], at),
        (80..100, Some(at)) => page.write_all_at(&random().to_ne_bytes(), at + below(16) * 8),
        (100..160, Some(at)) => {
            let at = at + below(13) * 8;
            let flipped = read_word(&page, at)? ^ 1 << below(64);
            page.write_all_at(&flipped.to_ne_bytes(), at)
        }
        (160..180, Some(at)) => {
            page.write_all_at(&random().to_ne_bytes(), at + below(MAILBOX / 8) * 8)
        }
        // One request in two places, both in line. Never back into its own, also not by
        // way of another: an older state of the very same request is no random damage,
        // and nobody could tell that it was carried out.
        (_, Some(at)) if at < mailboxes + SLOTS / 2 * MAILBOX => {
            let slot = SLOTS / 2 + below(SLOTS / 2);
            let mut mailbox = [0; 8192];
            page.read_exact_at(&mut mailbox, at)?;
            page.write_all_at(&mailbox, mailboxes + slot * MAILBOX)?;
            let line = LINE + slot / 64 * 8;
            let waiting = read_word(&page, line)? | 1 << (slot % 64);
            page.write_all_at(&waiting.to_ne_bytes(), line)
        }
        (_, _) => Ok(()),
    }
}

fn read_word(page: &File, at: u64) -> std::io::Result<u64> {
    let mut word = [0; 8];
    page.read_exact_at(&mut word, at)?;
    Ok(u64::from_ne_bytes(word))
}

#[test]
fn what_is_carried_survives_a_spoiled_page() {
    fire(kills(24), true);
}

// ---- a carrier that stands -------------------------------------------------------------

/// How a standstill ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cont,
    Kill,
}

/// Its passengers are told in time, by its name, and what they are told is true.
fn stands_at(step: &str, ending: Ending) {
    eprintln!("stands at {step}, then {ending:?}");
    let mut crew = Crew::new(HASTY);
    let others: Vec<String> = (0..4).map(|n| format!("w{n}")).collect();
    for way in [(1, "plain"), (2, "plain"), (1, "plain"), (1, "plain")] {
        let peer = crew.start(way, None);
        crew.peers.push(peer);
    }
    crew.goes_on();
    let fate = format!("{step} STOP {}", 3 + dice(6));
    let mut victim = crew.start((1, "plain"), Some(&fate));
    peer::until("it stands", || state(victim.pid()) == 'T');
    peer::until("all others are told", || {
        let notes = crew.notes();
        others.iter().all(|name| notes.of(name).1 > 0)
    });
    let told = crew.notes();
    for one in told.not_written.iter().chain(&told.unknown) {
        assert!(one.took >= HASTY / 2 && one.took < HASTY + LATE, "{one:?}");
        assert_eq!(one.holder, victim.pid(), "{one:?}");
    }
    assert!(
        !told.unknown.is_empty() || step == "half_acknowledged",
        "nobody was on board"
    );
    check(crew.path(), &told);
    match ending {
        Ending::Cont => {
            victim.signal("CONT");
            let before = told.of("w4").0;
            peer::until("it goes on", || crew.notes().of("w4").0 > before + 2);
            crew.peers.push(victim);
        }
        Ending::Kill => victim.kill(),
    }
    let before = crew.notes();
    peer::until("the others go on", || {
        let now = crew.notes();
        let goes_on = |name: &String| now.of(name).0 > before.of(name).0 + 2;
        others.iter().all(goes_on)
    });
    crew.ends();
    let notes = crew.notes();
    let there = check(crew.path(), &notes);
    // What stood in the transaction shares its fate.
    let is_rolled_back =
        ending == Ending::Kill && ["boarded", "executed", "before_commit"].contains(&step);
    for one in &told.unknown {
        assert_ne!(there.contains(&one.key), is_rolled_back, "{one:?}");
    }
}

#[test]
fn passengers_of_one_that_stands_before_the_commit_are_told() {
    for step in ["boarded", "executed", "before_commit"] {
        stands_at(step, Ending::Cont);
        stands_at(step, Ending::Kill);
    }
}

#[test]
fn passengers_of_one_that_stands_after_the_commit_are_told() {
    for step in ["committed", "half_acknowledged"] {
        stands_at(step, Ending::Cont);
        stands_at(step, Ending::Kill);
    }
}
