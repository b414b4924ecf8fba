//! From a file to a cluster, and back.
#![cfg(test)]

mod support;

use std::path::{Path, PathBuf};

use penholder::rusqlite::Connection;
use penholder::{Store, StoreExt, Value};
use support::{TestCluster, failed, printed};

/// Of everything that a database file may have, something.
const EVERYTHING: &str = r#"
PRAGMA user_version = 2;
PRAGMA application_id = 77;
CREATE TABLE line(invoice INTEGER NOT NULL REFERENCES invoice(id), text TEXT);
CREATE TABLE invoice(id INTEGER PRIMARY KEY AUTOINCREMENT, sum REAL, twice AS (sum * 2));
CREATE TABLE part(id INTEGER PRIMARY KEY, of INTEGER REFERENCES part(id));
CREATE TABLE hen(id INTEGER PRIMARY KEY, egg INTEGER REFERENCES egg(id));
CREATE TABLE egg(id INTEGER PRIMARY KEY, hen INTEGER REFERENCES hen(id));
CREATE TABLE setting(area TEXT, name TEXT, value ANY, PRIMARY KEY (area, name)) STRICT, WITHOUT ROWID;
CREATE TABLE "odd ""name"(rowid TEXT, "a b" BLOB);
CREATE TABLE history(what TEXT);
CREATE TABLE empty(a);
CREATE TABLE coded(code TEXT, name TEXT);
CREATE UNIQUE INDEX coded_code ON coded(code);
CREATE TABLE uses(code TEXT REFERENCES coded(code));
CREATE TABLE node(id INTEGER PRIMARY KEY, tenant INTEGER, parent INTEGER, UNIQUE (tenant, id), FOREIGN KEY (tenant, parent) REFERENCES node(tenant, id));
CREATE TABLE leaf(tenant INTEGER, node INTEGER, FOREIGN KEY (tenant, node) REFERENCES node(tenant, id));
CREATE TABLE long(text TEXT);
CREATE VIRTUAL TABLE found USING fts5(title, body);
CREATE VIRTUAL TABLE line_text USING fts5(text, content='line');
CREATE VIRTUAL TABLE place USING rtree(id, x0, x1, +note);
CREATE INDEX line_of ON line(invoice) WHERE text IS NOT NULL;
CREATE UNIQUE INDEX lower_name ON setting(lower(name), area);
CREATE VIEW total AS SELECT count(*) AS lines FROM line;
CREATE TRIGGER noted AFTER INSERT ON line BEGIN INSERT INTO history VALUES ('line ' || NEW.text); END;
INSERT INTO invoice(id, sum) VALUES (1, 1.5), (2, NULL), (40, -0.0);
DELETE FROM invoice WHERE id = 40;
INSERT INTO line VALUES (2, 'ä'), (1, 'b' || char(0) || 'c'), (1, NULL);
INSERT INTO line(rowid, invoice, text) VALUES (1000, 2, 'last');
DELETE FROM line WHERE rowid = 2;
INSERT INTO line_text(line_text) VALUES ('rebuild');
INSERT INTO part VALUES (1, 3), (2, 2), (3, NULL);
INSERT INTO hen VALUES (1, 1);
INSERT INTO egg VALUES (1, 1);
INSERT INTO setting VALUES ('b', 'X', 9223372036854775807), ('a', 'y', x'00ff'), ('a', 'x', 1e300);
INSERT INTO "odd ""name" VALUES ('r', x''), (NULL, zeroblob(3));
INSERT INTO found(rowid, title, body) VALUES (7, 'first', 'some words'), (9, 'second', 'other words');
INSERT INTO found(found, rank) VALUES ('rank', 'bm25(10.0, 1.0)');
INSERT INTO coded VALUES ('a', 'A');
INSERT INTO uses VALUES ('a');
INSERT INTO node VALUES (1, 7, 2), (2, 7, NULL);
INSERT INTO leaf VALUES (7, 1);
INSERT INTO long VALUES (zeroblob(30000)), (zeroblob(1800000)), ('x');
INSERT INTO place VALUES (5, 1.25, 2.5, 'here');
"#;

/// Makes a database file.
fn file(directory: &Path, name: &str, sql: &str) -> PathBuf {
    let path = directory.join(name);
    let connection = Connection::open(&path).unwrap();
    connection
        .execute_batch("PRAGMA journal_mode = WAL; PRAGMA foreign_keys = OFF")
        .unwrap();
    connection.execute_batch(sql).unwrap();
    path
}

