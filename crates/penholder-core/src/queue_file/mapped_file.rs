//! The queue file as this process has it mapped.
//!
//! A file that grows is mapped further, by one more mapping for the new blocks. No mapping is moved
//! or replaced: what a thread has a reference to stays where it is.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize};
use std::sync::{Arc, OnceLock};

use super::layout::{self, AT_LENGTH, AT_SLOTS, BLOCK_SLOTS, BLOCKS, HEAD_LEN};
use crate::sys::clock;
use crate::sys::file::{self, FileId};
use crate::sys::map::Mapping;
use crate::turnstile::SlotIndex;

/// How long a process goes without trying again to map what it could not map, in nanoseconds.
const RETRY: u64 = 100_000_000;

/// The queue file as this process has it mapped: the head, and the blocks that it has needed.
#[derive(Debug)]
pub(super) struct MappedFile {
    path: PathBuf,
    id: FileId,
    head: Arc<Mapping>,
    blocks: [OnceLock<Block>; BLOCKS],
    /// When a block could last not be mapped: coarse monotonic clock, nanoseconds.
    failed_at: AtomicU64,
    /// How many slots there were when the pages were made writable.
    writable: AtomicUsize,
}

/// A block of slots, which stays mapped while this lives.
#[derive(Debug, Clone)]
pub(super) struct Block {
    mapping: Arc<Mapping>,
    /// Where it begins in the mapping, in bytes.
    start: usize,
}

impl Block {
    /// Returns the word at an offset within the block.
    pub(super) fn u64(&self, at: usize) -> &AtomicU64 {
        &self.mapping.u64s()[(self.start + at) / 8]
    }

    /// Returns the words from an offset on that have this length in bytes.
    pub(super) fn u64s(&self, at: usize, length: usize) -> &[AtomicU64] {
        let first = (self.start + at) / 8;
        &self.mapping.u64s()[first..first + length / 8]
    }

    /// Returns the two halves of the word at an offset: a futex, and whether a thread sleeps on it.
    pub(super) fn futex(&self, at: usize) -> (&AtomicU32, &AtomicU32) {
        let first = (self.start + at) / 4;
        let words = self.mapping.u32s();
        (&words[first], &words[first + 1])
    }
}

impl MappedFile {
    /// Maps an open file with this many blocks, which the path names.
    pub(super) fn new(path: &Path, id: FileId, file: &File, blocks: usize) -> io::Result<Self> {
        let length = layout::length(blocks);
        file::fill_holes(file, length)?;
        let mapping = Arc::new(Mapping::of(file, 0, length)?);
        let mapped = Self {
            path: path.to_owned(),
            id,
            head: Arc::clone(&mapping),
            blocks: [const { OnceLock::new() }; BLOCKS],
            failed_at: AtomicU64::new(0),
            writable: AtomicUsize::new(0),
        };
        mapped.add(0..blocks, HEAD_LEN, &mapping);
        Ok(mapped)
    }

    pub(super) fn path(&self) -> &Path {
        &self.path
    }

    pub(super) fn id(&self) -> FileId {
        self.id
    }

    pub(super) fn head(&self) -> &Arc<Mapping> {
        &self.head
    }

    /// Returns the word of the head at an offset.
    pub(super) fn u64(&self, at: usize) -> &AtomicU64 {
        &self.head.u64s()[at / 8]
    }

    /// Returns how many slots the file says that there are.
    pub(super) fn slots(&self) -> usize {
        let slots = self.u64(AT_SLOTS).load(SeqCst);
        usize::try_from(slots).map_or(0, |slots| slots.min(BLOCKS * BLOCK_SLOTS))
    }

    /// Whether there is such a slot.
    pub(super) fn has(&self, slot: SlotIndex) -> bool {
        slot.number() < self.slots() || self.blocks[layout::block(slot)].get().is_some()
    }

    /// Returns the block of a slot. It is mapped first if need be; `None` if there is no such slot,
    /// or its block cannot be mapped.
    pub(super) fn block(&self, slot: SlotIndex) -> Option<&Block> {
        let number = layout::block(slot);
        let block = &self.blocks[number];
        if block.get().is_none() {
            self.map_from(number);
        }
        block.get()
    }

    /// Has the kernel make all pages writable now, once for all that there are: the first store of
    /// a process to each changes when the file was last changed, which combiners and owners of
    /// requests take for a write to it.
    pub(super) fn make_writable(&self) {
        let slots = self.slots();
        if self.writable.swap(slots, Relaxed) == slots {
            return;
        }
        self.head.make_writable();
        let mut last = &self.head;
        for slot in (0..slots).step_by(BLOCK_SLOTS).filter_map(SlotIndex::new) {
            let Some(block) = self.block(slot) else {
                return;
            };
            if !Arc::ptr_eq(last, &block.mapping) {
                block.mapping.make_writable();
                last = &block.mapping;
            }
        }
    }

    /// Says that there are at least this many blocks: an older header may have been written over the
    /// file since they were made.
    pub(super) fn publish(&self, blocks: usize) {
        let length = layout::length(blocks) as u64;
        // First: a process that reads the number of slots finds the length that goes with it.
        self.u64(AT_LENGTH).fetch_max(length, SeqCst);
        let slots = (blocks * BLOCK_SLOTS) as u64;
        self.u64(AT_SLOTS).fetch_max(slots, SeqCst);
    }

    #[cold]
    fn map_from(&self, first: usize) {
        let now = clock::coarse();
        let is_recent = now.saturating_sub(self.failed_at.load(Relaxed)) < RETRY;
        if first * BLOCK_SLOTS >= self.slots() || is_recent {
            return;
        }
        if self.try_map_from(first).is_err() {
            self.failed_at.store(now, Relaxed);
        }
    }

    /// Maps this block and all after it, as far as the file has them: the number of slots may be
    /// garbage.
    fn try_map_from(&self, first: usize) -> io::Result<()> {
        // Not by a descriptor that carries our lock: a forked child keeps the mapping, and with it
        // the lock.
        let file = file::open_existing(&self.path)?;
        let facts = file::facts(&file)?;
        let end = layout::blocks_in(facts.len).min(self.slots() / BLOCK_SLOTS);
        if facts.id != self.id || end <= first {
            return Err(io::ErrorKind::NotFound.into());
        }
        file::fill_holes(&file, layout::length(end))?;
        let (offset, length) = (layout::length(first), layout::length(end));
        let mapping = Mapping::of(&file, offset, length - offset)?;
        self.add(first..end, 0, &Arc::new(mapping));
        Ok(())
    }

    fn add(&self, blocks: std::ops::Range<usize>, start: usize, mapping: &Arc<Mapping>) {
        for (place, number) in blocks.enumerate() {
            let start = start + place * layout::BLOCK_LEN;
            let mapping = Arc::clone(mapping);
            // One that another thread has mapped meanwhile is as good.
            let _ = self.blocks[number].set(Block { mapping, start });
        }
    }
}
