#![expect(unsafe_code, reason = "what rusqlite does not wrap")]
//! What rusqlite does not wrap.

use std::cell::{Cell, RefCell};
use std::ffi::{CStr, c_char, c_int, c_void};
use std::io;
use std::ops::Deref;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, Ordering};

use penholder_core::{DatabaseWords, fork_generation};
use penholder_vfs::{DatabaseFile, RegisterError};
use rusqlite::hooks::{Action, AuthContext, Authorization};
use rusqlite::{Connection, Statement, StatementStatus, ffi};

use super::watched_paths;
use crate::sidecar;
use crate::sys::{self, Observer};

/// The fork generation in which the system calls were replaced; `NEVER` before that.
static REPLACED_IN: AtomicU64 = AtomicU64::new(NEVER);
const NEVER: u64 = u64::MAX;

/// Replaces system calls of SQLite, for two purposes: [`watched_paths`] learns which files it
/// opens and deletes, and in a forked child it treats inherited open files as unknown.
///
/// SQLite keeps one record of each open file for the whole process, found by device and
/// inode, and takes a POSIX lock only once for all connections to that file. A forked child
/// inherits these records but not the locks: a new connection would rely on locks that it
/// does not have, and another process could delete the WAL while it is in use. So in a child
/// the device or inode number that SQLite sees is changed by the number of forks since: SQLite finds
/// no inherited record and opens the file again. Inherited connections must never be used in
/// a child, not even to close them.
///
/// The number must not change while a process runs, or two records of one file would drop
/// each other's locks. So this is called before a `Database` opens its first connection, and
/// it changes nothing in that process itself.
///
/// # Errors
///
/// SQLite's VFS has no system calls to replace, or they are not known on this platform.
pub(crate) fn replace_system_calls() -> Result<(), &'static str> {
    if REPLACED_IN.load(Ordering::Acquire) != NEVER {
        return Ok(());
    }
    // SAFETY: a null name asks for the default VFS; SQLite is thread-safe.
    let vfs = unsafe { ffi::sqlite3_vfs_find(std::ptr::null()) };
    // SAFETY: a registered VFS lives as long as the program.
    let Some(vfs_ref) = (unsafe { vfs.as_ref() }) else {
        return Err("SQLite has no default VFS");
    };
    let Some(set) = vfs_ref.xSetSystemCall else {
        return Err("SQLite's VFS does not let its system calls be replaced");
    };
    for (name, call) in sys::system_calls(OBSERVER)? {
        // SAFETY: the VFS is the one that owns this method; the name is C text, and the function
        // has the signature of the system call of this name.
        if unsafe { set(vfs, name.as_ptr(), Some(call)) } != ffi::SQLITE_OK {
            return Err("SQLite's VFS does not know the system calls to replace");
        }
    }
    // Two threads may both come here, and do the same. Until this is set, the replacements
    // change nothing.
    REPLACED_IN.store(fork_generation(), Ordering::Release);
    Ok(())
}

/// What the functions in place of the system calls tell and ask.
const OBSERVER: Observer = Observer {
    opened: |path, file| watched_paths::note_opened(path, || sys::open_born_file(file).ok()),
    not_opened: |error| LAST_OPEN_ERROR.set(error.raw_os_error()),
    deleted: watched_paths::note_deleted,
    may_vanish: |path| sidecar::is_unfinished(Path::new(path)),
    forks: || match REPLACED_IN.load(Ordering::Acquire) {
        NEVER => 0,
        replaced_in => fork_generation() - replaced_in,
    },
};

thread_local! {
    /// Why SQLite could last not open a file on this thread, as a number of the system.
    static LAST_OPEN_ERROR: Cell<Option<i32>> = const { Cell::new(None) };
}

/// Returns why SQLite could not open a file on this thread, since this was last asked. SQLite
/// itself tells that only through a connection, which is closed by then.
pub(crate) fn take_open_error() -> Option<io::Error> {
    LAST_OPEN_ERROR.take().map(io::Error::from_raw_os_error)
}

