//! One connection's way to penholder's write lock, for programs that know nothing of it.
//!
//! | SQLite takes | the write lock |
//! | --- | --- |
//! | WRITE of the WAL index, exclusively | is taken first, and left with it |
//! | RESERVED on the database file, or more: outside WAL mode, and with `locking_mode=EXCLUSIVE` | the same |
//! | CKPT, in a SQLite with the WAL-reset bug | the same, but without waiting: a checkpoint that cannot run now runs later |
//! | WRITE, to recover the WAL index before it reads | is not needed: a reader does not wait for those who write to another database |
//! | EXCLUSIVE on the database file, to roll a journal back before it reads | the same |
//!
//! If it is not free, SQLite is told that it is busy, and calls the busy handler of the connection:
//! see [`process_lock`](crate::process_lock). Only a transaction that has begun to read and now
//! wants to write does not get that far: SQLite returns the error at once, because what was read may
//! be out of date when the lock is free. As long as nobody has written since, there is nothing
//! wrong with waiting a moment: see [`MOMENT`]. The same goes for a connection that leaves WAL mode or
//! closes the database.

use std::cell::RefCell;
use std::ffi::{CStr, c_int, c_void};
use std::ptr;
use std::sync::atomic::Ordering::{Relaxed, SeqCst};
use std::sync::atomic::{AtomicPtr, AtomicU8, AtomicU64};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread;
use std::time::{Duration, Instant};

use penholder_core::{Deadline, Guard, LeaseParty, LockError, Locker, fork_generation};

use crate::api::{HostApi, IOERR_LOCK, LOCK_EXCLUSIVE, LOCK_RESERVED, LOCK_SHARED, TXN_NONE};
use crate::connection_lease::ConnectionLease;
use crate::database_file::DatabaseFile;
use crate::last_error;
use crate::locks::{BUSY, Code, Mode, OK, Range};
use crate::open_files;
use crate::process_lock::{Asker, Claim, ConnectionId, Entry, ProcessLock};
use crate::sys;
use crate::wal_index::Header;

/// How long a connection waits for the lock where SQLite calls no busy handler: a transaction that
/// has read, as long as nobody has written; and one that leaves WAL mode or closes the database.
const MOMENT: Duration = Duration::from_millis(50);
/// How often it looks whether that makes sense.
const LOOK: Duration = Duration::from_millis(1);
/// One that comes back after a longer time waits for something else: it had given up.
const NEW_WAIT: Duration = Duration::from_millis(250);

// What the lock is used for.
const WRITE: u8 = 1;
const FILE: u8 = 2;
const CHECKPOINT: u8 = 4;

thread_local! {
    /// The gate at which this thread was last told to wait.
    static WAITING: RefCell<Weak<Gate>> = const { RefCell::new(Weak::new()) };
}

/// One connection's way to the write lock.
#[derive(Debug)]
pub struct Gate {
    generation: u64,
    id: ConnectionId,
    lock: Arc<ProcessLock>,
    database: Arc<CStr>,
    file: Weak<DatabaseFile>,
    lease: Arc<ConnectionLease>,
    host: HostApi,
    /// Where SQLite keeps the connection that uses the file; null as long as it is not known.
    connection: AtomicPtr<*mut c_void>,
    /// For what the connection uses the lock.
    uses: AtomicU8,
    state: Mutex<State>,
    /// How long the connection waited for its last write, in microseconds.
    last_wait: AtomicU64,
}

#[derive(Debug)]
struct State {
    locker: Arc<Locker>,
    /// Since when it waits, or has waited until it gave up.
    waits_since: Option<Instant>,
    /// When it was last told to wait, or ended a sleep.
    seen: Option<Instant>,
    /// Why it last gave up, as far as it has been asked.
    last_timeout: Option<String>,
    /// The header of the WAL index when the lock was taken: it changes with a commit.
    header: Option<Header>,
}

impl Gate {
    /// Makes the one of a database file that was opened by this path.
    pub(crate) fn new(file: &Arc<DatabaseFile>, locker: Locker, host: HostApi) -> Arc<Self> {
        let lease = Arc::<ConnectionLease>::default();
        lease.set(Some(Arc::clone(file)));
        file.join_frames();
        let locker = with_lease(locker, &lease);
        Arc::new(Self {
            generation: fork_generation(),
            id: ConnectionId::new(),
            lock: ProcessLock::of(locker.lock_file()),
            database: Arc::from(file.path()),
            file: Arc::downgrade(file),
            lease,
            host,
            connection: AtomicPtr::new(ptr::null_mut()),
            uses: AtomicU8::new(0),
            state: Mutex::new(State {
                locker: Arc::new(locker),
                waits_since: None,
                seen: None,
                last_timeout: None,
                header: None,
            }),
            last_wait: AtomicU64::new(0),
        })
    }

