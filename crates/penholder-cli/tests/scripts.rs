//! Proves that `penholder exec` runs each statement of a script where it works or refuses it,
//! restores dumps, locks what it attaches, names the statement that fails, and leaves no database
//! behind if the first script fails.
#![cfg(test)]

use std::fs;
use std::thread;
use std::time::Duration;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, HOLD, SHELL, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::{requirement, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Runs a script that is given on standard input.
fn run_script(fixture: &CommandFixture, db: &str, script: &str) -> CommandOutput {
    fixture.run_with_input(["exec", db, "-"], script)
}

/// The first value that a query returns.
fn value(fixture: &CommandFixture, db: &str, sql: &str) -> String {
    let rows = fixture.run(["query", db, "--csv", sql]).expect_success();
    rows.lines().nth(1).unwrap_or_default().to_owned()
}

/// The files of databases, and what is left behind of them.
fn database_files(fixture: &CommandFixture) -> Vec<String> {
    let names = fixture.file_names().into_iter();
    names
        .filter(|name| !name.starts_with("db.lock"))
        .filter(|name| name.contains(".db") || name.starts_with(".penholder"))
        .collect()
}

// ---- pragmas -------------------------------------------------------------------

#[test]
fn the_layout_of_a_new_database_is_as_its_pragmas_say() {
    let layout = "PRAGMA auto_vacuum=INCREMENTAL;\nPRAGMA page_size=8192;\n\
                  PRAGMA encoding='UTF-16le';\nPRAGMA foreign_keys=OFF;\nCREATE TABLE t(a);";
    for is_empty_file in [false, true] {
        let fixture = CommandFixture::new(PENHOLDER);
        if is_empty_file {
            fs::write(fixture.join("x.db"), b"").unwrap();
        }
        run_script(&fixture, "x.db", layout).expect_success();
        for (pragma, expected) in [
            ("auto_vacuum", "2"),
            ("page_size", "8192"),
            ("encoding", "UTF-16le"),
        ] {
            let found = value(&fixture, "x.db", &format!("PRAGMA {pragma}"));
            assert_eq!(
                found, expected,
                "{pragma}, with an empty file: {is_empty_file}"
            );
        }
    }
}

/// Without a table SQLite would forget the encoding.
#[test]
fn the_layout_is_kept_without_a_table() {
    for (pragma, value_of, expected) in [
        ("PRAGMA encoding='UTF-16be'", "PRAGMA encoding", "UTF-16be"),
        ("PRAGMA page_size=1024", "PRAGMA page_size", "1024"),
        ("PRAGMA auto_vacuum=FULL", "PRAGMA auto_vacuum", "1"),
    ] {
        for is_empty_file in [false, true] {
            let fixture = CommandFixture::new(PENHOLDER);
            if is_empty_file {
                fs::write(fixture.join("x.db"), b"").unwrap();
            }
            fixture.exec(pragma);
            assert_eq!(value(&fixture, "x.db", value_of), expected, "{pragma}");
            assert_eq!(
                value(&fixture, "x.db", "SELECT count(*) FROM sqlite_schema"),
                "0"
            );
        }
    }
}

#[test]
fn a_pragma_without_effect_fails_with_a_hint_of_its_own() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    for (script, hint) in [
        (
            "PRAGMA auto_vacuum=FULL",
            "penholder exec x.db 'PRAGMA auto_vacuum=FULL; VACUUM'",
        ),
        (
            "PRAGMA page_size=8192",
            "PRAGMA page_size=8192; VACUUM; PRAGMA journal_mode=WAL",
        ),
        (
            "PRAGMA page_size=8192; VACUUM",
            "PRAGMA journal_mode=DELETE; PRAGMA page_size=8192",
        ),
        ("PRAGMA page_size=5000", "a power of two"),
        ("PRAGMA encoding='UTF-16be'", "penholder exec new.db -"),
        ("PRAGMA journal_mode=DELETE", "penholder needs WAL"),
        ("PRAGMA journal_mode=MEMORY; {}", "penholder needs WAL"),
        ("PRAGMA synchronous=OFF", "exec commits with NORMAL"),
        (
            "{}; PRAGMA synchronous=OFF",
            "put it first in the script that",
        ),
        (
            "{}; PRAGMA synchronous=OFF; {}",
            "put it first in the script that",
        ),
        (
            "BEGIN; PRAGMA foreign_keys=OFF; {}; COMMIT",
            "put it first in the script that it is for, before BEGIN",
        ),
        ("PRAGMA foreign_keys=ON", "exec has foreign keys on"),
        ("PRAGMA temp_store=MEMORY", "put it first"),
        ("PRAGMA cache_size=5000", "default_cache_size"),
        (
            "PRAGMA mmap_size=0; PRAGMA recursive_triggers=ON",
            "put the statements that it is for after it",
        ),
        ("PRAGMA busy_timeout=3000; {}", "--timeout 3000ms"),
        (
            "PRAGMA wal_checkpoint(TRUNCATE)",
            "penholder checkpoint x.db",
        ),
        (
            "PRAGMA wal_autocheckpoint=0; {}",
            "penholder checkpoint x.db",
        ),
        ("PRAGMA locking_mode=EXCLUSIVE; {}", "leave it out"),
        ("PRAGMA query_only=ON; {}", "penholder query"),
        (
            "PRAGMA incremental_vacuum(9)",
            "auto_vacuum=INCREMENTAL; VACUUM",
        ),
        ("PRAGMA user_version=99999999999", "32 bits"),
        ("PRAGMA shrink_memory", "leave it out"),
        ("PRAGMA foreign_key=OFF; {}", "SQLite has no such pragma"),
        ("PRAGMA key='secret'; {}", "SQLite has no such pragma"),
        ("PRAGMA integrity_chek", "SQLite has no such pragma"),
        (
            "PRAGMA foreign_keys=offf; {}",
            "`offf` is not one of its values",
        ),
        ("EXPLAIN PRAGMA query_only=1; {}", "leave EXPLAIN out"),
    ] {
        let script = script.replace("{}", insert);
        let message = fixture.run(["exec", "x.db", &script]).expect_failure(1);
        assert!(message.contains("PRAGMA"), "{script}: {message}");
        assert!(message.contains(hint), "{script}: {message}");
        assert!(
            message.contains("nothing was written"),
            "{script}: {message}"
        );
    }
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn a_pragma_runs_where_it_has_its_effect() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (script, expected) in [
        (
            "PRAGMA synchronous=OFF; PRAGMA cache_size=-77; PRAGMA synchronous",
            "0",
        ),
        (
            "PRAGMA synchronous=FULL; BEGIN; PRAGMA synchronous; COMMIT",
            "2",
        ),
        ("PRAGMA temp_store=MEMORY; PRAGMA temp_store", "2"),
        (
            "PRAGMA foreign_keys=OFF; SELECT 1; PRAGMA foreign_keys",
            "0",
        ),
        ("SELECT 1; PRAGMA cache_size=55; PRAGMA cache_size", "55"),
        (
            "PRAGMA recursive_triggers=ON; PRAGMA recursive_triggers",
            "1",
        ),
        (
            "PRAGMA defer_foreign_keys=ON; PRAGMA defer_foreign_keys",
            "1",
        ),
        // What holds anyway is no error, and neither is to restore at the end.
        ("PRAGMA journal_mode=WAL; PRAGMA busy_timeout", ""),
        (
            "PRAGMA locking_mode=NORMAL; PRAGMA query_only=OFF; PRAGMA query_only",
            "0",
        ),
        ("SELECT 1; PRAGMA foreign_keys=ON; SELECT 7", "7"),
        (
            "PRAGMA foreign_keys=OFF; BEGIN; SELECT 7; COMMIT; PRAGMA foreign_keys=ON",
            "7",
        ),
        ("PRAGMA user_version=0x10; PRAGMA user_version", "16"),
        ("PRAGMA application_id=-5; PRAGMA application_id", "-5"),
    ] {
        let stdout = fixture.run(["exec", "x.db", script]).expect_success();
        let found = stdout.lines().nth(1).unwrap_or_default();
        assert!(
            expected.is_empty() || found == expected,
            "{script}: {stdout}"
        );
    }
}

