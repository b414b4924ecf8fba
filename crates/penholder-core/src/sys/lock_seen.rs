//! What the kernel's lock tables say of a file.

/// What the kernel's lock tables say of a `flock` on a file. A shared lock
/// (`flock -s`) counts, because it keeps us out as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "each platform tells only some of it")]
pub(crate) enum Seen {
    /// A process holds it; `taker` is the process that took it, where visible.
    Held { taker: Option<u32> },
    /// A process holds it, and the kernel tells nobody which one.
    HeldBySomebody,
    /// No visible process holds it.
    NotHeld,
    /// The tables cannot be read.
    Unknown,
}

/// A lock that a process has on a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct LockSeen {
    /// A POSIX lock, or else a `flock`.
    pub(crate) is_posix: bool,
    /// The owner of a POSIX lock, and the taker of a `flock`; zero if it is not visible.
    pub(crate) pid: u32,
    pub(crate) exclusive: bool,
    /// The first byte and the last.
    pub(crate) first: u64,
    pub(crate) last: u64,
}
