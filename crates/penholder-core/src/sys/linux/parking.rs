//! Parking threads of this process, and waking many of them by one system call.
//!
//! Each thread has a place: a bit of one of a few words, on which it sleeps. A futex of its own
//! would cost a system call for each thread that is woken; 31 threads run again in two thirds of
//! the time if one call wakes them all (two processors).

use std::num::NonZeroU32;
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use rustix::thread::futex::{self, Flags};
use rustix::time::{ClockId, Timespec, clock_gettime};

/// How many words there are. Beyond 32 times as many threads, some share a place and are woken
/// together.
const WORDS: usize = 8;
/// As many threads as there are.
const ALL: u32 = i32::MAX.unsigned_abs();
/// The longest sleep: the end of it has to be a time that the kernel takes.
const PAUSE_MAX: Duration = Duration::from_secs(3600);

/// How often threads of each word were woken.
static WAKES: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];
/// How many threads sleep on each word, or are about to.
static SLEEPERS: [AtomicU32; WORDS] = [const { AtomicU32::new(0) }; WORDS];

/// Where a thread sleeps.
#[derive(Debug, Clone)]
pub(crate) struct Place {
    word: usize,
    bit: u32,
}

impl Place {
    pub(crate) fn of_this_thread() -> Self {
        static THREADS: AtomicUsize = AtomicUsize::new(0);
        thread_local! {
            static NUMBER: usize = THREADS.fetch_add(1, Ordering::Relaxed);
        }
        let number = NUMBER.with(|&number| number);
        Self {
            word: number / 32 % WORDS,
            bit: 1 << (number % 32),
        }
    }

    /// Returns how often threads were woken here; asked before the thread looks whether there is
    /// still a reason to sleep.
    pub(crate) fn wakes(&self) -> u32 {
        WAKES[self.word].load(Ordering::SeqCst)
    }

    /// Sleeps if no thread was woken here since `wakes` was asked, for at most `pause`. Spurious
    /// wakes happen.
    pub(crate) fn park(&self, wakes: u32, pause: Duration) {
        let word = &WAKES[self.word];
        let Some(bit) = NonZeroU32::new(self.bit) else {
            return;
        };
        let end = end_of(pause.min(PAUSE_MAX));
        let sleepers = &SLEEPERS[self.word];
        // First: who wakes threads and finds no sleeper has changed the word before.
        sleepers.fetch_add(1, Ordering::SeqCst);
        // After a changed word, a signal or the timeout the caller does the same: it looks again.
        let _ = futex::wait_bitset(word, Flags::PRIVATE, wakes, Some(&end), bit);
        sleepers.fetch_sub(1, Ordering::SeqCst);
    }
}

/// Returns the time at which a pause ends that begins now.
fn end_of(pause: Duration) -> Timespec {
    let now = clock_gettime(ClockId::Monotonic);
    let pause = Timespec::try_from(pause).unwrap_or_default();
    now + pause
}

/// The places of threads that are to be woken.
#[derive(Debug, Default)]
pub(crate) struct Places([u32; WORDS]);

impl Places {
    pub(crate) fn add(&mut self, place: &Place) {
        self.0[place.word] |= place.bit;
    }

    /// Wakes the threads in these places.
    pub(crate) fn wake(&self) {
        for ((word, sleepers), bits) in WAKES.iter().zip(&SLEEPERS).zip(self.0) {
            let Some(bits) = NonZeroU32::new(bits) else {
                continue;
            };
            word.fetch_add(1, Ordering::SeqCst);
            if sleepers.load(Ordering::SeqCst) > 0 {
                let _ = futex::wake_bitset(word, Flags::PRIVATE, ALL, bits);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicBool;
    use std::thread;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    fn park_until(is_over: &AtomicBool) {
        let place = Place::of_this_thread();
        loop {
            let wakes = place.wakes();
            if is_over.load(Ordering::Acquire) {
                return;
            }
            place.park(wakes, LONG);
        }
    }

    /// More than there are places.
    #[test]
    fn threads_are_woken_together() {
        let begun = Instant::now();
        for round in 0..10 {
            let over: Vec<AtomicBool> = (0..300).map(|_| AtomicBool::new(false)).collect();
            let (places, all) = (std::sync::Mutex::new(Places::default()), &over);
            let joined = AtomicUsize::new(0);
            thread::scope(|scope| {
                for one in all {
                    let (places, joined) = (&places, &joined);
                    scope.spawn(move || {
                        places.lock().unwrap().add(&Place::of_this_thread());
                        joined.fetch_add(1, Ordering::Relaxed);
                        park_until(one);
                    });
                }
                while joined.load(Ordering::Relaxed) < all.len() {
                    thread::yield_now();
                }
                // Some sleep by now, others are about to.
                thread::sleep(Duration::from_millis(round));
                for one in all {
                    one.store(true, Ordering::Release);
                }
                places.lock().unwrap().wake();
            });
        }
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_thread_that_was_woken_before_it_sleeps_does_not_sleep() {
        let begun = Instant::now();
        let place = Place::of_this_thread();
        let wakes = place.wakes();
        let mut places = Places::default();
        places.add(&place);
        places.wake();
        place.park(wakes, LONG);
        assert!(begun.elapsed() < LONG);
    }

    #[test]
    fn a_pause_ends_by_itself() {
        let place = Place::of_this_thread();
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_millis(20) {
            place.park(place.wakes(), Duration::from_millis(5));
        }
        assert!(begun.elapsed() < LONG);
        place.park(place.wakes().wrapping_sub(1), Duration::MAX);
    }
}
