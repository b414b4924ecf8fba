#![expect(unsafe_code, reason = "SQLite calls these functions with pointers")]
//! The files as SQLite sees them: a database file or a WAL of ours, and behind it that of the
//! VFS below.
//!
//! Each function is a method of `sqlite3_io_methods`, and is called as `sqlite3.h` says: with a
//! file that this VFS has opened, by one thread at a time, and not after it was closed.

use std::ffi::{CStr, c_char, c_int, c_void};
use std::ptr;
use std::slice;
use std::sync::Arc;

use crate::api::{
    CANTOPEN, FCNTL_PDB, File, HostApi, IOERR, IoMethods, OPEN_MAIN_DB, OPEN_WAL, SHM_EXCLUSIVE,
    SHM_LOCK, Vfs,
};
use crate::database_file::DatabaseFile;
use crate::gate::Gate;
use crate::locker_options::LockerOptions;
use crate::locks::{Code, Mode, OK, Range};
use crate::real_file::RealFile;
use crate::{last_error, open_files, sys};

/// What SQLite allocates for a file of ours. The file of the VFS below follows it.
#[repr(C)]
struct Shim {
    base: File,
    kind: Kind,
    /// Of `Arc::into_raw`: the database file, or the one that this WAL belongs to; null for none.
    database: *const DatabaseFile,
    /// Of `Arc::into_raw`; null if the connection takes the write lock itself, or never.
    gate: *const Gate,
    real: *mut File,
}

#[repr(C)]
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Database,
    Wal,
}

/// How many bytes SQLite allocates for a file, if the VFS below wants `below`.
pub(crate) fn size_of_file(below: c_int) -> c_int {
    c_int::try_from(size_of::<Shim>()).map_or(below, |ours| ours.saturating_add(below))
}

/// Opens a file. A database or a WAL gets our methods, anything else only those of the VFS below.
///
/// # Safety
///
/// As `xOpen`: `file` has as many bytes as [`size_of_file`] says; `below` is a registered VFS.
pub(crate) unsafe fn open(
    below: *mut Vfs,
    name: *const c_char,
    file: *mut File,
    flags: c_int,
    out_flags: *mut c_int,
    database_of: unsafe extern "C" fn(*const c_char) -> *const c_char,
) -> Code {
    // SAFETY: registered, see above.
    let Some(open) = (unsafe { &*below }).open else {
        return IOERR;
    };
    let kind = match flags & (OPEN_MAIN_DB | OPEN_WAL) {
        OPEN_MAIN_DB if !name.is_null() => {
            last_error::clear();
            Kind::Database
        }
        OPEN_WAL if !name.is_null() => Kind::Wal,
        // SAFETY: SQLite's own arguments, and room for at least a file of that VFS.
        _ => return unsafe { open(below, name, file, flags, out_flags) },
    };
    let shim = file.cast::<Shim>();
    // SAFETY: there is room for both, see above.
    let real = unsafe { shim.add(1) }.cast::<File>();
    let new = Shim {
        base: File {
            methods: ptr::null(),
        },
        kind,
        database: ptr::null(),
        gate: ptr::null(),
        real,
    };
    // SAFETY: room for it, see above.
    unsafe { shim.write(new) };
    let closed = File {
        methods: ptr::null(),
    };
    // SAFETY: as above: a file that could not be opened has no methods.
    unsafe { real.write(closed) };
    // SAFETY: SQLite's own arguments, and a file of the right size.
    let code = unsafe { open(below, name, real, flags, out_flags) };
    // SAFETY: the method has set it, or left it as it was.
    let methods = unsafe { (*real).methods };
    // SAFETY: null, or the methods of an open file.
    let Some(methods) = (unsafe { methods.as_ref() }) else {
        return code;
    };
    // SAFETY: ours, written above.
    let shim = unsafe { &mut *shim };
    shim.base.methods = methods_over(methods);
    if code != OK {
        return code;
    }
    // SAFETY: just opened; it is closed by `close` only.
    let Some(real) = (unsafe { RealFile::new(real) }) else {
        return IOERR;
    };
    shim.database = match kind {
        Kind::Database => {
            // SAFETY: the name is C text that stays as long as the file is open.
            let name = unsafe { CStr::from_ptr(name) };
            let database = Arc::new(DatabaseFile::new(name, real));
            open_files::add(&database);
            Arc::into_raw(database)
        }
        Kind::Wal => {
            // SAFETY: the name of a WAL, which SQLite made from that of the database.
            let name = unsafe { database_of(name) };
            open_files::with_name(name).map_or(ptr::null(), Arc::into_raw)
        }
    };
    code
}

