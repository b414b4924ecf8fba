#![expect(unsafe_code, reason = "memory shared with other processes")]
//! A file mapped into memory, shared with every process that maps it.

use std::fs::File;
use std::io;
use std::os::windows::io::AsRawHandle;
use std::ptr::{self, NonNull};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use windows_sys::Win32::System::Memory::{
    CreateFileMappingW, FILE_MAP_READ, FILE_MAP_WRITE, MEMORY_MAPPED_VIEW_ADDRESS, MapViewOfFile,
    PAGE_READWRITE, UnmapViewOfFile,
};

use super::event::MappedEvents;
use super::handle;

/// A mapping begins at a multiple of this (`dwAllocationGranularity`, the same on all machines).
const GRANULARITY: usize = 64 << 10;
/// The smallest memory page, in words of eight bytes.
const PAGE_WORDS: usize = 4096 / 8;

/// A part of a file as atomic words.
///
/// Other processes may write anything to it at any moment: so it is only read and
/// written atomically, and nothing in it is trusted. The file cannot be truncated while it is mapped.
#[derive(Debug)]
pub(crate) struct Mapping {
    /// Where the part begins that was asked for, and its length.
    first: NonNull<u8>,
    length: usize,
    /// Ends with this, after `drop`.
    _view: View,
    events: Arc<MappedEvents>,
}

/// A mapped view, which ends with this.
#[derive(Debug)]
struct View(NonNull<u8>);

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
    /// Those of `CreateFileMappingW` and `MapViewOfFile`; the file has to be that long.
    pub(crate) fn of(file: &File, offset: usize, length: usize) -> io::Result<Self> {
        debug_assert_eq!((offset % 8, length % 8), (0, 0), "whole words");
        let skipped = offset % GRANULARITY;
        let view = View::of(file, offset - skipped, skipped + length)?;
        // SAFETY: the view has `skipped` bytes before the part.
        let first = unsafe { view.0.byte_add(skipped) };
        let address = first.as_ptr().addr();
        Ok(Self {
            first,
            length,
            _view: view,
            events: MappedEvents::register(file, offset, address, length)?,
        })
    }

    /// Has the system make all pages writable now, as the first store to each does.
    pub(crate) fn make_writable(&self) {
        for word in self.u64s().iter().step_by(PAGE_WORDS) {
            word.fetch_or(0, Ordering::Relaxed);
        }
    }

    /// Returns the whole part as words of eight bytes.
    pub(crate) fn u64s(&self) -> &[AtomicU64] {
        let first = self.first.cast().as_ptr();
        // SAFETY: `first` is aligned to eight bytes, because views and offsets are,
        // `length` bytes from it stay mapped while `self` lives, any bits are a valid
        // atomic, and every access of ours is atomic.
        unsafe { std::slice::from_raw_parts(first, self.length / 8) }
    }

    /// Returns the whole part as words of four bytes, on which threads sleep. Of a word that is
    /// used in both widths, only `futex` reads the half.
    pub(crate) fn u32s(&self) -> &[AtomicU32] {
        let first = self.first.cast().as_ptr();
        // SAFETY: as in `u64s`.
        unsafe { std::slice::from_raw_parts(first, self.length / 4) }
    }
}

impl Drop for Mapping {
    fn drop(&mut self) {
        // First: another mapping may get the address.
        self.events.unregister();
    }
}

impl View {
    fn of(file: &File, offset: usize, length: usize) -> io::Result<Self> {
        let (null, whole) = (ptr::null(), 0);
        // SAFETY: the handle is open while `file` is borrowed; there are neither attributes nor a name.
        let section = unsafe {
            CreateFileMappingW(
                file.as_raw_handle(),
                null,
                PAGE_READWRITE,
                whole,
                whole,
                ptr::null(),
            )
        };
        // SAFETY: the call returned null, or an open handle that is ours.
        let section = unsafe { handle::owned(section) }?;
        let rights = FILE_MAP_READ | FILE_MAP_WRITE;
        let [low, high] = super::file::halves(i64::try_from(offset).unwrap_or(i64::MAX));
        // SAFETY: a new view at an address that the system chooses touches no memory of ours. It
        // outlives the handle of the section.
        let view = unsafe { MapViewOfFile(section.as_raw_handle(), rights, high, low, length) };
        match NonNull::new(view.Value.cast()) {
            Some(view) => Ok(Self(view)),
            None => Err(io::Error::last_os_error()),
        }
    }
}

impl Drop for View {
    fn drop(&mut self) {
        let view = MEMORY_MAPPED_VIEW_ADDRESS {
            Value: self.0.as_ptr().cast(),
        };
        // SAFETY: the view is ours, and nothing borrowed from it outlives the `Mapping`.
        unsafe { UnmapViewOfFile(view) };
    }
}
