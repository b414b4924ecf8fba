#![expect(unsafe_code, reason = "SQLite calls these functions with pointers")]
//! The SQL functions.
//!
//! | function | returns |
//! | --- | --- |
//! | `penholder_version()` | the version of the library |
//! | `penholder_status()` | the lock of the database as JSON: the holder, the queue, counters, events |
//! | `penholder_label(text)` | the text, which says from the next write on what the lock is taken for |
//! | `penholder_last_wait()` | how many microseconds the connection waited for its last write |
//! | `penholder_explain()` | why the connection last gave up waiting, and who was in the way; NULL if it has not |
//! | `penholder_last_error()` | why this thread could last not open a database or use the lock; NULL if it could |

use std::ffi::{CStr, c_int};
use std::panic;
use std::path::Path;
use std::sync::{Arc, OnceLock};

use penholder_core::{LockError, Locker};
use penholder_vfs::Gate;

use crate::routines::{Connection, Context, Function, Routines, Value};

/// The functions of SQLite, which are the same for all connections.
static ROUTINES: OnceLock<Routines> = OnceLock::new();

/// A statement runs on the connection, for example `SELECT load_extension(…)`, and it has the function
/// already: SQLite does not replace it then.
const BUSY: c_int = 5;

const FUNCTIONS: [(&CStr, c_int, Function); 6] = [
    (c"penholder_version", 0, version),
    (c"penholder_status", 0, status),
    (c"penholder_label", 1, label),
    (c"penholder_last_wait", 0, last_wait),
    (c"penholder_explain", 0, explain),
    (c"penholder_last_error", 0, last_error),
];

/// Makes the functions on a connection.
///
/// # Safety
///
/// The connection is open, and this thread may use it.
pub(crate) unsafe fn create(routines: &Routines, connection: Connection) -> Result<(), String> {
    ROUTINES.get_or_init(|| *routines);
    for (name, arguments, function) in FUNCTIONS {
        // SAFETY: see above.
        let code = unsafe { routines.create_function(connection, name, arguments, function) };
        if code != 0 && code != BUSY {
            let name = name.to_string_lossy();
            return Err(format!(
                "load penholder: SQLite refused the function {name} (result code {code})"
            ));
        }
    }
    Ok(())
}

/// What a function returns.
enum Answer {
    Text(Option<String>),
    Number(i64),
}

/// A call of a function.
#[derive(Clone, Copy)]
struct Call {
    routines: &'static Routines,
    context: Context,
}

impl Call {
    fn connection(self) -> Connection {
        // SAFETY: the context of this call.
        unsafe { self.routines.connection(self.context) }
    }

    /// Returns the gate of the connection.
    fn gate(self) -> Option<Arc<Gate>> {
        // SAFETY: the connection of this call, which this thread uses.
        let file = unsafe { self.routines.main_file(self.connection()) };
        // SAFETY: null, or an open file of that connection.
        unsafe { penholder_vfs::gate_behind(file) }
    }

    /// Returns the gate of a connection that uses penholder.
    fn gate_or_error(self, what: &str) -> Result<Arc<Gate>, String> {
        self.gate().ok_or_else(|| {
            format!(
                "{what}: this connection does not use penholder; open it with \
                 file:NAME?vfs=penholder, or load the library with sqlite3_penholder_default_init \
                 before you open it"
            )
        })
    }

    /// Returns the locker of the connection, or of its database if it does not use penholder.
    fn locker(self) -> Result<Arc<Locker>, String> {
        if let Some(gate) = self.gate() {
            return Ok(gate.locker());
        }
        // SAFETY: the connection of this call, which this thread uses.
        let path = unsafe { self.routines.main_path(self.connection()) };
        let path = path.and_then(|path| path.to_str().ok()).map(Path::new);
        let Some(path) = path else {
            return Err(
                "penholder_status: the database is not in a file, so it has no lock; ask on a \
                 connection to one that is"
                    .to_owned(),
            );
        };
        let directory = path.parent().unwrap_or(Path::new("/"));
        let locker = Locker::in_directory(directory).map_err(|error| error.to_string())?;
        Ok(Arc::new(locker.with(|to| to.model = Some(path.to_owned()))))
    }
}

/// Runs the body of a function, and returns what it answers.
///
/// # Safety
///
/// `context` is that of a function that SQLite calls.
unsafe fn answer(context: Context, body: impl FnOnce(Call) -> Result<Answer, String>) {
    let Some(routines) = ROUTINES.get() else {
        return;
    };
    let call = Call { routines, context };
    let body = panic::AssertUnwindSafe(|| body(call));
    let done = panic::catch_unwind(body)
        .unwrap_or_else(|_| Err("penholder: it panicked; please report it".to_owned()));
    match done {
        // SAFETY: see above.
        Ok(Answer::Text(text)) => unsafe { routines.return_text(context, text.as_deref()) },
        // SAFETY: see above.
        Ok(Answer::Number(number)) => unsafe { routines.return_number(context, number) },
        // SAFETY: see above.
        Err(text) => unsafe { routines.return_error(context, &text) },
    }
}

unsafe extern "C" fn version(context: Context, _count: c_int, _arguments: *mut Value) {
    let body = |_: Call| Ok(Answer::Text(Some(env!("CARGO_PKG_VERSION").to_owned())));
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}

unsafe extern "C" fn status(context: Context, _count: c_int, _arguments: *mut Value) {
    let body = |call: Call| {
        let status = call
            .locker()?
            .status()
            .map_err(|e: LockError| e.to_string())?;
        let text = serde_json::to_string(&status);
        let text = text.map_err(|error| format!("penholder_status: {error}"))?;
        Ok(Answer::Text(Some(text)))
    };
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}

unsafe extern "C" fn label(context: Context, count: c_int, arguments: *mut Value) {
    let body = |call: Call| {
        debug_assert_eq!(count, 1, "as it was registered");
        // SAFETY: SQLite passes one argument.
        let argument = unsafe { *arguments };
        // SAFETY: that argument.
        let text = unsafe { call.routines.text(argument) };
        call.gate_or_error("penholder_label")?
            .set_label(text.clone());
        Ok(Answer::Text(text))
    };
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}

unsafe extern "C" fn last_wait(context: Context, _count: c_int, _arguments: *mut Value) {
    let body = |call: Call| {
        let waited = call.gate_or_error("penholder_last_wait")?.last_wait();
        let micros = i64::try_from(waited.as_micros()).unwrap_or(i64::MAX);
        Ok(Answer::Number(micros))
    };
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}

unsafe extern "C" fn explain(context: Context, _count: c_int, _arguments: *mut Value) {
    let body = |call: Call| {
        let gate = call.gate_or_error("penholder_explain")?;
        Ok(Answer::Text(gate.explanation()))
    };
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}

unsafe extern "C" fn last_error(context: Context, _count: c_int, _arguments: *mut Value) {
    let body = |_: Call| Ok(Answer::Text(penholder_vfs::last_error()));
    // SAFETY: SQLite's own argument.
    unsafe { answer(context, body) };
}
