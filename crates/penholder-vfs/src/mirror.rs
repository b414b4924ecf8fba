//! What the processes that take leases on one database leave for each other, in shared words.
//!
//! A process without penholder that waits for SQLite's write lock has begun to read, and so it
//! moves a read mark; if it writes, it changes the header of the WAL index. Each participant
//! leaves a copy of both behind. If the next one finds something else, that is a *trace* of an
//! outsider.
//!
//! The words may be changed by any process that may write the database: a wrong number costs an
//! outsider some waiting, or the writers some time.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering::SeqCst};

use crate::wal_index::{HEADER_WORDS, Header, MARKS, WalIndex};

/// The number of words.
pub const MIRROR_WORDS: usize = 64;

// Where the words stand in an entry of the queue file: see `docs/design.md`, "The queue file".
// Words 0 to 7 name the database, and belong to the queue file.
const AT_MARKS: usize = 8;
const AT_HEADER: usize = 10;
const AT_FLAGS: usize = 16;
const AT_TOKENS: usize = 17;
const AT_DEBT: usize = 18;
const AT_REFILLED: usize = 19;
const AT_LAST_WRITE: usize = 20;
const AT_LAST_TRACE: usize = 21;
const AT_GAPS: usize = 32;
const AT_GAPS_USED: usize = 33;
const AT_FOREIGN_WRITES: usize = 34;
const AT_FOREIGN_MARKS: usize = 35;
const AT_UNUSED: usize = 37;

const HEADER_IS_VALID: u64 = 1;
const IS_TRACED: u64 = 2;
const WAS_WRITTEN: u64 = 4;

/// The shared words of one database.
#[derive(Clone)]
pub struct Mirror {
    words: Arc<dyn AsRef<[AtomicU64]> + Send + Sync>,
}

impl fmt::Debug for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Mirror").finish_non_exhaustive()
    }
}

/// What the policy for outsiders remembers between two slices, on any process.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) struct Account {
    /// In thousandths: one pays for one gap.
    pub(crate) tokens: i64,
    /// Nanoseconds for which WRITE is still to be left alone.
    pub(crate) debt: i64,
    /// When tokens were last added: monotonic nanoseconds, as all of these.
    pub(crate) refilled: u64,
    /// When one wrote in a gap.
    pub(crate) last_write: u64,
    pub(crate) last_trace: u64,
    /// How many gaps in a row none used, while there were traces.
    pub(crate) unused: u64,
}

impl Mirror {
    /// Makes it of shared words; `None` if there are fewer than [`MIRROR_WORDS`].
    pub fn new(words: Arc<dyn AsRef<[AtomicU64]> + Send + Sync>) -> Option<Self> {
        let is_long_enough = (*words).as_ref().len() >= MIRROR_WORDS;
        is_long_enough.then_some(Self { words })
    }

    fn word(&self, at: usize) -> &AtomicU64 {
        &(*self.words).as_ref()[at]
    }

    fn load(&self, at: usize) -> u64 {
        self.word(at).load(SeqCst)
    }

    fn store(&self, at: usize, value: u64) {
        self.word(at).store(value, SeqCst);
    }

    fn count(&self, at: usize) {
        self.word(at).fetch_add(1, SeqCst);
    }

    // ---- what a participant leaves behind ----------------------------------------

    /// Notes the header, before WRITE is released.
    pub(crate) fn note_header(&self, index: &WalIndex) {
        let header = index.header();
        for (at, pair) in (AT_HEADER..).zip(header.chunks_exact(2)) {
            self.store(at, u64::from(pair[0]) | u64::from(pair[1]) << 32);
        }
        self.word(AT_FLAGS).fetch_or(HEADER_IS_VALID, SeqCst);
    }

    /// Notes the read mark `number`, before its exclusive lock is released.
    pub(crate) fn note_mark(&self, index: &WalIndex, number: usize) {
        let Some((at, shift)) = place_of_mark(number) else {
            return;
        };
        let value = u64::from(index.mark(number)) << shift;
        let half = u64::from(u32::MAX) << shift;
        // Another reader may note the other mark of the word at this moment.
        let _ = self
            .word(at)
            .fetch_update(SeqCst, SeqCst, |both| Some(both & !half | value));
    }

    /// Notes all read marks.
    pub(crate) fn note_marks(&self, index: &WalIndex) {
        (1..MARKS).for_each(|number| self.note_mark(index, number));
    }

    // ---- what others did -----------------------------------------------------------

    /// Returns whether someone else has written since a header was last noted.
    pub(crate) fn has_foreign_header(&self, index: &WalIndex) -> bool {
        if self.load(AT_FLAGS) & HEADER_IS_VALID == 0 {
            return false;
        }
        // Its first two words are the version and unused.
        index.header()[2..] != self.header()[2..]
    }

