#![expect(
    unsafe_code,
    reason = "LockFileEx, the identity of a file, renaming without replacing"
)]
//! The lock file: opening it safely, what the kernel knows of it, and its locks.
//!
//! Every lock here is an exclusive one on single bytes, and is released byte by byte: Windows
//! unlocks only ranges that were locked as they are.

use std::ffi::{OsStr, OsString};
use std::fs::{self, File, OpenOptions};
use std::hash::{BuildHasher, DefaultHasher, Hash, Hasher, RandomState};
use std::io;
use std::mem::{self, MaybeUninit};
use std::ops::Deref;
use std::os::windows::ffi::OsStrExt;
use std::os::windows::fs::{FileExt, MetadataExt, OpenOptionsExt};
use std::os::windows::io::AsRawHandle;
use std::path::{Component, Path, PathBuf, Prefix};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::{
    ERROR_ACCESS_DENIED, ERROR_INVALID_FUNCTION, ERROR_INVALID_PARAMETER, ERROR_IO_PENDING,
    ERROR_LOCK_VIOLATION, ERROR_NOT_LOCKED, ERROR_NOT_SUPPORTED, ERROR_SHARING_VIOLATION,
    ERROR_STOPPED_ON_SYMLINK,
};
use windows_sys::Win32::Storage::FileSystem::{
    BY_HANDLE_FILE_INFORMATION, FILE_FLAG_BACKUP_SEMANTICS, FILE_FLAG_OPEN_REPARSE_POINT,
    FILE_GENERIC_READ, FILE_ID_INFO, FILE_INFO_BY_HANDLE_CLASS, FILE_READ_ATTRIBUTES,
    FILE_STANDARD_INFO, FileIdInfo, FileStandardInfo, GetFileInformationByHandle,
    GetFileInformationByHandleEx, LOCKFILE_EXCLUSIVE_LOCK, LOCKFILE_FAIL_IMMEDIATELY, LockFileEx,
    MOVE_FILE_FLAGS, MoveFileExW, UnlockFileEx,
};
use windows_sys::Win32::System::IO::OVERLAPPED;

use super::access;
use super::error_code::has_code;
use crate::sys::file_change::FileChange;
use crate::sys::file_facts::FileFacts;
pub(crate) use crate::sys::file_id::FileId;
use crate::sys::ownership::Ownership;
use crate::sys::unfinished::UNFINISHED_QUEUE_FILE;

/// The byte that carries the lock, in the lock file: far past the record, which would otherwise
/// be unreadable while the lock is held.
pub(super) const LOCK_BYTE: i64 = 1 << 62;

/// Programs that look at every new file (virus scanners, backups, indexers) open it for some
/// milliseconds without sharing it. How often it is tried here: for some 15 ms. Who has a deadline tries
/// again until then.
const SHARING_TRIES: u32 = 5;

/// How often a byte is tried that others may look at meanwhile.
const LOOKED_AT_TRIES: u32 = 3;

/// Beyond this length Windows takes a path only in its verbatim form.
const SHORT_PATH_MAX: usize = 240;

/// Opens the lock file for reading and writing, creating it if it is missing.
///
/// It never follows a symbolic link, and no child inherits the handle. A new file has the access
/// rights that its directory gives to new files, as SQLite's own sidecars have.
///
/// # Errors
///
/// Those of `CreateFileW`; [`is_symbolic_link`] recognises a link.
pub(crate) fn open_or_create(path: &Path, _model: Option<&Path>) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true).create(true), path)
}

/// Opens an existing file for reading and writing, never through a symbolic link.
pub(crate) fn open_existing(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true).write(true), path)
}

/// Opens a file for reading only, never through a symbolic link.
pub(crate) fn open_to_look(path: &Path) -> io::Result<File> {
    open(OpenOptions::new().read(true), path)
}

