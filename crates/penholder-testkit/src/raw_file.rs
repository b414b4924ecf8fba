//! Files as a program without penholder accesses them: bytes, identities, locks on bytes.

use std::fs::{self, File};
use std::io;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use crate::{requirement, sys};

/// Reads all of `bytes` from an offset on.
///
/// # Errors
///
/// The file cannot be read, or is too short.
pub fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<()> {
    sys::read_at(file, bytes, offset)
}

/// Writes all of `bytes` from an offset on.
///
/// # Errors
///
/// The file cannot be written.
pub fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    sys::write_at(file, bytes, offset)
}

/// Returns a number that the file has as long as it is this file: the inode on Unix.
pub fn number(path: &Path) -> u64 {
    sys::file_number(path)
}

/// Locks these bytes for as long as the file is open, if they are free.
pub fn try_lock(file: &File, first: i64, length: i64) -> bool {
    sys::try_lock(file, first, length)
}

/// Returns whether another open file has a lock on any of these bytes.
pub fn is_locked(file: &File, first: i64, length: i64) -> bool {
    sys::is_locked(file, first, length)
}

/// Makes a symbolic link, which on Windows says whether it leads to a directory. Returns `false` after
/// saying that the test is skipped: Wine pretends to make one.
pub fn link(target: &Path, link: &Path) -> bool {
    #[cfg(unix)]
    let made = std::os::unix::fs::symlink(target, link);
    #[cfg(windows)]
    let made = match target.is_dir() {
        true => std::os::windows::fs::symlink_dir(target, link),
        false => std::os::windows::fs::symlink_file(target, link),
    };
    made.unwrap();
    let is_made = link.symlink_metadata().is_ok_and(|meta| meta.is_symlink());
    if !is_made {
        requirement::skip("symbolic links");
    }
    is_made
}

/// Frees the name of a file, which may be open. Wine keeps the name of an open file until it is closed,
/// so there the file gets another name first.
pub fn remove(path: &Path) {
    if cfg!(unix) {
        return fs::remove_file(path).unwrap();
    }
    rename_away(path);
    await_notice();
}

/// Frees the name of a file, which may be open, or missing.
pub fn remove_if_there(path: &Path) {
    if cfg!(unix) {
        let _ = fs::remove_file(path);
    } else if path.exists() {
        remove(path);
    }
}

/// Gives a file the name of another one, which may be open.
pub fn replace(path: &Path, by: &Path) {
    if cfg!(unix) {
        return fs::rename(by, path).unwrap();
    }
    let mut tries = 0;
    while let Err(error) = fs::rename(by, path) {
        tries += 1;
        assert!(tries < 100, "{error}");
        rename_away(path);
    }
    await_notice();
}

/// Does nothing if another process has just renamed it.
fn rename_away(path: &Path) {
    static NUMBER: AtomicU32 = AtomicU32::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let other = path.with_extension(format!("{number}.removed"));
    let mut tries = 0;
    while let Err(error) = fs::rename(path, &other) {
        if error.kind() == io::ErrorKind::NotFound {
            return;
        }
        // While another process looks at it, Wine does not rename it.
        tries += 1;
        assert!(tries < 100, "{error}");
        thread::sleep(Duration::from_millis(1));
    }
    let _ = fs::remove_file(&other);
}

/// Wine does not show the deletion of an open file, and another one under its path is noticed after
/// this time.
fn await_notice() {
    thread::sleep(Duration::from_millis(110));
}
