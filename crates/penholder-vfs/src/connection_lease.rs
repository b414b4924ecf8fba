//! The lease of a writing connection, along with penholder's write lock: SQLite's locks are kept
//! from one write to the next.

use std::path::Path;
use std::sync::atomic::Ordering::Relaxed;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use penholder_core::{DatabaseWord, DatabaseWords, EndedLease, Guard, LeaseEnd, LeaseParty};

use crate::database_file::DatabaseFile;
use crate::mirror::Mirror;
use crate::open_files;

/// The lease of a writing connection, which may be opened again: what is kept along with
/// penholder's write lock.
#[derive(Debug, Default)]
pub struct ConnectionLease {
    kept: Mutex<Kept>,
}

#[derive(Debug, Clone, Default)]
struct Kept {
    file: Option<Arc<DatabaseFile>>,
    words: Option<DatabaseWords>,
}

impl ConnectionLease {
    /// Notes which connection writes from now on.
    pub fn set(&self, file: Option<Arc<DatabaseFile>>) {
        let new = Kept { file, words: None };
        let former = std::mem::replace(&mut *self.lock(), new);
        if let Some(former) = former.file {
            former.end_lease();
        }
    }

    /// Shares words with the other processes that write to this database, if that is not done
    /// yet.
    pub fn share_words(&self, database: &Path, guard: &Guard) {
        let mut kept = self.lock();
        let Some(file) = &kept.file else {
            return;
        };
        let is_shared = kept.words.as_ref().is_some_and(DatabaseWords::is_current);
        if is_shared || !guard.has_queue() {
            return;
        }
        let words = database_words(database, guard);
        let mirror = words.clone().and_then(|words| Mirror::new(Arc::new(words)));
        if let Some(mirror) = mirror {
            open_files::set_mirror(file, &mirror);
        }
        kept.words = words;
    }

    /// Counts a commit of the connection, for those who wait for one.
    pub(crate) fn note_commit(&self) {
        if let Some(words) = &self.lock().words {
            words.note_commit();
        }
    }

    fn kept(&self) -> Kept {
        self.lock().clone()
    }

    fn lock(&self) -> MutexGuard<'_, Kept> {
        // Nothing panics with it held, so what it guards is whole.
        self.kept.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl LeaseParty for ConnectionLease {
    fn release(&self) {
        if let Some(file) = self.kept().file {
            file.end_lease();
        }
    }

    fn ended(&self, lease: &EndedLease) -> Option<Duration> {
        let Kept { file, words } = self.kept();
        let file = file.filter(|_| lease.why.is_slice());
        let gap = file.map(|file| file.listen_for_outsiders(lease.held, lease.at));
        let gap = gap.unwrap_or_default();
        if let Some(words) = words {
            words.touch();
            count(&words, lease, !gap.length.is_zero());
        }
        gap.was_used.then_some(gap.length)
    }
}

/// Returns what the processes that use a database share; `None` without a queue file.
pub fn database_words(database: &Path, guard: &Guard) -> Option<DatabaseWords> {
    guard.database_words(database)
}

/// Counts a lease that has ended. `has_gap`: SQLite's write lock was left to outsiders then.
fn count(words: &DatabaseWords, lease: &EndedLease, has_gap: bool) {
    let why = match lease.why {
        _ if has_gap => DatabaseWord::EndedOutsider,
        LeaseEnd::Slice => DatabaseWord::EndedSlice,
        LeaseEnd::Idle => DatabaseWord::EndedIdle,
        LeaseEnd::Waiter => DatabaseWord::EndedWaiter,
        LeaseEnd::Checkpoint => DatabaseWord::EndedCheckpoint,
        LeaseEnd::Close => DatabaseWord::EndedClose,
        _ => DatabaseWord::EndedOther,
    };
    let held = u64::try_from(lease.held.as_nanos()).unwrap_or(u64::MAX);
    for (word, amount) in [
        (DatabaseWord::Leases, 1),
        (DatabaseWord::LeaseWrites, lease.holds),
        (DatabaseWord::LeaseTime, held),
        (why, 1),
    ] {
        words.word(word).fetch_add(amount, Relaxed);
    }
}
