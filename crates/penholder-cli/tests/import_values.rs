//! Proves that `penholder import` stores each value as it is in the file, or refuses it with
//! its line and its field before anything is written.
#![cfg(test)]

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput};
use penholder_testkit::plain_sqlite;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// A column of each type.
const TABLE: &str = "CREATE TABLE t(i INTEGER, r REAL, n DECIMAL(10, 2), x TEXT, b BLOB, a)";

fn fixture() -> CommandFixture {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec(TABLE);
    fixture
}

fn import(
    fixture: &CommandFixture,
    table: &str,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
) -> CommandOutput {
    fs::write(fixture.join(name), text).unwrap();
    let args = ["import", "x.db", table, name].into_iter();
    fixture.run(args.chain(options.iter().copied()))
}

/// Imports one value into an empty table and returns its type and how SQLite quotes it.
fn stored(fixture: &CommandFixture, column: &str, name: &str, text: &str) -> String {
    fixture.exec("DELETE FROM t");
    import(fixture, "t", name, text, &[]).expect_success();
    let sql = format!("SELECT typeof({column}) || ' ' || quote({column}) FROM t");
    let connection = plain_sqlite::open(&fixture.join("x.db"));
    connection.query_row(&sql, (), |row| row.get(0)).unwrap()
}

#[test]
fn a_csv_word_is_stored_so_that_it_is_recognised() {
    let fixture = fixture();
    for (column, word, expected) in [
        // Every column that converts nothing has the exact word.
        ("x", "007", "text '007'"),
        ("x", "1.10", "text '1.10'"),
        ("x", "1e400", "text '1e400'"),
        ("x", "6063e25", "text '6063e25'"),
        ("a", "-0", "text '-0'"),
        ("b", "+4912345", "text '+4912345'"),
        // The notation of a number may change.
        ("i", "+5", "integer 5"),
        ("i", "1.0", "integer 1"),
        ("i", "1e3", "integer 1000"),
        ("i", "1.5", "real 1.5"),
        ("r", "1.50", "real 1.5"),
        ("r", "12", "real 12.0"),
        ("n", "0.10", "real 0.1"),
        ("r", "0.10000000000000001", "real 0.1"),
        ("r", "9e999", "real 9.0e+999"),
        // What is no number stays text.
        ("i", "1 2", "text '1 2'"),
        ("i", "0x10", "text '0x10'"),
        ("r", "1,5", "text '1,5'"),
        ("n", "2024-01-31", "text '2024-01-31'"),
        ("n", "inf", "text 'inf'"),
    ] {
        let text = format!("{column},other\n\"{word}\",\n").replace(",other", "");
        let text = text.replace(",\n", "\n");
        assert_eq!(
            stored(&fixture, column, "rows.csv", &text),
            expected,
            "{column} {word}"
        );
    }
}

#[test]
fn a_csv_word_that_would_change_is_refused_with_its_line_and_field() {
    let fixture = fixture();
    for (column, word, why) in [
        ("i", "007", "leading zeros"),
        ("n", "007", "leading zeros"),
        ("r", "-01.5", "leading zeros"),
        ("i", "9223372036854775808", "64 bits"),
        ("n", "12345678901234567890", "64 bits"),
        ("r", "12345678901234567890", "more digits"),
        ("r", "9007199254740993", "more digits"),
        ("i", "123456789.0123456789", "more digits"),
        ("r", "0.1000000000000000055511151231257827", "more digits"),
        ("i", "1e400", "out of the range"),
        ("r", "-1e400", "out of the range"),
        ("r", "1e-400", "out of the range"),
    ] {
        let text = format!("x,{column}\nfirst,1\nsecond,{word}\n");
        let message = import(&fixture, "t", "rows.csv", &text, &[]).expect_failure(1);
        let place = format!("rows.csv: line 3: field 2, column \"{column}\": ");
        assert!(message.contains(&place), "{message}");
        assert!(message.contains(why), "{message}");
        assert!(
            message.contains("use a TEXT column, or give --lossy"),
            "{message}"
        );
        assert_eq!(fixture.number("SELECT count(*) FROM t"), 0);
    }
    let text = "i,r\n007,0.1000000000000000055511151231257827\n";
    import(&fixture, "t", "rows.csv", text, &["--lossy"]).expect_success();
    assert_eq!(fixture.query("SELECT i, r FROM t"), ["7,0.1"]);
}

