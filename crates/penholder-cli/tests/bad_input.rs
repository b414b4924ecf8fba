//! Proves that penholder answers every kind of bad input with a message of its own and
//! the right exit code, changes nothing, and never panics.
#![cfg(test)]

use std::fs;
use std::path::Path;

#[cfg(unix)]
use penholder_testkit::command_fixture::run_command;
use penholder_testkit::command_fixture::{CommandFixture, PROMPT, SHELL, TRUE, line};
use penholder_testkit::peer::Peer;
use penholder_testkit::{raw_file, wait};

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Every command that takes a database, with its other arguments.
const COMMANDS: [(&str, &[&str]); 14] = [
    ("stress", &["--processes", "2", "--writes", "2"]),
    ("exec", &["SELECT 1"]),
    ("query", &["SELECT 1"]),
    ("import", &["entry", "rows.csv"]),
    ("status", &[]),
    ("doctor", &[]),
    ("history", &[]),
    ("top", &["--once", "--interval", "50ms"]),
    ("run", &["--", SHELL[0], SHELL[1], "echo ran"]),
    ("wait", &["--now"]),
    ("checkpoint", &[]),
    ("backup", &["copy.db"]),
    ("restore", &["copy.db"]),
    ("vacuum", &[]),
];

/// A path at which there is no file, but a device.
const NO_FILE: &str = if cfg!(windows) { "NUL" } else { "/dev/null" };

/// Runs every command on a path that is not a database, and asserts that each refuses it
/// with these words.
#[track_caller]
fn assert_all_refuse(fixture: &CommandFixture, db: &str, words: &str) {
    let before = fixture.file_names();
    for (command, more) in COMMANDS {
        let args = [command, db].into_iter().chain(more.iter().copied());
        let message = fixture.run(args).expect_failure(1);
        assert!(message.contains(words), "{command} {db}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(fixture.file_names(), before, "nothing is created");
}

#[test]
fn a_path_that_cannot_be_a_database_is_refused_by_every_command() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::create_dir(fixture.join("directory")).unwrap();
    fs::write(fixture.join("plain.txt"), "text").unwrap();
    let long = "x".repeat(250);
    let deep = format!("{long}/{long}/x.db");
    for (db, words) in [
        ("nowhere/x.db", "there is no directory"),
        ("directory", "a directory"),
        ("directory/", "a directory"),
        (".", "a directory"),
        ("..", "a directory"),
        ("/", "a directory"),
        #[cfg(unix)]
        ("/dev/null", "a device"),
        (":memory:", "memory"),
        ("file:x.db", "URI"),
        ("file:x.db?mode=memory&cache=shared", "URI"),
        ("plain.txt/x.db", "plain.txt"),
        (&deep, "there is no directory"),
    ] {
        assert_all_refuse(&fixture, db, words);
    }
}

#[cfg(unix)]
#[test]
fn a_symbolic_link_to_itself_is_refused_by_every_command() {
    let fixture = CommandFixture::new(PENHOLDER);
    std::os::unix::fs::symlink("loop.db", fixture.join("loop.db")).unwrap();
    assert_all_refuse(&fixture, "loop.db", "too many symbolic links");
}

#[test]
fn an_empty_name_is_a_usage_error() {
    let fixture = CommandFixture::new(PENHOLDER);
    for (command, more) in COMMANDS {
        let args = [command, ""].into_iter().chain(more.iter().copied());
        assert!(fixture.run(args).expect_failure(2).contains("<DB>"));
    }
    assert!(fixture.file_names().is_empty());
}

#[test]
fn only_commands_that_write_create_a_database() {
    for (command, more) in COMMANDS {
        let fixture = CommandFixture::new(PENHOLDER);
        let args = [command, "new.db"].into_iter().chain(more.iter().copied());
        let output = fixture.run(args);
        let created = fixture.join("new.db").exists();
        match command {
            "stress" | "exec" => assert!(created && output.code == Some(0), "{command}"),
            _ => {
                let message = output.expect_failure(1);
                // The backup is looked at first.
                let name = if command == "restore" {
                    "copy.db"
                } else {
                    "new.db"
                };
                assert!(message.contains(name), "{message}");
                assert!(
                    fixture.file_names().is_empty(),
                    "{command}: {:?}",
                    fixture.file_names()
                );
            }
        }
    }
}

#[test]
fn a_file_that_is_not_a_database_is_left_unchanged() {
    let fixture = CommandFixture::new(PENHOLDER);
    for text in [
        &b"Dear reader"[..],
        &[0xAA; 5000],
        b"SQLite format 3\0 but not really",
    ] {
        fs::write(fixture.join("x.db"), text).unwrap();
        for (command, more) in COMMANDS {
            let args = [command, "x.db"].into_iter().chain(more.iter().copied());
            let output = fixture.run(args);
            match command {
                // These use only the lock.
                "run" | "status" | "history" | "top" => {
                    assert_eq!(output.code, Some(0), "{output:?}");
                }
                _ => assert!(
                    output.expect_failure(1).contains("not a database"),
                    "{command}"
                ),
            }
            assert_eq!(fs::read(fixture.join("x.db")).unwrap(), text, "{command}");
        }
        let mut files = fixture.file_names();
        files.retain(|name| !name.starts_with("db.lock"));
        assert_eq!(files, ["x.db"]);
    }
}

#[test]
fn empty_sql_changes_nothing_and_invalid_sql_is_an_error() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for sql in ["", " ", ";", "/* nothing */"] {
        let output = fixture.run(["exec", "x.db", sql]);
        assert_eq!(output.stderr, "penholder: 0 rows changed\n", "{sql:?}");
        let message = fixture.run(["query", "x.db", sql]).expect_failure(1);
        assert!(message.contains("give a SELECT"), "{message}");
    }
    for (sql, words) in [
        ("SELEC 1", "near \"SELEC\": syntax error"),
        ("SELECT * FROM nowhere", "no such table: nowhere"),
        ("SELECT absent", "no such column: absent"),
        ("SELECT '", "unrecognized token"),
        ("SELECT (", "incomplete input"),
        ("SELECT abs(-9223372036854775808)", "integer overflow"),
    ] {
        for command in ["exec", "query"] {
            let message = fixture.run([command, "x.db", sql]).expect_failure(1);
            assert!(message.contains(words), "{command} {sql}: {message}");
        }
    }
    let script = "SELECT 1; SELECT \0 2;";
    let output = fixture.run_with_input(["exec", "x.db", "-"], script);
    assert!(matches!(output.code, Some(0 | 1)), "{output:?}");
    for control in [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "VACUUM",
        "SAVEPOINT a; RELEASE b",
    ] {
        fixture.run(["exec", "x.db", control]).expect_failure(1);
    }
    assert_eq!(fixture.count_entries(), 0);
}

