//! The types of SQLite's VFS interface, and the functions of SQLite that this crate calls.
//!
//! They are those of `sqlite3.h` ("OS Interface"), which are stable: later versions only append.

use std::ffi::{c_char, c_double, c_int, c_void};

use crate::locks::Code;

/// `sqlite3_file`.
#[repr(C)]
#[derive(Debug)]
pub struct File {
    /// Null if the file is not open.
    pub methods: *const IoMethods,
}

/// `sqlite3_io_methods`, version 3.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names of SQLite")]
pub struct IoMethods {
    pub version: c_int,
    pub close: Option<unsafe extern "C" fn(*mut File) -> Code>,
    pub read: Option<unsafe extern "C" fn(*mut File, *mut c_void, c_int, i64) -> Code>,
    pub write: Option<unsafe extern "C" fn(*mut File, *const c_void, c_int, i64) -> Code>,
    pub truncate: Option<unsafe extern "C" fn(*mut File, i64) -> Code>,
    pub sync: Option<unsafe extern "C" fn(*mut File, c_int) -> Code>,
    pub file_size: Option<unsafe extern "C" fn(*mut File, *mut i64) -> Code>,
    pub lock: Option<unsafe extern "C" fn(*mut File, c_int) -> Code>,
    pub unlock: Option<unsafe extern "C" fn(*mut File, c_int) -> Code>,
    pub check_reserved_lock: Option<unsafe extern "C" fn(*mut File, *mut c_int) -> Code>,
    pub file_control: Option<unsafe extern "C" fn(*mut File, c_int, *mut c_void) -> Code>,
    pub sector_size: Option<unsafe extern "C" fn(*mut File) -> c_int>,
    pub device_characteristics: Option<unsafe extern "C" fn(*mut File) -> c_int>,
    // Version 2.
    pub shm_map:
        Option<unsafe extern "C" fn(*mut File, c_int, c_int, c_int, *mut *mut c_void) -> Code>,
    pub shm_lock: Option<unsafe extern "C" fn(*mut File, c_int, c_int, c_int) -> Code>,
    pub shm_barrier: Option<unsafe extern "C" fn(*mut File)>,
    pub shm_unmap: Option<unsafe extern "C" fn(*mut File, c_int) -> Code>,
    // Version 3.
    pub fetch: Option<unsafe extern "C" fn(*mut File, i64, c_int, *mut *mut c_void) -> Code>,
    pub unfetch: Option<unsafe extern "C" fn(*mut File, i64, *mut c_void) -> Code>,
}

/// A function that the VFS method `xDlSym` returns.
pub type Symbol = Option<unsafe extern "C" fn()>;
/// `sqlite3_syscall_ptr`.
pub type SystemCall = Option<unsafe extern "C" fn()>;

/// `sqlite3_vfs`, version 3.
#[repr(C)]
#[derive(Debug, Clone, Copy)]
#[allow(missing_docs, reason = "the names of SQLite")]
pub struct Vfs {
    pub version: c_int,
    pub size_of_file: c_int,
    pub max_pathname: c_int,
    pub next: *mut Vfs,
    pub name: *const c_char,
    pub app_data: *mut c_void,
    pub open:
        Option<unsafe extern "C" fn(*mut Vfs, *const c_char, *mut File, c_int, *mut c_int) -> Code>,
    pub delete: Option<unsafe extern "C" fn(*mut Vfs, *const c_char, c_int) -> Code>,
    pub access: Option<unsafe extern "C" fn(*mut Vfs, *const c_char, c_int, *mut c_int) -> Code>,
    pub full_pathname:
        Option<unsafe extern "C" fn(*mut Vfs, *const c_char, c_int, *mut c_char) -> Code>,
    pub dl_open: Option<unsafe extern "C" fn(*mut Vfs, *const c_char) -> *mut c_void>,
    pub dl_error: Option<unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char)>,
    pub dl_sym: Option<unsafe extern "C" fn(*mut Vfs, *mut c_void, *const c_char) -> Symbol>,
    pub dl_close: Option<unsafe extern "C" fn(*mut Vfs, *mut c_void)>,
    pub randomness: Option<unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char) -> c_int>,
    pub sleep: Option<unsafe extern "C" fn(*mut Vfs, c_int) -> c_int>,
    pub current_time: Option<unsafe extern "C" fn(*mut Vfs, *mut c_double) -> Code>,
    pub get_last_error: Option<unsafe extern "C" fn(*mut Vfs, c_int, *mut c_char) -> c_int>,
    // Version 2.
    pub current_time_int64: Option<unsafe extern "C" fn(*mut Vfs, *mut i64) -> Code>,
    // Version 3.
    pub set_system_call: Option<unsafe extern "C" fn(*mut Vfs, *const c_char, SystemCall) -> Code>,
    pub get_system_call: Option<unsafe extern "C" fn(*mut Vfs, *const c_char) -> SystemCall>,
    pub next_system_call: Option<unsafe extern "C" fn(*mut Vfs, *const c_char) -> *const c_char>,
}

