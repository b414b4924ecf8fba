//! What a failpoint does to its own process.

pub(crate) use crate::sys::test_signal::Signal;

/// Ends the process: it cannot be stopped here, and a test that asks for that fails.
pub(crate) fn raise(_signal: Signal) {
    std::process::abort();
}
