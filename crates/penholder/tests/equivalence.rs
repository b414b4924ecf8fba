//! A delegated statement has the same effect and the same result as on the connection of its
//! owner: thousands of statements, made at random from a seed, run on the delegate connection
//! of one database and on the writing connection of another.
#![cfg(test)]

use std::time::Duration;

use penholder::internals::{
    self, DelegateConnection, StatementOutcome, WriteOutcome, fingerprint, is_found_unchanged,
};
use penholder::rusqlite::functions::FunctionFlags;
#[cfg(feature = "bundled")]
use penholder::rusqlite::hooks::Wal;
use penholder::rusqlite::hooks::{AuthContext, Authorization};
use penholder::rusqlite::limits::Limit;
use penholder::rusqlite::{self, Connection};
use penholder::{Database, Error, Executed, OpenOptions, Query, Row, Synchronous, Value};

const SCHEMA: &str = "
    CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT UNIQUE, size INT CHECK (size < 100),
        kind NOT NULL DEFAULT 'k', upper AS (upper(name)));
    CREATE TABLE part(id INTEGER PRIMARY KEY, item REFERENCES item(id) ON DELETE CASCADE,
        late REFERENCES item(id) DEFERRABLE INITIALLY DEFERRED);
    CREATE TABLE pair(a, b, PRIMARY KEY (a, b)) WITHOUT ROWID;
    CREATE TABLE strict(a INT) STRICT;
    CREATE TABLE log(id INTEGER PRIMARY KEY, text);
    INSERT INTO log VALUES (1000000, 'first');
    CREATE TRIGGER told AFTER INSERT ON item BEGIN
        INSERT INTO log(text) VALUES (new.name);
    END;
    CREATE TRIGGER raised BEFORE UPDATE OF size ON item BEGIN
        SELECT CASE new.size WHEN 42 THEN RAISE(ABORT, 'fortytwo') WHEN 43 THEN RAISE(FAIL, 'fail')
            WHEN 44 THEN RAISE(ROLLBACK, 'rollback') WHEN 45 THEN RAISE(IGNORE) END;
    END;
    CREATE VIEW face AS SELECT id, name FROM item;
    CREATE TRIGGER facade INSTEAD OF INSERT ON face BEGIN
        INSERT INTO item(name) VALUES (new.name);
    END;
    CREATE TABLE origin(a, item DEFAULT (last_insert_rowid()));
    CREATE TABLE counted(a CHECK (a <> changes()), n DEFAULT (changes()));
    CREATE TABLE total(a, n DEFAULT (total_changes() > 0));";

const TABLES: [&str; 7] = ["item", "part", "pair", "strict", "log", "origin", "counted"];

/// `SplitMix64`.
struct Chance(u64);

