//! A file's identity for the kernel.

/// Identifies a file for the kernel: two paths name one file if these agree.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) struct FileId {
    /// The device.
    pub(crate) dev: u64,
    /// The inode on that device.
    pub(crate) ino: u64,
}
