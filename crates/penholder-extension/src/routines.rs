#![expect(
    unsafe_code,
    reason = "SQLite's functions are called by their place in a table"
)]
#![expect(
    clippy::missing_transmute_annotations,
    reason = "the type of a function is that of its field"
)]
//! SQLite's table of functions, as an extension gets it (`struct sqlite3_api_routines` in
//! `sqlite3ext.h`).
//!
//! Later versions only append to it, so a function is known by its place. Before anything else is
//! read, the version has to be that of a table which is long enough.

use std::ffi::{CStr, CString, c_char, c_int, c_void};
use std::mem;
use std::ptr;

use penholder_vfs::{Api, File, HostApi, Version};

/// The oldest SQLite that the library works with.
pub(crate) const OLDEST: Version = Version {
    minor: 37,
    patch: 0,
};

/// A connection, `sqlite3` in C.
pub(crate) type Connection = *mut c_void;
/// `sqlite3_context`.
pub(crate) type Context = *mut c_void;
/// `sqlite3_value`.
pub(crate) type Value = *mut c_void;
/// What a SQL function calls.
pub(crate) type Function = unsafe extern "C" fn(Context, c_int, *mut Value);
/// An entry point of an extension.
pub(crate) type EntryPoint =
    unsafe extern "C" fn(Connection, *mut *mut c_char, *const c_void) -> c_int;

type Destructor = Option<unsafe extern "C" fn(*mut c_void)>;
type CreateFunction = unsafe extern "C" fn(
    Connection,
    *const c_char,
    c_int,
    c_int,
    *mut c_void,
    Option<Function>,
    Option<Function>,
    Option<unsafe extern "C" fn(Context)>,
    Destructor,
) -> c_int;

/// `SQLITE_UTF8 | SQLITE_DIRECTONLY`: no trigger and no view of a database that somebody else has
/// written calls these functions.
const FUNCTION_FLAGS: c_int = 1 | 0x0008_0000;
/// `SQLITE_FCNTL_FILE_POINTER`.
const FCNTL_FILE_POINTER: c_int = 7;

/// The functions of SQLite that this library calls.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Routines {
    pub(crate) vfs: Api,
    pub(crate) host: HostApi,
    auto_extension: unsafe extern "C" fn(Option<unsafe extern "C" fn()>) -> c_int,
    context_db_handle: unsafe extern "C" fn(Context) -> Connection,
    create_function_v2: CreateFunction,
    db_filename: unsafe extern "C" fn(Connection, *const c_char) -> *const c_char,
    file_control: unsafe extern "C" fn(Connection, *const c_char, c_int, *mut c_void) -> c_int,
    result_error: unsafe extern "C" fn(Context, *const c_char, c_int),
    result_int64: unsafe extern "C" fn(Context, i64),
    result_null: unsafe extern "C" fn(Context),
    result_text: unsafe extern "C" fn(Context, *const c_char, c_int, isize),
    value_bytes: unsafe extern "C" fn(Value) -> c_int,
    value_text: unsafe extern "C" fn(Value) -> *const u8,
    value_type: unsafe extern "C" fn(Value) -> c_int,
}

/// Why the table cannot be used.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Unusable {
    /// There is none.
    NoTable,
    TooOld(Version),
    /// This function is missing.
    Without(&'static str),
}

impl std::fmt::Display for Unusable {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::NoTable => f.write_str(
                "load penholder: it was called without SQLite's table of functions; load it with \
                 sqlite3_load_extension or sqlite3_auto_extension",
            ),
            Self::TooOld(version) => write!(
                f,
                "load penholder: this is SQLite {version}; penholder needs {OLDEST} or newer, so \
                 update SQLite, or the program that contains it"
            ),
            Self::Without(function) => write!(
                f,
                "load penholder: this SQLite was built without sqlite3_{function}; use one with it"
            ),
        }
    }
}

/// Reads a function of the table by its place, and gives it its type.
macro_rules! function {
    ($table:expr, $place:literal, $name:literal) => {{
        // SAFETY: the table has this place, see `Routines::read`.
        let found = unsafe { at($table, $place) }.ok_or(Unusable::Without($name))?;
        // SAFETY: at this place stands the function with this name, whose type is that of the field.
        unsafe { mem::transmute::<unsafe extern "C" fn(), _>(found) }
    }};
}

/// Returns what stands at a place of the table.
///
/// # Safety
///
/// The table has this place.
unsafe fn at(table: *const c_void, place: usize) -> Option<unsafe extern "C" fn()> {
    let places = table.cast::<Option<unsafe extern "C" fn()>>();
    // SAFETY: see above.
    let place = unsafe { places.add(place) };
    // SAFETY: as above; the table is an array of pointers to functions.
    unsafe { place.read() }
}

