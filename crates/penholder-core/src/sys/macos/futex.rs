#![expect(unsafe_code, reason = "functions that macOS has since 14.4 only")]
//! Sleeping on a word of shared memory until another process wakes this one.
//!
//! macOS has that since 14.4 (`os_sync_wait_on_address`, with a flag for memory that processes share).
//! The functions are looked for when they are first needed; where there are none, a sleeper looks at
//! the word again and again (`polled_word`).

use std::ffi::{CStr, c_int, c_void};
use std::mem::transmute;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU32, Ordering};
use std::time::Duration;

use crate::sys::bsd::polled_word;

type Wait = unsafe extern "C" fn(*mut c_void, u64, usize, u32, u32, u64) -> c_int;
type Wake = unsafe extern "C" fn(*mut c_void, usize, u32) -> c_int;

static WAIT: Function = Function::new(c"os_sync_wait_on_address_with_timeout");
static WAKE_ANY: Function = Function::new(c"os_sync_wake_by_address_any");
static WAKE_ALL: Function = Function::new(c"os_sync_wake_by_address_all");

/// Sleeps while the word is `seen`, for at most `pause`. Spurious wakes happen.
pub(crate) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    let Some(function) = WAIT.find() else {
        return polled_word::wait(word, seen, pause);
    };
    // SAFETY: the function of this name has this signature (`os/os_sync_wait_on_address.h`).
    let wait = unsafe { transmute::<*mut c_void, Wait>(function) };
    // The system refuses zero.
    let nanos = u64::try_from(pause.as_nanos()).unwrap_or(u64::MAX).max(1);
    // SAFETY: the word is borrowed until the call returns, and has four bytes. After a changed word, a
    // signal or the timeout the caller does the same: it looks again.
    let done = unsafe {
        wait(
            word.as_ptr().cast(),
            seen.into(),
            size_of::<u32>(),
            libc::OS_SYNC_WAIT_ON_ADDRESS_SHARED,
            libc::OS_CLOCK_MACH_ABSOLUTE_TIME,
            nanos,
        )
    };
    if done == -1 && !is_end_of_sleep() {
        // No caller may go round without a pause.
        polled_word::wait(word, seen, pause);
    }
}

/// Returns whether the last call failed only because the time is over, or a signal came, or the memory
/// was being paged in.
fn is_end_of_sleep() -> bool {
    let error = std::io::Error::last_os_error().raw_os_error();
    matches!(error, Some(libc::ETIMEDOUT | libc::EINTR | libc::EFAULT))
}

/// Does the same on a word on which several threads sleep, all of which a wake concerns.
pub(crate) fn wait_among_others(word: &AtomicU32, seen: u32, pause: Duration) {
    wait(word, seen, pause);
}

/// Wakes one thread that sleeps on this word.
pub(crate) fn wake(word: &AtomicU32) {
    call(&WAKE_ANY, word);
}

/// Wakes all threads that sleep on this word.
pub(crate) fn wake_all(word: &AtomicU32) {
    call(&WAKE_ALL, word);
}

fn call(function: &Function, word: &AtomicU32) {
    let Some(function) = function.find() else {
        return;
    };
    // SAFETY: the functions of these names have this signature (`os/os_sync_wait_on_address.h`).
    let wake = unsafe { transmute::<*mut c_void, Wake>(function) };
    let flags = libc::OS_SYNC_WAKE_BY_ADDRESS_SHARED;
    // SAFETY: the word is borrowed until the call returns, and has four bytes. It fails if no thread
    // sleeps.
    unsafe { wake(word.as_ptr().cast(), size_of::<u32>(), flags) };
}

/// A function that the system may lack.
struct Function {
    name: &'static CStr,
    /// Null until it was looked for, and `ABSENT` if there is none. Not a `OnceLock`: a child forked
    /// while another thread fills it would wait for that thread for ever.
    found: AtomicPtr<c_void>,
}

/// Stands for a function that the system lacks; no function is there.
const ABSENT: *mut c_void = ptr::without_provenance_mut(1);

impl Function {
    const fn new(name: &'static CStr) -> Self {
        let found = AtomicPtr::new(ptr::null_mut());
        Self { name, found }
    }

    fn find(&self) -> Option<*mut c_void> {
        let mut found = self.found.load(Ordering::Relaxed);
        if found.is_null() {
            // SAFETY: the name is C text. Nothing is loaded, so nothing is run.
            found = unsafe { libc::dlsym(libc::RTLD_DEFAULT, self.name.as_ptr()) };
            if found.is_null() {
                found = ABSENT;
            }
            self.found.store(found, Ordering::Relaxed);
        }
        (found != ABSENT).then_some(found)
    }
}
