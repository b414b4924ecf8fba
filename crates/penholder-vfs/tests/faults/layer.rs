#![allow(unsafe_code, reason = "a VFS of SQLite is a table of C functions")]
//! A VFS under the name of SQLite's own, and over it: it fails on command, records what is
//! written, and does not wait for the disk.
//!
//! What it does is a matter of the thread, so that tests can run side by side.

use std::cell::RefCell;
use std::ffi::{CStr, c_char, c_int, c_void};
use std::sync::Once;
use std::{ptr, slice};

use rusqlite::ffi;

/// A kind of calls that fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Call {
    Read,
    Write,
    Truncate,
    Sync,
    FileSize,
    Lock,
    Unlock,
    FileControl,
    ShmMap,
    ShmLock,
    ShmUnlock,
    Open,
    Delete,
    Access,
}

/// The part of a write that is done before it fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Done {
    Nothing,
    Half,
    All,
}

/// Which calls fail, and how.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Fault {
    pub(crate) call: Call,
    /// The number of the call, from 1.
    pub(crate) nth: u32,
    /// Whether all that come after it fail too.
    pub(crate) lasts: bool,
    pub(crate) code: c_int,
    pub(crate) done: Done,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FileKind {
    Database,
    Wal,
    Other,
}

/// Something that happened to a file.
#[derive(Debug, Clone)]
pub(crate) enum Event {
    Write(FileKind, usize, Vec<u8>),
    Truncate(FileKind, usize),
    Sync(FileKind),
    /// The commit with this number was acknowledged.
    Acknowledged(u32),
}

#[derive(Debug, Default)]
struct Plan {
    fault: Option<Fault>,
    calls: u32,
    failed: u32,
    events: Option<Vec<Event>>,
    /// Calls that lock or unlock the WAL index, and writes to the WAL.
    shm_locks: u32,
    wal_writes: u32,
}

thread_local! {
    static PLAN: RefCell<Plan> = RefCell::default();
}

/// Lets calls of this thread fail from now on.
pub(crate) fn fail(fault: Fault) {
    PLAN.with_borrow_mut(|plan| {
        *plan = Plan {
            fault: Some(fault),
            ..Plan::default()
        };
    });
}

/// Lets no call of this thread fail any more; returns how many have failed.
pub(crate) fn heal() -> u32 {
    PLAN.take().failed
}

/// Returns how many calls of this thread have failed.
pub(crate) fn failed() -> u32 {
    PLAN.with_borrow(|plan| plan.failed)
}

/// Records what this thread does to files.
pub(crate) fn record() {
    PLAN.with_borrow_mut(|plan| plan.events = Some(Vec::new()));
}

/// Returns what was recorded.
pub(crate) fn recorded() -> Vec<Event> {
    PLAN.take().events.unwrap_or_default()
}

/// Records an event, if events are recorded.
pub(crate) fn note(event: Event) {
    PLAN.with_borrow_mut(|plan| {
        if let Some(events) = &mut plan.events {
            events.push(event);
        }
    });
}

/// Returns how often this thread locked or unlocked the WAL index, and wrote to the WAL, since
/// the last time.
pub(crate) fn take_counts() -> (u32, u32) {
    PLAN.with_borrow_mut(|plan| {
        let counts = (plan.shm_locks, plan.wal_writes);
        (plan.shm_locks, plan.wal_writes) = (0, 0);
        counts
    })
}

/// Returns the fault if this call fails.
fn next_fault(call: Call) -> Option<Fault> {
    PLAN.with_borrow_mut(|plan| {
        let fault = plan.fault.filter(|fault| fault.call == call)?;
        plan.calls += 1;
        let fails = plan.calls == fault.nth || fault.lasts && plan.calls > fault.nth;
        plan.failed += u32::from(fails);
        fails.then_some(fault)
    })
}

// ---- the VFS ------------------------------------------------------------------------------------

/// What SQLite allocates for a file; that of the VFS below follows it.
#[repr(C)]
struct Layer {
    base: ffi::sqlite3_file,
    kind: FileKind,
}

/// Registers it as the default.
pub(crate) fn install() {
    static INSTALLED: Once = Once::new();
    INSTALLED.call_once(|| {
        // SAFETY: null asks for the default, which lives as long as the program.
        let below = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
        // SAFETY: as above.
        let mut ours = unsafe { *below };
        ours.szOsFile += c_int::try_from(size_of::<Layer>()).unwrap();
        ours.pNext = ptr::null_mut();
        ours.pAppData = below.cast();
        ours.xOpen = Some(open);
        ours.xDelete = Some(delete);
        ours.xAccess = Some(access);
        let ours = Box::leak(Box::new(ours));
        // SAFETY: never freed; its other methods do not look at `pAppData`.
        let code = unsafe { ffi::sqlite3_vfs_register(ours, 1) };
        assert_eq!(code, ffi::SQLITE_OK);
    });
}

