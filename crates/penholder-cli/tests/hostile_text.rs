//! Proves that nothing in a name, a statement, a label or a file can drive the terminal that a
//! command prints on, nor forge a line of its output: every command, when it succeeds and when it
//! fails, on standard output and on standard error. CSV and JSON on a terminal are
//! tried in `query_output`.
#![cfg(test)]

#[cfg(unix)]
use std::ffi::OsString;
use std::fs;
use std::process::Command;

use penholder_core::is_escaped;
use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, TRUE, run_command};
#[cfg(unix)]
use penholder_testkit::peer::Peer;
use penholder_testkit::{plain_sqlite, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// What a line would begin with that a text forges.
const FORGED: &str = "FORGED";

/// Returns texts that together have every character that may not be printed as it is.
fn hostile_texts() -> Vec<String> {
    let all: Vec<char> = ('\u{1}'..=char::MAX).filter(|&c| is_escaped(c)).collect();
    let pieces = all.chunks(16).map(|piece| {
        let piece: String = piece.iter().collect();
        format!("x{piece}\n{FORGED}\r{FORGED}\u{1b}[31m")
    });
    pieces.collect()
}

/// Returns what the name of a file can have of a text.
fn file_name(text: &str) -> String {
    text.replace(|c: char| cfg!(windows) && c < ' ', "")
}

/// A database whose path, schema and content are hostile.
struct Hostile {
    fixture: CommandFixture,
    text: String,
    db: String,
}

impl Hostile {
    fn new(text: String) -> Self {
        let fixture = CommandFixture::new(PENHOLDER);
        let name = file_name(&text);
        let directory = format!("d{name}");
        fs::create_dir(fixture.join(&directory)).unwrap();
        let db = format!("{directory}/x{name}.db");
        let name = text.replace('"', "\"\"");
        let hostile = Self { fixture, text, db };
        let text = hostile.text.replace('\'', "''");
        hostile.run(&["exec", &hostile.db], &[&format!(
            "CREATE TABLE entry(\"{name}\" UNIQUE, value CONSTRAINT \"{name}\" CHECK (value <> 'no'));
             CREATE TABLE parent(id INTEGER PRIMARY KEY);
             CREATE TABLE \"t{name}\"(id REFERENCES parent);
             CREATE TRIGGER refuse BEFORE DELETE ON entry BEGIN SELECT RAISE(ABORT, 'no: {text}'); END;
             INSERT INTO entry VALUES ('{text}', 1)"
        )])
        .expect_success();
        let orphan = format!("PRAGMA foreign_keys = OFF; INSERT INTO \"t{name}\" VALUES (7)");
        let plain = plain_sqlite::open(&hostile.fixture.join(&hostile.db));
        plain.execute_batch(&orphan).unwrap();
        hostile
    }

    fn command(&self, first: &[&str], more: &[&str]) -> Command {
        self.fixture.command(first.iter().chain(more))
    }

    /// Runs a command, whose output must be harmless.
    #[track_caller]
    fn run(&self, first: &[&str], more: &[&str]) -> CommandOutput {
        let output = run_command(&mut self.command(first, more), b"", wait::LIMIT);
        assert_harmless(&output.stdout, first);
        assert_harmless(&output.stderr, first);
        output
    }

    #[track_caller]
    fn fail(&self, first: &[&str], more: &[&str]) {
        let output = self.run(first, more);
        assert_ne!(output.code, Some(0), "{output:?}");
        assert_ne!(output.stderr, "", "{output:?}");
    }
}

#[track_caller]
fn assert_harmless(output: &str, command: &[&str]) {
    // The program that `run` starts ends its line so on Windows.
    let text = output.replace("\r\n", "\n");
    let text = if cfg!(windows) { &text } else { output };
    let raw = text
        .chars()
        .find(|&c| is_escaped(c) && c != '\n' && c != '\t');
    assert_eq!(raw, None, "{command:?}: {output:?}");
    // The lines of a cell of a table stand between its borders.
    let is_forged = |line: &&str| line.trim_start().starts_with(FORGED);
    let forged = output.lines().find(is_forged);
    assert_eq!(forged, None, "{command:?}: {output}");
}

#[test]
fn every_command_that_succeeds_prints_harmless_text() {
    for text in hostile_texts() {
        let hostile = Hostile::new(text);
        let (db, text) = (&*hostile.db, &*hostile.text);
        let copy = format!("{db}.copy");
        let rows = format!("r{}.csv", file_name(text));
        fs::write(hostile.fixture.join(&rows), "value\n1\n2\n").unwrap();
        for (command, more) in [
            ("query", vec!["--table", "SELECT * FROM entry"]),
            ("import", vec!["entry", &rows]),
            ("status", vec![]),
            ("history", vec![]),
            ("top", vec!["--once", "--interval", "50ms"]),
            ("checkpoint", vec![]),
            ("backup", vec![&copy]),
            ("restore", vec![&copy]),
            ("vacuum", vec![]),
            ("run", vec!["--label", text, "--", TRUE]),
            ("wait", vec!["--now"]),
            (
                "stress",
                vec!["--force", "--processes", "2", "--writes", "2"],
            ),
        ] {
            let output = hostile.run(&[command, db], &more);
            assert_eq!(output.code, Some(0), "{output:?}");
        }
        hostile.run(&["doctor", db, "--integrity"], &[]);
    }
}

#[test]
fn every_command_that_fails_prints_harmless_text() {
    for text in hostile_texts() {
        let hostile = Hostile::new(text);
        let (db, text) = (&*hostile.db, &*hostile.text);
        let missing = format!("{db}.missing");
        let no_directory = format!("none{text}/x.db");
        let json = format!("r{}.jsonl", file_name(text));
        fs::write(hostile.fixture.join(&json), "{\"value\": \"no\"}\n").unwrap();
        let odd = format!("o{}.jsonl", file_name(text));
        let column = serde_json::to_string(text).unwrap();
        fs::write(
            hostile.fixture.join(&odd),
            format!("{{{column}{column}: 1}}\n"),
        )
        .unwrap();
        fs::write(hostile.fixture.join(format!("{db}.txt")), text).unwrap();
        let insert = "INSERT INTO entry SELECT * FROM entry";
        let orphan = format!("PRAGMA foreign_keys = OFF; INSERT INTO \"t{text}\" VALUES (8)");
        let unknown = format!("SELECT \"{}\" FROM nowhere", text.replace('"', ""));
        for (command, more) in [
            ("exec", vec![insert]),
            ("exec", vec!["DELETE FROM entry"]),
            ("exec", vec![&*unknown]),
            ("exec", vec!["SELECT ?1", "1", text]),
            (
                "exec",
                vec![&*format!("INSERT INTO \"{text}\" VALUES (?1)"), "1"],
            ),
            ("exec", vec![&*format!("PRAGMA \"{text}\" = 1")]),
            ("exec", vec![&*format!("PRAGMA foreign_keys = \"{text}\"")]),
            ("exec", vec![&*format!("ATTACH 'a{text}' AS a")]),
            ("exec", vec![&*orphan]),
            ("exec", vec!["SELECT 1", "--param", text]),
            ("query", vec![&*unknown]),
            ("query", vec!["--table", insert]),
            ("import", vec!["entry", &json]),
            ("import", vec!["entry", &odd]),
            ("import", vec![&format!("none{text}"), &json]),
            ("import", vec!["entry", &missing]),
            ("import", vec!["entry", &*format!("f{text}")]),
            ("backup", vec![db]),
            ("restore", vec![&missing]),
            ("run", vec!["--", &missing]),
            ("run", vec!["--", &*format!("p{text}")]),
            ("stress", vec![]),
            (text, vec![]),
            ("status", vec![text]),
            ("exec", vec!["--timeout", text, "SELECT 1"]),
            ("exec", vec!["--lock-file", db, "SELECT 1"]),
            ("status", vec!["--lock-file", &*no_directory]),
            ("man", vec![]),
        ] {
            hostile.fail(&[command, db], &more);
        }
        let not_a_database = format!("{db}.txt");
        for path in [&missing, &no_directory, &not_a_database] {
            for (command, more) in [
                ("query", vec!["SELECT 1"]),
                ("doctor", vec![]),
                ("checkpoint", vec![]),
            ] {
                hostile.fail(&[command, path], &more);
            }
        }
    }
}

#[cfg(unix)]
#[test]
fn a_holder_with_a_hostile_label_is_named_in_harmless_text() {
    for text in hostile_texts() {
        let hostile = Hostile::new(text);
        let (db, text) = (&*hostile.db, &*hostile.text);
        let script = "echo held; read line";
        let args = ["--label", text, "--", "sh", "-c", script, text];
        let holder = Peer::spawn(hostile.command(&["run", db], &args));
        holder.expect("held");
        let delete = "DELETE FROM entry";
        hostile.fail(&["exec", "--timeout", "50ms", db], &[delete]);
        hostile.fail(&["run", "-w", "0", db], &["--", "true"]);
        hostile.run(&["status", db], &[]);
        hostile.run(&["top", db, "--once"], &["--interval", "50ms"]);
        hostile.run(&["history", db], &[]);
        hostile.run(&["doctor", db], &[]);
        let mut waiting = hostile.command(&["run", db, "-w", "3", "--", "true"], &[]);
        let output = run_command(&mut waiting, b"", wait::LIMIT);
        assert!(
            output.stderr.contains("waiting for the write lock"),
            "{output:?}"
        );
        assert_harmless(&output.stderr, &["run"]);
    }
}

#[cfg(unix)]
#[test]
fn names_that_are_no_utf8_are_printed_harmlessly() {
    use std::os::unix::ffi::OsStringExt;

    let fixture = CommandFixture::new(PENHOLDER);
    let name = OsString::from_vec(b"x\xff\x1b[2J\n\x9b.db".to_vec());
    for args in [["status".into(), name.clone()], [name.clone(), name]] {
        let output = fixture.run(args);
        assert_ne!(output.code, Some(0), "{output:?}");
        assert_harmless(&output.stderr, &[]);
    }
}
