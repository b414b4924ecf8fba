//! Proves what `query` takes and prints for use in scripts: several statements, named parameters,
//! one value by itself, rows without a header, and tables of any length.
#![cfg(test)]

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, parse_json};
use penholder_testkit::requirement;
use serde_json::json;

const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

fn fixture() -> CommandFixture {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("INSERT INTO entry VALUES (1, 'one'), (2, 'two')");
    fixture
}

fn query(fixture: &CommandFixture, args: &[&str]) -> CommandOutput {
    fixture.run([&["query", "x.db"], args].concat())
}

#[test]
fn named_parameters_have_their_values_by_name() {
    let fixture = fixture();
    let found = json!([{"value": "two"}]);
    for (sql, given) in [
        ("SELECT value FROM entry WHERE key = :k", "k=2"),
        ("SELECT value FROM entry WHERE key = @k", "@k=2"),
        ("SELECT value FROM entry WHERE key = $k", ":k=2"),
        ("SELECT value FROM entry WHERE key = :k AND :k = 2", "k=2"),
    ] {
        for option in ["-p", "--param"] {
            let rows = query(&fixture, &["--json", sql, option, given]).expect_json();
            assert_eq!(rows, found, "{sql} {given}");
        }
    }
    let sql = "SELECT :a AS a, ?2 AS b, :c AS c";
    let args = ["--json", sql, "5", "6", "-p", "a=x=y", "-p", "c=null:"];
    let rows = query(&fixture, &args).expect_json();
    assert_eq!(rows, json!([{"a": "x=y", "b": 6, "c": null}]));
}

/// Words of `--param` that no SQL could make right.
const WRONG_WORDS: [&str; 3] = [":a=2", "a", "=1"];

#[test]
fn parameters_without_a_value_and_values_without_a_parameter_are_refused() {
    let fixture = fixture();
    for (args, why) in [
        (
            &["SELECT :a"][..],
            "the parameter a has no value: give --param a=VALUE",
        ),
        (&["SELECT :a", "-p", "b=1"], "the parameter a has no value"),
        (
            &["SELECT :a", "-p", "a=1", "-p", "b=1"],
            "the SQL has no parameter :b",
        ),
        (
            &["SELECT :a", "-p", "a=1", "-p", ":a=2"],
            "the name has a value already",
        ),
        (&["SELECT :a", "-p", "a"], "give NAME=VALUE"),
        (&["SELECT :a", "-p", "=1"], "the name is empty"),
        (
            &["SELECT ?1"],
            "the statement has 1 parameter, and 0 values are given",
        ),
        (
            &["SELECT ?1, ?2", "1"],
            "the statement has 2 parameters, and 1 value is given",
        ),
        (&["SELECT ?1", "1", "2"], "and 2 values are given"),
        (&["SELECT 1", "1"], "the statement has no parameters"),
    ] {
        let code = if args.iter().any(|arg| WRONG_WORDS.contains(arg)) {
            2
        } else {
            1
        };
        let message = query(&fixture, args).expect_failure(code);
        assert!(message.contains(why), "{args:?}: {message}");
    }
}

#[test]
fn several_statements_print_their_rows_one_after_the_other() {
    let fixture = fixture();
    let sql = "SELECT key FROM entry; -- and\nSELECT count(*) AS n FROM entry;";
    let csv = query(&fixture, &[sql, "--csv"]).expect_success();
    assert_eq!(csv, "key\n1\n2\n\nn\n2\n");
    let text = query(&fixture, &[sql, "--json"]).expect_success();
    let arrays: Vec<_> = text.split_inclusive("]\n").map(parse_json).collect();
    assert_eq!(arrays, [json!([{"key": 1}, {"key": 2}]), json!([{"n": 2}])]);
    let rows = query(
        &fixture,
        &["--json", "SELECT ?1 AS a; SELECT :b AS b", "7", "-p", "b=8"],
    );
    // Each statement has its own `?1`.
    assert!(
        rows.expect_failure(1)
            .contains("1 value is given for ?1, ?2 …, which does not fit ?1")
    );
}

