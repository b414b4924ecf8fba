//! Counting commits, and waking the processes that wait for one.
//!
//! A commit adds one to the count, on whose low half the watchers sleep, and wakes all of them. A wake
//! costs the writer a system call and some microseconds for each watcher, so in a burst only a few
//! commits wake: there is a pause between two wakes, which is longer the more processes watch.
//!
//! | the word `Woken` is | a commit | a watcher that finds nothing new |
//! | --- | --- | --- |
//! | older than the pause: quiet | sets it to now, counts, wakes all | sleeps until it is woken, or looks at the files |
//! | younger: a burst | counts | sleeps until the pause is over at most, and looks again |
//! | in the future: garbage | as if it was quiet | as if it was quiet |
//!
//! So the last commit of a burst is found when the pause is over at the latest. This needs an order. A
//! watcher reads the count, then `Woken`, then the clock. A commit that wakes sets `Woken` *before* it
//! counts, so a watcher that finds its count finds the pause too. One that does not wake reads the clock
//! again *after* it has counted, and wakes if the pause is over: a watcher may have found that already.
//! Then it does not set `Woken`, which would be too late for that watcher. If two processes count at the
//! same moment, which they do only without the write lock, or if one dies in between, a watcher sleeps
//! until it looks at the files.
//!
//! The word `Watchers` is how many processes watch: 16 bits for this period, 16 bits for the period
//! before, and the number of the period in the higher half. Each watcher adds itself in each period.
//! No watcher takes itself out, so one that was killed costs the writers two periods.

use std::time::Duration;

/// A period lasts 2 to the power of this, in nanoseconds: 134 ms.
const PERIOD_BITS: u32 = 27;
/// The shortest pause between two wakes.
const PAUSE_MIN: Duration = Duration::from_micros(400);
/// It is longer by this for each watcher.
const PAUSE_OF_EACH: Duration = Duration::from_micros(400);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(40);

/// How often a watcher tries to add itself before it sleeps.
const TRIES_MAX: u32 = 1000;

const HALF: u32 = 16;
const LOW: u64 = 0xffff;

/// The shared words, the clock, and how a thread sleeps. The kernel's are replaced in the model of the
/// tests.
pub(super) trait CommitWords {
    /// Adds one.
    fn add_commit(&self);
    fn watchers(&self) -> u64;
    /// Replaces this value, if it is still there.
    fn replace_watchers(&self, seen: u64, new: u64) -> bool;
    /// Reads the word `Woken`.
    fn woken(&self) -> u64;
    fn set_woken(&self, now: u64);
    /// Reads the monotonic clock, in nanoseconds.
    fn now(&self) -> u64;
    /// Reads it as of the last tick.
    fn coarse_now(&self) -> u64;
    /// Sleeps while the count is this one, for at most `pause`.
    fn sleep(&self, seen: u64, pause: Duration);
    fn wake_all(&self);
}

/// Counts a commit. The caller has SQLite's write lock, or had it a moment ago.
pub(super) fn note_commit(words: &impl CommitWords) {
    count(words, || {
        words.add_commit();
        true
    });
}

/// Counts what `add` adds, unless that returns `false`.
pub(super) fn count(words: &impl CommitWords, add: impl FnOnce() -> bool) -> bool {
    let seen = words.watchers();
    let is_due = seen != 0 && is_wake_due(words, seen);
    if !add() {
        return false;
    }
    // After the count: one that begins to watch adds itself before it reads that.
    if is_due || words.watchers() != 0 && left_of_burst(words).is_none() {
        words.wake_all();
    }
    true
}

/// Returns whether this commit is to wake the watchers, and notes it.
#[cold]
fn is_wake_due(words: &impl CommitWords, seen: u64) -> bool {
    let watchers = living(seen, period(words));
    if watchers == 0 {
        // Not there any more. If one has come meanwhile, the word is another.
        words.replace_watchers(seen, 0);
        return false;
    }
    let now = words.now();
    let is_due = left_of_pause(words.woken(), now, watchers).is_none();
    if is_due {
        words.set_woken(now);
    }
    is_due
}

/// Adds a watcher, unless it has done so in this period. `added` is when it last did.
pub(super) fn add_watcher(words: &impl CommitWords, added: &mut Option<u32>) {
    let period = period(words);
    if *added == Some(period) {
        return;
    }
    let add = |seen| words.replace_watchers(seen, with_one_more(seen, period));
    // Another process that adds itself at the same moment is in the way once.
    if (0..TRIES_MAX).any(|_| add(words.watchers())) {
        *added = Some(period);
    }
}

