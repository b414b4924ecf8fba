//! Ending one process, which can be no other that gets its pid later.

use std::io;
use std::os::windows::io::{AsRawHandle, FromRawHandle, OwnedHandle};

use windows_sys::Win32::Foundation::{ERROR_INVALID_PARAMETER, WAIT_OBJECT_0};
use windows_sys::Win32::System::Threading::{
    self, PROCESS_SYNCHRONIZE, PROCESS_TERMINATE, TerminateProcess, WaitForSingleObject,
};

use super::{is_code, succeeded};
use crate::sys::sent_signal::SentSignal;

/// The exit code of a process that was ended at once: that of a shell for SIGKILL.
const KILLED: u32 = 128 + 9;

/// A process that was found by its pid. When it has ended, this is still it and no other.
#[derive(Debug)]
pub(crate) struct OpenProcess(OwnedHandle);

impl OpenProcess {
    /// Finds the process that has this pid now.
    pub(crate) fn open(pid: u32) -> io::Result<Self> {
        let access = PROCESS_TERMINATE | PROCESS_SYNCHRONIZE;
        // SAFETY: every number is allowed.
        let handle = unsafe { Threading::OpenProcess(access, 0, pid) };
        if handle.is_null() {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: it was just opened, and has no other owner.
        Ok(Self(unsafe { OwnedHandle::from_raw_handle(handle) }))
    }

    /// Ends the process, which is all that one process can do to another here.
    pub(crate) fn send(&self, signal: SentSignal) -> io::Result<()> {
        let unsupported = |why| Err(io::Error::new(io::ErrorKind::Unsupported, why));
        match signal {
            SentSignal::Term => unsupported("Windows cannot ask it to end: K ends it at once"),
            SentSignal::Cont => unsupported("Windows does not stop processes"),
            SentSignal::Kill => self.kill(),
        }
    }

    fn kill(&self) -> io::Result<()> {
        if self.has_ended() {
            return Err(no_process());
        }
        // SAFETY: the handle is open as long as `self`.
        succeeded(unsafe { TerminateProcess(self.0.as_raw_handle(), KILLED) })
    }

    fn has_ended(&self) -> bool {
        // SAFETY: the handle is open as long as `self`.
        unsafe { WaitForSingleObject(self.0.as_raw_handle(), 0) == WAIT_OBJECT_0 }
    }
}

fn no_process() -> io::Error {
    io::Error::from_raw_os_error(ERROR_INVALID_PARAMETER.cast_signed())
}

/// Whether this says that there is no such process.
pub(crate) fn is_no_process(error: &io::Error) -> bool {
    is_code(error, ERROR_INVALID_PARAMETER)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;

    #[test]
    fn a_process_is_ended_once() {
        let mut command = Command::new("cmd");
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let process = OpenProcess::open(child.id()).unwrap();
        assert_eq!(
            process.send(SentSignal::Term).unwrap_err().kind(),
            io::ErrorKind::Unsupported
        );
        process.send(SentSignal::Kill).unwrap();
        assert_eq!(child.wait().unwrap().code(), Some(137));
        assert!(is_no_process(&process.send(SentSignal::Kill).unwrap_err()));
    }

    #[test]
    fn no_process_has_an_odd_pid() {
        assert!(is_no_process(&OpenProcess::open(0xffff_fff1).unwrap_err()));
    }
}
