//! Signals to another process.

use std::convert::Infallible;
use std::io;

use super::unsupported;
use crate::sys::sent_signal::SentSignal;

/// A process that was found by its pid.
#[derive(Debug)]
pub(crate) struct OpenProcess {
    /// No value of this type exists.
    none: Infallible,
}

impl OpenProcess {
    /// Always fails.
    pub(crate) fn open(_pid: u32) -> io::Result<Self> {
        Err(unsupported("sending a signal"))
    }

    /// Cannot be called.
    pub(crate) fn send(&self, _signal: SentSignal) -> io::Result<()> {
        match self.none {}
    }
}

/// Whether this says that there is no such process.
pub(crate) fn is_no_process(_error: &io::Error) -> bool {
    false
}
