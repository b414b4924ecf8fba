#![expect(
    unsafe_code,
    reason = "waiting for an event and a timer; WaitOnAddress"
)]
//! Sleeping on a word until another thread wakes this one, which may be one of another process if the
//! word is in a mapped file.
//!
//! Windows has no futex that processes share. A thread that sleeps on a word of a mapped file waits for
//! an event of that word. A wake sets it, after the word was changed: the sleeper looks at the word after
//! it has opened the event, so it either sees the change or is woken. An event that nobody waits for
//! stays set, and ends the next sleep at once. All of that is allowed by the interface: spurious wakes
//! happen.
//!
//! An event wakes one thread. Where several sleep on a word, each that is woken by a change passes the
//! wake on to the next.

use std::io;
use std::os::windows::io::{AsRawHandle, OwnedHandle};
use std::ptr;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::Duration;

use windows_sys::Win32::Foundation::WAIT_OBJECT_0;
use windows_sys::Win32::System::Threading::{
    CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, CreateWaitableTimerExW, INFINITE, SetWaitableTimer,
    TIMER_ALL_ACCESS, WaitForMultipleObjects, WaitOnAddress, WakeByAddressAll, WakeByAddressSingle,
};

use super::event::{self, Event};
use super::handle;

/// Longer sleeps end by the system's clock, whose ticks are 16 ms apart.
const PRECISE_MAX: Duration = Duration::from_millis(100);
/// How long a thread sleeps where no event can be made.
const STEP: Duration = Duration::from_millis(2);

/// Sleeps while the word is `seen`, for at most `pause`. Spurious wakes happen.
pub(crate) fn wait(word: &AtomicU32, seen: u32, pause: Duration) {
    sleep(word, seen, pause);
}

/// Does the same on a word on which several threads sleep, all of which a wake concerns.
pub(crate) fn wait_among_others(word: &AtomicU32, seen: u32, pause: Duration) {
    let woken_by = sleep(word, seen, pause);
    if let Some(event) = woken_by
        && word.load(Ordering::SeqCst) != seen
    {
        event.set();
    }
}

/// Wakes one thread that sleeps on this word.
pub(crate) fn wake(word: &AtomicU32) {
    match Event::of_word(address(word)) {
        Some(event) => event.set(),
        // SAFETY: the address is only a name for the system, which reads nothing there.
        None => unsafe { WakeByAddressSingle(word.as_ptr().cast()) },
    }
}

/// Wakes all threads that sleep on this word.
pub(crate) fn wake_all(word: &AtomicU32) {
    match Event::of_word(address(word)) {
        Some(event) => event.set(),
        // SAFETY: as in `wake`.
        None => unsafe { WakeByAddressAll(word.as_ptr().cast()) },
    }
}

fn address(word: &AtomicU32) -> usize {
    word.as_ptr().addr()
}

/// Returns the event by which the thread was woken, if it was.
fn sleep(word: &AtomicU32, seen: u32, pause: Duration) -> Option<Event> {
    if !event::is_mapped(address(word)) {
        wait_on_address(word, seen, pause);
        return None;
    }
    let event = Event::of_word(address(word));
    // Not before the event is there for the one who changes the word.
    if word.load(Ordering::SeqCst) != seen {
        return None;
    }
    let Some(event) = event else {
        thread::sleep(pause.min(STEP));
        return None;
    };
    let is_woken = wait_for(event.handle(), pause);
    is_woken.then_some(event)
}

fn wait_on_address(word: &AtomicU32, seen: u32, pause: Duration) {
    let (word, seen) = (word.as_ptr().cast(), ptr::from_ref(&seen).cast());
    // SAFETY: both addresses are those of four bytes that live until the call returns.
    unsafe { WaitOnAddress(word, seen, size_of::<u32>(), millis(pause)) };
}

/// Waits for an event; returns whether it was set within `pause`.
fn wait_for(event: &OwnedHandle, pause: Duration) -> bool {
    thread_local! {
        static TIMER: Option<OwnedHandle> = timer().ok();
    }
    let precise = |timer: &Option<OwnedHandle>| {
        let timer = timer.as_ref().filter(|_| pause < PRECISE_MAX)?;
        wait_precisely(event, timer, pause)
    };
    // None while the thread ends.
    let woken = TIMER.try_with(precise).ok().flatten();
    woken.unwrap_or_else(|| handle::wait(event, millis(pause)))
}

