//! The Python peer: a worker that uses Python's `sqlite3` module.

use std::process::Command;
use std::time::Duration;

use crate::peer::setting::Setting;
use crate::table::{INSERT, TEXT};

const SCRIPT: &str = include_str!("worker.py");

/// The command that starts a worker in Python. It reads and writes the same lines
/// as a worker of this program.
pub(crate) fn worker(setting: &Setting, think: Duration, once: bool) -> Command {
    let mut command = Command::new("python3");
    command.arg("-c").arg(SCRIPT);
    command.arg(&setting.database).arg(setting.sync.to_string());
    command.arg(setting.number.to_string());
    command.arg(setting.timeout.as_secs_f64().to_string());
    command.arg(think.as_secs_f64().to_string());
    command.arg(if once { "once" } else { "loop" });
    command.arg(INSERT).arg(TEXT);
    command
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