/// The functions of SQLite that this crate calls.
#[derive(Debug, Clone, Copy)]
pub struct Api {
    /// `sqlite3_threadsafe`.
    pub threadsafe: unsafe extern "C" fn() -> c_int,
    /// `sqlite3_vfs_find`.
    pub vfs_find: unsafe extern "C" fn(*const c_char) -> *mut Vfs,
    /// `sqlite3_vfs_register`.
    pub vfs_register: unsafe extern "C" fn(*mut Vfs, c_int) -> Code,
    /// `sqlite3_filename_database`, of SQLite 3.31 and newer.
    pub filename_database: unsafe extern "C" fn(*const c_char) -> *const c_char,
}

/// The functions of SQLite that a [`Gate`](crate::Gate) calls, and what is to be known of it: of
/// SQLite 3.34 and newer.
#[derive(Debug, Clone, Copy)]
pub struct HostApi {
    /// `sqlite3_uri_key`.
    pub uri_key: unsafe extern "C" fn(*const c_char, c_int) -> *const c_char,
    /// `sqlite3_uri_parameter`.
    pub uri_parameter: unsafe extern "C" fn(*const c_char, *const c_char) -> *const c_char,
    /// `sqlite3_txn_state`.
    pub txn_state: unsafe extern "C" fn(*mut c_void, *const c_char) -> c_int,
    /// `sqlite3_db_filename`.
    pub db_filename: unsafe extern "C" fn(*mut c_void, *const c_char) -> *const c_char,
    /// `sqlite3_log`.
    pub log: unsafe extern "C" fn(c_int, *const c_char, ...),
    /// Whether it has the WAL-reset bug: see [`Version`](crate::Version).
    pub has_wal_reset_bug: bool,
}

/// `SQLITE_CANTOPEN`.
pub(crate) const CANTOPEN: Code = 14;
/// `SQLITE_IOERR_LOCK`.
pub(crate) const IOERR_LOCK: Code = IOERR | (15 << 8);

/// `SQLITE_TXN_NONE`.
pub(crate) const TXN_NONE: c_int = 0;
/// `SQLITE_FCNTL_PDB`.
pub(crate) const FCNTL_PDB: c_int = 30;

/// `SQLITE_IOERR`.
pub(crate) const IOERR: Code = 10;
/// `SQLITE_NOTFOUND`.
pub(crate) const NOTFOUND: Code = 12;
/// `SQLITE_READONLY`.
pub(crate) const READONLY: Code = 8;

/// `SQLITE_OPEN_MAIN_DB`.
pub(crate) const OPEN_MAIN_DB: c_int = 0x100;
/// `SQLITE_OPEN_WAL`.
pub(crate) const OPEN_WAL: c_int = 0x80000;

/// `SQLITE_LOCK_SHARED`.
pub(crate) const LOCK_SHARED: c_int = 1;
/// `SQLITE_LOCK_RESERVED`.
pub(crate) const LOCK_RESERVED: c_int = 2;
/// `SQLITE_LOCK_EXCLUSIVE`.
pub(crate) const LOCK_EXCLUSIVE: c_int = 4;

/// `SQLITE_SHM_UNLOCK`.
pub(crate) const SHM_UNLOCK: c_int = 1;
/// `SQLITE_SHM_LOCK`.
pub(crate) const SHM_LOCK: c_int = 2;
/// `SQLITE_SHM_SHARED`.
pub(crate) const SHM_SHARED: c_int = 4;
/// `SQLITE_SHM_EXCLUSIVE`.
pub(crate) const SHM_EXCLUSIVE: c_int = 8;
