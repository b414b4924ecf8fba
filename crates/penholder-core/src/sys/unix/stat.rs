//! What the kernel's table of processes says of one.

use crate::sys::process_state::ProcessState;

/// What the kernel's table of processes says of one.
#[derive(Debug, Clone, Copy)]
pub(in crate::sys) struct Stat {
    pub(in crate::sys) pid: u32,
    /// [`ProcessState::Gone`] for one that has ended and was not waited for.
    pub(in crate::sys) state: ProcessState,
    pub(in crate::sys) parent: u32,
    /// Differs between two processes that have the same pid.
    pub(in crate::sys) start: u64,
}
