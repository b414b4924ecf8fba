//! Combined writes survive faults: writers in many processes are killed and stopped at every
//! step and at random, with a queue file that is overwritten and a database that is replaced
//! meanwhile. Every acknowledged write is there once, a write that was reported as not written is
//! not there, and nothing is there twice.
//!
//! The writers log what they were told in files of their own: one line for each call, after the
//! call has returned.
#![cfg(test)]

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::fmt;
use std::fs::{self, File};
use std::hash::{BuildHasher, RandomState};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use penholder::rusqlite::{self, Connection};

use penholder::{Database, Error, Executed, OpenOptions, Query, Result, Synchronous};
use penholder_core::{commit_stats, failpoint};
use penholder_lock::WriteLocker;
use penholder_testkit::database_fixture::with_suffix;
use penholder_testkit::peer::Peer;
use penholder_testkit::queue_file::mailbox;
use penholder_testkit::raw_file::{self, read_at, write_at};
use penholder_testkit::{peer, queue_file, wait};

/// The steps of a combiner and of a requester.
const STEPS: [&str; 8] = [
    "requests_claimed",
    "executed",
    "taken_back",
    "before_commit",
    "committed",
    "half_acknowledged",
    "offered",
    "reply_received",
];
/// Reached only after another process was killed or the queue file damaged.
const RARE_STEP: &str = "looked_up";
/// In how many storms the kills of one test are done. Wine's server keeps every file open that any
/// process opened while there are locks on it, and has no more room after a minute.
const STORMS: usize = if cfg!(windows) { 3 } else { 1 };
/// How long a victim may take to reach its step before it is killed wherever it is.
const VICTIM_LIMIT: Duration = Duration::from_secs(if cfg!(windows) { 8 } else { 2 });
/// No working lock takes this long, even on a loaded machine.
const LONG_TIMEOUT: Duration = Duration::from_secs(20);
/// The timeout of writers that wait for a stopped one.
const SHORT_TIMEOUT: Duration = Duration::from_millis(if cfg!(windows) { 2000 } else { 400 });
/// How much later than its deadline a call may end on a loaded machine.
const LATE: Duration = Duration::from_secs(4);
/// How long a writer may be refused what is there after a replacement.
const REFUSED_MAX: Duration = Duration::from_secs(20);
/// The number of rows of a batch.
const ROWS: i64 = 2;

#[test]
fn peer() {
    peer::run_role(&[("write", write), ("restore", restore_what_is_there)]);
}

// ---- a writer --------------------------------------------------------------------

/// Writes until the test is over: `path name threads timeout way`.
fn write(args: &[OsString]) {
    let args: Vec<&str> = args.iter().map(|arg| arg.to_str().unwrap()).collect();
    let [path, name, threads, timeout, way] = args[..] else {
        panic!("arguments: {args:?}");
    };
    let path = Path::new(path);
    let timeout = Duration::from_millis(timeout.parse().unwrap());
    let db = patiently(|| open(path, timeout));
    let log = fs::OpenOptions::new()
        .create(true)
        .append(true)
        .open(path.with_file_name(format!("log-{name}")))
        .unwrap();
    // Not every system appends what two threads write at once one after the other.
    let log = Mutex::new(log);
    // The end of the pipe ends the process.
    thread::spawn(|| peer::expect("never sent"));
    thread::scope(|scope| {
        for thread in 0..threads.parse().unwrap() {
            let (db, log) = (&db, &log);
            scope.spawn(move || write_until_over(db, log, &format!("{name}-{thread}"), way));
        }
    });
    peer::send("done");
}

fn open(path: &Path, timeout: Duration) -> Result<Database> {
    let options = OpenOptions::new()
        .timeout(timeout)
        .synchronous(Synchronous::Full);
    options.open(path)
}

/// Tries again while a file was just replaced.
fn patiently<T>(mut attempt: impl FnMut() -> Result<T>) -> T {
    let begun = Instant::now();
    loop {
        match attempt() {
            Ok(done) => return done,
            Err(error) if is_replaced(&error) && begun.elapsed() < REFUSED_MAX => {
                thread::sleep(Duration::from_millis(2));
            }
            Err(error) => panic!("after {:?}: {error}", begun.elapsed()),
        }
    }
}

/// Returns whether a file was replaced, or others still have former files open.
fn is_replaced(error: &Error) -> bool {
    error.is_file_replaced() || error.is_refused()
}

