//! Proves that `penholder import` takes all rows of a file or says which it took:
//! values, malformed rows and their lines, constraints, interruptions, and others
//! that write meanwhile.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::process::{Child, Stdio};
use std::time::Duration;

use peer::{PATIENCE, until};
use penholder::Database;
use site::{Done, PROMPT, Site, assert_whole, finish, number, timed};

/// A folder with a table of parts.
fn site() -> Site {
    let site = Site::new();
    site.exec("CREATE TABLE part(id INTEGER PRIMARY KEY, name TEXT, price REAL, stock DEFAULT 7)");
    site
}

/// Imports a file with this text and name, and these options.
fn import(site: &Site, name: &str, text: impl AsRef<[u8]>, options: &[&str]) -> Done {
    fs::write(site.at(name), text).unwrap();
    let args = ["import", "x.db", "part", name].into_iter();
    site.run(args.chain(options.iter().copied()))
}

/// The parts, each as one line.
fn parts(site: &Site) -> Vec<String> {
    site.query("SELECT id, name, price, stock FROM part ORDER BY id")
}

fn count(site: &Site) -> i64 {
    site.number("SELECT count(*) FROM part")
}

/// A file of so many rows with the ids from 1 on.
fn many(site: &Site, rows: u32) {
    let mut text = "id,name,price\n".to_owned();
    for id in 1..=rows {
        writeln!(text, "{id},part {id},{id}.5").unwrap();
    }
    fs::write(site.at("many.csv"), text).unwrap();
}

/// An import of that file, under way.
fn start(site: &Site, options: &[&str]) -> Child {
    let args = ["import", "x.db", "part", "many.csv"].into_iter();
    let mut command = site.command(args.chain(options.iter().copied()));
    command.stdin(Stdio::null()).stderr(Stdio::piped());
    command.spawn().unwrap()
}

#[test]
fn csv_values_are_converted_as_the_columns_ask() {
    let site = site();
    site.exec("DROP TABLE part");
    site.exec("CREATE TABLE part(i INTEGER, t TEXT, r REAL, b BLOB, n)");
    let text = "T,i,r,b,n\n1,1,1,1,1\nx,x,x,x,x\n,,,,\n\"a,\"\"b\"\"\nc\",07,1e3, 2 ,NULL\n";
    let done = import(&site, "rows.csv", text, &[]);
    assert!(
        done.err
            .starts_with("penholder: 4 rows imported into part in ")
    );
    assert_eq!(done.ok(), "");
    let types = "SELECT typeof(i) || typeof(t) || typeof(r) || typeof(b) || typeof(n) FROM part";
    let text = "texttexttexttexttext";
    assert_eq!(
        site.query(types),
        [
            "integertextrealtexttext",
            text,
            text,
            "integertextrealtexttext"
        ]
    );
    let last = "SELECT t = 'a,\"b\"' || char(10) || 'c' AND i = 7 AND r = 1000 AND b = ' 2 ' \
                AND n = 'NULL' FROM part ORDER BY rowid DESC LIMIT 1";
    assert_eq!(site.number(last), 1);
}

#[test]
fn an_empty_field_is_empty_text_or_null() {
    let site = site();
    import(&site, "rows.csv", "id,name,price\n1,,\n", &[]).ok();
    import(
        &site,
        "rows.csv",
        "id,name,price\n2,,\n",
        &["--empty-as-null"],
    )
    .ok();
    let sql = "SELECT typeof(name) || typeof(price) FROM part ORDER BY id";
    assert_eq!(site.query(sql), ["texttext", "nullnull"]);
}

#[test]
fn what_the_file_does_not_name_gets_its_default() {
    let site = site();
    import(&site, "rows.csv", "name\nbolt\n", &[]).ok();
    let objects = "{\"stock\":null}\n{}\n{\"name\":\"nut\",\"id\":9}\n";
    import(&site, "rows.jsonl", objects, &[]).ok();
    assert_eq!(parts(&site), ["1,bolt,,7", "2,,,", "3,,,7", "9,nut,,7"]);
}