impl Chance {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        mix(self.0) % end
    }

    fn number(&mut self) -> i64 {
        i64::try_from(self.below(12)).unwrap()
    }

    fn of<'a>(&mut self, all: &[&'a str]) -> &'a str {
        all[usize::try_from(self.below(all.len() as u64)).unwrap()]
    }

    fn value(&mut self) -> Value {
        match self.below(12) {
            0 => Value::Null,
            1 => Value::Real(0.5),
            2 => Value::Blob(vec![1, 2, 0xff]),
            3 | 4 => Value::Text(self.of(&["a", "b", "ä", "7", "x\0y", ""]).to_owned()),
            5 => Value::Integer(i64::try_from(self.below(120)).unwrap()),
            6 => Value::Integer(42 + self.number() % 4),
            _ => Value::Integer(self.number()),
        }
    }

    fn conflict(&mut self) -> &'static str {
        self.of(&[
            "",
            "",
            "",
            "OR IGNORE",
            "OR REPLACE",
            "OR FAIL",
            "OR ABORT",
            "OR ROLLBACK",
        ])
    }

    fn returning(&mut self) -> &'static str {
        self.of(&[
            "",
            "",
            "",
            " RETURNING *",
            " RETURNING id AS n, 1.5, hex(id)",
            " returning 7",
        ])
    }

    fn statement(&mut self) -> Query {
        let (conflict, returning) = (self.conflict(), self.returning());
        let (sql, params) = match self.below(20) {
            0..=4 => (
                format!("INSERT {conflict} INTO item(name, size) VALUES (?1, ?2){returning}"),
                2,
            ),
            5 => (
                format!("INSERT {conflict} INTO item(name, size) VALUES (?1, 1), (?2, 2), (?1, 3)"),
                2,
            ),
            6 => (
                "INSERT INTO item(name) VALUES (?1) ON CONFLICT DO UPDATE SET size = ?2".into(),
                2,
            ),
            7 => (
                format!("INSERT {conflict} INTO item(id, name) VALUES (?1, ?2)"),
                2,
            ),
            8 => (
                format!("UPDATE {conflict} item SET size = ?1 WHERE id > ?2{returning}"),
                2,
            ),
            9 => (
                format!("UPDATE {conflict} item SET name = ?1, kind = ?2"),
                2,
            ),
            10 => (format!("DELETE FROM item WHERE id = ?1{returning}"), 1),
            11 | 12 => (
                format!("INSERT {conflict} INTO part(item, late) VALUES (?1, ?2){returning}"),
                2,
            ),
            13 => ("REPLACE INTO pair VALUES (?1, ?2) /* two */".into(), 2),
            14 => (
                format!("INSERT {conflict} INTO pair VALUES (?1, 1), (?2, 1);"),
                2,
            ),
            15 => (
                format!("INSERT {conflict} INTO strict VALUES (1), (?1);\n-- strictly"),
                1,
            ),
            16 => ("INSERT INTO face(name) VALUES (?1)".into(), 1),
            17 => (
                "WITH n(i) AS (VALUES (?1) UNION SELECT size FROM item) \
                 INSERT INTO pair SELECT i, i FROM n"
                    .into(),
                1,
            ),
            18 => (
                self.of(&[
                    "DELETE FROM pair",
                    "UPDATE item SET size = NULL",
                    "DELETE FROM log WHERE id > 1000010",
                    "INSERT INTO log(text) SELECT hex(zeroblob(3000)) RETURNING text",
                    "UPDATE part SET late = NULL RETURNING (SELECT count(*) FROM item) AS n",
                ])
                .to_owned(),
                0,
            ),
            _ => (
                self.of(&[
                    "INSERT INTO missing VALUES (1)",
                    "INSERT INTO item(missing) VALUES (1)",
                    "INSERT INTO item",
                    "UPDATE",
                    "INSERT INTO strict VALUES (1); INSERT INTO strict VALUES (2)",
                    "INSERT INTO strict VALUES (1) -",
                    "INSERT INTO strict VALUES (1) /* open",
                    "INSERT INTO strict VALUES ('a",
                    "INSERT INTO strict VALUES (nothing())",
                    "INSERT INTO log(text) VALUES (abs(-9223372036854775808))",
                    "INSERT INTO log(text) VALUES (json('{'))",
                    "INSERT INTO log(text) VALUES (zeroblob(3000000000))",
                    "INSERT INTO item(name) VALUES ('z' COLLATE nothing)",
                    "DELETE FROM sqlite_schema",
                    "INSERT INTO item(name) SELECT raise(ABORT, 'x')",
                    "WITH x AS (SELECT 1 AS a) SELECT a FROM x",
                    "INSERT INTO face(id) SELECT 1 RETURNING id",
                ])
                .to_owned(),
                0,
            ),
        };
        Query::new(sql, (0..params).map(|_| self.value()).collect::<Vec<_>>())
    }

    /// A statement, or a batch of several.
    fn write(&mut self) -> (bool, Vec<Query>) {
        match self.below(10) {
            0 => (
                true,
                (0..self.below(4) + 1).map(|_| self.statement()).collect(),
            ),
            1 => {
                let first = "INSERT INTO item(name) VALUES (NULL)".into();
                let second = self.of(&[
                    "INSERT INTO origin(a) VALUES (1)",
                    "INSERT INTO origin(a) VALUES (2) RETURNING item",
                    "INSERT INTO counted(a) VALUES (1)",
                    "INSERT INTO counted(a, n) VALUES (1, 1)",
                    "INSERT INTO total(a) VALUES (7)",
                    "INSERT INTO log(text) VALUES (last_insert_rowid())",
                    "UPDATE log SET text = changes() WHERE id = 1000000",
                ]);
                (true, vec![first, second.into()])
            }
            _ => (false, vec![self.statement()]),
        }
    }
}

fn mix(mut word: u64) -> u64 {
    word = (word ^ word >> 30).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    word = (word ^ word >> 27).wrapping_mul(0x94d0_49bb_1331_11eb);
    word ^ word >> 31
}

/// A database, and its delegate connection.
struct Subject {
    _directory: tempfile::TempDir,
    db: Database,
    delegate: DelegateConnection,
}

