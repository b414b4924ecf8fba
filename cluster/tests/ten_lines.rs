//! The lines of the README work as written.
#![cfg(test)]

mod support;

use std::fs;
use std::os::unix::fs::symlink;
use std::process::Command;

/// The part of the README about clusters.
const HEADING: &str = "## On several machines";

/// Returns the commands of the first block after the heading.
fn commands(readme: &str) -> Vec<&str> {
    let (_, part) = readme.split_once(HEADING).unwrap();
    let (_, block) = part.split_once("```console\n").unwrap();
    let (block, _) = block.split_once("```").unwrap();
    block
        .lines()
        .filter_map(|line| line.strip_prefix("$ "))
        .collect()
}

#[test]
fn the_ten_lines_of_the_readme_work_as_written() {
    let readme = fs::read_to_string("../README.md").unwrap();
    let commands = commands(&readme);
    assert!(commands.len() >= 9, "{commands:?}");
    let directory = tempfile::tempdir().unwrap();
    // `penholder` hands the words of these commands over as they are.
    let program = env!("CARGO_BIN_EXE_penholder-cluster");
    symlink(program, directory.path().join("penholder")).unwrap();
    let mut script = "set -e\ntrap 'kill -9 $(jobs -p); wait' EXIT\n".to_owned();
    // The first one installs what this test has built.
    for command in commands
        .into_iter()
        .filter(|command| !command.contains("cargo install"))
    {
        script += &format!("{command}\n");
    }
    let path = format!("{}:{}", directory.path().to_str().unwrap(), env!("PATH"));
    let output = Command::new("timeout")
        .args(["120", "bash", "-c", &script])
        .current_dir(directory.path())
        .env("PATH", path)
        .output()
        .unwrap();
    let (printed, error) = (
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    );
    assert!(output.status.success(), "{script}{printed}{error}");
    assert!(printed.ends_with("hello\n"), "{printed}{error}");
}
