//! Open files, on platforms without forks: there is no child that would have to close them.

use std::fs::File;
use std::io;
use std::ops::Deref;

/// An open file.
#[derive(Debug)]
pub(crate) struct Descriptor {
    file: File,
}

impl Descriptor {
    /// Opens a file with `open`.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        Ok(Self { file: open()? })
    }

    /// Returns `true`: there are no forks.
    pub(crate) fn is_ours(&self) -> bool {
        true
    }
}

impl Deref for Descriptor {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

/// Guards nothing: there is no table of descriptors.
pub(crate) struct DescriptorsGuard(());

/// Does nothing.
pub(crate) fn lock() -> DescriptorsGuard {
    DescriptorsGuard(())
}

impl DescriptorsGuard {
    /// Does nothing.
    pub(crate) fn close_inherited(&mut self) {}
}
