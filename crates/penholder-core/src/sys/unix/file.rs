#![expect(
    unsafe_code,
    reason = "fcntl's file description locks; closing after a fork"
)]
//! The lock file: opening it safely, what the kernel knows of it, and its locks.

use std::fs::{self, File, Metadata, OpenOptions, Permissions};
use std::io;
use std::mem::ManuallyDrop;
use std::os::fd::{AsRawFd, FromRawFd, RawFd};
use std::os::unix::fs::{FileExt, MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, UNIX_EPOCH};

use rustix::fs::{Access, AtFlags, CWD, FlockOperation, access, accessat, flock};
use rustix::io::{Errno, pwrite, retry_on_intr};

use crate::sys::file_change::FileChange;
use crate::sys::file_id::FileId;
use crate::sys::ownership::Ownership;

/// How often to open a lock file that may not be read: the process that creates it
/// sets its permission bits a moment later.
const OPEN_TRIES: u32 = 3;

/// Opens the lock file for reading and writing, creating it if it is missing.
///
/// It never follows a symbolic link, and sets close-on-exec. `model` is a file (the
/// database) whose permission bits and owner a new lock file gets, as with SQLite's
/// own sidecars.
///
/// # Errors
///
/// Those of `open(2)`; [`is_symbolic_link`] recognises a link.
pub(crate) fn open_or_create(path: &Path, model: Option<&Path>) -> io::Result<File> {
    let mut tries = 0;
    loop {
        tries += 1;
        let error = match open_existing(path) {
            Ok(file) => return Ok(file),
            Err(error) => error,
        };
        let opened = match error.kind() {
            io::ErrorKind::NotFound => create(path, model),
            _ => Err(error),
        };
        match opened {
            Ok(file) => return Ok(file),
            // Another process created or deleted it in between.
            Err(error)
                if tries < OPEN_TRIES
                    && matches!(
                        error.kind(),
                        io::ErrorKind::AlreadyExists | io::ErrorKind::PermissionDenied
                    ) =>
            {
                if error.kind() == io::ErrorKind::PermissionDenied {
                    thread::sleep(Duration::from_millis(2));
                }
            }
            Err(error) => return Err(error),
        }
    }
}

/// Opens an existing file for reading and writing, never through a symbolic link.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .write(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

fn create(path: &Path, model: Option<&Path>) -> io::Result<File> {
    refuse_non_writers(model)?;
    let model = Model::of(model);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(model.bits())
        .custom_flags(libc::O_NOFOLLOW)
        .open(path)?;
    model.apply_to(&file)?;
    Ok(file)
}

/// A file of a user who may not write the model would keep those out who may: they could not
/// open it.
#[expect(
    clippy::disallowed_methods,
    reason = "escaped by the error that it becomes"
)]
fn refuse_non_writers(model: Option<&Path>) -> io::Result<()> {
    match model {
        Some(model) if model.exists() && !may_write(model) => {
            let text = format!(
                "this user has no write permission on {}, and its file would keep writers out",
                model.display()
            );
            Err(io::Error::new(io::ErrorKind::PermissionDenied, text))
        }
        _ => Ok(()),
    }
}

/// Gives a new file, which its creator alone may use, the permission bits and the group of `like`.
pub(in crate::sys) fn make_like(file: &File, like: &Ownership) -> io::Result<()> {
    let model = Model(Some(*like));
    model.apply_to(file)?;
    if file.metadata()?.gid() != like.group {
        // Not our own group in the place of the model's.
        let bits = model.bits() & !0o070 | (model.bits() & 0o007) << 3;
        file.set_permissions(Permissions::from_mode(bits))?;
    }
    Ok(())
}

/// Lengthens a file to this length by writing zeros, where the file system reserves no space.
pub(in crate::sys) fn write_zeros(file: &File, length: usize) -> io::Result<()> {
    let present = usize::try_from(file.metadata()?.len()).unwrap_or(usize::MAX);
    let missing = vec![0; length.saturating_sub(present)];
    write_at(file, &missing, present as u64)
}

/// Refuses a length that this process may not give a file: trying it would end the process with
/// SIGXFSZ.
pub(in crate::sys) fn refuse_above_limit(length: usize) -> io::Result<()> {
    match size_limit() {
        Some(limit) if limit < length as u64 => Err(Errno::FBIG.into()),
        _ => Ok(()),
    }
}

/// The file (the database) whose permission bits and owner a new file gets, as with
/// SQLite's own sidecars.
struct Model(Option<Ownership>);

impl Model {
    fn of(path: Option<&Path>) -> Self {
        Self(path.and_then(|path| ownership_of_path(path).ok()))
    }

    fn bits(&self) -> u32 {
        self.0.as_ref().map_or(0o666, |model| model.mode & 0o666)
    }

