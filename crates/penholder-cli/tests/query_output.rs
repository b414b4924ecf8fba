//! Proves that `penholder query` and `exec` show what the database has, in every format: no
//! blob looks like a text, and text that is not UTF-8 is shown with a warning.
#![cfg(test)]

use penholder_core::is_escaped;
use penholder_testkit::command_fixture::{CommandFixture, CommandOutput};
use penholder_testkit::plain_sqlite;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

fn query(fixture: &CommandFixture, sql: &str, format: &str) -> CommandOutput {
    fixture.run(["query", "x.db", sql, format])
}

/// The same bytes as a blob and as the text of its literal.
#[test]
fn a_blob_never_looks_like_a_text() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (blob, text) in [
        ("X'0A'", "'X''0A'''"),
        ("X''", "'x'''''"),
        ("X'27'", "'''X''''27'''''''"),
    ] {
        for format in ["--json", "--csv", "--table"] {
            let [blob, text] =
                [blob, text].map(|value| query(&fixture, &format!("SELECT {value} AS v"), format));
            assert_ne!(blob.expect_success(), text.expect_success(), "{format}");
        }
    }
    // A value by itself has no quotes: a warning says which it is.
    let warned = query(&fixture, "SELECT X'0A'", "--scalar");
    assert!(warned.stderr.contains("is a blob"), "{warned:?}");
    assert_eq!(warned.expect_success(), "X'0A'\n");
    query(&fixture, "SELECT 'X''0A'''", "--scalar").expect_quiet_success();
    // Nor like another text.
    for (one, other) in [("NULL", "'NULL'"), ("'NULL'", "'''NULL'''")] {
        let [one, other] = [one, other]
            .map(|value| query(&fixture, &format!("SELECT {value} AS v"), "--table").stdout);
        assert_ne!(one, other);
    }
}

#[test]
fn text_that_is_not_utf_8_is_shown_with_a_warning() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("INSERT INTO entry VALUES (1, CAST(X'61FF62' AS TEXT)), (2, CAST(X'C3' AS TEXT))");
    fixture.exec("INSERT INTO entry VALUES (3, 'ä')");
    for format in ["--json", "--csv", "--table"] {
        let output = query(&fixture, "SELECT value FROM entry", format);
        let warning = "penholder: 2 texts are not UTF-8: wrong bytes are shown as \u{FFFD}; \
                       hex() shows them\n";
        assert_eq!(output.stderr, warning, "{format}");
        let shown = output.expect_success();
        assert!(
            shown.contains("a\u{FFFD}b") && shown.contains('ä'),
            "{shown}"
        );
        let output = query(&fixture, "SELECT 'ä\u{FFFD}' AS v", format);
        output.expect_quiet_success();
    }
    let sql = "UPDATE entry SET key = key RETURNING value";
    let output = fixture.run(["exec", "x.db", sql]);
    let warning = "2 texts are shown with \u{FFFD}, which may stand for bytes that are not UTF-8\n";
    assert!(output.stderr.ends_with(warning), "{output:?}");
    assert!(output.expect_success().contains("a\u{FFFD}b"));
}

#[test]
fn no_format_lets_a_text_drive_a_terminal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "SELECT char(27, 155, 127, 8238) || '[31mx' AS \"c\u{1b}[2J\"";
    let script = format!(
        "for f in --csv --json --table; do \"$PENHOLDER\" query x.db '{sql}' $f; done; \
         \"$PENHOLDER\" query x.db '{sql}' --scalar",
        sql = sql.replace('\'', "'\\''")
    );
    let Some(shown) = fixture.run_on_terminal(&script, &[("TERM", "xterm")]) else {
        return;
    };
    assert_eq!(shown.matches("[31mx").count(), 4, "{shown:?}");
    assert!(
        shown.contains(r"\u001b\u009b\u007f\u202e[31mx"),
        "{shown:?}"
    );
    let raw = shown
        .replace(['\n', '\r'], "")
        .chars()
        .find(|&c| is_escaped(c));
    assert_eq!(raw, None, "{shown:?}");
    // Data for programs stays what it is.
    let raw = query(&fixture, sql, "--csv").expect_success();
    assert!(raw.contains("\u{1b}\u{9b}\u{7f}\u{202e}[31mx"), "{raw:?}");
}

#[test]
fn infinity_is_a_number_in_every_format() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for format in ["--csv", "--json", "--table", "--scalar"] {
        let shown = query(&fixture, "SELECT -9e999 AS v", format).expect_success();
        assert!(shown.contains("-9e999"), "{shown}");
    }
}

/// Other programs can give a column such a name.
#[test]
fn a_column_whose_name_is_not_utf_8_does_not_end_in_a_panic() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let schema = "PRAGMA writable_schema = ON; \
                  UPDATE sqlite_schema SET sql = CAST(X'435245415445205441424C4520656E7472792861FF\
                  2C206229' AS TEXT) WHERE name = 'entry'";
    let database = plain_sqlite::open(&fixture.join("x.db"));
    database.execute_batch(schema).unwrap();
    drop(database);
    for format in ["--json", "--csv", "--table"] {
        let output = query(&fixture, "SELECT * FROM entry", format);
        let warning = "penholder: 1 column name is shown with \u{FFFD}, which may stand for bytes \
                       that are not UTF-8\n";
        assert_eq!(output.stderr, warning, "{format}");
        output.expect_success();
        let named = "WITH named(a, b) AS (SELECT * FROM entry) SELECT * FROM named";
        query(&fixture, named, format).expect_quiet_success();
    }
}

#[test]
fn csv_says_what_an_import_has_to_know() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (sql, warnings) in [
        ("SELECT 1 AS a, 'x' AS b", vec![]),
        ("SELECT '' AS a, 2 AS b", vec![]),
        ("SELECT NULL AS a, 2 AS b", vec!["--empty-as-null"]),
        (
            "SELECT NULL AS a, '' AS b",
            vec!["--empty-as-null=unquoted"],
        ),
        ("SELECT NULL AS a UNION SELECT ''", vec!["--json"]),
        ("SELECT X'0A' AS a", vec!["--blobs literal"]),
        ("SELECT 1 AS a UNION ALL SELECT '1'", vec!["use --json"]),
        ("SELECT 1.5 AS a UNION ALL SELECT 'x'", vec![]),
        ("SELECT 1 AS a, '1' AS b", vec![]),
        (
            "SELECT X'0A' AS a, NULL AS b",
            vec!["--empty-as-null", "--blobs literal"],
        ),
    ] {
        let output = query(&fixture, sql, "--csv");
        assert_eq!(output.stderr.lines().count(), warnings.len(), "{output:?}");
        for (line, words) in output.stderr.lines().zip(warnings) {
            assert!(line.contains(words), "{output:?}");
        }
        output.expect_success();
        // Where CSV is only the usual format, it is not for an import.
        fixture.run(["query", "x.db", sql]).expect_quiet_success();
        query(&fixture, sql, "--json").expect_quiet_success();
    }
}
