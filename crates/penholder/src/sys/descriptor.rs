//! An open file of a process.

use std::path::PathBuf;

/// A descriptor of a process, which may be another one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Descriptor {
    /// Where it can be opened again.
    pub(crate) path: PathBuf,
    /// What it leads to, as the kernel writes it.
    pub(crate) target: PathBuf,
}