    /// Applies the model's bits and group. The umask does not count, so that every
    /// user who may write the database may take its lock. The group is set only if
    /// it differs; if we may not change it, the file stays ours, as with SQLite's
    /// sidecars.
    fn apply_to(&self, file: &File) -> io::Result<()> {
        let Some(model) = &self.0 else {
            return Ok(());
        };
        file.set_permissions(Permissions::from_mode(self.bits()))?;
        let ours = file.metadata()?;
        if ours.gid() != model.group || ours.uid() != model.user {
            let owner = Some(model.user).filter(|_| rustix::process::geteuid().is_root());
            let _ = std::os::unix::fs::fchown(file, owner, Some(model.group));
        }
        Ok(())
    }
}

/// Opens a file for reading only, never through a symbolic link.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    OpenOptions::new()
        .read(true)
        .custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK)
        .open(path)
}

/// Returns `false`: a file may always be opened by several programs.
pub(crate) fn is_in_use(_error: &io::Error) -> bool {
    false
}

/// Returns whether opening failed because the path is a symbolic link.
pub(crate) fn is_symbolic_link(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ELOOP)
}

/// Returns how long a file this process may make, in bytes; `None` without a limit. A write
/// beyond it ends the process with SIGXFSZ, unless the process ignores that signal.
pub(crate) fn size_limit() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::Fsize).current
}

/// Returns whether this user may write the file, which is not opened.
pub(crate) fn may_write(path: &Path) -> bool {
    match accessat(CWD, path, Access::WRITE_OK, AtFlags::EACCESS) {
        // Kernels before Linux 5.8 know only the real user.
        Err(Errno::NOSYS | Errno::INVAL) => access(path, Access::WRITE_OK).is_ok(),
        answer => answer.is_ok(),
    }
}

/// Returns who owns an open file, and who may use it.
pub(crate) fn ownership(file: &File) -> io::Result<Ownership> {
    Ok(ownership_in(&file.metadata()?))
}

/// Does the same as [`ownership`] for a path, without opening the file.
pub(crate) fn ownership_of_path(path: &Path) -> io::Result<Ownership> {
    Ok(ownership_in(&path.metadata()?))
}

fn ownership_in(meta: &Metadata) -> Ownership {
    Ownership {
        user: meta.uid(),
        group: meta.gid(),
        mode: meta.mode() & 0o777,
        is_regular: meta.is_file(),
    }
}

/// Returns when a file was created, in nanoseconds since 1970; zero where the file system
/// does not say.
pub(crate) fn born(file: &File) -> io::Result<u64> {
    let born = file.metadata()?.created().ok();
    let since = born.and_then(|born| born.duration_since(UNIX_EPOCH).ok());
    Ok(since.map_or(0, |since| u64::try_from(since.as_nanos()).unwrap_or(0)))
}

/// Returns when the content or the inode of a file was last changed, in nanoseconds since 1970.
/// It cannot be set back. Every `write` sets it before its data can be seen; a store to a
/// mapping sets it only if the page is not dirty yet.
pub(crate) fn changed_at(file: &File) -> io::Result<i128> {
    let meta = file.metadata()?;
    Ok(i128::from(meta.ctime()) * 1_000_000_000 + i128::from(meta.ctime_nsec()))
}

/// Whether a write that can be seen shows in the time of the file at once.
pub(crate) const STAMPS_WRITES: bool = true;

/// Returns what shows that a file has changed, without opening it and without following a symbolic
/// link; `None` if there is no such file.
pub(crate) fn change_of_path(path: &Path) -> io::Result<Option<FileChange>> {
    match path.symlink_metadata() {
        Ok(meta) => Ok(Some(FileChange {
            beginning: 0,
            id: id_in(&meta),
            len: meta.len(),
            at: written_at(&meta),
        })),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// Returns which file this is of.
pub(in crate::sys) fn id_in(meta: &Metadata) -> FileId {
    FileId {
        dev: meta.dev(),
        ino: meta.ino(),
    }
}

/// Returns when the content of a file was last changed. That of the inode does not tell: SQLite sets
/// the owner of the files that it opens, if it runs as root.
fn written_at(meta: &Metadata) -> i128 {
    i128::from(meta.mtime()) * 1_000_000_000 + i128::from(meta.mtime_nsec())
}

/// Returns whether two changes of this file have different times if a process asks for the time in
/// between. Otherwise two changes between two ticks of the clock have the same time. It is written for
/// that.
pub(in crate::sys) fn has_fine_times(file: &File) -> bool {
    // More than once: a tick may come between two changes.
    const ROUNDS: u64 = 4;
    let change = |round| {
        write_at(file, b"x", round)?;
        Ok(written_at(&file.metadata()?))
    };
    let times: io::Result<Vec<_>> = (0..=ROUNDS).map(change).collect();
    times.is_ok_and(|times| times.windows(2).all(|pair| pair[0] != pair[1]))
}

/// Returns whether a file belongs to this user and no other user may write it.
pub(crate) fn is_private(file: &File) -> io::Result<bool> {
    let meta = file.metadata()?;
    Ok(meta.uid() == rustix::process::geteuid().as_raw() && meta.mode() & 0o022 == 0)
}

/// Frees the name of a file.
///
/// # Errors
///
/// Those of `unlink(2)`.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    fs::remove_file(path)
}

/// Returns the absolute path of a file or directory that exists, with links resolved.
///
/// # Errors
///
/// Those of [`fs::canonicalize`].
pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Writes all of `bytes` at the start of the file, in one call unless the disk is
/// full. It bypasses libc, whose `pwrite` is a cancellation point, which costs a
/// twentieth of the call.
pub(crate) fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_at(file, bytes, 0)
}

