//! Which locks of WAL mode a connection holds, and what it answers when SQLite asks for one.
//!
//! SQLite has eight locks on the WAL index: WRITE, CKPT, RECOVER and the read marks READ0 to READ4
//! (`walIndexPage` and "Locks" in `wal.c`). A connection in WAL mode takes and releases several
//! of them in each transaction. During a lease, some releases are not passed on: the lock is then
//! *parked*, which means that it is held below, and SQLite believes that it is not.
//!
//! | SQLite calls | during a lease, parked | otherwise |
//! | --- | --- | --- |
//! | lock WRITE exclusively | from memory | below |
//! | unlock WRITE | parked | below |
//! | lock one of READ1–READ4 exclusively, to move the mark | BUSY from memory; the fifth time without a shared lock in between, the parked marks are released first, and then below | below |
//! | lock READ0, or READ1–READ4 together, exclusively | parked marks are released, then below | below |
//! | lock a read mark shared, that is parked | from memory | – |
//! | lock another read mark shared | below, then the parked marks are released | below |
//! | unlock READ1–READ4, shared | parked | below |
//! | unlock READ0, shared | below: no checkpoint copies anything while it is held, and so the WAL is never restarted | below |
//! | lock CKPT | below, then parked marks and a parked WRITE are released | below |
//! | lock RECOVER, with or without CKPT | parked marks and a parked WRITE are released, then below | below |
//!
//! A lock that fails leaves nothing, a parked lock that cannot be released stays held.
//!
//! # Why an older read mark is safe
//!
//! `walTryBeginRead` itself settles for the highest mark that is not past the last frame, if it
//! can lock none exclusively; `walCheckpoint` copies no frame past a mark that another connection
//! has locked; and a mark changes only under an exclusive lock on it: in `walTryBeginRead`,
//! `walCheckpoint` and `walIndexRecover` on that mark, in `walRestartHdr` on READ1–READ4 together.
//! If every mark is past the frame that is wanted (a snapshot of `SQLITE_ENABLE_SNAPSHOT`),
//! `walTryBeginRead` needs one that it can move, and tries again: hence the fifth time.
//!
//! `docs/design.md`, "Why a lease is safe", has a proof for each row.

/// A result code of SQLite.
pub(crate) type Code = i32;

pub(crate) const OK: Code = 0;
pub(crate) const BUSY: Code = 5;

/// The number of locks.
const LOCKS: u8 = 8;
const WRITE: u8 = 0;
const READ0: u8 = 3;
const READ1: u8 = 4;
/// How often in a row an exclusive lock on a read mark is answered BUSY from memory: once for
/// each mark, which is one round of `walTryBeginRead`.
const DENIALS: u8 = LOCKS - READ1;

/// A set of locks, one bit each.
type Set = u8;

const WRITE_BIT: Set = 1 << WRITE;
const RECOVER_BIT: Set = 1 << 2;
/// The read marks that may be parked.
const PARKABLE: Set = 0xF0;
const READ0_BIT: Set = 1 << READ0;

/// Neighbouring locks that are locked or unlocked in one call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Range {
    first: u8,
    count: u8,
}

impl Range {
    pub(crate) const WRITE: Self = Self {
        first: WRITE,
        count: 1,
    };
    pub(crate) const CKPT: Self = Self { first: 1, count: 1 };

    /// Returns `None` if there are no such locks.
    pub(crate) fn new(first: i32, count: i32) -> Option<Self> {
        let (first, count) = (u8::try_from(first).ok()?, u8::try_from(count).ok()?);
        let fits = count > 0 && first.checked_add(count)? <= LOCKS;
        fits.then_some(Self { first, count })
    }

    fn single(lock: u8) -> Self {
        Self {
            first: lock,
            count: 1,
        }
    }

    pub(crate) fn first(self) -> u8 {
        self.first
    }

    pub(crate) fn count(self) -> u8 {
        self.count
    }

    /// Returns the read marks of the range, by their number: 0 for READ0.
    pub(crate) fn marks(self) -> impl Iterator<Item = usize> {
        (self.first.max(READ0)..self.first + self.count).map(|lock| usize::from(lock - READ0))
    }

    fn set(self) -> Set {
        #[expect(clippy::cast_possible_truncation, reason = "eight locks, eight bits")]
        let set = (((1_u16 << self.count) - 1) << self.first) as u8;
        set
    }

    /// Returns the lock if it is a single one in `of`.
    fn single_in(self, of: Set) -> Option<u8> {
        (self.count == 1 && self.set() & of != 0).then_some(self.first)
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Mode {
    Shared,
    Exclusive,
}

/// The locks of the VFS below.
pub(crate) trait Below {
    fn lock(&mut self, range: Range, mode: Mode) -> Code;
    fn unlock(&mut self, range: Range, mode: Mode) -> Code;
}

/// The locks of one connection; see the module's table.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct ShmLocks {
    /// WRITE and the shared read marks that SQLite believes it holds.
    believed: Set,
    /// WRITE and the shared read marks that are held below.
    held: Set,
    /// Whether a lease stands: what SQLite releases is parked.
    is_leased: bool,
    denied: u8,
}

impl ShmLocks {
    /// Begins a lease.
    pub(crate) fn begin(&mut self) {
        self.is_leased = true;
    }

