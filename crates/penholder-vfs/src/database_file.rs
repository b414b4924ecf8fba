#![expect(unsafe_code, reason = "the region of the WAL index that SQLite maps")]
//! One connection's database file: its locks, its lease, and the frames that it writes.

use std::ffi::{CStr, CString, c_int, c_void};
use std::fs::File;
use std::io::Read;
use std::ptr;
use std::sync::atomic::{AtomicBool, Ordering::SeqCst};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use crate::api::{IOERR, LOCK_SHARED, READONLY, SHM_EXCLUSIVE, SHM_LOCK, SHM_SHARED, SHM_UNLOCK};
use crate::gap::{self, Gap};
use crate::join::Joiner;
use crate::locks::{Below, Code, Mode, OK, Range, ShmLocks};
use crate::mirror::Mirror;
use crate::real_file::RealFile;
use crate::sys;
use crate::wal_index::{Header, WalIndex};

/// The database file of one connection, and its lease.
///
/// | state | WRITE and the read mark after a transaction | leaves by |
/// | --- | --- | --- |
/// | no lease | released | [`begin_lease`](Self::begin_lease) → lease |
/// | lease | parked: held below, while SQLite believes that they are not | [`end_lease`](Self::end_lease); another connection of this process needs WRITE, or the read marks; the connection leaves WAL mode, unmaps the WAL index or is closed → no lease |
/// | cannot lease | released | never: the WAL index can only be read |
///
/// What SQLite holds itself stays until SQLite releases it, whatever happens to the lease.
#[derive(Debug)]
pub struct DatabaseFile {
    /// The path that the file was opened with.
    path: CString,
    /// The address of SQLite's own copy of the path: it tells which WAL belongs to this file.
    name: usize,
    state: Mutex<State>,
    joiner: Mutex<Joiner>,
    joins: AtomicBool,
    /// Whether SQLite holds WRITE, and frames were to be joined when it took it: a transaction
    /// is joined as a whole or not at all.
    is_joining: AtomicBool,
    /// Locked as long as the WAL index is looked at without the state. It is locked before the
    /// state, never after.
    listening: Mutex<()>,
    is_leased: AtomicBool,
}

#[derive(Debug)]
struct State {
    locks: ShmLocks,
    /// `None` once it is closed.
    below: Option<RealFile>,
    index: Option<WalIndex>,
    mirror: Option<Mirror>,
    can_lease: bool,
}

/// How many frames the WAL has.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct WalFrames {
    /// All valid frames.
    pub all: u32,
    /// Those that no checkpoint has copied yet.
    pub uncopied: u32,
}

impl DatabaseFile {
    /// Makes it of a file that the VFS below has opened with this name.
    pub(crate) fn new(name: &CStr, below: RealFile) -> Self {
        Self {
            path: name.to_owned(),
            name: name.as_ptr().addr(),
            state: Mutex::new(State {
                locks: ShmLocks::default(),
                below: Some(below),
                index: None,
                mirror: None,
                can_lease: true,
            }),
            joiner: Mutex::default(),
            joins: AtomicBool::new(false),
            is_joining: AtomicBool::new(false),
            listening: Mutex::default(),
            is_leased: AtomicBool::new(false),
        }
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // Nothing panics with it held, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn below(&self) -> Option<RealFile> {
        self.lock_state().below
    }

    pub(crate) fn lock_joiner(&self) -> MutexGuard<'_, Joiner> {
        self.joiner.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Returns whether another file is of the same database.
    pub(crate) fn is_sibling(&self, other: &Self) -> bool {
        !ptr::eq(self, other) && self.path == other.path
    }

    pub(crate) fn path(&self) -> &CStr {
        &self.path
    }

    /// Returns whether SQLite's copy of the path is at this address.
    pub(crate) fn has_name(&self, name: usize) -> bool {
        self.name == name
    }

    // ---- the lease -------------------------------------------------------------------

    /// Writes the frames of each transaction together, from the next one on.
    pub fn join_frames(&self) {
        self.joins.store(true, SeqCst);
    }

    pub(crate) fn set_mirror(&self, mirror: &Mirror) {
        self.lock_state().mirror = Some(mirror.clone());
    }

    pub(crate) fn mirror(&self) -> Option<Mirror> {
        self.lock_state().mirror.clone()
    }

    /// Begins a lease: SQLite's locks stay held from one transaction to the next, until the
    /// lease ends. Returns `false` if this connection cannot have one.
    ///
    /// The caller holds penholder's write lock until the lease has ended.
    pub fn begin_lease(&self) -> bool {
        let mut state = self.lock_state();
        if !state.can_lease || state.index.is_none() {
            return false;
        }
        state.locks.begin();
        self.is_leased.store(true, SeqCst);
        true
    }