    fn header(&self) -> Header {
        let mut header = [0; HEADER_WORDS];
        for (at, pair) in (AT_HEADER..).zip(header.chunks_exact_mut(2)) {
            let word = self.load(at);
            (pair[0], pair[1]) = (low(word), low(word >> 32));
        }
        header
    }

    /// Returns whether someone else has moved the read mark `number`.
    pub(crate) fn has_foreign_mark(&self, index: &WalIndex, number: usize) -> bool {
        let Some((at, shift)) = place_of_mark(number) else {
            return false;
        };
        low(self.load(at) >> shift) != index.mark(number)
    }

    /// Notes that someone else has moved a mark that is about to be overwritten.
    pub(crate) fn note_trace(&self) {
        self.word(AT_FLAGS).fetch_or(IS_TRACED, SeqCst);
    }

    /// Notes that someone else has written, and that the header is about to change.
    pub(crate) fn note_write(&self) {
        self.word(AT_FLAGS).fetch_or(WAS_WRITTEN, SeqCst);
    }

    /// Takes what is known of writes of others: returns whether there were any, and notes the
    /// header as it is.
    pub(crate) fn take_writes(&self, index: &WalIndex) -> bool {
        let was_noted = self.word(AT_FLAGS).fetch_and(!WAS_WRITTEN, SeqCst) & WAS_WRITTEN != 0;
        let has_written = was_noted || self.has_foreign_header(index);
        if has_written {
            self.note_header(index);
            self.count(AT_FOREIGN_WRITES);
        }
        has_written
    }

    /// Takes all traces: returns whether there were any, and notes the marks as they are.
    pub(crate) fn take_traces(&self, index: &WalIndex) -> bool {
        let was_noted = self.word(AT_FLAGS).fetch_and(!IS_TRACED, SeqCst) & IS_TRACED != 0;
        let is_moved = (1..MARKS).any(|number| self.has_foreign_mark(index, number));
        if is_moved {
            self.note_marks(index);
        }
        if was_noted || is_moved {
            self.count(AT_FOREIGN_MARKS);
        }
        was_noted || is_moved
    }

    // ---- the account ------------------------------------------------------------------

    pub(crate) fn account(&self) -> Account {
        Account {
            tokens: self.load(AT_TOKENS).cast_signed(),
            debt: self.load(AT_DEBT).cast_signed(),
            refilled: self.load(AT_REFILLED),
            last_write: self.load(AT_LAST_WRITE),
            last_trace: self.load(AT_LAST_TRACE),
            unused: self.load(AT_UNUSED),
        }
    }

    pub(crate) fn set_account(&self, account: Account) {
        self.store(AT_TOKENS, account.tokens.cast_unsigned());
        self.store(AT_DEBT, account.debt.cast_unsigned());
        self.store(AT_REFILLED, account.refilled);
        self.store(AT_LAST_WRITE, account.last_write);
        self.store(AT_LAST_TRACE, account.last_trace);
        self.store(AT_UNUSED, account.unused);
    }

    pub(crate) fn count_gap(&self, was_used: bool) {
        self.count(AT_GAPS);
        if was_used {
            self.count(AT_GAPS_USED);
        }
    }
}

/// Returns the word of a mark, and by how many bits it is shifted in it; `None` for READ0, which
/// never moves.
fn place_of_mark(number: usize) -> Option<(usize, u32)> {
    let from_one = number.checked_sub(1).filter(|_| number < MARKS)?;
    let shift = if from_one % 2 == 0 { 0 } else { 32 };
    Some((AT_MARKS + from_one / 2, shift))
}

#[expect(clippy::cast_possible_truncation, reason = "the lower half is wanted")]
fn low(word: u64) -> u32 {
    word as u32
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::AtomicBool;
    use std::thread;

    use super::*;

    /// A WAL index whose read marks all have this value.
    fn index_with_marks(value: u32) -> WalIndex {
        let words: &'static mut [u32; 64] = Box::leak(Box::new([value; 64]));
        WalIndex::of_words(words)
    }

    #[test]
    fn two_readers_note_two_marks_of_one_word() {
        let words: Vec<_> = (0..MIRROR_WORDS).map(|_| AtomicU64::new(0)).collect();
        let mirror = Mirror::new(Arc::new(words)).unwrap();
        let indexes = || [3, 4].map(index_with_marks);
        let is_over = AtomicBool::new(false);
        let lost = thread::scope(|scope| {
            scope.spawn(|| {
                for index in indexes().iter().cycle() {
                    mirror.note_mark(index, 2);
                    if is_over.load(SeqCst) {
                        break;
                    }
                }
            });
            // Some tenths of a second: the threads may have one processor.
            let lost = indexes().iter().cycle().take(300_000).any(|index| {
                mirror.note_mark(index, 1);
                (0..30).any(|_| mirror.has_foreign_mark(index, 1))
            });
            is_over.store(true, SeqCst);
            lost
        });
        assert!(!lost, "a mark that was noted is gone");
    }
}
