//! Sleeping on a word of shared memory. No other process can wake the sleeper.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

/// Sleeps for `pause` if the word is `seen`.
pub(crate) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    if word.load(Ordering::SeqCst) == seen {
        thread::sleep(pause);
    }
}

/// Does the same.
pub(crate) fn wait_among_others(word: &AtomicU32, seen: u32, pause: Duration) {
    wait(word, seen, pause);
}

/// Does nothing: a sleeper sleeps to the end of its pause.
pub(crate) fn wake(_word: &AtomicU32) {}

/// Does nothing, as [`wake`].
pub(crate) fn wake_all(_word: &AtomicU32) {}