/// Everything that two files have in common if one is a copy of the other.
fn content(path: &Path) -> Vec<String> {
    let connection = Connection::open(path).unwrap();
    let rows = |sql: &str| -> Vec<String> {
        let mut statement = connection.prepare(sql).unwrap();
        let columns = statement.column_count();
        let mut found = statement.query([]).unwrap();
        let mut rows = vec![sql.to_owned()];
        while let Some(row) = found.next().unwrap() {
            let values: Vec<String> = (0..columns)
                .map(|column| format!("{:?}", row.get::<_, Value>(column).unwrap()))
                .collect();
            rows.push(values.join(", "));
        }
        rows
    };
    [
        "SELECT type, name, tbl_name, sql FROM sqlite_schema WHERE name NOT LIKE 'sqlite\\_%' ESCAPE '\\' ORDER BY 2",
        "SELECT rowid, * FROM line ORDER BY 1",
        "SELECT * FROM invoice ORDER BY 1",
        "SELECT * FROM part ORDER BY 1",
        "SELECT * FROM hen, egg",
        "SELECT * FROM setting ORDER BY 1, 2",
        "SELECT _rowid_, * FROM \"odd \"\"name\" ORDER BY 1",
        "SELECT rowid, * FROM history ORDER BY 1",
        "SELECT rowid, * FROM found ORDER BY 1",
        "SELECT rowid FROM found WHERE found MATCH 'other'",
        "SELECT rowid FROM line_text WHERE line_text MATCH 'last'",
        "SELECT * FROM place",
        "SELECT k, v FROM found_config WHERE k <> 'version'",
        "SELECT * FROM uses, coded",
        "SELECT * FROM node ORDER BY 1",
        "SELECT * FROM leaf",
        "SELECT length(text), typeof(text) FROM long",
        "SELECT * FROM sqlite_sequence",
        "SELECT * FROM total",
        "PRAGMA user_version",
        "PRAGMA integrity_check",
        "PRAGMA foreign_key_check",
    ]
    .into_iter()
    .flat_map(rows)
    .collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_file_becomes_a_cluster_and_a_file_again() {
    let cluster = TestCluster::started(3);
    let client = cluster.client().await;
    let at = cluster.directory.path();
    let app = file(at, "app.db", EVERYTHING);
    let app_name = app.to_str().unwrap();
    let address = cluster.address();
    let text = printed(["cluster", "load", app_name, &address]);
    assert!(text.contains("17 tables, 30 rows"), "{text}");
    assert!(text.contains("application_id, 77"), "{text}");
    assert!(text.contains("and compared: 30 rows"), "{text}");

    // The steps of its migration have run, and its trigger works.
    let migrated = client
        .migrate(&["never run", "never run", "CREATE TABLE third(a)"])
        .await
        .unwrap();
    assert_eq!((migrated.from, migrated.to), (2, 3));
    let before: i64 = client
        .query_scalar("SELECT count(*) FROM history", ())
        .await
        .unwrap();
    client
        .execute("INSERT INTO line VALUES (1, 'new')", ())
        .await
        .unwrap();
    let after: i64 = client
        .query_scalar("SELECT count(*) FROM history", ())
        .await
        .unwrap();
    assert_eq!(after, before + 1);
    client
        .execute("DELETE FROM line WHERE text = 'new'", ())
        .await
        .unwrap();
    client
        .execute("DELETE FROM history WHERE what = 'line new'", ())
        .await
        .unwrap();
    client.execute("DROP TABLE third", ()).await.unwrap();

    let error = failed(1, ["cluster", "load", app_name, &address]);
    assert!(
        error.contains("already: load into a new cluster"),
        "{error}"
    );

    let dump = at.join("dump.db");
    printed(["cluster", "dump", &address, dump.to_str().unwrap()]);
    let expected = content(&file(
        at,
        "same.db",
        &EVERYTHING.replace("user_version = 2", "user_version = 3"),
    ));
    assert_eq!(content(&dump), expected);
    let error = failed(1, ["cluster", "dump", &address, dump.to_str().unwrap()]);
    assert!(error.contains("exists already"), "{error}");

    let backup = at.join("backup.db");
    printed(["cluster", "backup", &address, backup.to_str().unwrap()]);
    let other = TestCluster::started(1);
    let restored = other.client().await;
    let error = failed(1, ["cluster", "restore", &other.address(), app_name]);
    assert!(error.contains("no backup of a cluster"), "{error}");
    printed([
        "cluster",
        "restore",
        &other.address(),
        backup.to_str().unwrap(),
    ]);
    let again = at.join("again.db");
    printed(["cluster", "dump", &other.address(), again.to_str().unwrap()]);
    assert_eq!(content(&again), expected);
    let migrated = restored
        .migrate(&["never run", "never run", "CREATE TABLE third(a)"])
        .await
        .unwrap();
    assert_eq!((migrated.from, migrated.to), (3, 3));
}

#[test]
fn a_file_in_another_encoding_keeps_its_texts() {
    let directory = tempfile::tempdir().unwrap();
    let sql = "PRAGMA encoding = 'UTF-16'; CREATE TABLE t(a TEXT PRIMARY KEY) WITHOUT ROWID; \
               INSERT INTO t VALUES ('a'), ('ä'), ('中'), ('\u{10348}'), ('\u{ffee}')";
    let path = directory.path().join("utf16.db");
    let connection = Connection::open(&path).unwrap();
    connection.execute_batch(sql).unwrap();
    drop(connection);
    printed(["cluster", "load", path.to_str().unwrap(), "--dry-run"]);
}

/// The copy is of one moment, also if it takes many parts and others write meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_backup_is_of_one_moment() {
    let cluster = TestCluster::started(3);
    let client = cluster.client().await;
    let steps = ["CREATE TABLE pair(a INTEGER, b INTEGER); CREATE TABLE filler(a BLOB)"];
    client.migrate(&steps).await.unwrap();
    for _ in 0..8 {
        client
            .execute("INSERT INTO filler VALUES (zeroblob(1000000))", ())
            .await
            .unwrap();
    }
    client
        .execute("INSERT INTO pair VALUES (0, 0)", ())
        .await
        .unwrap();
    let writer = tokio::spawn({
        let client = client.clone();
        async move {
            loop {
                let batch = ["UPDATE pair SET a = a + 1", "UPDATE pair SET b = b + 1"];
                client.batch(batch).await.unwrap();
            }
        }
    });
    for number in 0..4 {
        let written: i64 = client.query_scalar("SELECT a FROM pair", ()).await.unwrap();
        let path = cluster.directory.path().join(format!("{number}.db"));
        let (address, name) = (cluster.address(), path.to_str().unwrap().to_owned());
        tokio::task::spawn_blocking(move || printed(["cluster", "backup", &address, &name]))
            .await
            .unwrap();
        let connection = Connection::open(&path).unwrap();
        let (a, b): (i64, i64) = connection
            .query_row("SELECT a, b FROM pair", [], |row| {
                Ok((row.get(0)?, row.get(1)?))
            })
            .unwrap();
        assert_eq!(a, b);
        assert!(a >= written, "{a} is older than {written}");
    }
    writer.abort();
}

