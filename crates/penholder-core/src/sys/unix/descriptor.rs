//! Open files that a forked child closes, never unlocking what its parent holds.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use rustix::io::Errno;

use crate::sys::{file, fork};

/// Every file that carries a lock of this process. Locked across a fork, so that
/// the child finds it consistent; never locked while waiting for another process.
static DESCRIPTORS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// Returns whether this process has as many files open as it may.
pub(crate) fn is_own_limit(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::MFILE)
}

/// Returns whether all processes together have as many files open as they may.
pub(crate) fn is_system_limit(error: &io::Error) -> bool {
    Errno::from_io_error(error) == Some(Errno::NFILE)
}

/// An open file on which this process has, or takes, a lock.
#[derive(Debug)]
pub(crate) struct Descriptor {
    file: ManuallyDrop<File>,
    generation: u64,
}

impl Descriptor {
    /// Opens a file with `open`; no fork can happen between that and the file's
    /// entry in the table here.
    ///
    /// # Errors
    ///
    /// Those of `open`.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        let mut descriptors = lock_table();
        let file = open()?;
        descriptors.push(file.as_raw_fd());
        Ok(Self {
            file: ManuallyDrop::new(file),
            generation: fork::generation(),
        })
    }

    /// Returns whether this process opened the file, not a parent of it.
    pub(crate) fn is_ours(&self) -> bool {
        self.generation == fork::generation()
    }
}

impl Deref for Descriptor {
    type Target = File;

    fn deref(&self) -> &File {
        &self.file
    }
}

impl Drop for Descriptor {
    fn drop(&mut self) {
        // In a forked child the number was closed and may be another file's by now.
        if !self.is_ours() {
            return;
        }
        let mut descriptors = lock_table();
        let number = self.file.as_raw_fd();
        descriptors.retain(|&one| one != number);
        file::close(&mut self.file);
    }
}

/// Keeps every other thread from opening or closing a [`Descriptor`].
pub(crate) struct DescriptorsGuard(MutexGuard<'static, Vec<RawFd>>);

/// Keeps every other thread from opening or closing a [`Descriptor`] during a fork.
pub(crate) fn lock() -> DescriptorsGuard {
    DescriptorsGuard(lock_table())
}

impl DescriptorsGuard {
    /// Closes, in a forked child, every descriptor that it inherited, without
    /// unlocking. Only the child handler of a fork may call this.
    pub(crate) fn close_inherited(&mut self) {
        for number in self.0.drain(..) {
            file::close_inherited(number);
        }
    }
}

fn lock_table() -> MutexGuard<'static, Vec<RawFd>> {
    // Nothing panics with the table locked, so it is consistent.
    DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner)
}