/// Writes until the test is over, and then until a write succeeds.
fn write_until_over(db: &Database, log: &Mutex<File>, name: &str, way: &str) {
    let over = db.path().with_file_name("over");
    let mut refused_since = None;
    for number in 0.. {
        let is_last = over.exists();
        let key = format!("{name}-{number}");
        if way == "aborts" && number % 8 == 7 {
            abort_the_transaction(db);
            continue;
        }
        if way == "violates" && number % 2 == 0 {
            violate_a_constraint(db);
            continue;
        }
        let begun = Instant::now();
        let told = match number % 8 {
            0..4 => by_statement(db, &key),
            4 => by_returning(db, &key),
            5 if way == "closures" => by_closure(db, &key),
            _ => by_batch(db, &key),
        };
        let is_refused = told.as_ref().is_err_and(Error::is_refused);
        let since = *refused_since.get_or_insert(begun);
        let is_stuck = is_refused && since.elapsed() > REFUSED_MAX;
        if is_refused {
            thread::sleep(Duration::from_millis(2));
        } else {
            refused_since = None;
        }
        let is_written = told.is_ok();
        let line = match told {
            Ok(row) => format!("+ {key} {row}\n"),
            Err(error) if is_stuck => format!("! {key} refused for too long: {error}\n"),
            Err(error) => failed(&key, &error, begun.elapsed()),
        };
        // One write, so that it is whole or not there.
        log.lock().unwrap().write_all(line.as_bytes()).unwrap();
        if is_last && is_written || is_stuck {
            return;
        }
    }
}

fn failed(key: &str, error: &Error, took: Duration) -> String {
    let sign = match error {
        error if error.to_string().contains(WRITTEN) => '=',
        error if error.is_outcome_unknown() => '?',
        error if error.to_string().contains(FORMER_FILE) => '?',
        error if error.is_timeout() => '-',
        error if is_replaced(error) => '~',
        error => return format!("! {key} {error:?}\n").replace("\n  ", "; "),
    };
    let holder = error.holder().and_then(|holder| holder.pid).unwrap_or(0);
    // The text names it too.
    let text = error.to_string();
    let is_named = holder == 0 || text.contains(&holder.to_string());
    assert!(is_named, "{text}");
    format!("{sign} {key} {} {holder}\n", took.as_millis())
}

/// Makes SQLite roll back the whole transaction, in whichever process it runs.
fn abort_the_transaction(db: &Database) {
    let sql = "INSERT OR ROLLBACK INTO owner VALUES ('none')";
    let error = db.execute(sql, ()).unwrap_err();
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    let is_expected = code == Some(rusqlite::ErrorCode::ConstraintViolation)
        || error.is_timeout()
        || error.is_outcome_unknown()
        || is_replaced(&error);
    assert!(is_expected, "{error}");
}

/// Part of the error of a write whose result is lost.
const WRITTEN: &str = "it was written by another process";
/// Part of the error of a write that was committed while the database was replaced.
const FORMER_FILE: &str = "to the former file only";

/// Fails, in whichever process it runs, and is never told to have been written.
fn violate_a_constraint(db: &Database) {
    let sql = "INSERT INTO owner VALUES ('none')";
    let error = db.execute(sql, ()).unwrap_err();
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    let is_expected = code == Some(rusqlite::ErrorCode::ConstraintViolation)
        || error.is_timeout()
        || error.is_outcome_unknown()
        || is_replaced(&error);
    assert!(
        is_expected && !error.to_string().contains(WRITTEN),
        "{error}"
    );
}

const INSERT: &str = "INSERT INTO entry(key, part) VALUES (?1, 0)";

/// Each of these returns the row of the key, if it can.
fn by_statement(db: &Database, key: &str) -> Result<i64> {
    let done = db.execute(INSERT, [key])?;
    assert_eq!(done.rows_changed, 1);
    Ok(row_of(&done))
}

fn by_returning(db: &Database, key: &str) -> Result<i64> {
    let done = db.execute(format!("{INSERT} RETURNING key, rowid").as_str(), [key])?;
    assert_eq!(done.returned[0].get::<String>("key")?, key);
    assert_eq!(done.returned[0].get::<i64>("rowid")?, row_of(&done));
    Ok(row_of(&done))
}

fn row_of(done: &Executed) -> i64 {
    done.last_insert_rowid.unwrap()
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
        Query::new(sql, (key, part))
    };
    let owner = Query::new("INSERT INTO owner VALUES (?1)", [key]);
    let all: Vec<Query> = [owner].into_iter().chain((0..ROWS).map(part)).collect();
    let done = db.batch(all)?;
    assert!(done.iter().all(|one| one.rows_changed == 1), "{done:?}");
    Ok(0)
}

// ---- all writers -----------------------------------------------------------------

/// A database, and the processes that write to it.
struct Writers {
    peers: Vec<Peer>,
    started: usize,
    /// Whether some of them abort the transaction that their writes share, now and then.
    aborts: bool,
    timeout: Duration,
    db: Database,
    directory: tempfile::TempDir,
}

