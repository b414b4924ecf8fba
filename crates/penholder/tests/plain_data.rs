//! Plain data leaves the connection as it is: what would stay on it is refused, and after
//! everything else this handle and other processes write as before.
#![cfg(test)]

use std::ffi::OsString;
use std::path::Path;
use std::time::Duration;

use penholder::rusqlite::Connection;
use penholder::{Database, ErrorKind, OpenOptions, Query, Result};
use penholder_testkit::database_fixture::{self, DatabaseFixture};
use penholder_testkit::peer::{self, Peer};

#[test]
fn peer() {
    peer::run_role(&[
        ("hold_lock", database_fixture::hold_lock),
        ("insert_on_request", insert_on_request),
    ]);
}

/// Inserts one row at each request, and says how that went in one line.
fn insert_on_request(args: &[OsString]) {
    let options = OpenOptions::new().timeout(BRIEF);
    let db = options.open(Path::new(&args[0])).unwrap();
    peer::send("ready");
    loop {
        peer::expect("insert");
        match database_fixture::insert(&db, "other") {
            Ok(()) => peer::send("inserted"),
            Err(error) => peer::send(&error.to_string().replace('\n', " ")),
        }
    }
}

/// For an error that is expected: longer than any write here takes.
const BRIEF: Duration = Duration::from_millis(500);

/// A database, and another process that writes it.
struct Pair {
    fixture: DatabaseFixture,
    db: Database,
    other: Peer,
}

impl Pair {
    fn new() -> Self {
        let fixture = DatabaseFixture::new();
        let db = fixture.database();
        let other = Peer::start("insert_on_request", [fixture.path()]);
        other.expect("ready");
        Self { fixture, db, other }
    }

    fn assert_all_write(&mut self, after: &str) {
        let before = database_fixture::count_entries(&self.db);
        database_fixture::insert(&self.db, "execute").expect(after);
        let insert = "INSERT INTO entry VALUES ('batch')";
        self.db.batch([insert]).expect(after);
        let write = self.db.write(|tx| Ok(tx.execute(insert, [])?));
        write.expect(after);
        self.other.send("insert");
        assert_eq!(self.other.read_line(), "inserted", "{after}");
        let count = database_fixture::count_entries(&self.db);
        assert_eq!(count, before + 4, "{after}");
    }
}

/// What stays on a connection, and what an error says to do instead.
const REFUSED: [(&str, &str); 27] = [
    ("PRAGMA query_only=1", "use `query` or `read`"),
    ("pragma main.Query_Only(on)", "use `query` or `read`"),
    ("EXPLAIN PRAGMA query_only=1", "use `query` or `read`"),
    ("; /* a */ PRAGMA \"query_only\"=1", "use `query` or `read`"),
    (
        "PRAGMA locking_mode=EXCLUSIVE",
        "use `write` or `with_write_lock`",
    ),
    ("PRAGMA journal_mode=DELETE", "use `with_write_lock`"),
    ("PRAGMA synchronous=OFF", "set `OpenOptions::synchronous`"),
    ("PRAGMA busy_timeout=0", "set `OpenOptions::timeout`"),
    ("PRAGMA wal_autocheckpoint=1", "call `checkpoint`"),
    ("PRAGMA wal_checkpoint", "use `checkpoint`"),
    ("PRAGMA page_size=8192", "before the database is created"),
    (
        "PRAGMA encoding='UTF-16le'",
        "before the database is created",
    ),
    ("PRAGMA foreign_keys=0", "use `with_write_lock`"),
    (
        "PRAGMA writable_schema=1",
        "in one closure of `with_write_lock`",
    ),
    (
        "PRAGMA ignore_check_constraints=1",
        "`OpenOptions::connection_hook`",
    ),
    (
        "PRAGMA case_sensitive_like=1",
        "`OpenOptions::connection_hook`",
    ),
    ("PRAGMA temp_store=2", "`OpenOptions::connection_hook`"),
    (
        "PRAGMA hard_heap_limit=100000000",
        "where the process starts",
    ),
    ("BEGIN", "`batch` runs several"),
    ("COMMIT", "`batch` runs several"),
    ("END TRANSACTION", "`batch` runs several"),
    ("ROLLBACK", "`batch` runs several"),
    ("-- a\nATTACH ':memory:' AS a", "use `with_write_lock`"),
    ("DETACH a", "use `with_write_lock`"),
    (
        "CREATE TEMP TABLE entry(key)",
        "`OpenOptions::connection_hook`",
    ),
    (
        "CREATE TABLE temp.entry(key)",
        "`OpenOptions::connection_hook`",
    ),
    (
        "CREATE TEMPORARY TRIGGER t AFTER INSERT ON entry BEGIN SELECT RAISE(ABORT, ''); END",
        "`OpenOptions::connection_hook`",
    ),
];

