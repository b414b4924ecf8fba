#![expect(unsafe_code, reason = "descriptors that are known by their numbers")]
//! What this process has open.

use std::ffi::OsStr;
use std::fs;
use std::os::fd::BorrowedFd;
use std::os::unix::ffi::OsStrExt;
use std::path::PathBuf;

/// Returns the paths of what this process has open.
pub(crate) fn paths() -> impl Iterator<Item = PathBuf> {
    let entries = fs::read_dir("/dev/fd").into_iter().flatten().flatten();
    entries.filter_map(|entry| {
        let number = entry
            .file_name()
            .to_str()?
            .parse()
            .ok()
            .filter(|&number| number >= 0)?;
        // SAFETY: only its path is asked for, which fails if it was closed meanwhile, and tells that of
        // another file if it was opened again.
        let file = unsafe { BorrowedFd::borrow_raw(number) };
        let path = rustix::fs::getpath(file).ok()?;
        Some(PathBuf::from(OsStr::from_bytes(path.to_bytes())))
    })
}
