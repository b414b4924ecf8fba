#![expect(unsafe_code, reason = "C programs call these functions with pointers")]
#![expect(unreachable_pub, reason = "they are found by their name")]
//! The C interface: the write lock, what can be seen of it, and waiting for commits.
//!
//! Each function returns a code; [`penholder_error_text`] has the text that belongs to it. What is
//! made by a function whose name ends in `_new` is freed by the one that ends in `_free`; texts
//! that a function stores are freed by [`penholder_text_free`]. A NULL where none is allowed is
//! `PENHOLDER_MISUSE`.

use std::cell::RefCell;
use std::ffi::{CStr, CString, c_char, c_int};
use std::panic::{self, AssertUnwindSafe};
use std::path::{Path, PathBuf};
use std::ptr;
use std::time::Duration;

use penholder_core::{CommitToken, CommitWatch, Deadline, Locker};
use penholder_vfs::{LockerOptions, ThreadHold, ThreadWait};

use crate::failure::{Failure, PENHOLDER_AGAIN, PENHOLDER_OK, PENHOLDER_TIMEOUT};

/// The version of this interface. It changes when a program that was built for it before would not
/// work any more.
pub const PENHOLDER_ABI: u32 = 1;

/// What is asked for when the lock of a database is taken. Set all of it to zero first.
#[repr(C)]
#[derive(Debug)]
pub struct PenholderOptions {
    /// What the lock is taken for, in UTF-8; NULL for nothing.
    pub label: *const c_char,
    /// The lock file; NULL for `db.lock` in the directory of the database.
    pub lock_file: *const c_char,
    /// `time-sliced` or `fifo`; NULL for the first.
    pub policy: *const c_char,
    /// Not zero: the lock file may be on a network file system.
    pub allow_network: c_int,
}

/// A write lock that a thread wants or has.
#[derive(Debug)]
pub struct PenholderLock {
    locker: Locker,
    state: LockState,
}

#[derive(Debug)]
enum LockState {
    Idle,
    Waiting(ThreadWait),
    Held(ThreadHold),
}

/// Waits for commits to a database.
#[derive(Debug)]
pub struct PenholderWatch {
    watch: CommitWatch,
    since: CommitToken,
}

thread_local! {
    /// Why the last call on this thread failed.
    static LAST: RefCell<Option<LastError>> = const { RefCell::new(None) };
}

#[derive(Debug)]
struct LastError {
    text: CString,
    json: CString,
}

// ---- versions and errors ---------------------------------------------------------

/// Returns [`PENHOLDER_ABI`] of this library: compare it with the one that the program was built
/// for.
#[unsafe(no_mangle)]
pub extern "C" fn penholder_abi() -> u32 {
    PENHOLDER_ABI
}

/// Returns the version of this library, for example `0.1.0`.
#[unsafe(no_mangle)]
pub extern "C" fn penholder_version() -> *const c_char {
    const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "\0");
    VERSION.as_ptr().cast()
}

/// Returns why the last function that failed on this thread did so: the whole text, in UTF-8. It
/// is valid until the next call on this thread; NULL if none has failed.
#[unsafe(no_mangle)]
pub extern "C" fn penholder_error_text() -> *const c_char {
    last_error(|last| &last.text)
}

/// Returns the same as JSON: an object with `message`, `lock_file`, and `holder` as in
/// [`penholder_status`].
#[unsafe(no_mangle)]
pub extern "C" fn penholder_error_json() -> *const c_char {
    last_error(|last| &last.json)
}

fn last_error(text: impl Fn(&LastError) -> &CString) -> *const c_char {
    let found = LAST.try_with(|last| last.borrow().as_ref().map(|last| text(last).as_ptr()));
    found.ok().flatten().unwrap_or(ptr::null())
}

/// Frees a text that a function has stored; NULL is allowed.
///
/// # Safety
///
/// It is such a text, and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_text_free(text: *mut c_char) {
    if !text.is_null() {
        // SAFETY: made by `CString::into_raw`, see above.
        drop(unsafe { CString::from_raw(text) });
    }
}

