//! The import is measured beside the shell, and without one it says what it skips.

#![cfg(test)]

use std::io::Read;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

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
fn without_a_shell_the_ratio_is_skipped_aloud() {
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

/// What a short run says; nothing where the command was not built.
fn measured(path: Option<&str>) -> Option<String> {
    let bench = Path::new(env!("CARGO_BIN_EXE_penholder-bench"));
    if !bench.with_file_name("penholder").exists() {
        eprintln!("SKIPPED: this test needs the command penholder, which is not built");
        return None;
    }
    let folder = tempfile::tempdir().unwrap();
    let mut command = Command::new(bench);
    command.args(["import", "--rows=20000", "--writers=2", "--runs=1"]);
    command.arg("--folder").arg(folder.path());
    if let Some(path) = path {
        command.env("PATH", path);
    }
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let deadline = Instant::now() + Duration::from_secs(60);
    while child.try_wait().unwrap().is_none() {
        if Instant::now() > deadline {
            let _ = child.kill();
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    let mut text = String::new();
    let mut output = child.stdout.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(child.wait().unwrap().success(), "{text}");
    Some(text)
}