#[test]
fn a_json_value_is_stored_exactly_or_refused() {
    let fixture = fixture();
    let digits = "0.1000000000000000055511151231257827";
    for (column, json, expected) in [
        ("x", digits, "text '0.1000000000000000055511151231257827'"),
        ("x", "1e400", "text '1e400'"),
        ("x", "18446744073709551616", "text '18446744073709551616'"),
        ("x", "1.10", "text '1.10'"),
        ("x", "true", "text 'true'"),
        ("i", "true", "integer 1"),
        ("a", "9223372036854775807", "integer 9223372036854775807"),
        ("a", "\"007\"", "text '007'"),
        ("i", "\"5\"", "integer 5"),
        (
            "b",
            "{\"$base64\": true, \"encoded\": \"AP8=\"}",
            "blob X'00FF'",
        ),
        (
            "x",
            "{\"encoded\": \"AP8=\", \"$base64\": true}",
            "blob X'00FF'",
        ),
        ("a", "{\"$base64\": true}", "text '{\"$base64\": true}'"),
    ] {
        let text = format!("{{\"{column}\": {json}}}");
        assert_eq!(stored(&fixture, column, "rows.json", &text), expected);
    }
    fixture.exec("DELETE FROM t");
    for (column, json, why) in [
        ("a", digits, "more digits"),
        ("b", "1e400", "out of the range"),
        ("i", "18446744073709551616", "64 bits"),
        ("r", "18446744073709551616", "more digits"),
        ("i", "\"007\"", "leading zeros"),
        ("a", "{\"$base64\": true, \"encoded\": \"A\"}", "base64"),
    ] {
        let text = format!("[{{\"x\": 1}},\n{{\"x\": 2,\n\"{column}\": {json}}}]");
        let message = import(&fixture, "t", "rows.json", &text, &[]).expect_failure(1);
        let place = format!("rows.json: line 3: column \"{column}\": ");
        assert!(
            message.contains(&place) && message.contains(why),
            "{message}"
        );
        assert_eq!(fixture.number("SELECT count(*) FROM t"), 0);
    }
}

#[test]
fn a_key_is_an_integer() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE key(id INTEGER PRIMARY KEY, x)");
    fixture.exec("CREATE VIRTUAL TABLE area USING rtree(id, low, high)");
    fixture.exec("CREATE VIRTUAL TABLE words USING fts5(x)");
    for (table, column) in [
        ("key", "id"),
        ("key", "oid"),
        ("area", "id"),
        ("words", "rowid"),
    ] {
        for word in ["abc", "1.5", "9e999", "007", "9223372036854775808"] {
            let text = format!("{column}\n1\n{word}\n");
            let message = import(&fixture, table, "rows.csv", text, &[]).expect_failure(1);
            assert!(
                message.contains("line 3: field 1, column"),
                "{table}: {message}"
            );
        }
    }
    let text = "{\"id\": 1.0}\n{\"id\": \"2\"}\n{\"id\": null}";
    import(&fixture, "key", "rows.json", text, &[]).expect_success();
    assert_eq!(fixture.query("SELECT id FROM key"), ["1", "2", "3"]);
}

/// SQLite takes such a type for one of numbers.
#[test]
fn a_type_that_promises_text_changes_no_word() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE promise(s STRING, u UUID)");
    for word in ["1.10", "+4912345", "12e4", "1.0", "007", "1e400"] {
        let text = format!("s,u\nx,{word}\n");
        let message = import(&fixture, "promise", "rows.csv", &text, &[]).expect_failure(1);
        assert!(
            message.contains("line 2: field 2, column \"u\""),
            "{message}"
        );
        assert!(
            message.contains("TEXT column, or give --lossy"),
            "{message}"
        );
        import(&fixture, "promise", "rows.csv", &text, &["--lossy"]).expect_success();
    }
    fixture.exec("DELETE FROM promise");
    let text = "s,u\n42,1.5\nabc,123e4567-e89b\n";
    import(&fixture, "promise", "rows.csv", text, &[]).expect_success();
    assert_eq!(
        fixture.query("SELECT s, u FROM promise"),
        ["42,1.5", "abc,123e4567-e89b"]
    );
}

