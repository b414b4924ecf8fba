//! A child process, and the signals that it gets from us.

use std::convert::Infallible;
use std::io;
use std::process::{Child, ExitStatus};

use super::unsupported;

/// Signals to this process that are meant for its child.
pub(crate) struct SignalForwarder {
    /// No value of this type exists.
    none: Infallible,
}

impl SignalForwarder {
    /// Always fails.
    pub(crate) fn watch() -> io::Result<Self> {
        Err(unsupported("forwarding signals to a command"))
    }

    /// Cannot be called.
    pub(crate) fn wait(self, _child: Child) -> io::Result<ExitStatus> {
        match self.none {}
    }
}

/// The exit code of a process.
pub(crate) fn exit_code(status: ExitStatus) -> Option<u8> {
    u8::try_from(status.code()?).ok()
}
