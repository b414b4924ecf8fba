#![expect(unsafe_code, reason = "SQLite calls these functions with pointers")]
//! The VFS: registered once over SQLite's default VFS, to which it passes everything but the
//! opening of files.

use std::ffi::{CStr, c_char, c_double, c_int, c_void};
use std::fmt;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering::SeqCst};
use std::time::Duration;

use crate::api::{Api, File, HostApi, IOERR, Symbol, SystemCall, Vfs};
use crate::locks::{Code, OK};
use crate::shim;
use crate::{fork, gate};

/// The name of the VFS.
pub const NAME: &CStr = c"penholder";

/// SQLite's own VFSs, whose locks are as this crate expects.
const KNOWN: [&CStr; 2] = [c"unix", c"win32"];

/// Why the VFS could not be registered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// SQLite was built without support for threads.
    WithoutThreads,
    /// There is no default VFS.
    NoVfs,
    /// SQLite's default VFS is not its own one for this system: its locks are not known.
    OtherVfs,
    /// A VFS of this name is registered already, by someone else.
    NameTaken,
    /// The system does not call us at a fork.
    NoForkHandler,
    /// SQLite refused it, with this result code.
    Refused(i32),
}

impl fmt::Display for RegisterError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WithoutThreads => f.write_str("SQLite was built without support for threads"),
            Self::NoVfs => f.write_str("SQLite has no default VFS"),
            Self::OtherVfs => f.write_str("SQLite's default VFS is another one than its own"),
            Self::NameTaken => f.write_str("another VFS has the name `penholder`"),
            Self::NoForkHandler => f.write_str("the system cannot tell of a fork"),
            Self::Refused(code) => write!(f, "SQLite refused the VFS (result code {code})"),
        }
    }
}

impl std::error::Error for RegisterError {}

/// The VFS, and what it needs. SQLite keeps a pointer to it for as long as the program runs, and
/// links it into its list, under a mutex of its own.
#[repr(C)]
struct Registered {
    ours: Vfs,
    /// The functions of SQLite.
    api: Api,
    /// `None` if the program takes the write lock itself.
    host: Option<HostApi>,
}

/// Null until it is registered.
static REGISTERED: AtomicPtr<Registered> = AtomicPtr::new(ptr::null_mut());

/// Registers the VFS under [`NAME`], over the VFS that is SQLite's default now. It does not become
/// the default itself. Later calls only look whether the default is still the same.
///
/// # Errors
///
/// See [`RegisterError`]. A connection is then to be opened with SQLite's default VFS: a program
/// that makes another one its default, at any time, wants that.
pub fn register(api: &Api) -> Result<(), RegisterError> {
    register_with(api, None)
}

/// Registers the VFS for a program that knows nothing of penholder: each connection takes
/// penholder's write lock when SQLite takes its own one. See [`Gate`](crate::Gate).
///
/// # Errors
///
/// As [`register`].
pub fn register_with_gates(api: &Api, host: &HostApi) -> Result<(), RegisterError> {
    register_with(api, Some(*host))
}

/// Makes the VFS, which is registered, SQLite's default one.
///
/// # Errors
///
/// As [`register`].
pub fn make_default(api: &Api) -> Result<(), RegisterError> {
    let Some(made) = made() else {
        return Err(RegisterError::NoVfs);
    };
    // SAFETY: never freed, and `Registered` begins with the VFS.
    match unsafe { (api.vfs_register)(made.cast(), 1) } {
        OK => Ok(()),
        code => Err(RegisterError::Refused(code)),
    }
}

fn register_with(api: &Api, host: Option<HostApi>) -> Result<(), RegisterError> {
    if let Some(made) = made() {
        return enter(made, api);
    }
    let new = match prepare(*api, host) {
        Ok(new) => Box::into_raw(Box::new(new)),
        // Another thread may have been first.
        Err(error) => return made().map_or(Err(error), |made| enter(made, api)),
    };
    let former = REGISTERED.compare_exchange(ptr::null_mut(), new, SeqCst, SeqCst);
    if former.is_err() {
        // Another thread was first.
        // SAFETY: made by `Box::into_raw` above, and known to nobody else.
        drop(unsafe { Box::from_raw(new) });
    }
    enter(former.err().unwrap_or(new), api)
}