/// A connection that counts the frames in the WAL after each of its commits, and leaves
/// checkpoints of the database to us.
///
/// rusqlite wraps the WAL hook too, but not in the same way in all versions that we support.
#[derive(Debug)]
pub(crate) struct WalCountingConnection {
    // Declared first, so that it is closed before `hook`, which its hook writes to, is
    // freed. Never moved out.
    connection: Connection,
    hook: Box<WalHook>,
    /// A statement that uses no table: SQLite prepares it again only if a function, a
    /// collation or the authorizer was replaced, or a setting changed.
    canary: AtomicPtr<ffi::sqlite3_stmt>,
}

/// What the WAL hook of a connection uses.
#[derive(Debug)]
struct WalHook {
    frames: AtomicU32,
    /// Where the commits are counted.
    words: RefCell<Option<DatabaseWords>>,
    /// Whether the WAL of an attached database is checkpointed.
    checkpoints: bool,
}

impl WalHook {
    /// Counts a commit of the main database, which is over, and wakes the processes that wait for it.
    fn count_commit(&self) {
        let words = self.words.try_borrow();
        if let Some(words) = words.ok().as_deref().and_then(Option::as_ref)
            && words.is_current()
        {
            words.note_commit();
        }
    }
}

impl Drop for WalCountingConnection {
    fn drop(&mut self) {
        // SAFETY: ours, of a connection that is closed after this; null is harmless.
        unsafe { ffi::sqlite3_finalize(*self.canary.get_mut()) };
        unset_rollback_hook(&self.connection);
    }
}

/// Registers the VFS that keeps locks between two writes.
///
/// # Errors
///
/// See [`RegisterError`].
pub(crate) fn register_vfs() -> Result<(), RegisterError> {
    type Find = unsafe extern "C" fn(*const c_char) -> *mut ffi::sqlite3_vfs;
    type OurFind = unsafe extern "C" fn(*const c_char) -> *mut penholder_vfs::Vfs;
    type Register = unsafe extern "C" fn(*mut ffi::sqlite3_vfs, c_int) -> c_int;
    type OurRegister = unsafe extern "C" fn(*mut penholder_vfs::Vfs, c_int) -> c_int;
    // SAFETY: both types stand for `struct sqlite3_vfs`, behind a pointer.
    let vfs_find = unsafe { std::mem::transmute::<Find, OurFind>(ffi::sqlite3_vfs_find) };
    // SAFETY: as above.
    let vfs_register =
        unsafe { std::mem::transmute::<Register, OurRegister>(ffi::sqlite3_vfs_register) };
    penholder_vfs::register(&penholder_vfs::Api {
        threadsafe: ffi::sqlite3_threadsafe,
        vfs_find,
        vfs_register,
        filename_database: ffi::sqlite3_filename_database,
    })
}

/// Returns the open file of the main database; null if there is none.
fn main_file(connection: &Connection) -> *mut ffi::sqlite3_file {
    let mut file: *mut ffi::sqlite3_file = std::ptr::null_mut();
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    let question = ffi::SQLITE_FCNTL_FILE_POINTER;
    // SAFETY: the handle is this thread's, the name is C text, and the answer is a pointer.
    unsafe {
        ffi::sqlite3_file_control(handle, c"main".as_ptr(), question, (&raw mut file).cast());
    }
    file
}

/// Returns the database file of a connection that was opened with the VFS of penholder.
pub(crate) fn database_file(connection: &Connection) -> Option<Arc<DatabaseFile>> {
    // SAFETY: null, or the open file of the connection, which is borrowed.
    unsafe { penholder_vfs::file_behind(main_file(connection).cast()) }
}

