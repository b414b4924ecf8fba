//! Parking threads of this process, and waking several of them.
//!
//! `std` wakes each by a call of its own: see `linux/parking.rs` for what it costs.

use std::thread::{self, Thread};
use std::time::Duration;

/// Where a thread sleeps.
#[derive(Debug, Clone)]
pub(crate) struct Place(Thread);

impl Place {
    pub(crate) fn of_this_thread() -> Self {
        Self(thread::current())
    }

    /// Returns nothing of use: a thread that is woken before it sleeps does not sleep.
    pub(crate) fn wakes(&self) -> u32 {
        0
    }

    /// Sleeps for at most `pause`. Spurious wakes happen.
    pub(crate) fn park(&self, _wakes: u32, pause: Duration) {
        thread::park_timeout(pause);
    }
}

/// The places of threads that are to be woken.
#[derive(Debug, Default)]
pub(crate) struct Places(Vec<Thread>);

impl Places {
    pub(crate) fn add(&mut self, place: &Place) {
        self.0.push(place.0.clone());
    }

    /// Wakes the threads in these places.
    pub(crate) fn wake(&self) {
        self.0.iter().for_each(Thread::unpark);
    }
}
