//! This process, and other processes, of which nothing is known here.

use std::path::{Path, PathBuf};

pub(crate) use crate::sys::identity::Identity;
use crate::sys::process_state::ProcessState;

/// Returns `false`.
pub(crate) fn has_several_processors() -> bool {
    false
}

impl Identity {
    /// Returns the pid and the command line.
    pub(crate) fn of_this_process() -> Self {
        let mut words = std::env::args_os();
        let program = words.next().unwrap_or_default();
        let program = Path::new(&program);
        let mut cmd = program.file_name().unwrap_or_default().to_owned();
        for word in words {
            cmd.push(" ");
            cmd.push(word);
        }
        Self {
            pid: std::process::id(),
            start: None,
            pidns: None,
            cmd: cmd.to_string_lossy().into_owned(),
        }
    }
}

/// Returns 0: the boot is not known.
pub(crate) fn boot() -> u64 {
    0
}

/// Returns `None`.
pub(crate) fn own_pidns() -> Option<u64> {
    None
}

/// Returns `false`: other processes are not visible.
pub(crate) fn is_in_first_pidns() -> bool {
    false
}

/// Returns `None`.
pub(crate) fn pidns(_pid: u32) -> Option<u64> {
    None
}

/// Returns `false`.
pub(crate) fn is_visible(_pid: u32) -> bool {
    false
}

/// Returns `None`.
pub(crate) fn start(_pid: u32) -> Option<u64> {
    None
}

/// Returns `true`: nothing is known of other processes.
pub(crate) fn lives(_pid: u32, _start: u64) -> bool {
    true
}

/// Returns [`ProcessState::Unknown`].
pub(crate) fn state(_pid: u32, _start: Option<u64>) -> ProcessState {
    ProcessState::Unknown
}

/// Returns `None`.
pub(crate) fn cmd(_pid: u32) -> Option<String> {
    None
}

/// Finds no process.
pub(crate) fn ancestors(_pid: u32) -> Vec<u32> {
    Vec::new()
}

/// Returns `None`.
pub(crate) fn own_id() -> Option<(u32, u64)> {
    None
}

/// Finds no process.
pub(crate) fn own_ancestors(_last: (u32, u64)) -> Vec<(u32, u64)> {
    Vec::new()
}

/// Finds no file.
pub(crate) fn code_files(_pid: u32) -> Vec<PathBuf> {
    Vec::new()
}