/// Returns whether the header of the database says that it is in WAL mode. To any statement that
/// asks for it, SQLite opens the WAL first, and creates it.
pub(crate) fn is_wal_by_header(connection: &Connection) -> bool {
    /// Where the header has the version for reading; 2 stands for WAL.
    const AT_READ_VERSION: i64 = 19;
    let file = main_file(connection);
    // SAFETY: null, or the open file of the connection, which stays open while it is borrowed.
    let methods = unsafe { file.as_ref() }.map(|file| file.pMethods);
    // SAFETY: null, or the methods of that file, which live as long.
    let methods = methods.and_then(|methods| unsafe { methods.as_ref() });
    let Some(read) = methods.and_then(|methods| methods.xRead) else {
        return false;
    };
    let mut version = 0_u8;
    // SAFETY: the method of this file, and room for the one byte that it reads.
    let done = unsafe { read(file, (&raw mut version).cast(), 1, AT_READ_VERSION) };
    done == ffi::SQLITE_OK && version == 2
}

/// Unsets the rollback hook of a connection that is about to be closed.
///
/// Closing a connection rolls back its open transaction and calls the hook, after rusqlite's
/// closure behind the hook has been freed.
pub(crate) fn unset_rollback_hook(connection: &Connection) {
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    // SAFETY: the handle is this thread's; without a hook there is nothing to call.
    unsafe { ffi::sqlite3_rollback_hook(handle, None, std::ptr::null_mut()) };
}

/// What the authorizer is asked for, with the names as SQLite has them. rusqlite panics at those
/// that are not UTF-8, which other programs can give to tables and columns.
#[derive(Debug)]
pub(crate) struct Access<'a> {
    /// `SQLITE_INSERT`, for example.
    pub(crate) code: c_int,
    /// The name of the table, for most codes.
    pub(crate) first: Option<&'a CStr>,
    /// The name of the column or the function, for most codes.
    pub(crate) second: Option<&'a CStr>,
    pub(crate) database: Option<&'a CStr>,
}

/// Sets the authorizer of a connection, in place of one that was set before.
///
/// # Errors
///
/// Those of SQLite.
pub(crate) fn set_authorizer<F>(connection: &mut Connection, authorize: F) -> rusqlite::Result<()>
where
    F: Fn(&Access<'_>) -> Authorization + Send + Sync + 'static,
{
    let authorize = Arc::new(authorize);
    let kept = Arc::clone(&authorize);
    // Never called. rusqlite frees it with the connection, or when another one is set, and then
    // ours is no longer called either.
    connection.authorizer(Some(move |_: AuthContext<'_>| {
        let _ = &kept;
        Authorization::Deny
    }))?;
    let target: *const F = Arc::as_ptr(&authorize);
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    // SAFETY: the handle is this thread's; rusqlite keeps the target, see above.
    unsafe { ffi::sqlite3_set_authorizer(handle, Some(ask::<F>), target.cast_mut().cast()) };
    Ok(())
}

unsafe extern "C" fn ask<F: Fn(&Access<'_>) -> Authorization>(
    target: *mut c_void,
    code: c_int,
    first: *const c_char,
    second: *const c_char,
    database: *const c_char,
    _accessor: *const c_char,
) -> c_int {
    // SAFETY: SQLite passes C text or null, which it keeps during the call.
    let text = |text: *const c_char| (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) });
    let access = Access {
        code,
        first: text(first),
        second: text(second),
        database: text(database),
    };
    // SAFETY: the target that the authorizer was set with.
    let authorize = unsafe { &*target.cast::<F>() };
    match authorize(&access) {
        Authorization::Allow => ffi::SQLITE_OK,
        Authorization::Ignore => ffi::SQLITE_IGNORE,
        _ => ffi::SQLITE_DENY,
    }
}

/// Sets the update hook of a connection, in place of one that was set before. It is told of the
/// change and of the rowid: rusqlite panics at the name of a table that is not UTF-8.
///
/// # Errors
///
/// Those of SQLite.
pub(crate) fn set_update_hook<F>(connection: &mut Connection, hook: F) -> rusqlite::Result<()>
where
    F: Fn(Action, i64) + Send + Sync + 'static,
{
    let hook = Arc::new(hook);
    let kept = Arc::clone(&hook);
    // As in `set_authorizer`.
    connection.update_hook(Some(move |_, _: &str, _: &str, _| {
        let _ = &kept;
    }))?;
    let target: *const F = Arc::as_ptr(&hook);
    // SAFETY: the handle is open and not closed here.
    let handle = unsafe { connection.handle() };
    // SAFETY: the handle is this thread's; rusqlite keeps the target.
    unsafe { ffi::sqlite3_update_hook(handle, Some(tell::<F>), target.cast_mut().cast()) };
    Ok(())
}

