//! The databases that processes use with this lock file: a few words of each that they share.
//!
//! An entry belongs to one database, which is named by device and inode. An entry is made or taken
//! over under a lock on one byte of the file, so that two processes that do so at once agree on one
//! entry. A process that dies meanwhile leaves an entry without an epoch, which is a free one.

use std::collections::hash_map::RandomState;
use std::hash::{BuildHasher, Hasher};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64};
use std::thread;
use std::time::Duration;

use super::commit_count::{self, CommitWords};
use super::layout::{self, DATABASES, DATABASES_BYTE};
use crate::sys::descriptor::Descriptor;
use crate::sys::file::FileId;
use crate::sys::map::Mapping;
use crate::sys::{clock, file, fork, futex};

/// Words of an entry.
pub(super) const WORDS: usize = 64;
/// How often the lock of the table is tried: it is held for microseconds, and nobody sleeps for it.
const LOCK_TRIES: u32 = 100;

/// A word that the processes which use a database share. The numbers are those of the ABI; the
/// words that are not named are reserved.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
#[repr(usize)]
pub enum DatabaseWord {
    /// The device of the database.
    Device = 0,
    /// Its inode.
    Inode = 1,
    /// Random, not zero, and another one each time that the entry is made. Zero: a free entry.
    Epoch = 2,
    /// How many commits there were in this epoch. Its low half is a futex word.
    Commits = 3,
    /// When the entry was last used: monotonic clock as of the last tick, nanoseconds.
    Used = 4,
    /// How many processes wait for commits: in this period of 134 ms (bits 0 to 15) and in the one before
    /// (16 to 31), and the number of the period.
    Watchers = 5,
    /// When they were last woken: monotonic clock, nanoseconds.
    Woken = 6,
    /// A hash of what shows that the files of the database have changed, as a watcher last saw them, and
    /// at which count.
    Files = 7,
    /// `aReadMark[1]` and `[2]` as they were last seen, two numbers of 32 bits; those of `[3]` and
    /// `[4]` are in the next word.
    Marks = 8,
    /// The header of the wal-index as it was last seen: twelve numbers of 32 bits, in six words.
    Header = 10,
    /// Bit 0: the header is valid. Bit 1: an outsider left a trace.
    Flags = 16,
    /// How many gaps may be given to outsiders.
    Tokens = 17,
    /// How much time without the write lock is owed: nanoseconds, with a sign.
    Debt = 18,
    /// When the tokens were last refilled: monotonic clock, nanoseconds, as the next two.
    RefilledAt = 19,
    /// When an outsider wrote last.
    ForeignWriteAt = 20,
    /// When an outsider last left a trace.
    TraceAt = 21,
    /// How many leases there were.
    Leases = 22,
    /// Writes under these leases.
    LeaseWrites = 23,
    /// Leases that ended because their slice was over. The next ones, up to `EndedOther`, count the
    /// other reasons.
    EndedSlice = 24,
    /// … because no write followed.
    EndedIdle = 25,
    /// … because another process waited.
    EndedWaiter = 26,
    /// … to let outsiders write.
    EndedOutsider = 27,
    /// … for a checkpoint.
    EndedCheckpoint = 28,
    /// … because the database was closed.
    EndedClose = 29,
    /// … for another reason.
    EndedOther = 30,
    /// Gaps that were left to outsiders.
    Gaps = 32,
    /// Gaps in which an outsider wrote.
    GapsUsed = 33,
    /// Writes of outsiders.
    ForeignWrites = 34,
    /// Read marks that outsiders moved.
    ForeignMarks = 35,
    /// The sum of the lengths of all leases, in nanoseconds.
    LeaseTime = 36,
}

/// What names a database, in one life of its entry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Key {
    device: u64,
    inode: u64,
    epoch: u64,
}

