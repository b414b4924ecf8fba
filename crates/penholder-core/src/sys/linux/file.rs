#![expect(unsafe_code, reason = "statx without a path")]
//! What is Linux's own of the lock file: files without a name, reserved space, `statx`.

use std::ffi::{CStr, CString};
use std::fs::{File, OpenOptions};
use std::io;
use std::mem::MaybeUninit;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};

use rustix::fs::{AtFlags, CWD, FallocateFlags, fallocate, linkat};
use rustix::io::Errno;

use crate::sys::file_facts::FileFacts;
pub(crate) use crate::sys::file_id::FileId;
use crate::sys::ownership::Ownership;
pub(crate) use crate::sys::unix::file::*;

/// A file that is built completely before its name shows it: if this process dies before
/// that, nothing is left.
#[derive(Debug)]
pub(crate) struct NewFile(File);

impl NewFile {
    /// Creates a file in this directory that has no name yet.
    ///
    /// # Errors
    ///
    /// Those of `open(2)`, also where the file system has no unnamed files.
    pub(crate) fn create(directory: &Path, like: &Ownership) -> io::Result<Self> {
        let file = unnamed(directory)?;
        make_like(&file, like)?;
        Ok(Self(file))
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name is taken, and the others of `linkat(2)`.
    pub(crate) fn name(self, path: &Path) -> io::Result<()> {
        let by_number = format!("/proc/self/fd/{}", self.0.as_raw_fd());
        let flags = AtFlags::SYMLINK_FOLLOW;
        Ok(linkat(CWD, by_number, CWD, path, flags)?)
    }
}

fn unnamed(directory: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .mode(0o600)
        .custom_flags(libc::O_TMPFILE)
        .open(directory)
}

impl Deref for NewFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.0
    }
}

/// Gives a file at least this length in bytes and reserves disk space for all of it: touching
/// mapped memory without disk space behind it ends a process with SIGBUS.
///
/// # Errors
///
/// `FileTooLarge` if this process may not make files of this length: trying it would end the
/// process with SIGXFSZ.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    refuse_above_limit(length)?;
    match fallocate(file, FallocateFlags::empty(), 0, length as u64) {
        Err(Errno::OPNOTSUPP) => write_zeros(file, length),
        done => Ok(done?),
    }
}

/// Reserves disk space for the holes that a file may have: a copy of it may be sparse.
///
/// # Errors
///
/// Those of `fallocate(2)`, except where the file system has none.
pub(crate) fn fill_holes(file: &File, length: usize) -> io::Result<()> {
    if file.metadata()?.blocks().saturating_mul(512) >= length as u64 {
        return Ok(());
    }
    match fallocate(file, FallocateFlags::KEEP_SIZE, 0, length as u64) {
        Err(Errno::OPNOTSUPP) => Ok(()),
        done => Ok(done?),
    }
}

/// Asks the kernel for identity, link count and length of an open file.
pub(crate) fn facts(file: &File) -> io::Result<FileFacts> {
    static NEEDS_PATH: AtomicBool = AtomicBool::new(false);
    let of_file = |path| statx(file.as_raw_fd(), path, libc::AT_EMPTY_PATH);
    if !NEEDS_PATH.load(Ordering::Relaxed) {
        // With a null path instead of an empty one the kernel need not read it,
        // which saves an eighth of the call's time. Older kernels than Linux 6.11
        // answer `EFAULT`.
        match of_file(None) {
            Err(error) if error.raw_os_error() == Some(libc::EFAULT) => {
                NEEDS_PATH.store(true, Ordering::Relaxed);
            }
            facts => return facts,
        }
    }
    of_file(Some(c""))
}

/// Returns whether two changes of a file in this directory have different times if a process asks for
/// the time in between, as with Linux 6.13 on the usual file systems. Otherwise two changes between two
/// ticks of the clock have the same time.
pub(crate) fn tells_changes_apart(directory: &Path) -> bool {
    unnamed(directory).is_ok_and(|file| has_fine_times(&file))
}

/// Does the same as [`facts`] for a path, without opening the file and without
/// following a symbolic link.
pub(crate) fn facts_of_path(path: &Path) -> io::Result<FileFacts> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    statx(libc::AT_FDCWD, Some(&path), libc::AT_SYMLINK_NOFOLLOW)
}

/// Does the same, and follows symbolic links.
pub(crate) fn facts_of_target(path: &Path) -> io::Result<FileFacts> {
    let path = CString::new(path.as_os_str().as_bytes())?;
    statx(libc::AT_FDCWD, Some(&path), 0)
}

/// Asks for no times: after a `stat` with times the next write has to record a
/// fine-grained time, which is expensive.
fn statx(dir: RawFd, path: Option<&CStr>, flags: i32) -> io::Result<FileFacts> {
    let wanted = libc::STATX_INO | libc::STATX_NLINK | libc::STATX_SIZE;
    let path = path.map_or(std::ptr::null(), CStr::as_ptr);
    let mut stat = MaybeUninit::<libc::statx>::uninit();
    // SAFETY: the callers borrow the open file or the path until this call returns;
    // the kernel accepts the null path or refuses it; the result has room in `stat`.
    let result = unsafe { libc::statx(dir, path, flags, wanted, stat.as_mut_ptr()) };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and filled it in.
    let stat = unsafe { stat.assume_init() };
    Ok(FileFacts {
        id: FileId {
            dev: rustix::fs::makedev(stat.stx_dev_major, stat.stx_dev_minor),
            ino: stat.stx_ino,
        },
        links: stat.stx_nlink,
        len: stat.stx_size,
    })
}