/// The number of threads and the way of the writers that are always there.
const WAYS: [(usize, &str); 6] = [
    (1, "plain"),
    (3, "plain"),
    (1, "plain"),
    (1, "closures"),
    (2, "plain"),
    (2, "aborts"),
];

impl Writers {
    fn new(timeout: Duration) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let db = open(&directory.path().join("x.db"), LONG_TIMEOUT).unwrap();
        // Nothing forbids that a key is there twice.
        for sql in [
            "CREATE TABLE owner(name TEXT PRIMARY KEY)",
            "INSERT INTO owner VALUES ('none')",
            "CREATE TABLE entry(key TEXT, part INTEGER, owner TEXT REFERENCES owner(name))",
        ] {
            db.execute(sql, ()).unwrap();
        }
        Self {
            peers: Vec::new(),
            started: 0,
            aborts: true,
            timeout,
            db,
            directory,
        }
    }

    fn path(&self) -> &Path {
        self.db.path()
    }

    /// Starts a writer; `fault`: a step, a signal and the how-manieth time.
    fn start(&mut self, (threads, way): (usize, &str), fault: Option<&str>) -> Peer {
        let args = [
            self.path().to_str().unwrap().to_owned(),
            format!("w{}", self.started),
            threads.to_string(),
            self.timeout.as_millis().to_string(),
            way.to_owned(),
        ];
        self.started += 1;
        let mut command = Peer::command("write", args);
        // Combining pays then, whatever the disk.
        command.env(commit_stats::ALL_EXPENSIVE, "1");
        if let Some(fault) = fault {
            command.env(failpoint::VARIABLE, fault);
        }
        Peer::spawn(command)
    }

    fn start_another(&mut self) {
        let (threads, way) = WAYS[self.started % WAYS.len()];
        let way = if self.aborts || way != "aborts" {
            way
        } else {
            "plain"
        };
        let peer = self.start((threads, way), None);
        self.peers.push(peer);
    }

    /// Returns the newest row; a reader blocks no writer.
    fn newest(&self) -> i64 {
        newest(&self.db)
    }

    fn assert_progress(&self) {
        let before = self.newest();
        wait::until("the others make progress", || self.newest() > before);
    }

    /// Returns a writer that holds the lock now, if one is seen to.
    fn holding(&self) -> Option<usize> {
        let pid = self.db.status().unwrap().holder?.pid?;
        self.peers.iter().position(|peer| peer.pid() == pid)
    }

    fn told(&self) -> Told {
        Told::read(self.directory.path())
    }

    /// Lets all writers end by themselves.
    fn finish(&mut self) {
        fs::write(self.path().with_file_name("over"), "").unwrap();
        for mut peer in self.peers.drain(..) {
            peer.expect("done");
            assert!(peer.wait().success());
        }
    }

    /// Returns how many transactions executed requests of other processes.
    fn batches(&self) -> i64 {
        let sql = "SELECT max(seq) - min(seq) AS n FROM _penholder_batch";
        patiently(|| self.db.query_scalar(sql, ()))
    }
}

fn newest(db: &Database) -> i64 {
    let sql = "SELECT coalesce(max(rowid), 0) AS n FROM entry";
    patiently(|| db.query_scalar(sql, ()))
}

fn random_below(bound: usize) -> usize {
    // Differs at each call, which is all that is asked of it.
    let value = RandomState::new().hash_one(bound) % bound as u64;
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
struct Told {
    /// Each with its row, or zero.
    acknowledged: HashMap<String, i64>,
    not_written: Vec<Failed>,
    /// Not written either, because a file was replaced.
    replaced: Vec<Failed>,
    /// Written, but the result is lost.
    written: Vec<Failed>,
    unknown: Vec<Failed>,
}

impl Told {
    fn read(directory: &Path) -> Self {
        let mut notes = Self::default();
        for entry in fs::read_dir(directory).unwrap().flatten() {
            let name = entry.file_name().into_string().unwrap();
            if name.starts_with("log-") {
                let text = fs::read_to_string(entry.path()).unwrap();
                let lines = text.split_inclusive('\n');
                lines.for_each(|line| notes.add(line));
            }
        }
        notes
    }

    fn add(&mut self, line: &str) {
        assert!(line.ends_with('\n'), "half a line: {line}");
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
            "~" => self.replaced.push(failed()),
            "=" => self.written.push(failed()),
            "?" => self.unknown.push(failed()),
            _ => panic!("a writer was told {line}"),
        }
    }

    /// Returns how often a writer was told of a success and of a failure.
    fn of(&self, name: &str) -> (usize, usize) {
        let is_its = |key: &str| key.starts_with(&format!("{name}-"));
        let failed = self.not_written.iter().chain(&self.unknown);
        let failed = failed.chain(&self.written).chain(&self.replaced);
        (
            self.acknowledged.keys().filter(|key| is_its(key)).count(),
            failed.filter(|one| is_its(&one.key)).count(),
        )
    }
}