/// Returns what is registered or about to be.
fn made() -> Option<*mut Registered> {
    let made = REGISTERED.load(SeqCst);
    (!made.is_null()).then_some(made)
}

/// Enters it in SQLite's list, unless it is there. Two threads may both do it: SQLite takes it
/// out before it puts it in, under a mutex of its own. No lock of ours, because a child that is
/// forked meanwhile would wait for a thread that it does not have.
fn enter(made: *mut Registered, api: &Api) -> Result<(), RegisterError> {
    // SAFETY: `Registered` begins with the VFS.
    let ours = unsafe { &raw mut (*made).ours };
    // SAFETY: null asks for the default.
    let default = unsafe { (api.vfs_find)(ptr::null()) };
    // SAFETY: ours.
    if default != unsafe { below(ours) } && default != ours {
        return Err(RegisterError::OtherVfs);
    }
    // SAFETY: C text; SQLite's list has a mutex.
    if !unsafe { (api.vfs_find)(NAME.as_ptr()) }.is_null() {
        return Ok(());
    }
    // SAFETY: never freed, so it stays where it is for as long as the program runs.
    match unsafe { (api.vfs_register)(ours, 0) } {
        OK => Ok(()),
        code => Err(RegisterError::Refused(code)),
    }
}

fn prepare(api: Api, host: Option<HostApi>) -> Result<Registered, RegisterError> {
    // SAFETY: a function of SQLite without arguments.
    if unsafe { (api.threadsafe)() } == 0 {
        return Err(RegisterError::WithoutThreads);
    }
    // SAFETY: C text; SQLite's list has a mutex.
    if !unsafe { (api.vfs_find)(NAME.as_ptr()) }.is_null() {
        return Err(RegisterError::NameTaken);
    }
    // SAFETY: null asks for the default.
    let below = unsafe { (api.vfs_find)(ptr::null()) };
    // SAFETY: null, or registered for as long as the program runs.
    let Some(base) = (unsafe { below.as_ref() }) else {
        return Err(RegisterError::NoVfs);
    };
    // SAFETY: the name of a registered VFS is C text.
    let name = unsafe { CStr::from_ptr(base.name) };
    if base.open.is_none() || !KNOWN.contains(&name) {
        return Err(RegisterError::OtherVfs);
    }
    if !fork::watch() {
        return Err(RegisterError::NoForkHandler);
    }
    let ours = over(base, below);
    Ok(Registered { ours, api, host })
}

/// Returns a VFS over another one: with its version, and without the methods that it has not.
fn over(base: &Vfs, below: *mut Vfs) -> Vfs {
    Vfs {
        version: base.version.min(3),
        size_of_file: shim::size_of_file(base.size_of_file),
        max_pathname: base.max_pathname,
        next: ptr::null_mut(),
        name: NAME.as_ptr(),
        app_data: below.cast(),
        open: Some(open),
        delete: base.delete.and(Some(delete)),
        access: base.access.and(Some(access)),
        full_pathname: base.full_pathname.and(Some(full_pathname)),
        dl_open: base.dl_open.and(Some(dl_open)),
        dl_error: base.dl_error.and(Some(dl_error)),
        dl_sym: base.dl_sym.and(Some(dl_sym)),
        dl_close: base.dl_close.and(Some(dl_close)),
        randomness: base.randomness.and(Some(randomness)),
        sleep: base.sleep.and(Some(sleep)),
        current_time: base.current_time.and(Some(current_time)),
        get_last_error: base.get_last_error.and(Some(get_last_error)),
        current_time_int64: from_version(base, 2, base.current_time_int64)
            .and(Some(current_time_int64)),
        set_system_call: from_version(base, 3, base.set_system_call).and(Some(set_system_call)),
        get_system_call: from_version(base, 3, base.get_system_call).and(Some(get_system_call)),
        next_system_call: from_version(base, 3, base.next_system_call).and(Some(next_system_call)),
    }
}