/// What a hint advises does what was asked for.
#[cfg(unix)]
#[test]
fn the_advice_about_a_pragma_works_when_it_is_pasted() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let advised = |script: &str| {
        let message = fixture.run(["exec", "x.db", script]).expect_failure(1);
        let at = message.rfind(": penholder ").unwrap();
        message[at + 2..].replace("penholder ", "\"$PENHOLDER\" ")
    };
    fixture
        .run_script(&advised("PRAGMA auto_vacuum=INCREMENTAL"))
        .expect_success();
    assert_eq!(value(&fixture, "x.db", "PRAGMA auto_vacuum"), "2");
    fixture.exec("PRAGMA incremental_vacuum(3)");
    if requirement::has_program("sqlite3") {
        fixture
            .run_script(&advised("PRAGMA page_size=8192"))
            .expect_success();
        assert_eq!(value(&fixture, "x.db", "PRAGMA page_size"), "8192");
        let message = fixture
            .run(["exec", "x.db", "PRAGMA encoding='UTF-16le'"])
            .expect_failure(1);
        let at = message.rfind(": (echo").unwrap();
        let command = message[at + 2..].replace("penholder ", "\"$PENHOLDER\" ");
        fixture.run_script(&command).expect_success();
        assert_eq!(value(&fixture, "new.db", "PRAGMA encoding"), "UTF-16le");
    }
}

/// The advice names the database so that a shell finds it, and its lock.
#[cfg(unix)]
#[test]
fn advice_works_whatever_the_database_and_its_lock_are_called() {
    for db in [
        "my app.db",
        "-n.db",
        "it's \"new\".db",
        "two\nlines\u{1b}[1m.db",
    ] {
        for lock in [None, Some("--lock-file=-l ck")] {
            let fixture = CommandFixture::new(PENHOLDER);
            let advised = |script: &str| {
                let mut args = vec!["exec"];
                args.extend(lock);
                args.extend(["--", db, script]);
                let message = fixture.run(args).expect_failure(1);
                let at = message.rfind("penholder ").unwrap();
                message[at..].trim_end_matches(['`', '\n']).to_owned()
            };
            let create = ["exec", "-q"].into_iter().chain(lock);
            let create = create.chain(["--", db, "CREATE TABLE t(a); INSERT INTO t VALUES (1)"]);
            fixture.run(create).expect_quiet_success();
            let mut files = fixture.file_names();
            files.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
            for script in [
                "PRAGMA auto_vacuum=FULL",
                "SELECT 1; VACUUM",
                "VACUUM INTO '-c py.db'",
            ] {
                let advice = advised(script);
                assert_eq!(lock.is_some(), advice.contains("--lock-file="), "{advice}");
                let advice = advice.replace("penholder ", "\"$PENHOLDER\" ");
                let ran = fixture.run_script(&advice);
                assert_eq!(ran.code, Some(0), "{advice}: {ran:?}");
            }
            let mut left = fixture.file_names();
            left.retain(|name| !name.ends_with("-wal") && !name.ends_with("-shm"));
            left.sort();
            let mut expected = files;
            expected.push("-c py.db".to_owned());
            expected.sort();
            assert_eq!(left, expected, "no other lock, and no other database");
        }
    }
}

// ---- dumps -----------------------------------------------------------------------

