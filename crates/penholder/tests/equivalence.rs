//! Writes carried out by another process: the same results, errors and rows as at
//! home, or they are run at home.
//!
//! A peer that holds the lock next finds the writes of other peers waiting, and is
//! told that commits are dear: so it carries whatever it may.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::io::BufRead;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use penholder::rusqlite::functions::FunctionFlags;
use penholder::{Database, Executed, Result, Synchronous, rusqlite};
use penholder_core::{Canceller, Deadline, Guard, Locker, Offer, Outcome};
use penholder_testkit::database_fixture::DatabaseFixture;
use penholder_testkit::peer::Peer;
use penholder_testkit::{database_fixture, peer, plain_sqlite, requirement, wait};

const SCHEMA: [&str; 11] = [
    "CREATE TABLE item(id INTEGER PRIMARY KEY, name UNIQUE, size CHECK (size < 100))",
    "CREATE TABLE part(id INTEGER PRIMARY KEY, item REFERENCES item(id), \
     late REFERENCES item(id) DEFERRABLE INITIALLY DEFERRED)",
    "CREATE TABLE pair(a, b, PRIMARY KEY (a, b)) WITHOUT ROWID",
    "CREATE TABLE log(id INTEGER PRIMARY KEY, text)",
    "CREATE TABLE company(a)",
    "CREATE TABLE shadowed(a)",
    "INSERT INTO log VALUES (1000000, 'first')",
    "CREATE TRIGGER told AFTER INSERT ON item BEGIN INSERT INTO log(text) VALUES (new.name); END",
    "CREATE TRIGGER again AFTER INSERT ON pair WHEN new.a < 3 BEGIN \
     INSERT INTO pair VALUES (new.a + 1, new.b); END",
    "CREATE TABLE origin(a, item DEFAULT (last_insert_rowid()))",
    "INSERT INTO item VALUES (1, 'one', 1), (2, 'two', 2)",
];

#[test]
fn peer() {
    peer::run_role(&[("write", write), ("offer", offer)]);
}

/// Role: does what it is told, line by line, on one `Database`.
fn write(args: &[OsString]) {
    let [path, synchronous] = peer::text_args(args)[..] else {
        panic!("path and FULL or NORMAL");
    };
    let synchronous = match synchronous {
        "FULL" => Synchronous::Full,
        _ => Synchronous::Normal,
    };
    let options = database_fixture::options().synchronous(synchronous);
    let db = options.open(path).unwrap();
    db.execute("INSERT INTO company VALUES (0)", ()).unwrap();
    peer::send("warm");
    for line in std::io::stdin()
        .lock()
        .lines()
        .map_while(std::result::Result::ok)
    {
        let (verb, rest) = line.split_once(' ').unwrap();
        match verb {
            "execute" => peer::send(&outcome(db.execute(rest, ()).map(|done| vec![done]))),
            "batch" => peer::send(&outcome(db.batch(rest.split(";;")))),
            "closure" => peer::send(&outcome(closure(&db, rest))),
            _ => panic!("{line}"),
        }
    }
}

/// Changes the connection in a way that plain data cannot.
fn closure(db: &Database, what: &str) -> Result<Vec<Executed>> {
    db.with_write_lock(|connection| {
        match what {
            "function" => {
                let flags = FunctionFlags::SQLITE_UTF8;
                connection.create_scalar_function("mine", 0, flags, |_| Ok(7))?;
            }
            sql => connection.execute_batch(sql)?,
        }
        Ok(Vec::new())
    })
}

fn outcome(done: Result<Vec<Executed>>) -> String {
    match done {
        Ok(done) => format!("{done:?}"),
        Err(error) => match error.sqlite_error() {
            Some(rusqlite::Error::SqliteFailure(code, text)) => {
                format!("{} {text:?}", code.extended_code)
            }
            other => format!("{other:?}").replace('\n', " "),
        },
    }
}