    /// Returns whether a lease stands.
    pub fn is_leased(&self) -> bool {
        self.is_leased.load(SeqCst)
    }

    /// Ends the lease, from any thread. What SQLite holds itself stays until it releases it.
    pub fn end_lease(&self) {
        let mut state = self.lock_state();
        self.is_leased.store(false, SeqCst);
        state.end_lease();
    }

    /// Leaves WRITE alone, if that is due after a slice in which was written for `wrote`, so that
    /// a program without penholder can write.
    ///
    /// The caller holds penholder's write lock, and no lease stands. `now` is the time on the
    /// monotonic clock of the machine in nanoseconds.
    pub fn listen_for_outsiders(&self, wrote: Duration, now: u64) -> Gap {
        let _mapped = self.keep_mapped();
        let (index, mirror) = {
            let state = self.lock_state();
            (state.index, state.mirror.clone())
        };
        match (index, mirror) {
            (Some(index), Some(mirror)) => gap::listen(&mirror, &index, wrote, now),
            _ => Gap::default(),
        }
    }

    /// Credits a time for which WRITE was free while penholder's write lock was held.
    pub fn credit_free_time(&self, free: Duration) {
        if let Some(mirror) = self.mirror() {
            gap::credit(&mirror, free);
        }
    }

    /// Returns how many frames the WAL has; zeros while its index is not mapped.
    pub fn wal_frames(&self) -> WalFrames {
        let state = self.lock_state();
        let Some(index) = &state.index else {
            return WalFrames::default();
        };
        let all = index.max_frame();
        WalFrames {
            all,
            uncopied: all.saturating_sub(index.backfilled()),
        }
    }

    /// Returns the header of the WAL index; `None` while that is not mapped.
    pub(crate) fn header(&self) -> Option<Header> {
        self.lock_state().index.map(|index| index.header())
    }

    /// Returns whether SQLite takes WRITE to recover the WAL index, and not to write: then it reads
    /// nothing yet, and the index is not valid.
    pub(crate) fn is_recovering(&self) -> bool {
        let state = self.lock_state();
        !state.locks.is_reading() && state.index.is_none_or(|index| !index.is_valid())
    }

    /// Returns whether the database has a rollback journal that is not empty and not zeroed: one that
    /// `journal_mode=PERSIST` has left says nothing.
    pub(crate) fn has_hot_journal(&self) -> bool {
        let mut journal = sys::path_of(&self.path).into_os_string();
        journal.push("-journal");
        let mut first = [0];
        let read = File::open(journal).and_then(|mut file| file.read_exact(&mut first));
        read.is_ok() && first != [0]
    }

    // ---- what SQLite calls ---------------------------------------------------------------

    pub(crate) fn joins_now(&self) -> bool {
        self.is_joining.load(SeqCst)
    }

    pub(crate) fn lock(&self, range: Range, mode: Mode) -> Code {
        let code = self.lock_state().lock(range, mode);
        if code == OK && range == Range::WRITE {
            self.is_joining.store(self.joins.load(SeqCst), SeqCst);
        }
        code
    }

    pub(crate) fn unlock(&self, range: Range, mode: Mode) -> Code {
        if range == Range::WRITE && mode == Mode::Exclusive {
            self.is_joining.store(false, SeqCst);
            self.lock_joiner().discard();
        }
        self.lock_state().unlock(range, mode)
    }

    /// Takes the lock that SQLite needs to write, if it is free, and parks it. Outside WAL mode only
    /// looks whether it is free.
    pub(crate) fn park_write(&self) -> bool {
        let mut state = self.lock_state();
        if state.index.is_none() || !state.can_lease {
            return state.is_file_free();
        }
        state.locks.begin();
        let is_parked = state.lock(Range::WRITE, Mode::Exclusive) == OK;
        if is_parked {
            self.is_leased.store(true, SeqCst);
            state.unlock(Range::WRITE, Mode::Exclusive);
        } else if !self.is_leased() {
            state.end_lease();
        }
        is_parked
    }

    /// Ends the lease if it has parked locks; returns whether it had.
    pub(crate) fn yield_parked(&self) -> bool {
        let mut state = self.lock_state();
        if !state.locks.is_parked() {
            return false;
        }
        self.is_leased.store(false, SeqCst);
        state.end_lease();
        true
    }

    /// `xLock`: above SHARED, the connection leaves WAL mode or locks the database exclusively.
    pub(crate) fn lock_file(&self, level: c_int) -> Code {
        if level > LOCK_SHARED {
            self.end_lease();
        }
        self.below().map_or(IOERR, |below| below.lock(level))
    }

