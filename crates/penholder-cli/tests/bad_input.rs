//! Proves that whatever is asked for, penholder answers with a message of its
//! own and the right exit code, changes nothing, and never panics.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::OsString;
use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::os::unix::fs::symlink;

use peer::PATIENCE;
use site::{PROMPT, Site, finish, timed};

/// Every command that takes a database, with what else it needs.
const COMMANDS: [(&str, &[&str]); 12] = [
    ("stress", &["--processes", "2", "--writes", "2"]),
    ("exec", &["SELECT 1"]),
    ("query", &["SELECT 1"]),
    ("import", &["entry", "rows.csv"]),
    ("status", &[]),
    ("doctor", &[]),
    ("history", &[]),
    ("top", &["--once", "--interval", "50ms"]),
    ("run", &["--", "echo", "ran"]),
    ("checkpoint", &[]),
    ("backup", &["copy.db"]),
    ("vacuum", &[]),
];

/// Runs every command on something that is no database, and asserts that each
/// refuses it with these words.
#[track_caller]
fn assert_all_refuse(site: &Site, db: &str, words: &str) {
    let before = site.files();
    for (command, rest) in COMMANDS {
        let args = [command, db].into_iter().chain(rest.iter().copied());
        let message = site.run(args).failed(1);
        assert!(message.contains(words), "{command} {db}: {message}");
        assert_eq!(message.lines().count(), 1, "{message}");
    }
    assert_eq!(site.files(), before, "nothing is made");
}

#[test]
fn what_cannot_be_a_database_is_refused_by_all() {
    let site = Site::new();
    fs::create_dir(site.at("folder")).unwrap();
    fs::write(site.at("plain.txt"), "text").unwrap();
    symlink("loop.db", site.at("loop.db")).unwrap();
    let long = "x".repeat(250);
    let deep = format!("{long}/{long}/x.db");
    for (db, words) in [
        ("nowhere/x.db", "there is no folder"),
        ("folder", "a folder"),
        ("folder/", "a folder"),
        (".", "a folder"),
        ("..", "a folder"),
        ("/", "a folder"),
        ("/dev/null", "a device"),
        (":memory:", "memory"),
        ("file:x.db", "URI"),
        ("file:x.db?mode=memory&cache=shared", "URI"),
        ("plain.txt/x.db", "plain.txt"),
        ("loop.db", "too many symbolic links"),
        (&deep, "there is no folder"),
    ] {
        assert_all_refuse(&site, db, words);
    }
}

#[test]
fn an_empty_name_is_a_usage_error() {
    let site = Site::new();
    for (command, rest) in COMMANDS {
        let args = [command, ""].into_iter().chain(rest.iter().copied());
        assert!(site.run(args).failed(2).contains("<DB>"));
    }
    assert!(site.files().is_empty());
}

#[test]
fn only_commands_that_write_make_a_database() {
    for (command, rest) in COMMANDS {
        let site = Site::new();
        let args = [command, "new.db"].into_iter().chain(rest.iter().copied());
        let done = site.run(args);
        let made = site.at("new.db").exists();
        match command {
            "stress" | "exec" => assert!(made && done.code == Some(0), "{command}"),
            "run" => assert!(!made && done.code == Some(0), "{command}"),
            _ => {
                let message = done.failed(1);
                assert!(message.contains("new.db"), "{message}");
                assert!(site.files().is_empty(), "{command}: {:?}", site.files());
            }
        }
    }
}

#[test]
fn a_file_that_is_no_database_stays_as_it_is() {
    let site = Site::new();
    for text in [
        &b"Dear reader"[..],
        &[0xAA; 5000],
        b"SQLite format 3\0 but not really",
    ] {
        fs::write(site.at("x.db"), text).unwrap();
        for (command, rest) in COMMANDS {
            let args = [command, "x.db"].into_iter().chain(rest.iter().copied());
            let done = site.run(args);
            match command {
                // These only deal with the lock.
                "run" | "status" | "history" | "top" => assert_eq!(done.code, Some(0), "{done:?}"),
                _ => assert!(done.failed(1).contains("not a database"), "{command}"),
            }
            assert_eq!(fs::read(site.at("x.db")).unwrap(), text, "{command}");
        }
        let mut files = site.files();
        files.retain(|name| !name.starts_with("db.lock"));
        assert_eq!(files, ["x.db"]);
    }
}