/// Role: leaves a request as no `Database` would, and says what became of it.
fn offer(args: &[OsString]) {
    let [directory, kind] = peer::text_args(args)[..] else {
        panic!("directory and kind");
    };
    let locker = Locker::in_directory(Path::new(directory)).unwrap();
    peer::send("warm");
    for sql in std::io::stdin()
        .lock()
        .lines()
        .map_while(std::result::Result::ok)
    {
        let bytes = request(&sql);
        let offer = Offer {
            fingerprint: kind.parse().unwrap(),
            bytes: &bytes,
            on_left: &|_, _| (),
        };
        let (deadline, canceller) = (
            Deadline::after(database_fixture::LONG_TIMEOUT),
            Canceller::default(),
        );
        let waited = locker.acquire_with_request(&deadline, &canceller, Some(&offer));
        let had_lock = waited.lock.unwrap().is_some();
        peer::send(match waited.outcome {
            Outcome::Untouched if had_lock => "home",
            Outcome::Done { .. } => "done",
            _ => "else",
        });
    }
}

/// One statement without parameters, as it travels.
fn request(sql: &str) -> Vec<u8> {
    let length = |length: usize| u32::try_from(length).unwrap().to_le_bytes();
    let mut bytes = vec![1, 0];
    bytes.extend(length(1));
    bytes.extend(length(sql.len()));
    bytes.extend(sql.as_bytes());
    bytes.extend(length(0));
    bytes
}

/// The kind of the request with this SQL, as it stands in the page: some words
/// before it.
/// The kind of a request that stands in the page, which is bound to page and slot.
fn kind_of_request(fixture: &DatabaseFixture, sql: &str) -> u64 {
    use std::os::unix::fs::MetadataExt;

    /// Where the mailboxes begin, and how long each is.
    const MAILBOXES: [usize; 2] = [PAGE_LENGTH - 512 * 8192, 8192];
    const PAGE_LENGTH: usize = 4_460_544;

    let path = fixture.join("db.lockq");
    let page = fs::read(&path).unwrap();
    assert_eq!(page.len(), PAGE_LENGTH, "the layout of this test");
    let is_sql = |at: &usize| page[*at..].starts_with(sql.as_bytes());
    let at = (0..page.len()).find(is_sql).unwrap();
    // The request begins ten bytes before, eleven words after its kind.
    let kind = at - 10 - 11 * 8;
    let bound = u64::from_le_bytes(page[kind..kind + 8].try_into().unwrap());
    let slot = (kind - MAILBOXES[0]) / MAILBOXES[1];
    let file = path.metadata().unwrap();
    let born = file.created().map_or(0, |born| {
        let since = born.duration_since(std::time::UNIX_EPOCH).unwrap();
        u64::try_from(since.as_nanos()).unwrap()
    });
    let place = [file.dev(), file.ino(), born, slot as u64];
    let undo = |bound: u64, word: &u64| (unmixed(bound) ^ word).rotate_right(23);
    place.iter().rev().fold(bound, undo)
}

/// What `mix` of the lock's mailboxes was given.
fn unmixed(mut word: u64) -> u64 {
    let unshift = |word: u64, by: u32| {
        let mut found = word;
        for _ in 0..64 / by {
            found = word ^ found >> by;
        }
        found
    };
    // The factors' inverses modulo 2^64.
    word = unshift(word, 31).wrapping_mul(0x3196_42b2_d24d_8ec3);
    word = unshift(word, 27).wrapping_mul(0x96de_1b17_3f11_9089);
    unshift(word, 30).wrapping_sub(0x9e37_79b9_7f4a_7c15)
}

/// A database, and a process that carries the writes of others.
struct Stage {
    fixture: DatabaseFixture,
    db: Database,
    locker: Locker,
    carrier: Peer,
}

fn writer_as(
    fixture: &DatabaseFixture,
    synchronous: &str,
    change: impl FnOnce(&mut std::process::Command),
) -> Peer {
    let path = fixture.path().to_str().unwrap().to_owned();
    let mut command = Peer::command("write", [path, synchronous.to_owned()]);
    change(&mut command);
    let peer = Peer::spawn(command);
    peer.expect("warm");
    peer
}

