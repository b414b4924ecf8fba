//! Open files. Each has a handle of its own, which no child inherits.

use std::io;

use windows_sys::Win32::Foundation::{
    ERROR_NO_SYSTEM_RESOURCES, ERROR_NOT_ENOUGH_QUOTA, ERROR_TOO_MANY_OPEN_FILES,
};

use super::error_code::has_code;
pub(crate) use crate::sys::portable::descriptor::{Descriptor, DescriptorsGuard, lock};

/// Returns whether this process has as many files open as it may.
pub(crate) fn is_own_limit(error: &io::Error) -> bool {
    has_code(error, ERROR_TOO_MANY_OPEN_FILES) || has_code(error, ERROR_NOT_ENOUGH_QUOTA)
}

/// Returns whether the system has no room for more open files.
pub(crate) fn is_system_limit(error: &io::Error) -> bool {
    has_code(error, ERROR_NO_SYSTEM_RESOURCES)
}
