//! An event as the queue file records it.

/// Something that happened and is kept for people. Its meaning is that of
/// [`EventKind`](crate::EventKind).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventRecord {
    pub(crate) kind: u64,
    /// Wall clock, nanoseconds since 1970.
    pub(crate) at: u64,
    pub(crate) pid: u64,
    pub(crate) other: u64,
    /// A duration in nanoseconds, or a number of writes.
    pub(crate) amount: u64,
    pub(crate) label: String,
    pub(crate) statement: String,
    pub(crate) call_site: String,
}
