//! Proves that `penholder exec` and `penholder query` run SQL as documented: values,
//! formats, atomicity, the write lock, and closed pipes.
#![cfg(test)]

use std::io::Read;
use std::process::Stdio;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, PROMPT, wait_for_exit};
use penholder_testkit::peer::Peer;
use penholder_testkit::wait;
use serde_json::json;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

#[test]
fn exec_reports_how_many_rows_changed() {
    let fixture = CommandFixture::new(PENHOLDER);
    for (sql, expected) in [
        ("CREATE TABLE t(a)", "0 rows"),
        ("INSERT INTO t VALUES (1)", "1 row"),
        ("INSERT INTO t VALUES (2), (3)", "2 rows"),
        ("UPDATE t SET a = a + 1 WHERE a > 1", "2 rows"),
        ("DELETE FROM t WHERE a = 77", "0 rows"),
        ("INSERT INTO t VALUES (5); DELETE FROM t", "5 rows"),
    ] {
        let output = fixture.run(["exec", "x.db", sql]);
        assert_eq!(
            output.stderr,
            format!("penholder: {expected} changed\n"),
            "{sql}"
        );
        assert_eq!(output.expect_success(), "");
    }
}

#[test]
fn exec_prints_returned_rows() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "INSERT INTO entry VALUES (?1, ?2), (3, 'x') RETURNING key, value AS v";
    let output = fixture.run(["exec", "x.db", sql, "1", "a,b"]);
    assert_eq!(output.stderr, "penholder: 2 rows changed\n");
    assert_eq!(output.expect_success(), "key,v\n1,\"a,b\"\n3,x\n");
    assert_eq!(fixture.count_entries(), 2);
}

#[test]
fn a_script_is_all_or_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "INSERT INTO entry VALUES (1, 'a;b');\n-- a remark; really\n\
                  INSERT INTO entry VALUES (2, 2), (3, 3);\nUPDATE entry SET value = 0;\n";
    let output = fixture.run_with_input(["exec", "x.db", "-"], script);
    assert_eq!(output.stderr, "penholder: 6 rows changed\n");
    assert_eq!(fixture.count_entries(), 3);
    let broken = "DELETE FROM entry; INSERT INTO nowhere VALUES (1); DELETE FROM entry";
    let message = fixture
        .run_with_input(["exec", "x.db", "-"], broken)
        .expect_failure(1);
    assert!(message.contains("statement 2") && message.contains("nowhere"));
    let message = fixture.run(["exec", "x.db", broken]).expect_failure(1);
    assert!(message.contains("no such table: nowhere"), "{message}");
    assert_eq!(fixture.count_entries(), 3);
    let unfinished = "DELETE FROM entry; INSERT INTO entry VALUES (";
    fixture
        .run_with_input(["exec", "x.db", "-"], unfinished)
        .expect_failure(1);
    assert_eq!(fixture.count_entries(), 3);
}

/// SQLite reads SQL up to a NUL byte: here that would delete all rows.
#[test]
fn a_script_with_a_nul_byte_is_refused_before_it_runs() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("INSERT INTO entry VALUES (1, 1), (2, 2)");
    // The script is refused without waiting, although another process holds the lock.
    let _holder = fixture.hold_lock(&[]);
    for script in ["DELETE FROM entry\0 WHERE key = 99", "\0", "SELECT 1;\0"] {
        let output = fixture.run_with_input(["exec", "x.db", "--timeout", "50s", "-"], script);
        let message = output.expect_failure(1);
        assert!(message.contains("NUL byte"), "{message}");
        assert!(message.contains("nothing was run: remove it"), "{message}");
    }
    assert_eq!(fixture.count_entries(), 2);
}

#[test]
fn a_pragma_without_effect_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (script, why) in [
        (
            "PRAGMA foreign_keys=OFF",
            "PRAGMA foreign_keys: SQLite ignores",
        ),
        (
            "DELETE FROM entry; -- then\nPRAGMA main.foreign_keys(0); DELETE FROM entry",
            "PRAGMA foreign_keys: SQLite ignores",
        ),
        (
            "PRAGMA query_only=1; DELETE FROM entry",
            "PRAGMA query_only: the statements after it could not write",
        ),
        (
            "DELETE FROM entry; PRAGMA locking_mode=EXCLUSIVE",
            "PRAGMA locking_mode: the write lock is held already",
        ),
    ] {
        fixture.exec("INSERT INTO entry VALUES (1, 1)");
        let message = fixture.run(["exec", "x.db", script]).expect_failure(1);
        assert!(message.contains(why), "{message}");
        assert!(
            message.contains("nothing was written: leave it out"),
            "{message}"
        );
    }
    assert_eq!(fixture.count_entries(), 4);
    // Reading the value changes nothing, and other pragmas have an effect.
    let value = fixture
        .run(["exec", "x.db", "PRAGMA foreign_keys"])
        .expect_success();
    assert_eq!(value, "foreign_keys\n1\n");
    fixture.exec("PRAGMA defer_foreign_keys=ON; DELETE FROM entry");
}

