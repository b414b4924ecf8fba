//! What the kernel is told of mapped memory.

use rustix::mm::Advice;

/// There is no such advice: the first store to each page makes it writable.
pub(in crate::sys) const MAKE_WRITABLE: Option<Advice> = None;