/// Asserts that the database is intact and that each key is there once; returns the keys.
fn check(path: &Path, notes: &Told) -> HashSet<String> {
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
    for one in &notes.written {
        assert!(there.contains(&one.key), "said to be written: {one:?}");
    }
    for one in notes.not_written.iter().chain(&notes.replaced) {
        assert!(!there.contains(&one.key), "said not to be written: {one:?}");
    }
    there
}

// ---- kills -----------------------------------------------------------------------

/// What happens meanwhile, above all to the queue file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Meanwhile {
    /// Nothing; all writes of a batch are done.
    Nothing,
    /// Some writes abort the batch, so that it runs again.
    Aborts,
    /// It is overwritten with garbage.
    Damaged,
    /// An older one is written over it, and writers are stopped for a while.
    Restored,
    /// The same; it and `db.lock` are deleted too, and the database is replaced and restored.
    Storm,
}

impl Meanwhile {
    fn stops_writers(self) -> bool {
        matches!(self, Self::Restored | Self::Storm)
    }
}

/// Kills writers, at each step too.
fn run_storms(kills: usize, meanwhile: Meanwhile) {
    let mut died_at = HashMap::new();
    for _ in 0..STORMS {
        run_storm(kills / STORMS, meanwhile, &mut died_at);
    }
    for step in STEPS {
        let is_expected = step != "taken_back" || meanwhile == Meanwhile::Aborts;
        let has_died = died_at.get(step).is_some_and(|&times| times > 0);
        assert_eq!(has_died, is_expected, "died at {died_at:?}");
    }
}

/// Kills writers: half of them at a step, the others at random or while they hold the lock. Counts the
/// deaths at each step.
fn run_storm(kills: usize, meanwhile: Meanwhile, died_at: &mut HashMap<&str, usize>) {
    let timeout = if meanwhile.stops_writers() {
        SHORT_TIMEOUT
    } else {
        LONG_TIMEOUT
    };
    let mut writers = Writers::new(timeout);
    writers.aborts = meanwhile != Meanwhile::Nothing;
    (0..WAYS.len()).for_each(|_| writers.start_another());
    let queue_file = writers.path().with_file_name("db.lockq");
    let db = writers.db.clone();
    let (over, done) = (AtomicBool::new(false), Done::default());
    thread::scope(|scope| {
        // It ends with the scope, also if something fails.
        let _over = Over(&over);
        if meanwhile == Meanwhile::Damaged {
            scope.spawn(|| damage_until(&over, &queue_file));
        }
        if meanwhile.stops_writers() {
            for whole in [false, true] {
                let (over, queue_file, done) = (&over, &queue_file, &done);
                scope.spawn(move || restore_until(over, queue_file, whole, done));
            }
        }
        if meanwhile == Meanwhile::Storm {
            scope.spawn(|| replace_until(&over, &db, &done));
        }
        for kill in 0..kills {
            if meanwhile.stops_writers() {
                stop_one_for_a_moment(&writers);
            }
            if kill % 2 == 0 {
                // Only what aborts a batch makes it run again.
                let steps = || {
                    let all = STEPS.into_iter().chain([RARE_STEP]);
                    all.filter(|&step| step != "taken_back" || writers.aborts)
                };
                let step = steps().nth(kill / 2 % steps().count()).unwrap();
                let died = dies_at(&mut writers, step);
                *died_at.entry(step).or_default() += usize::from(died);
            } else {
                let seen = (0..50).find_map(|_| writers.holding());
                let victim = seen.unwrap_or_else(|| random_below(writers.peers.len()));
                writers.peers.swap_remove(victim).kill();
                writers.assert_progress();
                writers.start_another();
            }
        }
    });
    writers.finish();
    let notes = writers.told();
    let there = check(writers.path(), &notes);
    let batches = writers.batches();
    let counters = writers.db.status().unwrap().counters;
    eprintln!(
        "{meanwhile:?}: {kills} kills; {} acknowledged of {}, {} written without a result, {} unknown, {} timeouts, {} not written because of a replacement; {batches} batches for others, {} remote writes; {done:?}; died at {died_at:?}",
        notes.acknowledged.len(),
        there.len(),
        notes.written.len(),
        notes.unknown.len(),
        notes.not_written.len(),
        notes.replaced.len(),
        counters.combined_writes,
    );
    assert!(batches > 0, "nothing was combined");
    if matches!(meanwhile, Meanwhile::Nothing | Meanwhile::Aborts) {
        assert!(counters.combined_writes > 0, "{counters:?}");
        assert!(notes.unknown.is_empty(), "{:?}", notes.unknown);
        assert!(notes.not_written.is_empty(), "{:?}", notes.not_written);
        assert!(notes.replaced.is_empty(), "{:?}", notes.replaced);
    }
}