fn database(fixture: &DatabaseFixture) -> Database {
    let db = database_fixture::open(&fixture.path());
    db.batch(SCHEMA).unwrap();
    db
}

impl Stage {
    fn new() -> Self {
        Self::on(DatabaseFixture::new())
    }

    fn on(fixture: DatabaseFixture) -> Self {
        let db = database(&fixture);
        let carrier = writer_as(&fixture, "FULL", |_| ());
        let locker = Locker::in_directory(&fixture.directory()).unwrap();
        Self {
            fixture,
            db,
            locker,
            carrier,
        }
    }

    fn writer(&self) -> Peer {
        writer_as(&self.fixture, "FULL", |_| ())
    }

    fn carried(&self) -> u64 {
        self.db.status().unwrap().counters.carried
    }

    fn hold(&self) -> Guard {
        self.locker.acquire(database_fixture::LONG_TIMEOUT).unwrap()
    }

    /// Until so many wait and, if they can, have left their requests.
    fn until_waiting(&self, guard: &Guard, waiting: usize) {
        wait::until("all wait", || guard.count_waiters() == waiting);
        let begun = Instant::now();
        while guard.count_requests() < waiting && begun.elapsed() < Duration::from_millis(15) {
            thread::sleep(Duration::from_micros(200));
        }
    }

    /// Everybody waits, the carrier first; then it gets the lock. Returns what it
    /// carried.
    fn round(&mut self, others: &mut [(&mut Peer, String)]) -> u64 {
        let before = self.carried();
        let guard = self.hold();
        self.carrier.send("execute INSERT INTO company VALUES (1)");
        wait::until("the carrier waits", || guard.count_waiters() == 1);
        for (place, (other, line)) in others.iter_mut().enumerate() {
            other.send(line);
            self.until_waiting(&guard, place + 2);
        }
        for _ in 0..50 {
            let stats = guard.commit_stats().unwrap();
            stats.note(Duration::from_millis(2), others.len() + 1);
        }
        guard.release().unwrap();
        let line = self.carrier.read_line();
        assert!(line.contains("rows_changed: 1"), "{line}");
        self.carried() - before
    }

    /// One other, and what it was told.
    fn one(&mut self, other: &mut Peer, line: &str) -> (String, u64) {
        let carried = self.round(&mut [(other, line.to_owned())]);
        (other.read_line(), carried)
    }
}

/// At home in a database of its own.
struct Home {
    _site: DatabaseFixture,
    db: Database,
}

impl Home {
    fn new() -> Self {
        let fixture = DatabaseFixture::new();
        let db = database(&fixture);
        Self { _site: fixture, db }
    }

    fn run(&self, line: &str) -> String {
        let (verb, rest) = line.split_once(' ').unwrap();
        outcome(match verb {
            "batch" => self.db.batch(rest.split(";;")),
            _ => self.db.execute(rest, ()).map(|done| vec![done]),
        })
    }
}

fn content(db: &Database) -> Vec<Vec<penholder::Value>> {
    ["item", "part", "pair", "log", "origin"]
        .iter()
        .flat_map(|table| db.query(&format!("SELECT * FROM {table}"), ()).unwrap())
        .collect()
}

