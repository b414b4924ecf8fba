//! The extension: its entry points, SQL functions and URI parameters, and the C interface with bad
//! arguments.
//!
//! The first byte says what the others are for. A library for C cannot be a dependency, so its
//! modules are compiled into this target.
#![no_main]
#![allow(unsafe_code, reason = "what is tried is an interface for C")]
#![allow(dead_code, reason = "modules of another crate")]

#[path = "../../crates/penholder-extension/src/entry.rs"]
mod entry;
#[path = "../../crates/penholder-extension/src/failure.rs"]
mod failure;
#[path = "../../crates/penholder-extension/src/functions.rs"]
mod functions;
#[path = "../../crates/penholder-extension/src/interface.rs"]
mod interface;
#[path = "../../crates/penholder-extension/src/routines.rs"]
mod routines;

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::sync::OnceLock;
use std::{env, fs, mem, ptr};

use interface::{PenholderLock, PenholderOptions, PenholderWatch};
use libfuzzer_sys::fuzz_target;
use rusqlite::types::Value;
use rusqlite::{Connection, OpenFlags, ffi};

/// The deepest directory; the working directory.
const DIRECTORY: &str = "a/b/c";

fuzz_target!(|bytes: &[u8]| {
    prepare();
    let Some((&kind, bytes)) = bytes.split_first() else {
        return;
    };
    match kind % 4 {
        0 => open_with_parameters(bytes),
        1 => call_functions(bytes),
        2 => use_interface(&mut Input(bytes)),
        _ => enter(bytes),
    }
    // What was made is not kept for the next input.
    for file in fs::read_dir(".").unwrap().flatten() {
        let _ = fs::remove_file(file.path());
    }
});

/// Loads the extension, and goes to a directory in which files may be made.
fn prepare() {
    static PREPARED: OnceLock<tempfile::TempDir> = OnceLock::new();
    PREPARED.get_or_init(|| {
        let directory = tempfile::tempdir().unwrap();
        let deepest = directory.path().join(DIRECTORY);
        fs::create_dir_all(&deepest).unwrap();
        env::set_current_dir(&deepest).unwrap();
        type Entry = unsafe extern "C" fn(*mut c_void, *mut *mut c_char, *const c_void) -> c_int;
        type Called = unsafe extern "C" fn(
            *mut ffi::sqlite3,
            *mut *mut c_char,
            *const ffi::sqlite3_api_routines,
        ) -> c_int;
        let init: Entry = entry::sqlite3_penholder_auto_init;
        // SAFETY: both types stand for an entry point.
        let init = unsafe { mem::transmute::<Entry, Called>(init) };
        // SAFETY: an entry point for this.
        let code = unsafe { ffi::sqlite3_auto_extension(Some(init)) };
        assert_eq!(code, ffi::SQLITE_OK);
        // It makes the VFS the default one.
        let first = Connection::open_in_memory().unwrap();
        let version = "SELECT penholder_version()";
        let version: String = first.query_row(version, [], |row| row.get(0)).unwrap();
        assert!(!version.is_empty());
        directory
    });
}

/// Returns whether a text names no file outside the directory.
fn stays_here(text: &str) -> bool {
    !text.contains('/') && !text.contains("%2")
}

fn open_with_parameters(bytes: &[u8]) {
    let Ok(parameters) = std::str::from_utf8(bytes) else {
        return;
    };
    if !stays_here(parameters) || parameters.contains('\0') {
        return;
    }
    let flags = OpenFlags::default() | OpenFlags::SQLITE_OPEN_URI;
    let uri = format!("file:app.db?{parameters}");
    if let Ok(connection) = Connection::open_with_flags(uri, flags) {
        let _ = connection.execute_batch(
            "PRAGMA synchronous = OFF; CREATE TABLE IF NOT EXISTS t (x); INSERT INTO t VALUES (1)",
        );
        let status = connection.query_row("SELECT penholder_status()", [], |row| row.get(0));
        let status: Option<String> = status.unwrap_or_default();
        assert!(status.is_none_or(|status| status.starts_with('{')));
    }
}

fn call_functions(bytes: &[u8]) {
    let Some((&which, bytes)) = bytes.split_first() else {
        return;
    };
    let connection = Connection::open("app.db").unwrap();
    let value = match which % 5 {
        0 => Value::Null,
        1 => Value::Blob(bytes.to_vec()),
        2 => Value::Real(bytes.len() as f64 / 3.0),
        3 => Value::Integer(i64::MIN),
        _ => Value::Text(String::from_utf8_lossy(bytes).into_owned()),
    };
    let label = connection.query_row("SELECT penholder_label(?1)", [value], |row| {
        row.get::<_, Value>(0)
    });
    assert!(label.is_ok(), "{label:?}");
    connection
        .execute_batch("PRAGMA synchronous = OFF; CREATE TABLE t (x)")
        .unwrap();
    for function in ["version", "status", "last_wait", "explain", "last_error"] {
        let call = format!("SELECT penholder_{function}()");
        let value = connection.query_row(&call, [], |row| row.get::<_, Value>(0));
        assert!(value.is_ok(), "{value:?}");
    }
}