// ---- the lock --------------------------------------------------------------------

/// Makes a lock of a database, which nobody has yet. `options` may be NULL.
///
/// # Safety
///
/// The texts are C texts, and there is room for a pointer at `lock`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_lock_new(
    database: *const c_char,
    options: *const PenholderOptions,
    lock: *mut *mut PenholderLock,
) -> c_int {
    call(|| {
        // SAFETY: see above.
        let (_, locker) = unsafe { locker(database, options) }?;
        let state = LockState::Idle;
        let new = Box::new(PenholderLock { locker, state });
        // SAFETY: see above.
        unsafe { store(lock, Box::into_raw(new)) }
    })
}

/// Takes the lock for the calling thread, waiting up to `timeout` milliseconds since the first call;
/// `UINT64_MAX` for no limit. It returns [`PENHOLDER_AGAIN`] after `pause` milliseconds, so that the
/// program can do something else in between, for example look for signals: the place in the queue
/// stays for 10 ms. Writes of this thread through connections that use penholder need no lock of
/// their own meanwhile; those of other threads wait.
///
/// # Safety
///
/// The lock was made by [`penholder_lock_new`], and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_lock_acquire(
    lock: *mut PenholderLock,
    timeout: u64,
    pause: u64,
) -> c_int {
    call_with_code(|| {
        // SAFETY: see above.
        let lock = unsafe { lock.as_mut() }.ok_or(null("lock"))?;
        lock.acquire(milliseconds(timeout), milliseconds(pause))
    })
}

/// Releases the lock, from any thread; or gives up waiting for it. One that is not held stays so.
///
/// # Safety
///
/// The lock was made by [`penholder_lock_new`], and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_lock_release(lock: *mut PenholderLock) -> c_int {
    call(|| {
        // SAFETY: see above.
        let lock = unsafe { lock.as_mut() }.ok_or(null("lock"))?;
        match std::mem::replace(&mut lock.state, LockState::Idle) {
            LockState::Held(hold) => Ok(hold.release()?),
            LockState::Idle | LockState::Waiting(_) => Ok(()),
        }
    })
}

/// Frees a lock, and releases it if it is held; NULL is allowed.
///
/// # Safety
///
/// The lock was made by [`penholder_lock_new`], and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_lock_free(lock: *mut PenholderLock) {
    if !lock.is_null() {
        // SAFETY: made by `Box::into_raw`, see above.
        let lock = unsafe { Box::from_raw(lock) };
        // Nothing is left to be told.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(lock)));
    }
}

impl PenholderLock {
    fn acquire(&mut self, timeout: Duration, pause: Duration) -> Result<c_int, Failure> {
        let mut waiting = match std::mem::replace(&mut self.state, LockState::Idle) {
            LockState::Held(hold) if hold.is_ours() => {
                self.state = LockState::Held(hold);
                return Err(Failure::misuse(
                    "acquire: this lock is held already; make another one to take it again",
                ));
            }
            // What is held is the parent's.
            LockState::Idle | LockState::Held(_) => ThreadWait::begin(&self.locker, timeout),
            LockState::Waiting(waiting) => waiting,
        };
        if let Some(hold) = waiting.wait(pause)? {
            self.state = LockState::Held(hold);
            return Ok(PENHOLDER_OK);
        }
        self.state = LockState::Waiting(waiting);
        Ok(PENHOLDER_AGAIN)
    }
}

// ---- looking ---------------------------------------------------------------------

/// Stores the lock of a database as JSON, as `penholder status --json` prints it. It only looks.
///
/// # Safety
///
/// The texts are C texts, and there is room for a pointer at `json`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_status(
    database: *const c_char,
    options: *const PenholderOptions,
    json: *mut *mut c_char,
) -> c_int {
    call(|| {
        // SAFETY: see above.
        let (_, locker) = unsafe { locker(database, options) }?;
        let status = serde_json::to_string(&locker.status()?);
        let status = status.map_err(|error| Failure::other(format!("status: {error}")))?;
        // SAFETY: see above.
        unsafe { store_text(json, &status) }
    })
}