    /// `xUnlock`, after a lock that is not wanted any more.
    pub(crate) fn unlock_file(&self, level: c_int) {
        if let Some(below) = self.below() {
            // If that fails, SQLite's own call does too, and reports it.
            let _ = below.unlock(level);
        }
    }

    /// `xShmMap`.
    pub(crate) fn shm_map(
        &self,
        region: c_int,
        size: c_int,
        extends: c_int,
        address: *mut *mut c_void,
    ) -> Code {
        let Some(below) = self.below() else {
            return IOERR;
        };
        let code = below.shm_map(region, size, extends, address);
        if region != 0 {
            return code;
        }
        let mut state = self.lock_state();
        if code == OK {
            // SAFETY: the method succeeded, so it has stored an address.
            let mapped = unsafe { *address };
            // SAFETY: region 0, which stays mapped until `shm_unmap`.
            state.index = unsafe { WalIndex::new(mapped) };
        } else if code & 0xff == READONLY {
            state.can_lease = false;
        }
        code
    }

    /// `xShmUnmap`.
    pub(crate) fn shm_unmap(&self, deletes: c_int) -> Code {
        self.forget_index();
        let Some(below) = self.below() else {
            return IOERR;
        };
        let code = below.shm_unmap(deletes);
        // All locks are gone with it, also those that could not be released.
        self.lock_state().locks = ShmLocks::default();
        code
    }

    /// `xClose`.
    pub(crate) fn close(&self) -> Code {
        self.forget_index();
        let below = self.lock_state().below.take();
        below.map_or(OK, RealFile::close)
    }

    /// Ends the lease; nothing looks at the WAL index any more when it returns.
    fn forget_index(&self) {
        self.end_lease();
        // At most for a gap.
        let _unused = self.keep_mapped();
        self.lock_state().index = None;
    }

    fn keep_mapped(&self) -> MutexGuard<'_, ()> {
        self.listening
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    fn lock(&mut self, range: Range, mode: Mode) -> Code {
        let (mut below, locks) = self.split();
        locks.lock(range, mode, &mut below)
    }

    fn unlock(&mut self, range: Range, mode: Mode) -> Code {
        let (mut below, locks) = self.split();
        locks.unlock(range, mode, &mut below)
    }

    fn end_lease(&mut self) {
        let (mut below, locks) = self.split();
        if below.file.is_some() {
            locks.end(&mut below);
        }
    }

    /// Whether no connection is about to write to the database file.
    fn is_file_free(&self) -> bool {
        let mut is_reserved = 0;
        let code = self
            .below
            .map(|below| below.check_reserved_lock(&raw mut is_reserved));
        // If it cannot be said, SQLite finds out.
        code != Some(OK) || is_reserved == 0
    }

    fn split(&mut self) -> (RealLocks<'_>, &mut ShmLocks) {
        let below = RealLocks {
            file: self.below,
            index: self.index.as_ref(),
            mirror: self.mirror.as_ref(),
        };
        (below, &mut self.locks)
    }
}

/// The locks of the VFS below; keeps the mirror up with what happens under them.
struct RealLocks<'a> {
    file: Option<RealFile>,
    index: Option<&'a WalIndex>,
    mirror: Option<&'a Mirror>,
}

impl RealLocks<'_> {
    fn call(&self, range: Range, flags: c_int) -> Code {
        let (first, count) = (range.first().into(), range.count().into());
        let file = self.file;
        file.map_or(IOERR, |file| file.shm_lock(first, count, flags))
    }

    fn shared(&self) -> Option<(&WalIndex, &Mirror)> {
        self.index.zip(self.mirror)
    }
}

impl Below for RealLocks<'_> {
    fn lock(&mut self, range: Range, mode: Mode) -> Code {
        let code = self.call(range, SHM_LOCK | flag_of(mode));
        let (OK, Mode::Exclusive, Some((index, mirror))) = (code, mode, self.shared()) else {
            return code;
        };
        // What stands there now is about to be overwritten.
        if range == Range::WRITE && mirror.has_foreign_header(index) {
            mirror.note_write();
        }
        if range
            .marks()
            .any(|mark| mirror.has_foreign_mark(index, mark))
        {
            mirror.note_trace();
        }
        code
    }

    fn unlock(&mut self, range: Range, mode: Mode) -> Code {
        if let (Mode::Exclusive, Some((index, mirror))) = (mode, self.shared()) {
            if range == Range::WRITE {
                mirror.note_header(index);
            } else {
                range.marks().for_each(|mark| mirror.note_mark(index, mark));
            }
        }
        self.call(range, SHM_UNLOCK | flag_of(mode))
    }
}

fn flag_of(mode: Mode) -> c_int {
    match mode {
        Mode::Shared => SHM_SHARED,
        Mode::Exclusive => SHM_EXCLUSIVE,
    }
}