/// Calls an entry point with a table that is too old, or none.
fn enter(bytes: &[u8]) {
    unsafe extern "C" fn old() -> c_int {
        3_036_999
    }
    // Nothing behind the version is read.
    let mut table = [ptr::null::<c_void>(); 70];
    table[67] = (old as unsafe extern "C" fn() -> c_int) as *const c_void;
    let has_table = bytes.first().is_some_and(|byte| byte & 1 == 0);
    let table = if has_table {
        table.as_ptr().cast()
    } else {
        ptr::null()
    };
    for init in [
        entry::sqlite3_penholder_init,
        entry::sqlite3_penholder_default_init,
        entry::sqlite3_penholder_auto_init,
    ] {
        // SAFETY: a table that is long enough for its version, or null; no message is wanted.
        let code = unsafe { init(ptr::null_mut(), ptr::null_mut(), table) };
        assert_eq!(code, ffi::SQLITE_ERROR);
    }
}

// ---- the C interface ---------------------------------------------------------------------

/// What is left of the input.
struct Input<'a>(&'a [u8]);

impl Input<'_> {
    fn byte(&mut self) -> u8 {
        let (first, rest) = self.0.split_first().unwrap_or((&0, &[]));
        self.0 = rest;
        *first
    }

    /// Returns a C text of any bytes, or none.
    fn text(&mut self) -> Option<CString> {
        let length = usize::from(self.byte());
        if length == 255 {
            return None;
        }
        let (text, rest) = self.0.split_at(length.min(self.0.len()));
        self.0 = rest;
        let text = text.split(|byte| *byte == 0).next().unwrap_or_default();
        let is_here = stays_here(&String::from_utf8_lossy(text));
        CString::new(if is_here { text } else { b"app.db" }).ok()
    }

    /// Nobody else has the lock, so that no wait is long.
    fn milliseconds(&mut self) -> u64 {
        [0, 1, u64::MAX, u64::MAX - 1][usize::from(self.byte() % 4)]
    }
}

fn pointer(text: &Option<CString>) -> *const c_char {
    text.as_deref().map_or(ptr::null(), CStr::as_ptr)
}

fn use_interface(input: &mut Input<'_>) {
    let mut lock: *mut PenholderLock = ptr::null_mut();
    let mut watch: *mut PenholderWatch = ptr::null_mut();
    while !input.0.is_empty() {
        let step = input.byte();
        let texts = [(); 5].map(|()| input.text());
        let [database, label, lock_file, policy, since] = &texts;
        let options = PenholderOptions {
            label: pointer(label),
            lock_file: pointer(lock_file),
            policy: pointer(policy),
            allow_network: step.into(),
        };
        let options = if step & 0x80 == 0 {
            &raw const options
        } else {
            ptr::null()
        };
        let database = pointer(database);
        let mut text: *mut c_char = ptr::null_mut();
        // SAFETY: texts and options are NULL or whole, and what was made is freed once.
        let code = unsafe {
            match step % 12 {
                0 => {
                    interface::penholder_lock_free(mem::replace(&mut lock, ptr::null_mut()));
                    interface::penholder_lock_new(database, options, &raw mut lock)
                }
                1 => interface::penholder_lock_new(database, options, ptr::null_mut()),
                2 => {
                    let (timeout, pause) = (input.milliseconds(), input.milliseconds());
                    interface::penholder_lock_acquire(lock, timeout, pause)
                }
                3 => interface::penholder_lock_release(lock),
                4 => interface::penholder_status(database, options, &raw mut text),
                5 => interface::penholder_status(database, options, ptr::null_mut()),
                6 => {
                    interface::penholder_watch_free(mem::replace(&mut watch, ptr::null_mut()));
                    let since = pointer(since);
                    interface::penholder_watch_new(database, options, since, &raw mut watch)
                }
                7 => interface::penholder_watch_wait(watch, u64::from(step & 1)),
                8 => interface::penholder_watch_token(watch, &raw mut text),
                9 => interface::penholder_watch_token(watch, ptr::null_mut()),
                10 => interface::penholder_watch_new(
                    database,
                    options,
                    pointer(since),
                    ptr::null_mut(),
                ),
                _ => {
                    interface::penholder_text_free(ptr::null_mut());
                    interface::penholder_lock_free(ptr::null_mut());
                    interface::penholder_watch_free(ptr::null_mut());
                    failure::PENHOLDER_OK
                }
            }
        };
        assert!((0..=failure::PENHOLDER_FAILED).contains(&code), "{code}");
        if code > failure::PENHOLDER_TIMEOUT {
            // SAFETY: NULL or C text, until the next call.
            let said = unsafe { CStr::from_ptr(interface::penholder_error_text()) };
            assert!(!said.is_empty() && said.to_str().is_ok(), "{said:?}");
            // SAFETY: as above.
            let json = unsafe { CStr::from_ptr(interface::penholder_error_json()) };
            assert!(json.to_bytes().starts_with(b"{"), "{json:?}");
        }
        // SAFETY: what was stored, or NULL.
        unsafe { interface::penholder_text_free(text) };
    }
    // SAFETY: made above, or NULL.
    unsafe { interface::penholder_lock_free(lock) };
    // SAFETY: as above.
    unsafe { interface::penholder_watch_free(watch) };
}