#[cfg(unix)]
#[test]
fn only_the_command_of_run_may_have_arguments_that_are_not_utf_8() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let fixture = CommandFixture::with_table(PENHOLDER);
    let not_utf_8 = || OsString::from_vec(vec![b'a', 0xFF]);
    let mut command = fixture.command(["exec", "x.db"]);
    run_command(command.arg(not_utf_8()), b"", wait::LIMIT).expect_failure(2);
    let sql = "INSERT INTO entry VALUES (?1, 1)";
    let mut command = fixture.command(["exec", "x.db", sql]);
    run_command(command.arg(not_utf_8()), b"", wait::LIMIT).expect_failure(2);
    let mut command = fixture.command(["exec", "x.db", "-"]);
    let message = run_command(&mut command, b"SELECT '\xFF'", wait::LIMIT).expect_failure(1);
    assert!(message.contains("UTF-8"), "{message}");
    let mut command = fixture.command(["run", "x.db", "--", "printf", "%s"]);
    let echo = command.arg(not_utf_8());
    assert_eq!(
        run_command(echo, b"", wait::LIMIT).expect_quiet_success(),
        "a\u{FFFD}"
    );
    assert_eq!(fixture.count_entries(), 0);
}

#[test]
fn invalid_timeouts_are_usage_errors() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for timeout in [
        "-1s",
        "-5ms",
        "-5",
        "5x",
        "",
        "s",
        "soon",
        "nan",
        "inf",
        "1e9s",
        "1..5s",
        "5 parsecs",
        "99999999999999999999999h",
    ] {
        for (command, more) in COMMANDS {
            if ["status", "history", "top", "run"].contains(&command) {
                continue;
            }
            let args = [command, "x.db", "--timeout", timeout];
            let output = fixture.run(args.into_iter().chain(more.iter().copied()));
            let message = output.expect_failure(2);
            assert!(message.contains("--timeout"), "{timeout}: {message}");
        }
    }
}

#[test]
fn unusual_but_valid_timeouts_are_accepted() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let timeouts = [
        "0s",
        "0",
        "5",
        "0.5",
        "1ns",
        "99999999999h",
        "2562047788015215h",
        "1m 30s",
        "1.5m",
    ];
    for timeout in timeouts {
        let args = ["exec", "x.db", "--timeout", timeout, insert];
        let (output, time) = wait::timed(|| fixture.run(args));
        output.expect_success();
        assert!(time < PROMPT, "{timeout} took {time:?}");
    }
    assert_eq!(
        usize::try_from(fixture.count_entries()).unwrap(),
        timeouts.len()
    );
}

