//! What a failpoint does to its own process.

/// What a failpoint does to its own process.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Signal {
    /// The process dies at once.
    Kill,
    /// The process stops until another process continues it.
    Stop,
}
