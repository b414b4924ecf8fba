//! What the kernel is told of mapped memory.

use rustix::mm::Advice;

/// Makes all pages writable, as the first store to each does (Linux 5.14).
pub(in crate::sys) const MAKE_WRITABLE: Option<Advice> = Some(Advice::LinuxPopulateWrite);
