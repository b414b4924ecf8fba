#![expect(unsafe_code, reason = "SQLite calls these functions with pointers")]
//! The entry points that SQLite calls when it loads the library.
//!
//! | entry point | what it does |
//! | --- | --- |
//! | `sqlite3_penholder_init` | registers the VFS `penholder`, and the SQL functions on all connections |
//! | `sqlite3_penholder_default_init` | the same, and makes the VFS the default one |
//! | `sqlite3_penholder_auto_init` | as the second, for `sqlite3_auto_extension` |
//! | `sqlite3_penholder_auto_register_init` | as the first, for `sqlite3_auto_extension` |
//!
//! The library stays loaded: SQLite keeps pointers to it.

use std::ffi::{c_char, c_int, c_void};
use std::panic;

use crate::functions;
use crate::routines::{Connection, Routines, set_message_by};

const OK: c_int = 0;
const ERROR: c_int = 1;
/// `SQLITE_OK_LOAD_PERMANENTLY`.
const OK_LOAD_PERMANENTLY: c_int = 256;

/// Registers the VFS `penholder`, which a connection uses that is opened with it:
/// `file:app.db?vfs=penholder`.
///
/// # Safety
///
/// As `xEntryPoint` of an extension: the arguments are SQLite's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sqlite3_penholder_init(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
) -> c_int {
    // SAFETY: see above.
    match unsafe { load(connection, message, table, false) } {
        OK => OK_LOAD_PERMANENTLY,
        code => code,
    }
}

/// Registers the VFS `penholder` and makes it the default one, which each connection uses that is
/// opened from now on and names no other.
///
/// # Safety
///
/// As `xEntryPoint` of an extension: the arguments are SQLite's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sqlite3_penholder_default_init(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
) -> c_int {
    // SAFETY: see above.
    match unsafe { load(connection, message, table, true) } {
        OK => OK_LOAD_PERMANENTLY,
        code => code,
    }
}

/// Does the same as an automatic extension, for programs that cannot load one. The connection that
/// calls it first was opened with another VFS: the next ones use penholder's.
///
/// # Safety
///
/// As `xEntryPoint` of an extension: the arguments are SQLite's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sqlite3_penholder_auto_init(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
) -> c_int {
    // SAFETY: see above.
    unsafe { load(connection, message, table, true) }
}

/// Registers the VFS `penholder` as an automatic extension, for programs that cannot load one and
/// open only some of their databases with it.
///
/// # Safety
///
/// As `xEntryPoint` of an extension: the arguments are SQLite's own.
#[unsafe(no_mangle)]
pub(crate) unsafe extern "C" fn sqlite3_penholder_auto_register_init(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
) -> c_int {
    // SAFETY: see above.
    unsafe { load(connection, message, table, false) }
}

unsafe fn load(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
    is_default: bool,
) -> c_int {
    let loaded = panic::catch_unwind(|| {
        // SAFETY: SQLite's own argument.
        let routines = unsafe { Routines::read(table) }.map_err(|error| error.to_string())?;
        register(&routines, is_default)?;
        // SAFETY: SQLite's own connection.
        unsafe { functions::create(&routines, connection) }
    });
    let text = match loaded {
        Ok(Ok(())) => return OK,
        Ok(Err(text)) => text,
        Err(_) => "load penholder: it panicked; please report it".to_owned(),
    };
    // SAFETY: SQLite's own arguments. Without a table there is no way to say it.
    let _ = unsafe { set_message_by(table, message, &text) };
    ERROR
}

fn register(routines: &Routines, is_default: bool) -> Result<(), String> {
    let failed = |why: &dyn std::fmt::Display| format!("load penholder: {why}");
    penholder_vfs::register_with_gates(&routines.vfs, &routines.host)
        .map_err(|error| failed(&error))?;
    if is_default {
        penholder_vfs::make_default(&routines.vfs).map_err(|error| failed(&error))?;
    }
    match routines.call_for_new_connections(create_functions) {
        OK => Ok(()),
        code => Err(failed(&format_args!(
            "SQLite refused an automatic extension (result code {code})"
        ))),
    }
}

/// Makes the SQL functions on a connection that SQLite has just opened.
unsafe extern "C" fn create_functions(
    connection: Connection,
    message: *mut *mut c_char,
    table: *const c_void,
) -> c_int {
    let created = panic::catch_unwind(|| {
        // SAFETY: SQLite's own argument.
        let routines = unsafe { Routines::read(table) }.map_err(|error| error.to_string())?;
        // SAFETY: SQLite's own connection.
        unsafe { functions::create(&routines, connection) }
    });
    match created {
        Ok(Ok(())) => OK,
        Ok(Err(text)) => {
            // SAFETY: SQLite's own arguments.
            let _ = unsafe { set_message_by(table, message, &text) };
            ERROR
        }
        Err(_) => ERROR,
    }
}