#[test]
fn results_and_errors_are_as_at_home() {
    let mut stage = Stage::new();
    let home = Home::new();
    let mut other = stage.writer();
    let lines = [
        ("execute INSERT INTO item(name) VALUES ('a')", 1),
        ("execute INSERT INTO item(name) VALUES ('a')", 1),
        ("execute INSERT OR IGNORE INTO item(name) VALUES ('a')", 1),
        (
            "execute INSERT OR REPLACE INTO item(name, size) VALUES ('a', 5)",
            1,
        ),
        ("execute INSERT OR ROLLBACK INTO item(name) VALUES ('a')", 0),
        (
            "execute INSERT OR FAIL INTO item(name) VALUES ('b'), ('c'), ('b')",
            0,
        ),
        (
            "execute INSERT INTO item(name) VALUES ('a') ON CONFLICT DO UPDATE SET size = 9",
            1,
        ),
        ("execute UPDATE item SET size = 100", 1),
        ("execute INSERT INTO pair VALUES (1, 2)", 1),
        ("execute INSERT INTO pair VALUES (NULL, 2)", 1),
        ("execute INSERT INTO part(item) VALUES (77)", 1),
        ("execute INSERT INTO part(late) VALUES (77)", 0),
        ("execute INSERT INTO item(id) VALUES ('text')", 0),
        (
            "execute INSERT INTO log(text) VALUES (zeroblob(500000000000))",
            0,
        ),
        ("execute INSERT INTO missing VALUES (1)", 0),
        ("execute INSERT INTO log(text) VALUES (?1)", 0),
        ("execute INSERT INTO log(text) VALUES (1); -- end", 1),
        (
            "execute INSERT INTO log(text) VALUES (1); DELETE FROM log",
            0,
        ),
        ("execute /* first */ INSERT INTO log(text) VALUES (1)", 1),
        (
            "execute DELETE FROM log WHERE id > 1000001 RETURNING id, text AS t, 7",
            1,
        ),
        (
            "execute UPDATE item SET size = 1 RETURNING hex(zeroblob(4000))",
            0,
        ),
        (
            "execute WITH n(i) AS (VALUES (8), (9)) INSERT INTO log(text) SELECT i FROM n",
            1,
        ),
        (
            "batch INSERT INTO item(name) VALUES ('x');;UPDATE item SET size = 3 RETURNING id",
            1,
        ),
        (
            "batch INSERT INTO item(name) VALUES ('y');;INSERT INTO item(name) VALUES ('x')",
            1,
        ),
        (
            "batch INSERT INTO item(name) VALUES ('y');;INSERT INTO origin(a) VALUES (1)",
            0,
        ),
        (
            "batch INSERT INTO part(late) VALUES (50);;INSERT INTO item(id) VALUES (50)",
            1,
        ),
    ];
    // What may be carried runs at home on a machine too loaded to do it in time.
    let (mut might, mut were) = (0, 0);
    for (line, carried) in lines {
        let (there, was_carried) = stage.one(&mut other, line);
        assert_eq!(there, home.run(line), "{line}");
        assert!(was_carried <= carried, "{line}: {there}");
        might += carried;
        were += was_carried;
    }
    assert!(were * 4 >= might * 3, "{were} of {might}");
    assert_eq!(content(&stage.db), content(&home.db));
    plain_sqlite::assert_integrity(&stage.fixture.path());
}

/// Some hundred, made by chance, by three at once.
#[test]
fn many_statements_are_as_at_home() {
    let mut stage = Stage::new();
    let home = Home::new();
    let mut others = [stage.writer(), stage.writer(), stage.writer()];
    let mut seed = std::env::var("PENHOLDER_SEED").map_or(1_u64, |seed| seed.parse().unwrap());
    let first = seed;
    let mut below = |end: u64| {
        seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (seed >> 33) % end
    };
    let mut carried = 0;
    for round in 0..100 {
        let mut lines = Vec::new();
        for _ in 0..3 {
            let conflict = ["", "", "OR IGNORE", "OR REPLACE", "OR ABORT"];
            let conflict = conflict[usize::try_from(below(5)).unwrap()];
            let (a, b) = (below(12), below(110));
            lines.push(match below(8) {
                0 | 1 => format!("execute INSERT {conflict} INTO item(name, size) VALUES ({a}, {b})"),
                2 => format!("execute UPDATE {conflict} item SET name = {a} WHERE id < {b} RETURNING *"),
                3 => format!("execute DELETE FROM item WHERE id = {a} RETURNING name, size + 1"),
                4 => format!("execute INSERT {conflict} INTO part(item) VALUES ({a})"),
                5 => format!("execute INSERT {conflict} INTO pair VALUES ({a}, {b})"),
                6 => format!(
                    "batch INSERT INTO item(name) VALUES ({a});;UPDATE item SET size = {b} WHERE id = {a}"
                ),
                _ => format!("execute INSERT INTO item(id, name) VALUES ({a}, 'n{b}') RETURNING id"),
            });
        }
        let [a, b, c] = &mut others;
        let mut all = [a, b, c].into_iter().zip(lines.clone()).collect::<Vec<_>>();
        carried += stage.round(&mut all);
        for ((other, _), line) in all.iter().zip(&lines) {
            let context = format!("seed {first}, round {round}: {lines:?}");
            assert_eq!(other.read_line(), home.run(line), "{line}, {context}");
        }
    }
    assert!(carried > 250, "{carried}");
    assert_eq!(content(&stage.db), content(&home.db), "seed {first}");
}

