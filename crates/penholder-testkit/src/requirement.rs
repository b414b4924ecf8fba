//! What a test needs from the machine.
//!
//! Each check reports what is missing, and the test that called it then returns early.

use std::io::Write;
use std::process::{Command, Stdio};

/// Reports that a test is skipped because it needs `what`.
///
/// The message goes to standard error directly: the test runner captures what
/// `eprintln!` writes and shows it only if the test fails.
pub fn skip(what: &str) {
    let line = format!("SKIPPED: this test needs {what}\n");
    let _ = std::io::stderr().write_all(line.as_bytes());
}

/// Returns whether a program can be started.
pub fn has_program(program: &str) -> bool {
    let found = Command::new(program)
        .arg("--version")
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok();
    if !found {
        skip(&format!("the program {program}, which is not installed"));
    }
    found
}

/// Whether the kernel tells which process holds a lock. macOS does not, nor does its double on Linux, nor
/// Windows.
pub const NAMES_HOLDERS: bool = cfg!(all(target_os = "linux", not(penholder_macos_rules)));

/// Returns whether the kernel tells which process holds a lock.
pub fn names_holders() -> bool {
    // On Windows the queue file tells of all that queue.
    let names = NAMES_HOLDERS || cfg!(windows);
    if !names {
        skip("a kernel that tells which process holds a lock");
    }
    names
}

/// Returns whether this process runs as root, which nobody is on Windows.
pub fn is_root() -> bool {
    #[cfg(unix)]
    let root = rustix::process::geteuid().is_root();
    #[cfg(windows)]
    let root = false;
    if !root {
        skip("to be run by root");
    }
    root
}

/// Returns whether this process runs in the machine's first pid namespace.
pub fn is_first_pid_namespace() -> bool {
    // `PROC_PID_INIT_INO` of the kernel.
    let namespace = std::fs::read_link("/proc/self/ns/pid");
    let first = namespace.is_ok_and(|link| link.as_os_str() == "pid:[4026531836]");
    if !first {
        skip("the first pid namespace");
    }
    first
}

/// Returns whether a process can be started in a pid namespace of its own.
pub fn has_pid_namespaces() -> bool {
    if !is_root() || !has_program("unshare") {
        return false;
    }
    let mut unshare = Command::new("unshare");
    unshare.args(["--pid", "--fork", "--mount-proc", "true"]);
    let allowed = unshare.status().unwrap().success();
    if !allowed {
        skip("pid namespaces, which are not allowed here");
    }
    allowed
}

/// Returns whether a process can mount files in a mount namespace of its own.
pub fn has_mount_namespaces() -> bool {
    if !is_root() || !has_program("unshare") {
        return false;
    }
    let script = "touch a b && mount --bind a b";
    let directory = tempfile::tempdir().unwrap();
    let mut unshare = Command::new("unshare");
    unshare
        .args(["--mount", "--propagation", "private", "sh", "-c", script])
        .current_dir(directory.path());
    let allowed = unshare.status().unwrap().success();
    if !allowed {
        skip("to mount files in a mount namespace, which is not allowed here");
    }
    allowed
}
