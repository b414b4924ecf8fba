//! What a test needs that not each Unix system has as a function.

use std::path::Path;
use std::process::Command;

/// Makes a FIFO.
pub fn make_fifo(path: &Path) {
    let made = Command::new("mkfifo")
        .args(["-m", "600"])
        .arg(path)
        .status();
    assert!(made.unwrap().success(), "mkfifo");
}

/// Has the kernel kill this forked child when its parent ends, where it does that. Elsewhere it runs to
/// its end.
pub fn end_with_parent() {
    #[cfg(target_os = "linux")]
    rustix::process::set_parent_process_death_signal(Some(rustix::process::Signal::KILL)).unwrap();
}