/// Gives a database that was just opened a gate; if its parameters are not right, it is closed.
///
/// # Safety
///
/// `file` is what [`open`] has just opened, by this name.
pub(crate) unsafe fn add_gate(file: *mut File, name: *const c_char, host: &HostApi) -> Code {
    // SAFETY: see above.
    let Some(shim) = (unsafe { database_shim(file) }) else {
        return OK;
    };
    // SAFETY: a file of ours, see `database_shim`.
    let Some(database) = (unsafe { &*shim }).shared_database() else {
        return OK;
    };
    // SAFETY: the name of an open database.
    let parameters = unsafe { host.parameters(name) };
    let path = sys::path_of(database.path());
    let options = LockerOptions::of_uri(&path, parameters);
    match options.and_then(|options| options.locker(&path)) {
        Ok(locker) => {
            let gate = Arc::into_raw(Gate::new(&database, locker, *host));
            // SAFETY: a file of ours, which nobody else uses yet.
            unsafe { (*shim).gate = gate };
            OK
        }
        Err(text) => {
            host.log(CANTOPEN, &text);
            last_error::set(text);
            // SAFETY: open, and SQLite does not close what could not be opened.
            unsafe { close(file) };
            // SAFETY: as above.
            unsafe { (*shim).base.methods = ptr::null() };
            CANTOPEN
        }
    }
}

/// Returns the file as ours, if it is a database file of ours.
///
/// # Safety
///
/// `file` is null or an open file of SQLite.
unsafe fn database_shim(file: *mut File) -> Option<*mut Shim> {
    // SAFETY: see above.
    let methods = unsafe { file.as_ref() }?.methods;
    if !METHODS.iter().any(|ours| ptr::eq(ours, methods)) {
        return None;
    }
    let shim = file.cast::<Shim>();
    // SAFETY: it has our methods, so it is a file of ours.
    let kind = unsafe { (*shim).kind };
    (kind == Kind::Database).then_some(shim)
}

/// Returns the gate of an open file, if it is a database file that has one.
///
/// # Safety
///
/// `file` is null or an open file of SQLite, of a connection that the caller may use.
pub unsafe fn gate_behind(file: *mut File) -> Option<Arc<Gate>> {
    // SAFETY: see above.
    let shim = unsafe { database_shim(file) }?;
    // SAFETY: a file of ours, which is open.
    unsafe { &*shim }.shared_gate()
}

/// Returns the database file behind an open file, if it is one of this VFS.
///
/// # Safety
///
/// `file` is null or an open file of SQLite.
pub unsafe fn file_behind(file: *mut File) -> Option<Arc<DatabaseFile>> {
    // SAFETY: see above.
    let methods = unsafe { file.as_ref() }?.methods;
    if !METHODS.iter().any(|ours| ptr::eq(ours, methods)) {
        return None;
    }
    // SAFETY: it has our methods, so it is a file of ours.
    let shim = unsafe { &*file.cast::<Shim>() };
    if shim.kind != Kind::Database {
        return None;
    }
    // SAFETY: of `Arc::into_raw`, and kept until the file is closed.
    unsafe { Arc::increment_strong_count(shim.database) };
    // SAFETY: counted for this.
    Some(unsafe { Arc::from_raw(shim.database) })
}

/// Our methods by version, and without a WAL index.
static METHODS: [IoMethods; 4] = [methods(1), methods(2), methods(3), WITHOUT_INDEX];

/// SQLite asks for the method whether there can be a WAL.
const WITHOUT_INDEX: IoMethods = IoMethods {
    shm_map: None,
    shm_lock: None,
    shm_barrier: None,
    shm_unmap: None,
    ..methods(3)
};

/// Returns the methods for a file over one with these: never of a higher version.
fn methods_over(below: &IoMethods) -> &'static IoMethods {
    let [first, second, third, without_index] = &METHODS;
    match (below.version, below.shm_map) {
        (..2, _) | (2, None) => first,
        (2, Some(_)) => second,
        (_, Some(_)) => third,
        (_, None) => without_index,
    }
}

const fn methods(version: c_int) -> IoMethods {
    IoMethods {
        version,
        close: Some(close),
        read: Some(read),
        write: Some(write),
        truncate: Some(truncate),
        sync: Some(sync),
        file_size: Some(file_size),
        lock: Some(lock),
        unlock: Some(unlock),
        check_reserved_lock: Some(check_reserved_lock),
        file_control: Some(file_control),
        sector_size: Some(sector_size),
        device_characteristics: Some(device_characteristics),
        shm_map: Some(shm_map),
        shm_lock: Some(shm_lock),
        shm_barrier: Some(shm_barrier),
        shm_unmap: Some(shm_unmap),
        fetch: Some(fetch),
        unfetch: Some(unfetch),
    }
}