#[test]
fn a_script_cannot_end_its_transaction_halfway() {
    for end in ["COMMIT", "END", "COMMIT; BEGIN", "ROLLBACK"] {
        let fixture = CommandFixture::with_table(PENHOLDER);
        let script = format!(
            "INSERT INTO entry VALUES (1, 1); {end}; INSERT INTO entry VALUES (2, 2); \
             INSERT INTO nowhere VALUES (3)"
        );
        fixture
            .run_with_input(["exec", "x.db", "-"], &script)
            .expect_failure(1);
        assert_eq!(fixture.count_entries(), 0, "all or nothing, with {end} too");
    }
}

#[test]
fn a_script_prints_returned_rows() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let script = "INSERT INTO entry VALUES (1, 1); UPDATE entry SET value = 2 RETURNING value";
    let stdout = fixture
        .run_with_input(["exec", "x.db", "-"], script)
        .expect_success();
    assert_eq!(stdout, "value\n2\n");
}

#[test]
fn a_script_can_create_a_table_and_fill_it() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "CREATE TABLE t(a); CREATE INDEX i ON t(a); INSERT INTO t VALUES (1), (2)";
    fixture
        .run_with_input(["exec", "x.db", "-"], script)
        .expect_success();
    assert_eq!(fixture.number("SELECT sum(a) FROM t"), 3);
}

#[test]
fn an_empty_script_does_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for script in ["", ";", " \n", "-- nothing here\n", ";;  ;"] {
        let output = fixture.run_with_input(["exec", "x.db", "-"], script);
        assert_eq!(output.stderr, "penholder: 0 rows changed\n", "{script:?}");
        assert_eq!(output.expect_success(), "");
    }
}

#[test]
fn values_are_bound_with_the_type_they_look_like() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let cases = [
        ("42", "integer", json!(42)),
        ("-7", "integer", json!(-7)),
        ("9223372036854775807", "integer", json!(i64::MAX)),
        ("1.5", "real", json!(1.5)),
        ("-1e3", "text", json!("-1e3")),
        ("007", "text", json!("007")),
        ("1.10", "text", json!("1.10")),
        ("null:", "null", json!(null)),
        ("text:42", "text", json!("42")),
        ("text:null:", "text", json!("null:")),
        ("text:", "text", json!("")),
        ("", "text", json!("")),
        ("word", "text", json!("word")),
        (
            "99999999999999999999",
            "text",
            json!("99999999999999999999"),
        ),
        ("inf", "text", json!("inf")),
        ("0x10", "text", json!("0x10")),
        (
            "'; DROP TABLE entry; --",
            "text",
            json!("'; DROP TABLE entry; --"),
        ),
    ];
    for (word, kind, value) in cases {
        let sql = "SELECT typeof(?1) AS kind, ?1 AS value";
        let rows = fixture
            .run(["query", "x.db", "--json", sql, word])
            .expect_json();
        assert_eq!(rows, json!([{"kind": kind, "value": value}]), "{word}");
        fixture
            .run([
                "exec",
                "x.db",
                "INSERT INTO entry VALUES (?2, ?1)",
                word,
                "1",
            ])
            .expect_success();
        let stored = "SELECT typeof(value) FROM entry ORDER BY rowid DESC LIMIT 1";
        assert_eq!(fixture.query(stored), [kind], "{word}");
    }
}

/// A telephone number, a postcode, a version and a commit id are no numbers.
#[test]
fn a_column_of_text_keeps_the_word_and_comparisons_find_it() {
    let fixture = CommandFixture::new(PENHOLDER);
    let run = |args: &[&str]| fixture.run(args).expect_success();
    run(&["exec", "x.db", "CREATE TABLE t(v TEXT, n INTEGER, r REAL)"]);
    let words = [
        "007",
        "02134",
        "+491701234567",
        "1.10",
        "6063e25",
        "-0",
        "1e5",
        "42",
        "1.5",
    ];
    for word in words {
        run(&["exec", "x.db", "INSERT INTO t(v) VALUES (?1)", word]);
        let sql = "SELECT count(*) AS n FROM t WHERE v = ?1";
        let found = fixture.run(["query", "x.db", "--json", sql, word]);
        assert_eq!(found.expect_json(), json!([{"n": 1}]), "{word}");
    }
    assert_eq!(fixture.query("SELECT v FROM t ORDER BY rowid"), words);
    // The column decides.
    run(&[
        "exec",
        "x.db",
        "INSERT INTO t(n, r) VALUES (?1, ?2)",
        "007",
        "1e5",
    ]);
    let sql = "SELECT n, r FROM t WHERE n = ?1 AND r = ?2";
    let found = fixture.run(["query", "x.db", "--json", sql, "007", "1e5"]);
    assert_eq!(found.expect_json(), json!([{"n": 7, "r": 100_000.0}]));
}

