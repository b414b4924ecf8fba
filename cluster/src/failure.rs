//! Why the command fails.

use std::fmt;

/// SQL failed, or the cluster is not as it should be.
pub(crate) const FAILED: u8 = 1;
/// The command line is invalid.
pub(crate) const USAGE: u8 = 2;
/// The cluster did not answer in time (`EX_TEMPFAIL` of sysexits.h).
pub(crate) const TIMEOUT: u8 = 75;

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
