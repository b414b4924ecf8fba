//! Lending a hold to children, where the kernel does not tell which process holds a lock: a process
//! that lends its hold locks a byte of the hold file, far past its end, that stands for its pid.
//!
//! Only a holder locks its byte, and unlocks it before it releases the lock, and the kernel unlocks that
//! of a process that dies. So whether a byte is locked says exactly whether that process holds, as the
//! kernel's tables do on Linux, where no byte is locked.

use std::path::Path;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use crate::hold_file::{self, HoldFile};
use crate::lineage::ProcessId;
use crate::lock_options::LockOptions;
use crate::sys::file;
use crate::sys::locks::TELL_WHO_HOLDS;

/// The byte of the process with pid 0, which is none. Those of the levels are above all of these.
const FIRST_BYTE: i64 = 1 << 61;

/// How often the byte is tried, and the pause in between: a process that asks whether it is locked has
/// it for a moment.
const TRIES: u32 = 20;
const PAUSE: Duration = Duration::from_micros(200);

/// How one process lends its holds.
#[derive(Debug, Default)]
pub(crate) struct Lender(Mutex<Lent>);

#[derive(Debug, Default)]
struct Lent {
    /// Open from the first hold that was lent on.
    file: Option<HoldFile>,
    is_locked: bool,
}

impl Lender {
    /// Locks the byte of this process, until the hold is over. If that fails, the children wait as any
    /// other process does.
    pub(crate) fn lend(&self, options: &LockOptions) {
        if TELL_WHO_HOLDS {
            return;
        }
        let mut lent = self.lent();
        let Lent { file, is_locked } = &mut *lent;
        let byte = byte_of(ProcessId::own().pid);
        for _ in 0..TRIES {
            if *is_locked {
                return;
            }
            match HoldFile::try_lock(file, options, byte) {
                Ok(true) => *is_locked = true,
                Ok(false) => thread::sleep(PAUSE),
                Err(_) => return,
            }
        }
    }

    /// Lends the next hold too, if one was lent: children of the last one may still run.
    pub(crate) fn lend_again(&self, options: &LockOptions) {
        if !TELL_WHO_HOLDS && self.lent().file.is_some() {
            self.lend(options);
        }
    }

    /// Unlocks the byte, before the lock is released.
    pub(crate) fn end(&self) {
        if TELL_WHO_HOLDS {
            return;
        }
        let mut lent = self.lent();
        if !std::mem::take(&mut lent.is_locked) {
            return;
        }
        let byte = byte_of(ProcessId::own().pid);
        let unlocked = lent.file.as_ref().map(|file| file.unlock(byte));
        if unlocked.is_some_and(|unlocked| unlocked.is_err()) {
            // Closing it unlocks it.
            lent.file = None;
        }
    }

    fn lent(&self) -> MutexGuard<'_, Lent> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Returns whether a process lends its hold of this lock file at this moment.
pub(crate) fn lends(process: ProcessId, lock_file: &Path) -> bool {
    let opened = file::open_to_look(&hold_file::path_of(lock_file));
    let is_locked = |file| file::are_bytes_locked(&file, byte_of(process.pid), 1);
    // There is no such file before a process has lent its hold.
    opened.and_then(is_locked).unwrap_or(false)
}

fn byte_of(pid: u32) -> i64 {
    FIRST_BYTE + i64::from(pid)
}

#[cfg(test)]
mod tests {
    use std::time::Instant;

    use super::*;

    #[test]
    fn a_look_at_the_byte_does_not_prevent_lending() {
        if TELL_WHO_HOLDS {
            return;
        }
        let directory = tempfile::tempdir().unwrap();
        let options = LockOptions::new(directory.path().join("db.lock"));
        std::fs::write(&options.path, b"").unwrap();
        let lender = Lender::default();
        let own = ProcessId::own();
        lender.lend(&options);
        assert!(lends(own, &options.path));
        lender.end();
        assert!(!lends(own, &options.path));

        // As another process does while it asks, only longer.
        let looks = file::open_existing(&hold_file::path_of(&options.path)).unwrap();
        assert!(file::try_lock_byte(&looks, byte_of(own.pid)).unwrap());
        thread::scope(|scope| {
            scope.spawn(|| {
                thread::sleep(PAUSE * 3);
                file::unlock_byte(&looks, byte_of(own.pid)).unwrap();
            });
            lender.lend_again(&options);
        });
        assert!(lends(own, &options.path));

        // A byte that stays locked costs some milliseconds.
        lender.end();
        assert!(file::try_lock_byte(&looks, byte_of(own.pid)).unwrap());
        let before = Instant::now();
        lender.lend_again(&options);
        assert!(!lender.lent().is_locked);
        assert!(before.elapsed() < Duration::from_secs(5));
    }
}
