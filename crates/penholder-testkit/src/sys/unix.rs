#![expect(unsafe_code, reason = "locks on bytes that belong to an open file")]
//! Unix.

use std::fs::{self, File};
use std::os::fd::AsRawFd;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, ExitStatus};

/// An end of a pipe.
pub(crate) type PipeEnd = std::os::fd::OwnedFd;

/// A pipe whose other end another process opens by a path.
pub(crate) struct NamedPipe {
    ours: PipeEnd,
    theirs: PipeEnd,
}

impl NamedPipe {
    /// Of which this process has the end to write to.
    pub(crate) fn to_write() -> Self {
        let (theirs, ours) = std::io::pipe().unwrap();
        let (ours, theirs) = (ours.into(), theirs.into());
        Self { ours, theirs }
    }

    /// Of which this process has the end to read from.
    pub(crate) fn to_read() -> Self {
        let (ours, theirs) = std::io::pipe().unwrap();
        let (ours, theirs) = (ours.into(), theirs.into());
        Self { ours, theirs }
    }

    /// Returns the path of the other end.
    pub(crate) fn path(&self) -> String {
        let (pid, number) = (std::process::id(), self.theirs.as_raw_fd());
        format!("/proc/{pid}/fd/{number}")
    }

    /// Returns this process's end, after the other process has opened its own.
    pub(crate) fn connect(self) -> PipeEnd {
        self.ours
    }
}

/// Sends a signal to a process by the signal's name.
pub(crate) fn signal(pid: u32, name: &str) {
    let status = Command::new("kill")
        .args(["-s", name, &pid.to_string()])
        .status();
    assert!(status.unwrap().success(), "kill -s {name} {pid}");
}

/// Returns whether every thread of a process is stopped.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let tasks = std::fs::read_dir(format!("/proc/{pid}/task"));
    tasks.unwrap().flatten().all(|task| {
        let stat = std::fs::read_to_string(task.path().join("stat"));
        stat.is_ok_and(|stat| stat.rsplit(") ").next().unwrap().starts_with('T'))
    })
}

/// Returns whether a process was stopped, or has stopped itself at a failpoint.
pub(crate) fn has_stopped(pid: u32) -> bool {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    stat.rsplit(") ")
        .next()
        .is_some_and(|rest| rest.starts_with('T'))
}

/// Returns whether a process lives, and is no zombie.
pub(crate) fn is_alive(pid: u32) -> bool {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"));
    stat.is_ok_and(|stat| !stat.rsplit(") ").next().unwrap().starts_with('Z'))
}

/// Returns the parent of a process.
pub(crate) fn parent(pid: u32) -> u32 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let fields = stat.rsplit(") ").next().unwrap();
    fields.split(' ').nth(1).unwrap().parse().unwrap()
}

/// Returns whether a process was ended by [`signal`] with `KILL`.
pub(crate) fn was_killed(status: ExitStatus) -> bool {
    status.signal() == Some(libc::SIGKILL)
}

/// Returns the signal that ended a process.
pub(crate) fn signal_of(status: ExitStatus) -> Option<i32> {
    status.signal()
}

/// Returns the inode of a file.
pub(crate) fn file_number(path: &Path) -> u64 {
    fs::metadata(path).unwrap().ino()
}

pub(crate) fn read_at(file: &File, bytes: &mut [u8], offset: u64) -> std::io::Result<()> {
    file.read_exact_at(bytes, offset)
}

pub(crate) fn write_at(file: &File, bytes: &[u8], offset: u64) -> std::io::Result<()> {
    file.write_all_at(bytes, offset)
}

/// Locks these bytes for as long as the file is open, if they are free.
pub(crate) fn try_lock(file: &File, first: i64, length: i64) -> bool {
    let mut lock = lock_of(first, length);
    // SAFETY: the descriptor is open, and the call accesses only `lock`, which is ours.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_SETLK, &raw mut lock) };
    done == 0
}

/// Returns whether another open file has a lock on any of these bytes.
pub(crate) fn is_locked(file: &File, first: i64, length: i64) -> bool {
    let mut lock = lock_of(first, length);
    // SAFETY: as above.
    let done = unsafe { libc::fcntl(file.as_raw_fd(), libc::F_OFD_GETLK, &raw mut lock) };
    assert_eq!(done, 0);
    lock.l_type != libc::c_short::try_from(libc::F_UNLCK).unwrap()
}

fn lock_of(first: i64, length: i64) -> libc::flock {
    libc::flock {
        l_type: libc::c_short::try_from(libc::F_WRLCK).unwrap(),
        l_whence: libc::c_short::try_from(libc::SEEK_SET).unwrap(),
        l_start: first,
        l_len: length,
        l_pid: 0,
    }
}