/// What a closure or a statement made of the connection stays in force.
#[test]
fn what_means_something_else_stays_home() {
    let mut stage = Stage::new();
    let cases = [
        (
            "closure PRAGMA foreign_keys = 0",
            "INSERT INTO part(item) VALUES (77)",
            "rows_changed: 1",
        ),
        (
            "closure PRAGMA recursive_triggers = 1",
            "INSERT INTO pair VALUES (0, 5) RETURNING (SELECT 7)",
            "rows_changed: 1",
        ),
        (
            "closure PRAGMA ignore_check_constraints = 1",
            "UPDATE item SET size = 200 WHERE id = 1",
            "rows_changed: 1",
        ),
        (
            "closure PRAGMA case_sensitive_like = 1",
            "UPDATE item SET size = 1 WHERE name LIKE 'ONE'",
            "rows_changed: 0",
        ),
        (
            "execute PRAGMA recursive_triggers = 1",
            "INSERT INTO pair VALUES (0, 6)",
            "rows_changed: 1",
        ),
        (
            "closure function",
            "INSERT INTO log(text) VALUES (mine()) RETURNING text",
            "Integer(7)",
        ),
        (
            "closure ATTACH ':memory:' AS other; CREATE TABLE other.away(a)",
            "INSERT INTO away VALUES (1)",
            "rows_changed: 1",
        ),
        (
            "closure CREATE TEMP TABLE shadowed(a)",
            "INSERT INTO shadowed VALUES (1)",
            "rows_changed: 1",
        ),
        (
            "execute CREATE TEMP TABLE shadowed(a)",
            "INSERT INTO shadowed VALUES (1)",
            "rows_changed: 1",
        ),
        (
            "batch CREATE TEMP TABLE shadowed(a);;INSERT INTO shadowed VALUES (0)",
            "INSERT INTO shadowed VALUES (1)",
            "rows_changed: 1",
        ),
        (
            "execute CREATE TEMP TRIGGER t AFTER INSERT ON log BEGIN SELECT RAISE(ABORT, 'mine'); END",
            "INSERT INTO log(text) VALUES (1)",
            "mine",
        ),
    ];
    for (before, sql, wanted) in cases {
        let mut other = stage.writer();
        other.send(before);
        let line = other.read_line();
        assert!(line.starts_with('['), "{before}: {line}");
        let (there, carried) = stage.one(&mut other, &format!("execute {sql}"));
        assert!(there.contains(wanted), "{before}: {there}");
        assert_eq!(carried, 0, "{before}");
    }
    for depth in [5, 6] {
        let sql = format!("SELECT count(*) FROM pair WHERE b = {depth}");
        assert_eq!(
            database_fixture::number(&stage.db, &sql),
            4,
            "recursive triggers"
        );
    }
    assert_eq!(
        database_fixture::number(&stage.db, "SELECT count(*) FROM shadowed"),
        0
    );
}

