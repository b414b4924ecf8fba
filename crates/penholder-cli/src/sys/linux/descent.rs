//! What the kernel does for a process when its parent or a child ends.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{
    Pid, PidfdFlags, Signal, getpid, pidfd_open, pidfd_send_signal, set_child_subreaper,
    set_parent_process_death_signal,
};

/// Names a child even after it is reaped, when another process may have its pid.
#[derive(Debug)]
pub(crate) struct ChildHandle(OwnedFd);

impl ChildHandle {
    /// Returns that of a child that was not reaped yet; `None` if the kernel has no such thing.
    pub(crate) fn open(pid: Pid) -> Option<Self> {
        pidfd_open(pid, PidfdFlags::empty()).ok().map(Self)
    }

    pub(crate) fn send(&self, signal: Signal) -> rustix::io::Result<()> {
        pidfd_send_signal(&self.0, signal)
    }
}

/// From now on descendants whose parents end become children of this process.
pub(crate) fn adopt_orphans() {
    // Without it, orphans are no descendants for the kernel any more. This is no reason
    // not to start a child.
    let _ = set_child_subreaper(Some(getpid()));
}

/// From now on the end of its parent ends this process.
pub(crate) fn watch_parent() -> io::Result<()> {
    Ok(set_parent_process_death_signal(Some(Signal::KILL))?)
}
