//! A process: its pid, its command line and what it is doing.

use std::fmt;
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};

use crate::printable::{COMMAND_MAX, printable};
use crate::queue_file::{Occupant, OutsiderRecord};
use crate::sys::process_state::ProcessState;
use crate::sys::{locks, openers, process};

/// A process: its pid, its command line and what it is doing.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Process {
    /// Process id.
    pub pid: u32,
    /// Command line, control characters escaped, if it may be read.
    pub cmd: Option<String>,
    /// What it is doing.
    pub state: ProcessState,
    identity: ProcessIdentity,
}

/// Tells a process from others that have the same pid, later or in another pid namespace.
///
/// A record or the queue file names the process like this. A signal is for the right process if
/// its [`state`](Self::state) is asked for after `pidfd_open` and the answer is that it is alive.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ProcessIdentity {
    pid: u32,
    start: Option<u64>,
    pidns: Option<u64>,
}

impl ProcessIdentity {
    pub(super) fn new(pid: u32, start: Option<u64>, pidns: Option<u64>) -> Self {
        Self { pid, start, pidns }
    }

    pub(super) fn of_occupant(occupant: &Occupant) -> Self {
        Self::new(occupant.pid, occupant.start, occupant.pidns)
    }

    /// Describes the process that has a pid in the namespace of this process now.
    fn of(pid: u32) -> Self {
        Self::new(pid, process::start(pid), process::own_pidns())
    }

    /// Returns the process id, in the pid namespace of the process.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.pid
    }

    /// Returns what this process is doing, and no other that has its pid by now:
    /// [`ProcessState::Gone`] if it has ended, [`ProcessState::Unknown`] if it cannot be told
    /// whether the process with this pid is the same.
    #[must_use]
    pub fn state(&self) -> ProcessState {
        let Some(pidns) = self.pidns else {
            return ProcessState::Unknown;
        };
        if process::own_pidns() != Some(pidns) {
            return ProcessState::OtherNamespace;
        }
        match process::state(self.pid, self.start) {
            ProcessState::Gone => ProcessState::Gone,
            _ if self.start.is_none() => ProcessState::Unknown,
            state => state,
        }
    }
}

impl Process {
    /// Returns what tells it from other processes with its pid.
    #[must_use]
    pub fn identity(&self) -> ProcessIdentity {
        self.identity
    }

    /// Finds the process with an exclusive POSIX (`fcntl`) lock on a byte of a file, if
    /// the kernel's tables show one. The file is not opened, so this is safe for a
    /// database that SQLite has open in this process.
    ///
    /// SQLite's write lock in WAL mode is byte 120 of the `-shm` file.
    #[must_use]
    pub fn with_posix_lock(path: &Path, byte: u64) -> Option<Self> {
        locks::posix_owner(path, byte).map(Self::of)
    }

    /// Finds the processes with a shared POSIX lock on one of these bytes of a file, at
    /// this moment. The file is not opened.
    ///
    /// A process that reads a database in WAL mode has such a lock on one of the bytes
    /// 123 to 127 of the `-shm` file until its transaction ends.
    #[must_use]
    pub fn with_shared_posix_lock(path: &Path, bytes: &RangeInclusive<u64>) -> Vec<Self> {
        let [pids] = locks::posix_sharers([(path, bytes)]).unwrap_or_default();
        pids.into_iter().map(Self::of).collect()
    }

    /// Does the same as [`with_shared_posix_lock`](Self::with_shared_posix_lock) for several
    /// files at one moment, and returns only the ids, sorted; `None` if the kernel's table cannot
    /// be read. Where the kernel has no such table (macOS), it is those that have the files open.
    #[must_use]
    pub fn ids_with_shared_posix_locks<const N: usize>(
        files: [(&Path, &RangeInclusive<u64>); N],
    ) -> Option<[Vec<u32>; N]> {
        locks::users(files)
    }

    /// Returns the paths of the files that the process with this id has open, ` (deleted)` after that
    /// of a file that has no name any more; `None` if they may not be read.
    #[must_use]
    pub fn open_paths(pid: u32) -> Option<Vec<PathBuf>> {
        openers::open_paths(pid)
    }

    /// Returns what can be seen of the process with this id.
    #[must_use]
    pub fn with_id(pid: u32) -> Self {
        Self::of(pid)
    }

    /// Returns the files that this process runs code from, as paths that can be opened
    /// while it is alive: its program first, then its libraries, each once. Empty if
    /// they may not be read.
    #[must_use]
    pub fn code_files(&self) -> Vec<PathBuf> {
        process::code_files(self.pid)
    }

    /// Describes a process that another one has found.
    pub(super) fn of_record(found: OutsiderRecord) -> Self {
        let own_pidns = process::own_pidns();
        let state = if found.pidns.is_none() || found.pidns == own_pidns {
            process::state(found.pid, found.start)
        } else {
            ProcessState::OtherNamespace
        };
        Self {
            identity: ProcessIdentity::new(found.pid, found.start, found.pidns),
            pid: found.pid,
            cmd: Some(found.cmd).filter(|cmd| !cmd.is_empty()),
            state,
        }
    }

    pub(super) fn of(pid: u32) -> Self {
        Self {
            pid,
            cmd: process::cmd(pid).map(|cmd| printable(&cmd, COMMAND_MAX)),
            state: process::state(pid, None),
            identity: ProcessIdentity::of(pid),
        }
    }
}

/// Returns what the process that occupies a slot of the queue file is doing.
pub(super) fn state_of(occupant: &Occupant, own_pidns: Option<u64>) -> ProcessState {
    if occupant.pidns.is_none() || occupant.pidns == own_pidns {
        process::state(occupant.pid, occupant.start)
    } else {
        ProcessState::OtherNamespace
    }
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "pid:{} (", self.pid)?;
        if let Some(cmd) = &self.cmd {
            write!(f, "`{cmd}`, ")?;
        }
        write!(f, "{})", self.state)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_later_process_with_the_same_pid_is_another() {
        let own = ProcessIdentity::of(std::process::id());
        let alive = [ProcessState::Running, ProcessState::Sleeping];
        assert!(alive.contains(&own.state()));
        let start = own.start.map(|start| start + 1);
        let later = ProcessIdentity { start, ..own };
        assert_eq!(later.state(), ProcessState::Gone);
    }

    #[test]
    fn a_pid_alone_or_of_another_namespace_identifies_no_process() {
        let own = ProcessIdentity::of(std::process::id());
        let start = None;
        let unknown = ProcessIdentity { start, ..own };
        assert_eq!(unknown.state(), ProcessState::Unknown);
        let pidns = None;
        let unknown = ProcessIdentity { pidns, ..own };
        assert_eq!(unknown.state(), ProcessState::Unknown);
        let pidns = own.pidns.map(|pidns| pidns + 1);
        let elsewhere = ProcessIdentity { pidns, ..own };
        assert_eq!(elsewhere.state(), ProcessState::OtherNamespace);
        let (pid, start) = (u32::MAX, None);
        let none = ProcessIdentity { pid, start, ..own };
        assert_eq!(none.state(), ProcessState::Gone);
    }
}
