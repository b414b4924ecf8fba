//! Shared memory, of which there is none here.

use std::convert::Infallible;
use std::fs::File;
use std::io;
use std::sync::atomic::{AtomicU32, AtomicU64};

use super::unsupported;

/// A mapped file; no value of it exists.
#[derive(Debug)]
pub(crate) struct Mapping(Infallible);

impl Mapping {
    /// Fails.
    pub(crate) fn of(_file: &File, _offset: usize, _length: usize) -> io::Result<Self> {
        unsupported("mapped files")
    }

    /// Is never called: there is no mapping.
    pub(crate) fn make_writable(&self) {
        match self.0 {}
    }

    /// Is never called: there is no mapping.
    pub(crate) fn u64s(&self) -> &[AtomicU64] {
        match self.0 {}
    }

    /// Is never called: there is no mapping.
    pub(crate) fn u32s(&self) -> &[AtomicU32] {
        match self.0 {}
    }
}
