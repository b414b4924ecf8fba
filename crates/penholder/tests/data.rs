//! `execute`, `batch` and `query` take plain parameters and return counts, ids and rows as
//! SQLite reports them.
#![cfg(test)]

use penholder::{
    Database, ErrorKind, Executed, IntoParams, Params, Query, Result, Row, Value, params,
};
use penholder_testkit::database_fixture;
use penholder_testkit::database_fixture::DatabaseFixture;
use proptest::prelude::*;
use rusqlite::ErrorCode;

/// Creates a database with the tables `item` and `note`.
fn items() -> (DatabaseFixture, Database) {
    let fixture = DatabaseFixture::new();
    let db = database_fixture::open(&fixture.path());
    db.batch([
        "CREATE TABLE item(id INTEGER PRIMARY KEY, name UNIQUE, size)",
        "CREATE TABLE note(id INTEGER PRIMARY KEY, item)",
    ])
    .unwrap();
    (fixture, db)
}

/// Returns the rows changed and the last insert id.
fn facts(done: &Executed) -> (u64, Option<i64>) {
    (done.rows_changed, done.last_insert_rowid)
}

fn execute(db: &Database, sql: &str) -> (u64, Option<i64>) {
    facts(&db.execute(sql, ()).unwrap())
}

#[test]
fn changed_rows_are_counted() {
    let (_fixture, db) = items();
    let counts = [
        ("CREATE TABLE other(a)", 0),
        ("INSERT INTO item(name) VALUES ('a'), ('b'), ('c')", 3),
        ("CREATE TABLE copy AS SELECT * FROM item", 0),
        ("CREATE INDEX by_size ON item(size)", 0),
        ("UPDATE item SET size = 1", 3),
        ("UPDATE item SET size = 2 WHERE name = 'z'", 0),
        ("INSERT OR IGNORE INTO item(name) VALUES ('a'), ('d')", 1),
        (
            "INSERT INTO item(name) VALUES ('a') ON CONFLICT DO NOTHING",
            0,
        ),
        (
            "INSERT INTO item(name) VALUES ('a') ON CONFLICT DO UPDATE SET size = 9",
            1,
        ),
        (
            "WITH w AS (SELECT 'e' AS n) INSERT INTO item(name) SELECT n FROM w",
            1,
        ),
        (
            "/* a comment */ UPDATE item SET size = 3 WHERE name = 'a'",
            1,
        ),
        ("REPLACE INTO item(name) VALUES ('a')", 1),
        ("ALTER TABLE item ADD COLUMN more", 0),
        ("SELECT * FROM item", 0),
        ("PRAGMA user_version = 3", 0),
        ("DELETE FROM item WHERE name = 'a'", 1),
        ("DELETE FROM item", 4),
        ("DELETE FROM item", 0),
        ("DROP TABLE item", 0),
    ];
    for (sql, count) in counts {
        let done = db.execute(sql, ()).unwrap();
        assert_eq!(done.rows_changed, count, "{sql}");
    }
}

#[test]
fn triggers_and_cascades_are_not_counted() {
    let (_fixture, db) = items();
    db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch(
            "PRAGMA foreign_keys = 1;
             CREATE TABLE part(of REFERENCES item ON DELETE CASCADE);
             CREATE TRIGGER log AFTER INSERT ON item BEGIN
                 INSERT INTO note(id, item) VALUES (70, 1), (71, 2);
             END;
             CREATE VIEW face AS SELECT * FROM item;
             CREATE TRIGGER facade INSTEAD OF INSERT ON face BEGIN
                 INSERT INTO note(id) VALUES (80);
             END;",
        )?;
        Ok(())
    })
    .unwrap();
    assert_eq!(
        execute(&db, "INSERT INTO item(name) VALUES ('a')"),
        (1, Some(1))
    );
    assert_eq!(
        execute(&db, "INSERT INTO part VALUES (1), (1)"),
        (2, Some(2))
    );
    assert_eq!(execute(&db, "DELETE FROM item"), (1, None));
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM part"),
        0
    );
    assert_eq!(
        execute(&db, "INSERT INTO face(name) VALUES ('x')"),
        (0, None)
    );
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM note WHERE id = 80"),
        1
    );
}

