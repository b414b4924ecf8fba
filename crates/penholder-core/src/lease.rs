//! A lease: the lock stays held from one hold to the next, within the slice of this process.
//!
//! A program that keeps something else along with the lock (the VFS keeps SQLite's locks) is told
//! when that has to be released: see [`LeaseParty`].

use std::sync::{Arc, OnceLock};
use std::time::Duration;

use crate::lease_party::{EndedLease, LeaseEnd, LeaseParty};
use crate::lock_options::LockOptions;
use crate::sys::clock;

/// The lease that a process has.
#[derive(Debug)]
pub(crate) struct Lease {
    /// Of the locker that has it.
    pub(crate) options: Arc<LockOptions>,
    /// Since when: monotonic clock, nanoseconds.
    pub(crate) since: u64,
    /// No hold is on: the lock is kept for the next one.
    pub(crate) is_kept: bool,
    /// Why it ends with this hold, if it does.
    pub(crate) forgone: OnceLock<LeaseEnd>,
    /// How many holds there were in it.
    pub(crate) holds: u64,
}

impl Lease {
    /// Whether it is that of the locker with these options.
    pub(crate) fn is_of(&self, options: &LockOptions) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.options), options)
    }

    /// Has the party release what it keeps.
    pub(crate) fn release(&self) {
        if let Some(party) = self.party() {
            party.release();
        }
    }

    /// Ends the lease, while the lock is still held. If a program without the lock wrote in a gap
    /// that was left to it, returns how long that gap was.
    pub(crate) fn end(&self, why: LeaseEnd) -> Option<Duration> {
        let party = self.party()?;
        crate::failpoint!("lease_ending");
        party.release();
        crate::failpoint!("lease_released");
        let at = clock::monotonic();
        let gap = party.ended(&EndedLease {
            why,
            held: Duration::from_nanos(at.saturating_sub(self.since)),
            holds: self.holds,
            at,
        });
        crate::failpoint!("lease_over");
        gap
    }

    fn party(&self) -> Option<&dyn LeaseParty> {
        self.options.lease.as_deref()
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::sync::atomic::Ordering::SeqCst;
    use std::time::Instant;

    use super::*;
    use crate::locker::Locker;

    const LONG: Duration = Duration::from_secs(30);

    /// Notes what ended while another locker asked for the lock.
    #[derive(Debug, Default)]
    struct Party {
        is_other_asking: AtomicBool,
        had_slice: AtomicBool,
    }

    impl LeaseParty for Party {
        fn release(&self) {}

        fn ended(&self, lease: &EndedLease) -> Option<Duration> {
            if self.is_other_asking.load(SeqCst) && lease.why.is_slice() {
                self.had_slice.store(true, SeqCst);
            }
            None
        }
    }

    /// The party may take some milliseconds at the end of a slice, and a task of the other locker
    /// must not wait on the thread of its runtime.
    #[test]
    fn another_locker_ends_no_slice() {
        let directory = tempfile::tempdir().unwrap();
        let party = Arc::new(Party::default());
        let other = Locker::in_directory(directory.path()).unwrap();
        let locker = other
            .clone()
            .with(|options| options.lease = Some(party.clone()));
        for _ in 0..200 {
            let begun = Instant::now();
            let is_within = |micros| begun.elapsed() < Duration::from_micros(micros);
            while is_within(1900) {
                let mut guard = locker.acquire(LONG).unwrap();
                if guard.may_lease() {
                    guard.begin_lease();
                }
            }
            while is_within(2100) {
                std::hint::spin_loop();
            }
            party.is_other_asking.store(true, SeqCst);
            drop(other.acquire(LONG).unwrap());
            party.is_other_asking.store(false, SeqCst);
        }
        assert!(!party.had_slice.load(SeqCst));
    }
}
