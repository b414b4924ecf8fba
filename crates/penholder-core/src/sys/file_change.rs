//! What shows that a file has changed.

use super::file_id::FileId;

/// What shows that a file has changed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct FileChange {
    pub(crate) id: FileId,
    /// In bytes.
    pub(crate) len: u64,
    /// When the content was last changed, in nanoseconds since 1970.
    pub(crate) at: i128,
    /// A hash of its beginning, where times do not tell of each write at once; else zero.
    pub(crate) beginning: u64,
}
