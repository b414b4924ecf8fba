#![expect(unsafe_code, reason = "calls functions of SQLite")]
//! What a gate asks the SQLite of the program.

use std::ffi::{CStr, CString, c_char, c_int, c_void};

use crate::api::HostApi;

/// SQLite has a limit for the length of a URI, which is far below.
const PARAMETERS_MAX: c_int = 10_000;

impl HostApi {
    /// Returns the parameters of a URI, with their values.
    ///
    /// # Safety
    ///
    /// `name` is the name that SQLite passes to `xOpen` of a database, and stays valid for `'a`.
    pub(crate) unsafe fn parameters<'a>(
        &self,
        name: *const c_char,
    ) -> impl Iterator<Item = (&'a CStr, &'a CStr)> + use<'a> {
        let api = *self;
        (0..PARAMETERS_MAX).map_while(move |index| {
            // SAFETY: see above.
            let key = unsafe { (api.uri_key)(name, index) };
            if key.is_null() {
                return None;
            }
            // SAFETY: see above; the key is C text of that name.
            let value = unsafe { (api.uri_parameter)(name, key) };
            // SAFETY: C text of the name, which stays valid.
            let key = unsafe { CStr::from_ptr(key) };
            if value.is_null() {
                return Some((key, c""));
            }
            // SAFETY: as above.
            Some((key, unsafe { CStr::from_ptr(value) }))
        })
    }

    /// Returns the state of the transaction on `main` of the connection that stands at `place`
    /// (`SQLITE_TXN_READ`, for example), if its file is `database`; otherwise nothing is known, and
    /// it returns -1.
    pub(crate) fn txn_state(&self, place: *mut *mut c_void, database: &CStr) -> c_int {
        const MAIN: *const c_char = c"main".as_ptr();
        const UNKNOWN: c_int = -1;
        if place.is_null() {
            return UNKNOWN;
        }
        // SAFETY: SQLite passed this place with `SQLITE_FCNTL_PDB`: it is in the object that owns
        // the file, which is open.
        let connection = unsafe { *place };
        if connection.is_null() {
            return UNKNOWN;
        }
        // SAFETY: an open connection; this thread is inside one of its calls and has its mutex.
        let path = unsafe { (self.db_filename)(connection, MAIN) };
        // SAFETY: null, or C text of the connection.
        if path.is_null() || unsafe { CStr::from_ptr(path) } != database {
            return UNKNOWN;
        }
        // SAFETY: as above.
        unsafe { (self.txn_state)(connection, MAIN) }
    }

    /// Writes to SQLite's error log.
    pub(crate) fn log(&self, code: c_int, text: &str) {
        if let Ok(text) = CString::new(text) {
            // SAFETY: a format with one C text.
            unsafe { (self.log)(code, c"penholder: %s".as_ptr(), text.as_ptr()) };
        }
    }
}