/// The 64 words that the processes which use a database share in the queue file of its lock. Their
/// numbers are those of [`DatabaseWord`].
///
/// Any process may write anything to them at any moment: nothing in them may be trusted.
#[derive(Debug, Clone)]
pub struct DatabaseWords {
    mapping: Arc<Mapping>,
    range: Range<usize>,
    key: Key,
    /// Whether this process still uses the queue file.
    is_attached: Arc<AtomicBool>,
    /// The file and its path, if no attachment sees to it that these belong together.
    file: Option<Arc<(PathBuf, FileId)>>,
    generation: u64,
}

impl DatabaseWords {
    /// Whether these are still the words of this database. If not, the process uses another queue
    /// file by now, or so many databases are in use that another one has the entry: ask for the words
    /// again.
    #[must_use]
    pub fn is_current(&self) -> bool {
        self.is_attached.load(Relaxed)
            && self.generation == fork::generation()
            && self.file.as_deref().is_none_or(is_named)
            && key_in(self.as_ref()) == self.key
    }

    /// Returns a word; of one that stands for several, the first.
    #[must_use]
    pub fn word(&self, word: DatabaseWord) -> &AtomicU64 {
        &self.as_ref()[word as usize]
    }

    /// Returns the epoch that the commit counter is bound to.
    #[must_use]
    pub fn epoch(&self) -> u64 {
        self.key.epoch
    }

    /// Binds them to the file that this path names, and to no attachment.
    pub(super) fn bound_to(mut self, path: &Path, id: FileId) -> Self {
        self.file = Some(Arc::new((path.to_owned(), id)));
        self.is_attached = Arc::new(AtomicBool::new(true));
        self
    }

    /// Says that the entry is in use: if there is no free one, the one that was unused for longest is
    /// taken over.
    pub fn touch(&self) {
        self.word(DatabaseWord::Used).store(clock::coarse(), SeqCst);
    }

    // ---- commits ---------------------------------------------------------------

    /// Counts a commit, and wakes the processes that wait for one. To be called after `COMMIT` has
    /// returned, with SQLite's write lock or the write lock of penholder still held, as far as
    /// possible, and before the commit is acknowledged. If no process waits, it costs some nanoseconds.
    ///
    /// If the words are not [current](Self::is_current), the commit is not counted: ask for them again
    /// first.
    pub fn note_commit(&self) {
        commit_count::note_commit(self);
    }

    /// Counts a commit that was not counted, if the count is still this one.
    pub(crate) fn note_uncounted_commit(&self, seen: u64) -> bool {
        let count = self.word(DatabaseWord::Commits);
        let add = || {
            let new = seen.wrapping_add(1);
            count.compare_exchange(seen, new, SeqCst, SeqCst).is_ok()
        };
        commit_count::count(self, add)
    }

    /// Returns how many commits were counted in this epoch.
    pub(crate) fn commits(&self) -> u64 {
        self.word(DatabaseWord::Commits).load(SeqCst)
    }

    /// Says that this process watches, unless it has done so lately: see
    /// [`add_watcher`](commit_count::add_watcher).
    pub(crate) fn add_watcher(&self, added: &mut Option<u32>) {
        commit_count::add_watcher(self, added);
    }

    /// Sleeps while the count is this one: see [`sleep`](commit_count::sleep).
    pub(crate) fn sleep(&self, seen: u64, longest: Duration) {
        commit_count::sleep(self, seen, longest);
    }

    /// Returns how long a watcher should let pass between two commits that it is told of.
    pub(crate) fn pause(&self) -> Duration {
        commit_count::pause(self)
    }

    /// Returns the files as a watcher last saw them; `None` if none did in this epoch.
    pub(crate) fn seen_files(&self) -> Option<SeenFiles> {
        SeenFiles::from_raw(self.word(DatabaseWord::Files).load(SeqCst))
    }

    /// Says how the files look now, if no other watcher has done so since `former` was read.
    pub(crate) fn note_files(&self, former: Option<SeenFiles>, new: SeenFiles) -> bool {
        let former = former.map_or(0, |former| former.0);
        let word = self.word(DatabaseWord::Files);
        word.compare_exchange(former, new.0, SeqCst, SeqCst).is_ok()
    }