#[test]
fn last_insert_id_belongs_to_the_statement() {
    let (_fixture, db) = items();
    let ids = [
        ("INSERT INTO item(id, name) VALUES (41, 'a')", Some(41)),
        ("UPDATE item SET size = 1", None),
        ("INSERT INTO item(name) VALUES ('b'), ('c')", Some(43)),
        ("INSERT OR IGNORE INTO item(name) VALUES ('a')", None),
        (
            "INSERT INTO item(name) VALUES ('a') ON CONFLICT DO UPDATE SET size = 9",
            None,
        ),
        ("INSERT INTO note(id) VALUES (43)", Some(43)),
        ("REPLACE INTO item(name) VALUES ('a')", Some(44)),
        (
            "WITH w AS (SELECT 'd' AS n) INSERT INTO item(name) SELECT n FROM w",
            Some(45),
        ),
        (
            "INSERT INTO item(id, name) VALUES (-1, 'e'), (0, 'f')",
            Some(0),
        ),
        ("INSERT INTO item(name) SELECT 'g' WHERE 0", None),
        ("CREATE TABLE pair(a PRIMARY KEY) WITHOUT ROWID", None),
        ("INSERT INTO pair VALUES (1)", None),
        ("DELETE FROM item", None),
        ("SELECT 1", None),
        // At the limits.
        (
            "INSERT INTO note(id) VALUES (9223372036854775807)",
            Some(i64::MAX),
        ),
        (
            "INSERT INTO note(id) VALUES (-9223372036854775807)",
            Some(i64::MIN + 1),
        ),
    ];
    for (sql, id) in ids {
        let done = db.execute(sql, ()).unwrap();
        assert_eq!(done.last_insert_rowid, id, "{sql}");
    }
    assert!(
        db.execute("INSERT INTO item(missing) VALUES (1)", ())
            .is_err()
    );
    assert_eq!(
        last_insert_rowid(&db),
        i64::MIN + 1,
        "SQLite's own value is unchanged"
    );
}

fn last_insert_rowid(db: &Database) -> i64 {
    db.with_write_lock(|connection| -> Result<i64> { Ok(connection.last_insert_rowid()) })
        .unwrap()
}

#[test]
fn later_statements_of_a_batch_see_the_last_insert_id() {
    let (_fixture, db) = items();
    let done = db
        .batch([
            "INSERT INTO item(id, name) VALUES (41, 'a')",
            "UPDATE item SET size = 1",
            "INSERT INTO note(id, item) VALUES (7, last_insert_rowid())",
            "INSERT INTO note(id, item) SELECT 8, LAST_INSERT_ROWID() WHERE 0",
            "UPDATE note SET item = item + last_insert_rowid()",
        ])
        .unwrap();
    let facts: Vec<_> = done.iter().map(facts).collect();
    assert_eq!(
        facts,
        [(1, Some(41)), (1, None), (1, Some(7)), (0, None), (1, None)]
    );
    assert_eq!(
        database_fixture::number(&db, "SELECT item FROM note"),
        41 + 7
    );
}

/// A trigger, a default or a view may use `last_insert_rowid()` if the statement does not.
#[test]
fn indirect_uses_of_the_last_insert_id_see_it() {
    let (_fixture, db) = items();
    db.with_write_lock(|connection| -> Result<()> {
        connection.execute_batch(
            "CREATE TRIGGER log AFTER UPDATE ON item BEGIN
                 INSERT INTO note(item) VALUES (last_insert_rowid());
             END;
             CREATE TABLE origin(a, item DEFAULT (last_insert_rowid()));
             CREATE VIEW latest AS SELECT last_insert_rowid() AS id;",
        )?;
        Ok(())
    })
    .unwrap();
    let insert = "INSERT INTO item(id, name) VALUES (41, 'a') ON CONFLICT DO UPDATE SET id = id";
    db.batch([insert, "UPDATE item SET size = 1"]).unwrap();
    assert_eq!(
        database_fixture::number(&db, "SELECT item FROM note"),
        41,
        "by a trigger"
    );
    db.batch([
        "DELETE FROM item",
        insert,
        "INSERT INTO origin(a) VALUES (1)",
    ])
    .unwrap();
    assert_eq!(
        database_fixture::number(&db, "SELECT item FROM origin"),
        41,
        "by a default"
    );
    db.batch([
        "DELETE FROM item",
        insert,
        "UPDATE origin SET a = (SELECT id FROM latest)",
    ])
    .unwrap();
    assert_eq!(
        database_fixture::number(&db, "SELECT a FROM origin"),
        41,
        "by a view"
    );
}

