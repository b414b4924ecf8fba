//! The files that a process has open, as `libproc` shows them.

use std::path::{Path, PathBuf};

use super::libproc::{self, OpenVnode};
use crate::sys::file_id::FileId;

/// What the kernel appends to the name of a file that has none any more.
pub(in crate::sys) const DELETED: &str = "";

/// `FREAD` and `FWRITE` of `sys/fcntl.h`, as the kernel notes them.
const WRITES: u32 = 2;
/// `FWASLOCKED`, which was `FHASLOCK`: the descriptor has a `flock`, or has had one.
const HAS_HAD_LOCK: u32 = 0x4000;

/// A file that a process has open.
pub(in crate::sys) struct ProcessFile(OpenVnode);

/// Returns the files that a process has open; `None` if they may not be read.
pub(in crate::sys) fn of(pid: u32) -> Option<impl Iterator<Item = ProcessFile>> {
    let is_file = |one: &libc::proc_fdinfo| {
        i32::try_from(one.proc_fdtype).is_ok_and(|kind| kind == libc::PROX_FDTYPE_VNODE)
    };
    let descriptors = libproc::descriptors(pid)?.into_iter().filter(is_file);
    // It may have been closed since.
    Some(descriptors.filter_map(move |one| libproc::vnode(pid, one.proc_fd).map(ProcessFile)))
}

/// Returns whether the process has, or has had, a `flock` by this descriptor: the kernel keeps the flag
/// when the lock is released.
pub(in crate::sys) fn has_had_flock(open: &ProcessFile) -> bool {
    open.0.open_flags() & HAS_HAD_LOCK != 0
}

impl ProcessFile {
    /// Returns where it leads.
    pub(in crate::sys) fn target(&self) -> &Path {
        self.0.path()
    }

    /// Returns where it leads, with ` (deleted)` after the path of a file that has no name any more.
    pub(in crate::sys) fn shown_path(self) -> PathBuf {
        let mut path = self.target().as_os_str().to_owned();
        if self.0.stat().vst_nlink == 0 {
            path.push(" (deleted)");
        }
        path.into()
    }

    /// Returns which file it is, and how many names that has.
    #[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
    pub(in crate::sys) fn identity(&self) -> Option<(FileId, u64)> {
        let stat = self.0.stat();
        // As `std` gives it: the number has a sign.
        let dev = i64::from(stat.vst_dev.cast_signed()).cast_unsigned();
        let ino = stat.vst_ino;
        Some((FileId { dev, ino }, stat.vst_nlink.into()))
    }

    pub(in crate::sys) fn is_writable(&self) -> bool {
        self.0.open_flags() & WRITES != 0
    }
}