/// Returns the VFS below.
fn below(vfs: *mut ffi::sqlite3_vfs) -> *mut ffi::sqlite3_vfs {
    // SAFETY: ours, of `install`.
    unsafe { (*vfs).pAppData }.cast()
}

unsafe extern "C" fn open(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    file: *mut ffi::sqlite3_file,
    flags: c_int,
    out_flags: *mut c_int,
) -> c_int {
    let kind = match flags & (ffi::SQLITE_OPEN_MAIN_DB | ffi::SQLITE_OPEN_WAL) {
        ffi::SQLITE_OPEN_MAIN_DB => FileKind::Database,
        ffi::SQLITE_OPEN_WAL => FileKind::Wal,
        _ => FileKind::Other,
    };
    let methods = ptr::null();
    let layer = Layer {
        base: ffi::sqlite3_file { pMethods: methods },
        kind,
    };
    // SAFETY: SQLite has allocated room for it.
    unsafe { file.cast::<Layer>().write(layer) };
    if let Some(fault) = next_fault(Call::Open) {
        return fault.code;
    }
    let (below, real) = (below(vfs), real(file));
    // SAFETY: a registered VFS.
    let open = unsafe { (*below).xOpen }.unwrap();
    // SAFETY: SQLite's own arguments, and room for a file of that VFS.
    let code = unsafe { open(below, name, real, flags, out_flags) };
    // SAFETY: set by that VFS, or still null.
    if !unsafe { (*real).pMethods }.is_null() {
        // SAFETY: ours.
        unsafe { (*file).pMethods = &raw const METHODS };
    }
    code
}

unsafe extern "C" fn delete(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    syncs: c_int,
) -> c_int {
    if let Some(fault) = next_fault(Call::Delete) {
        return fault.code;
    }
    let below = below(vfs);
    // SAFETY: a registered VFS.
    let delete = unsafe { (*below).xDelete }.unwrap();
    // SAFETY: SQLite's own arguments.
    unsafe { delete(below, name, syncs) }
}

unsafe extern "C" fn access(
    vfs: *mut ffi::sqlite3_vfs,
    name: *const c_char,
    flags: c_int,
    answer: *mut c_int,
) -> c_int {
    if let Some(fault) = next_fault(Call::Access) {
        return fault.code;
    }
    let below = below(vfs);
    // SAFETY: a registered VFS.
    let access = unsafe { (*below).xAccess }.unwrap();
    // SAFETY: SQLite's own arguments.
    unsafe { access(below, name, flags, answer) }
}

// ---- files -----------------------------------------------------------------------------------------

/// Returns the file of the VFS below.
fn real(file: *mut ffi::sqlite3_file) -> *mut ffi::sqlite3_file {
    file.cast::<Layer>().wrapping_add(1).cast()
}

fn kind(file: *mut ffi::sqlite3_file) -> FileKind {
    // SAFETY: ours, opened by `open`.
    unsafe { (*file.cast::<Layer>()).kind }
}

fn methods(file: *mut ffi::sqlite3_file) -> &'static ffi::sqlite3_io_methods {
    // SAFETY: of an open file of the VFS below.
    let methods = unsafe { (*real(file)).pMethods };
    // SAFETY: the tables of SQLite's own VFS live as long as the program.
    unsafe { &*methods }
}

/// Makes methods that may fail, and otherwise are those of the VFS below.
macro_rules! forward {
    ($($name:ident: $method:ident($($arg:ident: $type:ty),*), $call:expr;)*) => {$(
        unsafe extern "C" fn $name(file: *mut ffi::sqlite3_file, $($arg: $type),*) -> c_int {
            if let Some(fault) = $call.and_then(next_fault) {
                return fault.code;
            }
            let method = methods(file).$method.unwrap();
            // SAFETY: SQLite's own arguments.
            unsafe { method(real(file), $($arg),*) }
        }
    )*};
}

