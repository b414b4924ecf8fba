//! The processes, as `libproc` shows them.

use super::libproc;
use crate::sys::process_state::ProcessState;
use crate::sys::unix::stat::Stat;

/// The one pid namespace of the machine.
const PIDNS: u64 = 1;

/// Returns what the table says of a process; `None` if there is none, or it may not be seen.
pub(in crate::sys) fn stat(pid: u32) -> Option<Stat> {
    let found = libproc::process(pid)?;
    let state = match found.pbi_status {
        libc::SRUN => ProcessState::Running,
        libc::SSTOP => ProcessState::Stopped,
        libc::SZOMB => ProcessState::Gone,
        _ => ProcessState::Sleeping,
    };
    Some(Stat {
        pid: found.pbi_pid,
        state,
        parent: found.pbi_ppid,
        // In microseconds since 1970.
        start: found.pbi_start_tvsec * 1_000_000 + found.pbi_start_tvusec,
    })
}

/// Returns what it says of this process.
pub(in crate::sys) fn own_stat() -> Option<Stat> {
    stat(std::process::id())
}

/// Lists the processes of the machine.
pub(in crate::sys) fn all() -> Vec<u32> {
    libproc::processes()
}

/// Returns the pid namespace of this process, that of all.
#[expect(clippy::unnecessary_wraps, reason = "as on other platforms")]
pub(in crate::sys) fn own_pidns() -> Option<u64> {
    Some(PIDNS)
}
