#![expect(
    unsafe_code,
    reason = "the WAL index is shared memory that SQLite maps"
)]
//! The beginning of the WAL index, as other processes change it.

use std::ffi::c_void;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU32, Ordering::SeqCst};

/// Words of one copy of the header ("WAL-Index Header" in `walformat.html`).
pub(crate) const HEADER_WORDS: usize = 12;
/// The number of read marks, READ0 included.
pub(crate) const MARKS: usize = 5;

/// Whether it is set up, in the header: the first byte.
const AT_IS_INIT: usize = 3;
/// The last frame that is valid, in the header.
const AT_MAX_FRAME: usize = 4;
/// The checksum of what stands before it, in the header: two words.
const AT_CHECKSUM: usize = 10;
/// How many frames are checkpointed; after two copies of the header.
const AT_BACKFILLED: usize = 2 * HEADER_WORDS;
const AT_MARKS: usize = AT_BACKFILLED + 1;
const WORDS: usize = AT_MARKS + MARKS;

/// The header of the WAL index.
pub(crate) type Header = [u32; HEADER_WORDS];

/// The beginning of the WAL index of one connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct WalIndex(NonNull<[AtomicU32; WORDS]>);

// SAFETY: all of it is read atomically; the mapping is the whole process's.
unsafe impl Send for WalIndex {}

impl WalIndex {
    /// Makes it of the first region of the index.
    ///
    /// # Safety
    ///
    /// `region` is null or what `xShmMap` returned for region 0, and stays mapped while the
    /// result is used: until `xShmUnmap` of that file.
    pub(crate) unsafe fn new(region: *mut c_void) -> Option<Self> {
        NonNull::new(region.cast()).map(Self)
    }

    /// Makes it of memory of a test.
    #[cfg(test)]
    pub(crate) fn of_words(words: &'static mut [u32; 64]) -> Self {
        const { assert!(WORDS <= 64) };
        Self(NonNull::from(words).cast())
    }

    fn words(&self) -> &[AtomicU32; WORDS] {
        // SAFETY: mapped, see `new`; a region has 32 KB and is aligned to pages.
        unsafe { self.0.as_ref() }
    }

    fn word(&self, at: usize) -> u32 {
        self.words()[at].load(SeqCst)
    }

    /// Returns the first copy of the header.
    pub(crate) fn header(&self) -> Header {
        std::array::from_fn(|at| self.word(at))
    }

    /// Returns whether SQLite can use the header, or has to recover the index before it reads
    /// (`walIndexTryHdr` in `wal.c`).
    pub(crate) fn is_valid(&self) -> bool {
        let header = self.header();
        let copy: Header = std::array::from_fn(|at| self.word(HEADER_WORDS + at));
        let (mut first, mut second) = (0_u32, 0_u32);
        for pair in header[..AT_CHECKSUM].chunks_exact(2) {
            first = first.wrapping_add(pair[0]).wrapping_add(second);
            second = second.wrapping_add(pair[1]).wrapping_add(first);
        }
        let is_init = header[AT_IS_INIT].to_ne_bytes()[0] != 0;
        header == copy && is_init && header[AT_CHECKSUM..] == [first, second]
    }

    /// Returns the number of the last valid frame.
    pub(crate) fn max_frame(&self) -> u32 {
        self.word(AT_MAX_FRAME)
    }

    /// Returns how many frames are checkpointed.
    pub(crate) fn backfilled(&self) -> u32 {
        self.word(AT_BACKFILLED)
    }

    /// Returns a read mark.
    pub(crate) fn mark(&self, number: usize) -> u32 {
        self.word(AT_MARKS + number % MARKS)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// As SQLite 3.40.1 wrote it on x86-64.
    const HEADER: Header = [
        3_007_000,
        0,
        18_234,
        0x1000_0001,
        520,
        51,
        1_876_133_273,
        2_608_711_765,
        1_533_123_361,
        1_576_063_307,
        1_554_128_531,
        430_574_103,
    ];

    #[test]
    #[cfg(target_endian = "little")]
    fn an_index_without_two_equal_copies_of_a_valid_header_is_not_valid() {
        let words = Box::leak(Box::new([0; 64]));
        let index = WalIndex::of_words(words);
        let set = |at: usize, value: u32| index.words()[at].store(value, SeqCst);
        for copy in [0, HEADER_WORDS] {
            assert!(!index.is_valid(), "both copies have to be made");
            for (at, value) in HEADER.into_iter().enumerate() {
                set(copy + at, value);
            }
        }
        assert!(index.is_valid());
        for (at, value) in HEADER.into_iter().enumerate() {
            set(at, !value);
            assert!(!index.is_valid(), "a commit is changing it: {at}");
            set(HEADER_WORDS + at, !value);
            assert!(!index.is_valid(), "the checksum is wrong: {at}");
            set(at, value);
            set(HEADER_WORDS + at, value);
        }
        assert!(index.is_valid());
    }
}
