//! The codes of the system's errors.

use std::io;

use windows_sys::Win32::Foundation::WIN32_ERROR;

/// Returns whether an error is this one of Windows.
pub(super) fn has_code(error: &io::Error, code: WIN32_ERROR) -> bool {
    error.raw_os_error() == Some(code.cast_signed())
}
