//! Proves that `penholder stress` writes from real processes, counts the rows that exist,
//! reports them in a stable format, and fails if any are missing.
#![cfg(test)]

use std::ffi::OsString;
use std::fs;
use std::process::{Command, Stdio};
use std::time::Duration;

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
fn by_default_8_processes_write_for_2_seconds() {
    let fixture = CommandFixture::new(PENHOLDER);
    let (output, time) = wait::timed(|| fixture.run(["stress", "x.db", "--json"]));
    let report = output.expect_json();
    assert!(time >= Duration::from_secs(2), "{time:?}");
    assert_eq!(report["processes"], 8);
    assert_eq!(report["elapsed_s"], 2.0);
    assert_eq!(report["failed"], 0);
    assert_eq!(report["rows_found"], report["writes_expected"]);
    assert_eq!(report["rows_found"], rows(&fixture));
    let each = "SELECT count(DISTINCT process) FROM penholder_stress";
    assert_eq!(fixture.number(each), 8);
    plain_sqlite::assert_integrity(&fixture.join("x.db"));
}

#[test]
fn processes_write_for_the_time_given() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["stress", "x.db", "--processes", "2", "--for", "300ms"];
    let report = fixture.run(args).expect_quiet_success();
    assert!(report.contains(" rows in 0.30 s"), "{report}");
    assert!(rows(&fixture) > 0);
}

#[test]
fn each_process_writes_the_number_given() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 8, 100);
    let with_100 = "SELECT count(*) FROM (SELECT 1 FROM penholder_stress GROUP BY process \
                HAVING count(*) = 100)";
    assert_eq!(fixture.number(with_100), 8);
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
        "processes_lost",
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
    stress(&fixture, if cfg!(windows) { 100 } else { 300 }, 1);
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
    let args = ["stress", "x.db", "--writes", "100"];
    let report = fixture.run(args).expect_quiet_success();
    assert!(report.starts_with("8 processes wrote 800 of 800 rows in "));
    assert!(!report.contains(['\x1b', '\r']), "{report:?}");
}

#[test]
fn unusual_names_of_databases_are_accepted() {
    let fixture = CommandFixture::new(PENHOLDER);
    #[cfg(unix)]
    let odd: OsString = std::os::unix::ffi::OsStringExt::from_vec(b"caf\xe9 x.db".to_vec());
    #[cfg(windows)]
    let odd = OsString::from("caf\u{e9} x.db");
    for name in [odd, "-x.db".into(), "x y.db".into()] {
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
    let forced = forced.into_iter().chain(["--writes", "100"]);
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
#[cfg(unix)]
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
#[cfg(unix)]
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
    let holder = fixture.hold_lock(&["--create"]);
    let output = fixture.run(["stress", "x.db", "--timeout", "1ms"]);
    let message = output.expect_failure(75);
    let pid = format!("holder: pid:{} since ", holder.pid());
    assert!(message.contains(&pid), "{message}");
}

#[test]
fn another_lock_file_is_another_lock() {
    let fixture = CommandFixture::new(PENHOLDER);
    let _holder = fixture.hold_lock(&["--create"]);
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

#[cfg(unix)]
fn rows_of(fixture: &CommandFixture, process: i64) -> i64 {
    if rows(fixture) == 0 {
        return 0;
    }
    fixture.number(&format!(
        "SELECT count(*) FROM penholder_stress WHERE process = {process}"
    ))
}

#[cfg(unix)]
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
    assert_eq!(report["processes_lost"], 1);
    assert_eq!(report["rows_found"], 20_000 - lost);
    assert_eq!(report["writes_expected"], 20_000);
    let failed = report["failed"].as_i64().unwrap();
    assert!(failed >= lost, "{lost} lost: {report}");
    assert_eq!(report["integrity"], "ok");
}

#[test]
fn no_worker_outlives_a_killed_stress() {
    const ENDS: &[(&str, Option<i32>)] = if cfg!(windows) {
        &[("KILL", Some(1))]
    } else {
        &[
            ("KILL", None),
            ("TERM", Some(143)),
            ("INT", Some(130)),
            ("HUP", Some(129)),
        ]
    };
    for &(signal, code) in ENDS {
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
        assert_eq!(long.wait().code(), code);
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
    wait::until("both workers run", || stress_workers(&stress).len() == 2);
    for (pid, _) in stress_workers(&stress) {
        peer::signal(pid, "STOP");
    }
    assert_eq!(stress.close().code(), Some(1));
}

/// Runs `stress --beside sqlite`, which must succeed.
fn beside_sqlite(fixture: &CommandFixture, args: &[&str]) -> Value {
    let all = ["stress", "x.db", "--beside", "sqlite", "--json"];
    let output = fixture.run(all.iter().chain(args));
    assert_no_plain_database(fixture);
    output.expect_json()
}

fn assert_no_plain_database(fixture: &CommandFixture) {
    let names = fixture.file_names();
    assert!(
        !names.iter().any(|name| name.contains("-plain")),
        "{names:?}"
    );
}

#[test]
fn plain_sqlite_does_the_same_work_first() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["--processes", "3", "--writes", "50", "--timeout", "50s"];
    let report = beside_sqlite(&fixture, &args);
    assert_eq!(field_names(&report), ["penholder", "sqlite"]);
    for by in ["penholder", "sqlite"] {
        let report = &report[by];
        assert_eq!(report["processes"], 3, "{report}");
        assert_eq!(report["processes_lost"], 0, "{report}");
        assert_eq!(report["writes_expected"], 150, "{report}");
        assert_eq!(report["rows_found"], 150, "{report}");
        assert_eq!(report["failed"], 0, "{report}");
        assert_eq!(report["integrity"], "ok", "{report}");
    }
    let fields = |by| field_names(&report[by]);
    assert_eq!(fields("sqlite"), fields("penholder"));
    assert_eq!(rows(&fixture), 150);
}

#[test]
fn both_reports_stand_one_under_the_other() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["stress", "x.db", "--beside", "sqlite", "--processes", "2"];
    let more = ["--writes", "20", "--sync", "full"];
    let report = fixture
        .run(args.into_iter().chain(more))
        .expect_quiet_success();
    let starts: Vec<_> = report
        .lines()
        .filter_map(|line| line.split_once(" in "))
        .map(|(start, _)| start)
        .collect();
    let wrote = "2 processes wrote 40 of 40 rows";
    assert_eq!(
        starts,
        [
            format!("plain SQLite: {wrote}"),
            format!("penholder: {wrote}")
        ]
    );
    assert_eq!(report.matches("synchronous=full").count(), 2, "{report}");
    assert_no_plain_database(&fixture);
}