/// Tables of each kind, with values that a dump has to quote.
const ALL_KINDS: &str = "
    PRAGMA user_version=7;
    CREATE TABLE child(id INTEGER PRIMARY KEY, parent REFERENCES parent);
    CREATE TABLE parent(id INTEGER PRIMARY KEY AUTOINCREMENT, n, b BLOB,
        g GENERATED ALWAYS AS (n || 'x'));
    INSERT INTO parent(n, b) VALUES ('it''s; \n two lines -- /*', x'00ff'), (1.5, NULL);
    INSERT INTO parent(n) VALUES ('a' || char(13, 10) || char(0) || 'b');
    INSERT INTO child VALUES (1, 2);
    CREATE VIEW v AS SELECT * FROM parent;
    CREATE INDEX i ON parent(n);
    CREATE TABLE log(a);
    CREATE TRIGGER tr AFTER INSERT ON child BEGIN
        INSERT INTO log VALUES (CASE WHEN 1 THEN 2 END);
        SELECT 1;
    END;";

/// Makes `old.db`, without the write lock, and returns its dump.
fn dump_of(fixture: &CommandFixture, sql: &str) -> String {
    let shell = |words: &[&str]| {
        let mut command = fixture.program("sqlite3");
        let output = command.args(words).output().unwrap();
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).unwrap()
    };
    shell(&["old.db", sql]);
    shell(&["old.db", ".dump"])
}

