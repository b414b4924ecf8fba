//! The head of the queue file, for a process that uses it without a slot.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};

use super::build::build;
use super::database::{DatabaseWords, Databases};
use super::fault::QueueFileFault;
use super::header;
use super::layout::{HEAD_LEN, path_of};
use super::trust::Authority;
use crate::sys::descriptor::Descriptor;
use crate::sys::file::{self, FileId};
use crate::sys::map::Mapping;

/// The head of a queue file that this process has mapped.
#[derive(Debug)]
pub(crate) struct QueueFileHead {
    path: PathBuf,
    id: FileId,
    mapping: Arc<Mapping>,
    is_attached: Arc<AtomicBool>,
}

/// Why there is none.
#[derive(Debug)]
pub(crate) enum NoHead {
    Fault(QueueFileFault),
    Io(io::Error),
}

impl From<io::Error> for NoHead {
    fn from(error: io::Error) -> Self {
        Self::Io(error)
    }
}

impl QueueFileHead {
    /// Maps the head of the queue file of a lock file, which is built if it is missing.
    pub(crate) fn open(lock_file: &Path, database: &Path) -> Result<Self, NoHead> {
        match Self::open_existing(lock_file, database) {
            Err(NoHead::Io(error)) if error.kind() == io::ErrorKind::NotFound => {
                if let Some(fault) = QueueFileFault::of_building() {
                    return Err(NoHead::Fault(fault));
                }
                let authority = Authority::of(lock_file, Some(database));
                build(&path_of(lock_file), &authority)?;
                Self::open_existing(lock_file, database)
            }
            opened => opened,
        }
    }

    /// Maps the head of the queue file of a lock file, if there is one.
    fn open_existing(lock_file: &Path, database: &Path) -> Result<Self, NoHead> {
        let path = path_of(lock_file);
        let file = file::open_existing(&path)?;
        let authority = Authority::of(lock_file, Some(database));
        if let Some(fault) = authority.fault_of(&file::ownership(&file)?) {
            return Err(NoHead::Fault(fault));
        }
        let facts = file::facts(&file)?;
        if let Some(fault) = header::fault_in(&header::first_bytes(&file)?, facts.len) {
            return Err(NoHead::Fault(fault));
        }
        file::fill_holes(&file, HEAD_LEN)?;
        Ok(Self {
            path,
            id: facts.id,
            mapping: Arc::new(Mapping::of(&file, 0, HEAD_LEN)?),
            is_attached: Arc::new(AtomicBool::new(true)),
        })
    }

    /// Whether this is the file that the other processes use: the path names it, and it is valid.
    pub(crate) fn is_current(&self) -> bool {
        let is_whole = file::facts_of_path(&self.path)
            .is_ok_and(|facts| facts.id == self.id && facts.len >= HEAD_LEN as u64);
        is_whole && header::is_valid(|at| self.mapping.u64s()[at / 8].load(SeqCst))
    }

    /// Returns the words of a database, whose entry is made if there is none; `None` if that cannot
    /// be done now.
    pub(crate) fn database_words(&self, device: u64, inode: u64) -> Option<DatabaseWords> {
        let databases = Databases {
            mapping: &self.mapping,
            is_attached: &self.is_attached,
        };
        let found = databases.find(device, inode);
        found.or_else(|| {
            // A forked child closes it, and does not keep the lock.
            let file = Descriptor::open(|| file::open_existing(&self.path)).ok()?;
            let is_same = file::facts(&file).is_ok_and(|facts| facts.id == self.id);
            is_same.then(|| databases.find_or_make(&file, device, inode))?
        })
    }
}

impl DatabaseWords {
    /// Finds or makes the words of a database without an attachment to the lock file, to count commits:
    /// for a process that has the lock in another way, as one under an ancestor's hold. The queue file
    /// is not made; `None` if it cannot be used now.
    ///
    /// Whether they are [current](Self::is_current) costs a system call.
    #[must_use]
    pub fn of(lock_file: &Path, database: &Path) -> Option<Self> {
        let id = file::facts_of_target(database).ok()?.id;
        let head = QueueFileHead::open_existing(lock_file, database).ok()?;
        let words = head.database_words(id.dev, id.ino)?;
        Some(words.bound_to(&head.path, head.id))
    }
}

impl Drop for QueueFileHead {
    fn drop(&mut self) {
        self.is_attached.store(false, Relaxed);
    }
}
