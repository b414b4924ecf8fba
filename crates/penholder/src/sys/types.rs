//! What every platform answers with.

/// Which file it is: two names of one file have the same, and two files never have.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    pub(crate) device: u64,
    pub(crate) inode: u64,
}

/// Who owns a file, and who may use it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Ownership {
    pub(crate) user: u32,
    pub(crate) group: u32,
    /// The permission bits, at most 0o7777.
    pub(crate) mode: u32,
}

/// How much room a file system has for this user.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Space {
    pub(crate) bytes: u64,
    /// Whether another file can be created.
    pub(crate) has_files: bool,
}
