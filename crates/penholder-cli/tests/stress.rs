//! Proves that `penholder stress` writes from real processes, counts the rows that exist,
//! reports them in a stable format, and fails if any are missing.
#![cfg(test)]

use std::fs;
use std::os::unix::ffi::OsStringExt;
use std::process::{Command, Stdio};

use penholder_testkit::command_fixture::{
    CommandFixture, field_names, is_stress_worker, parse_json, run_command, stress_workers,
};
use penholder_testkit::peer::Peer;
use penholder_testkit::{peer, plain_sqlite, wait};
use serde_json::Value;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");

/// Runs `stress`, which must succeed, and checks its report against the table.
fn stress(fixture: &CommandFixture, processes: i64, writes: i64) -> Value {
    let before = rows(fixture);
    let numbers = [processes.to_string(), writes.to_string()];
    let report = fixture
        .run([
            "stress",
            "x.db",
            "--processes",
            &numbers[0],
            "--writes",
            &numbers[1],
            "--timeout",
            "50s",
            "--json",
        ])
        .expect_json();
    let expected = processes * writes;
    assert_eq!(report["processes"], processes, "{report}");
    assert_eq!(report["writes_expected"], expected, "{report}");
    assert_eq!(report["rows_found"], expected, "{report}");
    assert_eq!(report["failed"], 0, "{report}");
    assert_eq!(report["integrity"], "ok", "{report}");
    assert_eq!(rows(fixture) - before, expected);
    report
}

fn rows(fixture: &CommandFixture) -> i64 {
    if !fixture.join("x.db").exists() {
        return 0;
    }
    fixture.number("SELECT count(*) FROM penholder_stress")
}

#[test]
fn the_default_is_8_processes_with_100_writes() {
    let fixture = CommandFixture::new(PENHOLDER);
    let report = fixture.run(["stress", "x.db", "--json"]).expect_json();
    assert_eq!(report["processes"], 8);
    assert_eq!(report["rows_found"], 800);
    let each = "SELECT count(DISTINCT process) FROM penholder_stress";
    assert_eq!(fixture.number(each), 8);
    let with_100 = "SELECT count(*) FROM (SELECT 1 FROM penholder_stress GROUP BY process \
                HAVING count(*) = 100)";
    assert_eq!(fixture.number(with_100), 8);
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}

#[test]
fn the_report_has_its_fields_and_they_are_consistent() {
    let fixture = CommandFixture::new(PENHOLDER);
    let report = stress(&fixture, 3, 50);
    let expected = [
        "elapsed_s",
        "failed",
        "integrity",
        "jain",
        "per_process",
        "processes",
        "rows_found",
        "wait_us",
        "writes_expected",
        "writes_per_s",
    ];
    assert_eq!(field_names(&report), expected);
    let wait = &report["wait_us"];
    assert_eq!(field_names(wait), ["max", "p50", "p90", "p99", "p999"]);
    let times = ["p50", "p90", "p99", "p999", "max"].map(|name| wait[name].as_u64().unwrap());
    assert!(times.is_sorted() && times[4] > 0, "{report}");
    let range = &report["per_process"];
    assert_eq!(field_names(range), ["max", "min"]);
    let [min, max] = ["min", "max"].map(|name| range[name].as_f64().unwrap());
    assert!(0.0 < min && min <= max, "{report}");
    let jain = report["jain"].as_f64().unwrap();
    assert!(0.0 < jain && jain <= 1.0 + 1e-9, "{report}");
    let rate = report["writes_per_s"].as_f64().unwrap() * report["elapsed_s"].as_f64().unwrap();
    assert!((rate - 150.0).abs() < 0.01, "{report}");
}

#[test]
fn many_writes_are_all_found() {
    stress(&CommandFixture::new(PENHOLDER), 8, 200);
}

#[test]
fn many_processes_are_all_found() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 64, 20);
    stress(&fixture, 300, 1);
}

#[test]
fn runs_on_one_file_do_not_mix() {
    let fixture = CommandFixture::new(PENHOLDER);
    for _ in 0..3 {
        stress(&fixture, 2, 10);
    }
    assert_eq!(rows(&fixture), 60);
}

#[test]
fn every_commit_can_be_synced() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["stress", "x.db", "--processes", "2", "--writes", "20"];
    let report = fixture
        .run(args.into_iter().chain(["--sync", "full"]))
        .expect_quiet_success();
    assert!(report.contains("wrote 40 of 40 rows"), "{report}");
    assert!(report.contains("synchronous=full"), "{report}");
}

#[test]
fn no_progress_bar_is_shown_on_a_pipe() {
    let fixture = CommandFixture::new(PENHOLDER);
    let report = fixture.run(["stress", "x.db"]).expect_quiet_success();
    assert!(report.starts_with("8 processes wrote 800 of 800 rows in "));
    assert!(!report.contains(['\x1b', '\r']), "{report:?}");
}