    /// Ends a lease: WRITE first, so that another writer can begin at once, then the marks.
    pub(crate) fn end(&mut self, below: &mut impl Below) {
        self.is_leased = false;
        self.release_write(below);
        self.release_marks(below);
    }

    /// Returns whether a lock is parked.
    pub(crate) fn is_parked(&self) -> bool {
        self.parked() != 0
    }

    /// Returns whether WRITE is parked.
    pub(crate) fn is_write_parked(&self) -> bool {
        self.parked() & WRITE_BIT != 0
    }

    /// Returns whether SQLite believes that it holds a read mark.
    pub(crate) fn is_reading(&self) -> bool {
        self.believed & (PARKABLE | READ0_BIT) != 0
    }

    /// Answers a call that locks.
    pub(crate) fn lock(&mut self, range: Range, mode: Mode, below: &mut impl Below) -> Code {
        self.assert_sound();
        if mode == Mode::Exclusive && range == Range::WRITE {
            return self.lock_write(below);
        }
        if let (Mode::Shared, Some(mark)) = (mode, range.single_in(PARKABLE | READ0_BIT)) {
            return self.lock_mark(mark, below);
        }
        let moves_a_mark = mode == Mode::Exclusive && range.single_in(PARKABLE).is_some();
        if moves_a_mark && self.parked() & PARKABLE != 0 && self.denied < DENIALS {
            self.denied += 1;
            return BUSY;
        }
        if range == Range::CKPT {
            return self.lock_checkpoint(mode, below);
        }
        if range.set() & RECOVER_BIT != 0 {
            self.release_write(below);
        }
        self.release_marks(below);
        below.lock(range, mode)
    }

    /// A checkpoint that another connection's keeps from beginning leaves what is parked.
    fn lock_checkpoint(&mut self, mode: Mode, below: &mut impl Below) -> Code {
        let code = below.lock(Range::CKPT, mode);
        if code == OK {
            self.release_write(below);
            self.release_marks(below);
        }
        code
    }

    /// Answers a call that unlocks.
    pub(crate) fn unlock(&mut self, range: Range, mode: Mode, below: &mut impl Below) -> Code {
        self.assert_sound();
        if mode == Mode::Exclusive {
            return if range == Range::WRITE {
                self.unlock_write(below)
            } else {
                below.unlock(range, mode)
            };
        }
        let bits = range.set();
        self.believed &= !bits;
        if self.is_leased && bits & PARKABLE != 0 {
            return OK;
        }
        self.pass_on_unlock(range, mode, below)
    }

    fn lock_write(&mut self, below: &mut impl Below) -> Code {
        if self.held & WRITE_BIT == 0 {
            let code = below.lock(Range::WRITE, Mode::Exclusive);
            if code != OK {
                return code;
            }
            self.held |= WRITE_BIT;
        }
        self.believed |= WRITE_BIT;
        OK
    }

    fn unlock_write(&mut self, below: &mut impl Below) -> Code {
        self.believed &= !WRITE_BIT;
        if self.is_leased {
            return OK;
        }
        self.pass_on_unlock(Range::WRITE, Mode::Exclusive, below)
    }

    fn lock_mark(&mut self, mark: u8, below: &mut impl Below) -> Code {
        let bit = 1 << mark;
        if self.held & bit == 0 {
            let code = below.lock(Range::single(mark), Mode::Shared);
            if code != OK {
                return code;
            }
            self.held |= bit;
        }
        self.believed |= bit;
        self.denied = 0;
        self.release_marks(below);
        OK
    }

    fn pass_on_unlock(&mut self, range: Range, mode: Mode, below: &mut impl Below) -> Code {
        let code = below.unlock(range, mode);
        if code == OK {
            self.held &= !range.set();
        }
        code
    }

    /// Releases a parked WRITE.
    fn release_write(&mut self, below: &mut impl Below) {
        if self.is_write_parked() {
            // If that fails, it stays parked, and the next one tries again.
            let _ = self.pass_on_unlock(Range::WRITE, Mode::Exclusive, below);
        }
    }

    /// Releases parked read marks.
    fn release_marks(&mut self, below: &mut impl Below) {
        let parked = self.parked();
        if parked & !WRITE_BIT == 0 {
            return;
        }
        for mark in READ0..LOCKS {
            if parked & 1 << mark != 0 {
                // As for WRITE.
                let _ = self.pass_on_unlock(Range::single(mark), Mode::Shared, below);
            }
        }
        self.denied = 0;
    }

    fn parked(&self) -> Set {
        self.held & !self.believed
    }

    fn assert_sound(&self) {
        debug_assert_eq!(self.believed & !self.held, 0, "what SQLite holds, is held");
    }
}

#[cfg(test)]
mod model;
