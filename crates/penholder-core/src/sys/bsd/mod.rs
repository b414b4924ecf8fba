//! What macOS does and Linux does in another way: there are no files without a name, one table of
//! locks for each file, and no word in shared memory that wakes a process on each version.
//!
//! It uses nothing that only macOS has, and also runs on Linux: see `macos_rules`.

pub(crate) mod file;
pub(crate) mod locks;
pub(crate) mod polled_word;
