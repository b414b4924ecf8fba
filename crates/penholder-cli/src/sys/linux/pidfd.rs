//! Signals to one process, which can be no other that gets its pid later.

use std::io;
use std::os::fd::OwnedFd;

use rustix::process::{self, Pid, PidfdFlags, pidfd_open, pidfd_send_signal};

use crate::sys::sent_signal::SentSignal;

/// A process that was found by its pid. When it has ended, this is still it and no other.
#[derive(Debug)]
pub(crate) struct OpenProcess(OwnedFd);

impl OpenProcess {
    /// Finds the process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        Ok(Self(pidfd_open(pid, PidfdFlags::empty())?))
    }

    pub(crate) fn send(&self, signal: SentSignal) -> io::Result<()> {
        let signal = match signal {
            SentSignal::Term => process::Signal::TERM,
            SentSignal::Cont => process::Signal::CONT,
            SentSignal::Kill => process::Signal::KILL,
        };
        Ok(pidfd_send_signal(&self.0, signal)?)
    }
}

/// Whether this says that there is no such process.
pub(crate) fn is_no_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}