#[test]
fn stress_accepts_the_same_timeouts() {
    for timeout in ["1m 30s", "1.5m", "300h", "99999999999h"] {
        let fixture = CommandFixture::new(PENHOLDER);
        let args = ["stress", "x.db", "--processes", "2", "--timeout", timeout];
        let args = args.into_iter().chain(["--writes", "100"]);
        let report = fixture.run(args).expect_quiet_success();
        assert!(report.contains("wrote 200 of 200 rows"), "{report}");
    }
}

#[test]
fn a_huge_timeout_is_a_long_wait() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let mut holder = fixture.hold_lock(&[]);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let args = ["exec", "x.db", "--timeout", "99999999999h", insert];
    let mut writer = Peer::spawn(fixture.command(args));
    let mut waiter = Peer::spawn(fixture.command(["run", "x.db", "-w", "1e18", "--", TRUE]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(fixture.count_entries(), 0, "it waits");
    holder.send("go");
    assert!(writer.close().success());
    assert!(waiter.close().success());
    assert_eq!(fixture.count_entries(), 1);
}

#[test]
fn invalid_waits_are_usage_errors() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for wait in [
        "-1", "nan", "NaN", "inf", "-inf", "1e30", "", "soon", "5x", "0x10",
    ] {
        let args = ["run", "x.db", "-w", wait, "--", "echo", "never"];
        let message = fixture.run(args).expect_failure(2);
        assert!(message.contains("--wait"), "{wait}: {message}");
    }
    for wait in ["0", "0.0001", "5s", "1e18", "99999999999999999"] {
        let args = ["run", "x.db", "-w", wait, "--"].into_iter().chain(SHELL);
        let output = fixture.run(args.chain(["echo ran"]));
        assert_eq!(output.expect_quiet_success(), line("ran"), "{wait}");
    }
}

#[test]
fn invalid_command_lines_are_usage_errors() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for args in [
        &["nonsense"][..],
        &["--nonsense"],
        &["exec"],
        &["exec", "x.db"],
        &["query", "x.db"],
        &["status"],
        &["status", "x.db", "more"],
        &["run", "x.db"],
        &["run", "x.db", "--"],
        &["run", "x.db", "-n", "-w", "1", "--", "true"],
        &["run", "x.db", "-E", "256", "--", "true"],
        &["run", "x.db", "-E", "-1", "--", "true"],
        &["import", "x.db"],
        &["import", "x.db", "entry"],
        &["import", "x.db", "entry", "rows.csv", "--skip", "-1"],
        &["import", "x.db", "entry", "rows.csv", "--format", "xml"],
        &["import", "x.db", "entry", "rows.csv", "--delimiter", "ab"],
        &["import", "x.db", "entry", "rows.csv", "--delimiter", "\""],
        &["import", "x.db", "entry", "rows.csv", "--hold", "5x"],
        &[
            "import", "x.db", "entry", "rows.csv", "--atomic", "--hold", "5ms",
        ],
        &["backup", "x.db"],
        &["restore", "x.db"],
        &["completions"],
        &["stress", "x.db", "--processes", "0"],
        &["stress", "x.db", "--processes", "-1"],
        &["stress", "x.db", "--processes", "1000000"],
        &["stress", "x.db", "--writes", "0"],
        &["stress", "x.db", "--writes", "99999999999"],
        &["stress", "x.db", "--writes", "many"],
        &["stress", "x.db", "--writes", "5", "--for", "1s"],
        &["stress", "x.db", "--for", "0s"],
        &["stress", "x.db", "--for", "-1s"],
        &["stress", "x.db", "--for", "5x"],
        &["stress", "x.db", "--sync", "off"],
        &["stress", "x.db", "--beside"],
        &["stress", "x.db", "--beside", "mysql"],
    ] {
        let message = fixture.run(args).expect_failure(2);
        assert!(message.starts_with("error: "), "{args:?}: {message}");
        assert!(message.contains("--help"), "{args:?}: {message}");
    }
}

