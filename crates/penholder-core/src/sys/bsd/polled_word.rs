//! Sleeping on a word of shared memory that another process changes, where the system wakes nobody
//! for it: the sleeper looks at the word again and again.
//!
//! A sleeper notices a change after a tenth of the time that it has slept, after [`STEP_MIN`] at
//! least and after [`STEP_MAX`] at most. It looks at the word about 75 times until it has slept for 200
//! ms, and 50 times in each second after that: some microseconds of a processor each time. With 5 ms
//! instead of 20, 300 sleepers took two processors for themselves.

use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

/// The shortest step, in which nothing is noticed. The system makes it somewhat longer.
const STEP_MIN: Duration = Duration::from_micros(50);
/// The longest.
const STEP_MAX: Duration = Duration::from_millis(20);

/// Sleeps while the word is `seen`, for at most `pause`.
pub(in crate::sys) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    let begun = Instant::now();
    while word.load(Ordering::SeqCst) == seen {
        let slept = begun.elapsed();
        let left = pause.saturating_sub(slept);
        if left.is_zero() {
            return;
        }
        thread::sleep((slept / 10).clamp(STEP_MIN, STEP_MAX).min(left));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_ends_the_sleep_and_so_does_its_end() {
        let word = AtomicU32::new(1);
        let begun = Instant::now();
        wait(&word, 0, Duration::from_secs(60));
        thread::scope(|scope| {
            let sleeper = scope.spawn(|| wait(&word, 1, Duration::from_secs(60)));
            thread::sleep(Duration::from_millis(30));
            word.store(2, Ordering::SeqCst);
            sleeper.join().unwrap();
        });
        assert!(begun.elapsed() < Duration::from_secs(30));
        let begun = Instant::now();
        wait(&word, 2, Duration::from_millis(20));
        assert!(begun.elapsed() >= Duration::from_millis(20));
    }
}
