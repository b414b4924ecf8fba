//! Proves that `penholder import` reads files as other programs write them, or names the
//! option that helps: quotes, delimiters, encodings, ragged rows, unnamed columns, rowids,
//! JSON in every layout, and tables that do not exist yet.
#![cfg(test)]

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, run_command};
use penholder_testkit::{plain_sqlite, raw_file, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

fn fixture() -> CommandFixture {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE t(a, b DEFAULT 'none')");
    fixture
}

fn import(
    fixture: &CommandFixture,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
) -> CommandOutput {
    fs::write(fixture.join(name), text).unwrap();
    let args = ["import", "x.db", "t", name].into_iter();
    fixture.run(args.chain(options.iter().copied()))
}

/// Imports a file into the empty table, and returns its rows as lines of CSV.
fn imported(
    fixture: &CommandFixture,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
) -> Vec<String> {
    fixture.exec("DELETE FROM t");
    let output = import(fixture, name, text, options);
    assert_eq!(output.code, Some(0), "{output:?}");
    fixture.query("SELECT a, b FROM t ORDER BY rowid")
}

/// Asserts that a file is refused with a message that has these words.
#[track_caller]
fn assert_refused(
    fixture: &CommandFixture,
    name: &str,
    text: impl AsRef<[u8]>,
    options: &[&str],
    words: &[&str],
) {
    fixture.exec("DELETE FROM t");
    let message = import(fixture, name, text, options).expect_failure(1);
    for words in words {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(message.lines().count(), 1, "{message}");
    assert_eq!(fixture.number("SELECT count(*) FROM t"), 0);
}

#[test]
fn text_after_a_closing_quote_is_malformed() {
    let fixture = fixture();
    for (text, place) in [
        ("a,b\n\"x\"y,1\n", "line 2: field 1 "),
        ("a,b\n1,2\n3,\"x\" \n", "line 3: field 2 "),
        ("a,b\n1,\"two\nlines\"3\n", "line 3: field 2 "),
        ("a,\"b\"c\n", "line 1: field 2 "),
    ] {
        assert_refused(&fixture, "f.csv", text, &[], &[place, "--quote none"]);
    }
}

#[test]
fn quotes_can_be_ordinary_characters() {
    let fixture = fixture();
    let rows = ["\"5\"\" pipe\",\"\"\"x\"\"\""];
    let tabs = "a\tb\n5\" pipe\t\"x\"\n";
    assert_eq!(imported(&fixture, "f.tsv", tabs, &[]), rows);
    assert_eq!(
        imported(
            &fixture,
            "f.csv",
            tabs.replace('\t', ","),
            &["--quote", "none"]
        ),
        rows
    );
    let quoted = "a\tb\n\"1\t\"\"\"\t'x'\n";
    assert_eq!(
        imported(&fixture, "f.tsv", quoted, &["--quote", "\""]),
        ["\"1\t\"\"\",'x'"]
    );
    assert_eq!(
        imported(&fixture, "f.csv", "a,b\n'1,2',\"\n", &["--quote", "'"]),
        ["\"1,2\",\"\"\"\""]
    );
    for bad in ["", "ab", "ä", "\n"] {
        import(&fixture, "f.csv", "a\n", &["--quote", bad]).expect_failure(2);
    }
}

#[test]
fn another_delimiter_is_found_or_named() {
    let fixture = fixture();
    for (text, option) in [
        ("a;b\n1;2\n", "--delimiter ';'"),
        ("a\tb\n1\t2\n", "--delimiter tab"),
        ("a|b\n1|2\n", "--delimiter '|'"),
        ("\"a\";\"b\"\n1;2\n", "--delimiter ';'"),
    ] {
        assert_refused(&fixture, "f.csv", text, &[], &["line 1", option]);
        let given = option.split_once(' ').unwrap().1.trim_matches('\'');
        assert_eq!(
            imported(&fixture, "f.csv", text, &["--delimiter", given]),
            ["1,2"]
        );
        // Also if the table does not exist yet.
        let message = fixture
            .run(["import", "x.db", "new", "f.csv"])
            .expect_failure(1);
        assert!(message.contains(option), "{message}");
    }
    assert_eq!(
        imported(&fixture, "f.csv", "sep=;\r\na;b\r\n1;2\r\n", &[]),
        ["1,2"]
    );
    assert_eq!(
        imported(&fixture, "f.csv", "\u{feff}\"sep=\t\"\na\tb\n1\t2\n", &[]),
        ["1,2"]
    );
    let wrong = import(&fixture, "f.csv", "sep=;\na;b\n1;2;3\n", &[]).expect_failure(1);
    assert!(wrong.contains("line 3: 3 fields"), "{wrong}");
}

/// A database may write NULL, and other programs empty text, as an empty line in a file of one column.
#[test]
fn an_empty_line_of_one_column_is_not_lost() {
    let fixture = fixture();
    for end in ["\n", "\r\n", "\r"] {
        let text = "a\n1\n\n2\n".replace('\n', end);
        assert_refused(
            &fixture,
            "f.csv",
            &text,
            &[],
            &["line 3: ", "--empty-lines row or --empty-lines skip"],
        );
        let rows = imported(&fixture, "f.csv", &text, &["--empty-lines", "row"]);
        assert_eq!(rows, ["1,none", "\"\",none", "2,none"]);
        let rows = imported(&fixture, "f.csv", &text, &["--empty-lines", "skip"]);
        assert_eq!(rows, ["1,none", "2,none"]);
    }
    // With more columns it cannot be a row.
    let rows = imported(&fixture, "f.csv", "\na,b\n\n1,2\n\n", &[]);
    assert_eq!(rows, ["1,2"]);
}

#[test]
fn what_is_no_text_is_named() {
    let fixture = fixture();
    assert_refused(
        &fixture,
        "f.csv",
        b"\x1F\x8B\x08\0\0\0\0\0",
        &[],
        &["f.csv: it is compressed with gzip: ", "gzip -dc f.csv"],
    );
    assert_refused(&fixture, "f.csv", b"PK\x03\x04", &[], &["save it as CSV"]);
    for suffix in ["", "-wal"] {
        let reader = plain_sqlite::open(&fixture.join("x.db"));
        let _: i64 = reader
            .query_row("SELECT count(*) FROM t", (), |row| row.get(0))
            .unwrap();
        let (name, link) = (format!("x.db{suffix}"), format!("link{suffix}"));
        let is_linked = raw_file::link(name.as_ref(), &fixture.join(&link));
        for name in [Some(name), is_linked.then_some(link)]
            .into_iter()
            .flatten()
        {
            let import = ["import", "x.db", "t", &name, "--format", "csv"];
            let message = fixture.run(import).expect_failure(1);
            assert!(message.contains("the database itself"), "{message}");
        }
    }
}

#[test]
fn a_header_that_does_not_fit_is_explained() {
    let fixture = fixture();
    for (text, words) in [
        ("# 2024\na,b\n1,2\n", "name its columns there: \"a\", \"b\""),
        ("[{\"a\": 1}]\n", "--format jsonl"),
        ("a, B\n1,2\n", "if \"b\" is meant, write that in the file"),
        ("a,c\n1,2\n", "--ignore-unknown"),
    ] {
        assert_refused(&fixture, "f.csv", text, &[], &["line 1: ", words]);
    }
    let text = "a,b\n1,\"x\n2,y\n3,\"z\"\n";
    assert_refused(
        &fixture,
        "f.csv",
        text,
        &[],
        &["line 4: ", "opened 2 lines before"],
    );
    // Columns without names, as Excel leaves them.
    let text = "a,b,,\n1,2,,\n";
    fs::write(fixture.join("f.csv"), text).unwrap();
    let message = fixture
        .run(["import", "x.db", "new", "f.csv"])
        .expect_failure(1);
    assert!(message.contains("--ignore-unknown"), "{message}");
}

#[test]
fn json_of_other_programs_is_explained() {
    let fixture = fixture();
    for (text, words) in [
        ("[{\"a\": NaN}]", "write null"),
        ("{\"a\": None}", "write null"),
        ("{\"a\": -Infinity}", "write 9e999"),
        ("{\"a\": True}", "in small letters"),
        ("{\"a\": \"x\\ud800\"}", "half of a character"),
        ("{\"a\": 1},\n{\"a\": 2}", "belong in [ ]"),
        ("[[1, 2]]", "no names of columns"),
        ("a,b\n1,2\n", "--format csv"),
    ] {
        assert_refused(&fixture, "f.json", text, &[], &["line 1: ", words]);
    }
}

#[test]
fn ragged_rows_are_accepted_if_they_lose_nothing() {
    let fixture = fixture();
    assert_refused(
        &fixture,
        "f.csv",
        "a,b\n1\n",
        &[],
        &["line 2: 1 field", "--ragged"],
    );
    assert_refused(
        &fixture,
        "f.csv",
        "a,b\n1,2,\n",
        &[],
        &["line 2: 3 fields", "--ragged"],
    );
    let ragged = ["--ragged"];
    assert_refused(
        &fixture,
        "f.csv",
        "a,b\n1,2,,4\n",
        &ragged,
        &["field 4 is not empty"],
    );
    let rows = imported(&fixture, "f.csv", "a,b\n1\n2,3,\n4,5\n", &ragged);
    assert_eq!(rows, ["1,none", "2,3", "4,5"]);
}

#[test]
fn names_that_the_table_does_not_have_can_be_left_out() {
    let fixture = fixture();
    for (name, text) in [
        ("f.csv", ",a\n0,1\n"),
        ("f.csv", "a,\n1,\n"),
        ("f.csv", "a,b c\n1,2\n"),
        ("f.json", "{\"\": 0, \"a\": 1}"),
        ("f.json", "[{\"a\": 1, \"x\": [{}]}]"),
    ] {
        assert_refused(
            &fixture,
            name,
            text,
            &[],
            &["has no column", "--ignore-unknown"],
        );
        let output = import(&fixture, name, text, &["--ignore-unknown"]);
        assert!(
            output.stderr.contains("\n  left out, because"),
            "{output:?}"
        );
        output.expect_success();
        assert_eq!(fixture.query("SELECT * FROM t"), ["1,none"], "{text}");
    }
    // What `query` prints of a table with a computed column.
    fixture.exec("CREATE TABLE computed(a, twice AS (a * 2))");
    fs::write(fixture.join("f.json"), "[{\"a\":1,\"twice\":2}]").unwrap();
    let import = ["import", "x.db", "computed", "f.json"];
    let message = fixture.run(import).expect_failure(1);
    assert!(
        message.contains("computed by the table: give --ignore-unknown"),
        "{message}"
    );
    fixture
        .run(import.iter().chain(&["--ignore-unknown"]))
        .expect_success();
    fixture.exec("CREATE TABLE unnamed(\"\", a)");
    for file in ["f.csv", "f.json"] {
        fs::write(fixture.join("f.csv"), ",a\n0,1\n").unwrap();
        fs::write(fixture.join("f.json"), "{\"\": 0, \"a\": 1}").unwrap();
        fixture
            .run(["import", "x.db", "unnamed", file])
            .expect_success();
    }
    assert_eq!(fixture.query("SELECT * FROM unnamed"), ["0,1", "0,1"]);
}

/// Encodes text as UTF-16.
fn utf_16(text: &str, to_bytes: fn(u16) -> [u8; 2]) -> Vec<u8> {
    text.encode_utf16().flat_map(to_bytes).collect()
}

#[test]
fn other_encodings_are_read_or_named() {
    let fixture = fixture();
    let text = "a,b\nä€,😀\n";
    let row = ["ä€,😀"];
    for to_bytes in [u16::to_le_bytes, u16::to_be_bytes] {
        let marked = utf_16(&format!("\u{feff}{text}"), to_bytes);
        assert_eq!(imported(&fixture, "f.csv", &marked, &[]), row);
        assert_eq!(
            imported(&fixture, "f.csv", &marked, &["--encoding", "utf-16"]),
            row
        );
        let json = utf_16("[{\"a\":\"ä€\",\"b\":\"😀\"}]", to_bytes);
        let (name, other) = match to_bytes(1) {
            [1, 0] => ("utf-16le", "f.json"),
            _ => ("utf-16be", "f.json"),
        };
        let unmarked = utf_16(text, to_bytes);
        let option = format!("--encoding {name}");
        assert_refused(&fixture, "f.csv", &unmarked, &[], &[&option]);
        assert_refused(&fixture, other, &json, &[], &[&option]);
        assert_eq!(
            imported(&fixture, "f.csv", &unmarked, &["--encoding", name]),
            row
        );
        assert_eq!(imported(&fixture, other, &json, &["--encoding", name]), row);
    }
    let latin = b"a,b\n1,2\n\xE4,\x80\n";
    assert_refused(
        &fixture,
        "f.csv",
        latin,
        &[],
        &["line 3: field 1 is not UTF-8", "--encoding"],
    );
    let rows = imported(&fixture, "f.csv", latin, &["--encoding", "Windows-1252"]);
    assert_eq!(rows, ["1,2", "ä,€"]);
    let json = b"{\"a\":1}\n{\"a\":\"\xE4\"}\n";
    assert_refused(
        &fixture,
        "f.json",
        json,
        &[],
        &["line 2: it is not UTF-8", "--encoding"],
    );
    let cut = utf_16("a\n1\n", u16::to_le_bytes);
    let words = ["line 2: it is not UTF-16LE", "give another --encoding"];
    assert_refused(
        &fixture,
        "f.csv",
        &cut[..cut.len() - 3],
        &["--encoding", "utf-16le"],
        &words,
    );
    // A line of a converted file is that of the file.
    let wrong = utf_16("\u{feff}a,b\nä,1\n2\n", u16::to_le_bytes);
    assert_refused(&fixture, "f.csv", &wrong, &[], &["line 3: 1 field"]);
    import(&fixture, "f.csv", "a\n", &["--encoding", "nonsense"]).expect_failure(2);
    let args = ["import", "x.db", "t", "-", "--format", "csv"].into_iter();
    let mut command = fixture.command(args.chain(["--encoding", "latin1"]));
    run_command(&mut command, b"a\n\xe4\n", wait::LIMIT).expect_success();
    assert_eq!(fixture.query("SELECT a FROM t"), ["ä"]);
}

#[test]
fn json_is_read_in_every_layout() {
    let fixture = fixture();
    let rows = ["1,x", "2,y"];
    for text in [
        "[{\"a\":1,\"b\":\"x\"},{\"a\":2,\"b\":\"y\"}]",
        "[\n  {\n    \"a\": 1,\n    \"b\": \"x\"\n  },\n  {\"a\": 2, \"b\": \"y\"}\n]\n",
        "{\"a\":1,\"b\":\"x\"}\n{\"a\":2,\"b\":\"y\"}",
        "{\n\"a\":1,\n\"b\":\"x\"\n}{\"a\":2,\"b\":\"y\"}",
        "[{\"a\":1,\"b\":\"x\"}]\n[]\n[{\"a\":2,\"b\":\"y\"}]",
    ] {
        assert_eq!(imported(&fixture, "f.json", text, &[]), rows, "{text}");
    }
    assert_eq!(
        imported(&fixture, "f.txt", "[{\"a\":1}]", &["--format", "json"]),
        ["1,none"]
    );
    for (text, place) in [
        (
            "[{\"a\":1},\n{\"a\":2}\n",
            "line 3: the array is not closed",
        ),
        (
            "[{\"a\":1},\n{\"a\":2},\n]",
            "line 3: a comma stands before ]",
        ),
        ("[{\"a\":1}\n{\"a\":2}]", "line 2: expected a comma or ]"),
        ("{\"a\":1\n{\"a\":2}\n{\"a\":3}", "line 2: expected"),
        (
            "{\"a\":1}\n{\"a\":\"x}\n{\"a\":3}",
            "line 2: EOF while parsing a string",
        ),
        ("[{\n\"a\":1,\n\"b\":tru\n}]", "line 3: expected"),
        (
            "{\n\"a\":1,\n\"c\":2\n}",
            "line 3: the table t has no column \"c\"",
        ),
    ] {
        assert_refused(&fixture, "f.json", text, &[], &[place]);
    }
}

#[test]
fn a_column_rowid_is_the_key_of_the_row() {
    let fixture = CommandFixture::new(PENHOLDER);
    for (table, header, row) in [
        ("plain(a)", "rowid,a", "7,1"),
        ("with_key(id INTEGER PRIMARY KEY, a)", "ROWID,a", "7,1"),
        ("strict(a TEXT) STRICT", "_rowid_,a", "7,1"),
        ("other(a, rowid)", "oid,a", "7,1"),
    ] {
        fixture.exec(&format!("CREATE TABLE {table}"));
        let table = table.split_once('(').unwrap().0;
        fs::write(fixture.join("f.csv"), format!("{header}\n{row}\n")).unwrap();
        fixture
            .run(["import", "x.db", table, "f.csv"])
            .expect_success();
        let sql = format!("SELECT oid, a FROM {table}");
        assert_eq!(fixture.query(&sql), [row], "{table}");
    }
    fixture.exec("CREATE VIRTUAL TABLE words USING fts5(a)");
    fixture.exec("CREATE VIRTUAL TABLE area USING \"rtree\" (id, low, high)");
    fs::write(fixture.join("f.json"), "{\"rowid\": 7, \"a\": \"word\"}").unwrap();
    fixture
        .run(["import", "x.db", "words", "f.json"])
        .expect_success();
    assert_eq!(
        fixture.query("SELECT rowid FROM words WHERE a MATCH 'word'"),
        ["7"]
    );
    fs::write(fixture.join("f.csv"), "rowid,low,high\n7,1,2\n").unwrap();
    fixture
        .run(["import", "x.db", "area", "f.csv"])
        .expect_success();
    assert_eq!(fixture.query("SELECT * FROM area"), ["7,1.0,2.0"]);

    fixture.exec("CREATE TABLE without(a PRIMARY KEY) WITHOUT ROWID");
    for (table, text, why) in [
        ("without", "rowid,a\n7,1\n", "has no column \"rowid\""),
        ("with_key", "rowid,id\n7,8\n", "twice"),
        ("plain", "rowid,oid\n7,8\n", "twice"),
        ("plain", "rowid\n007\n", "leading zeros"),
        ("plain", "rowid\nx\n", "is not an integer"),
    ] {
        fs::write(fixture.join("f.csv"), text).unwrap();
        let message = fixture
            .run(["import", "x.db", table, "f.csv"])
            .expect_failure(1);
        assert!(message.contains(why), "{table}: {message}");
    }
}

/// Every command that is advised is run by a shell as it is printed.
#[cfg(unix)]
#[test]
fn the_advised_table_can_be_created_and_imported_into() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE other(a)");
    let bin = fixture.join("bin");
    fs::create_dir(&bin).unwrap();
    std::os::unix::fs::symlink(PENHOLDER, bin.join("penholder")).unwrap();
    for (name, text) in [
        ("plain.csv", "id,name\n1,2\n"),
        (
            "words.csv",
            "id,group,order,left,a b,it's,\"q\"\"q\",x.y,ä,1st,\n1,2,3,4,5,6,7,8,9,10,11\n",
        ),
        (
            "odd.csv",
            "\"two\nlines\",`$(touch x)`,\"tab\there\"\n1,2,3\n",
        ),
        (
            "one.json",
            "[{\"id\": 1}, {\"ID\": 2, \"select\": {\"a\": 1}}]",
        ),
    ] {
        fs::write(fixture.join(name), text).unwrap();
        for (db, table) in [
            ("x.db", "order"),
            ("x.db", "main.part"),
            ("x.db", "my-table"),
            ("x.db", "a.b"),
            ("x.db", "it's \"new\""),
            ("my app.db", "part"),
            ("./-odd'$db", "part"),
            ("-n\n\u{1b}[31m\\0.db", "part"),
        ] {
            let _ = fs::remove_file(fixture.join("advice.sh"));
            fs::copy(fixture.join("x.db"), fixture.join(db)).ok();
            let import = || {
                let mut command = fixture.program(PENHOLDER);
                command.args(["import", "--", db, table, name]);
                run_command(&mut command, b"", wait::LIMIT)
            };
            let message = import().expect_failure(1);
            let (_, advice) = message.split_once("create it: ").expect(&message);
            assert_eq!(advice.lines().count(), 1, "{advice}");
            let mut shell = fixture.program("sh");
            let mut path = bin.clone().into_os_string();
            path.push(":");
            path.push(std::env::var_os("PATH").unwrap());
            shell.env("PATH", path).args(["-c", advice]);
            let output = run_command(&mut shell, b"", wait::LIMIT);
            assert_eq!(output.code, Some(0), "{advice}: {output:?}");
            import().expect_success();
            assert!(!fixture.join("x").exists(), "{advice}");
            if db == "x.db" {
                let table = table
                    .strip_prefix("main.")
                    .unwrap_or(table)
                    .replace('"', "\"\"");
                fixture.exec(&format!("DROP TABLE \"{table}\""));
            }
        }
    }
    // The options that say which lock it is are part of the advice.
    let args = ["import", "x.db", "t", "plain.csv", "--lock-file", "my lock"];
    let message = fixture.run(args).expect_failure(1);
    assert!(
        message.contains("exec --lock-file='my lock' x.db 'CREATE"),
        "{message}"
    );
    for (table, why) in [
        ("sqlite_x", "are reserved"),
        ("t", "the file names no columns"),
    ] {
        fs::write(fixture.join("empty.json"), "").unwrap();
        let file = if table == "t" {
            "empty.json"
        } else {
            "plain.csv"
        };
        let message = fixture
            .run(["import", "x.db", table, file])
            .expect_failure(1);
        assert!(
            message.contains(why) && !message.contains("exec"),
            "{message}"
        );
    }
}

#[test]
fn quotes_that_are_not_read_as_such_are_named() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE t(a, b)");
    let import = |name: &str, text: &str, options: &[&str]| {
        fs::write(fixture.join(name), text).unwrap();
        let args = ["import", "x.db", "t", name].into_iter();
        fixture.run(args.chain(options.iter().copied()))
    };
    let option = "if quotes enclose the fields, give --quote '\"': nothing was imported";
    for (name, text, words) in [
        (
            "x.csv",
            "a,b\n\"x\" ,1\n",
            "if it is only a space, remove it; ",
        ),
        (
            "x.csv",
            "a,b\n1, \"x, y\"\n",
            "a quote encloses a field only at its very beginning",
        ),
        (
            "x.csv",
            "a,b\n1, \"x\ny\"\n",
            "a quote encloses a field only at its very beginning",
        ),
        (
            "x.csv",
            "a,b\n1,'x, y'\n",
            "give --quote \"'\": nothing was imported",
        ),
        ("x.tsv", "a\tb\n1\t\"x\ty\"\n", option),
        ("x.tsv", "a\tb\n1\t\"x\ny\"\n", option),
        ("x.tsv", "\"a\"\t\"b\"\n1\t2\n", option),
    ] {
        let error = import(name, text, &[]).expect_failure(1);
        assert!(error.contains(words), "{text:?}: {error}");
    }
    let text = "a\tb\n1\t\"x\"\n\"\"\t\"\n";
    let output = import("x.tsv", text, &[]);
    let expected = "\n  2 fields are stored in quotes, as in the file; the first: line 2: \
                    --quote '\"' takes them off\n";
    assert!(output.stderr.ends_with(expected), "{output:?}");
    let output = import("x.tsv", text, &["--quote", "none"]);
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    let output = import(
        "x.tsv",
        &text.replace("\t\"\n", "\t2\n"),
        &["--quote", "\""],
    );
    assert_eq!(output.stderr.lines().count(), 1, "{output:?}");
    assert_eq!(fixture.number("SELECT count(*) FROM t WHERE b = 'x'"), 1);
}

