//! Signals to this process.

use std::convert::Infallible;
use std::io;

use super::unsupported;

/// The signals that ask a program to end.
pub(crate) const ENDS: [i32; 0] = [];
/// No signal has this number.
pub(crate) const SIGQUIT: i32 = -1;
/// No signal has this number.
pub(crate) const SIGWINCH: i32 = -2;

/// A signal that came.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Received {
    pub(crate) number: i32,
}

/// What is done with each signal.
pub(crate) type Reaction = Box<dyn FnMut(Received) + Send>;

/// A thread that receives signals.
#[derive(Debug)]
pub(crate) struct SignalThread {
    /// No value of this type exists.
    none: Infallible,
}

impl SignalThread {
    /// Always fails.
    pub(crate) fn start(_signals: &[i32], _reaction: Reaction) -> io::Result<Self> {
        Err(unsupported("receiving signals"))
    }

    /// Cannot be called.
    pub(crate) fn add(&self, _signals: &[i32]) -> io::Result<()> {
        match self.none {}
    }

    /// Cannot be called.
    pub(crate) fn react(&self, _reaction: Reaction) {
        match self.none {}
    }
}

/// Names a signal for people.
pub(crate) fn name(number: i32) -> String {
    format!("signal {number}")
}

/// What signals do without a thread that receives them.
#[derive(Debug, Default)]
pub(crate) struct SignalFlags;

impl SignalFlags {
    /// Changes nothing: a signal ends this process.
    pub(crate) fn watch(_signals: &[i32]) -> io::Result<Self> {
        Ok(Self)
    }

    /// Does nothing.
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn end(&self, _at_once: bool) {}

    /// Always `None`.
    #[expect(clippy::unused_self, reason = "as on other platforms")]
    pub(crate) fn noted(&self) -> Option<i32> {
        None
    }
}

/// Ends this process at once.
pub(crate) fn exit(code: i32) -> ! {
    std::process::exit(code)
}

/// Does nothing.
pub(crate) fn survive_file_size_limit() -> io::Result<()> {
    Ok(())
}
