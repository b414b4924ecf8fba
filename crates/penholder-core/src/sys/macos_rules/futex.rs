//! Sleeping on a word of shared memory, as on macOS before 14.4: nothing wakes a sleeper, which looks
//! at the word itself.

use std::sync::atomic::AtomicU32;
use std::time::Duration;

use crate::sys::bsd::polled_word;

/// Sleeps while the word is `seen`, for at most `pause`.
pub(crate) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    polled_word::wait(word, seen, pause);
}

/// Does the same.
pub(crate) fn wait_among_others(word: &AtomicU32, seen: u32, pause: Duration) {
    wait(word, seen, pause);
}

/// Does nothing: the sleeper finds that the word has changed.
pub(crate) fn wake(_word: &AtomicU32) {}

/// Does nothing, as [`wake`].
pub(crate) fn wake_all(_word: &AtomicU32) {}