/// Returns the file of ours that SQLite passes, and the one below.
///
/// # Safety
///
/// `file` is an open file of this VFS.
unsafe fn parts<'a>(file: *mut File) -> (&'a Shim, RealFile) {
    // SAFETY: see above.
    let shim = unsafe { &*file.cast::<Shim>() };
    // SAFETY: opened with ours, and closed with it.
    let real = unsafe { RealFile::new(shim.real) };
    #[expect(clippy::expect_used, reason = "set when it was opened, and never null")]
    let real = real.expect("the file below");
    (shim, real)
}

impl Shim {
    fn database(&self) -> Option<&DatabaseFile> {
        // SAFETY: null, or kept by this file until it is closed.
        unsafe { self.database.as_ref() }
    }

    fn shared_database(&self) -> Option<Arc<DatabaseFile>> {
        if self.database.is_null() {
            return None;
        }
        // SAFETY: of `Arc::into_raw`, and kept until the file is closed.
        unsafe { Arc::increment_strong_count(self.database) };
        // SAFETY: counted for this.
        Some(unsafe { Arc::from_raw(self.database) })
    }

    fn shared_gate(&self) -> Option<Arc<Gate>> {
        if self.gate.is_null() {
            return None;
        }
        // SAFETY: of `Arc::into_raw`, and kept until the file is closed.
        unsafe { Arc::increment_strong_count(self.gate) };
        // SAFETY: counted for this.
        Some(unsafe { Arc::from_raw(self.gate) })
    }

    /// Returns the database of a WAL.
    fn of_wal(&self) -> Option<&DatabaseFile> {
        self.database().filter(|_| self.kind == Kind::Wal)
    }

    /// Returns the database of a database file.
    fn of_database(&self) -> Option<&DatabaseFile> {
        self.database().filter(|_| self.kind == Kind::Database)
    }

    /// Writes the frames that are collected for this WAL.
    fn flush(&self, real: RealFile) -> Code {
        self.of_wal().map_or(OK, |database| {
            database
                .lock_joiner()
                .flush(|bytes, at| real.write_bytes(bytes, at))
        })
    }
}

unsafe extern "C" fn close(file: *mut File) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    if shim.database.is_null() {
        return real.close();
    }
    // SAFETY: of `Arc::into_raw`, and not used any more.
    let database = unsafe { Arc::from_raw(shim.database) };
    if shim.kind == Kind::Wal {
        // What was not committed is not needed any more.
        database.lock_joiner().discard();
        return real.close();
    }
    open_files::remove(&database);
    let gate = shim.shared_gate();
    if let Some(gate) = &gate {
        // SAFETY: of `Arc::into_raw`, and not used any more.
        drop(unsafe { Arc::from_raw(shim.gate) });
        // What it keeps for the next write is released before the file is closed.
        gate.closing();
    }
    let code = database.close();
    if let Some(gate) = gate {
        gate.closed();
    }
    code
}

unsafe extern "C" fn read(file: *mut File, to: *mut c_void, len: c_int, at: i64) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    if let Some(database) = shim.of_wal() {
        let len = usize::try_from(len).unwrap_or(0);
        let mut joiner = database.lock_joiner();
        let code = joiner.flush_before_read(at, len, |bytes, at| real.write_bytes(bytes, at));
        if code != OK {
            return code;
        }
    }
    real.read(to, len, at)
}

unsafe extern "C" fn write(file: *mut File, from: *const c_void, len: c_int, at: i64) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    let Some(database) = shim.of_wal() else {
        return real.write(from, len, at);
    };
    let mut joiner = database.lock_joiner();
    if joiner.is_idle() && !database.joins_now() {
        return real.write(from, len, at);
    }
    let len = usize::try_from(len).unwrap_or(0);
    // SAFETY: SQLite passes that many bytes.
    let bytes = unsafe { slice::from_raw_parts(from.cast(), len) };
    joiner.write(bytes, at, |bytes, at| real.write_bytes(bytes, at))
}

unsafe extern "C" fn truncate(file: *mut File, len: i64) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match shim.flush(real) {
        OK => real.truncate(len),
        code => code,
    }
}

unsafe extern "C" fn sync(file: *mut File, flags: c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    let flushed = shim.of_wal().map_or(OK, |database| {
        database
            .lock_joiner()
            .flush_before_sync(|bytes, at| real.write_bytes(bytes, at))
    });
    match flushed {
        OK => real.sync(flags),
        code => code,
    }
}