#[test]
fn json_values_are_stored_as_what_they_are() {
    let site = site();
    site.exec("DROP TABLE part");
    site.exec("CREATE TABLE part(v)");
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
    import(&site, "rows.ndjson", objects.concat(), &[]).ok();
    for (row, (json, kind, sql)) in values.into_iter().enumerate() {
        let found = format!(
            "SELECT v IS {sql} AND typeof(v) = '{kind}' FROM part WHERE rowid = {}",
            row + 1
        );
        assert_eq!(site.number(&found), 1, "{json}");
    }
}

#[test]
fn json_comes_back_as_query_printed_it() {
    let site = site();
    site.exec("INSERT INTO part VALUES (1, 'a\"b', 9e999, NULL), (2, '', -1.5, 4)");
    let before = site
        .run(["query", "x.db", "SELECT * FROM part", "--json"])
        .quiet();
    let lines = before
        .trim_start_matches('[')
        .replace("},", "}")
        .replace("}]", "}");
    site.exec("DELETE FROM part");
    import(&site, "rows.jsonl", lines, &[]).ok();
    assert_eq!(
        site.run(["query", "x.db", "SELECT * FROM part", "--json"])
            .quiet(),
        before
    );
}

#[test]
fn standard_input_is_taken() {
    let site = site();
    let csv = ["import", "x.db", "part", "-", "--format", "csv"];
    site.feed(csv, "id,name\n1,bolt\n").ok();
    let jsonl = ["import", "x.db", "part", "-", "--format", "jsonl"];
    site.feed(jsonl, "{\"id\":2}\n{\"id\":3}").ok();
    let message = site.feed(csv, "id\n4\nx,y\n").failed(1);
    assert!(
        message.contains("standard input: line 3: 2 fields"),
        "{message}"
    );
    let message = site
        .feed(["import", "x.db", "part", "-"], "id\n4\n")
        .failed(2);
    assert!(
        message.contains("--format csv or --format jsonl"),
        "{message}"
    );
    let piped = "printf 'id\\n5\\n' | \"$PENHOLDER\" import x.db part /dev/stdin --format csv";
    site.shell(piped).ok();
    let named = "mkfifo pipe.csv; (printf 'id\\n6\\n' > pipe.csv) & \
                 \"$PENHOLDER\" import x.db part pipe.csv";
    site.shell(named).ok();
    let closed = "\"$PENHOLDER\" import x.db part - --format jsonl <&-";
    site.shell(closed);
    assert_eq!(count(&site), 5);
}

#[test]
fn fields_are_told_apart_as_asked() {
    let site = site();
    import(&site, "rows.tsv", "id\tname\n1\ta,b\n", &[]).ok();
    import(
        &site,
        "rows.txt",
        "id;name\n2;a,b\n",
        &["--format", "csv", "--delimiter", ";"],
    )
    .ok();
    import(
        &site,
        "rows.csv",
        "id\tname\n3\ta,b\n",
        &["--delimiter", "tab"],
    )
    .ok();
    assert_eq!(
        site.query("SELECT count(*) FROM part WHERE name = 'a,b'"),
        ["3"]
    );
}

#[test]
fn malformed_csv_is_reported_with_its_line_and_nothing_is_imported() {
    let site = site();
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
        // Quoted line ends, and empty lines, are lines.
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
        let message = import(&site, "rows.csv", text, &[]).failed(1);
        let place = format!("import: rows.csv: line {line}: ");
        assert!(message.contains(&place), "{text:?}: {message}");
        assert!(message.contains(why), "{text:?}: {message}");
        assert!(
            message.ends_with("nothing was imported: correct it and try again\n"),
            "{message}"
        );
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message = import(&site, "rows.csv", b"id,name\n1,a\n2,\xFF\n", &[]).failed(1);
    assert!(
        message.contains("line 3: field 2 is not UTF-8"),
        "{message}"
    );
    assert_eq!(count(&site), 0);
}