#[test]
fn unusual_names_of_databases_are_accepted() {
    let fixture = CommandFixture::new(PENHOLDER);
    let not_utf_8 = std::ffi::OsString::from_vec(b"caf\xe9 x.db".to_vec());
    for name in [not_utf_8, "-x.db".into(), "x y.db".into()] {
        let args = ["stress", "--processes", "2", "--writes", "3", "--"];
        let mut command = fixture.command(args);
        let output = run_command(command.arg(&name), b"", wait::LIMIT);
        assert!(output.expect_quiet_success().contains("wrote 6 of 6 rows"));
        let rows = "SELECT count(*) FROM penholder_stress";
        assert_eq!(plain_sqlite::number(&fixture.join(&name), rows), 6);
    }
}

#[test]
fn a_database_with_other_tables_is_refused_without_force() {
    let fixture = CommandFixture::with_table(PENHOLDER);
    fixture.exec("INSERT INTO entry VALUES (1, 2)");
    let before = fs::read(fixture.join("x.db")).unwrap();
    let message = fixture.run(["stress", "x.db"]).expect_failure(1);
    assert!(message.contains("entry") && message.contains("--force"));
    assert_eq!(fs::read(fixture.join("x.db")).unwrap(), before);
    let forced = ["stress", "x.db", "--force", "--processes", "2"];
    let report = fixture.run(forced).expect_quiet_success();
    assert!(report.contains("wrote 200 of 200 rows"), "{report}");
    assert_eq!(fixture.count_entries(), 1);
    let again = fixture.run(["stress", "x.db"]).expect_failure(1);
    assert!(again.contains("entry"), "{again}");
}

#[test]
fn writes_that_time_out_are_failures() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 1, 1);
    let _holder = fixture.hold_lock(&[]);
    let args = ["stress", "x.db", "--processes", "2", "--writes", "3"];
    let output = fixture.run(args.into_iter().chain(["--timeout", "1ms", "--json"]));
    assert_eq!(output.code, Some(1), "{output:?}");
    let report = parse_json(&output.stdout);
    assert_eq!(report["failed"], 6);
    assert_eq!(report["rows_found"], 0);
    assert_eq!(report["writes_expected"], 6);
    assert_eq!(report["writes_per_s"], 0.0);
    assert_eq!(report["integrity"], "ok");
    let words = "write lock timeout after 1ms";
    assert_eq!(
        output.stderr.matches(words).count(),
        2,
        "once for each process: {output:?}"
    );
}

/// As in `penholder stress x.db | true`: the report is lost, but the exit code is right.
#[test]
fn a_closed_pipe_does_not_hide_a_failure() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 1, 1);
    let holder = fixture.hold_lock(&[]);
    let failing = "\"$PENHOLDER\" stress x.db --processes 2 --writes 3 --timeout 1ms";
    for json in ["", " --json"] {
        assert_eq!(
            code_without_reader(&fixture, &format!("{failing}{json}")),
            1
        );
    }
    drop(holder);
    let succeeding = "\"$PENHOLDER\" stress x.db --processes 2 --writes 3";
    assert_eq!(code_without_reader(&fixture, succeeding), 0);
}

/// Returns the exit code of a shell command whose output has no reader.
fn code_without_reader(fixture: &CommandFixture, command: &str) -> i32 {
    // The pipe has no reader left when the command starts.
    let script = format!("mkfifo p; exec 3<>p 4>p; rm p; exec 3>&-; {command} >&4 2>/dev/null");
    let output = run_command(
        fixture.program("sh").args(["-c", &script]),
        b"",
        wait::LIMIT,
    );
    output.code.unwrap()
}

/// The bar is removed before the report.
#[test]
fn a_progress_bar_is_shown_on_a_terminal() {
    let fixture = CommandFixture::new(PENHOLDER);
    let script = "exec \"$PENHOLDER\" stress x.db --processes 2 --writes 3000";
    let Some(text) = fixture.run_on_terminal(script, &[("TERM", "xterm")]) else {
        return;
    };
    let (bar, report) = text
        .split_once("2 processes wrote 6000 of 6000 rows")
        .unwrap_or_else(|| panic!("no report: {text:?}"));
    assert!(bar.contains("/6000 writes"), "{bar:?}");
    assert!(bar.contains("\r") || bar.contains("\x1b["), "{bar:?}");
    // The bar is cleared: the last text before the report is not a bar.
    let last = bar.rsplit(['\r', '\n']).next().unwrap();
    assert!(!last.contains("writes"), "{bar:?}");
    assert!(!report.contains("/6000 writes"), "{report:?}");
}