#[test]
fn a_column_may_have_the_name_of_a_line_of_excel() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE t(\"sep=;\"); INSERT INTO t VALUES ('a'), ('b;c')");
    let csv = fixture.run(["query", "x.db", "--csv", "SELECT * FROM t"]);
    fs::write(fixture.join("t.csv"), csv.expect_success()).unwrap();
    fixture
        .run(["import", "x.db", "t", "t.csv"])
        .expect_success();
    let pairs = "SELECT count(*) FROM (SELECT 1 FROM t GROUP BY 1, \"sep=;\" HAVING count(*) = 2)";
    assert_eq!(fixture.number(pairs), 2);
}

#[test]
fn a_column_that_a_module_hides_is_named_as_that() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE VIRTUAL TABLE t USING fts5(a)");
    fs::write(fixture.join("t.csv"), "rank,t\n1,2\n").unwrap();
    let error = fixture
        .run(["import", "x.db", "t", "t.csv"])
        .expect_failure(1);
    let expected = "line 1: the column \"rank\" is hidden and no part of the rows: give \
                    --ignore-unknown to leave it out: nothing";
    assert!(error.contains(expected), "{error}");
}

#[test]
fn json_that_is_no_row_is_refused_with_what_to_write() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE TABLE t(a)");
    let rows = "if the elements of \"d\" are the rows, write only that array";
    for (text, options, words) in [
        ("{\"d\": [ {\"a\":1}]}", &["--ignore-unknown"][..], rows),
        ("{\"d\":[{\"a\":1}], \"n\":1}", &["--ignore-unknown"], rows),
        (
            "[{\"a\":1},\n]",
            &[],
            "line 2: a comma stands before ]: remove it",
        ),
        ("// a\n{\"a\":1}", &[], "JSON has no comments: remove them"),
        ("{'a':1}", &[], "JSON has texts and names in double quotes"),
        (
            "{\"a\":'x'}",
            &[],
            "JSON has texts and names in double quotes",
        ),
    ] {
        fs::write(fixture.join("t.json"), text).unwrap();
        let args = ["import", "x.db", "t", "t.json"].into_iter();
        let output = fixture.run(args.chain(options.iter().copied()));
        let error = output.expect_failure(1);
        assert!(error.contains(words), "{text}: {error}");
    }
    // Other members of an object with a row may be left out.
    fs::write(fixture.join("t.json"), "{\"a\":1,\"d\":[{}]}").unwrap();
    let args = ["import", "x.db", "t", "t.json", "--ignore-unknown"];
    fixture.run(args).expect_success();
}

#[test]
fn the_key_and_the_language_of_fts4_are_imported() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec("CREATE VIRTUAL TABLE t USING fts4(a, languageid=\"lang\")");
    let import = |text: &str| {
        fs::write(fixture.join("t.csv"), text).unwrap();
        fixture.run(["import", "x.db", "t", "t.csv"])
    };
    import("docid,a,lang\n7,x,3\n").expect_success();
    let found = "SELECT count(*) FROM t WHERE docid = 7 AND lang = 3 AND t MATCH 'x'";
    assert_eq!(fixture.number(found), 1);
    import("docid,a\nx,x\n").expect_failure(1);
    import("t,a\noptimize,x\n").expect_failure(1);
}
