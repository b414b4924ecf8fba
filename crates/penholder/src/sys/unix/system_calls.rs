#![expect(unsafe_code, reason = "functions in place of system calls")]
//! The system calls of SQLite's Unix VFS that are replaced (`aSyscall` in `os_unix.c`).

use std::ffi::{CStr, OsStr, c_char, c_int};
use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, transmute};
use std::os::fd::FromRawFd;
use std::os::unix::ffi::OsStrExt;
use std::sync::OnceLock;

use crate::sys::system_call::{Observer, SystemCall};

/// Who is told. Without it, the replacements change nothing.
static OBSERVER: OnceLock<Observer> = OnceLock::new();
/// How the number of forks gets into what SQLite compares files by.
static MARK_FORKS: OnceLock<MarkForks> = OnceLock::new();

/// Changes what SQLite compares files by, for a number of forks, in bits that are not in use.
pub(in crate::sys) type MarkForks = fn(&mut libc::stat, u64);

/// Returns functions in place of system calls of SQLite, by the names that its VFS gives them. They
/// tell the observer that is given first.
///
/// In a forked child they also mark the files that SQLite sees.
///
/// # Errors
///
/// This is not a 64-bit system.
pub(in crate::sys) fn system_calls(
    observer: Observer,
    mark_forks: MarkForks,
) -> Result<Vec<(&'static CStr, SystemCall)>, &'static str> {
    type Fstat = unsafe extern "C" fn(c_int, *mut libc::stat) -> c_int;
    type Stat = unsafe extern "C" fn(*const c_char, *mut libc::stat) -> c_int;
    type Open = unsafe extern "C" fn(*const c_char, c_int, c_int) -> c_int;
    type Unlink = unsafe extern "C" fn(*const c_char) -> c_int;
    if !cfg!(target_pointer_width = "64") {
        return Err(
            "only on 64-bit systems: there `struct stat` is the same for SQLite and for us",
        );
    }
    MARK_FORKS.get_or_init(|| mark_forks);
    OBSERVER.get_or_init(|| observer);
    // SAFETY: SQLite calls it with the signature of the system call of this name, which is that
    // of the function (`aSyscall` in `os_unix.c`).
    let fstat = unsafe { transmute::<Fstat, SystemCall>(fstat_of_child) };
    // SAFETY: as above.
    let stat = unsafe { transmute::<Stat, SystemCall>(stat_of_child) };
    // SAFETY: as above.
    let open = unsafe { transmute::<Open, SystemCall>(open_and_tell) };
    // SAFETY: as above.
    let unlink = unsafe { transmute::<Unlink, SystemCall>(unlink_and_tell) };
    Ok(vec![
        (c"fstat", fstat),
        (c"stat", stat),
        (c"open", open),
        (c"unlink", unlink),
    ])
}

unsafe extern "C" fn open_and_tell(path: *const c_char, flags: c_int, mode: c_int) -> c_int {
    // SAFETY: SQLite passes C text, and the mode as it does to `open` itself.
    let fd = unsafe { libc::open(path, flags, mode) };
    let Some(observer) = OBSERVER.get() else {
        return fd;
    };
    if fd < 0 {
        (observer.not_opened)(&io::Error::last_os_error());
        return fd;
    }
    // SAFETY: the same text.
    let path = unsafe { CStr::from_ptr(path) };
    // SAFETY: SQLite has just opened it, and does not close it before this call is over. This
    // `File` never closes it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_fd(fd) });
    (observer.opened)(OsStr::from_bytes(path.to_bytes()), &file);
    fd
}

unsafe extern "C" fn unlink_and_tell(path: *const c_char) -> c_int {
    // SAFETY: SQLite passes C text.
    let result = unsafe { libc::unlink(path) };
    if let (0, Some(observer)) = (result, OBSERVER.get()) {
        // SAFETY: the same text.
        let path = unsafe { CStr::from_ptr(path) };
        (observer.deleted)(OsStr::from_bytes(path.to_bytes()));
    }
    result
}

unsafe extern "C" fn fstat_of_child(fd: c_int, stat: *mut libc::stat) -> c_int {
    // SAFETY: SQLite passes an open descriptor and room for the result.
    let result = unsafe { libc::fstat(fd, stat) };
    // SAFETY: the same room.
    unsafe { change_device(result, stat) };
    result
}

unsafe extern "C" fn stat_of_child(path: *const c_char, stat: *mut libc::stat) -> c_int {
    // SAFETY: SQLite passes C text and room for the result.
    let result = unsafe { libc::stat(path, stat) };
    // SAFETY: the same room.
    unsafe { change_device(result, stat) };
    result
}

/// Makes it another file for SQLite in a forked child than in the parent.
unsafe fn change_device(result: c_int, stat: *mut libc::stat) {
    if let (0, Some(observer), Some(mark_forks)) = (result, OBSERVER.get(), MARK_FORKS.get()) {
        // SAFETY: the system call succeeded and filled it in.
        let stat = unsafe { &mut *stat };
        mark_forks(stat, (observer.forks)());
    }
}
