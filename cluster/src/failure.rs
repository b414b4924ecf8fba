//! Why the command fails.

use std::fmt;

/// SQL failed, or the cluster is not as it should be.
pub(crate) const FAILED: u8 = 1;
/// The command line is invalid.
pub(crate) const USAGE: u8 = 2;
/// An import stopped halfway; earlier rows stay.
pub(crate) const HALFWAY: u8 = 3;
/// The worst finding of `doctor` is a warning, or an error.
pub(crate) const DOCTOR_WARNING: u8 = 3;
pub(crate) const DOCTOR_ERROR: u8 = 4;
/// The cluster did not answer in time (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TIMEOUT: u8 = 75;
/// A program that is needed is not found.
pub(crate) const NOT_FOUND: u8 = 127;

/// The message on standard error, and the exit code.
#[derive(Debug)]
pub(crate) struct Failure {
    message: String,
    pub(crate) code: u8,
}

impl Failure {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::with_code(message, FAILED)
    }

    /// Everything has been said.
    pub(crate) fn silent(code: u8) -> Self {
        Self::with_code("", code)
    }

    pub(crate) fn is_silent(&self) -> bool {
        self.message.is_empty()
    }

    pub(crate) fn with_code(message: impl Into<String>, code: u8) -> Self {
        let message = message.into();
        Self { message, code }
    }
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl From<penholder::Error> for Failure {
    fn from(error: penholder::Error) -> Self {
        let code = if error.is_timeout() { TIMEOUT } else { FAILED };
        Self::with_code(error.to_string(), code)
    }
}