#[test]
fn messages_of_the_workers_do_not_mix() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 1, 1);
    let _holder = fixture.hold_lock(&[]);
    let args = ["stress", "x.db", "--processes", "24", "--writes", "1"];
    let output = fixture.run(args.into_iter().chain(["--timeout", "100ms"]));
    assert_eq!(output.code, Some(1), "{output:?}");
    for line in output.stderr.lines() {
        let is_first_line = line.starts_with("penholder: process ")
            && line.ends_with(": write lock timeout after 100ms");
        let is_detail = line.starts_with("  ") && !line.contains("penholder: process");
        assert!(is_first_line || is_detail, "{line:?} in {}", output.stderr);
    }
}

#[test]
fn a_new_database_cannot_be_created_while_the_lock_is_held() {
    let fixture = CommandFixture::new(PENHOLDER);
    let holder = fixture.hold_lock(&[]);
    let output = fixture.run(["stress", "x.db", "--timeout", "1ms"]);
    let message = output.expect_failure(75);
    let pid = format!("holder: pid:{} since ", holder.pid());
    assert!(message.contains(&pid), "{message}");
}

#[test]
fn another_lock_file_is_another_lock() {
    let fixture = CommandFixture::new(PENHOLDER);
    let _holder = fixture.hold_lock(&[]);
    let args = ["stress", "x.db", "--lock-file", "other.lock"];
    fixture
        .run(
            args.into_iter()
                .chain(["--processes", "2", "--writes", "5"]),
        )
        .expect_quiet_success();
    assert_eq!(rows(&fixture), 10);
}

/// Starts a `stress` that runs for so long that the test can interfere.
fn long_stress(fixture: &CommandFixture, args: &[&str]) -> Peer {
    let mut command = fixture.command(["stress", "x.db", "--timeout", "30s", "--json"]);
    command.args(args).stderr(Stdio::null());
    Peer::spawn(command)
}

fn rows_of(fixture: &CommandFixture, process: i64) -> i64 {
    if rows(fixture) == 0 {
        return 0;
    }
    fixture.number(&format!(
        "SELECT count(*) FROM penholder_stress WHERE process = {process}"
    ))
}

#[test]
fn the_rows_of_a_killed_worker_are_reported_missing() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 1, 1);
    let mut long = long_stress(&fixture, &["--processes", "4", "--writes", "5000"]);
    wait::until("four workers run", || stress_workers(&long).len() == 4);
    let (pid, process) = stress_workers(&long)[2];
    wait::until("it has written rows", || rows_of(&fixture, process) > 10);
    peer::signal(pid, "KILL");
    let report = parse_json(&long.read_line());
    assert_eq!(long.close().code(), Some(1));
    let lost = 5000 - rows_of(&fixture, process);
    assert!(lost > 0, "killed too late: {report}");
    assert_eq!(report["rows_found"], 20_000 - lost);
    assert_eq!(report["writes_expected"], 20_000);
    let failed = report["failed"].as_i64().unwrap();
    assert!(failed >= lost, "{lost} lost: {report}");
    assert_eq!(report["integrity"], "ok");
}

#[test]
fn no_worker_outlives_a_killed_stress() {
    for signal in ["KILL", "TERM", "INT"] {
        let fixture = CommandFixture::new(PENHOLDER);
        let mut long = long_stress(&fixture, &["--processes", "3", "--writes", "10000000"]);
        wait::until("three workers run", || stress_workers(&long).len() == 3);
        let pids: Vec<u32> = stress_workers(&long)
            .into_iter()
            .map(|(pid, _)| pid)
            .collect();
        wait::until("rows are written", || {
            fixture.join("x.db-wal").exists() && rows(&fixture) > 0
        });
        long.signal(signal);
        assert!(!long.close().success());
        wait::until("the workers have exited", || {
            pids.iter().all(|pid| !is_stress_worker(*pid))
        });
        assert_eq!(fixture.status()["state"], "free");
        plain_sqlite::assert_integrity(&fixture.join("x.db"));
    }
}

/// Workers that send no answer do not delay the report for ever.
#[test]
fn stress_gives_up_on_stopped_workers() {
    let fixture = CommandFixture::new(PENHOLDER);
    let mut command = Command::new(env!("CARGO_BIN_EXE_penholder"));
    command
        .args([
            "stress",
            "x.db",
            "--processes",
            "2",
            "--writes",
            "100000000",
        ])
        .args(["--timeout", "1s"])
        .current_dir(fixture.directory());
    let mut stress = Peer::spawn(command);
    let workers = |stress: &Peer| {
        let children = format!("/proc/{0}/task/{0}/children", stress.pid());
        let text = std::fs::read_to_string(children).unwrap_or_default();
        text.split_whitespace()
            .map(|pid| pid.parse().unwrap())
            .collect::<Vec<u32>>()
    };
    wait::until("both workers run", || workers(&stress).len() == 2);
    for pid in workers(&stress) {
        peer::signal(pid, "STOP");
    }
    assert_eq!(stress.close().code(), Some(1));
}