impl Subject {
    fn new() -> Self {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x.db");
        let options = OpenOptions::new();
        let db = options.clone().open(&path).unwrap();
        db.with_write_lock(|connection| connection.execute_batch(SCHEMA).map_err(Error::from))
            .unwrap();
        let delegate = DelegateConnection::open(&path, &options).unwrap();
        Self {
            _directory: directory,
            db,
            delegate,
        }
    }

    fn step(&self, sql: &str) {
        self.delegate.connection().execute_batch(sql).unwrap();
    }

    fn content(&self) -> Vec<Row> {
        TABLES
            .iter()
            .flat_map(|table| {
                self.db
                    .query(&format!("SELECT * FROM {table}"), ())
                    .unwrap()
            })
            .collect()
    }

    /// Runs a write on the connection of its owner.
    fn run_locally(&self, (is_batch, all): &(bool, Vec<Query>)) -> Outcome {
        let done = match &all[..] {
            [one] if !is_batch => {
                let done = self.db.execute(one.sql(), one.params());
                done.map(|done| vec![done])
            }
            all => self.db.batch(all.iter().cloned()),
        };
        done.map_err(|error| match error.sqlite_error() {
            Some(rusqlite::Error::SqliteFailure(code, text)) => {
                (code.extended_code, text.clone().unwrap_or_default())
            }
            other => (-1, format!("{other:?}")),
        })
    }

    /// Runs all writes in one transaction; those that cannot be delegated are left out. As a
    /// batch is: without savepoints first.
    fn run_delegated(&self, all: &[(bool, Vec<Query>)]) -> Vec<Option<Outcome>> {
        self.run_without_savepoints(all)
            .unwrap_or_else(|| self.run_in_savepoints(all))
    }

    /// `None` if one of them is not done.
    fn run_without_savepoints(&self, all: &[(bool, Vec<Query>)]) -> Option<Vec<Option<Outcome>>> {
        self.step("BEGIN IMMEDIATE");
        let run = |(_, statements): &(bool, Vec<Query>)| match self
            .delegate
            .execute_write_without_savepoint(statements)
        {
            WriteOutcome::Done(done) => Some(Some(Ok(done))),
            WriteOutcome::Local => Some(None),
            WriteOutcome::Failed(..) | WriteOutcome::Aborted => None,
        };
        let outcomes = all.iter().map(run).collect();
        let is_done = Option::is_some(&outcomes);
        if !self.delegate.connection().is_autocommit() {
            self.step(if is_done { "COMMIT" } else { "ROLLBACK" });
        }
        outcomes
    }

    fn run_in_savepoints(&self, all: &[(bool, Vec<Query>)]) -> Vec<Option<Outcome>> {
        let mut outcomes: Vec<Option<Outcome>> = vec![None; all.len()];
        let mut culprits = vec![false; all.len()];
        'again: loop {
            self.step("BEGIN IMMEDIATE");
            for (place, (_, statements)) in all.iter().enumerate() {
                if culprits[place] {
                    continue;
                }
                outcomes[place] = match self.delegate.execute_write(statements) {
                    WriteOutcome::Done(done) => Some(Ok(done)),
                    WriteOutcome::Failed(code, text) => Some(Err((code, text.unwrap_or_default()))),
                    WriteOutcome::Local => None,
                    WriteOutcome::Aborted => {
                        culprits[place] = true;
                        outcomes[place] = None;
                        if !self.delegate.connection().is_autocommit() {
                            self.step("ROLLBACK");
                        }
                        continue 'again;
                    }
                };
            }
            self.step("COMMIT");
            return outcomes;
        }
    }
}

type Outcome = Result<Vec<Executed>, (i32, String)>;

/// Closing rolls back, and must not call a hook that is gone.
#[test]
fn a_connection_may_be_closed_in_a_transaction() {
    let subject = Subject::new();
    subject.step("BEGIN IMMEDIATE; INSERT INTO item(name) VALUES ('a')");
    let Subject { delegate, db, .. } = subject;
    drop(delegate);
    assert_eq!(
        db.query_scalar::<i64>("SELECT count(*) FROM item", ())
            .unwrap(),
        0
    );
}

