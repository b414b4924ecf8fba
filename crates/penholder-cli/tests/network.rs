//! A file system that other machines may write is refused, unless the user says
//! that none does. A FUSE mount (`bindfs`) stands for all of them.
#![cfg(test)]

use std::path::Path;
use std::process::{Command, Output};

use penholder_testkit::requirement;

/// A folder seen through FUSE, until dropped.
struct Mount {
    folder: tempfile::TempDir,
}

impl Mount {
    /// `None`, said aloud, where this cannot be done.
    fn new() -> Option<Self> {
        if !requirement::has_program("bindfs") {
            return None;
        }
        let folder = tempfile::tempdir().unwrap();
        for name in ["real", "seen"] {
            std::fs::create_dir(folder.path().join(name)).unwrap();
        }
        let mounted = Command::new("bindfs")
            .arg(folder.path().join("real"))
            .arg(folder.path().join("seen"))
            .status();
        if !mounted.unwrap().success() {
            requirement::skip("to mount FUSE, which is not allowed here");
            return None;
        }
        Some(Self { folder })
    }

    fn seen(&self) -> std::path::PathBuf {
        self.folder.path().join("seen")
    }
}

impl Drop for Mount {
    fn drop(&mut self) {
        let _ = Command::new("umount").arg(self.seen()).status();
    }
}

fn penholder(folder: &Path, words: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_penholder"))
        .args(words)
        .current_dir(folder)
        .output()
        .unwrap()
}

#[test]
fn a_shared_file_system_is_refused_unless_allowed() {
    let Some(mount) = Mount::new() else {
        return;
    };
    let folder = mount.seen();
    for words in [
        ["exec", "x.db", "CREATE TABLE t(a)"].as_slice(),
        &["stress", "x.db"],
        &["run", "x.db", "--", "true"],
    ] {
        let refused = penholder(&folder, words);
        let said = String::from_utf8_lossy(&refused.stderr).into_owned();
        assert_eq!(refused.status.code(), Some(1), "{said}");
        assert!(said.contains("network file system (fuse"), "{said}");
        assert!(said.contains("--allow-network-fs"), "{said}");
    }
    let left: Vec<_> = std::fs::read_dir(&folder).unwrap().collect();
    assert!(
        left.is_empty(),
        "nothing is created before the refusal: {left:?}"
    );

    let words = ["exec", "x.db", "CREATE TABLE t(a)", "--allow-network-fs"];
    assert!(penholder(&folder, &words).status.success());
    assert!(
        !penholder(&folder, &["query", "x.db", "SELECT * FROM t"])
            .status
            .success()
    );
    let words = ["query", "x.db", "SELECT * FROM t", "--allow-network-fs"];
    assert!(penholder(&folder, &words).status.success());
}
