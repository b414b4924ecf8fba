//! The terminal that somebody types on.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use super::unsupported;

/// The terminal, open for reading.
pub(crate) struct Terminal {
    /// There is none of these.
    none: Infallible,
}

impl Terminal {
    /// Fails.
    pub(crate) fn open() -> io::Result<Self> {
        Err(unsupported("reading keys from the terminal"))
    }

    /// Is never called.
    pub(crate) fn is_readable_within(&self, _timeout: Duration) -> io::Result<bool> {
        match self.none {}
    }

    /// Is never called.
    pub(crate) fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        match self.none {}
    }
}
