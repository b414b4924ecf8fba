//! The terminal as a source of keys.

use std::fs::File;
use std::io::{self, IsTerminal, Read};
use std::os::fd::AsFd;
use std::time::Duration;

use rustix::event::PollFlags;

use super::poll::poll;

/// The terminal, open for reading.
pub(crate) struct Terminal {
    file: File,
}

impl Terminal {
    /// Opens standard input if it is a terminal, otherwise the controlling terminal.
    pub(crate) fn open() -> io::Result<Self> {
        let stdin = io::stdin();
        let file = if stdin.is_terminal() {
            File::from(stdin.as_fd().try_clone_to_owned()?)
        } else {
            File::open("/dev/tty")?
        };
        Ok(Self { file })
    }

    /// Waits for input. Fails if the terminal is gone.
    pub(crate) fn is_readable_within(&self, timeout: Duration) -> io::Result<bool> {
        let events = poll(&self.file, PollFlags::IN, timeout)?;
        if events.intersects(PollFlags::HUP | PollFlags::ERR | PollFlags::NVAL) {
            return Err(gone());
        }
        Ok(!events.is_empty())
    }

    /// Reads what was typed and returns its length. Fails if the terminal is gone.
    pub(crate) fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        match self.file.read(into)? {
            0 => Err(gone()),
            length => Ok(length),
        }
    }
}

fn gone() -> io::Error {
    io::Error::other("it is gone")
}