unsafe extern "C" fn tell<F: Fn(Action, i64)>(
    target: *mut c_void,
    code: c_int,
    _database: *const c_char,
    _table: *const c_char,
    id: i64,
) {
    // SAFETY: the target that the hook was set with.
    let hook = unsafe { &*target.cast::<F>() };
    hook(Action::from(code), id);
}

/// Returns the names of the columns of a statement that has run, at least for its first row. What
/// is not UTF-8 in them is replaced by U+FFFD; rusqlite panics at it.
#[doc(hidden)]
#[must_use]
pub fn column_names(connection: &Connection, statement: &Statement<'_>) -> Vec<String> {
    let count = statement.column_count();
    if count == 0 {
        return Vec::new();
    }
    let Some(found) = handle_of(connection, statement) else {
        let name = |number| statement.column_name(number).unwrap_or_default().to_owned();
        return (0..count).map(name).collect();
    };
    let name = |number: usize| {
        let number = c_int::try_from(number).unwrap_or(c_int::MAX);
        // SAFETY: a statement of this connection, which is this thread's.
        let name = unsafe { ffi::sqlite3_column_name(found, number) };
        // SAFETY: null without memory, or C text that stays until the statement changes.
        let name = (!name.is_null()).then(|| unsafe { CStr::from_ptr(name) });
        name.map_or_else(String::new, |name| name.to_string_lossy().into_owned())
    };
    (0..count).map(name).collect()
}

/// Returns the handle of a statement that has run; rusqlite does not tell it. It is the one of
/// which a counter goes back to zero when rusqlite is asked to do that. `None` of one that does not
/// count its steps, as `EXPLAIN` does not.
fn handle_of(connection: &Connection, statement: &Statement<'_>) -> Option<*mut ffi::sqlite3_stmt> {
    if statement.get_status(StatementStatus::VmStep) == 0 {
        return None;
    }
    // SAFETY: a statement of this connection, which is this thread's; nothing is reset.
    let steps = |one| unsafe { ffi::sqlite3_stmt_status(one, ffi::SQLITE_STMTSTATUS_VM_STEP, 0) };
    let mut candidates: Vec<_> = Statements::of(connection).collect();
    candidates.retain(|&one| steps(one) != 0);
    if candidates.len() > 1 {
        statement.reset_status(StatementStatus::VmStep);
        candidates.retain(|&one| steps(one) == 0);
    }
    candidates.pop()
}

/// The handles of all statements of a connection.
struct Statements {
    handle: *mut ffi::sqlite3,
    last: *mut ffi::sqlite3_stmt,
}

impl Statements {
    fn of(connection: &Connection) -> Self {
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { connection.handle() };
        let last = std::ptr::null_mut();
        Self { handle, last }
    }
}

impl Iterator for Statements {
    type Item = *mut ffi::sqlite3_stmt;

    fn next(&mut self) -> Option<Self::Item> {
        // SAFETY: the handle is this thread's, and no statement is finalized meanwhile.
        self.last = unsafe { ffi::sqlite3_next_stmt(self.handle, self.last) };
        (!self.last.is_null()).then_some(self.last)
    }
}

impl WalCountingConnection {
    pub(crate) fn new(connection: Connection, checkpoints: bool) -> Self {
        let hook = Box::new(WalHook {
            frames: AtomicU32::new(0),
            words: RefCell::new(None),
            checkpoints,
        });
        let target: *const WalHook = &raw const *hook;
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { connection.handle() };
        // SAFETY: the box lives as long as the connection, see above, and SQLite
        // calls the hook only from the thread that uses the connection.
        unsafe { ffi::sqlite3_wal_hook(handle, Some(count_frames), target.cast_mut().cast()) };
        Self {
            connection,
            hook,
            canary: AtomicPtr::default(),
        }
    }