#[test]
fn options_may_appear_anywhere_and_two_dashes_end_them() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "INSERT INTO entry VALUES (?1, ?2)";
    fixture
        .run([
            "exec",
            "--timeout",
            "9s",
            "x.db",
            sql,
            "1",
            "2",
            "--label",
            "l",
        ])
        .expect_success();
    fixture
        .run(["exec", "x.db", sql, "--", "-a", "--label"])
        .expect_success();
    assert_eq!(
        fixture.query("SELECT key, value FROM entry"),
        ["1,2", "-a,--label"]
    );
    let message = fixture
        .run(["exec", "x.db", sql, "-a", "b"])
        .expect_failure(2);
    assert!(message.contains("-- -a"), "{message}");
}

#[test]
fn the_number_of_values_must_match() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "INSERT INTO entry VALUES (?1, ?2)";
    for params in [&["1"][..], &[], &["1", "2", "3"]] {
        for (command, sql) in [("exec", sql), ("query", "SELECT ?1, ?2")] {
            let args = [command, "x.db", sql].into_iter();
            let message = fixture
                .run(args.chain(params.iter().copied()))
                .expect_failure(1);
            let why = ["needed 2", "has 2 parameters", "it has parameters"];
            assert!(why.iter().any(|why| message.contains(why)), "{message}");
        }
    }
    let several = "DELETE FROM entry; INSERT INTO entry VALUES (?1, ?1)";
    let message = fixture
        .run(["exec", "x.db", several, "1"])
        .expect_failure(2);
    assert!(message.contains("single statement"), "{message}");
    assert_eq!(fixture.count_entries(), 0);
}

/// A row with a value of every type; the text contains every character that needs quotes.
const ALL_TYPES: &str = "SELECT 1 AS i, 0.5 AS r, 2.0 AS whole, 'a,\"b\"\n\u{1b}ü' AS t, NULL AS n, \
                     x'0AFF' AS b, '' AS empty, 9007199254740993 AS big";

#[test]
fn json_is_an_array_of_objects() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let rows = fixture
        .run(["query", "x.db", "--json", ALL_TYPES])
        .expect_json();
    let row = json!({
        "i": 1, "r": 0.5, "whole": 2.0, "t": "a,\"b\"\n\u{1b}ü", "n": null,
        "b": {"$base64": true, "encoded": "Cv8="}, "empty": "", "big": 9_007_199_254_740_993_i64,
    });
    assert_eq!(rows, json!([row]));
    let none = fixture.run(["query", "x.db", "--json", "SELECT 1 WHERE 0"]);
    assert_eq!(none.expect_quiet_success(), "[]\n");
    let twice = "SELECT 1 AS a, 2 AS a UNION ALL SELECT 3, 4";
    let rows = fixture
        .run(["query", "x.db", "--json", twice])
        .expect_json();
    assert_eq!(rows, json!([{"a": 1, "a:1": 2}, {"a": 3, "a:1": 4}]));
}

#[test]
fn csv_is_the_default_on_a_pipe() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let csv = "i,r,whole,t,n,b,empty,big\n\
               1,0.5,2.0,\"a,\"\"b\"\"\n\u{1b}ü\",,X'0AFF',\"\",9007199254740993\n";
    assert_eq!(
        fixture
            .run(["query", "x.db", ALL_TYPES])
            .expect_quiet_success(),
        csv
    );
    // Asked for by name, it may be for `import`.
    let output = fixture.run(["query", "x.db", "--csv", ALL_TYPES]);
    assert_eq!(
        output.stderr,
        "penholder: 1 NULL is shown as an empty field: `penholder import` needs \
         --empty-as-null=unquoted\n\
         penholder: 1 blob is shown as X'…': `penholder import` needs --blobs literal, except \
         for BLOB columns\n"
    );
    assert_eq!(output.expect_success(), csv);
    let none = fixture.run(["query", "x.db", "SELECT 1 AS a WHERE 0"]);
    assert_eq!(none.expect_quiet_success(), "a\n");
}

