//! Open files that a forked child closes, never unlocking what its parent holds.

use std::fs::File;
use std::io;
use std::mem::ManuallyDrop;
use std::ops::Deref;
use std::os::fd::{AsRawFd, RawFd};
use std::sync::{Mutex, MutexGuard, PoisonError};

use crate::sys::{file, fork};

/// Every file that carries a lock of this process. Held across a fork, so that
/// the child finds it whole; never held while waiting for anybody.
static DESCRIPTORS: Mutex<Vec<RawFd>> = Mutex::new(Vec::new());

/// An open file on which this process has, or takes, a lock.
#[derive(Debug)]
pub(crate) struct Descriptor {
    file: ManuallyDrop<File>,
    generation: u64,
}

impl Descriptor {
    /// The file that `open` opens; no fork falls between that and its being
    /// known here.
    pub(crate) fn open(open: impl FnOnce() -> io::Result<File>) -> io::Result<Self> {
        let mut descriptors = lock();
        let file = open()?;
        descriptors.push(file.as_raw_fd());
        Ok(Self {
            file: ManuallyDrop::new(file),
            generation: fork::generation(),
        })
    }

    /// Whether this process opened it, not a parent of it.
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
        // In a forked child the number was closed and may be anybody's by now.
        if !self.is_ours() {
            return;
        }
        let mut descriptors = lock();
        let number = self.file.as_raw_fd();
        descriptors.retain(|&one| one != number);
        file::close(&mut self.file);
    }
}

/// Keeps every other thread from opening or closing one: for a fork.
/// The table of descriptors, locked.
pub(crate) type DescriptorsGuard = MutexGuard<'static, Vec<RawFd>>;

pub(crate) fn lock() -> MutexGuard<'static, Vec<RawFd>> {
    // Nothing panics with it held, so what it guards is whole.
    DESCRIPTORS.lock().unwrap_or_else(PoisonError::into_inner)
}

/// In a forked child: closes what it inherited, without unlocking.
pub(crate) fn close_inherited(descriptors: &mut Vec<RawFd>) {
    for number in descriptors.drain(..) {
        file::close_inherited(number);
    }
}