/// Writes all of `bytes` from `offset` on.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match retry_on_intr(|| pwrite(file, &bytes[written..], offset + written as u64))? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            length => written += length,
        }
    }
    Ok(())
}

/// Reads into `bytes` from `offset`, without moving the file's position, and returns
/// how many bytes were read; fewer only at the end of the file.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.read_at(&mut bytes[read..], offset + read as u64) {
            Ok(0) => break,
            Ok(length) => read += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Takes the exclusive `flock` if it is free; `false` if another process has it.
///
/// # Errors
///
/// Those of `flock(2)` except "would block", which is the answer `false`.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    match retry_on_intr(|| flock(file, FlockOperation::NonBlockingLockExclusive)) {
        Ok(()) => Ok(true),
        Err(Errno::WOULDBLOCK) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// Releases the `flock`.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    Ok(retry_on_intr(|| flock(file, FlockOperation::Unlock))?)
}

/// Takes the write lock on one byte if it is free; the byte need not exist. The lock
/// belongs to the open file description, as a `flock` does. Linux has a table for each of the two
/// kinds, macOS one for both: so no file has both.
pub(crate) fn try_lock_byte(file: &File, offset: i64) -> io::Result<bool> {
    try_lock_bytes(file, offset, 1)
}

/// Does the same for several bytes: all or none.
pub(crate) fn try_lock_bytes(file: &File, first: i64, length: i64) -> io::Result<bool> {
    match lock_bytes(file, libc::F_OFD_SETLK, WRITE, first, length) {
        Ok(_) => Ok(true),
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Releases the write lock on one byte.
pub(crate) fn unlock_byte(file: &File, offset: i64) -> io::Result<()> {
    unlock_bytes(file, offset, 1)
}

/// Releases the write locks on these bytes.
pub(crate) fn unlock_bytes(file: &File, first: i64, length: i64) -> io::Result<()> {
    lock_bytes(file, libc::F_OFD_SETLK, NONE, first, length).map(|_| ())
}

/// Returns whether another open file description has a lock on any of these bytes;
/// takes no lock.
pub(crate) fn are_bytes_locked(file: &File, first: i64, length: i64) -> io::Result<bool> {
    let found = lock_bytes(file, libc::F_OFD_GETLK, WRITE, first, length)?;
    Ok(found.l_type != NONE)
}

/// The two kinds, whose type differs between platforms. They are small numbers.
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    reason = "see above"
)]
const WRITE: libc::c_short = libc::F_WRLCK as libc::c_short;
#[allow(
    clippy::unnecessary_cast,
    clippy::cast_possible_truncation,
    reason = "see above"
)]
const NONE: libc::c_short = libc::F_UNLCK as libc::c_short;

fn lock_bytes(
    file: &File,
    command: i32,
    kind: libc::c_short,
    first: i64,
    length: i64,
) -> io::Result<libc::flock> {
    let mut lock = libc::flock {
        l_type: kind,
        l_whence: 0, // SEEK_SET
        l_start: first,
        l_len: length,
        l_pid: 0, // the kernel requires it for these commands
    };
    loop {
        // SAFETY: the descriptor is open while `file` is borrowed, and these commands
        // touch nothing but `lock`, a `struct flock` of ours.
        let done = unsafe { libc::fcntl(file.as_raw_fd(), command, &raw mut lock) };
        if done != -1 {
            return Ok(lock);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
        }
    }
}

/// Closes a file of our own. The caller must not touch it again.
pub(crate) fn close(file: &mut ManuallyDrop<File>) {
    // SAFETY: only `Descriptor::drop` calls this, once, and does not use `file` after.
    unsafe { ManuallyDrop::drop(file) };
}

/// Closes a descriptor that a forked child inherited, without unlocking: the
/// lock belongs to the open file description, which the parent still has.
///
/// Only for the child handler of a fork: the caller guarantees that `fd` is an
/// inherited descriptor of ours which nothing in this process will use or close
/// again.
pub(crate) fn close_inherited(fd: RawFd) {
    // SAFETY: `DescriptorsGuard::close_inherited` calls this once for each descriptor
    // of its table, in a forked child, and the `Descriptor`s that own the numbers see
    // the new fork generation and never touch or close them again.
    drop(unsafe { File::from_raw_fd(fd) });
}