#[test]
fn rows_of_returning_are_returned() {
    let (_fixture, db) = items();
    let sql = "INSERT INTO item(name, size) VALUES ('a', 1), ('b', 2) RETURNING id, name AS n";
    let done = db.execute(sql, ()).unwrap();
    assert_eq!(facts(&done), (2, Some(2)));
    assert_eq!(done.returned.columns(), ["id", "n"]);
    let rows: Vec<(i64, String)> = done
        .returned
        .iter()
        .map(|row| row.deserialize().unwrap())
        .collect();
    assert_eq!(rows, [(1, "a".to_owned()), (2, "b".to_owned())]);
    let done = db.execute("DELETE FROM item RETURNING size", ()).unwrap();
    assert_eq!((done.rows_changed, done.returned.len()), (2, 2));
    let done = db.execute("SELECT count(*) AS n FROM item", ()).unwrap();
    assert_eq!(done.returned[0].get::<i64>("n").unwrap(), 0);
    assert!(
        db.execute("DELETE FROM item", ())
            .unwrap()
            .returned
            .is_empty()
    );
}

#[test]
fn a_wrong_number_of_parameters_is_an_error() {
    let (_fixture, db) = items();
    let insert = "INSERT INTO item(name, size) VALUES (?1, ?2)";
    for values in [vec![], vec![1], vec![1, 2, 3]] {
        let error = db.execute(insert, values.clone()).unwrap_err();
        assert_eq!(error.kind(), ErrorKind::Misuse, "{error}");
        let text = error.to_string();
        assert!(
            text.contains("2 parameters") && text.contains(&format!("{} value", values.len())),
            "{text}"
        );
        db.query("SELECT ?1, ?2", values.clone()).unwrap_err();
        db.batch([Query::new(insert, values)]).unwrap_err();
    }
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM item"),
        0
    );
}

#[test]
fn several_statements_in_one_text_are_refused() {
    let (_fixture, db) = items();
    for (sql, why) in [
        (
            "INSERT INTO item(name) VALUES ('a'); INSERT INTO item(name) VALUES ('b')",
            "batch",
        ),
        ("CREATE TABLE no(a); DROP TABLE item", "batch"),
        ("INSERT INTO item(name) VALUES ('a'); garbage", "garbage"),
    ] {
        let error = db.execute(sql, ()).unwrap_err();
        assert!(error.to_string().contains(why), "{error}");
        db.batch([sql]).unwrap_err();
        db.query(sql, ()).unwrap_err();
    }
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM item"),
        0
    );
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM sqlite_schema WHERE name = 'no'"),
        0
    );
    // One statement, followed by a semicolon and a comment.
    let one = "INSERT INTO item(name) VALUES ('a;b'); -- that is all\n";
    assert_eq!(execute(&db, one), (1, Some(1)));
}

#[test]
fn text_without_a_statement_is_harmless() {
    let (_fixture, db) = items();
    for sql in ["", " ", "-- only a comment", ";"] {
        if let Ok(done) = db.execute(sql, ()) {
            assert_eq!(facts(&done), (0, None), "{sql:?}");
        }
        let _ = db.query(sql, ());
    }
    assert!(db.batch::<&str>([]).unwrap().is_empty());
    db.execute("a\0b", ()).unwrap_err();
    assert_eq!(
        execute(&db, "INSERT INTO item(name) VALUES ('a')"),
        (1, Some(1))
    );
}

#[test]
fn a_batch_is_all_or_nothing() {
    let (_fixture, db) = items();
    let ok = Query::new("INSERT INTO item(name) VALUES (?1)", ["a"]);
    for bad in [
        "INSERT INTO item(name) VALUES ('a')",
        "INSERT OR ROLLBACK INTO item(name) VALUES ('a')",
        "INSERT INTO missing VALUES (1)",
        "garbage",
        "COMMIT",
        "SELECT ?1",
    ] {
        let done = db.batch([ok.clone(), bad.into(), ok.clone()]);
        done.unwrap_err();
        assert_eq!(
            database_fixture::number(&db, "SELECT count(*) FROM item"),
            0,
            "{bad}"
        );
    }
    let error = db.batch(["BEGIN"]).unwrap_err();
    assert!(
        error
            .to_string()
            .contains("each call is a transaction of its own"),
        "{error}"
    );
    assert_eq!(db.batch([ok]).unwrap().len(), 1);
}