#[test]
fn a_path_that_cannot_be_a_lock_file_is_refused() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::create_dir(fixture.join("directory")).unwrap();
    for lock_file in ["directory", "nowhere/db.lock", NO_FILE] {
        for (command, more) in [("exec", "SELECT 1"), ("stress", "--force")] {
            let args = [command, "x.db", "--lock-file", lock_file, more];
            fixture.run(args).expect_failure(1);
        }
        let args = ["run", "x.db", "--lock-file", lock_file, "--", "true"];
        fixture.run(args).expect_failure(1);
    }
    fixture
        .run(["exec", "x.db", "--lock-file", "", "SELECT 1"])
        .expect_failure(2);
}

#[test]
fn the_database_is_never_the_lock_file() {
    for lock_file in ["x.db", "./x.db", "x.db-wal", "x.db-shm", "link.db"] {
        let fixture = CommandFixture::with_table(PENHOLDER);
        fixture.exec("INSERT INTO entry VALUES (1, 1)");
        if !raw_file::link(Path::new("x.db"), &fixture.join("link.db")) && lock_file == "link.db" {
            continue;
        }
        for (command, more) in COMMANDS {
            let args = [command, "x.db", "--lock-file", lock_file].into_iter();
            let output = fixture.run(args.chain(more.iter().copied()));
            // A file in that place may be a finding.
            let found = command == "doctor" && matches!(output.code, Some(3 | 4));
            assert!(
                found || matches!(output.code, Some(0 | 1)),
                "{command}: {output:?}"
            );
        }
        let entries = fixture.run(["query", "x.db", "SELECT count(*) AS n FROM entry"]);
        assert_eq!(
            entries.expect_quiet_success(),
            "n\n1\n",
            "--lock-file {lock_file}"
        );
    }
}

#[test]
fn a_database_named_like_the_lock_file_is_used_or_refused() {
    let fixture = CommandFixture::new(PENHOLDER);
    let output = fixture.run(["exec", "db.lock", "CREATE TABLE t(a)"]);
    if output.code == Some(0) {
        let rows = fixture.run(["query", "db.lock", "SELECT count(*) AS n FROM t"]);
        assert_eq!(rows.expect_quiet_success(), "n\n0\n");
        return;
    }
    assert!(
        output.clone().expect_failure(1).contains("lock"),
        "{output:?}"
    );
    assert!(
        fixture.file_names().is_empty(),
        "{:?}",
        fixture.file_names()
    );
}

#[test]
fn an_unrelated_file_is_not_overwritten_by_a_lock() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let letter = "Dear reader,\n".repeat(100);
    fs::write(fixture.join("letter.txt"), &letter).unwrap();
    let args = ["exec", "x.db", "--lock-file", "letter.txt", "SELECT 1"];
    fixture.run(args);
    assert_eq!(
        fs::read_to_string(fixture.join("letter.txt")).unwrap(),
        letter
    );
}

#[test]
fn garbage_in_the_lock_file_does_no_harm() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for garbage in [
        &[0xFF; 4000][..],
        b"pid:1\ntime:never\n",
        b"pid:99999999999999\n",
        b"\0\0",
    ] {
        fs::write(fixture.join("db.lock"), garbage).unwrap();
        assert_eq!(fixture.status()["state"], "free");
        fixture.run(["status", "x.db"]).expect_quiet_success();
        fixture.exec("INSERT INTO entry VALUES (1, 1)");
    }
    assert_eq!(fixture.count_entries(), 4);
}

#[cfg(unix)]
#[test]
fn a_word_that_is_not_utf_8_is_named() {
    use std::ffi::OsString;
    use std::os::unix::ffi::OsStringExt;

    let fixture = CommandFixture::with_table(PENHOLDER);
    let word = |bytes: &[u8]| OsString::from_vec(bytes.to_vec());
    for args in [
        ["query", "x.db", "SELECT '\u{e4}'"]
            .map(|arg| word(arg.as_bytes()))
            .to_vec(),
        vec![word(b"query"), word(b"x.db"), word(b"SELECT '\xE4\x1B'")],
        vec![
            word(b"exec"),
            word(b"x.db"),
            word(b"SELECT ?1"),
            word(b"\xE4\x1B"),
        ],
        vec![
            word(b"import"),
            word(b"x.db"),
            word(b"\xE4\x1B"),
            word(b"x.csv"),
        ],
    ] {
        let is_text = args.iter().all(|arg| arg.to_str().is_some());
        let output = fixture.run(&args);
        if is_text {
            output.expect_success();
            continue;
        }
        let error = output.expect_failure(2);
        assert!(error.contains("words that are not UTF-8"), "{error}");
        assert!(error.contains("\\xE4\\u{1b}"), "{error}");
        assert!(!error.contains('\u{1b}'), "{error}");
    }
}
