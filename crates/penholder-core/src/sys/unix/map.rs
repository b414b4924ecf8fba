#![expect(unsafe_code, reason = "memory shared with other processes")]
//! A file mapped into memory, shared with every process that maps it.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, madvise, mmap, munmap};
use rustix::param::page_size;

use crate::sys::advice;

/// A part of a file as atomic words.
///
/// Other processes may write anything to it at any moment: so it is only read and
/// written atomically, and nothing in it is trusted. If a process truncates the file,
/// touching the missing part ends this process with SIGBUS, as with SQLite's `-shm`.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Where the part begins that was asked for, and its length.
    first: NonNull<u8>,
    length: usize,
    /// Where the mapping begins, at a memory page, and its length.
    start: NonNull<u8>,
    mapped: usize,
}

// SAFETY: the memory is shared, and `Mapping` hands it out only as atomics, which any
// thread may use.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps `length` bytes of the file from `offset` on, both multiples of eight.
    ///
    /// # Errors
    ///
    /// Those of `mmap(2)`.
    pub(crate) fn of(file: &File, offset: usize, length: usize) -> io::Result<Self> {
        debug_assert_eq!((offset % 8, length % 8), (0, 0), "whole words");
        // A mapping begins at a memory page, and these may have 64 KB.
        let skipped = offset % page_size();
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at an address that the kernel chooses touches no
        // memory of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                skipped + length,
                protection,
                MapFlags::SHARED,
                file,
                (offset - skipped) as u64,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        // SAFETY: the mapping has `skipped` bytes before the part.
        let first = unsafe { start.byte_add(skipped) };
        Ok(Self {
            first,
            length,
            start,
            mapped: skipped + length,
        })
    }

    /// Makes all pages writable, as the first store to each does. It is ignored if that fails, and does
    /// nothing where the kernel takes no such advice.
    pub(crate) fn make_writable(&self) {
        let Some(advice) = advice::MAKE_WRITABLE else {
            return;
        };
        let start = self.start.as_ptr().cast();
        // SAFETY: the mapping is ours and stays, and its contents do not change.
        let _ = unsafe { madvise(start, self.mapped, advice) };
    }

    /// Returns the whole part as words of eight bytes.
    pub(crate) fn u64s(&self) -> &[AtomicU64] {
        let first = self.first.cast().as_ptr();
        // SAFETY: `first` is aligned to eight bytes, because memory pages and offsets are,
        // `length` bytes from it stay mapped while `self` lives, any bits are a valid
        // atomic, and every access of ours is atomic.
        unsafe { std::slice::from_raw_parts(first, self.length / 8) }
    }

    /// Returns the whole part as words of four bytes, for futexes. Of a word that is
    /// used in both widths, only the kernel reads the half.
    pub(crate) fn u32s(&self) -> &[AtomicU32] {
        let first = self.first.cast().as_ptr();
        // SAFETY: as in `u64s`.
        unsafe { std::slice::from_raw_parts(first, self.length / 4) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrowed from it outlives `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.mapped) };
    }
}