// ---- waiting for commits ---------------------------------------------------------

/// Makes a watch of a database, for the commits after the one that `since` stands for; NULL for those
/// from now on. `options` may be NULL.
///
/// # Safety
///
/// The texts are C texts, and there is room for a pointer at `watch`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_watch_new(
    database: *const c_char,
    options: *const PenholderOptions,
    since: *const c_char,
    watch: *mut *mut PenholderWatch,
) -> c_int {
    call(|| {
        // SAFETY: see above.
        let (path, locker) = unsafe { locker(database, options) }?;
        let mut new = CommitWatch::new(locker.lock_file(), &path)?;
        // SAFETY: see above.
        let since = match unsafe { text(since) } {
            None => new.token()?,
            Some(since) => token(since)?,
        };
        let new = Box::new(PenholderWatch { watch: new, since });
        // SAFETY: see above.
        unsafe { store(watch, Box::into_raw(new)) }
    })
}

/// Waits for the next commit, for up to `timeout` milliseconds; otherwise it returns
/// [`PENHOLDER_TIMEOUT`]. Several commits may count as one.
///
/// # Safety
///
/// The watch was made by [`penholder_watch_new`], and no other thread uses it meanwhile.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_watch_wait(watch: *mut PenholderWatch, timeout: u64) -> c_int {
    call_with_code(|| {
        // SAFETY: see above.
        let watch = unsafe { watch.as_mut() }.ok_or(null("watch"))?;
        let deadline = Deadline::after(milliseconds(timeout));
        match watch.watch.wait(watch.since, &deadline)? {
            Some(token) => {
                watch.since = token;
                Ok(PENHOLDER_OK)
            }
            None => Ok(PENHOLDER_TIMEOUT),
        }
    })
}

/// Stores the text that stands for the last commit which the watch has told, or from which on it
/// waits: for [`penholder_watch_new`], in any process.
///
/// # Safety
///
/// The watch was made by [`penholder_watch_new`], no other thread uses it meanwhile, and there is
/// room for a pointer at `token`.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_watch_token(
    watch: *const PenholderWatch,
    token: *mut *mut c_char,
) -> c_int {
    call(|| {
        // SAFETY: see above.
        let watch = unsafe { watch.as_ref() }.ok_or(null("watch"))?;
        // SAFETY: see above.
        unsafe { store_text(token, &watch.since.to_string()) }
    })
}

/// Frees a watch; NULL is allowed.
///
/// # Safety
///
/// The watch was made by [`penholder_watch_new`], and is not used any more.
#[unsafe(no_mangle)]
pub unsafe extern "C" fn penholder_watch_free(watch: *mut PenholderWatch) {
    if !watch.is_null() {
        // SAFETY: made by `Box::into_raw`, see above.
        let watch = unsafe { Box::from_raw(watch) };
        // Nothing is left to be told.
        let _ = panic::catch_unwind(AssertUnwindSafe(|| drop(watch)));
    }
}

// ---- arguments and results -------------------------------------------------------

fn call(body: impl FnOnce() -> Result<(), Failure>) -> c_int {
    call_with_code(|| body().map(|()| PENHOLDER_OK))
}

/// Runs the body of a function; if it fails, keeps the text and returns the code.
fn call_with_code(body: impl FnOnce() -> Result<c_int, Failure>) -> c_int {
    let done = panic::catch_unwind(AssertUnwindSafe(body)).unwrap_or_else(|_| {
        Err(Failure::other(
            "penholder panicked; please report it".to_owned(),
        ))
    });
    let failure = match done {
        Ok(code) => return code,
        Err(failure) => failure,
    };
    let last = LastError {
        text: c_text(failure.text()),
        json: c_text(&failure.json()),
    };
    // A thread that ends has no thread-locals any more.
    let _ = LAST.try_with(|kept| *kept.borrow_mut() = Some(last));
    failure.code()
}

