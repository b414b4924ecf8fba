//! A small file system in memory.

use std::fs::File;
use std::io::Write;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::peer::Peer;
use crate::requirement;

/// A mounted tmpfs, unmounted when dropped.
#[derive(Debug)]
struct Tmpfs {
    directory: TempDir,
}

impl Tmpfs {
    /// Mounts a tmpfs of this size, as `mount -o size=` takes it.
    ///
    /// Returns `None`, and reports a skipped test, if mounting is not allowed.
    fn mount(size: &str) -> Option<Self> {
        if !requirement::is_root() {
            return None;
        }
        let directory = tempfile::tempdir().unwrap();
        let mut mount = Command::new("mount");
        mount.args(["-t", "tmpfs", "-o", &format!("size={size}"), "tmpfs"]);
        if mount.arg(directory.path()).status().unwrap().success() {
            return Some(Self { directory });
        }
        requirement::skip("to mount a tmpfs, which is not allowed here");
        None
    }
}

/// Plays a role of this test file on a tmpfs of this size, whose directory is its argument,
/// until it sends `done`.
///
/// The role has a process of its own. In the test's process, other tests start children
/// meanwhile. Such a child has every open file until its program runs, and a file that is
/// removed keeps its space for that long.
#[track_caller]
pub fn play(role: &str, size: &str) {
    let Some(tmpfs) = Tmpfs::mount(size) else {
        return;
    };
    let mut peer = Peer::start(role, [tmpfs.directory.path()]);
    peer.expect("done");
    assert!(peer.close().success());
}

/// Fills a file system up to the last byte with a new file.
pub fn fill(path: &Path) {
    let mut file = File::create(path).unwrap();
    let block = [1; 512];
    while file.write_all(&block).is_ok() {}
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazy, because a process may still have a file open there for a moment.
        let mut umount = Command::new("umount");
        let _ = umount.arg("-l").arg(self.directory.path()).status();
    }
}