    fn lock_state(&self) -> MutexGuard<'_, State> {
        // Nothing panics with it held, so what it guards is whole.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn asker(&self) -> Asker {
        Asker {
            id: self.id,
            claim: Claim::Database(Arc::clone(&self.database)),
            locker: Arc::clone(&self.lock_state().locker),
            party: Arc::clone(&self.lease) as Arc<dyn LeaseParty>,
        }
    }

    /// Whether the connection is this process's, not one that a forked child inherited.
    fn is_ours(&self) -> bool {
        self.generation == fork_generation()
    }

    /// Notes where SQLite keeps the connection that uses the file.
    pub(crate) fn set_connection(&self, place: *mut *mut c_void) {
        self.connection.store(place, SeqCst);
    }

    // ---- what SQLite calls ---------------------------------------------------------------

    /// `xShmLock`, to lock.
    pub(crate) fn lock_index(
        self: &Arc<Self>,
        file: &DatabaseFile,
        range: Range,
        mode: Mode,
    ) -> Code {
        let purpose = self.purpose(range, mode);
        let is_needed = purpose.is_some_and(|purpose| purpose != WRITE || !file.is_recovering());
        let Some(purpose) = purpose.filter(|_| is_needed && self.is_ours()) else {
            return open_files::shm_lock(file, range, mode);
        };
        let is_upgrade = purpose == WRITE && self.is_upgrade();
        let may_wait = purpose == WRITE && !is_upgrade;
        match self.enter(purpose, may_wait) {
            Ok(true) => {}
            Ok(false) if is_upgrade && self.wait_to_upgrade(file) => {}
            Ok(false) => return BUSY,
            Err(code) => return code,
        }
        let code = open_files::shm_lock(file, range, mode);
        if code != OK {
            self.set_aside(purpose, may_wait && code & 0xff == BUSY);
            return code;
        }
        if purpose == WRITE {
            self.note_inside();
            self.lock_state().header = file.header();
        }
        code
    }

    /// `xShmLock`, to unlock.
    pub(crate) fn unlock_index(&self, file: &DatabaseFile, range: Range, mode: Mode) -> Code {
        let uses = self.uses.load(SeqCst);
        let purpose = self.purpose(range, mode);
        let purpose = purpose.filter(|purpose| uses & purpose != 0 && self.is_ours());
        if purpose == Some(WRITE) && self.lock_state().header != file.header() {
            self.lease.note_commit();
        }
        let code = file.unlock(range, mode);
        if let Some(purpose) = purpose {
            self.leave(purpose);
        }
        code
    }

    /// `xLock`.
    pub(crate) fn lock_file(self: &Arc<Self>, file: &DatabaseFile, level: c_int) -> Code {
        let is_needed = level >= LOCK_RESERVED && self.uses.load(SeqCst) & FILE == 0;
        if !is_needed || !self.is_ours() {
            return file.lock_file(level);
        }
        if level == LOCK_EXCLUSIVE {
            return self.lock_exclusively(file);
        }
        let may_wait = !self.is_upgrade();
        match self.enter(FILE, may_wait) {
            Ok(true) => {}
            Ok(false) => return BUSY,
            Err(code) => return code,
        }
        let code = file.lock_file(level);
        if code == OK {
            self.note_inside();
        } else {
            self.set_aside(FILE, may_wait && code & 0xff == BUSY);
        }
        code
    }

    /// `xLock` from SHARED to EXCLUSIVE: SQLite rolls a journal back, opens a WAL for itself alone, or
    /// leaves WAL mode or closes the database. Mostly others have the database open, and SQLite gets
    /// BUSY. If it gets EXCLUSIVE, that keeps out also a program that has the write lock, so nobody
    /// waits long with it:
    ///
    /// - to roll a journal back, the write lock is not needed;
    /// - to open a WAL alone, EXCLUSIVE is given back, and the busy handler waits;
    /// - to leave WAL mode or close, the gate waits for [`MOMENT`]: SQLite mostly calls no handler.
    fn lock_exclusively(self: &Arc<Self>, file: &DatabaseFile) -> Code {
        let code = file.lock_file(LOCK_EXCLUSIVE);
        let has_index = file.header().is_some();
        if code != OK || !has_index && file.has_hot_journal() {
            return code;
        }
        let entered = if has_index {
            Ok(self.wait_a_moment(FILE, || true))
        } else {
            self.enter(FILE, true)
        };
        if entered == Ok(true) {
            self.note_inside();
            return OK;
        }
        file.unlock_file(LOCK_SHARED);
        entered.err().unwrap_or(BUSY)
    }

    /// `xUnlock` was called, for this level.
    pub(crate) fn unlocked_file(&self, level: c_int) {
        if level < LOCK_RESERVED && self.is_ours() && self.uses.load(SeqCst) & FILE != 0 {
            // Or a transaction that was rolled back: that is not known here.
            self.lease.note_commit();
            self.leave(FILE);
        }
    }

    /// The WAL index is unmapped, and no lock on it is left.
    pub(crate) fn unmapped(&self) {
        self.leave(WRITE | CHECKPOINT);
    }

    /// The file is about to be closed.
    pub(crate) fn closing(&self) {
        if self.is_ours() {
            self.lease.set(None);
        }
    }

    /// The file is closed, and no lock is left.
    pub(crate) fn closed(&self) {
        self.leave(WRITE | CHECKPOINT | FILE);
        if self.is_ours() {
            self.lock.forget(self.id);
            self.locker().end_lease();
        }
    }

    /// Returns for what SQLite needs the write lock when it takes these locks.
    fn purpose(&self, range: Range, mode: Mode) -> Option<u8> {
        match (mode, range) {
            (Mode::Exclusive, Range::WRITE) => Some(WRITE),
            (Mode::Exclusive, Range::CKPT) if self.host.has_wal_reset_bug => Some(CHECKPOINT),
            _ => None,
        }
    }

    // ---- the lock ------------------------------------------------------------------------

    /// Takes the write lock if it can be had now.
    ///
    /// # Errors
    ///
    /// The code for SQLite, if the lock cannot be used.
    fn enter(self: &Arc<Self>, purpose: u8, may_wait: bool) -> Result<bool, Code> {
        if self.uses.load(SeqCst) == 0 {
            let entered = |guard: &mut Guard, is_owner| self.entered(guard, is_owner);
            match self.lock.enter(&self.asker(), may_wait, entered) {
                Entry::Inside => {}
                Entry::Busy => {
                    // A checkpoint does not wait.
                    if purpose != CHECKPOINT {
                        self.note_busy(may_wait);
                    }
                    return Ok(false);
                }
                Entry::Failed(error) => return Err(self.fail(&error)),
            }
        }
        self.uses.fetch_or(purpose, SeqCst);
        Ok(true)
    }

    /// Leaves the write lock, unless the connection uses it for something else too.
    fn leave(&self, purpose: u8) {
        let before = self.uses.fetch_and(!purpose, SeqCst);
        if before == 0 || before & !purpose != 0 || !self.is_ours() {
            return;
        }
        let left = self.lock.leave(self.id, |keeps_locks| {
            if !keeps_locks {
                self.lease.release();
            }
        });
        if let Err(error) = left {
            self.fail(&error);
        }
    }

    /// SQLite's own lock was not free, although the write lock is ours.
    fn set_aside(self: &Arc<Self>, purpose: u8, may_wait: bool) {
        let before = self.uses.fetch_and(!purpose, SeqCst);
        if before & !purpose != 0 {
            return;
        }
        if let Err(error) = self.lock.set_aside(&self.asker(), may_wait) {
            self.fail(&error);
        }
        self.note_busy(may_wait);
    }

    /// Begins a lease, or goes on with it, if the guard is that of the connection's own locker, and
    /// the guard and the file may have one.
    fn entered(&self, guard: &mut Guard, is_owner: bool) -> bool {
        if !guard.is_resumed() {
            self.lease.share_words(&sys::path_of(&self.database), guard);
        }
        let Some(file) = self.file.upgrade().filter(|_| is_owner) else {
            return false;
        };
        let is_leased = guard.may_lease() && (file.is_leased() || file.begin_lease());
        if is_leased {
            guard.begin_lease();
        }
        is_leased
    }

    // ---- waiting -------------------------------------------------------------------------

    /// Returns whether the connection has read in its transaction, and now wants to write.
    fn is_upgrade(&self) -> bool {
        let place = self.connection.load(SeqCst);
        self.host.txn_state(place, &self.database) > TXN_NONE
    }

    /// Waits in a transaction that has read, as long as what it has read is not out of date.
    fn wait_to_upgrade(self: &Arc<Self>, file: &DatabaseFile) -> bool {
        let read = file.header();
        self.wait_a_moment(WRITE, || file.header() == read)
    }

    /// Waits where SQLite does not, as long as it makes sense.
    fn wait_a_moment(self: &Arc<Self>, purpose: u8, makes_sense: impl Fn() -> bool) -> bool {
        let begun = Instant::now();
        let asker = self.asker();
        while begun.elapsed() < MOMENT && makes_sense() {
            match self.enter(purpose, true) {
                Ok(true) => return true,
                Ok(false) => {}
                Err(_) => break,
            }
            if !self.lock.sleep(&asker, LOOK, || true) {
                thread::sleep(LOOK);
            }
        }
        self.lock.forget(self.id);
        false
    }

    /// Sleeps until the lock is the connection's, for at most `pause`; `false` if it does not wait.
    fn sleep(&self, pause: Duration) -> bool {
        let try_write = || {
            let file = self.file.upgrade();
            file.is_none_or(|file| open_files::park_write(&file))
        };
        let slept = self.is_ours() && self.lock.sleep(&self.asker(), pause, try_write);
        self.lock_state().seen = Some(Instant::now());
        slept
    }

    fn note_inside(&self) {
        let mut state = self.lock_state();
        state.end_former_wait(Instant::now());
        let waited = state.waits_since.take();
        let waited = waited.map_or(0, |since| since.elapsed().as_micros());
        let waited = u64::try_from(waited).unwrap_or(u64::MAX);
        self.last_wait.store(waited, Relaxed);
    }

    /// Notes that SQLite was told to wait. The connection may give up, and nobody says so.
    fn note_busy(self: &Arc<Self>, may_wait: bool) {
        // A thread that ends has no thread-locals any more.
        let waiting = if may_wait {
            Arc::downgrade(self)
        } else {
            Weak::new()
        };
        let _ = WAITING.try_with(|gate| *gate.borrow_mut() = waiting);
        let now = Instant::now();
        let mut state = self.lock_state();
        state.end_former_wait(now);
        state.seen = Some(now);
        state.waits_since.get_or_insert(now);
    }

    fn fail(&self, error: &LockError) -> Code {
        let text = error.to_string();
        self.host.log(IOERR_LOCK, &text);
        last_error::set(text);
        IOERR_LOCK
    }

    // ---- what the program asks for -------------------------------------------------------

    /// Returns the locker of the connection: for what can be seen of the lock.
    pub fn locker(&self) -> Arc<Locker> {
        Arc::clone(&self.lock_state().locker)
    }

    /// Returns how long the connection waited for the write lock for its last write.
    pub fn last_wait(&self) -> Duration {
        Duration::from_micros(self.last_wait.load(Relaxed))
    }

    /// Returns why the connection last gave up waiting: the text of the error that the library of
    /// penholder returns for it, with who has the lock now. `None` if it has not, or got the lock since
    /// and was not asked in between.
    pub fn explanation(&self) -> Option<String> {
        let mut state = self.lock_state();
        if let (Some(since), Some(seen)) = (state.waits_since, state.seen) {
            state.last_timeout = Some(state.timeout_text(seen - since));
        }
        state.last_timeout.clone()
    }

    /// Says what the lock is taken for, from the next time on.
    pub fn set_label(&self, label: Option<String>) {
        let mut state = self.lock_state();
        let locker = Locker::clone(&state.locker).with(|options| options.label = label);
        state.locker = Arc::new(locker);
    }
}

impl State {
    /// If the connection has not been seen for a while, it had given up the wait before.
    fn end_former_wait(&mut self, now: Instant) {
        if self.seen.is_some_and(|seen| now - seen <= NEW_WAIT) {
            return;
        }
        self.waits_since = None;
    }

    /// Returns the text of the error for a connection that has waited for so long.
    fn timeout_text(&self, waited: Duration) -> String {
        let waited = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
        let deadline = Deadline::after(Duration::from_millis(waited));
        self.locker.timeout_error(&deadline, 0).to_string()
    }
}

fn with_lease(locker: Locker, lease: &Arc<ConnectionLease>) -> Locker {
    let party = Arc::clone(lease) as Arc<dyn LeaseParty>;
    locker.with(|options| options.lease = Some(party))
}

/// Sleeps for the connection that this thread was last told to wait for; `false` if it does not
/// wait any more.
pub(crate) fn sleep(pause: Duration) -> bool {
    let gate = WAITING.try_with(|gate| gate.borrow().upgrade());
    gate.ok().flatten().is_some_and(|gate| gate.sleep(pause))
}