#[test]
fn nothing_is_printed_if_one_of_several_statements_is_wrong() {
    let fixture = fixture();
    for (sql, why) in [
        ("SELECT 1; DELETE FROM entry", "this statement writes"),
        ("SELECT 1; SELEC 2", "syntax error"),
        ("SELECT 1; SELECT x FROM missing", "no such table"),
        ("SELECT 1; PRAGMA user_version = 3", "this statement writes"),
        ("", "there is no statement"),
        (";; -- nothing\n", "there is no statement"),
        (
            "ATTACH 'y.db' AS y",
            "use `penholder exec`, which takes the locks",
        ),
    ] {
        let message = query(&fixture, &[sql]).expect_failure(1);
        assert!(message.contains(why), "{sql}: {message}");
    }
    assert_eq!(fixture.count_entries(), 2);
}

#[test]
fn sql_may_come_from_standard_input() {
    let fixture = fixture();
    let args = ["query", "x.db", "-", "--json", "-p", "k=1"];
    let sql = "SELECT value -- of one\nFROM entry\nWHERE key = :k;\n";
    let rows = fixture.run_with_input(args, sql).expect_json();
    assert_eq!(rows, json!([{"value": "one"}]));
    for input in ["SELECT 1\0", "SELECT 1; SELECT 2\0"] {
        let output = fixture.run_with_input(["query", "x.db", "-"], input);
        let message = output.expect_failure(1);
        assert!(message.contains("NUL byte"), "{message}");
    }
}

#[test]
fn a_scalar_is_printed_by_itself() {
    let fixture = fixture();
    for (sql, printed) in [
        ("SELECT count(*) FROM entry", "2\n"),
        ("SELECT value FROM entry WHERE key = 1", "one\n"),
        ("SELECT 'a,\"b\"'", "a,\"b\"\n"),
        ("SELECT NULL", "\n"),
        ("SELECT 1.0", "1.0\n"),
    ] {
        let output = query(&fixture, &["--scalar", sql]);
        assert_eq!(output.expect_quiet_success(), printed, "{sql}");
    }
    let output = query(&fixture, &["--scalar", "SELECT X'0A'"]);
    assert!(output.stderr.contains("the value is a blob"), "{output:?}");
    assert_eq!(output.expect_success(), "X'0A'\n");
    for (sql, why) in [
        ("SELECT key FROM entry WHERE key = 9", "there is no row"),
        ("SELECT key FROM entry", "there are several rows"),
        (
            "SELECT key, value FROM entry LIMIT 1",
            "there are 2 columns",
        ),
        ("SELECT 1; SELECT 2", "there are several statements"),
        ("", "there is no statement"),
    ] {
        let message = query(&fixture, &["--scalar", sql]).expect_failure(1);
        assert!(message.contains(why), "{sql}: {message}");
    }
}

#[test]
fn rows_may_come_without_a_header() {
    let fixture = fixture();
    let sql = "SELECT * FROM entry";
    let csv = query(&fixture, &["--no-header", sql]).expect_success();
    assert_eq!(csv, "1,one\n2,two\n");
    let table = query(&fixture, &["--no-header", "--table", sql]).expect_success();
    assert_eq!(
        table,
        "┌───┬─────┐\n│ 1 ┆ one │\n│ 2 ┆ two │\n└───┴─────┘\n"
    );
    for with in ["--json", "--scalar"] {
        query(&fixture, &["--no-header", with, sql]).expect_failure(2);
    }
}

/// The address space would not hold all rows at once.
#[cfg(unix)]
#[test]
fn a_long_table_needs_little_memory() {
    let fixture = fixture();
    let sql = "WITH RECURSIVE n(x) AS (SELECT 1 UNION ALL SELECT x + 1 FROM n WHERE x < 300000) \
               SELECT x, hex(zeroblob(200)) FROM n";
    let script = format!("ulimit -v 150000; \"$PENHOLDER\" query x.db --table '{sql}' | tail -n 2");
    let last = fixture.run_script(&script).expect_quiet_success();
    assert!(last.contains("300000"), "{last}");
}