/// Sleeps while the count is this one, for at most `longest`; for less in a burst. The caller has
/// added itself before it read the count.
pub(super) fn sleep(words: &impl CommitWords, seen: u64, longest: Duration) {
    let pause = left_of_burst(words).map_or(longest, |left| left.min(longest));
    words.sleep(seen, pause);
}

fn left_of_burst(words: &impl CommitWords) -> Option<Duration> {
    let watchers = living(words.watchers(), period(words));
    left_of_pause(words.woken(), words.now(), watchers)
}

/// Returns how long a watcher should let pass between two commits that it is told of.
pub(super) fn pause(words: &impl CommitWords) -> Duration {
    pause_for(living(words.watchers(), period(words)))
}

/// Returns what is left of the pause after a wake; `None` if it is over.
fn left_of_pause(woken: u64, now: u64, watchers: u64) -> Option<Duration> {
    let passed = Duration::from_nanos(now.checked_sub(woken)?);
    pause_for(watchers)
        .checked_sub(passed)
        .filter(|left| !left.is_zero())
}

fn pause_for(watchers: u64) -> Duration {
    let watchers = u32::try_from(watchers).unwrap_or(u32::MAX);
    PAUSE_OF_EACH
        .saturating_mul(watchers)
        .clamp(PAUSE_MIN, PAUSE_MAX)
}

/// Returns the number of the present period, as far as the word has room for it.
fn period(words: &impl CommitWords) -> u32 {
    low(words.coarse_now() >> PERIOD_BITS)
}

/// Returns how many watchers there are; zero if the word is too old.
fn living(word: u64, period: u32) -> u64 {
    let (before, now) = ((word >> HALF) & LOW, word & LOW);
    match low(word >> 32).wrapping_sub(period).cast_signed() {
        // The clock of another processor may be a tick ahead.
        0 | 1 => before.max(now),
        -1 => now,
        _ => 0,
    }
}