/// Starts a victim that dies at this step; returns whether it did. If it does not reach the
/// step, it is killed where it is.
fn dies_at(writers: &mut Writers, step: &str) -> bool {
    // Not one with closures: its writes are not delegated any more after the first.
    let (way, time) = match step {
        // After each batch that runs again, many run with savepoints at once.
        "taken_back" => ((3, "aborts"), 1),
        _ => (
            [(1, "plain"), (3, "plain")][random_below(2)],
            1 + random_below(8),
        ),
    };
    let fault = format!("{step} KILL {time}");
    let mut victim = writers.start(way, Some(&fault));
    let begun = Instant::now();
    while peer::is_alive(victim.pid()) && begun.elapsed() < VICTIM_LIMIT {
        thread::sleep(Duration::from_millis(2));
    }
    let died = !peer::is_alive(victim.pid());
    victim.kill();
    writers.assert_progress();
    died
}

struct Over<'a>(&'a AtomicBool);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// Returns how many kills `PENHOLDER_KILLS` asks for, but never fewer than each step needs.
fn kills(at_least: usize) -> usize {
    let asked = std::env::var("PENHOLDER_KILLS").ok();
    asked.map_or(0, |text| text.parse().unwrap()).max(at_least)
}

#[test]
fn combined_writes_survive_kills() {
    run_storms(kills(60), Meanwhile::Nothing);
}

#[test]
fn combined_writes_survive_kills_while_batches_run_again() {
    run_storms(kills(60), Meanwhile::Aborts);
}

/// Frees the name of a file, which other processes have open.
fn remove(path: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        return fs::remove_file(path);
    }
    fs::metadata(path)?;
    raw_file::remove(path);
    Ok(())
}

/// Gives a file the name of another one, which other processes have open.
fn replace(path: &Path, by: &Path) -> std::io::Result<()> {
    if cfg!(unix) {
        return fs::rename(by, path);
    }
    raw_file::replace(path, by);
    Ok(())
}

// ---- a queue file that is overwritten -----------------------------------------------------

fn damage_until(over: &AtomicBool, queue_file: &Path) {
    while !over.load(Ordering::Relaxed) {
        // No process has built it, or it was just deleted.
        let _ = damage(queue_file);
        thread::sleep(Duration::from_millis(2));
    }
}

/// Damages the queue file in a random way.
fn damage(path: &Path) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let slots = queue_file::slots(length);
    let random = || RandomState::new().hash_one(0);
    let below = |bound: u64| random() % bound;
    let used: Vec<u64> = (0..slots)
        .filter(|&slot| read_word(&file, mailbox(slot)).is_ok_and(|state| state != 0))
        .collect();
    let some_slot = || {
        let count = used.len() as u64;
        (count > 0).then(|| used[usize::try_from(below(count)).unwrap()])
    };
    let some = || some_slot().map(mailbox);
    let other = path.with_extension("other");
    match (below(200), some()) {
        (0, _) => remove(path),
        // The holder continues, and another process takes the lock of the new file.
        (199, _) => remove(&path.with_file_name("db.lock")),
        // A copy of this moment: its requests are in the old file too.
        (1..3, _) => {
            fs::copy(path, &other)?;
            replace(path, &other)
        }
        (3, _) => {
            let garbage: Vec<u8> = (0..length / 8)
                .flat_map(|_| random().to_ne_bytes())
                .collect();
            fs::write(&other, garbage)?;
            replace(path, &other)
        }
        (4..30, _) => write_at(
            &file,
            &random().to_ne_bytes(),
            below(queue_file::HEAD / 8) * 8,
        ),
        (30..40, _) => {
            let at = queue_file::record(below(slots)) + below(64) * 8;
            write_at(&file, &random().to_ne_bytes(), at)
        }
        (40..60, _) => write_at(&file, &[0xFF; 3], below(length - 3)),
        // No state, another state, another claim, another reply.
        (60..80, Some(at)) => write_at(&file, &[0; 8], at),
        (80..100, Some(at)) => write_at(&file, &random().to_ne_bytes(), at + below(16) * 8),
        (100..160, Some(at)) => {
            let at = at + below(13) * 8;
            let flipped = read_word(&file, at)? ^ 1 << below(64);
            write_at(&file, &flipped.to_ne_bytes(), at)
        }
        (160..180, Some(at)) => write_at(
            &file,
            &random().to_ne_bytes(),
            at + below(queue_file::MAILBOX / 8) * 8,
        ),
        // One request in two slots, both in the queue. Never back into its own slot, not even
        // by way of another: an older state of the same request is no random damage, and no
        // process could tell that it was executed.
        (_, _) => match some_slot() {
            Some(slot) if slot % 2 == 0 => {
                let mut copy = [0; 8192];
                read_at(&file, &mut copy, mailbox(slot))?;
                let slot = below(slots / 2) * 2 + 1;
                write_at(&file, &copy, mailbox(slot))?;
                put_in_queue(&file, slot)
            }
            _ => Ok(()),
        },
    }
}