#[test]
fn a_table_is_the_default_on_a_terminal() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "SELECT 1 AS number, NULL AS absent";
    let table = fixture
        .run(["query", "x.db", "--table", sql])
        .expect_quiet_success();
    assert!(table.contains("│ 1      ┆ NULL   │"), "{table}");
    assert!(!table.contains('\x1b'));
    let query = format!("\"$PENHOLDER\" query x.db '{sql}'");
    if let Some(text) = fixture.run_on_terminal(&query, &[]) {
        assert_eq!(text.replace("\r\n", "\n"), table);
        let csv = format!("{query} --csv");
        let text = fixture.run_on_terminal(&csv, &[]).unwrap();
        assert_eq!(text, "number,absent\r\n1,\r\n");
    }
}

#[test]
fn only_one_format_may_be_chosen() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let message = fixture
        .run(["query", "x.db", "SELECT 1", "--json", "--csv"])
        .expect_failure(2);
    assert!(message.contains("cannot be used with"), "{message}");
}

#[test]
fn query_only_reads() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for sql in [
        "INSERT INTO entry VALUES (1, 1)",
        "DELETE FROM entry RETURNING key",
        "CREATE TABLE other(a)",
        "PRAGMA user_version = 3",
        "VACUUM",
        "WITH a AS (SELECT 1) INSERT INTO entry SELECT 1, * FROM a",
    ] {
        let message = fixture.run(["query", "x.db", sql]).expect_failure(1);
        assert!(message.contains("penholder exec"), "{sql}: {message}");
    }
    assert_eq!(fixture.count_entries(), 0);
    assert_eq!(fixture.query("PRAGMA user_version"), ["0"]);
}

#[test]
fn reading_does_not_wait_for_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let args = ["query", "x.db", "--timeout", "1ms", "SELECT 7 AS a"];
    assert_eq!(fixture.run(args).expect_quiet_success(), "a\n7\n");
}

#[test]
fn writing_waits_for_the_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let mut writer = Peer::spawn(fixture.command(["exec", "x.db", "--timeout", "50s", sql]));
    std::thread::sleep(Duration::from_millis(200));
    assert_eq!(fixture.count_entries(), 0);
    holder.send("go");
    assert!(writer.close().success());
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn the_lock_is_free_while_a_script_is_typed() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut writer = Peer::spawn(fixture.command(["exec", "x.db", "-"]));
    writer.send("INSERT INTO entry VALUES (1, 1);");
    std::thread::sleep(Duration::from_millis(200));
    assert!(fixture.is_lock_free());
    writer.send("INSERT INTO entry VALUES (2, 2);");
    assert!(writer.close().success());
    assert_eq!(fixture.count_entries(), 2);
}

#[test]
fn many_concurrent_writers_all_succeed() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let write = |n: i32| {
        let sql = format!("INSERT INTO entry VALUES ({n}, 0)");
        Peer::spawn(fixture.command(["exec", "x.db", "--timeout", "50s", &sql]))
    };
    let mut writers: Vec<Peer> = (0..20).map(write).collect();
    for writer in &mut writers {
        assert!(writer.close().success());
    }
    assert_eq!(fixture.number("SELECT count(DISTINCT key) FROM entry"), 20);
}

#[test]
fn a_timeout_names_the_holder() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&["--label", "nightly import"]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let message = fixture
        .run(["exec", "x.db", "--timeout", "150ms", sql])
        .expect_failure(75);
    let lines: Vec<&str> = message.lines().collect();
    assert_eq!(lines[0], "penholder: write lock timeout after 150ms");
    assert!(lines[1].starts_with(&format!("  holder: pid:{} since 2", holder.pid())));
    assert!(lines[1].contains("nightly import"), "{message}");
    let last = [
        "  try again or check if holder process is stuck",
        "  wait longer with --timeout TIME, or set PENHOLDER_TIMEOUT",
    ];
    assert_eq!(lines[lines.len() - 2..], last);
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn a_timeout_of_zero_fails_at_once() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let sql = "INSERT INTO entry VALUES (1, 1)";
    for timeout in ["0s", "0ms"] {
        let args = ["exec", "x.db", "--timeout", timeout, sql];
        let (output, time) = wait::timed(|| fixture.run(args));
        assert!(output.expect_failure(75).contains("timeout after 0ms"));
        assert!(time < PROMPT, "{time:?}");
    }
}

