//! Open files. No lock can be taken on them here.

use std::io;

pub(crate) use crate::sys::portable::descriptor::{Descriptor, DescriptorsGuard, lock};

/// Returns `false`: no file is opened here.
pub(crate) fn is_own_limit(_error: &io::Error) -> bool {
    false
}

/// Returns `false`.
pub(crate) fn is_system_limit(_error: &io::Error) -> bool {
    false
}
