//! What a test needs that each system does in its own way.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Makes a FIFO.
pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(path)
        .status();
    assert!(made.unwrap().success(), "mkfifo");
}

/// Resolves a path that exists, and spells it as penholder does: without the prefix `\\?\` of Windows.
pub fn canonical(path: &Path) -> PathBuf {
    let path = path.canonicalize().unwrap();
    match path.to_str().and_then(|path| path.strip_prefix(r"\\?\")) {
        Some(path) if cfg!(windows) => PathBuf::from(path),
        _ => path,
    }
}

/// Has the kernel kill this forked child when its parent ends, where it does that. Elsewhere it runs to
/// its end.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
}