impl Routines {
    /// Reads the table.
    ///
    /// # Safety
    ///
    /// `table` is null or what SQLite passes to an entry point.
    pub(crate) unsafe fn read(table: *const c_void) -> Result<Self, Unusable> {
        if table.is_null() {
            return Err(Unusable::NoTable);
        }
        let number: unsafe extern "C" fn() -> c_int = function!(table, 67, "libversion_number");
        // SAFETY: a function without arguments.
        let version = Version::of_number(unsafe { number() });
        if version < OLDEST {
            return Err(Unusable::TooOld(version));
        }
        Ok(Self {
            vfs: Api {
                threadsafe: function!(table, 144, "threadsafe"),
                vfs_find: function!(table, 141, "vfs_find"),
                vfs_register: function!(table, 142, "vfs_register"),
                filename_database: function!(table, 246, "filename_database"),
            },
            host: HostApi {
                uri_key: function!(table, 245, "uri_key"),
                uri_parameter: function!(table, 189, "uri_parameter"),
                txn_state: function!(table, 252, "txn_state"),
                db_filename: function!(table, 180, "db_filename"),
                log: function!(table, 167, "log"),
                has_wal_reset_bug: version.has_wal_reset_bug(),
            },
            auto_extension: function!(table, 192, "auto_extension"),
            context_db_handle: function!(table, 149, "context_db_handle"),
            create_function_v2: function!(table, 162, "create_function_v2"),
            db_filename: function!(table, 180, "db_filename"),
            file_control: function!(table, 127, "file_control"),
            result_error: function!(table, 80, "result_error"),
            result_int64: function!(table, 83, "result_int64"),
            result_null: function!(table, 84, "result_null"),
            result_text: function!(table, 85, "result_text"),
            value_bytes: function!(table, 103, "value_bytes"),
            value_text: function!(table, 109, "value_text"),
            value_type: function!(table, 113, "value_type"),
        })
    }

    // ---- loading -------------------------------------------------------------------------

    /// Has SQLite call an entry point for each connection that it opens from now on.
    pub(crate) fn call_for_new_connections(&self, entry: EntryPoint) -> c_int {
        // SAFETY: SQLite gives the function its type back before it calls it.
        let entry = unsafe { mem::transmute::<EntryPoint, unsafe extern "C" fn()>(entry) };
        // SAFETY: a function of this library, which is never unloaded.
        unsafe { (self.auto_extension)(Some(entry)) }
    }

    /// Makes a SQL function.
    ///
    /// # Safety
    ///
    /// The connection is open, and this thread may use it.
    pub(crate) unsafe fn create_function(
        &self,
        connection: Connection,
        name: &CStr,
        arguments: c_int,
        function: Function,
    ) -> c_int {
        // SAFETY: see above; the function is one of this library, which is never unloaded.
        unsafe {
            (self.create_function_v2)(
                connection,
                name.as_ptr(),
                arguments,
                FUNCTION_FLAGS,
                ptr::null_mut(),
                Some(function),
                None,
                None,
                None,
            )
        }
    }

    // ---- in a function -------------------------------------------------------------------

    /// Returns the connection that a function was called on.
    ///
    /// # Safety
    ///
    /// As all of these: the context is that of a function that is being called.
    pub(crate) unsafe fn connection(&self, context: Context) -> Connection {
        // SAFETY: see above.
        unsafe { (self.context_db_handle)(context) }
    }

    /// Returns the open file of `main`; null if there is none.
    pub(crate) unsafe fn main_file(&self, connection: Connection) -> *mut File {
        let mut file: *mut File = ptr::null_mut();
        let (main, to) = (c"main".as_ptr(), (&raw mut file).cast());
        // SAFETY: an open connection of this thread, and room for a pointer.
        unsafe { (self.file_control)(connection, main, FCNTL_FILE_POINTER, to) };
        file
    }

    /// Returns the path of `main`; `None` if it is not in a file.
    pub(crate) unsafe fn main_path<'a>(&self, connection: Connection) -> Option<&'a CStr> {
        // SAFETY: an open connection of this thread.
        let path = unsafe { (self.db_filename)(connection, c"main".as_ptr()) };
        if path.is_null() {
            return None;
        }
        // SAFETY: C text that stays as long as the database is open.
        let path = unsafe { CStr::from_ptr(path) };
        (!path.is_empty()).then_some(path)
    }

