//! The thread that ends leases of a process that has stopped writing.
//!
//! | its word | meaning | leaves by |
//! | --- | --- | --- |
//! | `NONE` | there is no thread | a lease is wanted → `AWAKE`, with a thread |
//! | `AWAKE` | it looks at all leases, again and again | it finds none for a while → `ASLEEP` |
//! | `ASLEEP` | it sleeps | a lock is kept → `AWAKE`, and a wake-up |
//! | `REFUSED` | the system refused the thread: there are no leases | never |
//!
//! It lives as long as the process. A forked child begins with `NONE`.

use std::sync::atomic::AtomicU32;
use std::sync::atomic::Ordering::SeqCst;
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
const LOOKS: u32 = 10;
/// It wakes up by itself after this time, whatever happened to its word.
const SLEEP_MAX: Duration = Duration::from_secs(1);

const NONE: u32 = 0;
const AWAKE: u32 = 1;
const ASLEEP: u32 = 2;
const REFUSED: u32 = 3;

static WORD: AtomicU32 = AtomicU32::new(NONE);

/// Starts the thread, if it does not run; `false` if there is none.
pub(crate) fn start() -> bool {
    match WORD.load(SeqCst) {
        AWAKE | ASLEEP => return true,
        REFUSED => return false,
        _ => {}
    }
    if WORD.compare_exchange(NONE, AWAKE, SeqCst, SeqCst).is_err() {
        // Another thread was first.
        return WORD.load(SeqCst) != REFUSED;
    }
    let thread = thread::Builder::new()
        .name("penholder-lease".to_owned())
        .spawn(run);
    if thread.is_err() {
        WORD.store(REFUSED, SeqCst);
    }
    thread.is_ok()
}

/// Tells the thread that a lock is kept.
pub(crate) fn watch() {
    if WORD.load(SeqCst) == ASLEEP && WORD.swap(AWAKE, SeqCst) == ASLEEP {
        futex::wake(&WORD);
    }
}

/// In a forked child: the thread is the parent's.
pub(crate) fn forget() {
    WORD.store(NONE, SeqCst);
}

fn run() {
    let mut empty_looks = 0;
    loop {
        let next = end_idle_leases();
        empty_looks = if next.is_some() { 0 } else { empty_looks + 1 };
        if empty_looks < LOOKS {
            let pause = next.unwrap_or(PAUSE_MAX);
            thread::sleep(pause.clamp(PAUSE_MIN, PAUSE_MAX));
            continue;
        }
        WORD.store(ASLEEP, SeqCst);
        // One may have been kept since the last look, by a thread that saw `AWAKE`.
        if end_idle_leases().is_none() {
            futex::wait(&WORD, ASLEEP, SLEEP_MAX);
        }
        WORD.store(AWAKE, SeqCst);
        empty_looks = 0;
    }
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