#[test]
fn an_r_tree_takes_only_numbers_that_it_keeps() {
    let fixture = fixture();
    fixture.exec("CREATE VIRTUAL TABLE area USING rtree(id, low, high, +name)");
    fixture.exec("CREATE VIRTUAL TABLE cell USING rtree_i32(id, low, high)");
    for (table, text) in [
        ("area", "id,low,high,name\n1,a,2,x\n"),
        ("area", "id,low,high,name\n1,,2,x\n"),
        ("cell", "id,low,high\n1,1.5,2\n"),
        ("cell", "id,low,high\n1,1,3000000000\n"),
    ] {
        let message = import(&fixture, table, "rows.csv", text, &[]).expect_failure(1);
        assert!(message.contains("which an R-Tree needs"), "{message}");
    }
    for (table, word) in [
        ("area", "007"),
        ("area", "1e39"),
        ("area", "1e400"),
        ("area", "1700000001"),
        ("cell", "007"),
    ] {
        let text = format!("id,low,high\n1,{word},{word}\n");
        let message = import(&fixture, table, "rows.csv", text, &[]).expect_failure(1);
        assert!(
            message.contains("line 2: field 2, column \"low\""),
            "{message}"
        );
        assert!(message.contains("--lossy"), "{message}");
    }
    let text = "id,low,high,name\n7,1.5,2e1,007\n";
    import(&fixture, "area", "rows.csv", text, &[]).expect_success();
    assert_eq!(fixture.query("SELECT * FROM area"), ["7,1.5,20.0,007"]);
}

#[test]
fn a_field_that_may_be_a_blob_or_a_text_is_refused() {
    let fixture = fixture();
    let text = "x,b\n\"X'0A'\",X'0A'\n";
    import(&fixture, "t", "rows.csv", text, &[]).expect_success();
    let types = "SELECT typeof(x) || typeof(b) FROM t";
    assert_eq!(fixture.query(types), ["textblob"]);
    for column in ["x", "a", "i"] {
        let text = format!("{column}\nX'0A'\n");
        let message = import(&fixture, "t", "rows.csv", &text, &[]).expect_failure(1);
        assert!(message.contains("line 2: field 1"), "{message}");
        assert!(
            message.contains("--blobs literal or --blobs text"),
            "{message}"
        );
        for (option, kind) in [("literal", "blob"), ("text", "text")] {
            fixture.exec("DELETE FROM t");
            import(&fixture, "t", "rows.csv", &text, &["--blobs", option]).expect_success();
            let sql = format!("SELECT typeof({column}) FROM t");
            assert_eq!(fixture.query(&sql), [kind]);
        }
    }
}

#[test]
fn an_empty_field_that_is_refused_names_the_option() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE strict(i INTEGER, x TEXT) STRICT");
    fixture.exec("CREATE TABLE key(id INTEGER PRIMARY KEY, x)");
    fixture.exec("CREATE TABLE checked(i CHECK (i > 0 AND typeof(i) <> 'text'))");
    for (table, text) in [
        ("strict", "i,x\n,a\n"),
        ("key", "id,x\n,a\n"),
        ("checked", "i\n\"\"\n"),
    ] {
        let message = import(&fixture, table, "rows.csv", text, &[]).expect_failure(1);
        assert!(
            message.contains("add --empty-as-null"),
            "{table}: {message}"
        );
        import(&fixture, table, "rows.csv", text, &["--empty-as-null"]).expect_success();
    }
    // It is not named where it would not help.
    let message = import(
        &fixture,
        "strict",
        "rows.csv",
        "i,x\na,\n",
        &["--empty-as-null"],
    );
    assert!(!message.stderr.contains("--empty-as-null"), "{message:?}");
}

#[test]
fn empty_text_in_quotes_can_be_kept() {
    let fixture = fixture();
    let text = "x,a\n,\"\"\n";
    for (option, types) in [
        ("--empty-as-null", "nullnull"),
        ("--empty-as-null=all", "nullnull"),
        ("--empty-as-null=unquoted", "nulltext"),
    ] {
        fixture.exec("DELETE FROM t");
        import(&fixture, "t", "rows.csv", text, &[option]).expect_success();
        assert_eq!(
            fixture.query("SELECT typeof(x) || typeof(a) FROM t"),
            [types]
        );
    }
}

