//! The system calls of SQLite's Windows VFS that are replaced (`aSyscall` in `os_win.c`).

use std::ffi::{CStr, OsStr, OsString};
use std::fs::File;
use std::io;
use std::mem::{ManuallyDrop, transmute};
use std::os::windows::ffi::OsStringExt;
use std::os::windows::io::FromRawHandle;
use std::sync::OnceLock;

use windows_sys::Win32::Foundation::{GetLastError, HANDLE, INVALID_HANDLE_VALUE, SetLastError};
use windows_sys::Win32::Security::SECURITY_ATTRIBUTES;
use windows_sys::Win32::Storage::FileSystem::{CreateFileW, DeleteFileW, FILE_SHARE_DELETE};

use crate::sys::system_call::{Observer, SystemCall};

/// Who is told. Without it, the replacements change nothing.
static OBSERVER: OnceLock<Observer> = OnceLock::new();

/// Returns functions in place of system calls of SQLite, by the names that its VFS gives them. They
/// tell the observer that is given first.
///
/// SQLite lets no other open file of its own be renamed or deleted; only an unfinished file may be,
/// so that it can be removed if this process is interrupted.
///
/// # Errors
///
/// None.
pub(crate) fn system_calls(
    observer: Observer,
) -> Result<Vec<(&'static CStr, SystemCall)>, &'static str> {
    type CreateFile = unsafe extern "system" fn(
        *const u16,
        u32,
        u32,
        *const SECURITY_ATTRIBUTES,
        u32,
        u32,
        HANDLE,
    ) -> HANDLE;
    type DeleteFile = unsafe extern "system" fn(*const u16) -> i32;
    OBSERVER.get_or_init(|| observer);
    // SAFETY: SQLite calls it with the signature of the system call of this name, which is that
    // of the function (`aSyscall` in `os_win.c`).
    let create = unsafe { transmute::<CreateFile, SystemCall>(open_and_tell) };
    // SAFETY: as above.
    let delete = unsafe { transmute::<DeleteFile, SystemCall>(delete_and_tell) };
    Ok(vec![(c"CreateFileW", create), (c"DeleteFileW", delete)])
}

unsafe extern "system" fn open_and_tell(
    path: *const u16,
    access: u32,
    share: u32,
    security: *const SECURITY_ATTRIBUTES,
    disposition: u32,
    flags: u32,
    template: HANDLE,
) -> HANDLE {
    // SAFETY: SQLite passes a path that ends with a zero.
    let name = unsafe { text(path) };
    let share = share | additional_share(&name);
    // SAFETY: SQLite passes what the function takes.
    let handle =
        unsafe { CreateFileW(path, access, share, security, disposition, flags, template) };
    keeping_last_error(|error| tell_of_opening(&name, handle, error));
    handle
}

fn additional_share(name: &OsStr) -> u32 {
    match OBSERVER.get() {
        Some(observer) if (observer.may_vanish)(name) => FILE_SHARE_DELETE,
        _ => 0,
    }
}

fn tell_of_opening(name: &OsStr, handle: HANDLE, error: u32) {
    let Some(observer) = OBSERVER.get() else {
        return;
    };
    if handle == INVALID_HANDLE_VALUE {
        let error = i32::from_ne_bytes(error.to_ne_bytes());
        (observer.not_opened)(&io::Error::from_raw_os_error(error));
        return;
    }
    // SAFETY: SQLite gets the handle after this, and does not close it before. This `File` never
    // closes it.
    let file = ManuallyDrop::new(unsafe { File::from_raw_handle(handle) });
    (observer.opened)(name, &file);
}

unsafe extern "system" fn delete_and_tell(path: *const u16) -> i32 {
    // SAFETY: SQLite passes a path that ends with a zero.
    let name = unsafe { text(path) };
    // SAFETY: the same path.
    let done = unsafe { DeleteFileW(path) };
    if let (1.., Some(observer)) = (done, OBSERVER.get()) {
        keeping_last_error(|_| (observer.deleted)(&name));
    }
    done
}

/// Runs what may change the error of the last call, which SQLite asks for after this.
fn keeping_last_error(run: impl FnOnce(u32)) {
    // SAFETY: always allowed.
    let error = unsafe { GetLastError() };
    run(error);
    // SAFETY: as above.
    unsafe { SetLastError(error) };
}

/// Copies a text that ends with a zero.
unsafe fn text(text: *const u16) -> OsString {
    let unit = |index: usize| {
        // SAFETY: the caller's text has not ended before this unit.
        unsafe { text.add(index).read() }
    };
    let units: Vec<u16> = (0..).map(unit).take_while(|&unit| unit != 0).collect();
    OsString::from_wide(&units)
}
