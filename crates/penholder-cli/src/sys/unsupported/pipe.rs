//! Pipes to and from other processes.

use std::io;
use std::process::ChildStdout;
use std::thread;
use std::time::Duration;

/// Waits for this time. The next write notices that the reader is gone.
pub(crate) fn stdout_closes_within(time: Duration) -> io::Result<bool> {
    thread::sleep(time);
    Ok(false)
}

/// Whether this says that the reader of a pipe is gone.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Writes a message on standard error, and waits for its reader.
pub(crate) fn without_waiting(write: impl FnOnce()) {
    write();
}

/// Always `true`: the read that follows waits, without a timeout.
pub(crate) fn is_readable_within(_output: &ChildStdout, _timeout: Duration) -> io::Result<bool> {
    Ok(true)
}