#[test]
fn delegated_and_local_writes_are_equivalent() {
    let seed = std::env::var("PENHOLDER_SEED").map_or(1, |seed| seed.parse().unwrap());
    let mut chance = Chance(seed);
    let mut haste = Chance(!seed);
    let (mut delegated, local) = (Subject::new(), Subject::new());
    let (mut all, mut executed, mut failed) = (0, 0, 0);
    for round in 0..1500 {
        let group: Vec<_> = (0..chance.below(4) + 1).map(|_| chance.write()).collect();
        // So that the same writes take too long on every machine.
        let is_hasty = haste.below(4) == 0;
        let limit = Duration::from_secs(if is_hasty { 0 } else { 60 });
        delegated.delegate.set_time_limit(limit);
        let outcomes = delegated.run_delegated(&group);
        for (write, outcome) in group.iter().zip(&outcomes) {
            all += 1;
            if let Some(outcome) = outcome {
                executed += 1;
                failed += usize::from(outcome.is_err());
                let context = format!("seed {seed}, round {round}: {write:?}");
                assert_eq!(outcome, &local.run_locally(write), "{context}");
            }
        }
        if is_hasty || round % 20 == 0 {
            let context = format!("seed {seed}, round {round}: {group:?}, {outcomes:?}");
            assert_eq!(delegated.content(), local.content(), "{context}");
        }
        for (write, outcome) in group.iter().zip(&outcomes) {
            if outcome.is_none() {
                let context = format!("seed {seed}, round {round}, locally: {write:?}");
                assert_eq!(
                    delegated.run_locally(write),
                    local.run_locally(write),
                    "{context}"
                );
            }
        }
    }
    assert_eq!(delegated.content(), local.content(), "seed {seed}");
    println!("{all} writes, {executed} delegated, of those {failed} failed");
    assert!(all > 2000 && executed > all / 2 && failed > all / 50);
}

fn in_transaction<T>(delegate: &DelegateConnection, work: impl FnOnce() -> T) -> T {
    let connection = delegate.connection();
    connection.execute_batch("BEGIN IMMEDIATE").unwrap();
    let done = work();
    if !connection.is_autocommit() {
        connection.execute_batch("ROLLBACK").unwrap();
    }
    done
}

fn run(delegate: &DelegateConnection, sql: &str) -> StatementOutcome {
    in_transaction(delegate, || delegate.run(&sql.into()))
}

#[test]
fn a_statement_that_does_more_than_change_rows_is_not_delegated() {
    let subject = Subject::new();
    for sql in [
        "ATTACH 'y.db' AS y",
        "DETACH main",
        "PRAGMA user_version = 7",
        "VACUUM",
        "CREATE TABLE a(a)",
        "CREATE TEMP TABLE a(a)",
        "DROP TABLE item",
        "ALTER TABLE item RENAME TO thing",
        "REINDEX",
        "ANALYZE",
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "SAVEPOINT a",
        "RELEASE penholder_member",
        "EXPLAIN INSERT INTO log(text) VALUES (1)",
        "/* */ COMMIT",
        "INSERT INTO log(text) VALUES (1); COMMIT",
        "INSERT INTO log(text) VALUES (1); ATTACH 'y.db' AS y",
        "INSERT INTO log(text) VALUES (last_insert_rowid())",
        "INSERT INTO log(text) VALUES (CHANGES())",
        "INSERT INTO log(text) VALUES (\"total_changes\"())",
        "INSERT INTO origin(a) VALUES (1)",
        "INSERT INTO counted(a) VALUES (1)",
        "INSERT INTO counted(a, n) VALUES (1, 1)",
        "INSERT INTO total(a) VALUES (1)",
        "INSERT INTO log(text) SELECT load_extension('x')",
        "INSERT INTO log(text) SELECT readfile('/etc/hostname')",
        "INSERT INTO log(text) SELECT writefile('y', 'x')",
        "INSERT INTO log(text) SELECT name FROM pragma_table_info('item')",
        "INSERT INTO sqlite_schema(name) VALUES ('a')",
        "UPDATE main.sqlite_schema SET sql = ''",
        "DELETE FROM sqlite_master",
        "UPDATE sqlite_sequence SET seq = 1",
        "INSERT INTO _penholder_batch VALUES (1, x'', x'')",
        "DELETE FROM _PENHOLDER_BATCH",
        "DELETE FROM temp.sqlite_schema",
        "WITH x AS (SELECT 1) DELETE FROM sqlite_schema",
    ] {
        for round in 0..2 {
            let connection = subject.delegate.connection();
            if round == 1 {
                connection
                    .execute_batch("PRAGMA writable_schema = 1")
                    .unwrap();
            }
            let ran = run(&subject.delegate, sql);
            assert!(matches!(ran, StatementOutcome::Local), "{sql}");
            connection
                .execute_batch("PRAGMA writable_schema = 0")
                .unwrap();
        }
    }
    assert_eq!(subject.content(), Subject::new().content());
}

