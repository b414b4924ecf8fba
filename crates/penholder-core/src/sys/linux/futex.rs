//! Sleeping on a word of shared memory until another process wakes this one.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use rustix::thread::futex::{self, Flags};
use rustix::time::Timespec;

/// Sleeps while the word is `seen`, for at most `pause`. Spurious wakes happen.
pub(crate) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    let timeout = Timespec {
        tv_sec: i64::try_from(pause.as_secs()).unwrap_or(i64::MAX),
        tv_nsec: pause.subsec_nanos().into(),
    };
    // Not private: the word is shared between processes. After a changed word, a
    // signal or the timeout the caller does the same: it looks again.
    let _ = futex::wait(word, Flags::empty(), seen, Some(&timeout));
}

/// Does the same on a word on which several threads sleep, all of which a wake concerns.
pub(crate) fn wait_among_others(word: &AtomicU32, seen: u32, pause: Duration) {
    wait(word, seen, pause);
}

/// Wakes one thread that sleeps on this word.
pub(crate) fn wake(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), 1);
}

/// Wakes all threads that sleep on this word.
pub(crate) fn wake_all(word: &AtomicU32) {
    let _ = futex::wake(word, Flags::empty(), i32::MAX.unsigned_abs());
}