#[test]
fn sql_that_says_nothing_or_nonsense() {
    let site = Site::with_table();
    for sql in ["", " ", ";", "/* nothing */"] {
        let done = site.run(["exec", "x.db", sql]);
        assert_eq!(done.err, "penholder: 0 rows changed\n", "{sql:?}");
        let message = site.run(["query", "x.db", sql]).failed(1);
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
            let message = site.run([command, "x.db", sql]).failed(1);
            assert!(message.contains(words), "{command} {sql}: {message}");
        }
    }
    let script = "SELECT 1; SELECT \0 2;";
    let done = site.feed(["exec", "x.db", "-"], script);
    assert!(matches!(done.code, Some(0 | 1)), "{done:?}");
    for control in [
        "BEGIN",
        "COMMIT",
        "ROLLBACK",
        "VACUUM",
        "SAVEPOINT a; RELEASE b",
    ] {
        site.run(["exec", "x.db", control]).failed(1);
    }
    let message = site.run(["query", "x.db", "SELECT 1; SELECT 2"]).failed(1);
    assert!(message.contains("one at a time"), "{message}");
    assert_eq!(site.entries(), 0);
}

#[test]
fn what_is_not_text() {
    let site = Site::with_table();
    let odd = || OsString::from_vec(vec![b'a', 0xFF]);
    let mut command = site.command(["exec", "x.db"]);
    finish(command.arg(odd()), b"", PATIENCE).failed(2);
    let sql = "INSERT INTO entry VALUES (?1, 1)";
    let mut command = site.command(["exec", "x.db", sql]);
    finish(command.arg(odd()), b"", PATIENCE).failed(2);
    let mut command = site.command(["exec", "x.db", "-"]);
    let message = finish(&mut command, b"SELECT '\xFF'", PATIENCE).failed(1);
    assert!(message.contains("UTF-8"), "{message}");
    let mut command = site.command(["run", "x.db", "--", "printf", "%s"]);
    let echo = command.arg(odd());
    assert_eq!(finish(echo, b"", PATIENCE).quiet(), "a\u{FFFD}");
    assert_eq!(site.entries(), 0);
}

#[test]
fn absurd_timeouts_are_usage_errors() {
    let site = Site::with_table();
    for timeout in [
        "-1s",
        "-5ms",
        "5",
        "0",
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
        for (command, rest) in COMMANDS {
            if ["status", "history", "top", "run"].contains(&command) {
                continue;
            }
            let args = [command, "x.db", "--timeout", timeout];
            let done = site.run(args.into_iter().chain(rest.iter().copied()));
            let message = done.failed(2);
            assert!(message.contains("--timeout"), "{timeout}: {message}");
        }
    }
}

#[test]
fn odd_but_clear_timeouts_are_taken() {
    let site = Site::with_table();
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let timeouts = [
        "0s",
        "1ns",
        "99999999999h",
        "2562047788015215h",
        "1m 30s",
        "1.5m",
    ];
    for timeout in timeouts {
        let args = ["exec", "x.db", "--timeout", timeout, insert];
        let (done, time) = timed(|| site.run(args));
        done.ok();
        assert!(time < PROMPT, "{timeout} took {time:?}");
    }
    assert_eq!(usize::try_from(site.entries()).unwrap(), timeouts.len());
}

#[test]
fn a_stress_takes_the_same_timeouts() {
    for timeout in ["1m 30s", "1.5m", "300h", "99999999999h"] {
        let site = Site::new();
        let args = ["stress", "x.db", "--processes", "2", "--timeout", timeout];
        let report = site.run(args).quiet();
        assert!(report.contains("wrote 200 of 200 rows"), "{report}");
    }
}

#[test]
fn a_huge_timeout_is_a_long_wait() {
    let site = Site::with_table();
    let mut holder = site.hold(&[]);
    let insert = "INSERT INTO entry VALUES (1, 1)";
    let args = ["exec", "x.db", "--timeout", "99999999999h", insert];
    let mut writer = peer::Peer::spawn(site.command(args));
    let mut waiter = peer::Peer::spawn(site.command(["run", "x.db", "-w", "1e18", "--", "true"]));
    std::thread::sleep(std::time::Duration::from_millis(300));
    assert_eq!(site.entries(), 0, "it waits");
    holder.tell("go");
    assert!(writer.end().success());
    assert!(waiter.end().success());
    assert_eq!(site.entries(), 1);
}

#[test]
fn absurd_waits_are_usage_errors() {
    let site = Site::new();
    for wait in [
        "-1", "nan", "NaN", "inf", "-inf", "1e30", "", "soon", "5s", "0x10",
    ] {
        let args = ["run", "x.db", "-w", wait, "--", "echo", "never"];
        let message = site.run(args).failed(2);
        assert!(message.contains("--wait"), "{wait}: {message}");
    }
    for wait in ["0", "0.0001", "1e18", "99999999999999999"] {
        let args = ["run", "x.db", "-w", wait, "--", "echo", "ran"];
        assert_eq!(site.run(args).quiet(), "ran\n", "{wait}");
    }
}

