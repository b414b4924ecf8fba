//! `import` compares with the sqlite3 shell, and says so if there is none.

#![cfg(test)]

mod child;

use std::path::Path;
use std::process::Command;

#[test]
fn an_import_is_measured_while_others_write() {
    let Some(text) = measured(None) else {
        return;
    };
    assert!(text.contains("run 1: import "), "{text}");
    assert!(text.contains("all: import "), "{text}");
    assert!(text.contains("concurrent writes: wait p50 "), "{text}");
    assert!(
        text.contains("of the shell's") || text.contains("SKIPPED"),
        "{text}"
    );
}

#[test]
fn without_a_shell_the_ratio_is_reported_as_skipped() {
    let Some(text) = measured(Some("")) else {
        return;
    };
    assert!(
        text.contains("SKIPPED: there is no sqlite3 shell"),
        "{text}"
    );
    assert!(!text.contains("of the shell's"), "{text}");
    assert!(text.contains("all: import "), "{text}");
}

/// Returns what a short run prints, or `None` if the command `penholder` is not built.
fn measured(path: Option<&str>) -> Option<String> {
    let bench = Path::new(env!("CARGO_BIN_EXE_penholder-bench"));
    if !bench.with_file_name("penholder").exists() {
        eprintln!("SKIPPED: this test needs the command penholder, which is not built");
        return None;
    }
    let directory = tempfile::tempdir().unwrap();
    let mut command = Command::new(bench);
    command.args(["import", "--rows=20000", "--writers=2", "--runs=1"]);
    command.arg("--directory").arg(directory.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    Some(child::printed(&mut command))
}
