//! Proves that names in a schema that are not UTF-8, which programs in other languages can give to
//! tables, columns and all else, do not end a command in a panic, and are shown with a warning.
#![cfg(test)]

use penholder_testkit::command_fixture::CommandFixture;
use penholder_testkit::plain_sqlite;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// A database in which every kind of object has a name with the byte FF. SQL cannot be written
/// with it here, so that it stands for a letter first.
fn database() -> CommandFixture {
    let fixture = CommandFixture::new(PENHOLDER);
    let plain = plain_sqlite::open(&fixture.join("odd.db"));
    plain
        .execute_batch(
            "PRAGMA journal_mode=WAL;
             CREATE TABLE parent(\"kQ\" INTEGER PRIMARY KEY, plain);
             CREATE TABLE child(\"rQ\" REFERENCES parent(\"kQ\"));
             CREATE TABLE \"tQ\"(\"cQ\" PRIMARY KEY CHECK (\"cQ\" <> 'no')) WITHOUT ROWID;
             CREATE TABLE \"uQ\"(plain REFERENCES parent(\"kQ\"));
             CREATE VIEW \"vQ\" AS SELECT \"cQ\" FROM \"tQ\";
             CREATE VIEW all_of_it AS SELECT * FROM \"vQ\";
             CREATE INDEX \"iQ\" ON \"tQ\"(\"cQ\");
             CREATE TRIGGER \"gQ\" AFTER INSERT ON parent BEGIN
               INSERT INTO \"tQ\" VALUES (NEW.\"kQ\");
               INSERT INTO \"uQ\" VALUES (NEW.\"kQ\");
             END;
             INSERT INTO parent VALUES (1, 'a');
             PRAGMA writable_schema=ON;
             UPDATE sqlite_schema SET
               name = CAST(unhex(replace(hex(name), '51', 'FF')) AS TEXT),
               tbl_name = CAST(unhex(replace(hex(tbl_name), '51', 'FF')) AS TEXT),
               sql = CAST(unhex(replace(hex(sql), '51', 'FF')) AS TEXT)
             WHERE sql IS NOT NULL AND sql GLOB '*Q*';
             UPDATE sqlite_schema SET
               name = CAST(unhex(replace(hex(name), '51', 'FF')) AS TEXT),
               tbl_name = CAST(unhex(replace(hex(tbl_name), '51', 'FF')) AS TEXT)
             WHERE sql IS NULL;",
        )
        .unwrap();
    fixture
}

/// Runs a command, which must succeed, without a panic.
#[track_caller]
fn run(fixture: &CommandFixture, args: &[&str]) -> (String, String) {
    let output = fixture.run(args);
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    assert_eq!(output.code, Some(0), "{args:?}: {output:?}");
    (output.stdout, output.stderr)
}

#[test]
fn every_command_works_with_names_that_are_not_utf_8() {
    let fixture = database();
    for args in [
        &["exec", "odd.db", "INSERT INTO parent VALUES (2, 'b')"][..],
        &["exec", "odd.db", "INSERT INTO parent VALUES (?1, 'c')", "3"],
        &["exec", "odd.db", "INSERT INTO child VALUES (3)"],
        &[
            "exec",
            "odd.db",
            "PRAGMA foreign_keys=OFF; UPDATE parent SET plain = 'd'; INSERT INTO child VALUES (1)",
        ],
        &["query", "odd.db", "SELECT plain FROM parent"],
        &["status", "odd.db"],
        &["doctor", "odd.db", "--integrity"],
        &["backup", "odd.db", "copy.db"],
        &["restore", "new.db", "copy.db"],
        &["restore", "odd.db", "copy.db"],
        &["vacuum", "odd.db"],
        &["wait", "odd.db", "--now"],
        &["checkpoint", "odd.db"],
        &[
            "stress",
            "odd.db",
            "--force",
            "--processes",
            "2",
            "--writes",
            "20",
        ],
        &["top", "odd.db", "--once"],
    ] {
        run(&fixture, args);
    }
    std::fs::write(fixture.join("rows.csv"), "plain\ne\n").unwrap();
    run(&fixture, &["import", "odd.db", "parent", "rows.csv"]);
    let (rows, _) = run(
        &fixture,
        &["query", "odd.db", "SELECT count(*) AS n FROM parent"],
    );
    assert_eq!(rows, "n\n4\n");
}

#[test]
fn columns_are_named_with_replaced_bytes_and_a_warning() {
    let fixture = database();
    const WARNING: &str = "1 column name is shown with \u{FFFD}, which may stand for bytes \
                           that are not UTF-8";
    for args in [
        &["query", "odd.db", "SELECT * FROM parent"][..],
        &[
            "exec",
            "odd.db",
            "UPDATE parent SET plain = 'b' RETURNING *",
        ],
        &[
            "exec",
            "odd.db",
            "UPDATE parent SET plain = ?1 RETURNING *",
            "b",
        ],
    ] {
        let (rows, warning) = run(&fixture, args);
        assert!(rows.starts_with("k\u{FFFD},plain\n1,"), "{rows}");
        assert!(warning.contains(WARNING), "{warning}");
    }
    let (rows, warning) = run(&fixture, &["query", "odd.db", "SELECT * FROM child"]);
    assert_eq!(rows, "r\u{FFFD}\n");
    assert!(warning.contains(WARNING), "{warning}");
    let (rows, _) = run(
        &fixture,
        &["query", "odd.db", "--scalar", "SELECT * FROM all_of_it"],
    );
    assert_eq!(rows, "1\n");
}

#[test]
fn violations_are_named_with_replaced_bytes() {
    let fixture = database();
    let script = "PRAGMA foreign_keys=OFF; INSERT INTO child VALUES (77); DELETE FROM parent";
    let output = fixture.run(["exec", "odd.db", script]);
    assert!(!output.stderr.contains("panicked"), "{output:?}");
    let message = output.expect_failure(1);
    assert!(
        message.contains("of \"u\u{FFFD}\" has no row in \"parent\""),
        "{message}"
    );
    assert!(
        message.contains("of \"child\" has no row in \"parent\""),
        "{message}"
    );
    plain_sqlite::open(&fixture.join("odd.db"))
        .execute_batch("PRAGMA foreign_keys=OFF; DELETE FROM parent")
        .unwrap();
    let report = fixture.run(["doctor", "odd.db", "--integrity"]);
    assert!(!report.stderr.contains("panicked"), "{report:?}");
    assert!(
        report.stdout.contains("refers to no row of parent"),
        "{report:?}"
    );
}
