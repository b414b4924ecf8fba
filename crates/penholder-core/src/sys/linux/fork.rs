#![expect(unsafe_code, reason = "pthread_atfork has no safe wrapper")]
//! Telling a forked child from its parent.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

pub(crate) use crate::sys::fork_handlers::Handlers;

/// How many forks lie between the first process of this program and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The handlers, and the error code of registering them.
static HANDLERS: OnceLock<(Handlers, i32)> = OnceLock::new();

/// Returns this process's generation; it differs from the parent's.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Registers the handlers; later calls change nothing. A `fork` that bypasses libc (a
/// bare `clone` system call) is not noticed.
///
/// # Errors
///
/// Those of `pthread_atfork(3)`.
pub(crate) fn install(handlers: Handlers) -> io::Result<()> {
    let (_, failed) = HANDLERS.get_or_init(|| {
        // SAFETY: the three are `extern "C"` functions of this program, which exist
        // until it ends; they do not unwind.
        let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
        (handlers, failed)
    });
    match *failed {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

extern "C" fn before() {
    if let Some((handlers, _)) = HANDLERS.get() {
        (handlers.before)();
    }
}

extern "C" fn in_parent() {
    if let Some((handlers, _)) = HANDLERS.get() {
        (handlers.in_parent)();
    }
}

extern "C" fn in_child() {
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some((handlers, _)) = HANDLERS.get() {
        (handlers.in_child)();
    }
}
