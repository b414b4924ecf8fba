//! Proves that `penholder import` imports all rows of a file or reports which rows it
//! imported: values, malformed rows and their lines, constraints, interruptions, and
//! concurrent writers.
#![cfg(test)]

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use penholder::Database;
use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, PROMPT, wait_for_exit};
use penholder_testkit::{peer, plain_sqlite, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Creates a directory with a database that has a table of parts.
fn fixture() -> CommandFixture {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture
        .exec("CREATE TABLE part(id INTEGER PRIMARY KEY, name TEXT, price REAL, stock DEFAULT 7)");
    fixture
}

/// Imports a file with this text and name, and these options.
fn import(
    fixture: &CommandFixture,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
) -> CommandOutput {
    fs::write(fixture.join(name), text).unwrap();
    let args = ["import", "x.db", "part", name].into_iter();
    fixture.run(args.chain(options.iter().copied()))
}

/// Returns the parts, each as one line of CSV.
fn parts(fixture: &CommandFixture) -> Vec<String> {
    fixture.query("SELECT id, name, price, stock FROM part ORDER BY id")
}

fn count(fixture: &CommandFixture) -> i64 {
    fixture.number("SELECT count(*) FROM part")
}

/// Writes the file `many.csv` with this number of rows, whose ids start at 1.
fn write_many_rows(fixture: &CommandFixture, rows: u32) {
    let mut text = "id,name,price\n".to_owned();
    for id in 1..=rows {
        writeln!(text, "{id},part {id},{id}.5").unwrap();
    }
    fs::write(fixture.join("many.csv"), text).unwrap();
}

/// Starts an import of `many.csv`.
fn start_import(fixture: &CommandFixture, options: &[&str]) -> Child {
    let args = ["import", "x.db", "part", "many.csv"].into_iter();
    let mut command = fixture.command(args.chain(options.iter().copied()));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn csv_values_are_converted_to_the_types_of_the_columns() {
    let fixture = fixture();
    fixture.exec("DROP TABLE part");
    fixture.exec("CREATE TABLE part(i INTEGER, t TEXT, r REAL, b BLOB, n)");
    let text = "T,i,r,b,n\n1,1,1,1,1\nx,x,x,x,x\n,,,,\n\"a,\"\"b\"\"\nc\",+7,1e3, 2 ,NULL\n";
    let output = import(&fixture, "rows.csv", text, &[]);
    assert!(
        output
            .stderr
            .starts_with("penholder: 4 rows imported into part in ")
    );
    assert_eq!(output.expect_success(), "");
    let types = "SELECT typeof(i) || typeof(t) || typeof(r) || typeof(b) || typeof(n) FROM part";
    let text = "texttexttexttexttext";
    assert_eq!(
        fixture.query(types),
        [
            "integertextrealtexttext",
            text,
            text,
            "integertextrealtexttext"
        ]
    );
    let last = "SELECT t = 'a,\"b\"' || char(10) || 'c' AND i = 7 AND r = 1000 AND b = ' 2 ' \
                AND n = 'NULL' FROM part ORDER BY rowid DESC LIMIT 1";
    assert_eq!(fixture.number(last), 1);
}

#[test]
fn an_empty_field_is_empty_text_or_null() {
    let fixture = fixture();
    import(&fixture, "rows.csv", "id,name,price\n1,,\n", &[]).expect_success();
    import(
        &fixture,
        "rows.csv",
        "id,name,price\n2,,\n",
        &["--empty-as-null"],
    )
    .expect_success();
    let sql = "SELECT typeof(name) || typeof(price) FROM part ORDER BY id";
    assert_eq!(fixture.query(sql), ["texttext", "nullnull"]);
}

#[test]
fn columns_missing_from_the_file_get_their_default() {
    let fixture = fixture();
    import(&fixture, "rows.csv", "name\nbolt\n", &[]).expect_success();
    let objects = "{\"stock\":null}\n{}\n{\"name\":\"nut\",\"id\":9}\n";
    import(&fixture, "rows.jsonl", objects, &[]).expect_success();
    assert_eq!(parts(&fixture), ["1,bolt,,7", "2,,,", "3,,,7", "9,nut,,7"]);
}

#[test]
fn json_values_keep_their_types() {
    let fixture = fixture();
    fixture.exec("DROP TABLE part");
    fixture.exec("CREATE TABLE part(v)");
    let values = [
        ("null", "null", "NULL"),
        ("true", "integer", "1"),
        ("false", "integer", "0"),
        ("-12", "integer", "-12"),
        ("9223372036854775807", "integer", "9223372036854775807"),
        ("1.50", "real", "1.5"),
        ("1e3", "real", "1000.0"),
        ("\"12\"", "text", "'12'"),
        ("\"ä\\u00e4\\n\\\"\"", "text", "'ää' || char(10) || '\"'"),
        ("\"a\\u0000b\"", "text", "'a' || char(0) || 'b'"),
        ("[1, {\"a\": null}]", "text", "'[1, {\"a\": null}]'"),
        ("{ }", "text", "'{ }'"),
    ];
    let objects = values.map(|(json, ..)| format!(" {{ \"V\" : {json} }} \r\n"));
    import(&fixture, "rows.ndjson", objects.concat(), &[]).expect_success();
    for (row, (json, kind, sql)) in values.into_iter().enumerate() {
        let found = format!(
            "SELECT v IS {sql} AND typeof(v) = '{kind}' FROM part WHERE rowid = {}",
            row + 1
        );
        assert_eq!(fixture.number(&found), 1, "{json}");
    }
}

#[test]
fn json_printed_by_query_can_be_imported() {
    let fixture = fixture();
    fixture.exec("INSERT INTO part VALUES (1, 'a\"b', 9e999, NULL), (2, '', -1.5, 4)");
    let before = fixture
        .run(["query", "x.db", "SELECT * FROM part", "--json"])
        .expect_quiet_success();
    let lines = before
        .trim_start_matches('[')
        .replace("},", "}")
        .replace("}]", "}");
    fixture.exec("DELETE FROM part");
    import(&fixture, "rows.jsonl", lines, &[]).expect_success();
    assert_eq!(
        fixture
            .run(["query", "x.db", "SELECT * FROM part", "--json"])
            .expect_quiet_success(),
        before
    );
}

#[test]
fn standard_input_can_be_imported() {
    let fixture = fixture();
    let csv = ["import", "x.db", "part", "-", "--format", "csv"];
    fixture
        .run_with_input(csv, "id,name\n1,bolt\n")
        .expect_success();
    let jsonl = ["import", "x.db", "part", "-", "--format", "jsonl"];
    fixture
        .run_with_input(jsonl, "{\"id\":2}\n{\"id\":3}")
        .expect_success();
    let message = fixture
        .run_with_input(csv, "id\n4\nx,y\n")
        .expect_failure(1);
    assert!(
        message.contains("standard input: line 3: 2 fields"),
        "{message}"
    );
    let message = fixture
        .run_with_input(["import", "x.db", "part", "-"], "id\n4\n")
        .expect_failure(2);
    assert!(
        message.contains("--format csv or --format jsonl"),
        "{message}"
    );
    assert_eq!(count(&fixture), 3);
}

#[cfg(unix)]
#[test]
fn what_a_path_of_standard_input_or_a_named_pipe_has_can_be_imported() {
    let fixture = fixture();
    let piped = "printf 'id\\n5\\n' | \"$PENHOLDER\" import x.db part /dev/stdin --format csv";
    fixture.run_script(piped).expect_success();
    let named = "mkfifo pipe.csv; (printf 'id\\n6\\n' > pipe.csv) & \
                 \"$PENHOLDER\" import x.db part pipe.csv";
    fixture.run_script(named).expect_success();
    let closed = "\"$PENHOLDER\" import x.db part - --format jsonl <&-";
    fixture.run_script(closed);
    assert_eq!(count(&fixture), 2);
}

#[test]
fn the_delimiter_follows_the_extension_or_the_option() {
    let fixture = fixture();
    import(&fixture, "rows.tsv", "id\tname\n1\ta,b\n", &[]).expect_success();
    import(
        &fixture,
        "rows.txt",
        "id;name\n2;a,b\n",
        &["--format", "csv", "--delimiter", ";"],
    )
    .expect_success();
    import(
        &fixture,
        "rows.csv",
        "id\tname\n3\ta,b\n",
        &["--delimiter", "tab"],
    )
    .expect_success();
    assert_eq!(
        fixture.query("SELECT count(*) FROM part WHERE name = 'a,b'"),
        ["3"]
    );
}

#[test]
fn malformed_csv_is_reported_with_its_line_and_nothing_is_imported() {
    let fixture = fixture();
    for (text, line, why) in [
        (
            "id,name\n1,a\n2\n3,c\n",
            3,
            "1 field, but the header names 2 columns",
        ),
        ("id,name\n1,a\n2,b,c\n", 3, "3 fields"),
        ("id,name\r\n1,a\r\n2\r\n", 3, "1 field"),
        ("id,name\r1,a\r2\r", 3, "1 field"),
        ("\u{feff}id,name\n1,a\n2\n", 3, "1 field"),
        // Line breaks inside quotes and empty lines count as lines.
        ("id,name\n1,\"a\nb\r\nc\"\n\n\n2\n", 7, "1 field"),
        ("id,\"na\nme\"\n", 1, "no column \"na\\nme\""),
        ("id,name\n1,a\n2,\"b\n3,c\n", 3, "a quote is not closed"),
        ("id,name\n1,\"a", 2, "a quote is not closed"),
        ("id,name\n1,\"a\"\"", 2, "a quote is not closed"),
        ("id,nome\n1,a\n", 1, "the table part has no column \"nome\""),
        (
            "id,name,ID\n1,a,1\n",
            1,
            "the header names the column \"ID\" twice",
        ),
        ("id,\n1,a\n", 1, "no column \"\""),
        ("", 1, "there is no header"),
        ("\n\n", 3, "there is no header"),
        ("\u{feff}", 1, "there is no header"),
    ] {
        let message = import(&fixture, "rows.csv", text, &[]).expect_failure(1);
        let place = format!("import: rows.csv: line {line}: ");
        assert!(message.contains(&place), "{text:?}: {message}");
        assert!(message.contains(why), "{text:?}: {message}");
        assert!(
            message.ends_with("nothing was imported: correct it and try again\n"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message = import(&fixture, "rows.csv", b"id,name\n1,a\n2,\xFF\n", &[]).expect_failure(1);
    assert!(
        message.contains("line 3: field 2 is not UTF-8"),
        "{message}"
    );
    assert_eq!(count(&fixture), 0);
}

#[test]
fn malformed_json_is_reported_with_its_line_and_nothing_is_imported() {
    let fixture = fixture();
    for (text, line, why) in [
        (
            "{\"id\":1}\n{\"id\":2\n",
            2,
            "EOF while parsing an object (at byte 7)",
        ),
        (
            "{\"id\":1}\n\n  \r\n[[{\"id\":2}]]\n",
            4,
            "expected one JSON object for each row",
        ),
        ("{\"id\":1}\n2\n", 2, "expected one JSON object"),
        ("{\"id\":1}\n{\"id\":2} x\n", 2, "expected one JSON object"),
        ("{\"id\":1}\n{\"id\":2}}\n", 2, "expected one JSON object"),
        (
            "{\"id\":1}\n{\"size\":2}\n",
            2,
            "the table part has no column \"size\"",
        ),
        (
            "{\"id\":1}\n{\"id\":2,\"Id\":2}\n",
            2,
            "the column \"id\" appears twice",
        ),
        (
            "{\"id\":1}\n{\"name\":\"\\ud800\"}\n",
            2,
            "half of a character",
        ),
        ("{\"id\":NaN}\n", 1, "expected"),
        ("{\"id\":01}\n", 1, "invalid number"),
        ("\u{feff}{\"id\":1}\nid,name\n", 2, "expected"),
    ] {
        let message = import(&fixture, "rows.jsonl", text, &[]).expect_failure(1);
        let place = format!("import: rows.jsonl: line {line}: ");
        assert!(message.contains(&place), "{text:?}: {message}");
        assert!(message.contains(why), "{text:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message =
        import(&fixture, "rows.jsonl", b"{}\n{\"name\":\"\xFF\"}\n", &[]).expect_failure(1);
    assert!(message.contains("line 2: it is not UTF-8"), "{message}");
    assert_eq!(count(&fixture), 0);
}

/// Only the last row is malformed: no row before it may be imported.
#[test]
fn the_last_row_is_checked_before_the_first_is_written() {
    let fixture = fixture();
    write_many_rows(&fixture, 50_000);
    let mut text = fs::read_to_string(fixture.join("many.csv")).unwrap();
    text += "50001\n";
    for options in [&[][..], &["--skip", "10"], &["--atomic"]] {
        let message = import(&fixture, "rows.csv", &text, options).expect_failure(1);
        assert!(message.contains("line 50002"), "{message}");
        assert_eq!(count(&fixture), 0);
    }
}

#[test]
fn unusual_but_well_formed_files_are_imported() {
    for (text, rows) in [
        ("\u{feff}id,name\n1,a\n", 1),
        ("id,name\r\n1,a\r\n\r\n2,b", 2),
        ("id,name\r1,a\r2,b\r", 2),
        ("\"ID\",\"Name\"\n\"1\",\"\"\n", 1),
        ("id,name\n1,\"a\nb\"", 1),
        ("id,name\n1,\"a\n\n\"", 1),
        ("id,name\n1,a\"b\"\n", 1),
        ("id,name\n", 0),
        ("id,name", 0),
    ] {
        let fixture = fixture();
        let output = import(&fixture, "rows.csv", text, &[]);
        assert_eq!(output.code, Some(0), "{text:?}: {output:?}");
        assert_eq!(count(&fixture), rows, "{text:?}");
    }
    let fixture = fixture();
    for text in ["", "\n", "\u{feff}"] {
        let output = import(&fixture, "rows.jsonl", text, &[]);
        assert!(
            output.stderr.starts_with("penholder: 0 rows imported"),
            "{output:?}"
        );
        output.expect_success();
    }
}

#[test]
fn an_unusable_table_or_file_is_reported_with_the_next_step() {
    const PLAIN: &str = if cfg!(windows) {
        "\"CREATE TABLE parts(a, b)\""
    } else {
        "'CREATE TABLE parts(a, b)'"
    };
    const QUOTED: &str = if cfg!(windows) {
        "CREATE TABLE parts("
    } else {
        "'CREATE TABLE parts(\"a b\", c)'"
    };
    const MISSING: &str = if cfg!(windows) {
        "missing.csv: "
    } else {
        "missing.csv: No such file"
    };
    let fixture = fixture();
    fixture.exec("CREATE VIEW names AS SELECT * FROM part");
    fixture.exec("CREATE TABLE sum(a, b AS (a + 1))");
    fs::write(fixture.join("rows.csv"), "a,b\n1,2\n").unwrap();
    fs::write(fixture.join("odd.csv"), "a b,c\n1,2\n").unwrap();
    fs::write(fixture.join("rows.jsonl"), "{}\n").unwrap();
    fs::create_dir(fixture.join("directory.csv")).unwrap();
    for (db, table, file, expected) in [
        ("x.db", "parts", "rows.csv", PLAIN),
        ("x.db", "parts", "odd.csv", QUOTED),
        ("x.db", "parts", "rows.jsonl", "the file names no columns"),
        ("x.db", "", "rows.csv", "there is no table"),
        ("x.db", "names", "rows.csv", "it is a view"),
        ("x.db", "sqlite_schema", "rows.csv", "may not be modified"),
        ("x.db", "sum", "rows.csv", "\"b\" is computed"),
        ("y.db", "part", "rows.csv", "there is no such database"),
        ("x.db", "part", "missing.csv", MISSING),
        ("x.db", "part", "directory.csv", "is a directory"),
    ] {
        let message = fixture.run(["import", db, table, file]).expect_failure(1);
        assert!(message.contains(expected), "{table} {file}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(!fixture.join("y.db").exists());
    for file in ["rows", "rows.xml", ".csv"] {
        let message = fixture
            .run(["import", "x.db", "part", file])
            .expect_failure(2);
        assert!(message.contains("--format"), "{message}");
    }
}

#[test]
fn names_that_need_quotes_are_quoted() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE \"odd \"\"table\"(\"a b\", \"sel'ect\", \"ä\")");
    fs::write(fixture.join("rows.csv"), "ä,A B,sel'ect\n1,2,3\n").unwrap();
    fixture
        .run(["import", "x.db", "odd \"table", "rows.csv"])
        .expect_success();
    assert_eq!(fixture.query("SELECT * FROM \"odd \"\"table\""), ["2,3,1"]);
}

#[test]
fn rows_can_be_imported_into_a_view_with_a_trigger() {
    let fixture = fixture();
    fixture.exec("CREATE VIEW names AS SELECT id, name FROM part");
    fixture.exec(
        "CREATE TRIGGER put INSTEAD OF INSERT ON names BEGIN \
         INSERT INTO part(id, name) VALUES (new.id, new.name); END",
    );
    fs::write(fixture.join("rows.csv"), "id,name\n1,bolt\n").unwrap();
    fixture
        .run(["import", "x.db", "names", "rows.csv"])
        .expect_success();
    assert_eq!(parts(&fixture), ["1,bolt,,7"]);
}

#[test]
fn a_refused_row_ends_the_import_after_the_rows_before_it() {
    let fixture = fixture();
    let text = "id,name\n1,a\n2,\"b\nb\"\n1,c\n4,d\n";
    let output = import(&fixture, "rows.csv", text, &[]);
    let message = output.expect_failure(3);
    assert!(
        message.contains("rows.csv: line 5: UNIQUE constraint failed: part.id\n"),
        "{message}"
    );
    assert!(message.contains("\n  2 rows were imported\n"), "{message}");
    assert!(
        message.contains("continue with --skip 2, or leave it out with --skip 3\n"),
        "{message}"
    );
    assert_eq!(count(&fixture), 2);
    // The next row is the refused one again, so nothing more is imported.
    let message = import(&fixture, "rows.csv", text, &["--skip", "2"]).expect_failure(1);
    assert!(message.contains("nothing was imported"), "{message}");
    assert!(
        message.contains("continue with --skip 2, or leave it out with --skip 3\n"),
        "{message}"
    );
    import(&fixture, "rows.csv", text, &["--skip", "3"]).expect_success();
    assert_eq!(count(&fixture), 3);
    import(
        &fixture,
        "rows.csv",
        text.replace("\n1,c", "\n3,c"),
        &["--skip", "4"],
    )
    .expect_success();
    assert_eq!(count(&fixture), 3);
    let message = import(&fixture, "rows.csv", text, &["--skip", "5"]).expect_failure(1);
    assert!(message.contains("it has 4 rows"), "{message}");
}

/// With every conflict clause, the rows before the refused one are imported.
#[test]
fn every_conflict_clause_keeps_the_rows_before_the_refused_one() {
    for conflict in ["ABORT", "FAIL", "ROLLBACK"] {
        let fixture = CommandFixture::new(PENHOLDER);
        fixture.exec(&format!(
            "CREATE TABLE part(id INTEGER UNIQUE ON CONFLICT {conflict}, name)"
        ));
        fixture.exec(&format!(
            "CREATE TRIGGER never AFTER INSERT ON part WHEN new.id = 13 BEGIN \
             SELECT RAISE({conflict}, 'unlucky'); END"
        ));
        for (text, why) in [
            ("id\n1\n2\n2\n3\n", "UNIQUE constraint failed"),
            ("id\n11\n12\n13\n14\n", "unlucky"),
        ] {
            fixture.exec("DELETE FROM part");
            let message = import(&fixture, "rows.csv", text, &[]).expect_failure(3);
            assert!(
                message.contains(&format!("line 4: {why}")),
                "{conflict}: {message}"
            );
            assert_eq!(count(&fixture), 2, "{conflict}: {message}");
        }
    }
}

#[test]
fn a_failed_commit_rolls_its_batch_back() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE maker(id INTEGER PRIMARY KEY)");
    fixture.exec("CREATE TABLE part(id, maker REFERENCES maker DEFERRABLE INITIALLY DEFERRED)");
    fixture.exec("INSERT INTO maker VALUES (1)");
    let text = "id,maker\n1,1\n2,1\n3,99\n";
    let message = import(&fixture, "rows.csv", text, &["--hold", "10s"]).expect_failure(1);
    assert!(
        message.contains("FOREIGN KEY constraint failed"),
        "{message}"
    );
    assert!(message.contains("nothing was imported"), "{message}");
    // Each batch has one row.
    let message = import(&fixture, "rows.csv", text, &["--hold", "0s"]).expect_failure(3);
    assert!(message.contains("2 rows were imported"), "{message}");
    assert!(message.contains("continue with --skip 2"), "{message}");
    assert_eq!(count(&fixture), 2);
}

#[test]
fn atomic_is_all_or_nothing() {
    let fixture = fixture();
    let text = "id,name\n1,a\n2,b\n1,c\n";
    let output = import(&fixture, "rows.csv", text, &["--atomic"]);
    let message = output.expect_failure(1);
    assert!(
        message.contains("no other process can write until all rows are in"),
        "{message}"
    );
    assert!(message.contains("line 4: UNIQUE"), "{message}");
    assert!(message.contains("nothing was imported"), "{message}");
    assert_eq!(count(&fixture), 0);
    let output = import(&fixture, "rows.csv", text, &["--atomic", "--skip", "1"]);
    assert!(
        output.stderr.contains("2 rows imported into part"),
        "{output:?}"
    );
    assert!(
        output.stderr.contains("no other process wrote meanwhile"),
        "{output:?}"
    );
    assert_eq!(parts(&fixture), ["1,c,,7", "2,b,,7"]);
}

#[test]
fn an_import_waits_for_the_holder_and_names_it() {
    let fixture = fixture();
    let mut holder = fixture.hold_lock(&["--label", "nightly"]);
    let options = ["--timeout", "50ms"];
    let output = import(&fixture, "rows.csv", "id\n1\n", &options);
    let message = output.expect_failure(75);
    assert!(
        message.contains("write lock timeout after 50ms"),
        "{message}"
    );
    assert!(message.contains("label: nightly"), "{message}");
    assert!(
        message.contains("nothing was imported\n  try again"),
        "{message}"
    );
    // A malformed file is refused without waiting.
    let (output, time) =
        wait::timed(|| import(&fixture, "rows.csv", "id\n1,2\n", &["--timeout", "50s"]));
    output.expect_failure(1);
    assert!(time < PROMPT, "{time:?}");
    write_many_rows(&fixture, 10);
    let waiting = start_import(&fixture, &["--timeout", "60s"]);
    wait::until("it waits", || {
        fixture.status()["queue"][0]["label"] == "import"
    });
    holder.send("go");
    assert_eq!(wait_for_import(waiting).code, Some(0));
    assert_eq!(count(&fixture), 10);
}

#[test]
fn a_timeout_in_the_middle_keeps_the_rows_imported_so_far() {
    let fixture = fixture();
    write_many_rows(&fixture, MANY);
    let import = start_import(&fixture, &["--hold", "1ms", "--timeout", "200ms"]);
    wait_for_rows(&fixture.join("x.db"));
    let _holder = fixture.hold_lock(&[]);
    let output = wait_for_import(import);
    assert_eq!(output.code, Some(75), "{output:?}");
    assert!(
        output.stderr.contains("write lock timeout after 200ms"),
        "{output:?}"
    );
    let rows = count_prefix(&fixture);
    let state = format!("\n  {rows} rows were imported\n  continue with --skip {rows}\n");
    assert!(output.stderr.ends_with(&state), "{output:?}");
}

/// Waits until an import exits.
fn wait_for_import(mut child: Child) -> CommandOutput {
    let status = wait_for_exit(&mut child, wait::LIMIT);
    let mut stderr = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut stderr).unwrap();
    CommandOutput {
        code: status.code(),
        signal: peer::signal_of(status),
        stdout: String::new(),
        stderr,
    }
}

/// Waits until other processes see rows of a large import.
fn wait_for_rows(path: &Path) -> i64 {
    let mut rows = 0;
    wait::until("some rows are in", || {
        rows = plain_sqlite::number(path, "SELECT count(*) FROM part");
        rows > 0
    });
    rows
}

/// Returns how many rows are imported, and asserts that they have the first ids.
#[track_caller]
fn count_prefix(fixture: &CommandFixture) -> i64 {
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
    let rows = count(fixture);
    let last = fixture.number("SELECT coalesce(max(id), 0) FROM part");
    assert_eq!(rows, last, "no row is missing before another");
    rows
}

const MANY: u32 = 200_000;

#[test]
fn a_kill_leaves_whole_batches() {
    let fixture = fixture();
    write_many_rows(&fixture, MANY);
    for _ in 0..3 {
        let before = count_prefix(&fixture);
        let skip = before.to_string();
        let mut import = start_import(&fixture, &["--hold", "1ms", "--skip", &skip]);
        wait::until("it continues", || count(&fixture) > before);
        import.kill().unwrap();
        import.wait().unwrap();
        let after = count_prefix(&fixture);
        assert!(after > before, "{before} {after}");
    }
    let skip = count_prefix(&fixture).to_string();
    fixture
        .run(["import", "x.db", "part", "many.csv", "--skip", &skip])
        .expect_success();
    assert_eq!(count_prefix(&fixture), i64::from(MANY));
}

#[test]
fn a_killed_atomic_import_leaves_nothing() {
    let fixture = fixture();
    write_many_rows(&fixture, MANY);
    let mut import = start_import(&fixture, &["--atomic"]);
    wait::until("it writes", || {
        fixture.status()["holder"]["label"] == "import"
    });
    import.kill().unwrap();
    import.wait().unwrap();
    assert!(matches!(count_prefix(&fixture), 0 | 200_000));
    fixture.exec("SELECT 1");
}

#[cfg(unix)]
#[test]
fn an_interrupted_import_says_how_to_continue() {
    for (name, code) in [("INT", 130), ("TERM", 143), ("HUP", 129)] {
        let fixture = fixture();
        write_many_rows(&fixture, MANY);
        let import = start_import(&fixture, &["--hold", "1ms"]);
        wait_for_rows(&fixture.join("x.db"));
        peer::signal(import.id(), name);
        let output = wait_for_import(import);
        assert_eq!(output.code, Some(code), "{output:?}");
        let rows = count_prefix(&fixture);
        assert!(rows < i64::from(MANY), "it was interrupted");
        let state = format!("\n  {rows} rows were imported\n  continue with --skip {rows}\n");
        assert!(output.stderr.contains(&state), "{output:?}");
        let skip = rows.to_string();
        fixture
            .run(["import", "x.db", "part", "many.csv", "--skip", &skip])
            .expect_success();
        assert_eq!(count_prefix(&fixture), i64::from(MANY));
    }
}

#[cfg(unix)]
#[test]
fn an_interrupted_atomic_import_leaves_nothing() {
    let fixture = fixture();
    write_many_rows(&fixture, MANY);
    let import = start_import(&fixture, &["--atomic"]);
    wait::until("it writes", || {
        fixture.status()["holder"]["label"] == "import"
    });
    peer::signal(import.id(), "INT");
    let output = wait_for_import(import);
    assert_eq!(output.code, Some(130), "{output:?}");
    assert!(output.stderr.contains("nothing was imported"), "{output:?}");
    assert_eq!(count_prefix(&fixture), 0);
}

/// The first batches are in, and another process has the lock.
#[cfg(unix)]
#[test]
fn an_import_that_waits_between_batches_says_how_to_continue() {
    let fixture = fixture();
    write_many_rows(&fixture, MANY);
    let import = start_import(&fixture, &["--hold", "1ms", "--timeout", "60s"]);
    wait_for_rows(&fixture.join("x.db"));
    let _holder = fixture.hold_lock(&[]);
    wait::until("it waits", || {
        fixture.status()["queue"][0]["label"] == "import"
    });
    peer::signal(import.id(), "HUP");
    let output = wait_for_import(import);
    assert_eq!(output.code, Some(129), "{output:?}");
    let rows = count_prefix(&fixture);
    assert!(0 < rows && rows < i64::from(MANY), "{rows}");
    let state = format!("\n  {rows} rows were imported\n  continue with --skip {rows}\n");
    assert!(output.stderr.contains(&state), "{output:?}");
}

/// With and without the WAL of the former database left in place.
#[cfg(unix)]
#[test]
fn an_import_whose_database_is_replaced_stops_and_leaves_the_new_one_alone() {
    for script in ["rm -f x.db-wal x.db-shm; mv new.db x.db", "mv new.db x.db"] {
        let fixture = fixture();
        write_many_rows(&fixture, MANY);
        fixture.run(["backup", "x.db", "new.db"]).expect_success();
        let import = start_import(&fixture, &["--hold", "1ms"]);
        wait_for_rows(&fixture.join("x.db"));
        let replace = ["run", "x.db", "--", "sh", "-c", script];
        fixture.run(replace).expect_success();
        let output = wait_for_import(import);
        assert_eq!(output.code, Some(3), "{output:?}");
        for words in [
            "the database file was replaced or deleted",
            "which of them are in the database",
        ] {
            assert!(output.stderr.contains(words), "{output:?}");
        }
        assert!(!output.stderr.contains("--skip"), "{output:?}");
        fixture.exec("INSERT INTO part(id, name) VALUES (-1, 'after')");
        assert_eq!(count(&fixture), 1);
        assert_eq!(fixture.query("PRAGMA integrity_check"), ["ok"]);
    }
}

#[test]
fn other_writers_acquire_the_lock_between_batches() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE snapshot(rows)");
    write_many_rows(&fixture, MANY);
    let db = Database::open(fixture.join("x.db")).unwrap();
    let mut import = start_import(&fixture, &["--hold", "2ms"]);
    while import.try_wait().unwrap().is_none() {
        let sql = "INSERT INTO snapshot SELECT count(*) FROM part";
        db.execute(sql, ()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(wait_for_import(import).code, Some(0));
    assert_eq!(count_prefix(&fixture), i64::from(MANY));
    let between =
        format!("SELECT count(DISTINCT rows) FROM snapshot WHERE rows NOT IN (0, {MANY})");
    let batches = fixture.number(&between);
    assert!(batches > 5, "others wrote after {batches} batches");
}

#[test]
fn concurrent_imports_into_one_table_all_succeed() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE part(id, name, price)");
    write_many_rows(&fixture, 50_000);
    let imports = [0, 1, 2].map(|_| start_import(&fixture, &["--hold", "1ms"]));
    for import in imports {
        assert_eq!(wait_for_import(import).code, Some(0));
    }
    assert_eq!(count(&fixture), 150_000);
}

#[test]
fn a_progress_bar_is_shown_only_on_a_terminal() {
    let fixture = fixture();
    fixture.exec("CREATE TABLE entry(id, name, price)");
    write_many_rows(&fixture, 100_000);
    let output = fixture.run(["import", "x.db", "entry", "many.csv"]);
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert!(!output.stderr.contains(['\r', '\x1b']), "{output:?}");
    let env = [("TERM", "xterm"), ("NO_COLOR", "1")];
    let script = "\"$PENHOLDER\" import x.db part many.csv";
    if let Some(text) = fixture.run_on_terminal(script, &env) {
        assert!(text.contains("checking"), "{text:?}");
        assert!(text.contains("/100000 rows"), "{text:?}");
        assert!(text.contains("100000 rows imported"), "{text:?}");
    }
}

#[test]
fn a_file_that_changes_after_the_check_is_noticed() {
    let fixture = fixture();
    write_many_rows(&fixture, 60_000);
    let text = fs::read(fixture.join("many.csv")).unwrap();
    let end_of_line = text[..700_000]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    for (change, expected) in [
        (&text[..=end_of_line], "it is shorter"),
        (&vec![b','; text.len()], "fields"),
    ] {
        fixture.exec("DELETE FROM part");
        fs::write(fixture.join("many.csv"), &text).unwrap();
        let mut holder = fixture.hold_lock(&[]);
        let import = start_import(&fixture, &["--timeout", "60s"]);
        wait::until("it waits", || {
            fixture.status()["queue"][0]["label"] == "import"
        });
        fs::write(fixture.join("many.csv"), change).unwrap();
        holder.send("go");
        let output = wait_for_import(import);
        assert_eq!(output.code, Some(3), "{output:?}");
        assert!(
            output
                .stderr
                .contains("it has changed since it was checked"),
            "{output:?}"
        );
        assert!(output.stderr.contains(expected), "{output:?}");
        let rows = count_prefix(&fixture);
        assert!(
            output
                .stderr
                .contains(&format!("\n  {rows} rows were imported\n")),
            "{output:?}"
        );
    }
}

/// The next import can take the lines that are appended meanwhile.
#[test]
fn lines_appended_during_the_import_are_ignored() {
    let fixture = fixture();
    write_many_rows(&fixture, 10);
    let mut holder = fixture.hold_lock(&[]);
    let import = start_import(&fixture, &["--timeout", "60s"]);
    wait::until("it waits", || {
        fixture.status()["queue"][0]["label"] == "import"
    });
    let text = fs::read_to_string(fixture.join("many.csv")).unwrap();
    fs::write(fixture.join("many.csv"), text + "11,more,1\nand,").unwrap();
    holder.send("go");
    assert_eq!(wait_for_import(import).code, Some(0));
    assert_eq!(count_prefix(&fixture), 10);
}

/// An unclosed quote would make the rest of the file one row.
#[cfg(unix)]
#[test]
fn a_row_that_never_ends_does_not_exhaust_the_memory() {
    use penholder_testkit::command_fixture::run_command;

    let fixture = fixture();
    for (format, text) in [("csv", "id,name\n1,\""), ("jsonl", "{\"name\":\"")] {
        let script = format!(
            "ulimit -v 1000000; (printf '{}'; head -c 120000000 /dev/zero) | \
             \"$PENHOLDER\" import x.db part - --format {format}",
            text.replace('\n', "\\n")
        );
        let mut shell = fixture.program("sh");
        let message = run_command(shell.args(["-c", &script]), b"", wait::LIMIT).expect_failure(1);
        assert!(message.contains("longer than 100 MB"), "{message}");
    }
    assert_eq!(count(&fixture), 0);
}

/// What no row could do is not blamed on one, which would be left out for nothing.
#[test]
fn a_database_that_takes_no_row_is_not_blamed_on_a_row() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,1\n2,2\n").unwrap();
    fixture.run(["checkpoint", "x.db"]).expect_success();
    for name in ["x.db-wal", "x.db-shm"] {
        let _ = fs::remove_file(fixture.join(name));
    }
    let mut content = fs::read(fixture.join("x.db")).unwrap();
    content[4096..].fill(0xFF);
    fs::write(fixture.join("x.db"), content).unwrap();
    for options in [&[][..], &["--atomic"]] {
        let args = [&["import", "x.db", "entry", "rows.csv"], options].concat();
        let message = fixture.run(args).expect_failure(1);
        assert!(message.contains("malformed"), "{message}");
        assert!(message.contains("restore a backup"), "{message}");
        for wrong in ["line ", "correct it", "--skip"] {
            assert!(!message.contains(wrong), "{message}");
        }
    }
}