/// Returns a method that only a VFS of this version has.
fn from_version<T>(base: &Vfs, version: c_int, method: Option<T>) -> Option<T> {
    method.filter(|_| base.version >= version)
}

unsafe extern "C" fn open(
    vfs: *mut Vfs,
    name: *const c_char,
    file: *mut File,
    flags: c_int,
    out_flags: *mut c_int,
) -> Code {
    // SAFETY: null, or what `register` made, which is never freed.
    let Some(registered) = (unsafe { REGISTERED.load(SeqCst).as_ref() }) else {
        return IOERR;
    };
    // SAFETY: ours, see `over`.
    let below = unsafe { below(vfs) };
    let database_of = registered.api.filename_database;
    // SAFETY: SQLite's own arguments.
    let code = unsafe { shim::open(below, name, file, flags, out_flags, database_of) };
    match &registered.host {
        // SAFETY: just opened, with this name.
        Some(host) if code == OK => unsafe { shim::add_gate(file, name, host) },
        _ => code,
    }
}

/// The busy handler of a connection, and SQLite itself where it waits for others, sleep by this
/// method: so that sleep may end as soon as the write lock is the connection's.
unsafe extern "C" fn sleep(vfs: *mut Vfs, micros: c_int) -> c_int {
    if gate::sleep(Duration::from_micros(u64::try_from(micros).unwrap_or(0))) {
        return micros;
    }
    // SAFETY: SQLite passes the VFS that has this method: ours.
    let below = unsafe { below(vfs) };
    // SAFETY: registered for as long as the program runs.
    match (unsafe { &*below }).sleep {
        // SAFETY: SQLite's own arguments.
        Some(method) => unsafe { method(below, micros) },
        None => 0,
    }
}

/// # Safety
///
/// `vfs` is ours.
unsafe fn below(vfs: *mut Vfs) -> *mut Vfs {
    // SAFETY: see above.
    unsafe { (*vfs).app_data }.cast()
}

/// Makes a method that calls the one of the VFS below, with that VFS itself: it may keep
/// something of its own in it.
macro_rules! forward {
    ($($name:ident($($arg:ident: $type:ty),*) $(-> $result:ty)?, $otherwise:expr;)*) => {$(
        unsafe extern "C" fn $name(vfs: *mut Vfs, $($arg: $type),*) $(-> $result)? {
            // SAFETY: SQLite passes the VFS that has this method: ours.
            let below = unsafe { below(vfs) };
            // SAFETY: registered for as long as the program runs.
            match (unsafe { &*below }).$name {
                // SAFETY: SQLite's own arguments.
                Some(method) => unsafe { method(below, $($arg),*) },
                None => $otherwise,
            }
        }
    )*};
}

forward! {
    delete(name: *const c_char, syncs: c_int) -> Code, IOERR;
    access(name: *const c_char, flags: c_int, answer: *mut c_int) -> Code, IOERR;
    full_pathname(name: *const c_char, len: c_int, to: *mut c_char) -> Code, IOERR;
    dl_open(name: *const c_char) -> *mut c_void, ptr::null_mut();
    dl_error(len: c_int, to: *mut c_char), ();
    dl_sym(library: *mut c_void, symbol: *const c_char) -> Symbol, None;
    dl_close(library: *mut c_void), ();
    randomness(len: c_int, to: *mut c_char) -> c_int, 0;
    current_time(to: *mut c_double) -> Code, IOERR;
    get_last_error(len: c_int, to: *mut c_char) -> c_int, 0;
    current_time_int64(to: *mut i64) -> Code, IOERR;
    set_system_call(name: *const c_char, call: SystemCall) -> Code, IOERR;
    get_system_call(name: *const c_char) -> SystemCall, None;
    next_system_call(name: *const c_char) -> *const c_char, ptr::null();
}