#[test]
fn malformed_json_is_reported_with_its_line_and_nothing_is_imported() {
    let site = site();
    for (text, line, why) in [
        (
            "{\"id\":1}\n{\"id\":2\n",
            2,
            "EOF while parsing an object (at byte 7)",
        ),
        (
            "{\"id\":1}\n\n  \r\n[{\"id\":2}]\n",
            4,
            "expected one JSON object on each line",
        ),
        ("{\"id\":1}\n2\n", 2, "expected one JSON object"),
        ("{\"id\":1}\n{\"id\":2} {}\n", 2, "trailing characters"),
        (
            "{\"id\":1}\n{\"size\":2}\n",
            2,
            "the table part has no column \"size\"",
        ),
        (
            "{\"id\":1}\n{\"id\":2,\"Id\":2}\n",
            2,
            "the column \"id\" comes twice",
        ),
        ("{\"id\":1}\n{\"name\":\"\\ud800\"}\n", 2, "hex escape"),
        ("{\"id\":NaN}\n", 1, "expected"),
        ("{\"id\":01}\n", 1, "invalid number"),
        ("\u{feff}{\"id\":1}\nid,name\n", 2, "expected"),
    ] {
        let message = import(&site, "rows.jsonl", text, &[]).failed(1);
        let place = format!("import: rows.jsonl: line {line}: ");
        assert!(message.contains(&place), "{text:?}: {message}");
        assert!(message.contains(why), "{text:?}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    let message = import(&site, "rows.jsonl", b"{}\n{\"name\":\"\xFF\"}\n", &[]).failed(1);
    assert!(message.contains("line 2: it is not UTF-8"), "{message}");
    assert_eq!(count(&site), 0);
}

/// Half of the file is well-formed: not one of its rows may be in.
#[test]
fn the_last_row_is_checked_before_the_first_is_written() {
    let site = site();
    many(&site, 50_000);
    let mut text = fs::read_to_string(site.at("many.csv")).unwrap();
    text += "50001\n";
    for options in [&[][..], &["--skip", "10"], &["--atomic"]] {
        let message = import(&site, "rows.csv", &text, options).failed(1);
        assert!(message.contains("line 50002"), "{message}");
        assert_eq!(count(&site), 0);
    }
}

#[test]
fn odd_but_well_formed_files_are_taken() {
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
        let site = site();
        let done = import(&site, "rows.csv", text, &[]);
        assert_eq!(done.code, Some(0), "{text:?}: {done:?}");
        assert_eq!(count(&site), rows, "{text:?}");
    }
    let site = site();
    for text in ["", "\n", "\u{feff}"] {
        let done = import(&site, "rows.jsonl", text, &[]);
        assert!(
            done.err.starts_with("penholder: 0 rows imported"),
            "{done:?}"
        );
        done.ok();
    }
}

#[test]
fn what_takes_no_rows_is_said_with_the_next_step() {
    let site = site();
    site.exec("CREATE VIEW seen AS SELECT * FROM part");
    site.exec("CREATE TABLE sum(a, b AS (a + 1))");
    fs::write(site.at("rows.csv"), "a,b\n1,2\n").unwrap();
    fs::write(site.at("odd.csv"), "a b,c\n1,2\n").unwrap();
    fs::write(site.at("rows.jsonl"), "{}\n").unwrap();
    fs::create_dir(site.at("folder.csv")).unwrap();
    for (db, table, file, said) in [
        ("x.db", "parts", "rows.csv", "'CREATE TABLE parts(a, b)'"),
        ("x.db", "parts", "odd.csv", "'CREATE TABLE parts(…)'"),
        ("x.db", "parts", "rows.jsonl", "'CREATE TABLE parts(…)'"),
        ("x.db", "", "rows.csv", "there is no table"),
        ("x.db", "seen", "rows.csv", "it is a view"),
        ("x.db", "sqlite_schema", "rows.csv", "may not be modified"),
        ("x.db", "sum", "rows.csv", "\"b\" is computed"),
        ("y.db", "part", "rows.csv", "there is no such database"),
        ("x.db", "part", "missing.csv", "missing.csv: No such file"),
        ("x.db", "part", "folder.csv", "is a directory"),
    ] {
        let message = site.run(["import", db, table, file]).failed(1);
        assert!(message.contains(said), "{table} {file}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert!(!site.at("y.db").exists());
    for file in ["rows", "rows.xml", ".csv"] {
        let message = site.run(["import", "x.db", "part", file]).failed(2);
        assert!(message.contains("--format"), "{message}");
    }
}

#[test]
fn names_that_need_quotes() {
    let site = Site::new();
    site.exec("CREATE TABLE \"odd \"\"table\"(\"a b\", \"sel'ect\", \"ä\")");
    fs::write(site.at("rows.csv"), "ä,A B,sel'ect\n1,2,3\n").unwrap();
    site.run(["import", "x.db", "odd \"table", "rows.csv"]).ok();
    assert_eq!(site.query("SELECT * FROM \"odd \"\"table\""), ["2,3,1"]);
}

#[test]
fn a_view_with_a_trigger_takes_rows() {
    let site = site();
    site.exec("CREATE VIEW seen AS SELECT id, name FROM part");
    site.exec(
        "CREATE TRIGGER put INSTEAD OF INSERT ON seen BEGIN \
         INSERT INTO part(id, name) VALUES (new.id, new.name); END",
    );
    fs::write(site.at("rows.csv"), "id,name\n1,bolt\n").unwrap();
    site.run(["import", "x.db", "seen", "rows.csv"]).ok();
    assert_eq!(parts(&site), ["1,bolt,,7"]);
}

#[test]
fn a_row_that_is_refused_stops_after_those_before_it() {
    let site = site();
    let text = "id,name\n1,a\n2,\"b\nb\"\n1,c\n4,d\n";
    let done = import(&site, "rows.csv", text, &[]);
    let message = done.failed(3);
    assert!(
        message.contains("rows.csv: line 5: UNIQUE constraint failed: part.id\n"),
        "{message}"
    );
    assert!(message.contains("\n  2 rows are in\n"), "{message}");
    assert!(
        message.contains("go on with --skip 2, or leave it out with --skip 3\n"),
        "{message}"
    );
    assert_eq!(count(&site), 2);
    // The same row again: nothing more is in.
    let message = import(&site, "rows.csv", text, &["--skip", "2"]).failed(1);
    assert!(message.contains("nothing was imported"), "{message}");
    assert!(
        message.contains("go on with --skip 2, or leave it out with --skip 3\n"),
        "{message}"
    );
    import(&site, "rows.csv", text, &["--skip", "3"]).ok();
    assert_eq!(count(&site), 3);
    import(
        &site,
        "rows.csv",
        text.replace("\n1,c", "\n3,c"),
        &["--skip", "4"],
    )
    .ok();
    assert_eq!(count(&site), 3);
    let message = import(&site, "rows.csv", text, &["--skip", "5"]).failed(1);
    assert!(message.contains("it has 4 rows"), "{message}");
}

/// Whatever the table does about a conflict, rows are in up to the one refused.
#[test]
fn conflicts_that_roll_back_or_keep_are_the_same() {
    for conflict in ["ABORT", "FAIL", "ROLLBACK"] {
        let site = Site::new();
        site.exec(&format!(
            "CREATE TABLE part(id INTEGER UNIQUE ON CONFLICT {conflict}, name)"
        ));
        site.exec(&format!(
            "CREATE TRIGGER never AFTER INSERT ON part WHEN new.id = 13 BEGIN \
             SELECT RAISE({conflict}, 'unlucky'); END"
        ));
        for (text, why) in [
            ("id\n1\n2\n2\n3\n", "UNIQUE constraint failed"),
            ("id\n11\n12\n13\n14\n", "unlucky"),
        ] {
            site.exec("DELETE FROM part");
            let message = import(&site, "rows.csv", text, &[]).failed(3);
            assert!(
                message.contains(&format!("line 4: {why}")),
                "{conflict}: {message}"
            );
            assert_eq!(count(&site), 2, "{conflict}: {message}");
        }
    }
}

#[test]
fn a_failure_at_the_commit_takes_its_batch_back() {
    let site = Site::new();
    site.exec("CREATE TABLE maker(id INTEGER PRIMARY KEY)");
    site.exec("CREATE TABLE part(id, maker REFERENCES maker DEFERRABLE INITIALLY DEFERRED)");
    site.exec("INSERT INTO maker VALUES (1)");
    let text = "id,maker\n1,1\n2,1\n3,99\n";
    let message = import(&site, "rows.csv", text, &["--hold", "10s"]).failed(1);
    assert!(
        message.contains("FOREIGN KEY constraint failed"),
        "{message}"
    );
    assert!(message.contains("nothing was imported"), "{message}");
    // One row a batch.
    let message = import(&site, "rows.csv", text, &["--hold", "0s"]).failed(3);
    assert!(message.contains("2 rows are in"), "{message}");
    assert!(message.contains("go on with --skip 2"), "{message}");
    assert_eq!(count(&site), 2);
}

#[test]
fn atomic_is_all_or_nothing() {
    let site = site();
    let text = "id,name\n1,a\n2,b\n1,c\n";
    let done = import(&site, "rows.csv", text, &["--atomic"]);
    let message = done.failed(1);
    assert!(
        message.contains("nobody else writes until all rows are in"),
        "{message}"
    );
    assert!(message.contains("line 4: UNIQUE"), "{message}");
    assert!(message.contains("nothing was imported"), "{message}");
    assert_eq!(count(&site), 0);
    let done = import(&site, "rows.csv", text, &["--atomic", "--skip", "1"]);
    assert!(done.err.contains("2 rows imported into part"), "{done:?}");
    assert!(done.err.contains("nobody else wrote meanwhile"), "{done:?}");
    assert_eq!(parts(&site), ["1,c,,7", "2,b,,7"]);
}

#[test]
fn a_holder_is_waited_for_and_named() {
    let site = site();
    let mut holder = site.hold(&["--label", "nightly"]);
    let options = ["--timeout", "50ms"];
    let done = import(&site, "rows.csv", "id\n1\n", &options);
    let message = done.failed(75);
    assert!(
        message.contains("write lock timeout after 50ms"),
        "{message}"
    );
    assert!(message.contains("label: nightly"), "{message}");
    assert!(
        message.contains("nothing was imported\n  try again"),
        "{message}"
    );
    // A malformed file is not waited for.
    let (done, time) = timed(|| import(&site, "rows.csv", "id\n1,2\n", &["--timeout", "50s"]));
    done.failed(1);
    assert!(time < PROMPT, "{time:?}");
    many(&site, 10);
    let waiting = start(&site, &["--timeout", "60s"]);
    until("it waits", || {
        site.status()["queue"][0]["label"] == "import"
    });
    holder.tell("go");
    assert_eq!(ended(waiting).code, Some(0));
    assert_eq!(count(&site), 10);
}

#[test]
fn a_holder_in_the_middle_leaves_what_is_in() {
    let site = site();
    many(&site, MANY);
    let import = start(&site, &["--hold", "1ms", "--timeout", "200ms"]);
    some_rows(&site.at("x.db"));
    let _holder = site.hold(&[]);
    let done = ended(import);
    assert_eq!(done.code, Some(75), "{done:?}");
    assert!(
        done.err.contains("write lock timeout after 200ms"),
        "{done:?}"
    );
    let rows = prefix(&site);
    let state = format!("\n  {rows} rows are in\n  go on with --skip {rows}\n");
    assert!(done.err.ends_with(&state), "{done:?}");
}

/// How an import that was started ends.
fn ended(mut child: Child) -> Done {
    let status = site::wait(&mut child, PATIENCE);
    let mut err = String::new();
    std::io::Read::read_to_string(&mut child.stderr.take().unwrap(), &mut err).unwrap();
    Done {
        code: status.code(),
        signal: std::os::unix::process::ExitStatusExt::signal(&status),
        out: String::new(),
        err,
    }
}

/// Rows of a large import that others see, once there are some.
fn some_rows(path: &Path) -> i64 {
    let mut rows = 0;
    until("some rows are in", || {
        rows = number(path, "SELECT count(*) FROM part");
        rows > 0
    });
    rows
}

/// How many rows are in: those with the first ids, and no other.
#[track_caller]
fn prefix(site: &Site) -> i64 {
    assert_whole(&site.at("x.db"));
    let rows = count(site);
    let last = site.number("SELECT coalesce(max(id), 0) FROM part");
    assert_eq!(rows, last, "no row is missing before another");
    rows
}

const MANY: u32 = 200_000;

#[test]
fn a_kill_leaves_whole_batches() {
    let site = site();
    many(&site, MANY);
    for _ in 0..3 {
        let before = prefix(&site);
        let skip = before.to_string();
        let mut import = start(&site, &["--hold", "1ms", "--skip", &skip]);
        until("it goes on", || count(&site) > before);
        import.kill().unwrap();
        import.wait().unwrap();
        let after = prefix(&site);
        assert!(after > before, "{before} {after}");
    }
    let skip = prefix(&site).to_string();
    site.run(["import", "x.db", "part", "many.csv", "--skip", &skip])
        .ok();
    assert_eq!(prefix(&site), i64::from(MANY));
}

#[test]
fn a_killed_atomic_import_leaves_nothing() {
    let site = site();
    many(&site, MANY);
    let mut import = start(&site, &["--atomic"]);
    until("it writes", || site.status()["holder"]["label"] == "import");
    import.kill().unwrap();
    import.wait().unwrap();
    assert!(matches!(prefix(&site), 0 | 200_000));
    site.exec("SELECT 1");
}

#[test]
fn an_interrupted_import_says_how_to_go_on() {
    for (name, code) in [("INT", 130), ("TERM", 143)] {
        let site = site();
        many(&site, MANY);
        let import = start(&site, &["--hold", "1ms"]);
        some_rows(&site.at("x.db"));
        peer::signal(import.id(), name);
        let done = ended(import);
        assert_eq!(done.code, Some(code), "{done:?}");
        let rows = prefix(&site);
        assert!(rows < i64::from(MANY), "it was interrupted");
        let state = format!("\n  {rows} rows are in\n  go on with --skip {rows}\n");
        assert!(done.err.contains(&state), "{done:?}");
        let skip = rows.to_string();
        site.run(["import", "x.db", "part", "many.csv", "--skip", &skip])
            .ok();
        assert_eq!(prefix(&site), i64::from(MANY));
    }
}

#[test]
fn an_interrupted_atomic_import_leaves_nothing() {
    let site = site();
    many(&site, MANY);
    let import = start(&site, &["--atomic"]);
    until("it writes", || site.status()["holder"]["label"] == "import");
    peer::signal(import.id(), "INT");
    let done = ended(import);
    assert_eq!(done.code, Some(130), "{done:?}");
    assert!(done.err.contains("nothing was imported"), "{done:?}");
    assert_eq!(prefix(&site), 0);
}

#[test]
fn a_second_signal_ends_it_though_somebody_holds() {
    let site = site();
    many(&site, 10);
    let _holder = site.hold(&[]);
    let import = start(&site, &["--timeout", "60s"]);
    until("it waits", || {
        site.status()["queue"][0]["label"] == "import"
    });
    peer::signal(import.id(), "INT");
    // Two that come together count as one.
    std::thread::sleep(Duration::from_millis(100));
    peer::signal(import.id(), "INT");
    assert_eq!(ended(import).signal, Some(2));
    assert_eq!(count(&site), 0);
}

#[test]
fn others_keep_getting_in() {
    let site = site();
    site.exec("CREATE TABLE seen(rows)");
    many(&site, MANY);
    let db = Database::open(site.at("x.db")).unwrap();
    let mut import = start(&site, &["--hold", "2ms"]);
    while import.try_wait().unwrap().is_none() {
        let sql = "INSERT INTO seen SELECT count(*) FROM part";
        db.execute(sql, ()).unwrap();
        std::thread::sleep(Duration::from_millis(1));
    }
    assert_eq!(ended(import).code, Some(0));
    assert_eq!(prefix(&site), i64::from(MANY));
    let between = format!("SELECT count(DISTINCT rows) FROM seen WHERE rows NOT IN (0, {MANY})");
    let turns = site.number(&between);
    assert!(turns > 5, "others wrote between {turns} batches");
}

#[test]
fn two_imports_into_one_table() {
    let site = Site::new();
    site.exec("CREATE TABLE part(id, name, price)");
    many(&site, 50_000);
    let imports = [0, 1, 2].map(|_| start(&site, &["--hold", "1ms"]));
    for import in imports {
        assert_eq!(ended(import).code, Some(0));
    }
    assert_eq!(count(&site), 150_000);
}

#[test]
fn a_bar_is_shown_on_a_terminal_only() {
    let site = site();
    site.exec("CREATE TABLE entry(id, name, price)");
    many(&site, 100_000);
    let done = site.run(["import", "x.db", "entry", "many.csv"]);
    assert_eq!(done.err.lines().count(), 1, "{done:?}");
    assert!(!done.err.contains(['\r', '\x1b']), "{done:?}");
    let env = [("TERM", "xterm"), ("NO_COLOR", "1")];
    let script = "\"$PENHOLDER\" import x.db part many.csv";
    if let Some(shown) = site.terminal(script, &env) {
        assert!(shown.contains("checking"), "{shown:?}");
        assert!(shown.contains("/100000 rows"), "{shown:?}");
        assert!(shown.contains("100000 rows imported"), "{shown:?}");
    }
}

#[test]
fn a_file_that_changes_after_the_check_is_noticed() {
    let site = site();
    many(&site, 60_000);
    let text = fs::read(site.at("many.csv")).unwrap();
    let cut = text[..700_000]
        .iter()
        .rposition(|byte| *byte == b'\n')
        .unwrap();
    for (change, said) in [
        (&text[..=cut], "it ends sooner"),
        (&vec![b','; text.len()], "fields"),
    ] {
        site.exec("DELETE FROM part");
        fs::write(site.at("many.csv"), &text).unwrap();
        let mut holder = site.hold(&[]);
        let import = start(&site, &["--timeout", "60s"]);
        until("it waits", || {
            site.status()["queue"][0]["label"] == "import"
        });
        fs::write(site.at("many.csv"), change).unwrap();
        holder.tell("go");
        let done = ended(import);
        assert_eq!(done.code, Some(3), "{done:?}");
        assert!(
            done.err.contains("it was changed after it was checked"),
            "{done:?}"
        );
        assert!(done.err.contains(said), "{done:?}");
        let rows = prefix(&site);
        assert!(
            done.err.contains(&format!("\n  {rows} rows are in\n")),
            "{done:?}"
        );
    }
}

/// What is added at the end meanwhile is left for the next time.
#[test]
fn a_file_that_grows_is_taken_as_it_was() {
    let site = site();
    many(&site, 10);
    let mut holder = site.hold(&[]);
    let import = start(&site, &["--timeout", "60s"]);
    until("it waits", || {
        site.status()["queue"][0]["label"] == "import"
    });
    let text = fs::read_to_string(site.at("many.csv")).unwrap();
    fs::write(site.at("many.csv"), text + "11,more,1\nand,").unwrap();
    holder.tell("go");
    assert_eq!(ended(import).code, Some(0));
    assert_eq!(prefix(&site), 10);
}

/// Unclosed, a quote would swallow the whole file into one row.
#[test]
fn a_row_without_end_does_not_fill_the_memory() {
    let site = site();
    for (format, start) in [("csv", "id,name\n1,\""), ("jsonl", "{\"name\":\"")] {
        let script = format!(
            "ulimit -v 1000000; (printf '{}'; head -c 120000000 /dev/zero) | \
             \"$PENHOLDER\" import x.db part - --format {format}",
            start.replace('\n', "\\n").replace('"', "\\\"")
        );
        let mut shell = site.program("sh");
        let message = finish(shell.args(["-c", &script]), b"", PATIENCE).failed(1);
        assert!(message.contains("longer than 100 MB"), "{message}");
    }
    assert_eq!(count(&site), 0);
}
