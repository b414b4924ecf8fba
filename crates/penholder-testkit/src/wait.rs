//! Bounded waits and measured times.

use std::thread;
use std::time::{Duration, Instant};

/// The longest wait of any test. It is generous because it only catches hangs. Wine is slow.
pub const LIMIT: Duration = Duration::from_secs(if cfg!(windows) { 150 } else { 60 });

/// Waits until a condition holds.
///
/// # Panics
///
/// Fails the test with `what` after [`LIMIT`].
#[track_caller]
pub fn until(what: &str, mut condition: impl FnMut() -> bool) {
    let deadline = Instant::now() + LIMIT;
    while !condition() {
        assert!(Instant::now() < deadline, "waited {LIMIT:?} for: {what}");
        thread::sleep(Duration::from_millis(1));
    }
}

/// Runs `work` and measures how long it takes.
pub fn timed<T>(work: impl FnOnce() -> T) -> (T, Duration) {
    let start = Instant::now();
    let result = work();
    (result, start.elapsed())
}