    /// Returns an argument as text; `None` for NULL.
    pub(crate) unsafe fn text(&self, value: Value) -> Option<String> {
        const NULL: c_int = 5;
        // SAFETY: an argument of the function.
        if unsafe { (self.value_type)(value) } == NULL {
            return None;
        }
        // SAFETY: as above. Asked for before the length.
        let text = unsafe { (self.value_text)(value) };
        // SAFETY: as above.
        let length = usize::try_from(unsafe { (self.value_bytes)(value) }).unwrap_or(0);
        if text.is_null() {
            return Some(String::new());
        }
        // SAFETY: that many bytes, until the argument is used again.
        let bytes = unsafe { std::slice::from_raw_parts(text, length) };
        Some(String::from_utf8_lossy(bytes).into_owned())
    }

    pub(crate) unsafe fn return_text(&self, context: Context, text: Option<&str>) {
        /// SQLite copies it.
        const TRANSIENT: isize = -1;
        let Some(text) = text else {
            // SAFETY: see `connection`.
            return unsafe { (self.result_null)(context) };
        };
        let length = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: as above, and that many bytes.
        unsafe { (self.result_text)(context, text.as_ptr().cast(), length, TRANSIENT) };
    }

    pub(crate) unsafe fn return_number(&self, context: Context, number: i64) {
        // SAFETY: see `connection`.
        unsafe { (self.result_int64)(context, number) };
    }

    pub(crate) unsafe fn return_error(&self, context: Context, text: &str) {
        let length = c_int::try_from(text.len()).unwrap_or(c_int::MAX);
        // SAFETY: as above, and that many bytes, which SQLite copies.
        unsafe { (self.result_error)(context, text.as_ptr().cast(), length) };
    }
}

/// Sets the message of an entry point where the table cannot be used otherwise: each SQLite has had
/// `mprintf` since there are extensions.
///
/// # Safety
///
/// `table` is null or what SQLite passes to an entry point, and so is `message`.
pub(crate) unsafe fn set_message_by(
    table: *const c_void,
    message: *mut *mut c_char,
    text: &str,
) -> Result<(), Unusable> {
    if table.is_null() {
        return Err(Unusable::NoTable);
    }
    let mprintf = function!(table, 69, "mprintf");
    // SAFETY: see above.
    unsafe { set_message(mprintf, message, text) };
    Ok(())
}

unsafe fn set_message(
    mprintf: unsafe extern "C" fn(*const c_char, ...) -> *mut c_char,
    message: *mut *mut c_char,
    text: &str,
) {
    let Ok(text) = CString::new(text) else {
        return;
    };
    if message.is_null() {
        return;
    }
    // SAFETY: a format with one C text.
    let copy = unsafe { mprintf(c"%s".as_ptr(), text.as_ptr()) };
    // SAFETY: SQLite passes room for a pointer.
    unsafe { message.write(copy) };
}

#[cfg(test)]
mod tests {
    use super::*;

    unsafe extern "C" fn nothing() {}
    unsafe extern "C" fn version<const NUMBER: c_int>() -> c_int {
        NUMBER
    }

    /// A table in which each function is there, of this version.
    fn table(version: unsafe extern "C" fn() -> c_int) -> Vec<Option<unsafe extern "C" fn()>> {
        let mut table = vec![Some(nothing as unsafe extern "C" fn()); 273];
        // SAFETY: `read` gives it its type back.
        table[67] = Some(unsafe {
            mem::transmute::<unsafe extern "C" fn() -> c_int, unsafe extern "C" fn()>(version)
        });
        table
    }

    fn read(table: &[Option<unsafe extern "C" fn()>]) -> Result<Routines, Unusable> {
        // SAFETY: a table of the length that its version says; no function of it is called.
        unsafe { Routines::read(table.as_ptr().cast()) }
    }

    #[test]
    fn a_table_that_is_missing_or_old_is_refused() {
        // SAFETY: null is allowed.
        let missing = unsafe { Routines::read(ptr::null()) };
        assert_eq!(missing.unwrap_err(), Unusable::NoTable);
        // Nothing behind the version is looked at.
        let old = &table(version::<3_036_000>)[..68];
        let error = read(old).unwrap_err();
        assert_eq!(error.to_string().matches("3.36.0").count(), 1, "{error}");
        assert!(read(&table(version::<3_037_000>)).is_ok());
        assert!(
            read(&table(version::<3_040_001>))
                .unwrap()
                .host
                .has_wal_reset_bug
        );
        assert!(
            !read(&table(version::<3_054_001>))
                .unwrap()
                .host
                .has_wal_reset_bug
        );
    }

    #[test]
    fn each_function_that_is_missing_is_named() {
        let whole = table(version::<3_054_001>);
        let missing: Vec<_> = (0..whole.len())
            .filter_map(|place| {
                let mut stripped = whole.clone();
                stripped[place] = None;
                read(&stripped).err()
            })
            .collect();
        assert!(missing.len() > 20, "{missing:?}");
        assert!(missing.contains(&Unusable::Without("vfs_register")));
    }
}