#[test]
fn both_write_for_the_same_time() {
    let fixture = CommandFixture::new(PENHOLDER);
    let report = beside_sqlite(&fixture, &["--for", "300ms", "--timeout", "50s"]);
    for by in ["penholder", "sqlite"] {
        assert_eq!(report[by]["elapsed_s"], 0.3, "{report}");
        assert!(report[by]["rows_found"].as_i64() > Some(0), "{report}");
    }
    assert_eq!(report["penholder"]["rows_found"], rows(&fixture));
}

#[test]
fn plain_sqlite_fails_if_the_database_is_locked_and_goes_on() {
    let fixture = CommandFixture::new(PENHOLDER);
    stress(&fixture, 1, 1);
    let args = ["stress", "x.db", "--beside", "sqlite", "--json"];
    let output = fixture.run(args.into_iter().chain(["--timeout", "0s", "--for", "1s"]));
    let report = &parse_json(&output.stdout)["sqlite"];
    let number = |name: &str| report[name].as_u64().unwrap();
    assert!(number("failed") > 0, "{report}");
    assert!(number("rows_found") > 0, "{report}");
    let acknowledged = number("writes_expected") - number("failed");
    assert_eq!(number("rows_found"), acknowledged, "{report}");
    let message = output
        .stderr
        .lines()
        .find(|line| line.starts_with("penholder: plain SQLite, process "));
    assert!(message.unwrap().contains("database is locked"));
    assert_no_plain_database(&fixture);
}

#[cfg(unix)]
#[test]
fn the_exit_code_does_not_depend_on_plain_sqlite() {
    let fixture = CommandFixture::new(PENHOLDER);
    let args = ["--beside", "sqlite", "--processes", "2", "--writes", "5000"];
    let mut long = long_stress(&fixture, &args);
    wait::until("plain SQLite writes", || plain_workers(&long).len() == 2);
    peer::signal(plain_workers(&long)[0], "KILL");
    let report = parse_json(&long.read_line());
    assert_eq!(report["sqlite"]["processes_lost"], 1, "{report}");
    assert_eq!(report["penholder"]["processes_lost"], 0, "{report}");
    assert_eq!(long.close().code(), Some(0));
}

/// Workers of a `stress` that write with plain SQLite.
#[cfg(unix)]
fn plain_workers(stress: &Peer) -> Vec<u32> {
    let is_plain = |pid: u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&words).contains("\0--peer\0sqlite\0")
    };
    let pids = stress_workers(stress).into_iter().map(|(pid, _)| pid);
    pids.filter(|&pid| is_plain(pid)).collect()
}

#[cfg(unix)]
#[test]
fn a_stress_that_is_ended_removes_the_database_of_plain_sqlite() {
    for (signal, code) in [("TERM", 143), ("INT", 130), ("HUP", 129)] {
        let fixture = CommandFixture::new(PENHOLDER);
        let args = ["--beside", "sqlite", "--processes", "2", "--for", "1h"];
        let mut long = long_stress(&fixture, &args);
        let plain = fixture.join("x.db-plain");
        wait::until("plain SQLite writes", || {
            plain_workers(&long).len() == 2
                && fs::metadata(fixture.join("x.db-plain-wal"))
                    .is_ok_and(|file| file.len() > 99_999)
        });
        assert!(plain.exists());
        long.signal(signal);
        assert_eq!(long.wait().code(), Some(code));
        assert_no_plain_database(&fixture);
    }
}

#[test]
fn an_existing_file_is_never_taken_for_plain_sqlite() {
    let fixture = CommandFixture::new(PENHOLDER);
    fs::write(fixture.join("x.db-plain"), "mine").unwrap();
    let args = ["stress", "x.db", "--beside", "sqlite"];
    let message = fixture.run(args).expect_failure(1);
    assert!(message.contains("x.db-plain: "), "{message}");
    assert!(message.contains("choose another database"), "{message}");
    assert_eq!(fs::read(fixture.join("x.db-plain")).unwrap(), b"mine");
}
