//! A word that processes share, with the kernel's futex: free or taken.

use std::error::Error;
use std::path::Path;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use memmap2::{MmapOptions, MmapRaw};
use rustix::io::Errno;
use rustix::thread::futex::{self, Flags, Timespec};

use crate::clock;
use crate::peer::writer;

const FREE: u32 = 0;
const TAKEN: u32 = 1;

pub(crate) struct Word {
    page: MmapRaw,
}

impl Word {
    /// All who name the same file share the word.
    pub(crate) fn shared(path: &Path) -> Result<Self, Box<dyn Error>> {
        let file = writer::lock_file(path)?;
        file.set_len(4096)?;
        let page = MmapOptions::new().len(4096).map_raw(&file)?;
        Ok(Self { page })
    }

    fn word(&self) -> &AtomicU32 {
        let start = self.page.as_mut_ptr().cast::<u32>();
        #[expect(unsafe_code, reason = "no safe view of memory shared by processes")]
        // SAFETY: the mapping begins at a page's border, is a page long, and
        // lives as long as `self`; nobody shortens the file; every process looks
        // at these four bytes through an atomic only.
        unsafe {
            AtomicU32::from_ptr(start)
        }
    }

    pub(crate) fn take(&self, patience: Duration) -> Result<(), Box<dyn Error>> {
        let deadline = clock::after(patience);
        let free = || {
            let order = (Ordering::Acquire, Ordering::Relaxed);
            let word = self.word();
            word.compare_exchange(FREE, TAKEN, order.0, order.1).is_ok()
        };
        while !free() {
            let left = clock::left(deadline);
            if left.is_zero() {
                return Err("the word was not free in time".into());
            }
            let left = Timespec::try_from(left)?;
            match futex::wait(self.word(), Flags::empty(), TAKEN, Some(&left)) {
                Ok(()) | Err(Errno::AGAIN | Errno::INTR | Errno::TIMEDOUT) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(())
    }

    pub(crate) fn release(&self) -> Result<(), Errno> {
        self.word().store(FREE, Ordering::Release);
        futex::wake(self.word(), Flags::empty(), 1)?;
        Ok(())
    }
}
