#![expect(unsafe_code, reason = "memory shared with other processes")]
//! A file mapped into memory, shared with every process that maps it.

use std::fs::File;
use std::io;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, AtomicU64};

use rustix::mm::{MapFlags, ProtFlags, mmap, munmap};

/// The first bytes of a file as atomic words.
///
/// Other processes write it at any moment, in any way: so it is only ever read
/// and written atomically, and nothing in it is believed. If somebody truncates
/// the file, touching what is gone ends this process with SIGBUS, as it does
/// for SQLite's `-shm`.
#[derive(Debug)]
pub(crate) struct Mapping {
    start: NonNull<u8>,
    length: usize,
}

// SAFETY: the memory is shared and only handed out as atomics, which any thread
// may use.
unsafe impl Send for Mapping {}
// SAFETY: as above.
unsafe impl Sync for Mapping {}

impl Mapping {
    /// Maps the first `length` bytes, a multiple of eight.
    pub(crate) fn of(file: &File, length: usize) -> io::Result<Self> {
        debug_assert_eq!(length % 8, 0, "whole words");
        let protection = ProtFlags::READ | ProtFlags::WRITE;
        // SAFETY: a new mapping at a place of the kernel's choice touches no
        // memory of ours.
        let start = unsafe {
            mmap(
                std::ptr::null_mut(),
                length,
                protection,
                MapFlags::SHARED,
                file,
                0,
            )
        }?;
        let start = NonNull::new(start.cast()).ok_or(io::ErrorKind::AddrNotAvailable)?;
        Ok(Self { start, length })
    }

    /// The whole as words of eight bytes.
    pub(crate) fn u64s(&self) -> &[AtomicU64] {
        // SAFETY: `start` is the beginning of a page, `length` bytes from it are
        // mapped for as long as `self` lives, any bits are a valid atomic, and
        // every access of ours is atomic.
        unsafe { std::slice::from_raw_parts(self.start.cast().as_ptr(), self.length / 8) }
    }

    /// The whole as words of four bytes, for futexes. No word is used in both
    /// widths.
    pub(crate) fn u32s(&self) -> &[AtomicU32] {
        // SAFETY: as in `u64s`.
        unsafe { std::slice::from_raw_parts(self.start.cast().as_ptr(), self.length / 4) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // SAFETY: the mapping is ours, and nothing borrowed from it outlives
        // `self`.
        let _ = unsafe { munmap(self.start.as_ptr().cast(), self.length) };
    }
}
