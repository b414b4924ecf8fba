//! Signals to one process, which is most probably no other that got its pid later.
//!
//! macOS has no pidfd. That the process has ended is seen before each signal; only one that ends, and
//! whose pid another process gets, between this look and the signal is mistaken. Pids are given in turn,
//! up to 99,998, so that does not happen in a moment.

use std::io;

use rustix::process::{self, Pid, kill_process};

use super::exit_event::ExitEvent;
use crate::sys::sent_signal::SentSignal;

/// A process that was found by its pid.
#[derive(Debug)]
pub(crate) struct OpenProcess {
    pid: Pid,
    end: ExitEvent,
}

impl OpenProcess {
    /// Finds the process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let pid = i32::try_from(pid).ok().and_then(Pid::from_raw);
        let pid = pid.ok_or(io::ErrorKind::InvalidInput)?;
        let end = ExitEvent::of(pid)?;
        Ok(Self { pid, end })
    }

    pub(crate) fn send(&self, signal: SentSignal) -> io::Result<()> {
        if self.end.has_come() {
            return Err(rustix::io::Errno::SRCH.into());
        }
        let signal = match signal {
            SentSignal::Term => process::Signal::TERM,
            SentSignal::Cont => process::Signal::CONT,
            SentSignal::Kill => process::Signal::KILL,
        };
        Ok(kill_process(self.pid, signal)?)
    }
}

/// Whether this says that there is no such process.
pub(crate) fn is_no_process(error: &io::Error) -> bool {
    error.raw_os_error() == Some(rustix::io::Errno::SRCH.raw_os_error())
}
