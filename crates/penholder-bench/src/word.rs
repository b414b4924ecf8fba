//! A futex word in memory that processes share: the cheapest lock between processes.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;

use crate::{clock, lock_file, system};

const FREE: u32 = 0;
const HELD: u32 = 1;

pub(crate) struct Word {
    map: MmapRaw,
}

impl Word {
    /// Maps the word of a file. All processes that map the same file share it.
    pub(crate) fn shared(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = lock_file::open(path)?;
        file.set_len(4096)?;
        let map = MmapOptions::new().len(4096).map_raw(&file)?;
        Ok(Self { map })
    }

    fn word(&self) -> &AtomicU32 {
        let start = self.map.as_mut_ptr().cast::<u32>();
        #[expect(
            unsafe_code,
            reason = "there is no safe view of memory that processes share"
        )]
        // SAFETY: the mapping is aligned to a memory page, is a page long, and lives
        // as long as `self`; no process truncates the file; every process accesses
        // these four bytes only through an atomic.
        unsafe {
            AtomicU32::from_ptr(start)
        }
    }

    pub(crate) fn acquire(&self, timeout: Duration) -> Result<(), Box<dyn Error>> {
        let deadline = clock::after(timeout);
        let acquired = || {
            let order = (Ordering::Acquire, Ordering::Relaxed);
            let word = self.word();
            word.compare_exchange(FREE, HELD, order.0, order.1).is_ok()
        };
        while !acquired() {
            let left = clock::left(deadline);
            if left.is_zero() {
                return Err("the word was not free before the deadline".into());
            }
            system::wait(self.word(), HELD, left)?;
        }
        Ok(())
    }

    pub(crate) fn release(&self) -> Result<(), Errno> {
        self.word().store(FREE, Ordering::Release);
        system::wake(self.word())
    }
}
