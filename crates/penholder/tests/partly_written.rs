//! What an error says of a statement that failed is what is in the database: with `FAIL`, SQLite
//! keeps what the statement and its triggers did before the failure.
#![cfg(test)]
#![cfg(feature = "tokio")]

use std::collections::BTreeMap;
use std::sync::mpsc;
use std::thread;

use penholder::rusqlite::Connection;
use penholder::{AsyncDatabase, Database, Error, Result};
use penholder_testkit::database_fixture::{self, DatabaseFixture};
use proptest::prelude::*;
use proptest::sample::select;

/// What every schema has: a table that each statement is about, one that triggers write, and rows
/// in both that can be in the way.
const TABLES: &str = "CREATE TABLE log(k UNIQUE, n);
    INSERT INTO log VALUES (5, 0), (105, 0);
    CREATE TABLE part(base REFERENCES base(k) ON DELETE CASCADE ON UPDATE CASCADE);
    CREATE VIEW face AS SELECT k, n FROM base;";

const BASES: [&str; 6] = [
    "CREATE TABLE base(k UNIQUE, n)",
    "CREATE TABLE base(k UNIQUE ON CONFLICT FAIL, n)",
    "CREATE TABLE base(k PRIMARY KEY, n CHECK (n < 90)) WITHOUT ROWID",
    "CREATE TABLE base(k INTEGER PRIMARY KEY, n NOT NULL ON CONFLICT FAIL)",
    "CREATE TABLE base(k INT UNIQUE ON CONFLICT REPLACE, n INT UNIQUE ON CONFLICT FAIL) STRICT",
    "CREATE TABLE base(k INTEGER PRIMARY KEY AUTOINCREMENT, n)",
];

/// Triggers on the table. `{how}` is how they fail.
const TRIGGERS: [&str; 10] = [
    "",
    "",
    "",
    "CREATE TRIGGER a AFTER INSERT ON base WHEN new.k = 3 BEGIN SELECT RAISE({how}, 'three'); END",
    "CREATE TRIGGER a BEFORE INSERT ON base BEGIN
        INSERT INTO log VALUES (new.k + 100, 1), (new.k, 1); END",
    "CREATE TRIGGER a BEFORE UPDATE ON base BEGIN
        INSERT OR {how} INTO log SELECT 200 + value, 1 FROM json_each('[1, 2, 1]'); END",
    "CREATE TRIGGER a BEFORE DELETE ON base WHEN old.k > 1 BEGIN
        UPDATE log SET n = n + 1; SELECT RAISE({how}, 'deleted'); END",
    "CREATE TRIGGER a AFTER INSERT ON base BEGIN INSERT INTO log VALUES (new.k, 1); END;
     CREATE TRIGGER b BEFORE INSERT ON log WHEN new.k = 3 BEGIN
        INSERT INTO log VALUES (300, 1); SELECT RAISE({how}, 'nested'); END",
    "CREATE TRIGGER a BEFORE INSERT ON base BEGIN INSERT OR REPLACE INTO log VALUES (5, 2);
        INSERT OR IGNORE INTO log VALUES (105, 2); END",
    "CREATE TRIGGER a AFTER DELETE ON part BEGIN
        INSERT OR {how} INTO log VALUES (400, 1), (400, 1); END",
];

/// Triggers of the view; without them it cannot be written. Some write several rows before they
/// fail.
const FACES: [&str; 4] = [
    "",
    "",
    "CREATE TRIGGER f INSTEAD OF INSERT ON face BEGIN INSERT INTO base VALUES (new.k, new.n); END;
     CREATE TRIGGER u INSTEAD OF UPDATE ON face BEGIN
        UPDATE base SET k = new.k, n = new.n WHERE k = old.k; END;
     CREATE TRIGGER d INSTEAD OF DELETE ON face BEGIN DELETE FROM base WHERE k = old.k; END",
    "CREATE TRIGGER f INSTEAD OF INSERT ON face BEGIN
        INSERT INTO base SELECT value, 50 + value FROM json_each('[6, 7, 1, 8]'); END;
     CREATE TRIGGER u INSTEAD OF UPDATE ON face BEGIN
        UPDATE log SET n = 7; SELECT RAISE(FAIL, 'viewed'); END;
     CREATE TRIGGER d INSTEAD OF DELETE ON face BEGIN SELECT RAISE(FAIL, 'viewed'); END",
];