fn read_word(queue_file: &File, at: u64) -> std::io::Result<u64> {
    let mut word = [0; 8];
    read_at(queue_file, &mut word, at)?;
    Ok(u64::from_ne_bytes(word))
}

#[test]
fn combined_writes_survive_a_damaged_queue_file() {
    run_storm(kills(24), Meanwhile::Damaged, &mut HashMap::new());
}

// ---- an older queue file, written over the live one ---------------------------------------

/// Copies the queue file, or the mailboxes in use, and writes the copy back in place a moment
/// later, again and again.
fn restore_until(over: &AtomicBool, path: &Path, whole: bool, done: &Done) {
    while !over.load(Ordering::Relaxed) {
        // If it fails, no process has built it yet.
        if restore(path, whole).is_ok() {
            done.queue_files_written_back.add();
        }
        thread::sleep(Duration::from_micros(random_below(15_000) as u64));
    }
}

fn restore(path: &Path, whole: bool) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let length = file.metadata()?.len();
    let pause = || thread::sleep(Duration::from_micros(random_below(20_000) as u64));
    if whole {
        let mut copy = vec![0; usize::try_from(length).unwrap()];
        read_at(&file, &mut copy, 0)?;
        pause();
        return write_at(&file, &copy, 0);
    }
    let mut copies = Vec::new();
    for slot in 0..queue_file::slots(length) {
        if read_word(&file, mailbox(slot))? != 0 {
            let mut copy = [0; 8192];
            read_at(&file, &mut copy, mailbox(slot))?;
            copies.push((slot, copy));
        }
    }
    pause();
    for (slot, copy) in copies {
        write_at(&file, &copy, mailbox(slot))?;
        put_in_queue(&file, slot)?;
    }
    Ok(())
}

/// Sets the bit of a waiter.
fn put_in_queue(file: &File, slot: u64) -> std::io::Result<()> {
    let line = queue_file::QUEUE + slot / 64 * 8;
    let waiting = read_word(file, line)? | 1 << (slot % 64);
    write_at(file, &waiting.to_ne_bytes(), line)
}

// ---- a database that is replaced ------------------------------------------------------------

/// What was done to the files, and how often.
#[derive(Debug, Default)]
struct Done {
    queue_files_written_back: Count,
    queue_files_replaced: Count,
    queue_files_deleted: Count,
    lock_files_deleted: Count,
    databases_replaced: Count,
    databases_replaced_beside_their_wal: Count,
    contents_restored: Count,
    restores_killed: Count,
}

#[derive(Default)]
struct Count(AtomicUsize);

impl Count {
    fn add(&self) {
        self.0.fetch_add(1, Ordering::Relaxed);
    }

    fn get(&self) -> usize {
        self.0.load(Ordering::Relaxed)
    }
}

impl fmt::Debug for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.get())
    }
}

/// Replaces the database and the files of the lock, again and again.
fn replace_until(over: &AtomicBool, db: &Database, done: &Done) {
    let queue_file = db.path().with_file_name("db.lockq");
    while !over.load(Ordering::Relaxed) {
        match random_below(20) {
            0 => delete_lock_file(db, done),
            1..3 if remove(&queue_file).is_ok() => done.queue_files_deleted.add(),
            3..5 => replace_queue_file(&queue_file, done),
            // On Windows nothing takes the place of a file that SQLite has open.
            5..15 if cfg!(windows) => {}
            5..8 => replace_database(db, true, done),
            8..15 => replace_database(db, false, done),
            15..17 => restore_content(db, done),
            _ => {}
        }
        thread::sleep(Duration::from_millis(random_below(60) as u64));
    }
}

/// Deletes `db.lock`, and waits until no process holds the former one: for so long there are two
/// holders, and a database is not replaced politely.
fn delete_lock_file(db: &Database, done: &Done) {
    let path = db.path().with_file_name("db.lock");
    // There is none until a process has acquired the lock again.
    let Ok(former) = File::open(&path) else {
        return;
    };
    remove(&path).unwrap();
    wait::until("the former db.lock is free", || former.try_lock().is_ok());
    done.lock_files_deleted.add();
}

