//! How much room there is.

/// How much room a file system has for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    /// Whether another file can be created.
    pub(crate) has_files: bool,
}