/// The clock is read between steps, so no step may be long.
#[test]
fn a_statement_with_a_long_step_is_not_delegated() {
    const MORE: &str = "
        CREATE TABLE long(a);
        WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n LIMIT 200)
            INSERT INTO long SELECT zeroblob(16000) FROM n;
        CREATE VIEW counting AS SELECT count(*) AS n FROM long;
        CREATE TABLE seen(a);
        CREATE TRIGGER counts AFTER INSERT ON seen BEGIN
            INSERT INTO log(text) SELECT n FROM counting;
        END;
        CREATE TABLE checked(a CHECK (length(rtrim(a, 'äöü')) < 20000));
        CREATE TABLE made(a, b AS (ltrim(a, 'äöü')));
        CREATE INDEX trimmed ON made(trim(a, 'äöü'));";
    let subject = Subject::new();
    subject.step(MORE);
    for sql in [
        "INSERT INTO log(text) VALUES (instr(hex(zeroblob(490000)), hex(zeroblob(120000)) || '1'))",
        "INSERT INTO log(text) VALUES (instr('a', 'b'))",
        "INSERT INTO log(text) VALUES (replace('a', 'b', 'c'))",
        "INSERT INTO log(text) VALUES (trim('a', 'b'))",
        "INSERT INTO log(text) VALUES (json_patch('{}', '{}'))",
        "INSERT INTO log(text) VALUES (zeroblob(20000))",
        "INSERT INTO log(text) VALUES (printf('%20000d', 1))",
        "INSERT INTO log(text) VALUES (format('%d', 1))",
        "INSERT INTO log(text) SELECT count(*) FROM long",
        "INSERT INTO log(text) SELECT n FROM counting",
        "INSERT INTO seen VALUES (1)",
        "INSERT INTO checked VALUES ('a')",
        "INSERT INTO made(a) VALUES ('a')",
        "INSERT INTO log(text) VALUES ('a' LIKE '%aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa')",
        "UPDATE long SET a = a || a",
    ] {
        let ran = run(&subject.delegate, sql);
        assert!(matches!(ran, StatementOutcome::Local), "{sql}: {ran:?}");
    }
    // Row by row, so that it can be interrupted.
    let mut subject = subject;
    subject.delegate.set_time_limit(Duration::ZERO);
    let ran = run(&subject.delegate, "DELETE FROM long");
    assert!(!matches!(ran, StatementOutcome::Done(_)), "{ran:?}");
    // At once, the next time.
    let refused = run(&subject.delegate, "DELETE FROM long");
    assert!(matches!(refused, StatementOutcome::Local), "{refused:?}");
    subject.delegate.set_time_limit(Duration::from_secs(60));
    let ran = run(&subject.delegate, "DELETE FROM long");
    assert!(
        matches!(&ran, StatementOutcome::Done(done) if done.rows_changed == 200),
        "{ran:?}"
    );
}

