#![expect(unsafe_code, reason = "pthread_atfork has no safe wrapper")]
//! Telling a forked child from its parent.
//!
//! | registration of the handlers | meaning | leaves by |
//! | --- | --- | --- |
//! | `0` | not begun | a thread begins → its process's pid |
//! | a pid | a thread of that process registers them | it is done → `DONE`; it fails → `0` |
//! | another process's pid | the process was forked in the middle: that thread is not here | a thread begins again → its process's pid |
//! | `DONE` | registered, also for the children | – |
//!
//! A child that is forked after the handlers were registered, but before that was noted, runs
//! them, and notes it itself. A `OnceLock` would make it wait for a thread that it does not
//! have.

use std::io;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};
use std::thread;

pub(crate) use crate::sys::fork_handlers::Handlers;

/// How many forks lie between the first process of this program and this one.
static GENERATION: AtomicU64 = AtomicU64::new(0);

/// The handlers; null until they are about to be registered.
static HANDLERS: AtomicPtr<Handlers> = AtomicPtr::new(ptr::null_mut());

/// How far their registration is: see the table of this module.
static REGISTRATION: AtomicU32 = AtomicU32::new(0);

/// No process has this pid.
const DONE: u32 = u32::MAX;

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
pub(crate) fn install(handlers: &'static Handlers) -> io::Result<()> {
    if !begin_registration() {
        return Ok(());
    }
    HANDLERS.store(ptr::from_ref(handlers).cast_mut(), Ordering::Release);
    // SAFETY: the three are `extern "C"` functions of this program, which exist
    // until it ends; they do not unwind.
    let failed = unsafe { libc::pthread_atfork(Some(before), Some(in_parent), Some(in_child)) };
    let state = if failed == 0 { DONE } else { 0 };
    REGISTRATION.store(state, Ordering::Release);
    match failed {
        0 => Ok(()),
        code => Err(io::Error::from_raw_os_error(code)),
    }
}

/// Returns whether the caller has to register the handlers; `false` if that is done.
fn begin_registration() -> bool {
    let own = std::process::id();
    loop {
        let state = REGISTRATION.load(Ordering::Acquire);
        if state == DONE {
            return false;
        }
        if state == own {
            // Another thread is at it, for some microseconds.
            thread::yield_now();
            continue;
        }
        let begun = REGISTRATION.compare_exchange(state, own, Ordering::AcqRel, Ordering::Relaxed);
        if begun.is_ok() {
            return true;
        }
    }
}

fn handlers() -> Option<&'static Handlers> {
    let handlers = HANDLERS.load(Ordering::Acquire);
    // SAFETY: `install` stores nothing but the address of a `&'static Handlers`, which nobody
    // changes.
    unsafe { handlers.as_ref() }
}

extern "C" fn before() {
    if let Some(handlers) = handlers() {
        (handlers.before)();
    }
}

extern "C" fn in_parent() {
    if let Some(handlers) = handlers() {
        (handlers.in_parent)();
    }
}

extern "C" fn in_child() {
    REGISTRATION.store(DONE, Ordering::Release);
    GENERATION.fetch_add(1, Ordering::Relaxed);
    if let Some(handlers) = handlers() {
        (handlers.in_child)();
    }
}