#[test]
fn what_would_stay_on_the_connection_is_refused_before_the_call_waits() {
    let mut pair = Pair::new();
    for (sql, next) in REFUSED {
        let _holder = database_fixture::start_holder("hold_lock", &pair.fixture.directory());
        let calls: [(&str, Result<()>); 3] = [
            ("execute", pair.db.execute(sql, ()).map(drop)),
            (
                "batch",
                pair.db
                    .batch([Query::from("SELECT 1"), sql.into()])
                    .map(drop),
            ),
            ("query", pair.db.query(sql, ()).map(drop)),
        ];
        for (call, done) in calls {
            let error = done.expect_err(sql);
            assert_eq!(error.kind(), ErrorKind::Misuse, "{call} {sql}: {error}");
            let text = error.to_string();
            assert!(text.contains("nothing was run: "), "{call} {sql}: {text}");
            assert!(text.contains(next), "{call} {sql}: {text}");
        }
    }
    pair.assert_all_write("all that was refused");
}

#[cfg(feature = "tokio")]
#[tokio::test]
async fn futures_refuse_the_same() {
    let pair = Pair::new();
    let db = penholder::AsyncDatabase::from(pair.db.clone());
    for (sql, next) in REFUSED {
        let executed = db.execute(sql, ()).await.map(drop);
        let batch = db.batch([sql]).await.map(drop);
        let queried = db.query(sql, ()).await.map(drop);
        for done in [executed, batch, queried] {
            let text = done.expect_err(sql).to_string();
            assert!(text.contains(next), "{sql}: {text}");
        }
    }
}

#[test]
fn savepoints_belong_to_a_batch() {
    let mut pair = Pair::new();
    for sql in ["SAVEPOINT a", "ROLLBACK TO a", "RELEASE a"] {
        let text = pair.db.execute(sql, ()).unwrap_err().to_string();
        assert!(
            text.contains("each call is a transaction of its own"),
            "{text}"
        );
    }
    let insert = "INSERT INTO entry VALUES ('a')";
    let all = [
        "SAVEPOINT a",
        insert,
        "ROLLBACK TO a",
        insert,
        "RELEASE a",
        "SAVEPOINT open",
    ];
    pair.db.batch(all).unwrap();
    assert_eq!(database_fixture::count_entries(&pair.db), 1);
    pair.assert_all_write("a savepoint that was left open");
}

#[test]
fn what_changes_the_data_or_only_asks_runs() {
    let mut pair = Pair::new();
    for sql in [
        "PRAGMA user_version = 7",
        "PRAGMA main.application_id(9)",
        "PRAGMA journal_mode = WAL",
        "PRAGMA defer_foreign_keys = 1",
        "PRAGMA cache_size = -4000",
        "PRAGMA optimize",
        "PRAGMA incremental_vacuum(1)",
        "PRAGMA query_only",
        "EXPLAIN INSERT INTO entry VALUES (1)",
        "WITH a AS (SELECT 'a') INSERT INTO entry SELECT * FROM a",
        "CREATE TABLE IF NOT EXISTS temporary(temp)",
        "DROP TABLE IF EXISTS temporary",
        "ANALYZE",
        "REINDEX",
    ] {
        pair.db.execute(sql, ()).expect(sql);
        pair.db.batch([sql]).expect(sql);
        pair.assert_all_write(sql);
    }
    for (sql, answer) in [("PRAGMA user_version", 7), ("PRAGMA application_id", 9)] {
        assert_eq!(database_fixture::number(&pair.db, sql), answer);
        let returned = pair.db.execute(sql, ()).unwrap().returned;
        assert_eq!(returned.first().unwrap().get::<i64>(0).unwrap(), answer);
    }
    for sql in [
        "PRAGMA table_info(entry)",
        "PRAGMA integrity_check",
        "PRAGMA quick_check(1)",
        "PRAGMA database_list",
    ] {
        assert!(!pair.db.query(sql, ()).unwrap().is_empty(), "{sql}");
        let returned = pair.db.execute(sql, ()).unwrap().returned;
        assert!(!returned.is_empty(), "{sql}");
    }
    assert!(
        pair.db
            .query("PRAGMA foreign_key_check(entry)", ())
            .unwrap()
            .is_empty()
    );
}

/// Settings that decide what a statement means, who else may use the database, or whether a write
/// is allowed.
const STATE: [&str; 25] = [
    "automatic_index",
    "busy_timeout",
    "cell_size_check",
    "checkpoint_fullfsync",
    "count_changes",
    "defer_foreign_keys",
    "empty_result_callbacks",
    "foreign_keys",
    "full_column_names",
    "fullfsync",
    "hard_heap_limit",
    "ignore_check_constraints",
    "journal_mode",
    "legacy_alter_table",
    "locking_mode",
    "max_page_count",
    "query_only",
    "read_uncommitted",
    "recursive_triggers",
    "reverse_unordered_selects",
    "secure_delete",
    "short_column_names",
    "synchronous",
    "trusted_schema",
    "writable_schema",
];