/// An insertion into a full-text index may merge all of it, so that is for its owner. An R-Tree
/// is like any other table.
#[test]
#[cfg_attr(
    not(feature = "bundled"),
    ignore = "the system's SQLite may lack the modules"
)]
fn writes_to_virtual_tables_are_as_local() {
    const MORE: &str = "
        CREATE VIRTUAL TABLE found USING fts5(text);
        CREATE VIRTUAL TABLE place USING rtree(id, x0, x1, y0, y1);
        CREATE TABLE doc(id INTEGER PRIMARY KEY, text);
        CREATE TRIGGER indexed AFTER INSERT ON doc BEGIN
            INSERT INTO found(rowid, text) VALUES (new.id, new.text);
        END;
        CREATE TABLE area(id INTEGER PRIMARY KEY, x, y);
        CREATE TRIGGER placed AFTER INSERT ON area BEGIN
            INSERT INTO place VALUES (new.id, new.x, new.x + 1, new.y, new.y + 1);
        END;";
    let (delegated, local) = (Subject::new(), Subject::new());
    for subject in [&delegated, &local] {
        let made = subject
            .db
            .with_write_lock(|connection| connection.execute_batch(MORE).map_err(Error::from));
        made.unwrap();
    }
    let mut delegable = 0;
    for sql in [
        "INSERT INTO found(text) VALUES ('one two')",
        "INSERT INTO doc(text) VALUES ('two three')",
        "INSERT INTO found(found) VALUES ('optimize')",
        "INSERT INTO found(found) VALUES ('rebuild')",
        "INSERT INTO found(found, rank) VALUES ('merge', 500)",
        "UPDATE found SET text = 'four' WHERE found MATCH 'one'",
        "DELETE FROM found WHERE rowid = 2",
        "INSERT INTO place VALUES (1, 0, 1, 0, 1)",
        "INSERT INTO place VALUES (1, 0, 1, 0, 1)",
        "INSERT INTO place VALUES (2, 5, 4, 0, 1)",
        "INSERT INTO place VALUES (3, 2, 3, 2, 3), (4, 3, 4, 3, 4) RETURNING id",
        "INSERT INTO area VALUES (7, 1.5, 2.5)",
        "UPDATE place SET x1 = 9 WHERE id = 3",
        "UPDATE place SET x0 = x0 WHERE x1 > 0.5 AND y0 < 3",
        "DELETE FROM place WHERE id = 4",
        "INSERT INTO log(text) SELECT value FROM json_each('[1, 2]')",
    ] {
        let write = (false, vec![Query::from(sql)]);
        let outcome = &delegated.run_delegated(std::slice::from_ref(&write))[0];
        let expected = local.run_locally(&write);
        let is_full_text = sql.contains("found") || sql.contains("doc");
        match outcome {
            Some(outcome) => {
                assert!(!is_full_text, "{sql}");
                assert_eq!(outcome, &expected, "{sql}");
                delegable += 1;
            }
            None => assert_eq!(delegated.run_locally(&write), expected, "{sql}"),
        }
    }
    assert!(delegable > 0, "nothing was delegated");
    let content = |subject: &Subject| -> Vec<Row> {
        ["found", "place", "doc", "area", "log"]
            .iter()
            .flat_map(|table| {
                subject
                    .db
                    .query(&format!("SELECT * FROM {table}"), ())
                    .unwrap()
            })
            .collect()
    };
    assert_eq!(content(&delegated), content(&local));
    for (_, subject) in [("delegated", &delegated), ("local", &local)] {
        let check = "INSERT INTO found(found) VALUES ('integrity-check')";
        subject.db.execute(check, ()).unwrap();
        let verdict: String = subject
            .db
            .query_scalar("SELECT rtreecheck('place')", ())
            .unwrap();
        assert_eq!(verdict, "ok");
    }
}

#[test]
#[cfg_attr(
    not(feature = "bundled"),
    ignore = "the system's SQLite has other options: foreign keys, preupdate hook, limits"
)]
fn a_statement_without_an_end_is_bounded() {
    let subject = Subject::new();
    let begun = std::time::Instant::now();
    for sql in [
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
         INSERT INTO log(text) SELECT max(i) FROM n",
        "INSERT INTO log(text) WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) \
         SELECT i FROM n",
        "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT i FROM n",
        "INSERT INTO log(text) VALUES (zeroblob(500000000))",
        "INSERT INTO log(text) VALUES (hex(randomblob(1000000)))",
        "INSERT INTO log(text) VALUES (printf('%.*c', 100000000, 'x'))",
        "INSERT INTO log(text) VALUES (replace(hex(zeroblob(400000)), '0', 'aaaaaaaaaaaaaaaaa'))",
    ] {
        let ran = run(&subject.delegate, sql);
        assert!(
            matches!(ran, StatementOutcome::Local | StatementOutcome::Aborted),
            "{sql}"
        );
    }
    // Each may take 5 ms; this only catches a statement that never ends.
    assert!(begun.elapsed() < Duration::from_secs(20));
    assert_eq!(subject.content(), Subject::new().content());
}