unsafe extern "C" fn file_size(file: *mut File, len: *mut i64) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match shim.flush(real) {
        OK => real.file_size(len),
        code => code,
    }
}

unsafe extern "C" fn lock(file: *mut File, level: c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match (shim.of_database(), shim.shared_gate()) {
        (Some(database), Some(gate)) => gate.lock_file(database, level),
        (Some(database), None) => database.lock_file(level),
        (None, _) => real.lock(level),
    }
}

unsafe extern "C" fn unlock(file: *mut File, level: c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    let code = real.unlock(level);
    if let Some(gate) = shim.shared_gate() {
        gate.unlocked_file(level);
    }
    code
}

unsafe extern "C" fn check_reserved_lock(file: *mut File, answer: *mut c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    real.check_reserved_lock(answer)
}

unsafe extern "C" fn file_control(file: *mut File, op: c_int, argument: *mut c_void) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    if op == FCNTL_PDB
        && let Some(gate) = shim.shared_gate()
    {
        gate.set_connection(argument.cast());
    }
    real.file_control(op, argument)
}

unsafe extern "C" fn sector_size(file: *mut File) -> c_int {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    real.sector_size()
}

unsafe extern "C" fn device_characteristics(file: *mut File) -> c_int {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    real.device_characteristics()
}

unsafe extern "C" fn shm_map(
    file: *mut File,
    region: c_int,
    size: c_int,
    extends: c_int,
    address: *mut *mut c_void,
) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match shim.of_database() {
        Some(database) => database.shm_map(region, size, extends, address),
        None => real.shm_map(region, size, extends, address),
    }
}

unsafe extern "C" fn shm_lock(file: *mut File, first: c_int, count: c_int, flags: c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match shim.of_database() {
        Some(database) => {
            let gate = shim.shared_gate();
            answer_shm_lock(database, gate.as_ref(), first, count, flags)
        }
        None => real.shm_lock(first, count, flags),
    }
}

fn answer_shm_lock(
    database: &DatabaseFile,
    gate: Option<&Arc<Gate>>,
    first: c_int,
    count: c_int,
    flags: c_int,
) -> Code {
    let Some(range) = Range::new(first, count) else {
        return IOERR;
    };
    let mode = if flags & SHM_EXCLUSIVE != 0 {
        Mode::Exclusive
    } else {
        Mode::Shared
    };
    match (flags & SHM_LOCK != 0, gate) {
        (true, Some(gate)) => gate.lock_index(database, range, mode),
        (true, None) => open_files::shm_lock(database, range, mode),
        (false, Some(gate)) => gate.unlock_index(database, range, mode),
        (false, None) => database.unlock(range, mode),
    }
}

unsafe extern "C" fn shm_barrier(file: *mut File) {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    real.shm_barrier();
}

unsafe extern "C" fn shm_unmap(file: *mut File, deletes: c_int) -> Code {
    // SAFETY: SQLite's own argument.
    let (shim, real) = unsafe { parts(file) };
    match shim.of_database() {
        Some(database) => {
            let code = database.shm_unmap(deletes);
            if let Some(gate) = shim.shared_gate() {
                gate.unmapped();
            }
            code
        }
        None => real.shm_unmap(deletes),
    }
}

unsafe extern "C" fn fetch(
    file: *mut File,
    at: i64,
    len: c_int,
    address: *mut *mut c_void,
) -> Code {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    if real.methods().fetch.is_none() {
        // SAFETY: SQLite passes room for it; null says that nothing is mapped.
        unsafe { address.write(ptr::null_mut()) };
        return OK;
    }
    real.fetch(at, len, address)
}

unsafe extern "C" fn unfetch(file: *mut File, at: i64, address: *mut c_void) -> Code {
    // SAFETY: SQLite's own argument.
    let (_, real) = unsafe { parts(file) };
    if real.methods().unfetch.is_none() {
        return OK;
    }
    real.unfetch(at, address)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_has_no_method_that_the_one_below_has_not() {
        let full = |version| IoMethods {
            version,
            ..METHODS[2]
        };
        for version in [1, 2, 3, 4] {
            let ours = methods_over(&full(version));
            assert_eq!(ours.version, version.min(3));
            assert!(ours.shm_map.is_some());
            let without_index = IoMethods {
                shm_map: None,
                ..full(version)
            };
            let ours = methods_over(&without_index);
            assert!(ours.version < 2 || ours.shm_map.is_none());
            assert!(ours.version <= version);
        }
    }
}
