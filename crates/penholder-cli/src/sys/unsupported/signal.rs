//! Signals to this process.

use std::io;

use super::unsupported;

/// A request to end, by Ctrl-C or `kill`.
#[derive(Debug)]
pub(crate) struct Interrupt;

impl Interrupt {
    /// Changes nothing: such a request ends this process at once.
    pub(crate) fn watch() -> io::Result<Self> {
        Ok(Self)
    }

    /// Always `None`.
    pub(crate) fn signal(&self) -> Option<u8> {
        None
    }
}

/// A signal that concerns a program which draws on the whole terminal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[expect(dead_code, reason = "no signal comes on this platform")]
pub(crate) enum ScreenSignal {
    /// The terminal has another size.
    Resized,
    /// The signal of this number asks the program to end.
    End(i32),
}

/// Always fails.
pub(crate) fn watch_screen(_notice: impl FnMut(ScreenSignal) + Send + 'static) -> io::Result<()> {
    Err(unsupported("drawing on the whole terminal"))
}

/// Changes nothing: such a signal ends this process at once.
pub(crate) fn before_end(_clean_up: impl Fn() + Send + 'static) -> io::Result<()> {
    Ok(())
}

/// Does nothing.
pub(crate) fn end_by(_signal: i32) {}
