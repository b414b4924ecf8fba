//! Proves that a database that is mounted as a single file is refused, because the files next to
//! it are not those next to it in its own directory, unless the user allows it; and that other
//! mounts are not refused.
#![cfg(test)]
#![cfg(unix)] // mounts

use std::fs;
use std::os::unix::fs::symlink;

use penholder_testkit::command_fixture::{CommandFixture, CommandOutput, run_command};
use penholder_testkit::{requirement, wait};
use serde_json::Value;

/// The command under test.
const PENHOLDER: &str = env!("CARGO_BIN_EXE_penholder");
/// How the message and `doctor` name the fault.
const FOUND: &str = "mounted as a single file";
/// The option that allows it.
const ALLOWED: &str = "--allow-file-mount";

/// A directory with `host/x.db`, which has one table, and an empty directory `inside`.
///
/// Returns `None`, and reports a skipped test, if files cannot be mounted here.
fn fixture() -> Option<CommandFixture> {
    if !requirement::has_mount_namespaces() {
        return None;
    }
    let fixture = CommandFixture::new(PENHOLDER);
    for name in ["host", "inside"] {
        fs::create_dir(fixture.join(name)).unwrap();
    }
    fixture
        .run(["exec", "host/x.db", "CREATE TABLE t(a)"])
        .expect_success();
    Some(fixture)
}

/// Runs the command in a mount namespace of its own, in which `mounts` were made. A target that
/// is missing is created.
fn run_mounted(fixture: &CommandFixture, mounts: &str, args: &[&str]) -> CommandOutput {
    let script = format!(
        "mount() {{ [ -e \"$3\" ] || touch \"$3\"; command mount \"$@\"; }}; {mounts} && \
         cd \"$PWD\" && exec \"$PENHOLDER\" \"$@\""
    );
    let mut command = fixture.program("unshare");
    command
        .args([
            "--mount",
            "--propagation",
            "private",
            "sh",
            "-c",
            &script,
            "sh",
        ])
        .args(args);
    run_command(&mut command, b"", wait::LIMIT)
}

const FILE: &str = "mount --bind host/x.db inside/x.db";

/// Returns severity and text of what `doctor` finds about a check.
fn finding(output: &CommandOutput, check: &str) -> (String, String) {
    let json: Value = serde_json::from_str(&output.stdout).unwrap();
    let findings = json["findings"].as_array().unwrap();
    let found = findings.iter().find(|one| one["check"] == check).unwrap();
    let text = |name: &str| found[name].as_str().unwrap().to_owned();
    (text("severity"), text("finding"))
}

#[test]
fn a_file_mount_is_refused_by_every_command() {
    let Some(fixture) = fixture() else {
        return;
    };
    fs::write(fixture.join("rows.csv"), "a\n1\n").unwrap();
    let db = "inside/x.db";
    for args in [
        ["exec", db, "INSERT INTO t VALUES (1)"].as_slice(),
        &["query", db, "SELECT * FROM t"],
        &["stress", db],
        &["import", db, "t", "rows.csv"],
        &["status", db],
        &["history", db],
        &["top", db, "--once"],
        &["run", db, "--", "true"],
        &["checkpoint", db],
        &["backup", db, "copy.db"],
        &["restore", db, "host/x.db"],
        &["vacuum", db],
    ] {
        let message = run_mounted(&fixture, FILE, args).expect_failure(1);
        assert!(message.contains(FOUND), "{args:?}: {message}");
        assert!(message.contains("mount its directory instead"), "{message}");
        assert!(message.contains(ALLOWED), "{message}");
    }
    let names: Vec<_> = fs::read_dir(fixture.join("inside")).unwrap().collect();
    assert_eq!(names.len(), 1, "nothing is created next to it: {names:?}");
    let rows = ["query", "host/x.db", "SELECT count(*) FROM t", "--csv"];
    assert!(fixture.run(rows).expect_quiet_success().ends_with("\n0\n"));
}

#[test]
fn a_file_mount_is_opened_if_it_is_allowed() {
    let Some(fixture) = fixture() else {
        return;
    };
    let insert = ["exec", "inside/x.db", "INSERT INTO t VALUES (1)", ALLOWED];
    run_mounted(&fixture, FILE, &insert).expect_success();
    let stress = [
        "stress",
        "inside/x.db",
        "--for",
        "100ms",
        "--force",
        ALLOWED,
    ];
    run_mounted(&fixture, FILE, &stress).expect_success();
    let rows = ["query", "host/x.db", "SELECT count(*) FROM t", "--csv"];
    assert!(fixture.run(rows).expect_quiet_success().ends_with("\n1\n"));
}

#[test]
fn a_symbolic_link_to_a_file_mount_is_refused() {
    let Some(fixture) = fixture() else {
        return;
    };
    symlink("inside/x.db", fixture.join("link.db")).unwrap();
    let exec = ["exec", "link.db", "INSERT INTO t VALUES (1)"];
    let message = run_mounted(&fixture, FILE, &exec).expect_failure(1);
    assert!(message.contains(FOUND), "{message}");
}