#[test]
fn a_dump_of_the_shell_is_restored() {
    if !requirement::has_program("sqlite3") {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    let full_text = "CREATE VIRTUAL TABLE ft USING fts5(t); INSERT INTO ft VALUES ('some words');";
    let dump = dump_of(&fixture, &format!("{ALL_KINDS}{full_text}"));
    assert!(dump.contains("PRAGMA writable_schema=ON"), "{dump}");
    run_script(&fixture, "new.db", &dump).expect_success();
    let again = fixture
        .program("sqlite3")
        .args(["new.db", ".dump"])
        .output()
        .unwrap();
    assert_eq!(String::from_utf8(again.stdout).unwrap(), dump);
    let found = value(
        &fixture,
        "new.db",
        "SELECT t FROM ft WHERE ft MATCH 'words'",
    );
    assert_eq!(found, "some words");
    assert_eq!(value(&fixture, "new.db", "PRAGMA integrity_check"), "ok");
    // As Windows has it, and into a database that exists.
    fixture.exec("CREATE TABLE before(a)");
    let dump = format!("\u{feff}{}", dump.replace(";\n", ";\r\n"));
    run_script(&fixture, "x.db", &dump).expect_success();
    assert_eq!(value(&fixture, "x.db", "SELECT count(*) FROM child"), "1");
}

#[test]
fn a_dump_of_python_is_restored() {
    if !requirement::has_program("python3") || !requirement::has_program("sqlite3") {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    // Python's dump has the tables in the order of their names, and leaves foreign keys on.
    dump_of(&fixture, ALL_KINDS);
    let program =
        "import sqlite3, sys\nfor line in sqlite3.connect('old.db').iterdump(): print(line)";
    let mut python = fixture.program("python3");
    let dump = python.args(["-c", program]).output().unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    assert!(dump.starts_with("BEGIN TRANSACTION;"), "{dump}");
    let message = run_script(&fixture, "new.db", &dump).expect_failure(1);
    assert!(message.contains("PRAGMA foreign_keys=OFF"), "{message}");
    assert!(!fixture.join("new.db").exists());
    run_script(
        &fixture,
        "new.db",
        &format!("PRAGMA foreign_keys=OFF;\n{dump}"),
    )
    .expect_success();
    assert_eq!(value(&fixture, "new.db", "SELECT parent FROM child"), "2");
}

#[test]
fn the_functions_of_newer_shells_are_known() {
    let fixture = CommandFixture::new(PENHOLDER);
    let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCREATE TABLE t(a);\n\
                INSERT INTO t VALUES(unistr('a\\u000ab'));\nINSERT INTO t VALUES('x' || char(0));\n\
                COMMIT;\n";
    run_script(&fixture, "new.db", dump).expect_success();
    let rows = "SELECT group_concat(hex(a)) FROM t";
    assert_eq!(value(&fixture, "new.db", rows), "\"610A62,7800\"");
}

#[test]
fn a_dump_that_violates_foreign_keys_is_refused() {
    let fixture = CommandFixture::new(PENHOLDER);
    let schema = "CREATE TABLE p(id INTEGER PRIMARY KEY);\nCREATE TABLE c(id INTEGER PRIMARY KEY, \
                  p REFERENCES p);\n";
    let dump = format!(
        "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\n{schema}INSERT INTO c VALUES (1, 5), (2, 9);\n\
         INSERT INTO p VALUES (5);\nCOMMIT;\n"
    );
    let message = run_script(&fixture, "new.db", &dump).expect_failure(1);
    assert!(
        message.contains("row 2 of \"c\" has no row in \"p\""),
        "{message}"
    );
    assert!(!message.contains("row 1 of"), "{message}");
    assert!(message.contains("nothing was written") && message.contains("sqlite3 new.db"));
    assert_eq!(database_files(&fixture), [""; 0]);
}

/// A commit that would fail is not left to SQLite, which names no row.
#[test]
fn a_deferred_key_that_is_violated_at_the_end_is_named() {
    let fixture = CommandFixture::new(PENHOLDER);
    fixture.exec(
        "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, p \
                  REFERENCES p DEFERRABLE INITIALLY DEFERRED); CREATE TABLE d(p REFERENCES p)",
    );
    for (script, row) in [
        ("INSERT INTO c VALUES (3, 9)", "row 3 of \"c\""),
        (
            "PRAGMA defer_foreign_keys=ON; INSERT INTO d VALUES (9); INSERT INTO p VALUES (8)",
            "row 1 of \"d\"",
        ),
    ] {
        let message = fixture.run(["exec", "x.db", script]).expect_failure(1);
        assert!(
            message.contains(row) && message.contains("nothing was written"),
            "{message}"
        );
    }
    fixture
        .exec("PRAGMA defer_foreign_keys=ON; INSERT INTO d VALUES (9); INSERT INTO p VALUES (9)");
}

#[test]
fn violations_from_before_are_not_blamed_on_a_script() {
    if !requirement::has_program("sqlite3") {
        return;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    let mut shell = fixture.program("sqlite3");
    let schema = "CREATE TABLE p(id INTEGER PRIMARY KEY); CREATE TABLE c(id INTEGER PRIMARY KEY, \
                  p REFERENCES p); INSERT INTO c VALUES (1, 5); CREATE TABLE m(a REFERENCES v); \
                  CREATE VIEW v AS SELECT 1";
    assert!(shell.args(["x.db", schema]).status().unwrap().success());
    let off = "PRAGMA foreign_keys=OFF;";
    let output = fixture.run(["exec", "x.db", &format!("{off} UPDATE c SET id = 1")]);
    // A key that SQLite cannot check is no error.
    assert!(
        output.stderr.contains("\"m\" cannot be checked"),
        "{output:?}"
    );
    output.expect_success();
    let more = format!("{off} INSERT INTO c VALUES (2, 6)");
    let message = fixture.run(["exec", "x.db", &more]).expect_failure(1);
    assert!(message.contains("row 2 of \"c\""), "{message}");
}

#[test]
fn transactions_that_do_not_wrap_the_script_are_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let insert = "INSERT INTO entry VALUES (1, 1);";
    for (script, place, hint) in [
        (
            format!("{insert}\nBEGIN; COMMIT"),
            "statement 2, line 2",
            "BEGIN and COMMIT wrap",
        ),
        (
            format!("BEGIN; {insert} COMMIT;\n BEGIN; {insert} COMMIT"),
            "statement 3, line 1",
            "split it",
        ),
        (
            format!("PRAGMA foreign_keys=OFF;\nBEGIN;\n{insert}"),
            "statement 2, line 2",
            "cut off",
        ),
        (
            format!("BEGIN;\n{insert}\nROLLBACK; -- due to errors"),
            "statement 3, line 3",
            "ROLLBACK",
        ),
        (
            format!("{insert} END"),
            "statement 2, line 1",
            "leave BEGIN, COMMIT",
        ),
        (
            format!("{insert}\n\nVACUUM"),
            "statement 2, line 3",
            "penholder vacuum x.db",
        ),
    ] {
        let message = run_script(&fixture, "x.db", &script).expect_failure(1);
        assert!(
            message.contains(place) && message.contains(hint),
            "{script}: {message}"
        );
    }
    assert_eq!(fixture.count_entries(), 0);
    let savepoints = "BEGIN IMMEDIATE; INSERT INTO entry VALUES (1, 1); SAVEPOINT a; \
                      DELETE FROM entry; ROLLBACK TO a; RELEASE a; END TRANSACTION";
    run_script(&fixture, "x.db", savepoints).expect_success();
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn commands_of_the_shell_are_refused_with_what_to_do_instead() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (command, hint) in [
        (".read more.sql", "penholder exec x.db - < more.sql"),
        (".mode csv", "--csv"),
        (
            ".import rows.csv entry",
            "penholder import x.db entry rows.csv",
        ),
        (".tables", "sqlite_schema"),
        (".dump", "sqlite3 x.db .dump"),
        (".timeout 5000", "--timeout 5000ms"),
        (".unknown", "penholder run x.db -- sqlite3 x.db"),
    ] {
        let script = format!("INSERT INTO entry VALUES (1, 1);\n{command}\nSELECT 1;\n");
        let message = run_script(&fixture, "x.db", &script).expect_failure(1);
        assert!(message.contains("statement 2, line 2: ."), "{message}");
        assert!(message.contains(hint), "{message}");
    }
    assert_eq!(fixture.count_entries(), 0);
}

// ---- the place of an error -------------------------------------------------------

#[test]
fn a_failure_names_the_statement_and_its_line() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let trigger = "CREATE TRIGGER t AFTER INSERT ON entry BEGIN\n SELECT 1;\n SELECT 2;\nEND;";
    for (script, place) in [
        ("SELEC 1".to_owned(), "statement 1, line 1: "),
        (
            "-- a;\r\n/* ;\r\n */ SELECT 1;\r\n\r\nSELEC 1;\r\n".to_owned(),
            "statement 2, line 5: ",
        ),
        (
            "SELECT 'a\n;\nb'; SELECT absent;".to_owned(),
            "statement 2, line 3: ",
        ),
        (
            format!("{trigger}\nINSERT INTO nowhere VALUES (1)"),
            "statement 2, line 5: ",
        ),
        (
            "SELECT 1;\nSELECT\n1,\nFROM t;".to_owned(),
            "statement 2, line 2: ",
        ),
        (
            "SELECT 1;\nINSERT INTO entry VALUES (1".to_owned(),
            "statement 2, line 2: ",
        ),
        (
            "SELECT 1;\n\nSELECT abs(-9223372036854775808);".to_owned(),
            "statement 2, line 3: ",
        ),
        (
            "CREATE TABLE u(a UNIQUE);\nINSERT INTO u VALUES (1),\n(1);".to_owned(),
            "statement 2, line 2: ",
        ),
        ("SELECT 1;\nSELECT ?1;".to_owned(), "statement 2, line 2: "),
        (
            "SELECT 1;\nPRAGMA synchronous=OFF;".to_owned(),
            "statement 2, line 2: ",
        ),
    ] {
        let message = run_script(&fixture, "x.db", &script).expect_failure(1);
        assert!(message.contains(place), "{script}: {message}");
    }
    let message = run_script(&fixture, "x.db", "SELECT 1;\nSELECT\n1,\nFROM t;").expect_failure(1);
    assert!(message.contains("syntax error in line 4"), "{message}");
}

// ---- a database that is not created ------------------------------------------------

#[test]
fn a_script_that_fails_creates_no_database() {
    for args in [
        &["SELEC"][..],
        &["CREATE TABLE t(a); INSERT INTO t VALUES (1); INSERT INTO nowhere VALUES (1)"],
        &["INSERT INTO nowhere VALUES (?1)", "5"],
        &["PRAGMA page_size=8192; CREATE TABLE t(a UNIQUE); INSERT INTO t VALUES (1), (1)"],
        &["PRAGMA synchronous=OFF"],
        &["CREATE TABLE t(a); BEGIN"],
        &["PRAGMA user_version=99999999999"],
    ] {
        let fixture = CommandFixture::new(PENHOLDER);
        let all = ["exec", "new.db"].iter().chain(args);
        let message = fixture.run(all).expect_failure(1);
        assert!(!message.contains(".penholder-create"), "{message}");
        assert_eq!(database_files(&fixture), [""; 0], "{args:?}");
    }
}

/// A file that was there before is not the command's to remove.
#[test]
fn a_script_that_fails_removes_nothing_that_was_there() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("x.db"), b"").unwrap();
    fixture.run(["exec", "x.db", "SELEC"]).expect_failure(1);
    assert!(fixture.join("x.db").exists());
    // SQLite would take it for a part of the new database.
    fs::write(fixture.join("new.db-journal"), b"").unwrap();
    fixture
        .run(["exec", "new.db", "CREATE TABLE t(a)"])
        .expect_success();
    assert_eq!(value(&fixture, "new.db", "SELECT count(*) FROM t"), "0");
}