/// Whatever changes what a statement means changes the fingerprint.
#[test]
#[cfg_attr(
    not(feature = "bundled"),
    ignore = "the system's SQLite has other options: foreign keys, preupdate hook, limits"
)]
fn fingerprints_differ_by_what_statements_mean() {
    let subject = Subject::new();
    let path = subject.db.path().to_owned();
    let open = || internals::open_plain(&path, &OpenOptions::new()).unwrap();
    let of = |connection: &Connection| fingerprint(connection, &path).unwrap();
    let same = of(&open());
    assert_eq!(of(&open()), same);
    assert_eq!(subject.delegate.fingerprint(), same, "as it is opened");
    for sql in [
        "PRAGMA foreign_keys = 0",
        "PRAGMA recursive_triggers = 1",
        "PRAGMA ignore_check_constraints = 1",
        "PRAGMA case_sensitive_like = 1",
        "PRAGMA reverse_unordered_selects = 1",
        "PRAGMA query_only = 1",
        "PRAGMA synchronous = FULL",
        "PRAGMA max_page_count = 99",
        "PRAGMA full_column_names = 1; PRAGMA short_column_names = 0",
        "PRAGMA writable_schema = 1",
        "PRAGMA trusted_schema = 0",
        "CREATE TEMP TABLE item(a)",
        "CREATE TEMP TRIGGER t AFTER INSERT ON item BEGIN SELECT 1; END",
        "ATTACH ':memory:' AS other",
    ] {
        let connection = open();
        connection.execute_batch(sql).unwrap();
        assert_ne!(of(&connection), same, "{sql}");
    }
    let connection = open();
    let flags = FunctionFlags::SQLITE_UTF8;
    connection
        .create_scalar_function("mine", 0, flags, |_| Ok(1))
        .unwrap();
    assert_ne!(of(&connection), same);
    let connection = open();
    connection
        .set_limit(Limit::SQLITE_LIMIT_LENGTH, 1000)
        .unwrap();
    assert_ne!(of(&connection), same);
    let full = OpenOptions::new().synchronous(Synchronous::Full);
    let durable = DelegateConnection::open(&path, &full).unwrap();
    assert_ne!(durable.fingerprint(), same, "more durable");
    let other = Subject::new();
    assert_ne!(other.delegate.fingerprint(), same, "another database");
}

/// A trigger may insert a row with the id that the connection inserted last.
#[test]
fn last_insert_id_is_not_that_of_a_trigger() {
    let subject = Subject::new();
    let delegate = &subject.delegate;
    in_transaction(delegate, || {
        let first = delegate.run(&"INSERT INTO item(id, name) VALUES (1000001, 'a')".into());
        assert!(
            matches!(first, StatementOutcome::Done(done) if done.last_insert_rowid == Some(1_000_001))
        );
        let sql =
            "INSERT INTO log(id, text) VALUES (1000000, 'x') ON CONFLICT DO UPDATE SET text = 1";
        let second = delegate.run(&sql.into());
        assert!(matches!(second, StatementOutcome::Done(done) if done.last_insert_rowid.is_none()));
        delegate
            .connection()
            .execute_batch("DELETE FROM log WHERE id = 1000001")
            .unwrap();
        let sql = "INSERT INTO face(name) VALUES ('other')";
        let third = delegate.run(&sql.into());
        assert!(matches!(third, StatementOutcome::Done(done) if done.last_insert_rowid.is_none()));
    });
}

