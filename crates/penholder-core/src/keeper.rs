//! The thread that ends leases of a process that has stopped writing.
//!
//! | its word | meaning | leaves by |
//! | --- | --- | --- |
//! | `NONE` | there is no thread | a lease is wanted → `STARTING` |
//! | `STARTING` | a thread is being started; no other thread begins a lease | it runs → `AWAKE`; the system refuses it → `REFUSED` |
//! | `AWAKE` | it looks at all leases, again and again | it finds none for a while → `ASLEEP` |
//! | `ASLEEP` | it sleeps | a lock is kept → `AWAKE`, and a wake-up |
//! | `REFUSED` | the system refused the thread: there are no leases | one is wanted a second later → `STARTING` |
//!
//! It lives as long as the process. A forked child begins with `NONE`.

use std::sync::atomic::Ordering::SeqCst;
use std::sync::atomic::{AtomicU32, AtomicU64};
use std::thread;
use std::time::Duration;

use crate::attachment;
use crate::lease_party::LeaseEnd;
use crate::sys::{clock, futex};
use crate::time::nanos;

/// A lease ends this long after the last hold.
const IDLE: Duration = Duration::from_micros(500);
/// The shortest pause between two looks.
const PAUSE_MIN: Duration = Duration::from_micros(200);
/// The longest.
const PAUSE_MAX: Duration = Duration::from_millis(1);
/// It sleeps after so many looks that found nothing.
const LOOKS: u32 = 3;
/// After a refusal the system is asked again after this time.
const RETRY: Duration = Duration::from_secs(1);
/// It wakes up by itself after this time, whatever happened to its word.
const SLEEP_MAX: Duration = Duration::from_secs(1);

const NONE: u32 = 0;
const AWAKE: u32 = 1;
const ASLEEP: u32 = 2;
const REFUSED: u32 = 3;
const STARTING: u32 = 4;

static WORD: AtomicU32 = AtomicU32::new(NONE);
/// When the system last refused the thread: coarse monotonic clock, nanoseconds.
static REFUSED_AT: AtomicU64 = AtomicU64::new(0);

/// The word, and how a thread sleeps on it. The kernel's is replaced in the model of the tests.
trait SleepWord {
    fn load(&self) -> u32;
    fn swap(&self, new: u32) -> u32;
    /// Sleeps while it has this value, for a bounded time.
    fn wait(&self, value: u32);
    fn wake(&self);
}

impl SleepWord for AtomicU32 {
    fn load(&self) -> u32 {
        self.load(SeqCst)
    }

    fn swap(&self, new: u32) -> u32 {
        self.swap(new, SeqCst)
    }

    fn wait(&self, value: u32) {
        futex::wait(self, value, SLEEP_MAX);
    }

    fn wake(&self) {
        futex::wake(self);
    }
}

/// Starts the thread, if it does not run; `false` if there is none.
pub(crate) fn start() -> bool {
    let seen = WORD.load(SeqCst);
    match seen {
        AWAKE | ASLEEP => return true,
        STARTING => return false,
        REFUSED if clock::coarse() < REFUSED_AT.load(SeqCst) + nanos(RETRY) => return false,
        _ => {}
    }
    if WORD
        .compare_exchange(seen, STARTING, SeqCst, SeqCst)
        .is_err()
    {
        // Another thread was first.
        return matches!(WORD.load(SeqCst), AWAKE | ASLEEP);
    }
    let thread = thread::Builder::new()
        .name("penholder-lease".to_owned())
        .spawn(run);
    if thread.is_err() {
        REFUSED_AT.store(clock::coarse(), SeqCst);
        WORD.store(REFUSED, SeqCst);
    }
    thread.is_ok()
}

/// Tells the thread that a lock is kept.
pub(crate) fn watch() {
    wake_up(&WORD);
}

fn wake_up(word: &impl SleepWord) {
    if word.load() == ASLEEP && word.swap(AWAKE) == ASLEEP {
        word.wake();
    }
}

/// In a forked child: the thread is the parent's.
pub(crate) fn forget() {
    WORD.store(NONE, SeqCst);
}

fn run() {
    WORD.store(AWAKE, SeqCst);
    let mut empty_looks = 0;
    loop {
        let next = end_idle_leases();
        empty_looks = if next.is_some() { 0 } else { empty_looks + 1 };
        if empty_looks < LOOKS {
            let pause = next.unwrap_or(PAUSE_MAX);
            thread::sleep(pause.clamp(PAUSE_MIN, PAUSE_MAX));
            continue;
        }
        sleep(&WORD, || end_idle_leases().is_some());
        empty_looks = 0;
    }
}

/// Sleeps until a lock is kept.
fn sleep(word: &impl SleepWord, has_lease: impl FnOnce() -> bool) {
    word.swap(ASLEEP);
    // One may have been kept since the last look, by a thread that saw `AWAKE`.
    if !has_lease() {
        word.wait(ASLEEP);
    }
    word.swap(AWAKE);
}

/// Ends the leases that are idle for long enough; returns when the next one will be, if there is
/// one.
fn end_idle_leases() -> Option<Duration> {
    let (idle, now) = (nanos(IDLE), clock::monotonic());
    let mut next: Option<u64> = None;
    for attachment in attachment::all() {
        let Some(since) = attachment.kept_since() else {
            continue;
        };
        let over = since.saturating_add(idle);
        if over > now {
            next = Some(next.map_or(over, |next| next.min(over)));
        } else {
            attachment.end_lease(LeaseEnd::Idle);
        }
    }
    next.map(|next| Duration::from_nanos(next - now))
}

#[cfg(test)]
mod tests {
    use shuttle::sync::atomic::AtomicUsize;
    use shuttle::sync::{Arc, Condvar, Mutex};

    use super::*;

    /// As the kernel's, but only a wake-up ends a sleep: a lost one leaves the thread asleep for
    /// ever, which `shuttle` reports.
    struct ModelWord {
        value: Mutex<u32>,
        woken: Condvar,
    }

    impl SleepWord for ModelWord {
        fn load(&self) -> u32 {
            *self.value.lock().unwrap()
        }

        fn swap(&self, new: u32) -> u32 {
            std::mem::replace(&mut self.value.lock().unwrap(), new)
        }

        fn wait(&self, value: u32) {
            let seen = self.value.lock().unwrap();
            if *seen == value {
                drop(self.woken.wait(seen).unwrap());
            }
        }

        fn wake(&self) {
            let _seen = self.value.lock().unwrap();
            self.woken.notify_one();
        }
    }

    #[test]
    fn no_lease_is_left_while_the_thread_sleeps() {
        const LEASES: usize = 3;
        let scenario = || {
            let word = Arc::new(ModelWord {
                value: Mutex::new(AWAKE),
                woken: Condvar::new(),
            });
            let kept = Arc::new(AtomicUsize::new(0));
            let writers = [(); LEASES].map(|()| {
                let (word, kept) = (Arc::clone(&word), Arc::clone(&kept));
                shuttle::thread::spawn(move || {
                    kept.fetch_add(1, SeqCst);
                    wake_up(&*word);
                })
            });
            let mut ended = 0;
            while ended < LEASES {
                let mut end_all = || {
                    let found = kept.swap(0, SeqCst);
                    ended += found;
                    found > 0
                };
                if !end_all() {
                    sleep(&*word, end_all);
                }
            }
            for writer in writers {
                writer.join().unwrap();
            }
        };
        shuttle::check_random(scenario, 3_000);
        shuttle::check_pct(scenario, 3_000, 3);
    }
}
