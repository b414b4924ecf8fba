//! Proves that a file system that other machines may write is refused, unless the user
//! allows it. A FUSE mount (`bindfs`) stands for all such file systems.
#![cfg(test)]
#![cfg(unix)] // file systems in user space

use std::path::Path;
use std::process::{Command, Output};

use penholder_testkit::requirement;

/// A directory mounted through FUSE, unmounted when dropped.
struct Mount {
    directory: tempfile::TempDir,
}

impl Mount {
    /// Mounts a new directory.
    ///
    /// Returns `None`, and reports a skipped test, if that is not possible here.
    fn new() -> Option<Self> {
        if !requirement::has_program("bindfs") {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        for name in ["real", "mounted"] {
            std::fs::create_dir(directory.path().join(name)).unwrap();
        }
        let mounted = Command::new("bindfs")
            .arg(directory.path().join("real"))
            .arg(directory.path().join("mounted"))
            .status();
        if !mounted.unwrap().success() {
            requirement::skip("to mount FUSE, which is not allowed here");
            return None;
        }
        Some(Self { directory })
    }

    fn path(&self) -> std::path::PathBuf {
        self.directory.path().join("mounted")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.path()).status();
    }
}

fn penholder(directory: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penholder"))
        .args(args)
        .current_dir(directory)
        .output()
        .unwrap()
}

#[test]
fn a_shared_file_system_is_refused_unless_allowed() {
    let Some(mount) = Mount::new() else {
        return;
    };
    let directory = mount.path();
    for args in [
        ["exec", "x.db", "CREATE TABLE t(a)"].as_slice(),
        &["stress", "x.db"],
        &["run", "x.db", "--create", "--", "true"],
    ] {
        let refused = penholder(&directory, args);
        let message = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{message}");
        assert!(message.contains("network file system (fuse"), "{message}");
        assert!(message.contains("--allow-network-fs"), "{message}");
    }
    let file_names: Vec<_> = std::fs::read_dir(&directory).unwrap().collect();
    assert!(
        file_names.is_empty(),
        "nothing is created before the refusal: {file_names:?}"
    );

    let args = ["exec", "x.db", "CREATE TABLE t(a)", "--allow-network-fs"];
    assert!(penholder(&directory, &args).status.success());
    assert!(
        !penholder(&directory, &["query", "x.db", "SELECT * FROM t"])
            .status
            .success()
    );
    let args = ["query", "x.db", "SELECT * FROM t", "--allow-network-fs"];
    assert!(penholder(&directory, &args).status.success());
}