fn open(options: &mut OpenOptions, path: &Path) -> io::Result<File> {
    let options = options.custom_flags(FILE_FLAG_OPEN_REPARSE_POINT);
    let file = while_shared_out(|| match options.open(path) {
        // Windows says that it is denied.
        Err(_) if path.is_dir() => Err(io::ErrorKind::IsADirectory.into()),
        opened => opened,
    })?;
    if file.metadata()?.is_symlink() {
        return Err(io::Error::from_raw_os_error(
            ERROR_STOPPED_ON_SYMLINK.cast_signed(),
        ));
    }
    Ok(file)
}

/// Tries again, for a bounded time, while another program has the file open and does not share it.
fn while_shared_out<T>(mut attempt: impl FnMut() -> io::Result<T>) -> io::Result<T> {
    let mut pause = Duration::from_millis(1);
    for _ in 1..SHARING_TRIES {
        match attempt() {
            Err(error) if is_transient(&error) => thread::sleep(pause),
            done => return done,
        }
        pause *= 2;
    }
    attempt()
}

/// Also while a file is deleted or renamed that another process has open, it is denied for a moment.
fn is_transient(error: &io::Error) -> bool {
    is_in_use(error) || has_code(error, ERROR_ACCESS_DENIED)
}

/// Returns whether opening failed because another program has the file open and does not share it.
pub(crate) fn is_in_use(error: &io::Error) -> bool {
    has_code(error, ERROR_SHARING_VIOLATION)
}

/// Returns whether opening failed because the path is a symbolic link.
pub(crate) fn is_symbolic_link(error: &io::Error) -> bool {
    has_code(error, ERROR_STOPPED_ON_SYMLINK)
}

/// A file that is built completely before its name shows it. Until then it has another name, which
/// is removed if this process does not die.
#[derive(Debug)]
pub(crate) struct NewFile {
    file: File,
    /// `None` once it has its name.
    other_name: Option<PathBuf>,
}

impl NewFile {
    /// Creates a file in this directory under a name of its own.
    ///
    /// # Errors
    ///
    /// Those of `CreateFileW`.
    pub(crate) fn create(directory: &Path, _like: &Ownership) -> io::Result<Self> {
        let path = directory.join(format!("{UNFINISHED_QUEUE_FILE}{}", random_name()));
        let file = open(
            OpenOptions::new().read(true).write(true).create_new(true),
            &path,
        )?;
        let other_name = Some(path);
        Ok(Self { file, other_name })
    }

    /// Gives the file its name.
    ///
    /// # Errors
    ///
    /// `AlreadyExists` if the name is taken, and the others of `MoveFileExW`.
    pub(crate) fn name(mut self, path: &Path) -> io::Result<()> {
        if let Some(other_name) = &self.other_name {
            while_shared_out(|| rename(other_name, path))?;
        }
        self.other_name = None;
        Ok(())
    }
}