/// Statements. `{or}` is a conflict clause, `{into}` the table or the view.
const STATEMENTS: [&str; 12] = [
    "INSERT {or} INTO {into} VALUES (2, 2), (3, 3), (1, 1), (4, 4)",
    "INSERT {or} INTO {into} VALUES (1, 1)",
    "INSERT {or} INTO {into} VALUES (2, 12), (3, NULL)",
    "INSERT {or} INTO {into} SELECT value, value FROM json_each('[4, 5, 3, 3]')",
    "INSERT {or} INTO {into} VALUES (2, 2), (2, 2) RETURNING k",
    "INSERT {or} INTO base VALUES (2, 2), (3, 3), (2, 99) ON CONFLICT DO UPDATE SET n = 99",
    "UPDATE {or} {into} SET k = 30 - k / 11 * 11, n = n + 1",
    "UPDATE {or} {into} SET k = k + 10, n = n + 40",
    "DELETE FROM {into}",
    "WITH rows(k) AS (VALUES (2), (3), (1)) INSERT {or} INTO {into} SELECT k, k FROM rows",
    "WITH rows(k) AS (VALUES (10)) UPDATE {or} {into} SET k = 7",
    "/* a comment */ REPLACE INTO {into} VALUES (2, 2), (2, 3), (3, 10), (1, NULL)",
];

const CLAUSES: [&str; 6] = [
    "",
    "OR FAIL",
    "OR FAIL",
    "OR ABORT",
    "OR IGNORE",
    "OR REPLACE",
];

/// One statement, and the schema that it meets.
#[derive(Debug, Clone)]
struct Trial {
    schema: String,
    statement: String,
}

fn trial() -> impl Strategy<Value = Trial> {
    let how = select(&["FAIL", "FAIL", "ABORT", "ROLLBACK"][..]);
    let schema = (
        select(&BASES[..]),
        select(&TRIGGERS[..]),
        select(&FACES[..]),
        how,
    );
    let statement = (
        select(&STATEMENTS[..]),
        select(&CLAUSES[..]),
        select(&["base", "face"][..]),
    );
    (schema, statement).prop_map(|((base, trigger, face, how), (text, clause, into))| Trial {
        schema: format!(
            "{base};\n{TABLES}\nINSERT INTO base VALUES (1, 10), (20, 20), (31, 30);
                 INSERT INTO part VALUES (1), (20);\n{};\n{face}",
            trigger.replace("{how}", how)
        ),
        statement: text.replace("{or}", clause).replace("{into}", into),
    })
}

/// How often each row is there, by table.
type Content = BTreeMap<String, i64>;

fn content(connection: &Connection) -> Content {
    let mut content = Content::new();
    for table in ["base", "log", "part"] {
        let mut ask = connection
            .prepare(&format!("SELECT * FROM {table}"))
            .unwrap();
        let width = ask.column_count();
        let mut rows = ask.query([]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let values: Vec<_> = (0..width).map(|at| row.get_ref(at).unwrap()).collect();
            *content.entry(format!("{table}: {values:?}")).or_default() += 1;
        }
    }
    content
}

/// Returns how many rows only the first content has.
fn count_missing(first: &Content, second: &Content) -> i64 {
    let more = |(row, count): (&String, &i64)| count - second.get(row).unwrap_or(&0).min(count);
    first.iter().map(more).sum()
}

/// Runs the statement as a program would with SQLite alone, and returns what is there then.
fn content_after_plain_sqlite(trial: &Trial) -> Content {
    let connection = Connection::open_in_memory().unwrap();
    connection
        .pragma_update(None, "foreign_keys", true)
        .unwrap();
    connection.execute_batch(&trial.schema).unwrap();
    if let Ok(mut statement) = connection.prepare(&trial.statement) {
        let mut rows = statement.query([]).unwrap();
        while let Ok(Some(_)) = rows.next() {}
    }
    content(&connection)
}

struct Prepared {
    _fixture: DatabaseFixture,
    db: Database,
}