#[test]
fn rows_that_the_table_ignores_are_counted_and_named() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE once(a UNIQUE ON CONFLICT IGNORE)");
    fixture.exec(
        "CREATE TRIGGER unlucky BEFORE INSERT ON t WHEN new.a = '13' BEGIN \
         SELECT RAISE(IGNORE); END",
    );
    fixture.exec("CREATE VIEW v AS SELECT a FROM t");
    fixture.exec(
        "CREATE TRIGGER pass INSTEAD OF INSERT ON v WHEN new.a <> '13' BEGIN \
         INSERT INTO t(a) VALUES (new.a); END",
    );
    for (table, text) in [
        ("once", "a\n1\n1\n2\n1\n"),
        ("t", "a\n1\n13\n2\n13\n"),
        ("v", "a\n1\n13\n2\n13\n"),
    ] {
        for options in [&["--hold", "0s"][..], &[], &["--atomic"]] {
            fixture.exec("DELETE FROM once; DELETE FROM t");
            let output = import(&fixture, table, "rows.csv", text, options);
            let start = format!("penholder: 2 rows imported into {table} in ");
            let is_first = |line: &str| line.starts_with(&start);
            assert!(output.stderr.lines().any(is_first), "{output:?}");
            let ignored = "\n  2 rows were ignored by a conflict clause or a trigger of the \
                           table; the first: line 3\n";
            assert!(output.stderr.contains(ignored), "{output:?}");
            output.expect_success();
        }
    }
    // They count for --skip.
    fixture.exec("DELETE FROM once");
    fixture.exec(
        "CREATE TRIGGER never BEFORE INSERT ON once WHEN new.a = 'x' BEGIN \
         SELECT RAISE(ABORT, 'refused'); END",
    );
    let output = import(&fixture, "once", "rows.csv", "a\n1\n1\n2\nx\n", &[]);
    let message = output.expect_failure(3);
    assert!(message.contains("line 5: refused"), "{message}");
    let state = "\n  2 rows were imported; 1 row was ignored by a conflict clause or a trigger \
                 of the table; the first: line 3\n  correct it and continue with --skip 3";
    assert!(message.contains(state), "{message}");
}

/// Its line is looked for in the file while the rows after it are read from there.
#[test]
fn a_row_that_was_ignored_costs_no_row_after_it() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE once(a INTEGER PRIMARY KEY ON CONFLICT IGNORE, b)");
    // More than is read ahead.
    let numbers = || [1].into_iter().chain(1..=40_000);
    let csv = numbers().map(|a| format!("{a},row {a}\n"));
    let json = numbers().map(|a| format!("{{\"a\": {a}, \"b\": \"row {a}\"}}\n"));
    let csv = ["a,b\n".to_owned()].into_iter().chain(csv).collect();
    for (name, text, line) in [("rows.csv", csv, 3), ("rows.json", json.collect(), 2)] {
        fixture.exec("DELETE FROM once");
        let text: String = text;
        let output = import(&fixture, "once", name, text, &["--hold", "5ms"]);
        let ignored = format!("of the table; the first: line {line}\n");
        assert!(output.stderr.ends_with(&ignored), "{output:?}");
        output.expect_success();
        let right = "SELECT count(*) FROM once WHERE b = 'row ' || a AND a <= 40000";
        assert_eq!(fixture.number(right), 40_000);
        assert_eq!(fixture.number("SELECT count(*) FROM once"), 40_000);
    }
}

