//! What a process does when its parent or a child ends, where the kernel does little for it.

use std::io;
use std::thread;

use rustix::process::{Pid, Signal, getppid};

use super::exit_event::ExitEvent;

/// Enough to wait for an event.
const STACK: usize = 64 << 10;

/// No value of this type exists: a child has only its pid, which is its own until it is reaped.
#[derive(Debug)]
pub(crate) enum ChildHandle {}

impl ChildHandle {
    /// Returns `None`.
    pub(crate) fn open(_pid: Pid) -> Option<Self> {
        None
    }

    /// Cannot be called.
    pub(crate) fn send(&self, _signal: Signal) -> rustix::io::Result<()> {
        match *self {}
    }
}

/// Does nothing: orphans become children of `launchd`, and work under no hold that they did not work
/// under before.
pub(crate) fn adopt_orphans() {}

/// From now on the end of its parent ends this process: a thread waits for it.
pub(crate) fn watch_parent() -> io::Result<()> {
    let Some(parent) = getppid() else {
        return Ok(());
    };
    let event = ExitEvent::of(parent)?;
    // It may have ended before it was watched.
    if getppid() != Some(parent) {
        return Err(io::ErrorKind::BrokenPipe.into());
    }
    let wait = move || {
        event.wait();
        signal_hook::low_level::exit(128 + rustix::process::Signal::KILL.as_raw())
    };
    let thread = thread::Builder::new().name("parent".to_owned());
    thread.stack_size(STACK).spawn(wait).map(drop)
}