    /// Returns the low half of the count. Only the kernel reads it.
    fn futex(&self) -> &AtomicU32 {
        let low = usize::from(cfg!(target_endian = "big"));
        let at = (self.range.start + DatabaseWord::Commits as usize) * 2 + low;
        &self.mapping.u32s()[at]
    }
}

impl CommitWords for DatabaseWords {
    fn add_commit(&self) {
        self.word(DatabaseWord::Commits).fetch_add(1, SeqCst);
    }

    fn watchers(&self) -> u64 {
        self.word(DatabaseWord::Watchers).load(SeqCst)
    }

    fn replace_watchers(&self, seen: u64, new: u64) -> bool {
        let word = self.word(DatabaseWord::Watchers);
        word.compare_exchange(seen, new, SeqCst, SeqCst).is_ok()
    }

    fn woken(&self) -> u64 {
        self.word(DatabaseWord::Woken).load(SeqCst)
    }

    fn set_woken(&self, now: u64) {
        self.word(DatabaseWord::Woken).store(now, SeqCst);
    }

    fn now(&self) -> u64 {
        clock::monotonic()
    }

    fn coarse_now(&self) -> u64 {
        clock::coarse()
    }

    fn sleep(&self, seen: u64, pause: Duration) {
        futex::wait_among_others(self.futex(), low(seen), pause);
    }

    fn wake_all(&self) {
        futex::wake_all(self.futex());
    }
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn low(word: u64) -> u32 {
    word as u32
}

/// The files of a database as they were seen at a count: 47 bits of a hash, a bit that says that a
/// change since may not show, and the low 16 bits of the count.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SeenFiles(u64);

impl SeenFiles {
    const IS_UNSETTLED: u64 = 1 << 16;
    const COUNT: u64 = Self::IS_UNSETTLED - 1;
    const HASH: u64 = !(Self::IS_UNSETTLED | Self::COUNT);

    pub(crate) fn new(hash: u64, is_settled: bool, count: u64) -> Self {
        // Never zero: nothing was seen.
        let hash = hash & Self::HASH | Self::IS_UNSETTLED << 1;
        let flag = if is_settled { 0 } else { Self::IS_UNSETTLED };
        Self(hash | flag | count & Self::COUNT)
    }

    fn from_raw(word: u64) -> Option<Self> {
        (word != 0).then_some(Self(word))
    }

    /// Whether they were seen at this count.
    pub(crate) fn is_at(self, count: u64) -> bool {
        self.0 & Self::COUNT == count & Self::COUNT
    }

    /// Whether they may have changed between this look and a later one. One that comes so soon that
    /// a change may still not show says no.
    pub(crate) fn may_have_changed(self, later: Self) -> bool {
        let is_unsettled = |one: Self| one.0 & Self::IS_UNSETTLED != 0;
        let is_same = self.0 & Self::HASH == later.0 & Self::HASH;
        !is_same || is_unsettled(self) && !is_unsettled(later)
    }
}

impl AsRef<[AtomicU64]> for DatabaseWords {
    fn as_ref(&self) -> &[AtomicU64] {
        &self.mapping.u64s()[self.range.clone()]
    }
}

/// The table of databases in one queue file.
pub(super) struct Databases<'a> {
    pub(super) mapping: &'a Arc<Mapping>,
    pub(super) is_attached: &'a Arc<AtomicBool>,
}