/// A closure that leaves nothing behind, as a migration at the start, costs nobody the
/// company of others for ever.
#[test]
fn a_closure_that_leaves_nothing_behind_is_forgiven() {
    let mut stage = Stage::new();
    let mut other = stage.writer();
    other.send("closure CREATE TABLE made(a); INSERT INTO made VALUES (1)");
    other.read_line();
    let line = "execute INSERT INTO log(text) VALUES (1)";
    wait::until("it is carried", || stage.one(&mut other, line).1 == 1);
    // One that does leave something stays home.
    other.send("closure CREATE TEMP TABLE shadowed(a)");
    other.read_line();
    for _ in 0..20 {
        let (_, carried) = stage.one(&mut other, "execute INSERT INTO shadowed VALUES (1)");
        assert_eq!(carried, 0);
    }
    assert_eq!(
        database_fixture::number(&stage.db, "SELECT count(*) FROM shadowed"),
        0
    );
}

/// Whoever carries does so on a connection that no closure has seen.
#[test]
fn what_the_carrier_made_of_its_connection_changes_nothing() {
    let mut stage = Stage::new();
    let mut other = stage.writer();
    for change in [
        "closure PRAGMA foreign_keys = 0",
        "closure PRAGMA ignore_check_constraints = 1",
        "closure CREATE TEMP TABLE shadowed(a)",
        "execute CREATE TEMP TRIGGER t AFTER INSERT ON log BEGIN SELECT RAISE(ABORT, 'mine'); END",
    ] {
        stage.carrier.send(change);
        stage.carrier.read_line();
    }
    let home = Home::new();
    for line in [
        "execute INSERT INTO part(item) VALUES (77)",
        "execute UPDATE item SET size = 200",
        "execute INSERT INTO shadowed VALUES (1)",
        "execute INSERT INTO log(text) VALUES (1)",
    ] {
        let (there, carried) = stage.one(&mut other, line);
        assert_eq!((there, carried), (home.run(line), 1), "{line}");
    }
    assert_eq!(
        database_fixture::number(&stage.db, "SELECT count(*) FROM shadowed"),
        1
    );
}

#[test]
fn other_zones_and_durabilities_are_not_carried() {
    let mut stage = Stage::new();
    let sql = "execute INSERT INTO log(text) VALUES (datetime(0, 'unixepoch', 'localtime')) RETURNING text";
    let mut east = writer_as(&stage.fixture, "FULL", |command| {
        command.env("TZ", "EAST-9");
    });
    let (there, carried) = stage.one(&mut east, sql);
    assert!(there.contains("1970-01-01 09:00:00"), "{there}");
    assert_eq!(carried, 0);
    let mut normal = writer_as(&stage.fixture, "NORMAL", |_| ());
    let line = "execute INSERT INTO log(text) VALUES (1)";
    assert_eq!(stage.one(&mut normal, line).1, 0);
    let mut full = stage.writer();
    assert_eq!(stage.one(&mut full, line).1, 1, "the same as the carrier");
}

#[test]
fn nobody_is_carried_where_others_may_write_the_page() {
    let fixture = DatabaseFixture::new();
    fs::write(fixture.path(), "").unwrap();
    fs::set_permissions(fixture.path(), fs::Permissions::from_mode(0o666)).unwrap();
    let mut stage = Stage::on(fixture);
    let mut other = stage.writer();
    let (there, carried) = stage.one(&mut other, "execute INSERT INTO log(text) VALUES (1)");
    assert!(there.contains("rows_changed: 1"), "{there}");
    assert_eq!(carried, 0);
}

#[test]
fn users_do_not_carry_each_other() {
    if !requirement::is_root() {
        return;
    }
    let fixture = DatabaseFixture::new();
    for directory in [
        fixture.directory(),
        fixture.directory().parent().unwrap().to_owned(),
    ] {
        if fs::metadata(&directory).unwrap().permissions().mode() & 0o1000 == 0 {
            fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        }
    }
    fs::write(fixture.path(), "").unwrap();
    std::os::unix::fs::chown(fixture.path(), Some(61_001), None).unwrap();
    let mut stage = Stage::on(fixture);
    let mut ann = writer_as(&stage.fixture, "FULL", |command| {
        command.uid(61_001);
    });
    let (there, carried) = stage.one(&mut ann, "execute INSERT INTO log(text) VALUES (1)");
    assert!(there.contains("rows_changed: 1"), "{there}");
    assert_eq!(carried, 0, "root does not carry the user of the file");
}