    /// Borrows the connection to set hooks; the caller must not swap it with another.
    pub(crate) fn for_setup(&mut self) -> &mut Connection {
        &mut self.connection
    }

    /// Returns the number of frames in the WAL after the last commit of this connection; 0
    /// before the first.
    pub(crate) fn wal_frames(&self) -> u32 {
        self.hook.frames.load(Ordering::Relaxed)
    }

    /// Sets the number to 0, so that the next commit shows whether the hook is still ours.
    pub(crate) fn reset_wal_frames(&self) {
        self.hook.frames.store(0, Ordering::Relaxed);
    }

    /// Returns whether commits are counted, in words that are those of the database now.
    pub(crate) fn counts_commits(&self) -> bool {
        let words = self.hook.words.borrow();
        words.as_ref().is_some_and(DatabaseWords::is_current)
    }

    /// Counts commits in these words from now on.
    pub(crate) fn count_commits_in(&self, words: Option<DatabaseWords>) {
        self.hook.words.replace(words);
    }

    /// Returns whether a commit would fail now because a deferred foreign key is violated.
    pub(crate) fn has_deferred_violation(&self) -> bool {
        let (mut violations, mut highest) = (0, 0);
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { self.connection.handle() };
        let counter = ffi::SQLITE_DBSTATUS_DEFERRED_FKS;
        // SAFETY: the handle is this thread's, and both results have room.
        unsafe {
            ffi::sqlite3_db_status(handle, counter, &raw mut violations, &raw mut highest, 0)
        };
        violations > 0
    }

    /// Makes [`is_redefined`](Self::is_redefined) answer for what happens from now on.
    pub(crate) fn set_canary(&self) {
        let mut statement = std::ptr::null_mut();
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { self.connection.handle() };
        let (sql, tail) = (c"SELECT 1".as_ptr(), std::ptr::null_mut());
        // SAFETY: the handle is this thread's, the text ends, the result has room.
        unsafe { ffi::sqlite3_prepare_v2(handle, sql, -1, &raw mut statement, tail) };
        let before = self.canary.swap(statement, Ordering::Relaxed);
        // SAFETY: ours, of this connection; null is harmless.
        unsafe { ffi::sqlite3_finalize(before) };
    }

    /// Returns whether a function, a collation or the authorizer may have been replaced since
    /// [`set_canary`](Self::set_canary).
    pub(crate) fn is_redefined(&self) -> bool {
        let canary = self.canary.load(Ordering::Relaxed);
        if canary.is_null() {
            return true;
        }
        // SAFETY: ours, of this connection, which is this thread's.
        unsafe { ffi::sqlite3_step(canary) };
        let counter = ffi::SQLITE_STMTSTATUS_REPREPARE;
        // SAFETY: as above; the counter is not reset.
        let prepared = unsafe { ffi::sqlite3_stmt_status(canary, counter, 0) };
        // SAFETY: as above.
        unsafe { ffi::sqlite3_reset(canary) };
        prepared > 0
    }

    /// Removes all modules of virtual tables but these. Tables of the others cannot be used any
    /// more.
    pub(crate) fn keep_modules(&self, names: &[&CStr]) {
        let mut names: Vec<*const c_char> = names.iter().map(|name| name.as_ptr()).collect();
        names.push(std::ptr::null());
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { self.connection.handle() };
        // SAFETY: the handle is this thread's; the list ends with a null pointer, and SQLite
        // neither keeps nor changes it.
        unsafe { ffi::sqlite3_drop_modules(handle, names.as_mut_ptr()) };
    }

    /// Sets the value that `last_insert_rowid()` returns.
    pub(crate) fn set_last_insert_id(&self, id: i64) {
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { self.connection.handle() };
        // SAFETY: the handle is this thread's.
        unsafe { ffi::sqlite3_set_last_insert_rowid(handle, id) };
    }

