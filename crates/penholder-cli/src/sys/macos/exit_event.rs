#![expect(unsafe_code, reason = "kevent takes pointers")]
//! The end of a process, as an event of `kqueue`.

use std::io;
use std::os::fd::OwnedFd;
use std::ptr;
use std::time::Duration;

use rustix::event::kqueue::{Event, EventFilter, EventFlags, ProcessEvents, kevent, kqueue};
use rustix::process::Pid;

/// Tells whether the process has ended that had a pid when this was made.
#[derive(Debug)]
pub(super) struct ExitEvent(OwnedFd);

impl ExitEvent {
    /// Watches the process that has this pid now.
    ///
    /// # Errors
    ///
    /// Those of `kqueue(2)`; there is no such process.
    pub(super) fn of(pid: Pid) -> io::Result<Self> {
        let queue = kqueue()?;
        let flags = ProcessEvents::EXIT;
        let filter = EventFilter::Proc { pid, flags };
        let change = Event::new(filter, EventFlags::ADD, ptr::null_mut());
        let none: &mut [Event] = &mut [];
        // SAFETY: no event of the queue is about a descriptor.
        unsafe { kevent(&queue, &[change], none, Some(Duration::ZERO)) }?;
        Ok(Self(queue))
    }

    /// Waits until it has ended.
    pub(super) fn wait(&self) {
        while !self.comes_within(None) {}
    }

    /// Returns whether it has ended.
    pub(super) fn has_come(&self) -> bool {
        self.comes_within(Some(Duration::ZERO))
    }

    fn comes_within(&self, timeout: Option<Duration>) -> bool {
        let mut events: Vec<Event> = Vec::with_capacity(1);
        let room = rustix::buffer::spare_capacity(&mut events);
        // SAFETY: no event of the queue is about a descriptor.
        let come = unsafe { kevent(&self.0, &[], room, timeout) };
        come.is_ok_and(|count| count > 0)
    }
}
