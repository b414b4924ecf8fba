//! Who owns a file.

/// Who owns a file, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The permission bits, at most 0o7777.
    pub(crate) mode: u32,
}
