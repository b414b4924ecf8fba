//! A lease: the lock stays held from one hold to the next, within the slice of this process.
//!
//! A program that keeps something else along with the lock (the VFS keeps SQLite's locks) is told
//! when that has to be released: see [`LeaseParty`].

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
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
    /// It ends with this hold.
    pub(crate) is_forgone: AtomicBool,
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

    /// Ends the lease, while the lock is still held.
    pub(crate) fn end(&self, why: LeaseEnd) {
        let Some(party) = self.party() else {
            return;
        };
        crate::failpoint!("lease_ending");
        party.release();
        crate::failpoint!("lease_released");
        let at = clock::monotonic();
        party.ended(&EndedLease {
            why,
            held: Duration::from_nanos(at.saturating_sub(self.since)),
            holds: self.holds,
            at,
        });
        crate::failpoint!("lease_over");
    }

    fn party(&self) -> Option<&dyn LeaseParty> {
        self.options.lease.as_deref()
    }
}
