//! The signals that this process ignores.

use std::fs;

/// Returns whether this process ignores a signal.
pub(crate) fn is_ignored(signal: i32) -> bool {
    ignored().is_some_and(|ignored| ignored & (1 << (signal - 1)) != 0)
}

/// The mask of signals that this process ignores, the lowest bit for signal 1.
fn ignored() -> Option<u64> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    let mask = status
        .lines()
        .find_map(|line| line.strip_prefix("SigIgn:"))?;
    u64::from_str_radix(mask.trim(), 16).ok()
}
