//! Child processes.

use std::convert::Infallible;
use std::io;
use std::process::{Command, ExitStatus};

use super::signal::SignalThread;
use super::unsupported;

/// Signals to this process that are meant for its child.
pub(crate) struct SignalForwarder {
    /// No value of this type exists.
    none: Infallible,
}

impl SignalForwarder {
    /// Always fails.
    pub(crate) fn watch(_signals: &SignalThread) -> io::Result<Self> {
        Err(unsupported("forwarding signals to a command"))
    }

    /// Cannot be called.
    pub(crate) fn start(self, _command: &mut Command) -> io::Result<RunningChild> {
        match self.none {}
    }
}

/// A child that runs.
pub(crate) struct RunningChild {
    /// No value of this type exists.
    none: Infallible,
}

impl RunningChild {
    /// Cannot be called.
    pub(crate) fn wait(self) -> io::Result<ExitStatus> {
        match self.none {}
    }
}

/// Does nothing.
#[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
pub(crate) fn end_with_parent() -> io::Result<()> {
    Ok(())
}

/// The exit code of a process.
pub(crate) fn exit_code(status: ExitStatus) -> Option<u8> {
    u8::try_from(status.code()?).ok()
}