#[test]
fn rows_that_replace_others_are_counted_and_named() {
    let fixture = fixture();
    fixture.exec(
        "CREATE TABLE once(a UNIQUE ON CONFLICT REPLACE, b UNIQUE ON CONFLICT IGNORE); \
         CREATE TABLE key(id INTEGER PRIMARY KEY ON CONFLICT REPLACE, a NOT NULL); \
         CREATE TABLE bare(a PRIMARY KEY ON CONFLICT REPLACE) WITHOUT ROWID",
    );
    for (table, text) in [
        ("once", "a,b\n1,1\n1,2\n3,3\n1,4\n5,3\n"),
        ("key", "id,a\n1,1\n1,2\n3,3\n1,4\n"),
        ("bare", "a\n1\n1\n3\n1\n"),
    ] {
        for options in [&["--hold", "0s"][..], &["--atomic"]] {
            fixture.exec(&format!("DELETE FROM {table}"));
            let output = import(&fixture, table, "rows.csv", text, options);
            let replaced = "\n  2 rows took the place of rows with the same key, by a conflict \
                            clause of the table; the first: line 3\n";
            assert!(output.stderr.ends_with(replaced), "{output:?}");
            let start = format!("penholder: 4 rows imported into {table} in ");
            assert!(output.stderr.contains(&start), "{output:?}");
            assert_eq!(output.stderr.contains("1 row was ignored"), table == "once");
            output.expect_success();
            assert_eq!(fixture.number(&format!("SELECT count(*) FROM {table}")), 2);
        }
    }
    // A trigger that replaces rows of another table is none of the import's business.
    fixture.exec(
        "CREATE TABLE latest(one PRIMARY KEY, a); \
         CREATE TRIGGER note AFTER INSERT ON bare BEGIN \
         INSERT OR REPLACE INTO latest VALUES (1, new.a); END",
    );
    let output = import(&fixture, "bare", "rows.csv", "a\n5\n6\n7\n", &[]);
    assert!(!output.stderr.contains("took the place"), "{output:?}");
    assert_eq!(fixture.number("SELECT CAST(a AS INTEGER) FROM latest"), 7);
    let output = import(&fixture, "bare", "rows.csv", "a\n1\n", &["-q"]);
    assert!(output.stderr.contains("1 row took the place"), "{output:?}");
    // Another constraint still refuses a row.
    let json = "{\"id\": 9, \"a\": 1}\n{\"id\": 9, \"a\": null}";
    let message = import(&fixture, "key", "rows.json", json, &[]).expect_failure(3);
    assert!(
        message.contains("line 2: NOT NULL constraint failed"),
        "{message}"
    );
}

const FAMILY: &str = "person,father\nbart,omer\nlisa,omer\nomer,grampa\ngrampa,\n";

#[test]
fn an_atomic_import_takes_rows_that_refer_to_later_ones() {
    for deferred in ["", " DEFERRABLE INITIALLY DEFERRED"] {
        let fixture = CommandFixture::new(PENHOLDER);
        fixture.exec(&format!(
            "CREATE TABLE f(person TEXT PRIMARY KEY, father TEXT REFERENCES f(person){deferred})"
        ));
        let batches = ["--empty-as-null", "--hold", "0s"];
        let message = import(&fixture, "f", "family.csv", FAMILY, &batches).expect_failure(1);
        assert!(message.contains("line 2"), "{message}");
        assert!(
            message.contains("FOREIGN KEY constraint failed"),
            "{message}"
        );
        assert!(message.contains("--atomic, which"), "{message}");
        assert_eq!(
            message.contains("refused at the commit"),
            !deferred.is_empty(),
            "{message}"
        );
        let atomic = ["--empty-as-null", "--atomic"];
        let broken = FAMILY.replace("grampa,\n", "grampa,nobody\n");
        let message = import(&fixture, "f", "family.csv", broken, &atomic).expect_failure(1);
        assert!(
            message.contains("line 5: FOREIGN KEY constraint failed: \"father\" is 'nobody'"),
            "{message}"
        );
        assert!(message.contains("nothing was imported"), "{message}");
        import(&fixture, "f", "family.csv", FAMILY, &atomic).expect_success();
        assert_eq!(fixture.number("SELECT count(*) FROM f"), 4);
        // The next transaction checks at once again.
        let orphan = "INSERT INTO f VALUES ('x', 'nobody')";
        fixture.run(["exec", "x.db", orphan]).expect_failure(1);
    }
}