/// The lock is as private as the database, although it is created first.
#[cfg(unix)]
#[test]
fn a_new_lock_file_has_the_permissions_of_the_database() {
    for umask in ["002", "022", "077"] {
        let fixture = CommandFixture::new(PENHOLDER);
        let script = format!(
            "umask {umask}; \"$PENHOLDER\" exec x.db 'CREATE TABLE t(a)' 2>/dev/null; \
             stat -c %a x.db db.lock db.lockq"
        );
        let modes = fixture.run_script(&script).expect_success();
        let modes: Vec<_> = modes.lines().collect();
        assert_eq!(modes.len(), 3, "{modes:?}");
        assert!(
            modes.iter().all(|mode| *mode == modes[0]),
            "{umask}: {modes:?}"
        );
    }
}

#[test]
fn many_scripts_that_create_one_database_all_succeed() {
    let fixture = CommandFixture::new(PENHOLDER);
    let sql = "CREATE TABLE IF NOT EXISTS t(a); INSERT INTO t VALUES (1)";
    let start = |_| Peer::spawn(fixture.command(["exec", "x.db", "--timeout", "50s", sql]));
    let mut writers: Vec<Peer> = (0..10).map(start).collect();
    for writer in &mut writers {
        assert!(writer.close().success());
    }
    assert_eq!(fixture.number("SELECT count(*) FROM t"), 10);
    assert_eq!(database_files(&fixture), ["x.db"]);
}

/// While a database is being created, others see its statement, and a signal leaves nothing.
#[cfg(unix)]
#[test]
fn a_database_that_is_being_created_is_removed_by_a_signal() {
    let fixture = CommandFixture::new(PENHOLDER);
    let endless = "CREATE TABLE t(a);\nINSERT INTO t WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL \
                   SELECT 1 FROM n) SELECT count(*) FROM n";
    let mut endless = Peer::spawn(fixture.command(["exec", "x.db", endless]));
    wait::until("others see the statement", || {
        let status = fixture.run(["status", "--json", "x.db"]);
        status.stdout.contains("WITH RECURSIVE")
    });
    assert!(!fixture.join("x.db").exists());
    endless.signal("TERM");
    assert_eq!(endless.wait().code(), Some(143));
    assert_eq!(database_files(&fixture), [""; 0]);
}

#[test]
fn a_database_that_looks_like_an_option_is_named_by_a_path() {
    let fixture = CommandFixture::new(PENHOLDER);
    let message = fixture
        .run(["exec", "--", "-x.db", "VACUUM"])
        .expect_failure(1);
    let advice = match cfg!(windows) {
        true => r"`penholder vacuum .\-x.db`",
        false => "`penholder vacuum ./-x.db`",
    };
    assert!(message.contains(advice), "{message}");
}

// ---- databases that are attached -----------------------------------------------------

/// A directory with `x.db`, and databases with other lock files on both sides of it in the order
/// of their paths.
fn with_others() -> CommandFixture {
    let fixture = CommandFixture::new(PENHOLDER);
    for directory in ["a", "m", "z"] {
        fs::create_dir(fixture.join(directory)).unwrap();
    }
    for db in ["a/o.db", "m/x.db", "m/o.db", "z/o.db"] {
        fixture
            .run(["exec", db, "CREATE TABLE t(a)"])
            .expect_success();
    }
    fixture
}

const WRITE_BOTH: &str = "INSERT INTO o.t VALUES (1); INSERT INTO main.t SELECT a FROM o.t";