#[test]
fn a_mounted_wal_is_refused() {
    let Some(fixture) = fixture() else {
        return;
    };
    for suffix in ["-wal", "-shm", "-journal"] {
        fs::write(fixture.join("inside/other"), "").unwrap();
        let mount = format!("mount --bind inside/other host/x.db{suffix}");
        let exec = ["exec", "host/x.db", "INSERT INTO t VALUES (1)"];
        let message = run_mounted(&fixture, &mount, &exec).expect_failure(1);
        let words = format!("x.db{suffix} is {FOUND}");
        assert!(message.contains(&words), "{message}");
        let doctor = run_mounted(&fixture, &mount, &["doctor", "host/x.db", "--json"]);
        let (severity, found) = finding(&doctor, "mounts");
        assert!(severity == "error" && found.contains(&words), "{found}");
        fs::remove_file(fixture.join(format!("host/x.db{suffix}"))).unwrap();
    }
}

/// The `flock` belongs to the file, which may be mounted anywhere.
#[test]
fn a_mounted_lock_file_is_only_a_warning() {
    let Some(fixture) = fixture() else {
        return;
    };
    let mount = "mount --bind host/db.lock host/db.lock && \
                 mount --bind inside/db.lock host/db.lock";
    fs::write(fixture.join("inside/db.lock"), "").unwrap();
    let exec = ["exec", "host/x.db", "INSERT INTO t VALUES (1)"];
    run_mounted(&fixture, mount, &exec).expect_success();
    let doctor = run_mounted(&fixture, mount, &["doctor", "host/x.db", "--json"]);
    let (severity, found) = finding(&doctor, "mounts");
    assert_eq!(
        (severity.as_str(), found),
        ("warning", format!("db.lock is {FOUND}"))
    );
}

#[test]
fn other_mounts_are_not_refused() {
    let Some(fixture) = fixture() else {
        return;
    };
    for name in ["upper", "work"] {
        fs::create_dir(fixture.join(name)).unwrap();
    }
    let overlay = "mount -t overlay none -o lowerdir=host,upperdir=upper,workdir=work inside";
    for (mounts, db) in [
        // A directory, also one with a space in its name.
        ("mount --bind host inside", "inside/x.db"),
        (
            "mkdir -p 'in side' && mount --bind host 'in side'",
            "in side/x.db",
        ),
        // The file on itself: the files next to it are the same.
        ("mount --bind host/x.db host/x.db", "host/x.db"),
        (
            "mount --bind host inside && mount --bind inside/x.db inside/x.db",
            "inside/x.db",
        ),
        ("mount -t tmpfs none inside", "inside/x.db"),
    ] {
        let sql = "CREATE TABLE IF NOT EXISTS t(a)";
        run_mounted(&fixture, mounts, &["exec", db, sql]).expect_success();
        let doctor = run_mounted(&fixture, mounts, &["doctor", db, "--json"]);
        if doctor.code != Some(1) {
            assert_eq!(finding(&doctor, "mounts").0, "ok", "{mounts}");
        }
    }
    let exec = ["exec", "inside/x.db", "INSERT INTO t VALUES (1)"];
    let output = run_mounted(&fixture, overlay, &exec);
    if output.stderr.contains("mount:") {
        requirement::skip("to mount an overlay, which is not allowed here");
        return;
    }
    output.expect_success();
}

/// The other name of a file in the same directory: the lock is shared, the WAL is not.
#[test]
fn a_file_mounted_over_its_neighbour_is_refused() {
    let Some(fixture) = fixture() else {
        return;
    };
    let mount = "mount --bind host/x.db host/y.db";
    let exec = ["exec", "host/y.db", "INSERT INTO t VALUES (1)"];
    let message = run_mounted(&fixture, mount, &exec).expect_failure(1);
    assert!(message.contains(FOUND), "{message}");
}

#[test]
fn the_doctor_says_what_to_do_about_a_file_mount() {
    let Some(fixture) = fixture() else {
        return;
    };
    let doctor = run_mounted(&fixture, FILE, &["doctor", "inside/x.db"]).stdout;
    for words in [FOUND, "do: mount its directory instead", ALLOWED] {
        let flat = doctor.replace(['│', '┆', '\n'], " ");
        let flat = flat.split_whitespace().collect::<Vec<_>>().join(" ");
        assert!(flat.contains(words), "{doctor}");
    }
    let refused = run_mounted(&fixture, FILE, &["doctor", "inside/x.db", "--json"]);
    assert_eq!(refused.code, Some(4));
    assert_eq!(finding(&refused, "mounts").0, "error");
    let names: Vec<_> = fs::read_dir(fixture.join("inside")).unwrap().collect();
    assert_eq!(names.len(), 1, "it is not opened: {names:?}");
    let args = ["doctor", "inside/x.db", "--json", ALLOWED];
    let allowed = run_mounted(&fixture, FILE, &args);
    let (severity, found) = finding(&allowed, "mounts");
    assert!(
        severity == "warning" && found.ends_with(", allowed"),
        "{found}"
    );
}
