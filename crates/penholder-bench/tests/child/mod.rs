//! Runs the benchmarks as a child process.

use std::io::Read;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// Runs a command that must succeed within a minute, and returns what it printed.
pub(crate) fn printed(command: &mut Command) -> String {
    let mut child = KillOnDrop(command.stdout(Stdio::piped()).spawn().unwrap());
    let deadline = Instant::now() + Duration::from_secs(60);
    // What it prints fits into the pipe, so it cannot block before it exits.
    let status = loop {
        if let Some(status) = child.0.try_wait().unwrap() {
            break status;
        }
        assert!(Instant::now() < deadline, "the benchmark does not exit");
        std::thread::sleep(Duration::from_millis(20));
    };
    let mut text = String::new();
    let mut output = child.0.stdout.take().unwrap();
    output.read_to_string(&mut text).unwrap();
    assert!(status.success(), "{status}: {text}");
    text
}

struct KillOnDrop(Child);

impl Drop for KillOnDrop {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
