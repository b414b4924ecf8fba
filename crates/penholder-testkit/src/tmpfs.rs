//! A small file system in memory.

use std::fs::File;
use std::io::Write;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::requirement;

/// A mounted tmpfs, unmounted when dropped.
#[derive(Debug)]
pub struct Tmpfs {
    directory: TempDir,
}

impl Tmpfs {
    /// Mounts a tmpfs of this size, as `mount -o size=` takes it.
    ///
    /// Returns `None`, and reports a skipped test, if mounting is not allowed.
    pub fn mount(size: &str) -> Option<Self> {
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

    /// Returns the path of a file in it.
    pub fn join(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// Fills it up to the last byte with a file of this name.
    pub fn fill(&self, name: &str) {
        let mut file = File::create(self.join(name)).unwrap();
        let block = [1; 512];
        while file.write_all(&block).is_ok() {}
    }
}

impl Drop for Tmpfs {
    fn drop(&mut self) {
        // Lazy, because a process may still have a file open there for a moment.
        let mut umount = Command::new("umount");
        let _ = umount.arg("-l").arg(self.directory.path()).status();
    }
}