#[test]
fn an_attached_database_is_written_under_its_own_lock() {
    let fixture = with_others();
    for other in ["a/o.db", "m/o.db", "z/o.db"] {
        let script = format!("ATTACH '{other}' AS o; {WRITE_BOTH}");
        fixture.run(["exec", "m/x.db", &script]).expect_success();
        assert_eq!(
            value(&fixture, other, "SELECT count(*) FROM t"),
            "1",
            "{other}"
        );
        let wrapped = format!("ATTACH '{other}' AS o; BEGIN; {WRITE_BOTH}; COMMIT; DETACH \"O\"");
        fixture.run(["exec", "m/x.db", &wrapped]).expect_success();
        let holder = fixture.command(["run", other, "--", SHELL[0], SHELL[1], HOLD]);
        let holder = Peer::spawn(holder);
        holder.expect("held");
        let message = fixture.run(["exec", "m/x.db", &script]).expect_failure(75);
        let place = other != "m/o.db";
        assert!(
            !place || message.contains(&format!("ATTACH {other}")),
            "{message}"
        );
        assert!(message.contains("holder: pid:"), "{message}");
        assert_eq!(
            value(&fixture, other, "SELECT count(*) FROM t"),
            "2",
            "{other}"
        );
        drop(holder);
        // Under the hold of an ancestor.
        let nested = fixture.run([
            "run",
            other,
            "--wait",
            "50",
            "--",
            fixture.penholder(),
            "exec",
            "m/x.db",
            &script,
        ]);
        nested.expect_success();
        assert_eq!(
            value(&fixture, other, "SELECT count(*) FROM t"),
            "3",
            "{other}"
        );
    }
}

/// Both take the two locks in one order, so that neither waits for the other until it times out.
#[test]
fn scripts_that_attach_each_other_do_not_wait_for_each_other() {
    let fixture = with_others();
    let start = |number: usize| {
        let (db, other) = match number % 2 {
            0 => ("m/x.db", "z/o.db"),
            _ => ("z/o.db", "m/x.db"),
        };
        let script = format!("ATTACH '{other}' AS o; {WRITE_BOTH}");
        Peer::spawn(fixture.command(["exec", db, "--timeout", "50s", &script]))
    };
    let (_, took) = wait::timed(|| {
        let mut writers: Vec<Peer> = (0..8).map(start).collect();
        for writer in &mut writers {
            assert!(writer.close().success());
        }
    });
    assert!(took.as_secs() < 50, "{took:?}");
}

#[test]
fn the_waits_for_attached_databases_end_at_one_deadline() {
    let fixture = with_others();
    let hold = |db| {
        let args = ["run", db, "--", SHELL[0], SHELL[1], HOLD];
        let holder = Peer::spawn(fixture.command(args));
        holder.expect("held");
        holder
    };
    let _always = hold("z/o.db");
    let mut for_a_while = hold("a/o.db");
    thread::spawn(move || {
        thread::sleep(Duration::from_secs(3));
        for_a_while.send("end");
        for_a_while.wait();
    });
    let script = "ATTACH 'a/o.db' AS a; ATTACH 'z/o.db' AS z; SELECT 1";
    let args = ["exec", "m/x.db", "--timeout", "4s", script];
    let (output, took) = wait::timed(|| fixture.run(args));
    let message = output.expect_failure(75);
    assert!(
        message.contains("ATTACH z/o.db: write lock timeout after 4s"),
        "{message}"
    );
    assert!(took.as_secs() < 7, "{took:?}");
}

#[test]
fn a_database_that_cannot_be_locked_is_not_attached() {
    let fixture = with_others();
    for (script, why) in [
        (
            "ATTACH 'missing.db' AS o; SELECT 1",
            "penholder exec missing.db ''",
        ),
        (
            "ATTACH 'a' || '/o.db' AS o; SELECT 1",
            "write its path as a text",
        ),
        ("DETACH o", "no database is attached as o"),
        (
            "DELETE FROM t; DETACH main",
            "no database is attached as main",
        ),
        (
            "ATTACH 'a/o.db' AS o; DETACH o; DETACH DATABASE x",
            "statement 3, line 1: no database is attached as x",
        ),
    ] {
        let message = fixture.run(["exec", "m/x.db", script]).expect_failure(1);
        assert!(message.contains(why), "{message}");
    }
    assert!(!fixture.join("missing.db").exists());
    fixture
        .run([
            "exec",
            "m/x.db",
            "ATTACH ':memory:' AS o; CREATE TABLE o.t(a)",
        ])
        .expect_success();
}

#[test]
fn named_parameters_reach_every_statement() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let sql = "INSERT INTO entry VALUES (:key, @value); UPDATE entry SET value = $value || ?2 \
               WHERE key = :key RETURNING value";
    let message = fixture
        .run(["exec", "x.db", sql, "-p", "key=7", "-p", "value=007"])
        .expect_failure(1);
    assert!(message.contains("statement 2, line 1: "), "{message}");
    let sql = sql.replace("?2", "'x'");
    let args = ["exec", "x.db", &sql, "-p", "key=7", "--param", "value=007"];
    let output = fixture.run(args);
    assert_eq!(output.expect_success(), "value\n007x\n");
    let message = fixture
        .run(["exec", "x.db", "DELETE FROM entry", "-p", "key=7"])
        .expect_failure(1);
    assert!(
        message.contains("the SQL has no parameter :key"),
        "{message}"
    );
    assert_eq!(fixture.count_entries(), 1);
}

// ---- statements with parameters ----------------------------------------------------

fn with_unique_key() -> CommandFixture {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("CREATE UNIQUE INDEX one_key ON entry(key)");
    fixture
}

