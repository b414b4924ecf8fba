//! What a process is doing.

use std::fmt;

/// What a process is doing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[cfg_attr(
    feature = "serde",
    derive(serde::Serialize),
    serde(rename_all = "kebab-case")
)]
#[non_exhaustive]
pub enum ProcessState {
    /// On a processor, or ready to run.
    Running,
    /// Waiting for something.
    Sleeping,
    /// Stopped by a signal (SIGSTOP, Ctrl-Z) or a debugger. It keeps the lock until
    /// it is continued or killed.
    Stopped,
    /// The process does not exist any more.
    Gone,
    /// In another pid namespace (for example a container), which cannot be seen
    /// from here.
    OtherNamespace,
    /// The state cannot be determined.
    Unknown,
}

impl fmt::Display for ProcessState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Running => "running",
            Self::Sleeping => "sleeping",
            Self::Stopped => "stopped",
            Self::Gone => "gone",
            Self::OtherNamespace => "in another pid namespace",
            Self::Unknown => "in an unknown state",
        })
    }
}
