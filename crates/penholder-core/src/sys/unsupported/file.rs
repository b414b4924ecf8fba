//! The lock file. It can be read, but it is neither created nor locked.

use std::convert::Infallible;
use std::fs::{self, File};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::ops::Deref;
use std::path::{Path, PathBuf};

use super::unsupported;
use crate::sys::file_change::FileChange;
use crate::sys::file_facts::FileFacts;
pub(crate) use crate::sys::file_id::FileId;
use crate::sys::ownership::Ownership;

/// Fails before anything is created: a lock file could not be locked.
pub(crate) fn open_or_create(_path: &Path, _model: Option<&Path>) -> io::Result<File> {
    unsupported("lock files")
}

/// Fails: the file could not be used by several processes.
pub(crate) fn open_existing(_path: &Path) -> io::Result<File> {
    unsupported("shared files")
}

/// A file that is built before it has a name; no value of it exists.
#[derive(Debug)]
pub(crate) struct NewFile(Infallible);

impl NewFile {
    /// Fails.
    pub(crate) fn create(_directory: &Path, _like: &Ownership) -> io::Result<Self> {
        unsupported("files without a name")
    }

    /// Is never called: there is no such file.
    pub(crate) fn name(self, _path: &Path) -> io::Result<()> {
        match self.0 {}
    }
}

impl Deref for NewFile {
    type Target = File;

    fn deref(&self) -> &File {
        match self.0 {}
    }
}

/// Fails.
pub(crate) fn allocate(_file: &File, _length: usize) -> io::Result<()> {
    unsupported("reservations of disk space")
}

/// Fails: there is no file of ours to remove.
pub(crate) fn remove(_path: &Path) -> io::Result<()> {
    unsupported("files without a name")
}

/// Fails.
pub(crate) fn fill_holes(_file: &File, _length: usize) -> io::Result<()> {
    unsupported("reservations of disk space")
}

/// Opens a file for reading only.
///
/// # Errors
///
/// Those of [`File::open`], and `InvalidInput` for a symbolic link.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    if path.symlink_metadata()?.is_symlink() {
        let text = "the path is a symbolic link";
        return Err(io::Error::new(io::ErrorKind::InvalidInput, text));
    }
    File::open(path)
}

/// Returns `false`: a file may always be opened by several programs.
pub(crate) fn is_in_use(_error: &io::Error) -> bool {
    false
}

/// Returns `false`.
pub(crate) fn is_symbolic_link(_error: &io::Error) -> bool {
    false
}

/// Fails.
pub(crate) fn facts(_file: &File) -> io::Result<FileFacts> {
    unsupported("file identities")
}

/// Fails.
pub(crate) fn facts_of_path(_path: &Path) -> io::Result<FileFacts> {
    unsupported("file identities")
}

/// Fails.
pub(crate) fn facts_of_target(_path: &Path) -> io::Result<FileFacts> {
    unsupported("file identities")
}

/// Whether a write that can be seen shows in the time of the file at once.
pub(crate) const STAMPS_WRITES: bool = true;

/// Returns `None`: no limit is known.
pub(crate) fn size_limit() -> Option<u64> {
    None
}

/// Returns `true`: nothing is known of permissions.
pub(crate) fn may_write(_path: &Path) -> bool {
    true
}

/// Returns that it is root's alone: nobody is known to be in the way.
pub(crate) fn ownership(file: &File) -> io::Result<Ownership> {
    Ok(Ownership {
        user: 0,
        group: 0,
        mode: 0o600,
        is_regular: file.metadata()?.is_file(),
    })
}

/// Fails.
pub(crate) fn ownership_of_path(_path: &Path) -> io::Result<Ownership> {
    unsupported("file owners")
}

/// Returns 0.
#[expect(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn born(_file: &File) -> io::Result<u64> {
    Ok(0)
}

/// Fails.
pub(crate) fn changed_at(_file: &File) -> io::Result<i128> {
    unsupported("times of change")
}

/// Fails.
pub(crate) fn change_of_path(_path: &Path) -> io::Result<Option<FileChange>> {
    unsupported("times of change")
}

/// Returns `false`.
pub(crate) fn tells_changes_apart(_directory: &Path) -> bool {
    false
}

/// Fails.
pub(crate) fn is_private(_file: &File) -> io::Result<bool> {
    unsupported("file owners")
}

/// Returns the absolute path of a file or directory that exists, with links resolved.
///
/// # Errors
///
/// Those of [`fs::canonicalize`].
pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path)
}

/// Writes all of `bytes` at the start of the file; it moves the file's position.
pub(crate) fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_at(file, bytes, 0)
}

/// Writes all of `bytes` from `offset` on; it moves the file's position.
pub(crate) fn write_at(mut file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    file.seek(SeekFrom::Start(offset))?;
    file.write_all(bytes)
}

/// Reads into `bytes` from `offset` and returns how many bytes were read; fewer only
/// at the end of the file. It moves the file's position.
pub(crate) fn read_at(mut file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    file.seek(SeekFrom::Start(offset))?;
    let mut read = 0;
    while read < bytes.len() {
        match file.read(&mut bytes[read..]) {
            Ok(0) => break,
            Ok(length) => read += length,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(error) => return Err(error),
        }
    }
    Ok(read)
}

/// Fails.
pub(crate) fn try_lock(_file: &File) -> io::Result<bool> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn unlock(_file: &File) -> io::Result<()> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn try_lock_byte(_file: &File, _offset: i64) -> io::Result<bool> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn try_lock_bytes(_file: &File, _first: i64, _length: i64) -> io::Result<bool> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn unlock_bytes(_file: &File, _first: i64, _length: i64) -> io::Result<()> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn unlock_byte(_file: &File, _offset: i64) -> io::Result<()> {
    unsupported("kernel locks")
}

/// Fails.
pub(crate) fn are_bytes_locked(_file: &File, _first: i64, _length: i64) -> io::Result<bool> {
    unsupported("kernel locks")
}