fn state_of(connection: &Connection) -> Vec<String> {
    let ask = |sql: &str| {
        let answer = connection.query_row(sql, [], |row| Ok(format!("{:?}", row.get_ref(0)?)));
        format!("{sql}: {answer:?}")
    };
    let pragmas = STATE.iter().map(|name| ask(&format!("PRAGMA {name}")));
    let others = [
        "SELECT 'a' LIKE 'A'",
        "SELECT count(*) FROM temp.sqlite_schema",
    ];
    let others = others.into_iter().map(ask);
    pragmas.chain(others).collect()
}

/// Every pragma that this SQLite knows, with values that might change something.
#[test]
fn no_pragma_changes_what_later_calls_meet() {
    let pair = Pair::new();
    let mut names = pair
        .db
        .query_as::<String>("PRAGMA pragma_list", ())
        .unwrap();
    names.retain(|name| !name.starts_with("key") && !name.contains("temp_store_directory"));
    assert!(names.len() > 40, "{names:?}");
    let look = |db: &Database| {
        let writer = db.with_write_lock(|connection| {
            // It is set for each call.
            connection.busy_timeout(BRIEF)?;
            Ok(state_of(connection))
        });
        let reader = db.read(|connection| {
            connection.busy_timeout(BRIEF)?;
            Ok(state_of(connection))
        });
        (writer.unwrap(), reader.unwrap())
    };
    let before = look(&pair.db);
    for name in &names {
        for value in ["0", "1", "2", "ON", "EXCLUSIVE", "'memory'"] {
            let sql = format!("PRAGMA {name} = {value}");
            let _ = pair.db.execute(&sql, ());
            let _ = pair.db.batch([&sql[..]]);
            let _ = pair.db.query(&sql, ());
        }
        assert_eq!(look(&pair.db), before, "PRAGMA {name}");
    }
}

/// A closure may leave what it likes on the connection. The errors of later calls name it, and
/// neither permissions nor another process.
#[test]
fn an_error_names_a_setting_that_a_closure_left() {
    let pair = Pair::new();
    let set = |sql: &'static str| {
        let done = pair
            .db
            .with_write_lock(|connection| Ok(connection.execute_batch(sql)?));
        done.unwrap();
    };
    set("PRAGMA query_only=1");
    let insert = "INSERT INTO entry VALUES (1)";
    let calls: [Result<()>; 4] = [
        pair.db.execute(insert, ()).map(drop),
        pair.db.execute("CREATE TABLE made(a)", ()).map(drop),
        pair.db.batch([insert]).map(drop),
        pair.db.write(|tx| Ok(tx.execute(insert, [])?)).map(drop),
    ];
    for done in calls {
        let text = done.unwrap_err().to_string();
        assert!(
            text.contains("`PRAGMA query_only` is set on the writing connection"),
            "{text}"
        );
        assert!(!text.contains("permission"), "{text}");
    }
    set("PRAGMA query_only=0");
    database_fixture::insert(&pair.db, "again").unwrap();
}

/// SQLite gives an exclusive lock only to a connection that is the only one.
#[test]
fn an_error_names_an_exclusive_lock_that_a_closure_left() {
    let fixture = DatabaseFixture::new();
    let hasty = || OpenOptions::new().timeout(BRIEF).open(fixture.path());
    let db = hasty().unwrap();
    db.execute("CREATE TABLE entry(key)", ()).unwrap();
    let exclusive = "PRAGMA locking_mode=EXCLUSIVE; INSERT INTO entry VALUES (1)";
    db.with_write_lock(|connection| Ok(connection.execute_batch(exclusive)?))
        .unwrap();
    let reads: [Result<()>; 2] = [
        db.query("SELECT * FROM entry", ()).map(drop),
        db.read(|c| Ok(c.query_row("SELECT count(*) FROM entry", [], |_| Ok(()))?)),
    ];
    for done in reads {
        let error = done.unwrap_err();
        let text = error.to_string();
        assert!(error.is_sqlite_busy() && error.is_timeout(), "{text}");
        assert!(
            text.contains("`PRAGMA locking_mode=EXCLUSIVE` is set on the writing"),
            "{text}"
        );
        assert!(!text.contains("another process"), "{text}");
    }
    // Another handle, or another process, cannot know whose lock it is.
    let text = hasty().unwrap_err().to_string();
    assert!(text.contains("PRAGMA locking_mode=EXCLUSIVE"), "{text}");
    let normal = "PRAGMA locking_mode=NORMAL; INSERT INTO entry VALUES (2)";
    db.with_write_lock(|connection| Ok(connection.execute_batch(normal)?))
        .unwrap();
    assert_eq!(database_fixture::count_entries(&db), 2);
    database_fixture::insert(&hasty().unwrap(), "other").unwrap();
}