/// A write that is left to its owner or that failed leaves nothing behind where it was tried,
/// also where SQLite by itself would leave some of it.
#[test]
fn a_write_that_does_not_hold_leaves_nothing_behind() {
    const MORE: &str = "
        CREATE TABLE source(text, blob);
        INSERT INTO source VALUES ('1', zeroblob(9)), ('{', zeroblob(600000));
        CREATE TABLE bare(a, b);
        CREATE TABLE before(id INTEGER PRIMARY KEY);
        INSERT INTO before VALUES (1);
        CREATE TRIGGER first BEFORE INSERT ON before BEGIN
            INSERT INTO bare(a) VALUES ('first');
        END;
        CREATE VIEW twice AS SELECT 1 AS a;
        CREATE TRIGGER both INSTEAD OF INSERT ON twice BEGIN
            INSERT INTO item(name) VALUES (new.a);
            INSERT INTO item(name) VALUES (new.a);
        END;";
    let mut subject = Subject::new();
    let connection = subject.delegate.connection();
    connection.execute_batch(MORE).unwrap();
    let left = |subject: &Subject| -> Vec<i64> {
        let count = |table: &&str| {
            let sql = format!("SELECT count(*) FROM {table}");
            let connection = subject.delegate.connection();
            connection.query_row(&sql, [], |row| row.get(0)).unwrap()
        };
        TABLES
            .iter()
            .chain(&["bare", "before"])
            .map(count)
            .collect()
    };
    // The time is over at once; the clock may be read after the last step.
    let interrupted = ["INSERT INTO face(name) VALUES (NULL)"; 2000];
    let failing = [
        "INSERT INTO strict VALUES (1), ('x')",
        "INSERT INTO bare(a) SELECT value FROM source, json_each(text)",
        "INSERT INTO bare(a) SELECT blob || blob FROM source",
        "INSERT INTO bare SELECT blob, blob FROM source",
        "INSERT OR REPLACE INTO log(id) VALUES (1), ('x')",
        "INSERT OR FAIL INTO before VALUES (1)",
        "INSERT OR FAIL INTO before VALUES (2), (1)",
        "INSERT OR FAIL INTO twice VALUES ('x')",
    ];
    let mut local = 0;
    for (all, bound) in [
        (&interrupted[..], Duration::ZERO),
        (&failing[..], Duration::from_secs(60)),
    ] {
        subject.delegate.set_time_limit(bound);
        for sql in all {
            in_transaction(&subject.delegate, || {
                let before = left(&subject);
                match subject.delegate.execute_write(&[(*sql).into()]) {
                    WriteOutcome::Done(_) => assert!(bound.is_zero(), "{sql}"),
                    WriteOutcome::Aborted => {}
                    outcome => {
                        local += usize::from(bound.is_zero());
                        assert_eq!(left(&subject), before, "{sql}: {outcome:?}");
                    }
                }
            });
            in_transaction(&subject.delegate, || {
                let before = left(&subject);
                let outcome = subject
                    .delegate
                    .execute_write_without_savepoint(&[(*sql).into()]);
                if outcome == WriteOutcome::Local {
                    assert_eq!(left(&subject), before, "{sql}, without a savepoint");
                }
            });
        }
    }
    assert!(local > 10, "interrupted after the last step: {local}");
}

/// A connection that a closure has had counts as unchanged only if nothing of the application
/// is left on it.
#[test]
#[cfg_attr(
    not(feature = "bundled"),
    ignore = "the system's SQLite has other options: foreign keys, preupdate hook, limits"
)]
fn changed_connections_are_recognised() {
    type Change = fn(&mut Connection) -> rusqlite::Result<()>;
    let subject = Subject::new();
    let harmless: [Change; 3] = [
        |_| Ok(()),
        |c| c.execute_batch("CREATE TABLE IF NOT EXISTS made(a)"),
        |c| c.execute_batch("BEGIN; INSERT INTO log(text) VALUES (1); COMMIT"),
    ];
    let others: Vec<Change> = vec![
        |c| c.create_collation("NOCASE", |a, b| b.cmp(a)),
        |c| c.create_collation("mine", |a, b| b.cmp(a)),
        |c| c.execute_batch("PRAGMA foreign_keys = 0"),
        |c| c.execute_batch("PRAGMA recursive_triggers = 1"),
        |c| c.execute_batch("PRAGMA synchronous = OFF"),
        |c| c.execute_batch("CREATE TEMP TABLE made(a)"),
        |c| c.execute_batch("ATTACH ':memory:' AS other"),
        |c| {
            let flags = FunctionFlags::SQLITE_UTF8;
            c.create_scalar_function("mine", 0, flags, |_| Ok(1))
        },
        |c| {
            let flags = FunctionFlags::SQLITE_UTF8;
            c.create_scalar_function("upper", 1, flags, |_| Ok(1))
        },
        |c| c.commit_hook(Some(|| false)),
        |c| c.rollback_hook(Some(|| ())),
        |c| c.update_hook(Some(|_, _: &str, _: &str, _| ())),
        // Its type is another one in rusqlite 0.40, with which an old SQLite is tested.
        #[cfg(feature = "bundled")]
        |c| c.wal_hook(None::<fn(&mut Wal, i32) -> rusqlite::Result<()>>),
        |c| c.progress_handler(10, Some(|| false)),
        |c| c.authorizer(Some(|_: AuthContext<'_>| Authorization::Allow)),
        |c| c.set_limit(Limit::SQLITE_LIMIT_LENGTH, 10_000).map(drop),
    ];
    let is_unchanged = |change: Change| {
        let insert = "INSERT INTO log(text) VALUES (1)";
        let fingerprint = subject.delegate.fingerprint();
        is_found_unchanged(subject.db.path(), fingerprint, change, insert).unwrap()
    };
    for (place, change) in harmless.into_iter().enumerate() {
        assert!(is_unchanged(change), "harmless {place}");
    }
    for (place, change) in others.into_iter().enumerate() {
        assert!(!is_unchanged(change), "change {place}");
    }
}