impl Databases<'_> {
    /// Returns the words of a database without making an entry.
    pub(super) fn find(&self, device: u64, inode: u64) -> Option<DatabaseWords> {
        (0..DATABASES).find_map(|place| {
            let key = key_in(self.entry(place));
            let is_same = key.epoch != 0 && (key.device, key.inode) == (device, inode);
            is_same.then(|| self.words(place, key))
        })
    }

    /// Returns the words of a database, whose entry is made if there is none. `None` if it cannot be
    /// made now. `file` is the open queue file, whose byte is locked. The lock is not one between
    /// threads: only one may be here.
    pub(super) fn find_or_make(
        &self,
        file: &Descriptor,
        device: u64,
        inode: u64,
    ) -> Option<DatabaseWords> {
        if let Some(found) = self.find(device, inode) {
            return Some(found);
        }
        lock(file)?;
        // Another process may have made it meanwhile.
        let made = self
            .find(device, inode)
            .or_else(|| Some(self.make(device, inode)));
        // If that fails, the lock ends with the descriptor.
        let _ = file::unlock_byte(file, DATABASES_BYTE);
        made
    }

    fn make(&self, device: u64, inode: u64) -> DatabaseWords {
        let now = clock::monotonic();
        let age = |place: &usize| age_of(self.entry(*place), now);
        let place = (0..DATABASES).rev().max_by_key(age).unwrap_or(0);
        let entry = self.entry(place);
        let former = key_in(entry).epoch;
        // Free until it is complete.
        for at in [DatabaseWord::Epoch as usize].into_iter().chain(0..WORDS) {
            entry[at].store(0, SeqCst);
        }
        let key = Key {
            device,
            inode,
            epoch: epoch_after(former),
        };
        entry[DatabaseWord::Device as usize].store(device, SeqCst);
        entry[DatabaseWord::Inode as usize].store(inode, SeqCst);
        entry[DatabaseWord::Used as usize].store(now, SeqCst);
        entry[DatabaseWord::Epoch as usize].store(key.epoch, SeqCst);
        self.words(place, key)
    }

    fn words(&self, place: usize, key: Key) -> DatabaseWords {
        let words = DatabaseWords {
            mapping: Arc::clone(self.mapping),
            range: range_of(place),
            key,
            is_attached: Arc::clone(self.is_attached),
            file: None,
            generation: fork::generation(),
        };
        words.touch();
        words
    }

    fn entry(&self, place: usize) -> &[AtomicU64] {
        &self.mapping.u64s()[range_of(place)]
    }
}

/// Whether a path still names a file, which is whole.
fn is_named((path, id): &(PathBuf, FileId)) -> bool {
    file::facts_of_path(path)
        .is_ok_and(|facts| facts.id == *id && facts.len >= layout::HEAD_LEN as u64)
}

fn lock(file: &Descriptor) -> Option<()> {
    for _ in 0..LOCK_TRIES {
        if file::try_lock_byte(file, DATABASES_BYTE).ok()? {
            return Some(());
        }
        thread::yield_now();
    }
    None
}

fn range_of(place: usize) -> Range<usize> {
    let first = layout::database(place) / 8;
    first..first + WORDS
}

fn key_in(entry: &[AtomicU64]) -> Key {
    let word = |word: DatabaseWord| entry[word as usize].load(SeqCst);
    Key {
        // First: it is written last.
        epoch: word(DatabaseWord::Epoch),
        device: word(DatabaseWord::Device),
        inode: word(DatabaseWord::Inode),
    }
}

/// Returns for how long an entry has not been used; a free one, and one that was used in the future,
/// for longest.
fn age_of(entry: &[AtomicU64], now: u64) -> u64 {
    let word = |word: DatabaseWord| entry[word as usize].load(SeqCst);
    if word(DatabaseWord::Epoch) == 0 {
        return u64::MAX;
    }
    now.checked_sub(word(DatabaseWord::Used))
        .unwrap_or(u64::MAX - 1)
}