/// Moves a copy of this moment over the queue file.
fn replace_queue_file(queue_file: &Path, done: &Done) {
    let copy = queue_file.with_extension("copy");
    let copied = fs::copy(queue_file, &copy).and_then(|_| replace(queue_file, &copy));
    if copied.is_ok() {
        done.queue_files_replaced.add();
    }
}

fn locker(db: &Database) -> WriteLocker {
    OpenOptions::new().locker(db.path()).unwrap()
}

/// The path of a copy, where there is none yet.
fn path_of_copy(database: &Path) -> PathBuf {
    let copy = database.with_file_name("copy.db");
    for suffix in ["", "-wal", "-shm", "-journal"] {
        let _ = fs::remove_file(with_suffix(&copy, suffix));
    }
    copy
}

/// Moves a copy over the database, under the write lock: it has all that was acknowledged.
fn replace_database(db: &Database, leaves_wal: bool, done: &Done) {
    let guard = locker(db).acquire(LONG_TIMEOUT).unwrap();
    let copy = path_of_copy(db.path());
    match db.backup_to(&copy) {
        Ok(()) => {
            if leaves_wal {
                done.databases_replaced_beside_their_wal.add();
            } else {
                // They are missing if no process has opened the database since the last time.
                let _ = remove(&with_suffix(db.path(), "-wal"));
                let _ = remove(&with_suffix(db.path(), "-shm"));
            }
            raw_file::replace(db.path(), &copy);
            done.databases_replaced.add();
        }
        Err(error) => assert!(is_replaced(&error), "{error}"),
    }
    guard.release().unwrap();
    // This process must not keep others out with the former files.
    newest(db);
}

/// Restores what is there, in another process that works under this one's hold and may be killed.
fn restore_content(db: &Database, done: &Done) {
    let guard = locker(db).acquire(LONG_TIMEOUT).unwrap();
    let mut command = Peer::command("restore", [db.path()]);
    guard.lend_to(&mut command);
    let mut peer = Peer::spawn(command);
    if random_below(2) == 0 {
        thread::sleep(Duration::from_millis(random_below(60) as u64));
        peer.kill();
        done.restores_killed.add();
    } else {
        peer.expect("restored");
        done.contents_restored.add();
    }
    guard.release().unwrap();
}

fn restore_what_is_there(args: &[OsString]) {
    let path = Path::new(&args[0]);
    let db = patiently(|| open(path, LONG_TIMEOUT));
    let copy = path_of_copy(path);
    db.backup_to(&copy).unwrap();
    db.restore_from(&copy).unwrap();
    peer::send("restored");
}

#[test]
fn nothing_is_lost_in_a_storm() {
    run_storm(kills(24), Meanwhile::Storm, &mut HashMap::new());
}

/// Without the write lock, at any moment of six processes that write. What is only in a deleted
/// WAL is saved by the next session of a process that has it open; so none may be killed here.
#[cfg(unix)]
#[test]
fn nothing_is_lost_if_the_wal_is_deleted_again_and_again() {
    let mut writers = Writers::new(LONG_TIMEOUT);
    (0..WAYS.len()).for_each(|_| writers.start_another());
    writers.assert_progress();
    let rounds = kills(24);
    for _ in 0..rounds {
        thread::sleep(Duration::from_micros(random_below(60_000) as u64));
        let suffixes = [
            &["-wal"][..],
            &["-shm"],
            &["-wal", "-shm"],
            &["-shm", "-wal"],
        ];
        for suffix in suffixes[random_below(suffixes.len())] {
            // No process may have made another yet.
            let _ = remove(&with_suffix(writers.path(), suffix));
        }
        writers.assert_progress();
    }
    writers.finish();
    let notes = writers.told();
    let there = check(writers.path(), &notes);
    eprintln!(
        "{rounds} deletions; {} acknowledged of {}, {} not written because of them, {} unknown",
        notes.acknowledged.len(),
        there.len(),
        notes.replaced.len(),
        notes.unknown.len(),
    );
    assert!(notes.not_written.is_empty(), "{:?}", notes.not_written);
    assert!(!notes.replaced.is_empty(), "no writer noticed");
}

// ---- replies that are damaged ---------------------------------------------------------------

/// The checksum of the reply, in a mailbox.
const REPLY_SUM: u64 = 12 * 8;

/// Flips bits in the checksums of replies, faster than their owners read them.
fn damage_replies(path: &Path, time: Duration) -> std::io::Result<()> {
    let file = fs::OpenOptions::new().read(true).write(true).open(path)?;
    let slots = queue_file::slots(file.metadata()?.len());
    let begun = Instant::now();
    while begun.elapsed() < time {
        let used: Vec<u64> = (0..slots)
            .map(mailbox)
            .filter(|&at| read_word(&file, at + 8).is_ok_and(|id| id != 0))
            .collect();
        for _ in 0..500 {
            let at = used.get(random_below(used.len().max(1))).copied();
            if let Some(at) = at {
                let flipped = read_word(&file, at + REPLY_SUM)? ^ 1 << random_below(64);
                write_at(&file, &flipped.to_ne_bytes(), at + REPLY_SUM)?;
            }
        }
    }
    Ok(())
}

