//! Proves that the example program `records` of the library works from a shell,
//! also when several processes use it at once.
#![cfg(test)]

#[path = "../../penholder-lock/tests/peer/mod.rs"]
mod peer;
mod site;

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::LazyLock;
use std::time::Duration;

use peer::PATIENCE;
use site::{Done, Site, finish};

/// How long a build may take, with others building at the same time.
const BUILD: Duration = Duration::from_secs(600);

/// The program, built as these tests were.
static RECORDS: LazyLock<PathBuf> = LazyLock::new(build);

fn build() -> PathBuf {
    let this = std::env::current_exe().unwrap();
    // target/PROFILE/deps/records-…
    let folder = this.ancestors().nth(2).unwrap();
    let profile = match folder.file_name().and_then(OsStr::to_str).unwrap() {
        "debug" => "dev",
        other => other,
    };
    let mut cargo = Command::new(env!("CARGO"));
    cargo
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("../penholder"))
        .args(["build", "-p", "penholder", "--example", "records"])
        .args(["--profile", profile, "--target-dir"])
        .arg(folder.parent().unwrap());
    finish(&mut cargo, b"", BUILD).ok();
    folder.join("examples/records")
}

fn records(site: &Site, args: &[&str]) -> Done {
    let mut command = site.program(&*RECORDS);
    finish(command.arg("x.db").args(args), b"", PATIENCE)
}

#[test]
fn a_record_is_written_changed_and_read() {
    let site = Site::new();
    assert_eq!(records(&site, &["count"]).quiet(), "0\n");
    assert_eq!(records(&site, &["write", "one", "first"]).quiet(), "1\n");
    assert_eq!(records(&site, &["write", "two", "a b"]).quiet(), "2\n");
    assert_eq!(records(&site, &["get", "1"]).quiet(), "one=first\n");
    assert_eq!(records(&site, &["update", "1", "changed"]).quiet(), "");
    assert_eq!(records(&site, &["get", "1"]).quiet(), "one=changed\n");
    let list = records(&site, &["list"]).quiet();
    assert_eq!(list, "1 one=changed\n2 two=a b\n");
    assert_eq!(records(&site, &["count"]).quiet(), "2\n");
}

#[test]
fn a_missing_record_is_exit_code_1() {
    let site = Site::new();
    for args in [&["get", "7"][..], &["update", "7", "x"]] {
        let done = records(&site, args);
        assert_eq!(done.code, Some(1));
        assert_eq!(done.err, "there is no record 7\n");
    }
}

#[test]
fn a_wrong_command_line_is_exit_code_2() {
    let site = Site::new();
    for args in [
        &[][..],
        &["get"],
        &["get", "x"],
        &["nonsense"],
        &["write", "a"],
    ] {
        let done = records(&site, args);
        assert_eq!(done.code, Some(2), "{args:?}");
        assert!(done.err.starts_with("usage: records DB "), "{done:?}");
    }
}

#[test]
fn five_processes_write_ten_records_each() {
    let site = Site::new();
    let script = "for i in 1 2 3 4 5; do (for j in $(seq 10); do \
                  \"$RECORDS\" x.db write \"name$i\" \"value$j\"; done) & done; wait; \
                  echo; \"$RECORDS\" x.db count";
    let mut shell = site.program("sh");
    shell.args(["-c", script]).env("RECORDS", &*RECORDS);
    let out = finish(&mut shell, b"", PATIENCE).quiet();
    let (ids, count) = out.split_once("\n\n").unwrap();
    assert_eq!(count, "50\n");
    let mut ids: Vec<u32> = ids.lines().map(|id| id.parse().unwrap()).collect();
    ids.sort_unstable();
    assert_eq!(ids, (1..=50).collect::<Vec<_>>());
    let pairs = "SELECT count(DISTINCT name || value) FROM records";
    assert_eq!(site.number(pairs), 50);
}

#[test]
fn a_held_lock_is_exit_code_75() {
    let site = Site::new();
    records(&site, &["count"]).quiet();
    let mut holder = site.hold(&[]);
    // Reading goes on.
    assert_eq!(records(&site, &["count"]).quiet(), "0\n");
    let done = records(&site, &["write", "a", "b"]);
    assert_eq!(done.code, Some(75));
    let named = format!("holder: pid:{} since ", holder.pid());
    assert!(done.err.contains(&named), "{done:?}");
    holder.tell("go");
    assert!(holder.end().success());
}
