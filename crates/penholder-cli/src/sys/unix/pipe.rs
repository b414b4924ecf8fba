//! Pipes to and from other processes.

use std::io;
use std::process::ChildStdout;
use std::time::Duration;

use rustix::event::PollFlags;

use super::poll::poll;

/// Waits for this time. Returns `true` as soon as the reader of standard output is gone.
pub(crate) fn stdout_closes_within(time: Duration) -> io::Result<bool> {
    // Linux reports a hang-up without being asked for, and macOS does not.
    let events = poll(&io::stdout(), PollFlags::HUP, time)?;
    Ok(!events.is_empty())
}

/// Whether this says that the reader of a pipe is gone.
pub(crate) fn is_closed(error: &io::Error) -> bool {
    error.kind() == io::ErrorKind::BrokenPipe
}

/// Writes a message on standard error, unless that would wait for its reader.
pub(crate) fn without_waiting(write: impl FnOnce()) {
    let room = poll(&io::stderr(), PollFlags::OUT, Duration::ZERO);
    if room.is_ok_and(|events| !events.is_empty()) {
        write();
    }
}

/// Waits until the child has written something, or has closed its output. Returns
/// `false` if neither happens in time.
pub(crate) fn is_readable_within(output: &ChildStdout, timeout: Duration) -> io::Result<bool> {
    let events = poll(output, PollFlags::IN, timeout)?;
    Ok(!events.is_empty())
}
