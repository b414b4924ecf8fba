//! Child processes.

use std::convert::Infallible;
use std::ffi::OsStr;
use std::io;
use std::process::{Command, ExitCode, ExitStatus};

use super::signal::SignalThread;
use super::unsupported;

/// The program that runs a command line.
pub(crate) const SHELL: &str = "sh";

/// Returns the command that runs a command line in [`SHELL`].
pub(crate) fn shell(line: &OsStr) -> Command {
    let mut command = Command::new(SHELL);
    command.arg("-c").arg(line);
    command
}

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

/// Runs a program, and returns its exit code: this one has nothing else to do.
pub(crate) fn run_instead(command: &mut Command) -> io::Result<ExitCode> {
    let status = command.status()?;
    Ok(exit_code(status).unwrap_or(ExitCode::FAILURE))
}

/// Returns the exit code of a process.
pub(crate) fn exit_code(status: ExitStatus) -> Option<ExitCode> {
    u8::try_from(status.code()?).ok().map(ExitCode::from)
}