impl Deref for NewFile {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for NewFile {
    fn drop(&mut self) {
        if let Some(path) = &self.other_name {
            let _ = fs::remove_file(path);
        }
    }
}

/// Renames a file that may be open, and does not replace another one.
fn rename(from: &Path, to: &Path) -> io::Result<()> {
    const NO_FLAGS: MOVE_FILE_FLAGS = 0;
    let (from, to) = (wide(from)?, wide(to)?);
    // SAFETY: both paths end with a zero and live until the call returns.
    match unsafe { MoveFileExW(from.as_ptr(), to.as_ptr(), NO_FLAGS) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Frees the name of a file at once, also if processes have it open or mapped: such a file keeps
/// its name until they close it, unless it has another one by then.
///
/// # Errors
///
/// Those of `MoveFileExW`.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    let other_name = path.with_file_name(format!("{UNFINISHED_QUEUE_FILE}{}", random_name()));
    while_shared_out(|| rename(path, &other_name))?;
    // One that is mapped stays: `penholder doctor` tells of it.
    let _ = fs::remove_file(&other_name);
    Ok(())
}

fn random_name() -> String {
    format!("{:016x}", RandomState::new().hash_one(std::process::id()))
}

/// Gives a file at least this length in bytes. NTFS reserves disk space for all of it.
///
/// # Errors
///
/// Those of `SetFileInformationByHandle`.
pub(crate) fn allocate(file: &File, length: usize) -> io::Result<()> {
    let length = length as u64;
    if file.metadata()?.len() < length {
        file.set_len(length)?;
    }
    Ok(())
}

/// Does nothing: a copy is not sparse unless a program asks for it.
#[expect(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn fill_holes(_file: &File, _length: usize) -> io::Result<()> {
    Ok(())
}

/// Asks the kernel for identity, link count and length of an open file.
pub(crate) fn facts(file: &File) -> io::Result<FileFacts> {
    let standard: FILE_STANDARD_INFO = information(file, FileStandardInfo)?;
    Ok(FileFacts {
        id: id(file)?,
        links: if standard.DeletePending {
            0
        } else {
            standard.NumberOfLinks
        },
        len: u64::try_from(standard.EndOfFile).unwrap_or(0),
    })
}

/// Does the same as [`facts`] for a path, without following a symbolic link. Opening a file for its
/// attributes disturbs nobody, and closing it drops no lock.
pub(crate) fn facts_of_path(path: &Path) -> io::Result<FileFacts> {
    facts(&open_for_attributes(path)?)
}

/// Does the same, and follows symbolic links.
pub(crate) fn facts_of_target(path: &Path) -> io::Result<FileFacts> {
    let flags = FILE_FLAG_BACKUP_SEMANTICS;
    facts(&open_with(path, FILE_READ_ATTRIBUTES, flags)?)
}

fn open_for_attributes(path: &Path) -> io::Result<File> {
    let flags = FILE_FLAG_OPEN_REPARSE_POINT | FILE_FLAG_BACKUP_SEMANTICS;
    open_with(path, FILE_READ_ATTRIBUTES, flags)
}

fn open_with(path: &Path, access: u32, flags: u32) -> io::Result<File> {
    let opened = OpenOptions::new()
        .access_mode(access)
        .custom_flags(flags)
        .open(path);
    match opened {
        // Everybody who may list the directory may do this, unless the file was deleted and is
        // still open somewhere.
        Err(error) if has_code(&error, ERROR_ACCESS_DENIED) => Err(io::ErrorKind::NotFound.into()),
        opened => opened,
    }
}

fn id(file: &File) -> io::Result<FileId> {
    let found: io::Result<FILE_ID_INFO> = information(file, FileIdInfo);
    match found {
        Ok(found) => {
            let id = u128::from_le_bytes(found.FileId.Identifier);
            Ok(FileId {
                dev: found.VolumeSerialNumber,
                ino: fold(id),
            })
        }
        // A file system that has no such numbers, as FAT.
        Err(error) if is_unknown(&error) => id_by_handle(file),
        Err(error) => Err(error),
    }
}

/// Whether a file system does not know the long identity.
fn is_unknown(error: &io::Error) -> bool {
    let codes = [
        ERROR_INVALID_PARAMETER,
        ERROR_INVALID_FUNCTION,
        ERROR_NOT_SUPPORTED,
    ];
    codes.iter().any(|&code| has_code(error, code))
}

/// Folds the number of a file: only ReFS uses the upper half.
#[expect(clippy::cast_possible_truncation, reason = "each half has 64 bits")]
fn fold(id: u128) -> u64 {
    let (low, high) = (id as u64, (id >> 64) as u64);
    low ^ high.rotate_left(32)
}

fn id_by_handle(file: &File) -> io::Result<FileId> {
    let mut found = MaybeUninit::<BY_HANDLE_FILE_INFORMATION>::uninit();
    // SAFETY: the handle is open while `file` is borrowed, and the result has room in `found`.
    let done = unsafe { GetFileInformationByHandle(file.as_raw_handle(), found.as_mut_ptr()) };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and filled it in.
    let found = unsafe { found.assume_init() };
    Ok(FileId {
        dev: u64::from(found.dwVolumeSerialNumber),
        ino: u64::from(found.nFileIndexHigh) << 32 | u64::from(found.nFileIndexLow),
    })
}

/// A structure that `GetFileInformationByHandleEx` fills in, of whose bits any are valid.
trait Information {}

impl Information for FILE_STANDARD_INFO {}
impl Information for FILE_ID_INFO {}

fn information<T: Information>(file: &File, class: FILE_INFO_BY_HANDLE_CLASS) -> io::Result<T> {
    let mut found = MaybeUninit::<T>::zeroed();
    let length = u32::try_from(mem::size_of::<T>()).unwrap_or(0);
    // SAFETY: the handle is open while `file` is borrowed, and `found` has room for `length` bytes.
    let done = unsafe {
        GetFileInformationByHandleEx(
            file.as_raw_handle(),
            class,
            found.as_mut_ptr().cast(),
            length,
        )
    };
    if done == 0 {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the call succeeded and filled it in, and any bits are valid: see `Information`.
    Ok(unsafe { found.assume_init() })
}

/// Returns `None`: there are quotas, but a write beyond one ends no process.
pub(crate) fn size_limit() -> Option<u64> {
    None
}

/// Returns whether this user may write the file, which is opened for a moment.
pub(crate) fn may_write(path: &Path) -> bool {
    match open(OpenOptions::new().write(true), path) {
        Ok(_) => true,
        Err(error) => error.kind() != io::ErrorKind::PermissionDenied,
    }
}

/// Returns that it is root's alone: nobody is known to be in the way. A file cannot be truncated while
/// it is mapped, so the owner of a queue file can end no process that uses it.
pub(crate) fn ownership(file: &File) -> io::Result<Ownership> {
    Ok(Ownership {
        user: 0,
        group: 0,
        mode: 0o600,
        is_regular: file.metadata()?.is_file(),
    })
}

/// Fails: owners have no numbers here.
pub(crate) fn ownership_of_path(_path: &Path) -> io::Result<Ownership> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Returns 0: the number of a file has a part that is another for the next file in its place.
#[expect(clippy::unnecessary_wraps, reason = "other platforms may fail")]
pub(crate) fn born(_file: &File) -> io::Result<u64> {
    Ok(0)
}

/// Fails: a write shows in the times of a file only when it is closed, and programs can set them.
pub(crate) fn changed_at(_file: &File) -> io::Result<i128> {
    Err(io::ErrorKind::Unsupported.into())
}

/// Whether a write that can be seen shows in the time of the file at once: only when the file is closed.
pub(crate) const STAMPS_WRITES: bool = false;

/// How much of a file is taken into account: the counter of changes of a database, and the first header
/// of a `-shm` (`walIndexHdr` in SQLite's file format), are in it.
const BEGINNING: usize = 48;

/// Returns what shows that a file has changed, without following a symbolic link; `None` if there is
/// no such file.
pub(crate) fn change_of_path(path: &Path) -> io::Result<Option<FileChange>> {
    let readable = open_with(path, FILE_GENERIC_READ, FILE_FLAG_OPEN_REPARSE_POINT);
    // A user who may not read it may look at its attributes.
    let file = match readable.or_else(|_| open_for_attributes(path)) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let meta = file.metadata()?;
    Ok(Some(FileChange {
        id: id(&file)?,
        len: meta.file_size(),
        at: since_1970(meta.last_write_time()),
        beginning: beginning(&file),
    }))
}

/// Returns a hash of the beginning of a file, as far as it can be read. Closing it drops no lock of
/// this process: those belong to handles.
fn beginning(file: &File) -> u64 {
    let mut bytes = [0; BEGINNING];
    let length = read_at(file, &mut bytes, 0).unwrap_or(0);
    let mut hasher = DefaultHasher::new();
    bytes[..length].hash(&mut hasher);
    hasher.finish()
}

/// Converts steps of 100 nanoseconds since 1601.
fn since_1970(ticks: u64) -> i128 {
    (i128::from(ticks) - 116_444_736_000_000_000) * 100
}

/// Returns `false`: the times are those of the last tick of the system's clock.
pub(crate) fn tells_changes_apart(_directory: &Path) -> bool {
    false
}

/// Returns whether a file belongs to this user, and no other user may write it but those who may
/// everything.
pub(crate) fn is_private(file: &File) -> io::Result<bool> {
    access::is_private(file)
}

/// Writes all of `bytes` at the start of the file.
pub(crate) fn write_at_start(file: &File, bytes: &[u8]) -> io::Result<()> {
    write_at(file, bytes, 0)
}

/// Writes all of `bytes` from `offset` on.
pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> io::Result<()> {
    let mut written = 0;
    while written < bytes.len() {
        match file.seek_write(&bytes[written..], offset + written as u64)? {
            0 => return Err(io::ErrorKind::WriteZero.into()),
            length => written += length,
        }
    }
    Ok(())
}

/// Reads into `bytes` from `offset` and returns how many bytes were read; fewer only at the end of
/// the file.
pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> io::Result<usize> {
    let mut read = 0;
    while read < bytes.len() {
        match file.seek_read(&mut bytes[read..], offset + read as u64)? {
            0 => break,
            length => read += length,
        }
    }
    Ok(read)
}

// ---- locks ---------------------------------------------------------------------

/// Takes the lock if it is free; `false` if another process has it.
///
/// # Errors
///
/// Those of `LockFileEx` except that it is locked, which is the answer `false`.
pub(crate) fn try_lock(file: &File) -> io::Result<bool> {
    try_lock_once(file, LOCK_BYTE)
}

/// Releases the lock.
pub(crate) fn unlock(file: &File) -> io::Result<()> {
    unlock_byte(file, LOCK_BYTE)
}

/// Takes the lock on one byte if it is free; the byte need not exist. The lock belongs to the open
/// file. Tries more than once, because a process that looks has it locked for a moment.
pub(crate) fn try_lock_byte(file: &File, offset: i64) -> io::Result<bool> {
    for _ in 1..LOOKED_AT_TRIES {
        if try_lock_once(file, offset)? {
            return Ok(true);
        }
        thread::yield_now();
    }
    try_lock_once(file, offset)
}

fn try_lock_once(file: &File, offset: i64) -> io::Result<bool> {
    let flags = LOCKFILE_EXCLUSIVE_LOCK | LOCKFILE_FAIL_IMMEDIATELY;
    lock(file, offset, 1, flags)
}

/// Does the same for several bytes: all or none.
pub(crate) fn try_lock_bytes(file: &File, first: i64, length: i64) -> io::Result<bool> {
    for byte in first..first + length {
        let locked = try_lock_byte(file, byte);
        if !matches!(locked, Ok(true)) {
            unlock_bytes(file, first, byte - first)?;
            return locked;
        }
    }
    Ok(true)
}

/// Releases the lock on one byte.
pub(crate) fn unlock_byte(file: &File, offset: i64) -> io::Result<()> {
    unlock_range(file, offset, 1)
}

/// Releases the locks on those of these bytes that are locked.
pub(crate) fn unlock_bytes(file: &File, first: i64, length: i64) -> io::Result<()> {
    for byte in first..first + length {
        match unlock_byte(file, byte) {
            // Wine says that it is a violation.
            Err(error)
                if has_code(&error, ERROR_NOT_LOCKED) || has_code(&error, ERROR_LOCK_VIOLATION) => {
            }
            unlocked => unlocked?,
        }
    }
    Ok(())
}

/// Returns whether another open file has a lock on any of these bytes, among which `file` itself has
/// locked none.
///
/// Windows does not show locks, so a shared one is tried for a moment: [`try_lock_byte`] expects that.
/// Nobody asks so about the byte of the lock.
pub(crate) fn are_bytes_locked(file: &File, first: i64, length: i64) -> io::Result<bool> {
    if !lock(file, first, length, LOCKFILE_FAIL_IMMEDIATELY)? {
        return Ok(true);
    }
    unlock_range(file, first, length)?;
    Ok(false)
}

fn lock(file: &File, first: i64, length: i64, flags: u32) -> io::Result<bool> {
    let (mut at, [low, high]) = (overlapped(first), halves(length));
    // SAFETY: the handle is open while `file` is borrowed. It was not opened for overlapped
    // operation, so the call has ended with `at` when it returns.
    let done = unsafe { LockFileEx(file.as_raw_handle(), flags, 0, low, high, &raw mut at) };
    if done != 0 {
        return Ok(true);
    }
    let error = io::Error::last_os_error();
    let is_taken = [ERROR_LOCK_VIOLATION, ERROR_IO_PENDING]
        .iter()
        .any(|&code| has_code(&error, code));
    if is_taken { Ok(false) } else { Err(error) }
}

fn unlock_range(file: &File, first: i64, length: i64) -> io::Result<()> {
    let (mut at, [low, high]) = (overlapped(first), halves(length));
    // SAFETY: as in `lock`.
    match unsafe { UnlockFileEx(file.as_raw_handle(), 0, low, high, &raw mut at) } {
        0 => Err(io::Error::last_os_error()),
        _ => Ok(()),
    }
}

/// Returns what tells a call the first byte.
fn overlapped(first: i64) -> OVERLAPPED {
    let [low, high] = halves(first);
    let mut at = OVERLAPPED::default();
    at.Anonymous.Anonymous.Offset = low;
    at.Anonymous.Anonymous.OffsetHigh = high;
    at
}

#[expect(clippy::cast_possible_truncation, reason = "each half has 32 bits")]
pub(super) fn halves(number: i64) -> [u32; 2] {
    let number = number.cast_unsigned();
    [number as u32, (number >> 32) as u32]
}

/// Returns the absolute path of a file or directory that exists, as the file system spells it, with
/// links resolved.
///
/// # Errors
///
/// Those of [`fs::canonicalize`].
pub(crate) fn canonicalize(path: &Path) -> io::Result<PathBuf> {
    fs::canonicalize(path).map(without_verbatim)
}

/// Writes `\\?\C:\x.db` as `C:\x.db`, and `\\?\UNC\server\share\x.db` as `\\server\share\x.db`, as
/// people write them and as SQLite takes them.
fn without_verbatim(path: PathBuf) -> PathBuf {
    let mut components = path.components();
    let Some(Component::Prefix(prefix)) = components.next() else {
        return path;
    };
    let root: OsString = match prefix.kind() {
        Prefix::VerbatimDisk(letter) => format!(r"{}:\", char::from(letter)).into(),
        Prefix::VerbatimUNC(server, share) => {
            let [start, separator] = [r"\\", r"\"].map(OsStr::new);
            [start, server, separator, share, separator]
                .into_iter()
                .collect()
        }
        _ => return path,
    };
    let rest = components.as_path();
    let rest = rest.strip_prefix(r"\").unwrap_or(rest);
    Path::new(&root).join(rest)
}

/// Returns a path as Windows takes it, in its verbatim form if it is long.
pub(super) fn wide(path: &Path) -> io::Result<Vec<u16>> {
    let path = std::path::absolute(path)?;
    let mut units: Vec<u16> = path.as_os_str().encode_wide().collect();
    if units.contains(&0) {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    if units.len() > SHORT_PATH_MAX {
        units = verbatim(&units);
    }
    units.push(0);
    Ok(units)
}

/// Returns the verbatim form of an absolute path.
fn verbatim(path: &[u16]) -> Vec<u16> {
    let text = |text: &str| text.encode_utf16().collect::<Vec<u16>>();
    let (device, server) = (text(r"\\?\"), text(r"\\"));
    if path.starts_with(&device) {
        path.to_vec()
    } else if let Some(share) = path.strip_prefix(server.as_slice()) {
        [text(r"\\?\UNC\").as_slice(), share].concat()
    } else {
        [device.as_slice(), path].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn files(directory: &Path) -> [File; 2] {
        let path = directory.join("a file");
        [(); 2].map(|()| open_or_create(&path, None).unwrap())
    }

    #[test]
    fn a_lock_belongs_to_the_open_file_and_leaves_the_content_readable() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = files(directory.path());
        write_at_start(&one, b"a record").unwrap();
        assert!(try_lock(&one).unwrap());
        assert!(!try_lock(&one).unwrap() && !try_lock(&two).unwrap());
        let mut found = [0; 20];
        assert_eq!(read_at(&two, &mut found, 0).unwrap(), 8);
        assert_eq!(&found[..8], b"a record");
        unlock(&one).unwrap();
        assert!(try_lock(&two).unwrap());
        drop(two);
        assert!(try_lock(&one).unwrap());
    }

    #[test]
    fn bytes_are_locked_all_or_none_and_shown_to_others_only() {
        let directory = tempfile::tempdir().unwrap();
        let [one, two] = files(directory.path());
        let first = 1 << 60;
        assert!(try_lock_byte(&two, first + 3).unwrap());
        assert!(!try_lock_bytes(&one, first, 5).unwrap());
        assert!(try_lock_bytes(&one, first, 3).unwrap());
        assert!(are_bytes_locked(&two, first, 1 << 60).unwrap());
        assert!(are_bytes_locked(&two, first + 2, 1).unwrap());
        assert!(!are_bytes_locked(&two, first + 4, i64::MAX - first - 4).unwrap());
        unlock_byte(&one, first + 1).unwrap();
        unlock_bytes(&one, first, 3).unwrap();
        assert!(!are_bytes_locked(&two, first, 3).unwrap());
        assert!(are_bytes_locked(&one, first, 1 << 60).unwrap());
    }

    #[test]
    fn a_file_has_no_name_before_it_gets_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("new");
        let like = ownership(&files(directory.path())[0]).unwrap();
        let new = || NewFile::create(directory.path(), &like).unwrap();
        drop(new());
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 1);
        let (first, second) = (new(), new());
        write_at_start(&first, b"first").unwrap();
        first.name(&path).unwrap();
        let taken = second.name(&path).unwrap_err();
        assert_eq!(taken.kind(), io::ErrorKind::AlreadyExists);
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(fs::read_dir(&directory).unwrap().count(), 2);
    }

    #[test]
    fn the_name_of_an_open_file_is_free_once_it_is_removed() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("db.lockq");
        let open = open_or_create(&path, None).unwrap();
        let before = facts(&open).unwrap();
        remove(&path).unwrap();
        let missing = facts_of_path(&path).unwrap_err();
        assert_eq!(missing.kind(), io::ErrorKind::NotFound);
        let again = open_or_create(&path, None).unwrap();
        assert_ne!(facts(&again).unwrap().id, before.id);
        assert_eq!(facts_of_path(&path).unwrap().id, facts(&again).unwrap().id);
    }

    #[test]
    fn a_file_that_is_not_shared_is_in_use() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("scanned");
        let scanner = OpenOptions::new()
            .write(true)
            .create(true)
            .share_mode(0)
            .open(&path);
        let scanner = scanner.unwrap();
        assert!(is_in_use(&open_existing(&path).unwrap_err()));
        drop(scanner);
        open_existing(&path).unwrap();
    }

    #[test]
    fn paths_are_written_as_people_write_them() {
        let of = |path: &str| without_verbatim(PathBuf::from(path));
        for (path, expected) in [
            (r"\\?\C:\a b\x.db", r"C:\a b\x.db"),
            (r"\\?\C:\", r"C:\"),
            (r"\\?\UNC\server\share\x.db", r"\\server\share\x.db"),
            (r"C:\x.db", r"C:\x.db"),
        ] {
            assert_eq!(of(path), Path::new(expected));
        }
    }

    #[test]
    fn long_paths_are_verbatim() {
        let of = |text: &str| verbatim(&text.encode_utf16().collect::<Vec<u16>>());
        let text = |path: Vec<u16>| String::from_utf16(&path).unwrap();
        assert_eq!(text(of(r"C:\a\b")), r"\\?\C:\a\b");
        assert_eq!(text(of(r"\\server\share\b")), r"\\?\UNC\server\share\b");
        assert_eq!(text(of(r"\\?\C:\a")), r"\\?\C:\a");
    }
}