#[test]
fn a_statement_with_values_is_named_with_its_line() {
    let fixture = with_unique_key();
    let value = "x";
    for (sql, expected) in [
        (
            "\n\nINSERT INTO missing\nVALUES (?1)",
            "statement 1, line 3: ",
        ),
        (
            "INSERT INTO entry(key)\nVALUES (?1,\nzz)",
            "no such column: zz in line 3: nothing was written",
        ),
        (
            "/* a */\nINSERT INTO entry(key) VALUES (?1), (?1)",
            "statement 1, line 2: write: ",
        ),
        (
            "INSERT INTO entry(key) VALUES (?1), (?1)",
            "UNIQUE constraint failed: entry.key: nothing was written",
        ),
        (
            "INSERT INTO entry(key) VALUES (?1, ?2)",
            "statement 1, line 1: ",
        ),
        ("PRAGMA nonsense(?1)", "SQLite has no such pragma"),
        ("BEGIN", "no COMMIT ends this transaction"),
        ("ATTACH ?1 AS other", "write its path as a text"),
        (".read ?1", "it is a command of SQLite's shell"),
        ("VACUUM INTO ?1", "run `penholder backup x.db copy.db`"),
        (
            "VACUUM INTO 'it''s.db'",
            match cfg!(windows) {
                true => "run `penholder backup x.db \"it's.db\"`",
                false => "run `penholder backup x.db 'it'\\''s.db'`",
            },
        ),
        ("VACUUM", "run `penholder vacuum x.db`"),
        (
            "CREATE TABLE a(a)",
            "the statement has no parameters, and 1 value is given",
        ),
        ("CREATE TEMP TABLE a(a)", "leave TEMP out to keep it"),
        ("/* a */", "the SQL has no parameters, and 1 value is given"),
    ] {
        let message = fixture.run(["exec", "x.db", sql, value]).expect_failure(1);
        assert!(message.contains(expected), "{sql}: {message}");
        assert!(!message.contains("with_write_lock"), "{sql}: {message}");
    }
    let several = "INSERT INTO entry(key)\nVALUES (?1);\nDELETE FROM entry";
    let message = fixture
        .run(["exec", "x.db", several, value])
        .expect_failure(2);
    assert!(message.contains("statement 2, line 3: "), "{message}");
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn changes_that_a_failure_leaves_are_counted() {
    let fixture = with_unique_key();
    let sql = "INSERT OR FAIL INTO entry(key) VALUES (?1), (?1)";
    let message = fixture.run(["exec", "x.db", sql, "x"]).expect_failure(1);
    assert!(
        message.contains("the change before the failure was kept"),
        "{message}"
    );
    assert!(!message.contains("nothing was written"), "{message}");
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn values_that_no_statement_takes_are_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (args, expected) in [
        (&["SELECT 1", "5", "-p", "a=1"][..], "1 value is given"),
        (
            &["SELECT :a", "5", "-p", "a=1"],
            "1 value is given for ?1, ?2 …",
        ),
        (&["SELECT :a, ?2", "5", "-p", "a=1"], "does not fit ?2"),
    ] {
        for command in ["exec", "query"] {
            let all = [command, "x.db"].into_iter().chain(args.iter().copied());
            let message = fixture.run(all).expect_failure(1);
            assert!(message.contains(expected), "{args:?}: {message}");
        }
    }
}

// ---- what scripts are and do ----------------------------------------------------

/// Runs `exec` with these bytes on standard input.
fn run_bytes(fixture: &CommandFixture, bytes: &[u8]) -> CommandOutput {
    run_command(
        &mut fixture.command(["exec", "x.db", "-"]),
        bytes,
        wait::LIMIT,
    )
}

#[test]
fn a_script_in_utf_16_runs() {
    let sql = "CREATE TABLE t(a); INSERT INTO t VALUES ('\u{e4}\u{1f600}');";
    let units = || sql.encode_utf16();
    for bytes in [
        [
            &[0xFF, 0xFE][..],
            &units().flat_map(u16::to_le_bytes).collect::<Vec<_>>(),
        ]
        .concat(),
        [
            &[0xFE, 0xFF][..],
            &units().flat_map(u16::to_be_bytes).collect::<Vec<_>>(),
        ]
        .concat(),
        units().flat_map(u16::to_le_bytes).collect(),
    ] {
        let fixture = CommandFixture::new(PENHOLDER);
        run_bytes(&fixture, &bytes).expect_success();
        assert_eq!(
            value(&fixture, "x.db", "SELECT a FROM t"),
            "\u{e4}\u{1f600}"
        );
    }
}

#[test]
fn a_script_that_is_no_text_is_refused_with_what_to_do() {
    for (bytes, words) in [
        (
            &b"CREATE TABLE t(a);\nINSERT INTO t VALUES ('\xE4');"[..],
            "standard input: line 2: it is not UTF-8: nothing was run: convert it",
        ),
        (
            b"SELECT '\xE4'",
            "standard input: penholder run --create x.db -- sqlite3 x.db",
        ),
        (b"\x1F\x8B\x08", "pipe it through `gzip -dc`"),
        (b"SQLite format 3\0", "it is a database"),
        (b"\xFF\xFE\0\0S\0\0\0", "it is UTF-32"),
        (b"\xFF\xFE\0\xD8\0", "it is not UTF-16LE"),
    ] {
        let fixture = CommandFixture::new(PENHOLDER);
        let error = run_bytes(&fixture, bytes).expect_failure(1);
        assert!(error.contains(words), "{error}");
        assert_eq!(database_files(&fixture), [""; 0], "{error}");
    }
}

#[test]
fn the_dump_of_an_empty_database_is_restored() {
    let fixture = CommandFixture::new(PENHOLDER);
    let dump = "PRAGMA foreign_keys=OFF;\nBEGIN TRANSACTION;\nCOMMIT;\n";
    run_script(&fixture, "x.db", dump).expect_success();
    assert_eq!(database_files(&fixture), ["x.db"]);
}

#[test]
fn what_only_the_connection_has_is_not_created_in_vain() {
    let fixture = CommandFixture::new(PENHOLDER);
    for sql in [
        "CREATE TEMP TABLE a(b)",
        "CREATE TABLE t(a); CREATE TEMPORARY VIEW v AS SELECT 1",
    ] {
        let error = run_script(&fixture, "x.db", sql).expect_failure(1);
        assert!(error.contains("leave TEMP out to keep it"), "{error}");
        assert_eq!(database_files(&fixture), [""; 0]);
    }
    let sql = "CREATE TEMP TABLE a(b); INSERT INTO a VALUES (5); CREATE TABLE t AS SELECT b FROM a";
    run_script(&fixture, "x.db", sql).expect_success();
    assert_eq!(value(&fixture, "x.db", "SELECT b FROM t"), "5");
}

#[test]
fn rows_that_a_virtual_table_writes_for_itself_are_not_counted() {
    let fixture = CommandFixture::new(PENHOLDER);
    for (sql, rows) in [
        ("CREATE VIRTUAL TABLE f USING fts5(a)", 0),
        (
            "CREATE VIRTUAL TABLE r USING rtree(id, a, b); INSERT INTO f VALUES ('x')",
            1,
        ),
        (
            "INSERT INTO f VALUES ('x'), ('y'); REPLACE INTO r VALUES (1, 2, 3)",
            3,
        ),
        ("DROP TABLE f", 0),
    ] {
        let output = run_script(&fixture, "x.db", sql);
        let noun = if rows == 1 { "row" } else { "rows" };
        assert_eq!(
            output.stderr,
            format!("penholder: {rows} {noun} changed\n"),
            "{sql}"
        );
    }
}

#[test]
fn what_cannot_be_attached_is_refused_with_the_reason() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (file, words) in [
        ("x.db", "it is the database of this exec"),
        ("./x.db", "its tables are those of main"),
        ("file:x.db?mode=ro", "names that are URIs are not read"),
    ] {
        let sql = format!("ATTACH '{file}' AS o; INSERT INTO o.entry VALUES (1, 'a')");
        let error = run_script(&fixture, "x.db", &sql).expect_failure(1);
        assert!(error.contains(words), "{file}: {error}");
    }
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn rows_that_were_rolled_back_are_not_counted() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let one = "INSERT INTO entry(value) VALUES ('a');";
    for (sql, rows) in [
        (format!("SAVEPOINT s; {one} ROLLBACK TO s; RELEASE s"), 0),
        (
            format!("{one} SAVEPOINT s; {one} {one} ROLLBACK TO SAVEPOINT S; {one}"),
            2,
        ),
        (
            format!("SAVEPOINT s; {one} RELEASE s; SAVEPOINT s; {one} ROLLBACK TO s"),
            1,
        ),
        (
            format!("SAVEPOINT a; {one} SAVEPOINT b; {one} ROLLBACK TO b; {one} RELEASE a; {one}"),
            3,
        ),
        (
            format!("SAVEPOINT a; SAVEPOINT b; {one} RELEASE b; {one} ROLLBACK TO a; {one}"),
            1,
        ),
    ] {
        fixture.exec("DELETE FROM entry");
        let output = run_script(&fixture, "x.db", &sql);
        let said = format!("penholder: {rows} ");
        assert!(output.stderr.starts_with(&said), "{sql}: {output:?}");
        assert_eq!(fixture.count_entries(), rows, "{sql}");
    }
}

