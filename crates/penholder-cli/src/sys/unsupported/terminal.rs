//! The terminal as a source of keys.

use std::convert::Infallible;
use std::io;
use std::time::Duration;

use super::unsupported;

/// The terminal, open for reading.
pub(crate) struct Terminal {
    /// No value of this type exists.
    none: Infallible,
}

impl Terminal {
    /// Always fails.
    pub(crate) fn open() -> io::Result<Self> {
        Err(unsupported("reading keys from the terminal"))
    }

    /// Cannot be called.
    pub(crate) fn is_readable_within(&self, _timeout: Duration) -> io::Result<bool> {
        match self.none {}
    }

    /// Cannot be called.
    pub(crate) fn read(&mut self, _into: &mut [u8]) -> io::Result<usize> {
        match self.none {}
    }
}