#[test]
fn wrong_command_lines_are_usage_errors() {
    let site = Site::with_table();
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
        &["run", "x.db", "true"],
        &["run", "x.db", "-n", "-w", "1", "--", "true"],
        &["run", "x.db", "-E", "256", "--", "true"],
        &["run", "x.db", "-E", "-1", "--", "true"],
        &["import", "x.db"],
        &["import", "x.db", "entry"],
        &["import", "x.db", "entry", "rows.csv", "--skip", "-1"],
        &["import", "x.db", "entry", "rows.csv", "--format", "xml"],
        &["import", "x.db", "entry", "rows.csv", "--delimiter", "ab"],
        &["import", "x.db", "entry", "rows.csv", "--delimiter", "\""],
        &["import", "x.db", "entry", "rows.csv", "--hold", "5"],
        &[
            "import", "x.db", "entry", "rows.csv", "--atomic", "--hold", "5ms",
        ],
        &["backup", "x.db"],
        &["completions"],
        &["stress", "x.db", "--processes", "0"],
        &["stress", "x.db", "--processes", "-1"],
        &["stress", "x.db", "--processes", "1000000"],
        &["stress", "x.db", "--writes", "0"],
        &["stress", "x.db", "--writes", "99999999999"],
        &["stress", "x.db", "--writes", "many"],
        &["stress", "x.db", "--sync", "off"],
    ] {
        let message = site.run(args).failed(2);
        assert!(message.starts_with("error: "), "{args:?}: {message}");
        assert!(message.contains("--help"), "{args:?}: {message}");
    }
}

#[test]
fn a_lock_file_that_cannot_be_one() {
    let site = Site::with_table();
    fs::create_dir(site.at("folder")).unwrap();
    for lock_file in ["folder", "nowhere/db.lock", "/dev/null"] {
        for (command, rest) in [("exec", "SELECT 1"), ("stress", "--force")] {
            let args = [command, "x.db", "--lock-file", lock_file, rest];
            site.run(args).failed(1);
        }
        let args = ["run", "x.db", "--lock-file", lock_file, "--", "true"];
        site.run(args).failed(1);
    }
    site.run(["exec", "x.db", "--lock-file", "", "SELECT 1"])
        .failed(2);
}

#[test]
fn the_database_is_never_the_lock_file() {
    for lock_file in ["x.db", "./x.db", "x.db-wal", "x.db-shm", "link.db"] {
        let site = Site::with_table();
        site.exec("INSERT INTO entry VALUES (1, 1)");
        symlink("x.db", site.at("link.db")).unwrap();
        for (command, rest) in COMMANDS {
            let args = [command, "x.db", "--lock-file", lock_file].into_iter();
            let done = site.run(args.chain(rest.iter().copied()));
            // What stands there is a finding.
            let found = command == "doctor" && matches!(done.code, Some(3 | 4));
            assert!(
                found || matches!(done.code, Some(0 | 1)),
                "{command}: {done:?}"
            );
        }
        let entries = site.run(["query", "x.db", "SELECT count(*) AS n FROM entry"]);
        assert_eq!(entries.quiet(), "n\n1\n", "--lock-file {lock_file}");
    }
}

#[test]
fn a_database_called_as_the_lock_file() {
    let site = Site::new();
    let done = site.run(["exec", "db.lock", "CREATE TABLE t(a)"]);
    if done.code == Some(0) {
        let rows = site.run(["query", "db.lock", "SELECT count(*) AS n FROM t"]);
        assert_eq!(rows.quiet(), "n\n0\n");
        return;
    }
    assert!(done.clone().failed(1).contains("lock"), "{done:?}");
    assert!(site.files().is_empty(), "{:?}", site.files());
}

#[test]
fn somebody_elses_file_is_not_overwritten_by_a_lock() {
    let site = Site::with_table();
    let letter = "Dear reader,\n".repeat(100);
    fs::write(site.at("letter.txt"), &letter).unwrap();
    let args = ["exec", "x.db", "--lock-file", "letter.txt", "SELECT 1"];
    site.run(args);
    assert_eq!(fs::read_to_string(site.at("letter.txt")).unwrap(), letter);
}

#[test]
fn a_lock_file_full_of_garbage_is_no_obstacle() {
    let site = Site::with_table();
    for garbage in [
        &[0xFF; 4000][..],
        b"pid:1\ntime:never\n",
        b"pid:99999999999999\n",
        b"\0\0",
    ] {
        fs::write(site.at("db.lock"), garbage).unwrap();
        assert_eq!(site.status()["state"], "free");
        site.run(["status", "x.db"]).quiet();
        site.exec("INSERT INTO entry VALUES (1, 1)");
    }
    assert_eq!(site.entries(), 4);
}