    /// Returns the number of pages that this connection has written to the WAL since the last
    /// call.
    pub(crate) fn take_pages_written(&self) -> u32 {
        let pages = self.status_of_caches(ffi::SQLITE_DBSTATUS_CACHE_WRITE, true);
        u32::try_from(pages).unwrap_or(0)
    }

    /// Returns a number that is another one after a commit, unless nothing was changed in it. A
    /// rollback leaves it as it is.
    ///
    /// It is the number of pages that were written, without those that a full cache wrote
    /// before the commit. [`take_pages_written`](Self::take_pages_written) changes it too.
    pub(crate) fn pages_committed(&self) -> c_int {
        let written = self.status_of_caches(ffi::SQLITE_DBSTATUS_CACHE_WRITE, false);
        written.wrapping_sub(self.status_of_caches(ffi::SQLITE_DBSTATUS_CACHE_SPILL, false))
    }

    /// Returns a counter of the page caches of all databases of this connection.
    fn status_of_caches(&self, counter: c_int, resets: bool) -> c_int {
        let (mut current, mut highest) = (0, 0);
        let resets = c_int::from(resets);
        // SAFETY: the handle is open and not closed here.
        let handle = unsafe { self.connection.handle() };
        // SAFETY: the handle is this thread's, and both results have room.
        unsafe {
            ffi::sqlite3_db_status(handle, counter, &raw mut current, &raw mut highest, resets)
        };
        current
    }
}

impl Deref for WalCountingConnection {
    type Target = Connection;

    fn deref(&self) -> &Connection {
        &self.connection
    }
}

/// At how many frames the WAL of an attached database is checkpointed, as SQLite itself does
/// by default.
const ATTACHED_MAX: c_int = 1000;

unsafe extern "C" fn count_frames(
    target: *mut c_void,
    handle: *mut ffi::sqlite3,
    name: *const c_char,
    frames: c_int,
) -> c_int {
    // SAFETY: the target that the hook was set with, which outlives the connection.
    let hook = unsafe { &*target.cast::<WalHook>() };
    // SAFETY: SQLite passes the name of the database as C text.
    if unsafe { CStr::from_ptr(name) } == c"main" {
        let frames = u32::try_from(frames).unwrap_or(0);
        hook.frames.store(frames, Ordering::Relaxed);
        hook.count_commit();
    } else if hook.checkpoints && frames >= ATTACHED_MAX {
        // SAFETY: SQLite's own hook does the same with what it was passed.
        unsafe { ffi::sqlite3_wal_checkpoint(handle, name) };
    }
    ffi::SQLITE_OK
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::location::Location;
    use crate::sqlite::watched_paths::WatchedPath;

    #[test]
    fn what_sqlite_opens_and_deletes_is_noted() {
        replace_system_calls().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let location = Location::of(&directory.path().join("x \u{e4}.db"), "open").unwrap();
        let files = [location.path.clone(), location.wal(), location.shm()];
        let watched = files.each_ref().map(|path| WatchedPath::new(path));
        let connection = Connection::open(&location.path).unwrap();
        let setup = "PRAGMA journal_mode = WAL; CREATE TABLE t(a)";
        connection.execute_batch(setup).unwrap();
        for (path, watched) in files.iter().zip(&watched) {
            let opened = watched.last_opened().file;
            assert_eq!(opened, Some(sys::born_file(path).unwrap()), "{path:?}");
        }
        drop(connection);
        let deletions = watched.each_ref().map(|path| path.last_opened().deletions);
        assert_eq!(deletions, [0, 1, 1]);
    }

    #[test]
    fn why_a_file_cannot_be_opened_is_kept() {
        replace_system_calls().unwrap();
        let directory = tempfile::tempdir().unwrap();
        let _ = take_open_error();
        Connection::open(directory.path().join("missing").join("x.db")).unwrap_err();
        let error = take_open_error().unwrap();
        assert_eq!(error.kind(), io::ErrorKind::NotFound, "{error}");
        assert!(take_open_error().is_none());
    }
}
