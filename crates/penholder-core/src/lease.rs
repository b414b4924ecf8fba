//! A lease: the lock stays held from one hold to the next, within the slice of this process.
//!
//! A program that keeps something else along with the lock (the VFS keeps SQLite's locks) is told
//! when that has to be released: see [`LeaseParty`].

use std::cell::Cell;
use std::sync::Arc;
use std::time::Duration;

use crate::lease_party::LeaseParty;
use crate::lock_options::LockOptions;
use crate::sys::clock;

/// Why a lease ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum LeaseEnd {
    /// The slice is over.
    Slice,
    /// The process does not write.
    Idle,
    /// The process does something else under the lock, forks, or ends its use of it.
    Close,
}

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
    pub(crate) is_forgone: Cell<bool>,
}

impl Lease {
    /// Whether it is that of the locker with these options.
    pub(crate) fn is_of(&self, options: &LockOptions) -> bool {
        std::ptr::eq(Arc::as_ptr(&self.options), options)
    }

    /// Has the party release what it keeps.
    pub(crate) fn end(&self) {
        if let Some(party) = self.party() {
            party.end();
        }
    }

    /// Has the party leave a gap for others, after a lease of this length.
    pub(crate) fn leave_gap(&self, held: Duration) {
        if let Some(party) = self.party() {
            party.leave_gap(held, clock::monotonic);
        }
    }

    fn party(&self) -> Option<&dyn LeaseParty> {
        self.options.lease.as_deref()
    }
}
