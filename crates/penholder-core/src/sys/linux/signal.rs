#![expect(unsafe_code, reason = "raise has no safe wrapper")]
//! Signals that a test asks its own process for.

/// What a failpoint does to its process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// It dies on the spot.
    Kill,
    /// It is stopped until somebody continues it.
    Stop,
}

/// Signals the calling thread. A signal to the process could stop another thread
/// first, and this one at a later step.
pub(crate) fn raise(signal: Signal) {
    let number = match signal {
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
    };
    // SAFETY: it touches no memory of ours, and neither signal has a handler.
    let failed = unsafe { libc::raise(number) };
    assert_eq!(failed, 0, "raise cannot fail for these signals");
}