#[test]
fn more_than_rows_is_refused_from_anybody() {
    let mut stage = Stage::new();
    let mut other = stage.writer();
    let guard = stage.hold();
    let marked = "INSERT INTO log(text) VALUES ('marked')";
    other.send(&format!("execute {marked}"));
    stage.until_waiting(&guard, 1);
    let kind = kind_of_request(&stage.fixture, marked);
    guard.release().unwrap();
    other.read_line();
    let fake = |kind: u64| {
        let directory = stage.fixture.directory().to_str().unwrap().to_owned();
        let peer = Peer::start("offer", [directory, kind.to_string()]);
        peer.expect("warm");
        peer
    };
    let (mut same, mut different) = (fake(kind), fake(kind ^ 1));
    let allowed = "INSERT INTO log(text) VALUES ('allowed')";
    assert_eq!(stage.one(&mut same, allowed), ("done".to_owned(), 1));
    assert_eq!(
        stage.one(&mut different, allowed),
        ("home".to_owned(), 0),
        "another version"
    );
    let before = content(&stage.db);
    for sql in [
        "ATTACH 'attached.db' AS a",
        "DETACH main",
        "PRAGMA user_version = 7",
        "VACUUM INTO 'attached.db'",
        "VACUUM",
        "CREATE TABLE created(a)",
        "DROP TABLE item",
        "ALTER TABLE item RENAME TO thing",
        "INSERT INTO sqlite_schema(name) VALUES ('a')",
        "DELETE FROM sqlite_schema",
        "BEGIN",
        "COMMIT",
        "SAVEPOINT a",
        "RELEASE penholder_member",
        "INSERT INTO log(text) VALUES ('no'); COMMIT",
        "INSERT INTO log(text) VALUES (last_insert_rowid())",
        "INSERT INTO log(text) VALUES (changes())",
        "INSERT INTO log(text) VALUES (total_changes())",
        "INSERT INTO origin(a) VALUES (1)",
        "INSERT INTO log(text) SELECT load_extension('x')",
        "INSERT INTO log(text) SELECT readfile('db.lock')",
        "INSERT INTO log(text) SELECT writefile('attached.db', 'x')",
        "DELETE FROM _penholder_batch",
    ] {
        assert_eq!(stage.one(&mut same, sql), ("home".to_owned(), 0), "{sql}");
    }
    assert_eq!(content(&stage.db), before);
    assert_eq!(
        database_fixture::number(&stage.db, "PRAGMA user_version"),
        0
    );
    let created = "SELECT count(*) FROM sqlite_schema WHERE name IN ('created', 'thing')";
    assert_eq!(database_fixture::number(&stage.db, created), 0);
    assert!(!stage.fixture.join("attached.db").exists() && !Path::new("attached.db").exists());
    plain_sqlite::assert_integrity(&stage.fixture.path());
}

#[test]
fn poison_is_its_owners_alone() {
    let mut stage = Stage::new();
    let mut others = [stage.writer(), stage.writer(), stage.writer()];
    let poisons = [
        "execute INSERT INTO log(text) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 \
         FROM n LIMIT 3000000) SELECT max(i) FROM n",
        "execute INSERT INTO log(text) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 \
         FROM n LIMIT 1700) SELECT count(*) FROM n a, n b",
        "execute INSERT INTO log(text) VALUES (zeroblob(500000000)) RETURNING length(text)",
    ];
    for poison in poisons {
        let [bad, a, b] = &mut others;
        let good = "execute INSERT INTO log(text) VALUES ('good')";
        let carried = stage.round(&mut [
            (bad, poison.to_owned()),
            (a, good.to_owned()),
            (b, good.to_owned()),
        ]);
        assert_eq!(carried, 2, "{poison}");
        for good in [a, b] {
            let line = good.read_line();
            assert!(line.contains("rows_changed: 1"), "{line}");
        }
        let line = bad.read_line();
        assert!(line.contains("rows_changed: 1"), "{poison}: {line}");
    }
}
