//! The comparison runs, its JSON has the promised keys, and no row is missing.

use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use serde_json::Value;

const KEYS: [&str; 14] = [
    "peer",
    "sync",
    "processes",
    "rate",
    "failed",
    "p50_us",
    "p99_us",
    "p999_us",
    "max_us",
    "jain",
    "min",
    "max",
    "rows_ok",
    "cpu_s",
];

#[test]
fn compare_writes_its_cells_as_json() {
    let folder = tempfile::tempdir().unwrap();
    let json = folder.path().join("cells.json");
    let mut command = bench(&["compare", "--seconds=0.2", "--processes=2"]);
    command.args(["--sync=normal", "--peers=sqlite-busy,penholder", "--svg"]);
    command.arg(folder.path().join("plots"));
    command.arg("--json").arg(&json);
    command.arg("--folder").arg(folder.path());
    assert!(ends(command).unwrap().success());
    let cells: Vec<Value> = serde_json::from_slice(&std::fs::read(&json).unwrap()).unwrap();
    assert_eq!(cells.len(), 2);
    for (cell, peer) in cells.iter().zip(["sqlite-busy", "penholder"]) {
        for key in KEYS {
            assert!(cell.get(key).is_some(), "{key} is missing in {cell}");
        }
        assert_eq!(cell["peer"], peer);
        assert_eq!(cell["sync"], "normal");
        assert_eq!(cell["processes"], 2);
        assert_eq!(cell["rows_ok"], true, "{cell}");
        assert_eq!(cell["failed"], 0, "{cell}");
        assert!(cell["rate"].as_f64().unwrap() > 0.0, "{cell}");
    }
}

fn bench(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_penholder-bench"));
    command.args(arguments).stdout(Stdio::null());
    command
}

/// How it ends within a minute; then it is killed.
fn ends(mut command: Command) -> std::io::Result<ExitStatus> {
    let mut child = Running(command.spawn()?);
    let deadline = Instant::now() + Duration::from_secs(60);
    while Instant::now() < deadline {
        if let Some(status) = child.0.try_wait()? {
            return Ok(status);
        }
        std::thread::sleep(Duration::from_millis(20));
    }
    Err(std::io::Error::other("it does not end"))
}

struct Running(Child);

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
