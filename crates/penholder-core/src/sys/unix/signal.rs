#![expect(unsafe_code, reason = "raise has no safe wrapper")]
//! Signals that a test sends to its own process.

pub(crate) use crate::sys::test_signal::Signal;

/// Sends the signal to the calling thread. A signal to the process could stop another
/// thread first, and this one at a later step.
pub(crate) fn raise(signal: Signal) {
    let number = match signal {
        Signal::Kill => libc::SIGKILL,
        Signal::Stop => libc::SIGSTOP,
    };
    // SAFETY: `raise` touches no memory of ours, and neither signal has a handler.
    let failed = unsafe { libc::raise(number) };
    assert_eq!(failed, 0, "raise cannot fail for these signals");
}
