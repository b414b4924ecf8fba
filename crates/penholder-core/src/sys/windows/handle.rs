#![expect(unsafe_code, reason = "handles from the system's calls")]
//! Handles that a system call returned.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{HANDLE, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::WaitForSingleObject;

/// Takes the handle that a call returned which returns null on an error.
///
/// # Safety
///
/// The handle is null, or open and nobody else's.
pub(super) unsafe fn owned(handle: HANDLE) -> io::Result<OwnedHandle> {
    if handle.is_null() {
        return Err(io::Error::last_os_error());
    }
    // SAFETY: the caller guarantees that the handle is open and nobody else's.
    Ok(unsafe { OwnedHandle::from_raw_handle(handle) })
}

/// Waits for an object, for at most this many milliseconds; returns whether it is signaled.
pub(super) fn wait(handle: &OwnedHandle, millis: u32) -> bool {
    // SAFETY: the handle is open while it is borrowed.
    let waited = unsafe { WaitForSingleObject(handle.as_raw_handle(), millis) };
    waited == WAIT_OBJECT_0
}