forward! {
    close: xClose(), None::<Call>;
    read: xRead(to: *mut c_void, len: c_int, at: i64), Some(Call::Read);
    file_size: xFileSize(len: *mut i64), Some(Call::FileSize);
    lock: xLock(level: c_int), Some(Call::Lock);
    unlock: xUnlock(level: c_int), Some(Call::Unlock);
    check_reserved_lock: xCheckReservedLock(answer: *mut c_int), None::<Call>;
    file_control: xFileControl(op: c_int, argument: *mut c_void), Some(Call::FileControl);
    sector_size: xSectorSize(), None::<Call>;
    device_characteristics: xDeviceCharacteristics(), None::<Call>;
    shm_map: xShmMap(region: c_int, size: c_int, extends: c_int, at: *mut *mut c_void),
        Some(Call::ShmMap);
    shm_unmap: xShmUnmap(deletes: c_int), None::<Call>;
    fetch: xFetch(at: i64, len: c_int, to: *mut *mut c_void), None::<Call>;
    unfetch: xUnfetch(at: i64, from: *mut c_void), None::<Call>;
}

unsafe extern "C" fn write(
    file: *mut ffi::sqlite3_file,
    from: *const c_void,
    len: c_int,
    at: i64,
) -> c_int {
    let (kind, method) = (kind(file), methods(file).xWrite.unwrap());
    if kind == FileKind::Wal {
        PLAN.with_borrow_mut(|plan| plan.wal_writes += 1);
    }
    let fault = next_fault(Call::Write);
    let len = match fault.map(|fault| fault.done) {
        Some(Done::Nothing) => 0,
        Some(Done::Half) => len / 2,
        Some(Done::All) | None => len,
    };
    if len > 0 {
        // SAFETY: SQLite passes at least that many bytes.
        let bytes =
            unsafe { slice::from_raw_parts(from.cast::<u8>(), usize::try_from(len).unwrap()) };
        note(Event::Write(
            kind,
            usize::try_from(at).unwrap(),
            bytes.to_vec(),
        ));
        // SAFETY: SQLite's own arguments, or fewer bytes.
        let code = unsafe { method(real(file), from, len, at) };
        if code != ffi::SQLITE_OK {
            return code;
        }
    }
    fault.map_or(ffi::SQLITE_OK, |fault| fault.code)
}

unsafe extern "C" fn truncate(file: *mut ffi::sqlite3_file, len: i64) -> c_int {
    if let Some(fault) = next_fault(Call::Truncate) {
        return fault.code;
    }
    note(Event::Truncate(kind(file), usize::try_from(len).unwrap()));
    let method = methods(file).xTruncate.unwrap();
    // SAFETY: SQLite's own arguments.
    unsafe { method(real(file), len) }
}

unsafe extern "C" fn sync(file: *mut ffi::sqlite3_file, _: c_int) -> c_int {
    if let Some(fault) = next_fault(Call::Sync) {
        return fault.code;
    }
    note(Event::Sync(kind(file)));
    // The machine does not fail in these tests.
    ffi::SQLITE_OK
}

unsafe extern "C" fn shm_lock(
    file: *mut ffi::sqlite3_file,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> c_int {
    PLAN.with_borrow_mut(|plan| plan.shm_locks += 1);
    let call = if flags & ffi::SQLITE_SHM_LOCK != 0 {
        Call::ShmLock
    } else {
        Call::ShmUnlock
    };
    if let Some(fault) = next_fault(call) {
        return fault.code;
    }
    let method = methods(file).xShmLock.unwrap();
    // SAFETY: SQLite's own arguments.
    unsafe { method(real(file), first, count, flags) }
}

unsafe extern "C" fn shm_barrier(file: *mut ffi::sqlite3_file) {
    let method = methods(file).xShmBarrier.unwrap();
    // SAFETY: SQLite's own argument.
    unsafe { method(real(file)) };
}

static METHODS: ffi::sqlite3_io_methods = ffi::sqlite3_io_methods {
    iVersion: 3,
    xClose: Some(close),
    xRead: Some(read),
    xWrite: Some(write),
    xTruncate: Some(truncate),
    xSync: Some(sync),
    xFileSize: Some(file_size),
    xLock: Some(lock),
    xUnlock: Some(unlock),
    xCheckReservedLock: Some(check_reserved_lock),
    xFileControl: Some(file_control),
    xSectorSize: Some(sector_size),
    xDeviceCharacteristics: Some(device_characteristics),
    xShmMap: Some(shm_map),
    xShmLock: Some(shm_lock),
    xShmBarrier: Some(shm_barrier),
    xShmUnmap: Some(shm_unmap),
    xFetch: Some(fetch),
    xUnfetch: Some(unfetch),
};

/// Returns the name of the default VFS.
pub(crate) fn default_name() -> String {
    // SAFETY: null asks for the default.
    let vfs = unsafe { ffi::sqlite3_vfs_find(ptr::null()) };
    // SAFETY: registered, with a name.
    let name = unsafe { (*vfs).zName };
    // SAFETY: the name of a registered VFS is C text.
    unsafe { CStr::from_ptr(name) }.to_str().unwrap().to_owned()
}