/// Makes a timer that does not wait for a tick of the system's clock (Windows 10, version 1803).
fn timer() -> io::Result<OwnedHandle> {
    let (flags, rights) = (CREATE_WAITABLE_TIMER_HIGH_RESOLUTION, TIMER_ALL_ACCESS);
    // SAFETY: a timer without a name and without attributes reads nothing of ours.
    let timer = unsafe { CreateWaitableTimerExW(ptr::null(), ptr::null(), flags, rights) };
    // SAFETY: the call returned null, or an open handle that is ours.
    unsafe { handle::owned(timer) }
}

/// Returns `None` if the timer cannot be set.
fn wait_precisely(event: &OwnedHandle, timer: &OwnedHandle, pause: Duration) -> Option<bool> {
    // In steps of 100 nanoseconds; negative from now on.
    let due = -i64::try_from(pause.as_nanos().div_ceil(100)).ok()?;
    // SAFETY: the handle is open while it is borrowed, `due` is ours, and no function is to be called.
    let set = unsafe {
        SetWaitableTimer(
            timer.as_raw_handle(),
            &raw const due,
            0,
            None,
            ptr::null(),
            0,
        )
    };
    if set == 0 {
        return None;
    }
    let both = [event.as_raw_handle(), timer.as_raw_handle()];
    // SAFETY: there are two handles, which are open while they are borrowed.
    let ended = unsafe { WaitForMultipleObjects(2, both.as_ptr(), 0, INFINITE) };
    Some(ended == WAIT_OBJECT_0)
}

/// Returns a pause in whole milliseconds, at least as long.
fn millis(pause: Duration) -> u32 {
    let millis = pause.as_nanos().div_ceil(1_000_000);
    u32::try_from(millis).unwrap_or(INFINITE - 1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sys::file::{allocate, open_or_create};
    use crate::sys::map::Mapping;
    use std::sync::Barrier;
    use std::time::Instant;

    const LONG: Duration = Duration::from_secs(60);

    /// A mapping of its own for each thread, as in different processes.
    fn with_mappings(body: impl Fn(&[Mapping])) {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("words");
        let file = open_or_create(&path, None).unwrap();
        allocate(&file, 65536).unwrap();
        let mappings: Vec<_> = (0..4)
            .map(|_| Mapping::of(&file, 0, 65536).unwrap())
            .collect();
        body(&mappings);
    }

    #[test]
    fn a_wake_through_another_mapping_ends_a_sleep() {
        with_mappings(|mappings| {
            let begun = Instant::now();
            thread::scope(|scope| {
                scope.spawn(|| {
                    let word = &mappings[0].u32s()[7];
                    while word.load(Ordering::SeqCst) == 0 {
                        wait(word, 0, LONG);
                    }
                });
                thread::sleep(Duration::from_millis(30));
                let word = &mappings[1].u32s()[7];
                word.store(1, Ordering::SeqCst);
                wake(word);
            });
            assert!(begun.elapsed() < LONG);
        });
    }

    #[test]
    fn a_wake_reaches_all_that_sleep_on_a_word() {
        with_mappings(|mappings| {
            let begun = Instant::now();
            for round in 1..=20 {
                let ready = Barrier::new(mappings.len());
                thread::scope(|scope| {
                    for mapping in &mappings[1..] {
                        let ready = &ready;
                        scope.spawn(move || {
                            let word = &mapping.u32s()[9];
                            ready.wait();
                            while word.load(Ordering::SeqCst) < round {
                                wait_among_others(word, round - 1, LONG);
                            }
                        });
                    }
                    ready.wait();
                    thread::sleep(Duration::from_millis(2));
                    let word = &mappings[0].u32s()[9];
                    word.store(round, Ordering::SeqCst);
                    wake_all(word);
                });
            }
            assert!(begun.elapsed() < LONG);
        });
    }

    #[test]
    fn a_sleep_ends_by_itself_and_does_not_begin_if_the_word_is_another() {
        with_mappings(|mappings| {
            let begun = Instant::now();
            for word in [&mappings[0].u32s()[11], &AtomicU32::new(0)] {
                wait(word, 0, Duration::from_millis(5));
                wait(word, 1, LONG);
            }
            assert!(begun.elapsed() >= Duration::from_millis(10));
            assert!(begun.elapsed() < LONG);
        });
    }
}
