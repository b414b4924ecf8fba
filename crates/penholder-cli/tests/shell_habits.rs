//! Proves what users of a shell expect of every command: it is quiet if asked, takes times as other
//! commands do, and says how to wait longer.
#![cfg(test)]

use std::fs;

use penholder_testkit::command_fixture::{CommandFixture, SHELL, run_command};
use penholder_testkit::peer::Peer;
use penholder_testkit::{plain_sqlite, wait};

const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

#[test]
fn a_command_that_succeeds_is_quiet_if_asked() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,1\n").unwrap();
    let commands: [&[&str]; 10] = [
        &["exec", "x.db", "INSERT INTO entry VALUES (1, 1)"],
        &["import", "x.db", "entry", "rows.csv"],
        &["import", "x.db", "entry", "rows.csv", "--atomic"],
        &["backup", "x.db", "saved.db"],
        &["restore", "x.db", "saved.db"],
        &["restore", "new.db", "saved.db"],
        &["vacuum", "x.db"],
        &["checkpoint", "x.db"],
        &["run", "x.db", SHELL[0], SHELL[1], "exit 0"],
        &["stress", "s.db", "--processes", "2", "--writes", "5"],
    ];
    for quiet in ["-q", "--quiet"] {
        for args in commands {
            let args = [&args[..1], &[quiet], &args[1..]].concat();
            assert_eq!(fixture.run(&args).expect_quiet_success(), "", "{args:?}");
        }
        for name in fixture.file_names() {
            if name.starts_with("saved.db") {
                fs::remove_file(fixture.join(name)).unwrap();
            }
        }
    }
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}

#[test]
fn a_quiet_command_returns_rows_and_says_what_fails() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let insert = "INSERT INTO entry VALUES (1, 1) RETURNING key";
    let output = fixture.run(["exec", "-q", "x.db", insert]);
    assert_eq!((&*output.stdout, &*output.stderr), ("key\n1\n", ""));
    let output = fixture.run(["exec", "-q", "x.db", "INSERT INTO missing VALUES (1)"]);
    assert!(output.expect_failure(1).contains("no such table"));
}

#[test]
fn a_time_is_a_number_of_seconds_or_has_a_unit() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let delete = "DELETE FROM entry";
    for (time, shown) in [
        ("0.05", "50ms"),
        ("50ms", "50ms"),
        ("0", "0ms"),
        ("0.05s", "50ms"),
    ] {
        let commands: [&[&str]; 5] = [
            &["exec", "--timeout", time, "x.db", delete],
            &["vacuum", "--timeout", time, "x.db"],
            &["run", "-w", time, "x.db", "true"],
            &["run", "--wait", time, "x.db", "true"],
            &["run", "--timeout", time, "x.db", "true"],
        ];
        for args in commands {
            let message = fixture.run(args).expect_failure(75);
            let start = format!("penholder: write lock timeout after {shown}\n");
            assert!(message.starts_with(&start), "{args:?}: {message}");
        }
    }
}

#[test]
fn every_timeout_says_how_to_wait_longer() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fs::write(fixture.join("rows.csv"), "key,value\n1,1\n").unwrap();
    fixture.run(["backup", "x.db", "saved.db"]).expect_success();
    let _holder = fixture.hold_lock(&[]);
    let commands: [(&[&str], &str); 6] = [
        (&["exec", "x.db", "DELETE FROM entry"], "--timeout"),
        (&["import", "x.db", "entry", "rows.csv"], "--timeout"),
        (&["restore", "x.db", "saved.db"], "--timeout"),
        (&["vacuum", "x.db"], "--timeout"),
        (&["checkpoint", "x.db"], "--timeout"),
        (&["run", "x.db", "true"], "-w"),
    ];
    for (args, option) in commands {
        let mut command = fixture.command(args);
        command.env("PENHOLDER_TIMEOUT", "0.05");
        let output = run_command(&mut command, b"", wait::LIMIT);
        let message = output.expect_failure(75);
        assert!(message.contains("after 50ms"), "{args:?}: {message}");
        let next = format!("{option} TIME, or set PENHOLDER_TIMEOUT\n");
        assert!(message.contains(&next), "{args:?}: {message}");
    }
}

