#![expect(
    unsafe_code,
    reason = "ending this process at once, or stopping this thread"
)]
//! What a failpoint does to its own process.

use windows_sys::Win32::System::Threading::{
    GetCurrentProcess, GetCurrentThread, SuspendThread, TerminateProcess,
};

pub(crate) use crate::sys::test_signal::Signal;

/// Ends this process as another one would (`TerminateProcess`), or stops the calling thread. A test
/// that stops a process waits until its thread is seen to be stopped.
pub(crate) fn raise(signal: Signal) {
    match signal {
        // SAFETY: the pseudo handle is always valid. Nothing of this process runs after the call.
        Signal::Kill => unsafe { TerminateProcess(GetCurrentProcess(), 1) },
        // SAFETY: the pseudo handle is always valid, and another process resumes the thread.
        Signal::Stop => unsafe { SuspendThread(GetCurrentThread()).cast_signed() },
    };
}