#[test]
fn a_failed_statement_leaves_no_rows() {
    let (_fixture, db) = items();
    let error = db
        .execute("INSERT INTO item(name) VALUES ('a'), ('b'), ('a')", ())
        .unwrap_err();
    let code = error
        .sqlite_error()
        .and_then(rusqlite::Error::sqlite_error_code);
    assert_eq!(code, Some(ErrorCode::ConstraintViolation), "{error}");
    assert!(error.lock_error().is_none() && !error.is_timeout());
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM item"),
        0
    );
    // Also with a conflict clause of its own.
    db.execute("INSERT INTO item(name) VALUES ('a')", ())
        .unwrap();
    db.execute("INSERT OR ROLLBACK INTO item(name) VALUES ('b'), ('a')", ())
        .unwrap_err();
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM item"),
        1
    );
}

#[test]
fn parameters_may_have_many_forms() {
    let fixture = DatabaseFixture::new();
    let db = Database::open(fixture.path()).unwrap();
    let first = |count: usize, params: Params| {
        let marks: Vec<String> = (1..=count).map(|n| format!("?{n}")).collect();
        let sql = format!("SELECT {}", marks.join(", "));
        let row = db.query(&sql, params).unwrap().into_iter().next();
        row.unwrap().into_values()
    };
    let (text, none) = (String::from("t"), None::<i64>);
    let mixed = params![1, 2.5, "t", vec![1u8], none, true, &text, Some(3u8)];
    let values = vec![
        Value::Integer(1),
        Value::Real(2.5),
        Value::Text("t".into()),
        Value::Blob(vec![1]),
        Value::Null,
        Value::Integer(1),
        Value::Text("t".into()),
        Value::Integer(3),
    ];
    assert_eq!(first(8, mixed.into_params()), values);
    let tuple = (1, 2.5, "t", vec![1u8], none, true, &text, Some(3u8));
    assert_eq!(first(8, tuple.into_params()), values);
    assert_eq!(first(2, [1, 2].into_params()), [1, 2].map(Value::from));
    let letters = ["a", "b"].map(Value::from);
    assert_eq!(first(2, vec!["a", "b"].into_params()), letters);
    assert_eq!(first(2, (&["a", "b"][..]).into_params()), letters);
    assert_eq!(first(1, (7,).into_params()), [Value::from(7)]);
}

#[test]
fn text_that_is_not_utf8_is_readable() {
    let (_fixture, db) = items();
    db.execute(
        "INSERT INTO item(name) VALUES (CAST(x'61ff62' AS TEXT))",
        (),
    )
    .unwrap();
    let rows = db
        .query("SELECT name, typeof(name) AS t FROM item", ())
        .unwrap();
    assert_eq!(rows[0].get::<String>("t").unwrap(), "text");
    assert_eq!(
        rows[0].get::<Value>("name").unwrap(),
        Value::from("a\u{fffd}b")
    );
}

#[test]
fn special_numbers_are_returned_unchanged() {
    let (_fixture, db) = items();
    let numbers = [
        f64::INFINITY,
        f64::NEG_INFINITY,
        -0.0,
        f64::MIN_POSITIVE,
        f64::MAX,
    ];
    for number in numbers {
        let found: f64 = db.query_scalar("SELECT ?1", [number]).unwrap();
        assert_eq!(found.to_bits(), number.to_bits());
    }
    let found: Value = db.query_scalar("SELECT ?1", [f64::NAN]).unwrap();
    assert_eq!(found, Value::Null);
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        Just(Value::Null),
        any::<i64>().prop_map(Value::Integer),
        prop::num::f64::NORMAL.prop_map(Value::Real),
        any::<String>().prop_map(Value::Text),
        prop::collection::vec(any::<u8>(), 0..200).prop_map(Value::Blob),
    ]
}

/// Stores the values and reads them again.
fn round_trip(db: &Database, values: &[Value]) -> Vec<Value> {
    let insert = |value: &Value| Query::new("INSERT INTO entry VALUES (?1)", [value.clone()]);
    db.batch(values.iter().map(insert)).unwrap();
    let rows = db
        .query("SELECT key FROM entry ORDER BY rowid", ())
        .unwrap();
    db.execute("DELETE FROM entry", ()).unwrap();
    rows.into_iter().flat_map(Row::into_values).collect()
}