/// A request has several writes. If its reply is lost, each owner is told what became of its own:
/// one that violated a constraint is not told that it was written.
#[test]
fn each_owner_is_told_the_truth_if_replies_are_damaged() {
    let mut writers = Writers::new(LONG_TIMEOUT);
    for _ in 0..4 {
        let peer = writers.start((4, "violates"), None);
        writers.peers.push(peer);
    }
    writers.assert_progress();
    let queue_file = writers.path().with_file_name("db.lockq");
    damage_replies(&queue_file, Duration::from_secs(3)).unwrap();
    writers.finish();
    let notes = writers.told();
    check(writers.path(), &notes);
    eprintln!(
        "{} acknowledged, {} written without a result, {} unknown",
        notes.acknowledged.len(),
        notes.written.len(),
        notes.unknown.len()
    );
    assert!(!notes.written.is_empty(), "no reply was damaged in time");
    assert!(notes.unknown.is_empty(), "{:?}", notes.unknown);
}

/// Stops a writer, and continues it later than others wait, or sooner.
fn stop_one_for_a_moment(writers: &Writers) {
    let peer = &writers.peers[random_below(writers.peers.len())];
    peer.signal("STOP");
    thread::sleep(Duration::from_millis(random_below(100) as u64));
    peer.signal("CONT");
}

#[test]
fn nothing_is_written_twice_if_an_older_queue_file_is_written_over_it() {
    run_storm(kills(24), Meanwhile::Restored, &mut HashMap::new());
}

// ---- a stopped combiner -------------------------------------------------------------

/// How a stop ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Ending {
    Cont,
    Kill,
}

/// The owners of its requests time out in time, the error names the combiner, and what they are
/// told is true.
fn stop_at(step: &str, ending: Ending) {
    eprintln!("stopped at {step}, then {ending:?}");
    let mut writers = Writers::new(SHORT_TIMEOUT);
    let others: Vec<String> = (0..4).map(|n| format!("w{n}")).collect();
    for way in [(1, "plain"), (2, "plain"), (1, "plain"), (1, "plain")] {
        let peer = writers.start(way, None);
        writers.peers.push(peer);
    }
    writers.assert_progress();
    let fault = format!("{step} STOP {}", 3 + random_below(6));
    let mut victim = writers.start((1, "plain"), Some(&fault));
    wait::until("it is stopped", || victim.has_stopped());
    wait::until("all others are told", || {
        let notes = writers.told();
        others.iter().all(|name| notes.of(name).1 > 0)
    });
    let told = writers.told();
    for one in told.not_written.iter().chain(&told.unknown) {
        assert!(
            one.took >= SHORT_TIMEOUT / 2 && one.took < SHORT_TIMEOUT + LATE,
            "{one:?}"
        );
        assert_eq!(one.holder, victim.pid(), "{one:?}");
    }
    assert!(
        !told.unknown.is_empty() || step == "half_acknowledged",
        "no request was claimed"
    );
    check(writers.path(), &told);
    match ending {
        Ending::Cont => {
            victim.signal("CONT");
            let before = told.of("w4").0;
            wait::until("it continues", || writers.told().of("w4").0 > before + 2);
            writers.peers.push(victim);
        }
        Ending::Kill => victim.kill(),
    }
    let before = writers.told();
    wait::until("the others make progress", || {
        let now = writers.told();
        let makes_progress = |name: &String| now.of(name).0 > before.of(name).0 + 2;
        others.iter().all(makes_progress)
    });
    writers.finish();
    let notes = writers.told();
    let there = check(writers.path(), &notes);
    // A write of the transaction has the same outcome.
    let is_rolled_back =
        ending == Ending::Kill && ["requests_claimed", "executed", "before_commit"].contains(&step);
    for one in &told.unknown {
        assert_ne!(there.contains(&one.key), is_rolled_back, "{one:?}");
    }
}

#[test]
fn owners_are_told_about_a_combiner_that_is_stopped_before_its_commit() {
    for step in ["requests_claimed", "executed", "before_commit"] {
        stop_at(step, Ending::Cont);
        stop_at(step, Ending::Kill);
    }
}

#[test]
fn owners_are_told_about_a_combiner_that_is_stopped_after_its_commit() {
    for step in ["committed", "half_acknowledged"] {
        stop_at(step, Ending::Cont);
        stop_at(step, Ending::Kill);
    }
}
