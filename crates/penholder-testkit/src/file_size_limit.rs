//! The limit on the size of the files that a process writes, as a stand-in for a full disk.

use std::process::Command;

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::peer;

/// Sets this process's limit in bytes, or lifts it with `None`.
pub fn set(bytes: Option<u64>) {
    let maximum = getrlimit(Resource::Fsize).maximum;
    let current = bytes.or(maximum);
    setrlimit(Resource::Fsize, Rlimit { current, maximum }).unwrap();
}

/// Returns the same command, run with `SIGXFSZ` ignored: a write past the limit then
/// fails with an error and does not kill the process.
pub fn with_signal_ignored(command: &Command) -> Command {
    let shell = ["sh", "-c", "trap '' XFSZ; exec \"$0\" \"$@\""];
    peer::wrapped(&shell, command)
}