#[test]
fn what_a_cluster_cannot_take_over_is_said_before_anything_is_loaded() {
    let directory = tempfile::tempdir().unwrap();
    for (number, (sql, expected)) in [
        ("CREATE TABLE t(a DEFAULT CURRENT_TIMESTAMP)", "table t: CURRENT_TIMESTAMP would have another value"),
        ("CREATE TABLE t(a); PRAGMA writable_schema = ON; \
             UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a COLLATE german)'", "no such collation sequence: german"),
        ("CREATE TABLE t(a); CREATE TRIGGER g AFTER DELETE ON t BEGIN SELECT mine(1); END", "no such function: mine"),
        ("CREATE TABLE t(a); CREATE VIEW v AS SELECT mine(a) FROM t", "view v: no such function: mine"),
        ("CREATE VIRTUAL TABLE t USING fts5(a, content='')", "no texts"),
        ("CREATE TABLE u(id INTEGER PRIMARY KEY); CREATE TABLE t(a REFERENCES u); INSERT INTO t VALUES (1)", "rows of u which are missing: 1"),
        ("CREATE TABLE t(a REFERENCES gone)", "refers to the table gone, which is not loaded"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, up NOT NULL REFERENCES t)", "must not be NULL"),
        ("CREATE TABLE t(a); INSERT INTO t VALUES (CAST(x'ff41' AS TEXT))", "table t: row 1: a text is no UTF-8"),
        ("CREATE TABLE t(a); INSERT INTO t VALUES (zeroblob(2000000))", "table t: row 1: it has 2000008 bytes"),
        ("CREATE TABLE _penholder_mine(a)", "belongs to the cluster itself"),
        ("CREATE TABLE t(a); INSERT INTO t(rowid, a) VALUES (9223372036854775807, 1)", "the last rowid that there is"),
        ("CREATE TABLE t(id INTEGER PRIMARY KEY, up REFERENCES t CHECK (up IS NOT NULL)); INSERT INTO t VALUES (1, 1)", "CHECK constraint failed"),
        ("CREATE TABLE t(a); PRAGMA writable_schema = ON; UPDATE sqlite_schema SET sql = 'CREATE TABLE t(a CHECK (mine(a)))'", "no such function: mine"),
        ("CREATE TABLE t(a); PRAGMA writable_schema = ON; UPDATE sqlite_schema SET rootpage = 0, sql = 'CREATE VIRTUAL TABLE t USING mine(a)'", "no such module: mine"),
        ("CREATE TABLE u(a); CREATE TABLE t(a REFERENCES u(a)); INSERT INTO t VALUES (1)", "foreign key mismatch"),
    ]
    .into_iter()
    .enumerate()
    {
        let path = file(directory.path(), &format!("{number}.db"), sql);
        let name = path.to_str().unwrap();
        let error = failed(1, ["cluster", "load", name, "--dry-run"]);
        assert!(error.contains(expected), "{sql}: {error}");
        assert!(error.contains("--without"), "{sql}: {error}");
        // The address is not even looked at.
        failed(1, ["cluster", "load", name, "cluster:missing.toml"]);
    }
    let path = file(
        directory.path(),
        "two.db",
        "CREATE TABLE t(a DEFAULT CURRENT_DATE); CREATE INDEX i ON t(1); CREATE TABLE u(b); INSERT INTO u VALUES (1)",
    );
    let name = path.to_str().unwrap();
    let text = printed(["cluster", "load", name, "--dry-run", "--without", "T"]);
    assert!(text.contains("1 table, 1 row; indexes"), "{text}");
    let error = failed(1, ["cluster", "load", name, "--dry-run", "--without", "z"]);
    assert!(error.contains("there is nothing of that name"), "{error}");
    let missing = directory.path().join("missing.db");
    let error = failed(
        1,
        ["cluster", "load", missing.to_str().unwrap(), "--dry-run"],
    );
    assert!(error.contains("give an existing database"), "{error}");
    assert!(!missing.exists());
    std::fs::write(
        &missing,
        "no database, but a text that is longer than a header of one".repeat(9),
    )
    .unwrap();
    let error = failed(
        1,
        ["cluster", "load", missing.to_str().unwrap(), "--dry-run"],
    );
    assert!(error.contains("give a SQLite database"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_doctor_says_which_node_is_missing() {
    let mut cluster = TestCluster::started(3);
    let _client = cluster.client().await;
    cluster.wait_for_voters();
    // All nodes of a test are on one machine. Nodes may elect another leader at any time.
    let address = cluster.address();
    support::until("all nodes are well", || {
        let output = support::run(["doctor", &address]);
        let text = String::from_utf8(output.stdout).unwrap();
        let is_well = output.status.code() == Some(3) && text.matches("warning").count() == 1;
        (is_well && text.contains("all nodes are on this machine")).then_some(())
    });
    let follower = cluster.leader() % 3 + 1;
    cluster.kill(follower);
    support::until("the doctor misses a node", || {
        let output = support::run(["doctor", &address, "--json"]);
        let findings: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
        let first = findings[0]["finding"].as_str().unwrap();
        first.contains("does not answer").then_some(())
    });
}

/// Runs `import` with `penholder` in PATH.
fn import(words: &[&str]) -> std::process::Output {
    let program = support::penholder().unwrap();
    let directory = program.parent().unwrap().to_str().unwrap();
    let path = format!("{directory}:{}", std::env::var("PATH").unwrap());
    let mut command = support::command();
    command.env("PATH", path).arg("import").args(words);
    command.output().unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn rows_of_files_are_imported() {
    if support::penholder().is_none() {
        eprintln!("SKIPPED: this test needs the program penholder, which is not built");
        return;
    }
    let cluster = TestCluster::started(1);
    let client = cluster.client().await;
    let create = "CREATE TABLE item(id INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE, \
                  price DOUBLE PRECISION DEFAULT 9.5, parent INTEGER REFERENCES item(id))";
    client.execute(create, ()).await.unwrap();
    let address = cluster.address();
    let at = cluster.directory.path();
    let csv = at.join("items.csv");
    let mut text = "name;price\n".to_owned();
    for number in 0..1200 {
        text += &format!("n{number};{number}.25\n");
    }
    std::fs::write(&csv, &text).unwrap();
    let words = [&address, "item", csv.to_str().unwrap(), "--delimiter", ";"];
    let output = import(&words);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(
        output.status.success() && error.contains("1200 rows imported into item"),
        "{error}"
    );

    // Rows with other columns each; what is not given has the cluster's default.
    let json = at.join("items.jsonl");
    let lines =
        "{\"name\":\"a\"}\n{\"name\":\"b\",\"price\":null}\n{\"name\":\"c\",\"parent\":1}\n";
    std::fs::write(&json, lines).unwrap();
    let output = import(&[&address, "item", json.to_str().unwrap(), "--quiet"]);
    assert!(
        output.status.success() && output.stderr.is_empty(),
        "{output:?}"
    );
    let rows: Vec<(i64, String, Option<f64>, Option<i64>)> = client
        .query_as("SELECT * FROM item WHERE id > 1199 ORDER BY id", ())
        .await
        .unwrap();
    let expected = [
        (1200, "n1199".to_owned(), Some(1199.25), None),
        (1201, "a".to_owned(), Some(9.5), None),
        (1202, "b".to_owned(), None, None),
        (1203, "c".to_owned(), Some(9.5), Some(1)),
    ];
    assert_eq!(rows, expected);

    client
        .execute("CREATE TABLE kept(a ANY, b INTEGER) STRICT", ())
        .await
        .unwrap();
    std::fs::write(&json, "{\"a\":\"12\",\"b\":3}\n").unwrap();
    let output = import(&[&address, "kept", json.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    let kept: Vec<(String, i64)> = client
        .query_as("SELECT typeof(a), b FROM kept", ())
        .await
        .unwrap();
    assert_eq!(kept, [("text".to_owned(), 3)]);

    // A row that is refused: those before it stay, and the message says how to go on.
    std::fs::write(&csv, "name\nx\ny\na\nz\n").unwrap();
    let name = csv.to_str().unwrap();
    let output = import(&[&address, "item", name]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{error}");
    assert!(
        error.contains("row 3: ") && error.contains("UNIQUE constraint failed"),
        "{error}"
    );
    assert!(
        error.contains("before it, 2 rows of this run were written: correct it and continue with --skip 2, or leave it out with --skip 3"),
        "{error}"
    );
    std::fs::write(&csv, "name\nx\ny\nb2\nz\n").unwrap();
    let output = import(&[&address, "item", name, "--skip", "2"]);
    assert!(output.status.success(), "{output:?}");
    let count: i64 = client
        .query_scalar(
            "SELECT count(*) FROM item WHERE name IN ('x', 'y', 'b2', 'z')",
            (),
        )
        .await
        .unwrap();
    assert_eq!(count, 4);

    // What is wrong with a file is said before anything is written.
    std::fs::write(&csv, "name,price\nq,1\nr\n").unwrap();
    let output = import(&[&address, "item", name]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(error.contains("items.csv"), "{error}");
    let lines = "{\"name\":\"q\"}\n{\"price\":1}\n{\"name\":null}\n";
    std::fs::write(&json, lines).unwrap();
    let output = import(&[&address, "item", json.to_str().unwrap()]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1), "{error}");
    assert!(
        !error.contains("--skip") && !error.contains("were imported"),
        "{error}"
    );
    let output = import(&[&address, "missing", name]);
    let error = String::from_utf8(output.stderr).unwrap();
    assert!(error.contains("no such table: missing"), "{error}");
    let count: i64 = client
        .query_scalar("SELECT count(*) FROM item WHERE name IN ('q', 'r')", ())
        .await
        .unwrap();
    assert_eq!(count, 0);
}