#[test]
fn values_are_returned_unchanged() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    let many = prop::collection::vec(value(), 0..10);
    proptest!(ProptestConfig::with_cases(40), |(values in many)| {
        prop_assert_eq!(round_trip(&db, &values), values);
    });
}

/// With `FAIL`, the changes before the failure are kept, and the error says so.
#[test]
fn changes_kept_by_fail_are_reported() {
    let fixture = DatabaseFixture::new();
    let db = fixture.database();
    db.execute("CREATE TABLE once(a UNIQUE)", ()).unwrap();
    let sql = "INSERT OR FAIL INTO once VALUES (1), (2), (1)";
    let text = db.execute(sql, ()).unwrap_err().to_string();
    assert!(
        text.contains("the 2 changes before the failure were kept"),
        "{text}"
    );
    assert_eq!(db.query("SELECT a FROM once", ()).unwrap().len(), 2);
    db.execute("DELETE FROM once", ()).unwrap();
    db.batch([sql]).unwrap_err();
    assert!(db.query("SELECT a FROM once", ()).unwrap().is_empty());
}

/// SQLite reads SQL only up to a NUL, which here would delete all rows.
#[test]
fn sql_with_a_nul_is_refused_without_waiting() {
    let (fixture, db) = items();
    execute(&db, "INSERT INTO item(name) VALUES ('a'), ('b')");
    let other = database_fixture::open(&fixture.path());
    let cut = "DELETE FROM item\0 WHERE name = 'z'";
    let ways: [&(dyn Fn() -> Result<()> + Sync); 5] = [
        &|| db.execute(cut, ()).map(drop),
        &|| db.execute("CREATE TABLE a(a)\0", ()).map(drop),
        &|| {
            db.batch(["INSERT INTO note(item) VALUES (1)", cut])
                .map(drop)
        },
        &|| db.query("SELECT 1\0 + 1", ()).map(drop),
        &|| db.migrate(&["CREATE TABLE a(a)", cut]).map(drop),
    ];
    // Inside a write, where a call that waits for the lock would fail.
    let done = other.write(|_tx| -> Result<()> {
        for way in ways {
            let text = way().unwrap_err().to_string();
            assert!(text.contains("NUL byte after "), "{text}");
            assert!(text.ends_with(": nothing was run: remove it"), "{text}");
        }
        Ok(())
    });
    done.unwrap();
    let rows = "SELECT count(*) FROM item UNION ALL SELECT count(*) FROM note";
    let counts = db.query(rows, ()).unwrap();
    let counts: Vec<_> = counts.iter().map(|row| row.values()[0].clone()).collect();
    assert_eq!(counts, [2, 0].map(Value::from));
    // A value may contain a NUL.
    db.execute("INSERT INTO item(name) VALUES (?1)", ["a\0b"])
        .unwrap();
}

/// Changes by triggers are rolled back with the statement, and not reported as kept.
#[test]
fn changes_by_triggers_are_rolled_back_with_a_failed_statement() {
    let (_fixture, db) = items();
    db.execute(
        "CREATE TRIGGER logged AFTER INSERT ON item BEGIN INSERT INTO note(item) VALUES (1); END",
        (),
    )
    .unwrap();
    let sql = "INSERT INTO item(name) VALUES ('a'), ('b'), ('a')";
    let text = db.execute(sql, ()).unwrap_err().to_string();
    assert!(!text.contains("stand"), "{text}");
    assert_eq!(
        database_fixture::number(&db, "SELECT count(*) FROM note"),
        0
    );
}

/// Also if the id existed before, and if a trigger inserts another row.
#[test]
fn last_insert_id_is_right_if_triggers_insert() {
    let (_fixture, db) = items();
    db.execute(
        "CREATE TRIGGER logged AFTER INSERT ON item BEGIN INSERT INTO note(id) VALUES (NULL); END",
        (),
    )
    .unwrap();
    db.execute("INSERT INTO note(id) VALUES (100)", ()).unwrap();
    for _ in 0..2 {
        let sql = "INSERT INTO item(id, name) VALUES (41, 'a')";
        assert_eq!(execute(&db, sql), (1, Some(41)));
        db.execute("DELETE FROM item", ()).unwrap();
    }
}