impl Prepared {
    fn new(trial: &Trial) -> Self {
        let fixture = DatabaseFixture::new();
        let db = fixture.database();
        db.with_write_lock(|connection| {
            connection.pragma_update(None, "foreign_keys", true)?;
            Ok(connection.execute_batch(&trial.schema)?)
        })
        .unwrap();
        Self {
            _fixture: fixture,
            db,
        }
    }

    fn content(&self) -> Content {
        self.db.read(|connection| Ok(content(connection))).unwrap()
    }
}

/// How a statement reaches the database.
#[derive(Debug, Clone, Copy, PartialEq)]
enum Way {
    Alone,
    Batch,
    Group,
    BatchInGroup,
}

const WAYS: [Way; 4] = [Way::Alone, Way::Batch, Way::Group, Way::BatchInGroup];

fn run(db: &Database, way: Way, sql: &str) -> Result<()> {
    match way {
        Way::Alone => db.execute(sql, ()).map(drop),
        Way::Batch => db.batch([sql]).map(drop),
        Way::Group | Way::BatchInGroup => in_group(db, way, sql),
    }
}

/// Runs the statement between two others that share its transaction.
fn in_group(db: &Database, way: Way, sql: &str) -> Result<()> {
    let (send_held, held) = mpsc::channel();
    let (release, released) = mpsc::channel::<()>();
    let runtime = tokio::runtime::Builder::new_current_thread();
    let runtime = { runtime }.enable_all().build().unwrap();
    thread::scope(|scope| {
        scope.spawn(move || {
            let hold = db.write(move |_| -> Result<()> {
                send_held.send(()).unwrap();
                let _ = released.recv();
                Ok(())
            });
            hold.unwrap();
        });
        held.recv().unwrap();
        runtime.block_on(async move {
            let tasks = AsyncDatabase::from(db.clone());
            let insert = "INSERT INTO entry VALUES (1)";
            let started = [insert, sql, insert].map(|text| {
                let (tasks, text) = (tasks.clone(), text.to_owned());
                tokio::spawn(async move {
                    match way {
                        Way::BatchInGroup => tasks.batch([text]).await.map(drop),
                        _ => tasks.execute(text, ()).await.map(drop),
                    }
                })
            });
            // Each task queues its write when it first runs.
            tokio::task::yield_now().await;
            drop(release);
            let [before, done, after] = started;
            before.await.unwrap().unwrap();
            after.await.unwrap().unwrap();
            done.await.unwrap()
        })
    })
}

/// Returns the number of changes that an error says were kept; `None` if it says that some were,
/// but not how many.
fn kept_by(error: &Error) -> Option<Option<i64>> {
    let text = error.to_string();
    if text.contains("the change before the failure was kept") {
        return Some(Some(1));
    }
    let (before, _) = text.split_once(" before the failure were kept")?;
    let words: Vec<&str> = before.rsplit(' ').take(2).collect();
    assert_eq!(words[0], "changes", "{text}");
    Some(words[1].parse().ok())
}

fn check(trial: &Trial, way: Way) {
    let prepared = Prepared::new(trial);
    let before = prepared.content();
    let done = run(&prepared.db, way, &trial.statement);
    let after = prepared.content();
    if matches!(way, Way::Group | Way::BatchInGroup) {
        assert_eq!(database_fixture::count_entries(&prepared.db), 2);
    }
    let kept = done.as_ref().err().and_then(kept_by);
    if done.is_err() {
        assert_eq!(kept.is_some(), before != after, "{way:?}: {done:?}");
    }
    if let Some(Some(count)) = kept {
        let gone = count_missing(&before, &after);
        let new = count_missing(&after, &before);
        assert_eq!(count, gone.max(new), "{way:?}: {done:?}");
    }
    let may_keep = matches!(way, Way::Alone | Way::Group) && !trial.statement.starts_with("WITH");
    if may_keep || done.is_ok() {
        assert_eq!(
            after,
            content_after_plain_sqlite(trial),
            "{way:?}: {done:?}"
        );
    } else {
        assert_eq!(kept, None, "{way:?}: {done:?}");
    }
}

#[test]
fn an_error_says_what_stands() {
    proptest!(ProptestConfig::with_cases(150), |(trial in trial(), way in select(&WAYS[..]))| {
        check(&trial, way);
    });
}
