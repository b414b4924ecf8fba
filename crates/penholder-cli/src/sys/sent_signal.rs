//! Signals that one process sends to another.

/// A signal that one process sends to another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SentSignal {
    Term,
    Cont,
    Kill,
}