fn null(argument: &str) -> Failure {
    Failure::misuse(&format!("{argument} is NULL; pass one"))
}

fn milliseconds(number: u64) -> Duration {
    match number {
        u64::MAX => Duration::MAX,
        number => Duration::from_millis(number),
    }
}

fn token(text: &CStr) -> Result<CommitToken, Failure> {
    let token = text.to_string_lossy().parse::<CommitToken>();
    token.map_err(|error| Failure::misuse(&error.to_string()))
}

/// # Safety
///
/// `text` is NULL or C text that is not changed meanwhile.
unsafe fn text<'a>(text: *const c_char) -> Option<&'a CStr> {
    // SAFETY: see above.
    (!text.is_null()).then(|| unsafe { CStr::from_ptr(text) })
}

/// Returns the path of the database with links resolved, as SQLite does, and the locker that the
/// options ask for.
///
/// # Safety
///
/// The texts are NULL or C texts, and the options NULL or whole.
unsafe fn locker(
    database: *const c_char,
    options: *const PenholderOptions,
) -> Result<(PathBuf, Locker), Failure> {
    // SAFETY: see above.
    let database = unsafe { text(database) }.ok_or(null("database"))?;
    let database = resolve(&penholder_vfs::path_of(database))?;
    let mut wanted = LockerOptions::default();
    // SAFETY: see above.
    if let Some(options) = unsafe { options.as_ref() } {
        wanted.allow_network = options.allow_network != 0;
        for (name, value) in [
            ("penholder_label", options.label),
            ("penholder_lock", options.lock_file),
            ("penholder_policy", options.policy),
        ] {
            // SAFETY: see above.
            if let Some(value) = unsafe { text(value) } {
                wanted
                    .set(name, value)
                    .map_err(|why| Failure::misuse(&why))?;
            }
        }
    }
    let locker = wanted.locker(&database).map_err(Failure::other)?;
    Ok((database, locker))
}

/// A database that does not exist yet is in a directory that does.
fn resolve(database: &Path) -> Result<PathBuf, Failure> {
    if let Ok(path) = database.canonicalize() {
        return Ok(path);
    }
    let failed = |error: std::io::Error| {
        Failure::other(format!(
            "open: {}: {error}; check the path",
            penholder_core::shown_path(database)
        ))
    };
    let name = database
        .file_name()
        .ok_or_else(|| Failure::misuse("the path names no file; give that of a database"))?;
    let absolute = std::path::absolute(database).map_err(failed)?;
    let directory = absolute.parent().unwrap_or(Path::new("/"));
    Ok(directory.canonicalize().map_err(failed)?.join(name))
}

/// # Safety
///
/// There is room for a pointer at `to`, or it is NULL.
unsafe fn store<T>(to: *mut *mut T, value: *mut T) -> Result<(), Failure> {
    if to.is_null() {
        // SAFETY: made by `Box::into_raw` by the caller, and known to nobody else.
        drop(unsafe { Box::from_raw(value) });
        return Err(null("where the result is stored"));
    }
    // SAFETY: see above.
    unsafe { to.write(value) };
    Ok(())
}

/// # Safety
///
/// There is room for a pointer at `to`, or it is NULL.
unsafe fn store_text(to: *mut *mut c_char, text: &str) -> Result<(), Failure> {
    if to.is_null() {
        return Err(null("where the result is stored"));
    }
    // SAFETY: see above.
    unsafe { to.write(c_text(text).into_raw()) };
    Ok(())
}

/// Makes C text; it ends before a NUL.
fn c_text(text: &str) -> CString {
    let text = text.split('\0').next().unwrap_or_default();
    CString::new(text).unwrap_or_default()
}
