//! Waiting for an open file.

use std::io;
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::io::Errno;

/// A single call to the kernel waits no longer; then it is called again.
const LONGEST_CALL: Duration = Duration::from_secs(3600);

/// Waits for one of `events`, a hang-up or an error, and returns those that came. None
/// came if the time is up.
pub(super) fn poll(
    file: &impl AsFd,
    events: PollFlags,
    timeout: Duration,
) -> io::Result<PollFlags> {
    let begun = Instant::now();
    loop {
        let left = timeout.saturating_sub(begun.elapsed()).min(LONGEST_CALL);
        let left = Timespec::try_from(left).map_err(io::Error::other)?;
        let mut files = [PollFd::new(file, events)];
        match rustix::event::poll(&mut files, Some(&left)) {
            Ok(0) if begun.elapsed() >= timeout => return Ok(PollFlags::empty()),
            Ok(0) | Err(Errno::INTR) => {}
            Ok(_) => return Ok(files[0].revents()),
            Err(error) => return Err(error.into()),
        }
    }
}
