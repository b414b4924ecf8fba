//! How a command fails: the message on standard error, and the exit code.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

/// SQL or a check failed, or a file cannot be used.
pub(crate) const FAILED: u8 = 1;
/// The command line was not understood.
pub(crate) const USAGE: u8 = 2;
/// An import stopped at a row that failed; the rows before it are in.
pub(crate) const HALFWAY: u8 = 3;
/// The worst finding of `doctor` is a warning, and an error.
pub(crate) const DOCTOR_WARNING: u8 = 3;
pub(crate) const DOCTOR_ERROR: u8 = 4;
/// The write lock was not free in time (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TIMEOUT: u8 = 75;
/// The command of `run` cannot be started, and is not found, as in a shell.
pub(crate) const NOT_EXECUTABLE: u8 = 126;
pub(crate) const NOT_FOUND: u8 = 127;

/// Why a command ends before its time.
#[derive(Debug)]
pub(crate) enum Failure {
    /// Say this and exit with this code.
    Said { message: String, code: u8 },
    /// Whoever read our output went away: no error, nothing to say.
    PipeClosed,
}

impl Failure {
    pub(crate) fn new(message: impl Display, code: u8) -> Self {
        let message = message.to_string();
        Self::Said { message, code }
    }

    pub(crate) fn report(self) -> ExitCode {
        match self {
            Self::PipeClosed => ExitCode::SUCCESS,
            Self::Said { message, code } => {
                say(message);
                ExitCode::from(code)
            }
        }
    }
}

/// A message for the person; if standard error is closed, nobody is there.
pub(crate) fn say(message: impl Display) {
    // In one piece, so that the messages of several processes do not mix.
    let line = format!("penholder: {message}\n");
    let _ = io::stderr().write_all(line.as_bytes());
}

impl From<penholder::Error> for Failure {
    fn from(error: penholder::Error) -> Self {
        let code = if error.is_timeout() { TIMEOUT } else { FAILED };
        Self::new(error, code)
    }
}

impl From<penholder::rusqlite::Error> for Failure {
    fn from(error: penholder::rusqlite::Error) -> Self {
        penholder::Error::from(error).into()
    }
}

impl From<penholder::lock::LockError> for Failure {
    fn from(error: penholder::lock::LockError) -> Self {
        penholder::Error::from(error).into()
    }
}

impl From<io::Error> for Failure {
    /// For errors of our own standard output.
    fn from(error: io::Error) -> Self {
        match error.kind() {
            io::ErrorKind::BrokenPipe => Self::PipeClosed,
            _ => Self::new(format!("write to standard output: {error}"), FAILED),
        }
    }
}

impl From<serde_json::Error> for Failure {
    fn from(error: serde_json::Error) -> Self {
        io::Error::from(error).into()
    }
}