#[test]
fn a_table_fits_the_terminal() {
    if !requirement::has_program("script") {
        return;
    }
    let fixture = fixture();
    let script = "stty cols 40; \"$PENHOLDER\" query x.db \
                  \"SELECT 1 AS id, 'a long text that does not fit in one line of it' AS text\"";
    let Some(text) = fixture.run_on_terminal(script, &[("TERM", "xterm")]) else {
        return;
    };
    let lines: Vec<&str> = text
        .lines()
        .filter(|line| line.contains(['│', '─']))
        .collect();
    assert!(lines.len() > 4, "{text}");
    for line in lines {
        assert!(line.trim_end().chars().count() <= 40, "{text}");
    }
}

#[test]
fn values_without_names_stand_beside_those_with_names() {
    let fixture = fixture();
    for (sql, values, found) in [
        (
            "SELECT :n AS a, ? AS b",
            &["1"][..],
            json!([{"a": "x", "b": 1}]),
        ),
        (
            "SELECT ? AS a, :n AS b, ? AS c, :n AS d",
            &["1", "2"],
            json!([{"a": 1, "b": "x", "c": 2, "d": "x"}]),
        ),
    ] {
        let args = [&["--json", sql], values, &["-p", "n=x"]].concat();
        assert_eq!(query(&fixture, &args).expect_json(), found, "{sql}");
    }
    let args = ["SELECT :n, ?", "1", "2", "-p", "n=x"];
    let error = query(&fixture, &args).expect_failure(1);
    assert!(error.contains("2 values are given for ?1, ?2"), "{error}");
}

#[test]
fn an_error_names_the_statement_and_the_line() {
    let fixture = fixture();
    for (sql, expected) in [
        (
            "SELECT 1;\n\nSELECT\n  nope FROM entry;",
            "penholder: statement 2, line 3: run SQL: no such column: nope in line 4\n",
        ),
        (
            "SELECT 1;\nSELECT abs(-9223372036854775807 - 1)",
            "penholder: statement 2, line 2: run SQL: integer overflow\n",
        ),
        (
            "SELECT 1;\nDELETE FROM entry",
            "penholder: statement 2, line 2: query: this statement writes: use `penholder exec`\n",
        ),
        (
            "SELECT nope FROM entry",
            "penholder: run SQL: no such column: nope\n",
        ),
    ] {
        let output = query(&fixture, &[sql]);
        assert_eq!((output.code, &*output.stderr), (Some(1), expected), "{sql}");
    }
}

#[test]
fn an_explained_statement_has_names_of_columns() {
    let fixture = fixture();
    let header = "id,parent,notused,detail\n";
    for command in ["query", "exec"] {
        let sql = "EXPLAIN QUERY PLAN SELECT * FROM entry";
        let rows = fixture.run([command, "x.db", sql]).expect_success();
        assert!(rows.starts_with(header), "{command}: {rows}");
    }
    let rows = query(&fixture, &["SELECT 1 AS a, 2 AS b; EXPLAIN SELECT 3"]).expect_success();
    assert!(
        rows.contains("\n\naddr,opcode,p1,p2,p3,p4,p5,comment\n"),
        "{rows}"
    );
}

#[test]
fn a_command_of_the_shell_is_refused_with_what_to_do_instead() {
    let fixture = fixture();
    let message = query(&fixture, &[".tables"]).expect_failure(1);
    let expected = "query: .tables: it is a command of SQLite's shell, not SQL";
    assert!(message.contains(expected), "{message}");
    let (_, advice) = message.split_once("use penholder ").unwrap();
    if cfg!(unix) {
        let script = format!("$PENHOLDER {advice}");
        let rows = fixture.run_script(&script).expect_success();
        assert!(rows.contains("\nentry,"), "{rows}");
    }
}