fn with_one_more(word: u64, period: u32) -> u64 {
    let (before, now) = ((word >> HALF) & LOW, word & LOW);
    let (before, now) = match low(word >> 32).wrapping_sub(period).cast_signed() {
        0 => (before, now),
        -1 => (now, 0),
        _ => (0, 0),
    };
    u64::from(period) << 32 | before << HALF | (now + 1).min(LOW)
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use shuttle::rand::{Rng, thread_rng};
    use shuttle::sync::{Arc, Condvar, Mutex};

    use super::*;
    use crate::time::nanos;

    /// Longer than any pause: only a wake ends such a sleep.
    const LONG: Duration = Duration::from_secs(1);

    #[derive(Default)]
    struct State {
        commits: u64,
        watchers: u64,
        woken: u64,
        clock: u64,
        wakes: u64,
    }

    /// As the shared words, but a long sleep ends only if the thread is woken: a commit that no watcher
    /// notices leaves one asleep for ever, which `shuttle` reports.
    #[derive(Default)]
    struct ModelWords {
        state: Mutex<State>,
        woken: Condvar,
    }

    impl ModelWords {
        fn with<T>(&self, step: impl FnOnce(&mut State) -> T) -> T {
            step(&mut self.state.lock().unwrap())
        }

        fn commits(&self) -> u64 {
            self.with(|state| state.commits)
        }
    }

    impl CommitWords for ModelWords {
        fn add_commit(&self) {
            self.with(|state| state.commits += 1);
        }

        fn watchers(&self) -> u64 {
            self.with(|state| state.watchers)
        }

        fn replace_watchers(&self, seen: u64, new: u64) -> bool {
            self.with(|state| {
                let is_same = state.watchers == seen;
                if is_same {
                    state.watchers = new;
                }
                is_same
            })
        }

        fn woken(&self) -> u64 {
            self.with(|state| state.woken)
        }

        fn set_woken(&self, now: u64) {
            self.with(|state| state.woken = now);
        }

        fn now(&self) -> u64 {
            self.with(|state| state.clock)
        }

        fn coarse_now(&self) -> u64 {
            0
        }

        fn sleep(&self, seen: u64, pause: Duration) {
            if pause < LONG {
                self.with(|state| state.clock += nanos(pause));
                shuttle::thread::yield_now();
                return;
            }
            let state = self.state.lock().unwrap();
            if state.commits == seen {
                drop(self.woken.wait(state).unwrap());
            }
        }

        fn wake_all(&self) {
            self.with(|state| state.wakes += 1);
            self.woken.notify_all();
        }
    }

    fn watch(words: &ModelWords, until: u64) {
        let mut added = None;
        loop {
            add_watcher(words, &mut added);
            let seen = words.commits();
            if seen == until {
                return;
            }
            sleep(words, seen, LONG);
        }
    }

    #[test]
    fn no_watcher_sleeps_on_after_the_last_commit() {
        const WRITERS: usize = 2;
        const EACH: u64 = 3;
        let scenario = || {
            let words = Arc::new(ModelWords::default());
            words.with(|state| state.clock = nanos(LONG));
            let lock = Arc::new(Mutex::new(()));
            let watchers = [(); 2].map(|()| {
                let words = Arc::clone(&words);
                shuttle::thread::spawn(move || watch(&words, WRITERS as u64 * EACH))
            });
            let writers = [(); WRITERS].map(|()| {
                let (words, lock) = (Arc::clone(&words), Arc::clone(&lock));
                shuttle::thread::spawn(move || {
                    for _ in 0..EACH {
                        let held = lock.lock().unwrap();
                        let passed = thread_rng().gen_range(0..nanos(PAUSE_MIN) * 2);
                        words.with(|state| state.clock += passed);
                        note_commit(&*words);
                        drop(held);
                    }
                })
            });
            for thread in writers.into_iter().chain(watchers) {
                thread.join().unwrap();
            }
        };
        shuttle::check_random(scenario, 3_000);
        shuttle::check_pct(scenario, 3_000, 3);
    }

    fn words_with(watchers: u64) -> ModelWords {
        let words = ModelWords::default();
        words.with(|state| {
            state.clock = nanos(LONG);
            state.watchers = watchers;
        });
        words
    }

    #[test]
    fn a_burst_wakes_a_few_times() {
        shuttle::check_random(
            || {
                let words = words_with(0);
                add_watcher(&words, &mut None);
                for _ in 0..1000 {
                    words.with(|state| state.clock += 1_000);
                    note_commit(&words);
                }
                assert_eq!(words.commits(), 1000);
                let wakes = words.with(|state| state.wakes);
                assert!((2..=4).contains(&wakes), "{wakes} in a millisecond");
            },
            1,
        );
    }

    #[test]
    fn watchers_that_are_gone_are_forgotten_after_two_periods() {
        let period = 7;
        let mut word = 0;
        for _ in 0..100 {
            word = with_one_more(word, period);
        }
        for later in [0, 1] {
            assert_eq!(living(word, period + later), 100);
        }
        assert_eq!(living(word, period + 2), 0);
        // Those that live are added again.
        word = with_one_more(word, period + 1);
        assert_eq!(living(word, period + 1), 100);
        word = with_one_more(word, period + 2);
        assert_eq!(living(word, period + 2), 1);
        assert_eq!(living(word, period + 4), 0);
        assert_eq!(living(with_one_more(word, 0), 0), 1);
    }

    #[test]
    fn a_writer_clears_a_word_that_is_too_old() {
        shuttle::check_random(
            || {
                let words = words_with(5 << 32 | 100);
                note_commit(&words);
                let after = words.with(|state| (state.watchers, state.wakes, state.commits));
                assert_eq!(after, (0, 0, 1));
            },
            1,
        );
    }

    #[test]
    fn garbage_costs_a_wake_or_a_short_sleep() {
        shuttle::check_random(
            || {
                let period = 1u64 << 32;
                for watchers in [1, LOW, u64::MAX, u64::MAX >> 32, period | LOW] {
                    for woken in [0, nanos(LONG), nanos(LONG) + 1, u64::MAX] {
                        let words = words_with(watchers);
                        words.with(|state| state.woken = woken);
                        assert!(left_of_burst(&words).unwrap_or_default() <= PAUSE_MAX);
                        assert!(pause(&words) <= PAUSE_MAX);
                        let mut added = None;
                        add_watcher(&words, &mut added);
                        assert!(added.is_some());
                        note_commit(&words);
                        assert_eq!(words.commits(), 1);
                    }
                }
            },
            1,
        );
    }
}