#[test]
fn texts_in_columns_of_numbers_are_stored_and_counted() {
    let fixture = fixture();
    fixture.exec(
        "CREATE TABLE m(i INTEGER, r REAL, d DATE, p INTERVAL, x TEXT);
         CREATE TABLE s(i INTEGER) STRICT",
    );
    let csv = "i,r,d,p,x\n1,\"1,5\",2024-01-31,1 day,a\nNA,2,,,\nn/a,-,,,\n,5,,,\n";
    let output = import(&fixture, "m", "rows.csv", csv, &[]);
    let (_, values) = output.stderr.split_once('\n').unwrap();
    assert_eq!(
        values,
        "  \
         2 values of column \"i\" of type INTEGER are no numbers, and stored as text; the first: \
         line 3\n  \
         1 empty field of column \"i\" of type INTEGER is stored as empty text; the first: line 5: \
         --empty-as-null stores NULL\n  \
         2 values of column \"r\" of type REAL are no numbers, and stored as text; the first: line \
         2\n",
        "{output:?}"
    );
    // The count is of the rows that this import wrote, and a quiet one counts too.
    let options = ["--skip", "3", "--quiet"];
    let output = import(&fixture, "m", "rows.csv", csv, &options);
    assert_eq!(
        output.stderr,
        "penholder: import: rows.csv: 1 empty field of column \"i\" of type INTEGER is stored as \
         empty text; the first: line 5: --empty-as-null stores NULL\n"
    );
    let json = "{\"i\":\"NA\",\"r\":\"1.5\"}\n{\"i\":[1],\"r\":null}";
    let output = import(&fixture, "m", "rows.jsonl", json, &["--atomic"]);
    let expected = "2 values of column \"i\" of type INTEGER are no numbers, and stored as text; \
                    the first: line 1\n";
    assert!(output.stderr.ends_with(expected), "{output:?}");
    let count = "SELECT count(*) FROM m WHERE typeof(i) = 'text'";
    assert_eq!(fixture.number(count), 6);
}

#[test]
fn nulls_that_became_defaults_are_counted() {
    let fixture = fixture();
    fixture.exec(
        "CREATE TABLE d(id INTEGER PRIMARY KEY NOT NULL,
                        a TEXT NOT NULL ON CONFLICT REPLACE DEFAULT 'x', b NOT NULL DEFAULT 1)",
    );
    let csv = "id,a,b\n,,1\n,y,2\n,,3\n";
    let output = import(&fixture, "d", "rows.csv", csv, &["--empty-as-null"]);
    let expected = "\n  2 NULLs of column \"a\" are stored as its default, by a conflict clause of \
                    the table; the first: line 2\n";
    assert!(output.stderr.ends_with(expected), "{output:?}");
    assert_eq!(output.stderr.lines().count(), 2, "{output:?}");
}

#[test]
fn a_view_is_said_to_store_what_its_trigger_stores() {
    let fixture = fixture();
    fixture.exec(
        "CREATE VIEW v AS SELECT x FROM t; CREATE TRIGGER put INSTEAD OF INSERT ON v
         BEGIN INSERT INTO t(x) VALUES (upper(new.x)); END",
    );
    let output = import(&fixture, "v", "rows.csv", "x\na\n", &[]);
    let expected = "\n  it is a view: what is stored is up to its trigger\n";
    assert!(output.stderr.ends_with(expected), "{output:?}");
}

#[test]
fn the_row_that_refers_to_no_row_is_named_by_an_atomic_import() {
    let fixture = fixture();
    fixture.exec(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); INSERT INTO p VALUES (1);
         CREATE TABLE c(x, \"a b\" REFERENCES p(id));
         CREATE TABLE k(id INTEGER PRIMARY KEY, up REFERENCES k(id));",
    );
    // This one was there before.
    plain_sqlite::open(&fixture.join("x.db"))
        .execute_batch("PRAGMA foreign_keys=OFF; INSERT INTO c VALUES ('old', 77)")
        .unwrap();
    for (table, text, expected) in [
        (
            "c",
            "x,a b\n1,1\n2,9\n3,8\n",
            "line 3: FOREIGN KEY constraint failed: \"a b\" is '9', and \"p\" has no such row\n",
        ),
        (
            "c",
            "x,a b\n1,1\n2,\n",
            "line 3: FOREIGN KEY constraint failed: \"a b\" is '', and \"p\" has no such row\n",
        ),
        (
            "k",
            "id,up\n5,6\n6,7\n",
            "line 3: FOREIGN KEY constraint failed: \"up\" is '7', and \"k\" has no such row\n",
        ),
    ] {
        let output = import(&fixture, table, "rows.csv", text, &["--atomic"]);
        let error = output.expect_failure(1);
        assert!(error.contains(expected), "{error}");
        let has_hint = error.contains("if an empty field means NULL, add --empty-as-null");
        assert_eq!(has_hint, expected.contains("''"), "{error}");
    }
    assert_eq!(fixture.number("SELECT count(*) FROM c"), 1);
    import(
        &fixture,
        "k",
        "rows.csv",
        "id,up\n5,6\n6,5\n",
        &["--atomic"],
    )
    .expect_success();
}
