//! A process as other processes can recognise it.

/// A process as other processes can recognise it.
///
/// `Identity::of_this_process` is in each platform's `process` module.
#[derive(Debug, Clone)]
pub(crate) struct Identity {
    pub(crate) pid: u32,
    /// When the process started, in clock ticks since boot: with the pid it names
    /// one process, even after pids are reused.
    pub(crate) start: Option<u64>,
    /// The pid namespace that the pid belongs to.
    pub(crate) pidns: Option<u64>,
    /// The command line, not escaped.
    pub(crate) cmd: String,
}
