//! What the kernel knows of a file.

use super::file_id::FileId;

/// What the kernel knows of a file, from one system call.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FileFacts {
    pub(crate) id: FileId,
    /// How many names the file has; 0 if it was deleted.
    pub(crate) links: u32,
    /// In bytes.
    pub(crate) len: u64,
}
