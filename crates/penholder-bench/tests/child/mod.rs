//! Runs the benchmarks as a child process.

// Each test program uses some of these functions.
#![allow(dead_code)]

use std::io::Read;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// The benchmarks, which find a relative path of theirs in this directory.
pub(crate) fn benchmark(directory: &Path) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penholder-bench"));
    command.current_dir(directory);
    command
}

/// Runs a command that must succeed within a minute, and returns what it printed.
pub(crate) fn printed(command: &mut Command) -> String {
    let mut child = KillOnDrop(command.stdout(Stdio::piped()).spawn().unwrap());
    wait(&mut child);
    let mut text = String::new();
    let mut output = child.0.stdout.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    text
}

/// Runs a command that must succeed within a minute, and returns what it printed to
/// standard error.
pub(crate) fn errors(command: &mut Command) -> String {
    let mut child = KillOnDrop(command.stderr(Stdio::piped()).spawn().unwrap());
    wait(&mut child);
    let mut text = String::new();
    let mut output = child.0.stderr.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    text
}

/// What the child prints fits into the pipe, so it cannot block before it exits.
fn wait(child: &mut KillOnDrop) {
    let deadline = Instant::now() + Duration::from_secs(60);
    loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            assert!(status.success(), "{status}");
            return;
        }
        assert!(Instant::now() < deadline, "the benchmark does not exit");
        std::thread::sleep(Duration::from_millis(20));
    }
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
