#![expect(unsafe_code, reason = "pthread_atfork has no safe wrapper")]
//! Telling a forked child from its parent.

use std::io;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU64, Ordering};

/// How many forks lie between the first process of this program and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// What to call around a fork. All three run on the forking thread.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Handlers {
    pub(crate) before: fn(),
    pub(crate) in_parent: fn(),
    pub(crate) in_child: fn(),
}

/// The handlers, and what registering them returned.
static HANDLERS: OnceLock<(Handlers, i32)> = OnceLock::new();

/// This process's generation: it differs from its parent's.
pub(crate) fn generation() -> u64 {
    GENERATION.load(Ordering::Relaxed)
}

/// Registers the handlers; later calls change nothing.
///
/// A `fork` that bypasses libc (a bare `clone` system call) is not noticed.
pub(crate) fn install(handlers: Handlers) -> io::Result<()> {
    let (_, failed) = HANDLERS.get_or_init(|| {
        // SAFETY: the three are `extern "C"` functions that live as long as the
        // program; they do not unwind.
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