/// What `.recover` of SQLite's shell prints.
#[test]
fn what_the_shell_recovers_is_restored() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = ".dbconfig defensive off\nBEGIN;\nPRAGMA writable_schema = on;\n\
                  PRAGMA encoding = 'UTF-8';\nPRAGMA page_size = '8192';\n\
                  PRAGMA auto_vacuum = '0';\nPRAGMA user_version = '7';\n\
                  PRAGMA application_id = '0';\nCREATE TABLE t(id INTEGER PRIMARY KEY, b);\n\
                  INSERT OR IGNORE INTO 't'('id', 'b') VALUES (1, 5);\n\
                  PRAGMA writable_schema = off;\nCOMMIT;\n";
    run_script(&fixture, "x.db", script).expect_success();
    for (sql, expected) in [
        ("SELECT b FROM t", "5"),
        ("PRAGMA user_version", "7"),
        ("PRAGMA page_size", "8192"),
    ] {
        assert_eq!(value(&fixture, "x.db", sql), expected, "{sql}");
    }
    let broken = script.replace("INTO 't'", "INTO nope");
    let error = run_script(&fixture, "y.db", &broken).expect_failure(1);
    assert!(error.contains("statement 9, line 10: "), "{error}");
}

#[cfg(unix)]
#[test]
fn the_advice_about_a_missing_database_creates_it() {
    let fixture = CommandFixture::new(PENHOLDER);
    for script in [
        "PRAGMA journal_mode=DELETE; CREATE TABLE t(a)",
        ".load ext\nSELECT 1;",
    ] {
        let error = run_script(&fixture, "x.db", script).expect_failure(1);
        let advice = "penholder run --create x.db -- sqlite3 x.db";
        assert!(error.contains(advice), "{error}");
    }
    fixture.exec("CREATE TABLE t(a)");
    let error = run_script(&fixture, "x.db", ".load ext").expect_failure(1);
    assert!(
        error.contains("penholder run x.db -- sqlite3 x.db"),
        "{error}"
    );
}

#[test]
fn rows_that_the_triggers_of_a_view_change_are_mentioned() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec(
        "CREATE VIEW v AS SELECT value FROM entry; CREATE TRIGGER g INSTEAD OF INSERT ON v
         BEGIN INSERT INTO entry(value) VALUES (new.value); END",
    );
    let said = "rows changed, and those that the triggers of the view \"v\" changed\n";
    for args in [
        &["exec", "x.db", "INSERT INTO v VALUES ('a')"][..],
        &["exec", "x.db", "INSERT INTO v VALUES (?1)", "b"],
        &["exec", "x.db", "SELECT 1; INSERT INTO main.v VALUES ('c')"],
    ] {
        let output = fixture.run(args);
        assert_eq!(output.stderr, format!("penholder: 0 {said}"));
        output.expect_success();
    }
    assert_eq!(fixture.count_entries(), 3);
    let output = fixture.run(["exec", "x.db", "DELETE FROM entry"]);
    assert_eq!(output.stderr, "penholder: 3 rows changed\n");
}