#[test]
fn an_outsider_inside_sqlite_is_named() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let Some(outsider) = fixture.outsider() else {
        return;
    };
    let sql = "INSERT INTO entry VALUES (1, 1)";
    let message = fixture
        .run(["exec", "x.db", "--timeout", "100ms", sql])
        .expect_failure(75);
    let name = format!("pid:{} (`sqlite3 ", outsider.pid());
    assert!(message.contains(&name), "{message}");
    assert!(message.contains("100ms"), "{message}");
    let script = "INSERT INTO entry VALUES (1, 1); INSERT INTO entry VALUES (1, 1)";
    let args = ["exec", "x.db", "--timeout", "100ms", "-"];
    let message = fixture.run_with_input(args, script).expect_failure(75);
    assert!(message.contains(&name), "{message}");
    let args = ["stress", "x.db", "--force", "--timeout", "100ms"];
    let message = fixture.run(args).expect_failure(75);
    assert!(message.contains(&name), "{message}");
    assert_eq!(
        fixture
            .run(["query", "x.db", "SELECT 7 AS a"])
            .expect_quiet_success(),
        "a\n7\n"
    );
}

#[test]
fn a_label_is_shown_and_a_killed_write_leaves_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let endless = "INSERT INTO entry WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 \
                   FROM n WHERE a < 1000000000000) SELECT count(*), 1 FROM n";
    let args = ["exec", "x.db", "--label", "endless", endless];
    let mut writer = Peer::spawn(fixture.command(args));
    wait::until("the label is shown", || {
        fixture.status()["holder"]["label"] == "endless"
    });
    writer.kill();
    assert_eq!(fixture.status()["state"], "free");
    fixture.exec("INSERT INTO entry VALUES (1, 1)");
    assert_eq!(fixture.count_entries(), 1);
}

/// Many more rows than fit into a pipe.
const LONG: &str = "WITH RECURSIVE n(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM n WHERE a < 20000) \
                    SELECT a, 'some text to fill the pipe' AS text FROM n";

#[test]
fn a_closed_pipe_is_not_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let insert = format!("INSERT INTO entry {LONG} RETURNING *");
    for args in [
        &["query", "x.db", LONG, "--csv"][..],
        &["query", "x.db", LONG, "--json"],
        &["query", "x.db", LONG, "--table"],
        &["completions", "zsh"],
        &["completions", "bash"],
    ] {
        let stderr = read_first_bytes(&fixture, args);
        assert_eq!(stderr, "", "{args:?}");
    }
    let stderr = read_first_bytes(&fixture, &["exec", "x.db", &insert, "--timeout", "30s"]);
    assert_eq!(stderr, "penholder: 20000 rows changed\n");
    assert_eq!(fixture.count_entries(), 20_000);
}

/// Reads only the first bytes of the output, as `head` does, and returns the standard
/// error.
fn read_first_bytes(fixture: &CommandFixture, args: &[&str]) -> String {
    let mut command = fixture.command(args);
    command.stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.stdin(Stdio::null()).spawn().unwrap();
    let mut stdout = child.stdout.take().unwrap();
    stdout.read_exact(&mut [0; 10]).unwrap();
    drop(stdout);
    let status = wait_for_exit(&mut child, wait::LIMIT);
    let mut stderr = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut stderr)
        .unwrap();
    assert_eq!(status.code(), Some(0), "{args:?}: {stderr}");
    stderr
}

#[cfg(unix)]
#[test]
fn a_closed_pipe_in_a_shell_is_not_an_error() {
    use penholder_testkit::command_fixture::run_command;

    let fixture = CommandFixture::with_table(PENHOLDER);
    for format in ["--csv", "--json", "--table"] {
        let script = format!(
            "{{ \"$PENHOLDER\" query x.db \"$LONG\" {format}; echo $? >code; }} | head -1; cat code"
        );
        let mut shell = fixture.program("sh");
        shell.args(["-c", &script]).env("LONG", LONG);
        let stdout = run_command(&mut shell, b"", wait::LIMIT).expect_quiet_success();
        assert_eq!(stdout.lines().count(), 2, "{stdout}");
        assert!(stdout.ends_with("\n0\n"), "{format}: {stdout}");
    }
}

#[cfg(unix)]
#[test]
fn a_full_disk_behind_standard_output_is_an_error() {
    use penholder_testkit::requirement;

    let fixture = CommandFixture::with_table(PENHOLDER);
    if !std::path::Path::new("/dev/full").exists() {
        requirement::skip("/dev/full");
        return;
    }
    for args in [
        "query x.db 'SELECT 1'",
        "query x.db --json 'SELECT 1'",
        "status x.db",
    ] {
        let output = fixture.run_script(&format!("\"$PENHOLDER\" {args} >/dev/full"));
        let message = output.expect_failure(1);
        assert!(message.contains("write to standard output"), "{message}");
    }
}
