//! How long anything lasts at the turnstile, and in which order waiters are served.
//!
//! Every figure was chosen by measurement on a machine with two processors; see
//! `docs/design.md`, "The queue".

use std::time::Duration;

use crate::time::nanos;

/// How long one process may keep retaking the lock while others wait.
const SLICE: Duration = Duration::from_millis(2);
/// The shortest slice: each handoff costs some tens of microseconds.
const SLICE_MIN: Duration = Duration::from_millis(1);
/// The same if so many wait that a round of such slices would take a tenth of a second.
const SLICE_MIN_OF_MANY: Duration = Duration::from_micros(400);
/// How many that is.
const MANY: u32 = 100;
/// How long a slice may last in which everyone who waits has a request that the holder executes.
pub(super) const COMBINING_SLICE: Duration = Duration::from_millis(10);
/// What the slices of all waiters together should last, within these bounds.
const ROUND: Duration = Duration::from_millis(48);
/// A caller that pauses longer than this between two writes does not keep the lock for
/// its next one.
const QUICK: Duration = Duration::from_micros(20);
/// The same if its slice is over: it may have lost the processor to the next process.
pub(super) const CUT: Duration = Duration::from_millis(10);
/// A caller that pauses up to this long between two writes may keep the lock *held* for its next
/// one, if it pauses no longer than [`QUICK`] on average: handing the lock over takes longer than
/// most of its pauses. So may any caller, if for [`CALM`] holds no process has waited. One that
/// comes meanwhile waits at most as long as a lease may be idle.
pub(super) const LEISURE: Duration = Duration::from_micros(60);
/// A caller that asks again within this time still wants it for the same hold. SQLite's busy handler
/// pauses for up to 100 ms.
pub(super) const ASKING: Duration = Duration::from_millis(250);
/// A longer pause counts like one of this length in their mean.
pub(super) const GAP_MAX: Duration = Duration::from_micros(240);
/// After so many holds that no process waited for, a process takes itself for the only one that
/// writes.
pub(super) const CALM: u32 = 64;
/// How long running processes may pass the first waiter after it was woken.
pub(super) const BARGING: Duration = Duration::from_millis(2);
/// How long the first waiter spins before it sleeps, once when it arrives and once after
/// each wake-up: about what going to sleep and being woken costs.
pub(super) const SPIN: Duration = Duration::from_micros(25);
/// The first pause of the first waiter between two probes.
const PROBE: Duration = Duration::from_millis(1);
/// Its longest pause.
const PROBE_MAX: Duration = Duration::from_micros(2500);
/// How long a kept lock may stand unused before the first waiter takes it.
const KEPT_PAUSE: Duration = Duration::from_micros(50);
/// The pause of waiters further back.
pub(super) const BACK_PAUSE: Duration = Duration::from_millis(50);
/// Added to `BACK_PAUSE` for each waiter ahead.
const BACK_PAUSE_EACH: Duration = Duration::from_millis(2);
/// The first pause of a waiter further back that has left a request. Those before it may be served
/// without its being woken, so that it finds out by itself that it is the first.
const REQUEST_PAUSE: Duration = Duration::from_millis(3);
/// Its longest pause.
const REQUEST_PAUSE_MAX: Duration = Duration::from_millis(25);
/// How many waiters double that pause: a batch takes longer then.
const REQUEST_PAUSE_SHARE: u32 = 16;
/// A lock that has had the same state for this long is tried in any state.
pub(super) const UNMOVED: Duration = Duration::from_millis(100);
/// A waiter that is in the queue this long after its deadline is stopped.
pub(super) const OVERDUE: Duration = Duration::from_millis(100);
/// How long before the end of a slice the next waiter is woken, so that it is awake by
/// then.
pub(super) const WAKING: Duration = Duration::from_micros(60);
/// How long a waiter goes without reporting again that a process which does not queue has the
/// lock: the report reads the kernel's tables.
pub(super) const REPORT_PAUSE: Duration = Duration::from_secs(1);
/// A process makes sure in one wait of this many that its ticket is the highest.
pub(super) const TICKET_CHECK: u32 = 64;
/// While no process waits, one acquisition in this many is measured.
pub(super) const SAMPLE: u32 = 8;
/// How often the process for which the lock is reserved tries at once while a reader of
/// the lock holds it for an instant. The model uses few tries, so that it also reaches the
/// case where all of them fail and the waiter sleeps.
pub(super) const RESERVED_TRIES: u32 = if cfg!(test) { 2 } else { 16 };

/// Returns whether a caller that paused for so many nanoseconds between two writes keeps the lock.
#[cfg(not(feature = "failpoints"))]
#[inline]
pub(super) fn is_quick(gap: u64) -> bool {
    gap < nanos(QUICK)
}

/// The same; a test may count more callers as quick: see
/// [`ALL_QUICK`](crate::failpoint::ALL_QUICK).
#[cfg(feature = "failpoints")]
pub(super) fn is_quick(gap: u64) -> bool {
    const ALL: Duration = Duration::from_micros(400);
    thread_local! {
        static LIMIT: Duration = match std::env::var_os(crate::failpoint::ALL_QUICK) {
            Some(_) => ALL,
            None => QUICK,
        };
    }
    // A thread that ends has dropped it already.
    gap < nanos(LIMIT.try_with(|&limit| limit).unwrap_or(QUICK))
}

/// In which order waiting processes are served.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum QueuePolicy {
    /// First come, first served, in time slices: the process whose turn it is may take
    /// the lock again for 0.4 to 2 ms while others wait (the more wait, the shorter the
    /// slice; up to 10 ms while it executes what all of them asked for), and a running process may pass one that was woken less than 2 ms ago and
    /// has yet to run. If holds are shorter than 2 ms, a process waits little more than
    /// 2 ms for each one before it.
    #[default]
    TimeSliced,
    /// Strictly first come, first served: one hold, then the next process. Each handoff
    /// wakes another process, which costs more than a short write itself.
    Fifo,
}

/// Returns how long the slice of one process lasts while others wait, in nanoseconds.
pub(super) fn slice(waiting: u32) -> u64 {
    let shortest = match waiting {
        0..MANY => SLICE_MIN,
        _ => SLICE_MIN_OF_MANY,
    };
    let share = nanos(ROUND) / u64::from(waiting + 1);
    share.clamp(nanos(shortest), nanos(SLICE))
}

/// Returns how long a waiter further back sleeps that has left a request: `waiting` processes wait,
/// and it has paused `pauses` times since it was woken.
pub(super) fn request_pause(waiting: u32, pauses: u32) -> Duration {
    let first = REQUEST_PAUSE + REQUEST_PAUSE * waiting / REQUEST_PAUSE_SHARE;
    (first * (1 << pauses.min(6))).min(REQUEST_PAUSE_MAX)
}

/// Returns how long a waiter sleeps with `ahead` others before it.
pub(super) fn back_pause(ahead: usize) -> Duration {
    let ahead = u32::try_from(ahead).unwrap_or(u32::MAX);
    BACK_PAUSE + BACK_PAUSE_EACH * ahead.min(1000)
}

/// Returns how long the first waiter sleeps, which has paused `pauses` times since it was woken.
/// `is_kept` if the lock is kept for its last holder.
pub(super) fn probe_pause(is_kept: bool, pauses: u32) -> Duration {
    if is_kept {
        return KEPT_PAUSE;
    }
    (PROBE + PROBE / 8 * pauses.min(100)).min(PROBE_MAX)
}
