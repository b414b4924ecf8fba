//! The Python peer: a worker that uses Python's `sqlite3` module.

use std::error::Error;
use std::process::Command;

use crate::peer::setting::Setting;
use crate::task::Task;

/// The workloads, and the worker that runs them.
const SCRIPT: &str = concat!(include_str!("workloads.py"), include_str!("worker.py"));

/// The command that starts a worker in Python. It reads and writes the same lines
/// as a worker of this program.
pub(crate) fn worker(setting: &Setting) -> Result<Command, Box<dyn Error>> {
    let Task::Workload(workload) = setting.task else {
        return Err("Python has only the workloads".into());
    };
    let mut command = Command::new("python3");
    command.arg("-c").arg(SCRIPT);
    command.arg(serde_json::to_string(setting)?);
    command.arg(workload.to_string());
    command.arg(workload.parts().to_string());
    Ok(command)
}

/// Returns the versions of Python and of its SQLite, or why the peer cannot run.
pub(crate) fn version() -> Result<String, String> {
    let script = "import sys, sqlite3; print(sys.version.split()[0], sqlite3.sqlite_version)";
    let output = Command::new("python3")
        .args(["-c", script])
        .output()
        .map_err(|e| format!("start python3: {e}"))?;
    let text = String::from_utf8_lossy(&output.stdout);
    match text.trim().split_once(' ') {
        Some((python, sqlite)) if output.status.success() => {
            Ok(format!("Python {python} (SQLite {sqlite})"))
        }
        _ => Err("python3 has no module sqlite3".into()),
    }
}