/// Returns a random epoch that is neither zero nor the former one.
fn epoch_after(former: u64) -> u64 {
    let random = || RandomState::new().build_hasher().finish();
    std::iter::repeat_with(random)
        .find(|&epoch| epoch != 0 && epoch != former)
        .unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Barrier;

    use super::*;
    use crate::queue_file::Slot;
    use crate::sys::process::Identity;

    fn slot(directory: &Path) -> Slot {
        let identity = Identity::of_this_process();
        Slot::occupy(&directory.join("db.lock"), None, &identity, None).unwrap()
    }

    #[test]
    fn slots_that_ask_at_once_agree_on_one_entry() {
        let directory = tempfile::tempdir().unwrap();
        let slots = [(); 8].map(|()| slot(directory.path()));
        let barrier = Barrier::new(slots.len());
        for inode in 1..=50 {
            let ask = |slot: &Slot| {
                barrier.wait();
                let tries = || slot.database_words(7, inode);
                let found = std::iter::repeat_with(tries).flatten().next().unwrap();
                (found.range, found.key)
            };
            let found: Vec<_> = thread::scope(|scope| {
                let threads: Vec<_> = slots.iter().map(|slot| scope.spawn(|| ask(slot))).collect();
                threads
                    .into_iter()
                    .map(|thread| thread.join().unwrap())
                    .collect()
            });
            assert!(found.iter().all(|one| *one == found[0]), "{found:?}");
        }
    }

    #[test]
    fn the_entry_that_was_unused_for_longest_is_taken_over() {
        let directory = tempfile::tempdir().unwrap();
        let slot = slot(directory.path());
        let words: Vec<_> = (1..=DATABASES)
            .map(|inode| slot.database_words(7, inode as u64).unwrap())
            .collect();
        assert!(words.iter().all(DatabaseWords::is_current));
        let places: BTreeSet<_> = words.iter().map(|one| one.range.start).collect();
        assert_eq!(places.len(), DATABASES);
        for (inode, one) in words.iter().enumerate() {
            let used = if inode == 5 { 1 } else { 2 };
            one.word(DatabaseWord::Used).store(used, SeqCst);
            one.word(DatabaseWord::Commits).store(3, SeqCst);
        }
        let later = slot.database_words(7, 1000).unwrap();
        assert_eq!(later.range, words[5].range);
        assert_ne!(later.epoch(), words[5].epoch());
        assert_eq!(later.word(DatabaseWord::Commits).load(SeqCst), 0);
        let current: Vec<_> = words.iter().map(DatabaseWords::is_current).collect();
        assert_eq!(current.iter().filter(|&&is| !is).count(), 1);
        assert!(!current[5] && later.is_current());
        // The process whose entry was taken over looks again, and gets another.
        let again = slot.database_words(7, 6).unwrap();
        assert!(again.is_current() && later.is_current());
        assert_ne!(again.range, later.range);
    }

    #[test]
    fn an_entry_that_was_left_half_made_is_a_free_one() {
        let directory = tempfile::tempdir().unwrap();
        let slot = slot(directory.path());
        let first = slot.database_words(7, 1).unwrap();
        first.word(DatabaseWord::Epoch).store(0, SeqCst);
        assert!(!first.is_current());
        let next = slot.database_words(7, 2).unwrap();
        assert_eq!(next.range, first.range);
        let again = slot.database_words(7, 1).unwrap();
        assert_ne!(again.range, next.range);
    }

    #[test]
    fn a_time_of_use_in_the_future_keeps_no_entry() {
        let directory = tempfile::tempdir().unwrap();
        let slot = slot(directory.path());
        let words: Vec<_> = (1..=DATABASES)
            .map(|inode| slot.database_words(7, inode as u64).unwrap())
            .collect();
        words[9].word(DatabaseWord::Used).store(u64::MAX, SeqCst);
        let later = slot.database_words(7, 1000).unwrap();
        assert_eq!(later.range, words[9].range);
    }

    #[test]
    fn words_of_a_queue_file_that_the_process_has_left_are_not_current() {
        let directory = tempfile::tempdir().unwrap();
        let slot = slot(directory.path());
        let words = slot.database_words(7, 1).unwrap();
        drop(slot);
        assert!(!words.is_current());
        assert_eq!(words.as_ref().len(), WORDS);
    }
}
