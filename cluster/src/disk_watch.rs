#![expect(
    unsafe_code,
    reason = "SQLite's log of errors is set once, before SQLite is used"
)]
//! Ends a node whose disk fails.
//!
//! Every node executes the entries of the log in the same order, and has the same database because each
//! entry has the same effect everywhere. If one cannot be executed here because the disk is full or
//! broken, this node would differ from the others from then on, and the engine would not tell. So
//! the process ends instead, before the entry counts as executed. When it is started again, the
//! engine finds that it did not end cleanly, and builds the database from its snapshot and the log.

use std::cell::Cell;
use std::ffi::c_int;
use std::process;

use hiqlite::rusqlite::{self, ffi};

use crate::failure::FAILED;

thread_local! {
    /// Whether this thread reads for a client: what fails then concerns that client only.
    static READS: Cell<bool> = const { Cell::new(false) };
}

/// Begins to watch. Is called before SQLite is used.
pub(crate) fn start() -> rusqlite::Result<()> {
    // SAFETY: no other thread of this process uses SQLite yet: the caller has not started the
    // engine.
    unsafe { rusqlite::trace::config_log(Some(note)) }
}

/// Runs work that only reads.
pub(crate) fn reading<T>(work: impl FnOnce() -> T) -> T {
    READS.set(true);
    let result = work();
    READS.set(false);
    result
}

fn note(code: c_int, message: &str) {
    let is_of_disk = matches!(
        code & 0xff,
        ffi::SQLITE_FULL
            | ffi::SQLITE_IOERR
            | ffi::SQLITE_CORRUPT
            | ffi::SQLITE_NOTADB
            | ffi::SQLITE_NOMEM
            | ffi::SQLITE_READONLY
            | ffi::SQLITE_CANTOPEN
    );
    if is_of_disk && !READS.get() {
        say(message);
        process::exit(FAILED.into());
    }
}

#[expect(
    clippy::print_stderr,
    reason = "the last words of a program that runs for long"
)]
fn say(message: &str) {
    eprintln!(
        "penholder: serve: this node cannot write its database: {message}: it ends, so that it does not \
         differ from the others; make room or mend the disk, and start it again"
    );
}