#[cfg(unix)]
#[test]
fn the_option_counts_more_than_the_environment_and_a_wrong_value_is_named() {
    use std::ffi::OsStr;
    use std::os::unix::ffi::OsStrExt;

    let fixture = CommandFixture::with_table(PENHOLDER);
    let with_variable = |value: &[u8], args: &[&str]| {
        let mut command = fixture.command(args);
        command.env("PENHOLDER_TIMEOUT", OsStr::from_bytes(value));
        run_command(&mut command, b"", wait::LIMIT)
    };
    for args in [
        &["exec", "x.db", "DELETE FROM entry"][..],
        &["run", "x.db", "true"],
    ] {
        for value in [&b"soon"[..], b" ", b"-1", b"1x", b"\xFF"] {
            let message = with_variable(value, args).expect_failure(2);
            assert!(message.contains("PENHOLDER_TIMEOUT"), "{args:?}: {message}");
        }
        let mut with_option = args.to_vec();
        with_option.splice(1..1, ["--timeout", "5"]);
        with_variable(b"soon", &with_option).expect_success();
    }
    with_variable(b"soon", &["run", "-n", "x.db", "true"]).expect_quiet_success();
}

/// As most programs read an empty variable.
#[test]
fn an_empty_variable_is_as_none() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    let mut command = fixture.command(["exec", "x.db", "DELETE FROM entry"]);
    command.env("PENHOLDER_TIMEOUT", "");
    let message = run_command(&mut command, b"", wait::LIMIT).expect_failure(75);
    assert!(message.contains("after 500ms"), "{message}");
    let option = ["exec", "x.db", "DELETE FROM entry", "--timeout", ""];
    fixture.run(option).expect_failure(2);
    let mut command = fixture.command(["run", "x.db", SHELL[0], SHELL[1], "exit 0"]);
    command.env("PENHOLDER_TIMEOUT", "");
    drop(holder);
    run_command(&mut command, b"", wait::LIMIT).expect_quiet_success();
}

#[cfg(unix)]
#[test]
fn run_takes_a_command_as_flock_does() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    for (args, printed) in [
        (
            &["run", "x.db", "printf", "%s|", "-n", "--", "a b"][..],
            "-n|--|a b|",
        ),
        (&["run", "x.db", "--", "printf", "%s|", "-n"], "-n|"),
        (&["run", "x.db", "-c", "printf %s $((1 + 2))"], "3"),
        (&["run", "-c", "printf %s \"$0\"", "x.db"], "sh"),
        (&["run", "--command", "printf a | tr a b", "x.db"], "b"),
    ] {
        assert_eq!(fixture.run(args).expect_success(), printed, "{args:?}");
    }
    let output = fixture.run(["run", "x.db", "-c", "exit 7"]);
    assert_eq!(output.code, Some(7));
    fixture.run(["run", "x.db"]).expect_failure(2);
    fixture
        .run(["run", "x.db", "-c", "true", "true"])
        .expect_failure(2);
}

#[test]
fn run_that_does_not_wait_says_nothing() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    for (options, code) in [(&["-n"][..], 75), (&["--nonblock", "-E", "9"], 9)] {
        let args = [&["run"], options, &["x.db", "echo", "ran"]].concat();
        let output = fixture.run(args);
        assert_eq!(output.code, Some(code));
        assert_eq!((&*output.stdout, &*output.stderr), ("", ""));
    }
}

#[test]
fn status_shows_what_an_import_runs() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    let rows: String = (0..400_000).map(|key| format!("{key},1\n")).collect();
    fs::write(fixture.join("rows.csv"), format!("key,value\n{rows}")).unwrap();
    let args = ["import", "x.db", "entry", "rows.csv", "--atomic"];
    let mut import = Peer::spawn(fixture.command(args));
    wait::until("its statement is shown", || {
        let statement = &fixture.status()["holder"]["statement"];
        statement
            .as_str()
            .is_some_and(|sql| sql.starts_with("INSERT INTO \"entry\""))
    });
    assert!(import.wait().success());
}
