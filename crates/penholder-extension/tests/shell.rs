//! The extension in the `sqlite3` shell.
#![allow(clippy::unwrap_used, reason = "a failed assumption of a test ends it")]
#![expect(clippy::disallowed_methods, reason = "a test prints its own paths")]

use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use penholder_testkit::extension_fixture::library;
use penholder_testkit::requirement::has_program;
use tempfile::TempDir;

const LONG: Duration = Duration::from_secs(30);

fn load(entry: &str) -> String {
    // SQLite adds the suffix.
    format!(
        ".load '{}' {entry}\n",
        library().with_extension("").display()
    )
}

/// Runs the shell with this input in a directory; returns what it prints, and its errors.
fn shell(directory: &Path, input: &str) -> (String, String) {
    let mut shell = Command::new("timeout")
        .args(["60", "sqlite3", "-batch"])
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = shell.stdin.take().unwrap();
    stdin.write_all(input.as_bytes()).unwrap();
    drop(stdin);
    let done = shell.wait_with_output().unwrap();
    let text = |bytes| String::from_utf8(bytes).unwrap();
    (text(done.stdout), text(done.stderr))
}

fn directory() -> Option<TempDir> {
    has_program("sqlite3").then(|| tempfile::tempdir().unwrap())
}

#[test]
fn as_the_default_it_queues_every_write() {
    let Some(directory) = directory() else { return };
    let input = load("sqlite3_penholder_default_init")
        + ".open app.db\n\
           PRAGMA journal_mode=WAL;\n\
           CREATE TABLE t(x); INSERT INTO t VALUES (1), (2);\n\
           SELECT count(*), penholder_explain() IS NULL, penholder_last_wait() FROM t;\n\
           SELECT penholder_version();\n\
           SELECT json_extract(penholder_status(), '$.counters.acquisitions') >= 2;\n";
    let (out, err) = shell(directory.path(), &input);
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(out, format!("wal\n2|1|0\n{version}\n1\n"), "{err}");
    assert!(directory.path().join("db.lock").exists());
}

#[test]
fn registered_only_it_is_used_by_those_who_name_it() {
    let Some(directory) = directory() else { return };
    let input = load("sqlite3_penholder_init")
        + ".open plain.db\nCREATE TABLE t(x);\n\
           SELECT penholder_last_wait();\n\
           .open file:queued.db?vfs=penholder&penholder_lock=other.lock\nCREATE TABLE t(x);\n\
           SELECT penholder_last_wait();\n";
    let (out, err) = shell(directory.path(), &input);
    assert_eq!(out, "0\n", "{err}");
    assert!(err.contains("does not use penholder"), "{err}");
    let names = |name: &str| directory.path().join(name).exists();
    assert!(names("other.lock") && !names("db.lock"));
}

#[test]
fn a_parameter_that_is_not_known_is_an_error_that_says_so() {
    let Some(directory) = directory() else { return };
    let input = load("sqlite3_penholder_init")
        + ".open file:app.db?vfs=penholder&penholder_lable=x\n\
           .open other.db\nSELECT penholder_last_error();\n";
    let (out, err) = shell(directory.path(), &input);
    assert!(err.contains("unable to open database"), "{err}");
    assert!(out.contains("no parameter penholder_lable"), "{out}{err}");
    assert!(out.contains("penholder_label"), "{out}");
}

/// The recipe of docs/extension.md. The shell opens a database that is named on its command line
/// before it reads the file, and one that `-cmd` opens afterwards.
#[test]
fn a_resource_file_loads_it_for_each_shell() {
    let Some(directory) = directory() else { return };
    let path = directory.path();
    fs::write(
        path.join("sqliterc"),
        load("sqlite3_penholder_default_init"),
    )
    .unwrap();
    for _ in 0..2 {
        let done = Command::new("timeout")
            .args(["60", "sqlite3", "-batch", "-init", "sqliterc"])
            .args(["-cmd", ".open app.db", ":memory:"])
            .arg("CREATE TABLE IF NOT EXISTS t(x); INSERT INTO t VALUES (1); SELECT penholder_last_wait();")
            .current_dir(path)
            .output()
            .unwrap();
        let out = String::from_utf8_lossy(&done.stdout);
        let err = String::from_utf8_lossy(&done.stderr);
        assert_eq!(out.trim(), "0", "{err}");
    }
    assert!(path.join("db.lock").exists());
}

/// A shell in a transaction keeps the others out; the one that gives up says who it is.
#[test]
fn a_timeout_names_the_holder_and_its_label() {
    let Some(directory) = directory() else { return };
    let path = directory.path();
    shell(
        path,
        &(load("sqlite3_penholder_default_init")
            + ".open app.db\nPRAGMA journal_mode=WAL; CREATE TABLE t(x);\n"),
    );
    let mut holder = Command::new("timeout")
        .args(["60", "sqlite3", "-batch"])
        .current_dir(path)
        .stdin(Stdio::piped())
        .spawn()
        .unwrap();
    let mut stdin = holder.stdin.take().unwrap();
    let hold = load("sqlite3_penholder_default_init")
        + ".open app.db\nSELECT penholder_label('nightly import') IS NULL;\n\
           BEGIN IMMEDIATE; INSERT INTO t VALUES (1);\n.shell touch held\n";
    stdin.write_all(hold.as_bytes()).unwrap();
    stdin.flush().unwrap();
    let begun = Instant::now();
    while !path.join("held").exists() {
        assert!(begun.elapsed() < LONG, "the holder holds");
        std::thread::sleep(Duration::from_millis(5));
    }
    let begun = Instant::now();
    let wait = load("sqlite3_penholder_default_init")
        + ".open app.db\n.timeout 200\nINSERT INTO t VALUES (2);\nSELECT penholder_explain();\n";
    let (out, err) = shell(path, &wait);
    assert!(begun.elapsed() >= Duration::from_millis(200), "{err}");
    assert!(err.contains("database is locked"), "{err}");
    assert!(out.starts_with("write lock timeout after 2"), "{out}{err}");
    assert!(
        out.contains("label: nightly import") && out.contains("sqlite3"),
        "{out}"
    );
    stdin.write_all(b"COMMIT;\n").unwrap();
    drop(stdin);
    assert!(holder.wait().unwrap().success());
    let (out, err) = shell(
        path,
        &(load("sqlite3_penholder_default_init")
            + ".open app.db\nINSERT INTO t VALUES (3);\nSELECT count(*) FROM t;\n"),
    );
    assert_eq!(out, "2\n", "{err}");
}

/// Many shells at once: none fails, whatever the timeout of the others.
#[test]
fn shells_that_write_at_once_all_succeed() {
    let Some(directory) = directory() else { return };
    let path = directory.path();
    let begin = load("sqlite3_penholder_default_init") + ".open app.db\n.timeout 30000\n";
    shell(
        path,
        &(begin.clone() + "PRAGMA journal_mode=WAL; CREATE TABLE t(x);\n"),
    );
    let script = begin.clone() + &"INSERT INTO t VALUES (1);\n".repeat(200);
    let shells: Vec<_> = (0..8)
        .map(|_| {
            let (path, script) = (path.to_owned(), script.clone());
            std::thread::spawn(move || shell(&path, &script))
        })
        .collect();
    for one in shells {
        let (_, err) = one.join().unwrap();
        assert_eq!(err, "");
    }
    let (out, _) = shell(
        path,
        &(begin + "SELECT count(*) FROM t;\nPRAGMA integrity_check;\n"),
    );
    assert_eq!(out, "1600\nok\n");
}
