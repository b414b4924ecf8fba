//! Who owns a file, and who may use it.

/// Who owns a file, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The permission bits, at most 0o777.
    pub(crate) mode: u32,
    /// Whether it is a regular file: no directory, pipe or device.
    pub(crate) is_regular: bool,
}
